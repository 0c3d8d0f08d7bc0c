//! The store's sense of time: cheap enough to stamp every use.

use crate::sync::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When an entry was last used: nanoseconds since the store was made, and some.
pub(super) type Stamp = u64;

/// Stamps below this one are never given: entries that come in without being used have them.
pub(super) const FIRST: Stamp = 1 << 32;

/// Gives stamps: nanoseconds since the store was made, from [`FIRST`] on.
///
/// Reading the system's clock costs as much as all the rest of a hit. So puts read it, and now and
/// then a hit does; the hits between take the last reading. They come after every put that was
/// before them, and are only told apart from one another by their shard.
// Alone on its cache lines: every hit reads it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Clock {
    latest: AtomicU64,
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            latest: AtomicU64::new(FIRST),
            start: Instant::now(),
        }
    }

    /// Reads the system's clock; later than every stamp this thread was given before.
    pub(super) fn now(&self) -> Stamp {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = now.saturating_add(FIRST);
        let before = self.latest.fetch_max(now, Ordering::Relaxed);
        if now > before.saturating_add(1) {
            return now;
        }
        // Some systems' clocks stand still for longer than a put takes.
        let next = before.saturating_add(2);
        self.latest.fetch_max(next, Ordering::Relaxed);
        next
    }

    /// A stamp after every put's before it, without asking the system.
    pub(super) fn recent(&self) -> Stamp {
        self.latest.load(Ordering::Relaxed).saturating_add(1)
    }
}

/// How long `then` is before `now`.
pub(super) fn age(now: Stamp, then: Stamp) -> Duration {
    Duration::from_nanos(now.saturating_sub(then))
}
