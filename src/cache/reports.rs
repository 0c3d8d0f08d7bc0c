//! What a cache tells without being asked: evictions, and faults that were made misses.
//!
//! Nothing here is called, and no listener runs, under a lock of a store.

use super::counters::Count;
use crate::TierEvent;
use crate::panics::discard;
use crate::stats::Eviction;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

/// How many reports are kept.
const KEPT: usize = 256;

/// One eviction, and when it was reported; see
/// [`Cache::eviction_reports`](crate::Cache::eviction_reports), which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EvictionReport {
    /// Its place in the order of this cache's reports, from 0 and without gaps: what was lost
    /// between two looks shows as a difference.
    pub sequence: u64,
    /// When it was reported, by the wall clock.
    pub at: SystemTime,
    /// The report.
    pub eviction: Eviction,
}

pub(super) type Listener = Arc<dyn Fn(&Eviction) + Send + Sync>;

#[derive(Default)]
pub(super) struct Reports {
    listener: Option<Listener>,
    ring: Mutex<Ring>,
    promotions: Count,
    faults: Count,
    last_fault: Mutex<Option<String>>,
    listener_panics: Count,
}

#[derive(Default)]
struct Ring {
    next: u64,
    latest: VecDeque<EvictionReport>,
}

impl Reports {
    pub(super) fn new(listener: Option<Listener>) -> Self {
        Self {
            listener,
            ..Self::default()
        }
    }

    pub(super) fn on_event(&self, event: &TierEvent) {
        match event {
            TierEvent::Evicted(eviction) => self.evicted(eviction),
            TierEvent::WriteFailed { key, error } => {
                // Already traced where it happened.
                self.fault_text(format!("could not write {key} to disk: {error}"));
            }
            TierEvent::Promoted { .. } => self.promotions.add(1),
            TierEvent::Demoted { .. } => {}
        }
    }

    /// Artifacts that were handed up to memory.
    pub(super) fn promotions(&self) -> u64 {
        self.promotions.get()
    }

    pub(super) fn evicted(&self, eviction: &Eviction) {
        self.remember(*eviction);
        if let Some(listener) = &self.listener {
            self.tell(listener, eviction);
        }
    }

    fn remember(&self, eviction: Eviction) {
        let at = SystemTime::now();
        let mut ring = held(&self.ring, "cache.reports");
        if ring.latest.len() == KEPT {
            ring.latest.pop_front();
        }
        let sequence = ring.next;
        ring.next = sequence.saturating_add(1);
        ring.latest.push_back(EvictionReport {
            sequence,
            at,
            eviction,
        });
    }

    /// Calls the listener, but not for evictions that it causes itself: that need not end.
    fn tell(&self, listener: &Listener, eviction: &Eviction) {
        thread_local! {
            /// Whose listeners run on this thread: one may use another cache, which has its own.
            static TELLING: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
        }
        let me = ptr::from_ref(self).addr();
        let begin = |telling: &RefCell<Vec<usize>>| {
            let mut telling = telling.borrow_mut();
            let begins = !telling.contains(&me);
            if begins {
                telling.push(me);
            }
            begins
        };
        // A thread that is ending has no locals any more: nobody is told.
        if !TELLING.try_with(begin).unwrap_or(false) {
            return;
        }
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| listener(eviction))) {
            self.listener_panics.add(1);
            discard(payload);
        }
        let _ = TELLING.try_with(|telling| telling.borrow_mut().pop());
    }

    /// The latest reports, oldest first.
    pub(super) fn latest(&self) -> Vec<EvictionReport> {
        let ring = held(&self.ring, "cache.reports");
        ring.latest.iter().copied().collect()
    }

    /// Something failed that the caller is not told of.
    pub(super) fn fault(&self, error: &dyn StdError) {
        let text = describe(error);
        #[cfg(feature = "tracing")]
        tracing::warn!(target: "keepwarm", fault = %text, "a cache fault was made a miss");
        self.fault_text(text);
    }

    fn fault_text(&self, text: String) {
        self.faults.add(1);
        *held(&self.last_fault, "cache.last_fault") = Some(text);
    }

    pub(super) fn faults(&self) -> (u64, Option<String>) {
        let last = held(&self.last_fault, "cache.last_fault").clone();
        (self.faults.get(), last)
    }

    pub(super) fn listener_panics(&self) -> u64 {
        self.listener_panics.get()
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").finish_non_exhaustive()
    }
}

/// An error with all its causes, on one line.
pub(super) fn describe(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Takes a lock that is only ever held for a few moves of memory.
pub(super) fn held<'a, T>(mutex: &'a Mutex<T>, name: &str) -> MutexGuard<'a, T> {
    mutex.lock().unwrap_or_else(|_| {
        panic!("keepwarm: the lock `{name}` is poisoned: a thread panicked while holding it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{EvictionReason, Tier};
    use crate::{Error, ErrorKind};
    use std::time::Duration;

    fn eviction(entries: u64) -> Eviction {
        let age = Duration::from_secs(1);
        Eviction::new(Tier::Memory, EvictionReason::ByteLimit, entries, 10, age)
    }

    #[test]
    fn the_ring_keeps_the_latest_reports_in_order() {
        let reports = Reports::default();
        for n in 0..1000 {
            reports.evicted(&eviction(n));
        }
        let latest = reports.latest();
        assert_eq!(latest.len(), KEPT);
        for (report, n) in latest.iter().zip(1000 - KEPT as u64..) {
            assert_eq!((report.sequence, report.eviction.entries), (n, n));
        }
    }

    #[test]
    fn a_listener_that_causes_evictions_is_not_called_for_them() {
        let reports = Arc::new_cyclic(|weak: &std::sync::Weak<Reports>| {
            let weak = weak.clone();
            Reports::new(Some(Arc::new(move |eviction: &Eviction| {
                let reports = weak.upgrade().unwrap();
                reports.evicted(eviction);
            })))
        });
        reports.evicted(&eviction(1));
        assert_eq!(reports.latest().len(), 2);
        reports.evicted(&eviction(1));
        assert_eq!(reports.latest().len(), 4, "the next one is told again");
    }

    #[test]
    fn a_fault_is_told_with_its_cause_and_its_path() {
        let reports = Reports::default();
        reports.fault(&Error::new(ErrorKind::Timeout, "take the lock"));
        reports.fault(&Error::io(
            "read a pack",
            "/a/b",
            std::io::Error::other("bad cable"),
        ));
        let (faults, last) = reports.faults();
        assert_eq!(faults, 2);
        assert_eq!(
            last.as_deref(),
            Some("could not read a pack (/a/b): bad cable")
        );
    }
}
