//! The command, run and listened to: what it prints goes on at once, and is kept up to a bound.

use crate::interrupt;
use std::ffi::OsString;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How much of what a command prints is kept, of either stream, in bytes.
pub(crate) const CAPTURE: usize = 16 << 20;
/// How long what a command left running may hold its streams.
const LINGER: Duration = Duration::from_secs(2);

/// What a command is given to read.
#[derive(Debug)]
pub(crate) enum Input {
    /// The standard input of this process.
    Inherited,
    /// These bytes, and then what is left of it.
    Read(Vec<u8>),
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Whether a signal came while it ran.
    pub(crate) interrupted: bool,
    /// Standard output and standard error; `None` if it was not seen whole.
    pub(crate) printed: Option<(Vec<u8>, Vec<u8>)>,
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

fn command(program: &Path, words: &[OsString]) -> Command {
    let mut command = Command::new(program);
    #[cfg(unix)]
    if let Some(name) = words.first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
    }
    command.args(words.iter().skip(1));
    command
}

/// Runs a command as if there were nothing in between.
pub(crate) fn run(program: &Path, words: &[OsString], input: Input) -> io::Result<ExitStatus> {
    let mut command = command(program, words);
    let mut child = start(&mut command, input)?;
    Ok(interrupt::wait(&mut child)?.0)
}

/// Runs a command and listens.
pub(crate) fn listen(program: &Path, words: &[OsString], input: Input) -> io::Result<Ended> {
    let mut command = command(program, words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(&mut command, input)?;
    let stdout = child.stdout.take().map(|from| tee(from, io::stdout()));
    let stderr = child.stderr.take().map(|from| tee(from, io::stderr()));
    let (status, interrupted) = interrupt::wait(&mut child)?;
    let until = Instant::now() + LINGER;
    let stdout = stdout.and_then(|captured| whole(&captured, until));
    let stderr = stderr.and_then(|captured| whole(&captured, until));
    Ok(Ended {
        status,
        interrupted,
        printed: stdout.zip(stderr),
    })
}

fn start(command: &mut Command, input: Input) -> io::Result<std::process::Child> {
    let Input::Read(bytes) = input else {
        return interrupt::spawn(command);
    };
    let mut child = interrupt::spawn(command.stdin(Stdio::piped()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // Not waited for: a command need not read what it is given.
        std::thread::spawn(move || {
            let mut rest = Cursor::new(bytes).chain(io::stdin().lock());
            io::copy(&mut rest, &mut pipe)
        });
    }
    Ok(child)
}

/// Passes on what comes, on a thread; at the end gives all of it, or `None`.
fn tee(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
) -> Receiver<Option<Vec<u8>>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        // Who left does not want it.
        drop(send.send(pass(&mut from, &mut to)));
    });
    receive
}

fn pass(from: &mut impl Read, to: &mut impl Write) -> Option<Vec<u8>> {
    let mut kept = Some(Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let bytes = match from.read(&mut buffer) {
            Ok(0) => return kept,
            Ok(n) => buffer.get(..n)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        // If nobody reads, the command shall see that: its pipe is closed on return.
        to.write_all(bytes).and_then(|()| to.flush()).ok()?;
        if let Some(all) = &mut kept {
            all.extend_from_slice(bytes);
            if all.len() > CAPTURE {
                kept = None;
            }
        }
    }
}

fn whole(captured: &Receiver<Option<Vec<u8>>>, until: Instant) -> Option<Vec<u8>> {
    let left = until.saturating_duration_since(Instant::now());
    captured.recv_timeout(left).ok().flatten()
}
