//! The façade's own counters: cheap on a hit, saturating, read without a lock.

use crate::disk::Above;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Threads count their hits in one of so many places, so that they do not wait for one another's
/// cache line.
const STRIPES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Counters {
    stripes: [Stripe; STRIPES],
    pub(super) puts: Count,
    pub(super) builds: Count,
    pub(super) failed_builds: Count,
    pub(super) build_nanos: Count,
    pub(super) shared_builds: Count,
    pub(super) shared_nanos: Count,
    pub(super) lone_builds: Count,
    pub(super) waits: Count,
    pub(super) wait_nanos: Count,
    pub(super) process_waits: Count,
    pub(super) process_wait_nanos: Count,
    pub(super) process_shared_builds: Count,
    pub(super) process_shared_nanos: Count,
}

/// Two lines of the usual length, because some processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    hits: Count,
    misses: Count,
    saved_nanos: Count,
}

/// What all stripes have together.
pub(super) struct Hot {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) saved_nanos: u64,
}

impl Counters {
    /// A hit, which saved a build of `cost`.
    pub(super) fn hit(&self, cost: Duration) {
        let stripe = self.stripe();
        stripe.hits.add(1);
        if !cost.is_zero() {
            stripe.saved_nanos.add_time(cost);
        }
    }

    pub(super) fn miss(&self) {
        self.stripe().misses.add(1);
    }

    pub(super) fn hot(&self) -> Hot {
        let sum = |count: fn(&Stripe) -> &Count| {
            let counts = self.stripes.iter().map(|stripe| count(stripe).get());
            counts.fold(0, u64::saturating_add)
        };
        Hot {
            hits: sum(|s| &s.hits),
            misses: sum(|s| &s.misses),
            saved_nanos: sum(|s| &s.saved_nanos),
        }
    }

    /// What the directory adds to its life-time counters.
    pub(super) fn above(&self, promotions: u64) -> Above {
        let hot = self.hot();
        Above {
            hits: hot.hits,
            promotions,
            builds: self.builds.get(),
            build_nanos: self.build_nanos.get(),
            saved_nanos: hot.saved_nanos,
        }
    }

    fn stripe(&self) -> &Stripe {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed) % STRIPES);
        }
        // A thread that is ending has no locals any more; any stripe will do.
        &self.stripes[MINE.try_with(Cell::get).unwrap_or(0)]
    }
}

/// A number that goes up and stops at the top.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        // Never fails: the closure always gives a value.
        let _ = self
            .0
            .fetch_update(Relaxed, Relaxed, |now| Some(now.saturating_add(n)));
    }

    pub(super) fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_nanos(self.get())
    }
}

/// A builder that is running; counted as failed unless it [succeeds](Self::succeed), so that a
/// panic counts too.
#[must_use]
pub(super) struct Attempt<'a> {
    counters: &'a Counters,
    start: Instant,
    succeeded: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn start(counters: &'a Counters) -> Self {
        Self {
            counters,
            start: Instant::now(),
            succeeded: false,
        }
    }

    /// How long the builder took.
    pub(super) fn succeed(mut self) -> Duration {
        self.succeeded = true;
        self.start.elapsed()
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let outcome = if self.succeeded {
            &self.counters.builds
        } else {
            &self.counters.failed_builds
        };
        outcome.add(1);
        self.counters.build_nanos.add_time(self.start.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_saturate() {
        let counters = Counters::default();
        counters.hit(Duration::MAX);
        counters.hit(Duration::MAX);
        assert_eq!(counters.hot().saved_nanos, u64::MAX);
        assert_eq!(counters.hot().hits, 2);
    }

    #[test]
    fn stripes_add_up_over_threads() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES + 3 {
                scope.spawn(|| {
                    counters.hit(Duration::from_nanos(2));
                    counters.miss();
                });
            }
        });
        let hot = counters.hot();
        let threads = STRIPES as u64 + 3;
        assert_eq!(
            (hot.hits, hot.misses, hot.saved_nanos),
            (threads, threads, 2 * threads)
        );
    }
}
