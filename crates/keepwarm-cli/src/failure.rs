//! What went wrong, what to do about it, and which exit code says so.

use crate::units;
use anstyle::{AnsiColor, Style};
use keepwarm::ErrorKind;
use std::error::Error as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

/// The result of everything that can fail.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// How a sub-command that did its work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well: exit code 0.
    Done,
    /// It was told what was found, or not found: exit code 1, and nothing more is printed.
    Finding,
    /// Another program ended with this exit code, and nothing more is printed.
    Exit(u8),
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Finding => Self::from(1),
            Outcome::Exit(code) => Self::from(code),
        }
    }
}

/// Why a sub-command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something did not work, or is not there: exit code 1.
    Failed(Message),
    /// The command line or the environment is wrong: exit code 2.
    Usage(Message),
    /// Nobody reads standard output any more: exit code 0, without a word.
    NobodyReads,
}

/// What is printed of a failure.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// One sentence, without a capital or a full stop.
    what: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Failure {
    /// Something did not work: one sentence, without a capital or a full stop.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(Message {
            what: what.into(),
            advice: None,
        })
    }

    /// The command line or the environment is wrong.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::Usage(Message {
            what: what.into(),
            advice: None,
        })
    }

    /// A call of the operating system failed; `action` completes "could not ...".
    pub(crate) fn io(action: &str, path: &Path, e: &io::Error) -> Self {
        Self::failed(format!("could not {action} {}: {e}", path.display()))
    }

    /// Standard output could not be written.
    #[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
    pub(crate) fn output(e: io::Error) -> Self {
        if e.kind() == io::ErrorKind::BrokenPipe {
            return Self::NobodyReads;
        }
        Self::failed(format!("could not write to standard output: {e}"))
    }

    /// The same failure, saying what to do about it.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        if let Self::Failed(message) | Self::Usage(message) = &mut self {
            message.advice = Some(advice.into());
        }
        self
    }

    /// What went wrong, in one sentence.
    pub(crate) fn what(&self) -> &str {
        match self {
            Self::Failed(message) | Self::Usage(message) => &message.what,
            Self::NobodyReads => "nobody reads standard output",
        }
    }

    /// Prints it to standard error, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let (message, code) = match self {
            Self::NobodyReads => return ExitCode::SUCCESS,
            Self::Failed(message) => (message, 1),
            Self::Usage(message) => (message, 2),
        };
        let error = Style::new().fg_color(Some(AnsiColor::Red.into())).bold();
        // Paths and names in it may hold anything.
        let what = units::printable(&message.what);
        let mut text = format!("{error}error{error:#}: {what}\n");
        if let Some(advice) = message.advice {
            text = format!("{text}  {advice}\n");
        }
        // Where standard error is closed there is nobody to tell.
        drop(anstream::stderr().write_all(text.as_bytes()));
        ExitCode::from(code)
    }
}

/// Whether an error says that a file or directory is not there.
pub(crate) fn is_missing(e: &keepwarm::Error) -> bool {
    let cause = e.source().and_then(|e| e.downcast_ref::<io::Error>());
    cause.is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

impl From<keepwarm::Error> for Failure {
    /// The advice is given in terms of this command, not of the library.
    fn from(e: keepwarm::Error) -> Self {
        let mut what = format!("could not {}", e.action());
        if let Some(path) = e.path() {
            what = format!("{what} ({})", path.display());
        }
        if let Some(cause) = e.source() {
            what = format!("{what}: {cause}");
        }
        let failure = Self::failed(what);
        match advice(e.kind()) {
            Some(advice) => failure.advise(advice),
            None => failure,
        }
    }
}

fn advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::StorageFull => {
            "Free some space or inodes, or `keepwarm prune --max-size SIZE`. Nothing is damaged."
        }
        ErrorKind::PermissionDenied => {
            "Choose a directory that this user may write to, or set KEEPWARM_MODE=read-only."
        }
        ErrorKind::NotADirectory => "Choose another path with -C, or move away what is there.",
        ErrorKind::UnsupportedFormat => {
            "Use a newer keepwarm or another directory, or delete this one."
        }
        ErrorKind::NetworkFileSystem => "Choose a local directory, and copy it.",
        ErrorKind::Timeout => {
            "Somebody holds it for unusually long: is a process stopped, or does the disk hang?"
        }
        ErrorKind::ReadOnly => "Unset KEEPWARM_MODE=read-only to change the directory.",
        ErrorKind::Untrusted => {
            "Choose a directory of this user alone. If this one is, run `chmod -R go-w` on it; \
             or say who else may write to it with KEEPWARM_SHARING=group or =unchecked."
        }
        _ => return None,
    })
}
