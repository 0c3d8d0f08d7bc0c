//! The store's sense of time: cheap enough to stamp every use.

use crate::sync::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When an entry was last used: nanoseconds since the store was made, and some.
pub(super) type Stamp = u64;

/// Stamps below this one are never given: entries that come in without being used have them.
pub(super) const FIRST: Stamp = 1 << 32;

/// Of so many puts one reads the system's clock.
const PUTS_PER_READING: u64 = 16;

/// Gives stamps: nanoseconds since the store was made, from [`FIRST`] on.
///
/// Reading the system's clock costs as much as all the rest of a hit. So one put of a few reads it,
/// and now and then a hit; the uses between count on from the last reading. So a stamp may be
/// behind the time by as long as the last few puts took, which is little beside the age of what
/// makes room for them; the order of puts, and of a thread's own calls, it keeps.
// Alone on its cache lines: every hit reads it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Clock {
    latest: AtomicU64,
    /// What `latest` was set to when the system's clock was last read.
    read: AtomicU64,
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            latest: AtomicU64::new(FIRST),
            read: AtomicU64::new(FIRST - PUTS_PER_READING),
            start: Instant::now(),
        }
    }

    /// Reads the system's clock; later than every stamp that was given before.
    pub(super) fn read(&self) -> Stamp {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let now = now.saturating_add(FIRST);
        let before = self.latest.fetch_max(now, Ordering::Relaxed);
        self.read.store(before.max(now), Ordering::Relaxed);
        if now > before.saturating_add(1) {
            return now;
        }
        // It counted past the time, or the system's clock stands still for longer than a put takes.
        self.count()
    }

    /// For a put: later than every stamp that was given before.
    pub(super) fn next(&self) -> Stamp {
        let latest = self.latest.load(Ordering::Relaxed);
        let read = self.read.load(Ordering::Relaxed);
        if latest.wrapping_sub(read) >= PUTS_PER_READING * 2 {
            return self.read();
        }
        self.count()
    }

    /// For a hit: after every put's before it, told apart from other hits' only by its shard.
    pub(super) fn recent(&self) -> Stamp {
        self.latest.load(Ordering::Relaxed).saturating_add(1)
    }

    fn count(&self) -> Stamp {
        // So that what is given to hits lies between.
        self.latest
            .fetch_add(2, Ordering::Relaxed)
            .saturating_add(2)
    }
}

/// How long `then` is before `now`.
pub(super) fn age(now: Stamp, then: Stamp) -> Duration {
    Duration::from_nanos(now.saturating_sub(then))
}
