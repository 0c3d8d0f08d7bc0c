//! What this handle did.

use crate::sync::{AtomicU64, Ordering};

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64),* }
    };
}

counters!(
    lookups,
    hits,
    puts,
    rejected_puts,
    failed_puts,
    evictions,
    evicted_bytes,
    deduplicated_bytes,
    written_bytes,
    rewritten_bytes,
    flushes,
    flush_errors,
    corrupt,
    maintenance_errors,
    lost_uses,
);

impl Counters {
    /// Adds, saturating.
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        if counter
            .fetch_add(n, Ordering::Relaxed)
            .checked_add(n)
            .is_none()
        {
            counter.store(u64::MAX, Ordering::Relaxed);
        }
    }

    pub(super) fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}
