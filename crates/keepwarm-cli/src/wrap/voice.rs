//! What `exec` says of itself, on the standard error that belongs to the command: as little as
//! possible, one line at a time, with nothing in it that moves a cursor.

use crate::output::note;
use crate::units::printable;
use std::cell::Cell;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long another run is waited for in silence.
const SILENCE: Duration = Duration::from_secs(5);

/// Says why a run is not kept, once, and everything if that is asked for.
#[derive(Debug)]
pub(crate) struct Voice {
    explain: bool,
    warned: Cell<bool>,
}

impl Voice {
    pub(crate) fn new(explain: bool) -> Self {
        let warned = Cell::new(false);
        Self { explain, warned }
    }

    /// Says it if nothing was said before: the first reason is that of all others.
    pub(crate) fn warn(&self, text: &str) {
        if !self.warned.replace(true) || self.explain {
            say(text);
        }
    }

    /// Says it if explanations are asked for.
    pub(crate) fn explain(&self, text: &str) {
        if self.explain {
            say(text);
        }
    }

    /// Says that another run is waited for, unless what is returned is dropped before long.
    pub(crate) fn explain_waiting(&self) -> Option<Sender<()>> {
        let (waits, done) = channel();
        self.explain.then(|| {
            std::thread::spawn(move || {
                if done.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                    say("waiting for another run of the same; --wait says how long");
                }
            });
            waits
        })
    }
}

/// Says it in any case.
pub(crate) fn say(text: &str) {
    note(&format!("keepwarm: {}", printable(text)));
}
