//! The command, run and listened to: what it prints goes on at once, and is kept up to a bound.

use super::tee::{self, Printed, Tee};
use super::within;
use crate::interrupt;
use std::ffi::OsString;
use std::io::{self, Cursor, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

/// How much of standard input becomes a part of the key, in bytes.
const LONGEST_INPUT: u64 = 64 << 20;

/// What a command is given to read.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// Nothing: it cannot depend on what is not a part of the key.
    Nothing,
    /// The standard input of this process, of which nothing was read.
    Inherited,
    /// These bytes, which are all that there was.
    Whole(Arc<[u8]>),
    /// These bytes, and then what is left of it.
    Begun(Arc<[u8]>),
}

impl Input {
    /// Reads standard input to its end, which is waited for. A terminal is left to the command, and
    /// so is what is left of an input that is too long or cannot be read.
    pub(crate) fn read() -> Self {
        if io::stdin().is_terminal() {
            return Self::Inherited;
        }
        let mut bytes = Vec::new();
        let done = io::stdin()
            .lock()
            .take(LONGEST_INPUT + 1)
            .read_to_end(&mut bytes);
        if done.is_ok() && bytes.len() as u64 <= LONGEST_INPUT {
            Self::Whole(bytes.into())
        } else {
            Self::Begun(bytes.into())
        }
    }

    /// All of it; or why that is not known.
    pub(crate) fn whole(&self) -> Result<Option<&[u8]>, &'static str> {
        match self {
            Self::Nothing => Ok(None),
            Self::Whole(bytes) => Ok(Some(bytes)),
            Self::Inherited => Err("standard input is a terminal"),
            Self::Begun(_) => Err("standard input is longer than 64 MiB, or cannot be read"),
        }
    }
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Whether a signal came while it ran.
    pub(crate) interrupted: bool,
    pub(crate) printed: Printed,
}

/// The exit code of a command, as shells have it: 128 and the number of the signal that ended it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return u8::try_from(128 + signal).unwrap_or(1);
    }
    let code = status.code().unwrap_or(1);
    // What does not fit is a failure all the same.
    u8::try_from(code).unwrap_or(1)
}

/// A command that is ready to run.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) program: &'a Path,
    pub(crate) words: &'a [OsString],
    pub(crate) input: &'a Input,
    /// What runs inside it have to know.
    pub(crate) within: String,
}

impl Task<'_> {
    /// Runs it as if there were nothing in between.
    pub(crate) fn run(&self) -> io::Result<ExitStatus> {
        let mut child = start(&mut self.command(), self.input)?;
        Ok(interrupt::wait(&mut child)?.0)
    }

    /// Runs it and listens.
    pub(crate) fn listen(&self) -> io::Result<Ended> {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(&mut command, self.input)?;
        let stdout = child.stdout.take().map(|from| Tee::new(from, io::stdout()));
        let stderr = child.stderr.take().map(|from| Tee::new(from, io::stderr()));
        let (status, interrupted) = interrupt::wait(&mut child)?;
        Ok(Ended {
            status,
            interrupted,
            printed: tee::finish(stdout, stderr),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        #[cfg(unix)]
        if let Some(name) = self.words.first() {
            std::os::unix::process::CommandExt::arg0(&mut command, name);
        }
        command.args(self.words.iter().skip(1));
        command.env(within::VARIABLE, &self.within);
        command
    }
}

fn start(command: &mut Command, input: &Input) -> io::Result<Child> {
    let (bytes, more) = match input {
        Input::Nothing => return interrupt::spawn(command.stdin(Stdio::null())),
        Input::Inherited => return interrupt::spawn(command),
        Input::Whole(bytes) => (bytes, false),
        Input::Begun(bytes) => (bytes, true),
    };
    let mut child = interrupt::spawn(command.stdin(Stdio::piped()))?;
    if let Some(mut pipe) = child.stdin.take() {
        let bytes = Arc::clone(bytes);
        // Not waited for: a command need not read what it is given.
        std::thread::spawn(move || {
            if more {
                let mut all = Cursor::new(bytes).chain(io::stdin().lock());
                io::copy(&mut all, &mut pipe).map(drop)
            } else {
                pipe.write_all(&bytes)
            }
        });
    }
    Ok(child)
}
