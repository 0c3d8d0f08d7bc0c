//! What a command prints: passed on as it comes, and kept up to a bound.
//!
//! What the command left running may hold its streams for ever. So after its end they are read as
//! long as something comes, and not for ever. A reader of ours that is slow is waited for as the
//! command would wait for it.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How much of what a command prints is kept, of either stream, in bytes.
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
    /// Changes with every piece; odd while one is being written.
    pieces: Arc<AtomicU64>,
    end: Receiver<Stream>,
}

impl Tee {
    pub(crate) fn new(
        mut from: impl Read + Send + 'static,
        mut to: impl Write + Send + 'static,
    ) -> Self {
        let (send, end) = channel();
        let pieces = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&pieces);
        std::thread::spawn(move || {
            // Who left does not want it.
            drop(send.send(pass(&mut from, &mut to, &counted)));
        });
        Self { pieces, end }
    }

    /// What came, once the command has ended.
    fn finish(self, until: Instant) -> Stream {
        let mut seen = self.pieces.load(Ordering::Relaxed);
        loop {
            match self.end.recv_timeout(QUIET) {
                Ok(stream) => return stream,
                Err(RecvTimeoutError::Disconnected) => return Err(Unseen::LeftOpen),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.pieces.load(Ordering::Relaxed);
            let is_being_written = now % 2 == 1;
            if !is_being_written && (now == seen || Instant::now() >= until) {
                return Err(Unseen::LeftOpen);
            }
            seen = now;
        }
    }
}

/// What the command printed, once it has ended.
pub(crate) fn finish(stdout: Option<Tee>, stderr: Option<Tee>) -> Printed {
    let until = Instant::now() + LONGEST;
    let finish = |tee: Option<Tee>| tee.map_or(Err(Unseen::LeftOpen), |tee| tee.finish(until));
    // Both, whatever the first is like.
    let (stdout, stderr) = (finish(stdout), finish(stderr));
    Ok((stdout?, stderr?))
}

/// Passes on all that comes.
fn pass(from: &mut impl Read, to: &mut impl Write, pieces: &AtomicU64) -> Stream {
    let mut kept = Some(Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(Unseen::Unread)?,
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return kept.ok_or(Unseen::TooMuch);
        }
        pieces.fetch_add(1, Ordering::Relaxed);
        // If nobody reads, the command shall see that: its pipe is closed on return.
        let written = to.write_all(bytes).and_then(|()| to.flush());
        pieces.fetch_add(1, Ordering::Relaxed);
        written.map_err(Unseen::Unwritten)?;
        if let Some(all) = &mut kept {
            all.extend_from_slice(bytes);
            if all.len() > MOST {
                kept = None;
            }
        }
    }
}
