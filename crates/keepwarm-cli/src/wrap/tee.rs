//! What a command prints: passed on as it comes, and kept up to a bound.
//!
//! What the command left running may hold its streams for ever. So after its end everything that it
//! printed itself, which is in the pipe, is passed on at whatever pace our reader takes it; and then,
//! what comes without a pause, and not for ever. (On Unix; elsewhere, until the streams are closed.)

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How much of what a command prints is kept, of either stream, in bytes; and how much is passed on
/// after its end.
const MOST: usize = 16 << 20;
/// After the end of the command: how long nothing may come, and how long anything may.
const QUIET: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);

/// All that came of one stream, or why it is not known.
type Stream = Result<Vec<u8>, Unseen>;

/// Standard output and standard error, or why they are not known whole.
pub(crate) type Printed = Result<(Vec<u8>, Vec<u8>), Unseen>;

/// Why not all is known that a command printed.
#[derive(Debug)]
pub(crate) enum Unseen {
    /// It is more than is kept.
    TooMuch,
    /// It could not be read.
    Unread(io::Error),
    /// Somebody holds the stream still.
    LeftOpen,
    /// It could not be passed on.
    Unwritten(io::Error),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMuch => write!(f, "it printed more than {} MiB", MOST >> 20),
            Self::Unread(e) => write!(f, "what it printed could not be read: {e}"),
            Self::LeftOpen => f.write_str("what it left running holds its output open"),
            Self::Unwritten(e) => write!(f, "what it printed could not be written: {e}"),
        }
    }
}

/// A stream that is passed on by a thread of its own.
#[derive(Debug)]
pub(crate) struct Tee {
    /// Whether the command has ended.
    ended: Arc<AtomicBool>,
    end: Receiver<Stream>,
}

impl Tee {
    pub(crate) fn new(
        from: impl Pipe + Send + 'static,
        mut to: impl Write + Send + 'static,
    ) -> Self {
        let (send, end) = channel();
        let ended = Arc::new(AtomicBool::new(false));
        let mut source = Source {
            from,
            ended: Arc::clone(&ended),
            after: After::default(),
        };
        std::thread::spawn(move || {
            // Who left does not want it.
            drop(send.send(pass(&mut source, &mut to)));
        });
        Self { ended, end }
    }

    /// What came. It waits for our reader, as the command would.
    fn finish(self) -> Stream {
        self.end.recv().unwrap_or(Err(Unseen::LeftOpen))
    }
}

/// What the command printed, once it has ended.
pub(crate) fn finish(stdout: Option<Tee>, stderr: Option<Tee>) -> Printed {
    for tee in [&stdout, &stderr].into_iter().flatten() {
        tee.ended.store(true, Ordering::Release);
    }
    let finish = |tee: Option<Tee>| tee.map_or(Err(Unseen::LeftOpen), Tee::finish);
    // Both, whatever the first is like.
    let (stdout, stderr) = (finish(stdout), finish(stderr));
    Ok((stdout?, stderr?))
}

/// Passes on all that comes. If nobody reads, the command shall see that: its pipe is closed soon.
fn pass(source: &mut Source<impl Pipe>, to: &mut impl Write) -> Stream {
    let mut kept = Some(Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = source.read(&mut buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return kept.ok_or(Unseen::TooMuch);
        }
        let written = to.write_all(bytes).and_then(|()| to.flush());
        written.map_err(Unseen::Unwritten)?;
        if let Some(all) = &mut kept {
            all.extend_from_slice(bytes);
            if all.len() > MOST {
                kept = None;
            }
        }
    }
}

/// The end of a pipe that is read.
struct Source<F> {
    from: F,
    ended: Arc<AtomicBool>,
    after: After,
}

/// What came after the end of the command.
#[derive(Default)]
struct After {
    bytes: usize,
    /// Since when the pipe has nothing more of the command itself.
    drained: Option<Instant>,
}

impl<F: Pipe> Source<F> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Unseen> {
        loop {
            let ended = self.await_some()?;
            match self.from.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Unseen::Unread(e)),
                Ok(read) => {
                    if ended {
                        self.after.bytes = self.after.bytes.saturating_add(read);
                    }
                    return Ok(read);
                }
            }
        }
    }

    /// Waits until there is something to read, or the end; and whether the command has ended.
    fn await_some(&mut self) -> Result<bool, Unseen> {
        loop {
            let ended = self.ended.load(Ordering::Acquire);
            let after = &mut self.after;
            let is_too_long = after.drained.is_some_and(|at| at.elapsed() > LONGEST);
            if is_too_long || after.bytes > MOST {
                return Err(Unseen::LeftOpen);
            }
            // What the command itself printed is there at its end.
            let is_draining = ended && after.drained.is_none();
            let patience = if is_draining { Duration::ZERO } else { QUIET };
            if self.from.has_some(patience).map_err(Unseen::Unread)? {
                return Ok(ended);
            }
            if is_draining {
                after.drained = Some(Instant::now());
            } else if ended {
                return Err(Unseen::LeftOpen);
            }
        }
    }
}

/// A pipe that can be asked whether there is something to read.
#[cfg(unix)]
pub(crate) trait Pipe: Read + std::os::fd::AsFd + Sized {
    /// Whether a read would not wait: waits for that, but not for long.
    fn has_some(&self, patience: Duration) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
        loop {
            match poll(&mut [PollFd::new(self, PollFlags::IN)], Some(&patience)) {
                // A signal, which another thread sees to.
                Err(rustix::io::Errno::INTR) => {}
                ready => return Ok(ready? > 0),
            }
        }
    }
}

#[cfg(unix)]
impl<F: Read + std::os::fd::AsFd> Pipe for F {}

/// A pipe that cannot be asked, only read.
#[cfg(not(unix))]
pub(crate) trait Pipe: Read {
    fn has_some(&self, _patience: Duration) -> io::Result<bool> {
        Ok(true)
    }
}

#[cfg(not(unix))]
impl<F: Read> Pipe for F {}
