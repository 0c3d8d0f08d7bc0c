//! The store's sense of time: cheap enough to stamp every use.

use crate::sync::{AtomicU64, Ordering};
use crate::sys::CoarseClock;
use std::time::Duration;

/// When an entry was last used: nanoseconds since the store was made, and some.
pub(super) type Stamp = u64;

/// Stamps below this one are never given: entries that come in without being used have them.
pub(super) const FIRST: Stamp = 1 << 32;

/// Gives stamps: nanoseconds since the store was made, from [`FIRST`] on.
///
/// Puts read the system's clock, and between two of its ticks count on; now and then a hit does. The
/// hits between take the last reading. They come after every put that was before them, and are only
/// told apart from one another by their shard.
// Alone on its cache lines: every hit reads it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Clock {
    latest: AtomicU64,
    system: CoarseClock,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            latest: AtomicU64::new(FIRST),
            system: CoarseClock::start(),
        }
    }

    /// Reads the system's clock; later than every stamp this thread was given before.
    #[inline]
    pub(super) fn now(&self) -> Stamp {
        let now = self.system.elapsed().saturating_add(FIRST);
        let next = self
            .latest
            .fetch_add(2, Ordering::Relaxed)
            .saturating_add(2);
        if now > next {
            self.latest.fetch_max(now, Ordering::Relaxed);
        }
        now.max(next)
    }

    /// A stamp after every put's before it, without asking the system.
    pub(super) fn recent(&self) -> Stamp {
        self.latest.load(Ordering::Relaxed).saturating_add(1)
    }
}

/// The latest stamp that is nearly as old as the `oldest`: of what was used then and before, any may
/// go first. It is an eighth younger; what was never used goes before what was.
pub(super) fn nearly(oldest: Stamp, now: Stamp) -> Stamp {
    let most = if oldest < FIRST {
        FIRST - 1
    } else {
        Stamp::MAX
    };
    let slack = now.saturating_sub(oldest) / 8;
    oldest.saturating_add(slack).min(most)
}

/// How long `then` is before `now`.
pub(super) fn age(now: Stamp, then: Stamp) -> Duration {
    Duration::from_nanos(now.saturating_sub(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_as_old_is_at_most_an_eighth_younger_and_used_if_that_is() {
        let used = FIRST + 1000;
        assert_eq!(nearly(used, used + 800), used + 100);
        assert_eq!(nearly(used, used - 5), used);
        // Nothing that was used is as old as what never was.
        assert_eq!(nearly(FIRST - 3, FIRST + 80_000), FIRST - 1);
        assert_eq!(nearly(Stamp::MAX, used), Stamp::MAX, "there is nothing");
    }

    #[test]
    fn stamps_of_one_thread_rise_though_the_system_clock_stands_still() {
        let clock = Clock::new();
        let stamps: Vec<Stamp> = (0..1000).map(|_| clock.now()).collect();
        assert!(stamps.is_sorted_by(|one, next| one < next));
        assert!(clock.recent() > stamps[999]);
    }
}
