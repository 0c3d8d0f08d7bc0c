//! What a composition counts.

use crate::stats::{StoreStats, Tier};
use crate::sync::{AtomicU64, Ordering};

/// Look-ups are counted in one of so many cells, chosen by the key: two threads meet in a cell
/// about as often as in a shard of the memory above.
const CELLS: u64 = 64;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Counters {
    lookups: Box<[Lookups]>,
    pub(super) puts: AtomicU64,
    pub(super) failed_puts: AtomicU64,
    pub(super) refused_writes: AtomicU64,
    promotions: AtomicU64,
    promoted_bytes: AtomicU64,
    demotions: AtomicU64,
    demoted_bytes: AtomicU64,
    flushes: AtomicU64,
    flush_errors: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    add(counter, 1);
}

/// Counts so many, up to the top. Relaxed: counters order nothing.
fn add(counter: &AtomicU64, n: u64) {
    let more = |now: u64| Some(now.saturating_add(n));
    // Never fails: the closure always gives a value.
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            lookups: (0..CELLS).map(|_| Lookups::default()).collect(),
            puts: AtomicU64::new(0),
            failed_puts: AtomicU64::new(0),
            refused_writes: AtomicU64::new(0),
            promotions: AtomicU64::new(0),
            promoted_bytes: AtomicU64::new(0),
            demotions: AtomicU64::new(0),
            demoted_bytes: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            flush_errors: AtomicU64::new(0),
        }
    }

    pub(super) fn lookup(&self, fold: u64, hit: bool) {
        let cell = &self.lookups[(fold % CELLS) as usize];
        count(if hit { &cell.hits } else { &cell.misses });
    }

    pub(super) fn promoted(&self, bytes: u64) {
        count(&self.promotions);
        add(&self.promoted_bytes, bytes);
    }

    pub(super) fn demoted(&self, bytes: u64) {
        count(&self.demotions);
        add(&self.demoted_bytes, bytes);
    }

    pub(super) fn flushed(&self, ok: bool) {
        count(if ok {
            &self.flushes
        } else {
            &self.flush_errors
        });
    }

    /// The counters with what the parts say; see [`Tiered`](crate::Tiered) for what each means.
    pub(super) fn snapshot(
        &self,
        unwritten: (u64, u64),
        upper: StoreStats,
        lower: StoreStats,
    ) -> StoreStats {
        let sum = |field: fn(&Lookups) -> &AtomicU64| {
            let cells = self.lookups.iter().map(|cell| read(field(cell)));
            cells.fold(0, u64::saturating_add)
        };
        let (hits, misses) = (sum(|l| &l.hits), sum(|l| &l.misses));
        let both = |field: fn(&StoreStats) -> u64| field(&upper).saturating_add(field(&lower));
        let below = lower.entries.saturating_add(unwritten.0);
        let bytes_below = lower.cached_bytes.saturating_add(unwritten.1);
        // Set one by one: the models compile this outside the crate, where no literal is allowed.
        let mut all = StoreStats::default();
        (all.tier, all.lookups) = (Tier::Tiered, hits.saturating_add(misses));
        all.read_only = upper.read_only && lower.read_only;
        (all.hits, all.misses) = (hits, misses);
        (all.puts, all.failed_puts) = (read(&self.puts), read(&self.failed_puts));
        all.rejected_puts = read(&self.refused_writes);
        (all.evictions, all.evicted_bytes) = (lower.evictions, lower.evicted_bytes);
        (all.promotions, all.promoted_bytes) = (read(&self.promotions), read(&self.promoted_bytes));
        (all.demotions, all.demoted_bytes) = (read(&self.demotions), read(&self.demoted_bytes));
        all.deduplicated_bytes = both(|s| s.deduplicated_bytes);
        all.written_bytes = both(|s| s.written_bytes);
        all.rewritten_bytes = both(|s| s.rewritten_bytes);
        (all.flushes, all.flush_errors) = (read(&self.flushes), read(&self.flush_errors));
        all.corrupt = both(|s| s.corrupt);
        all.maintenance_errors = both(|s| s.maintenance_errors);
        all.entries = upper.entries.max(below);
        all.cached_bytes = upper.cached_bytes.max(bytes_below);
        all.tiers = vec![upper, lower];
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_saturate_and_never_wrap() {
        let counters = Counters::new();
        for _ in 0..2 {
            counters.promoted(u64::MAX);
            counters.demoted(u64::MAX);
        }
        counters.puts.store(u64::MAX, Ordering::Relaxed);
        count(&counters.puts);
        for fold in 0..2 {
            let cell = &counters.lookups[fold];
            cell.hits.store(u64::MAX, Ordering::Relaxed);
            counters.lookup(fold as u64, true);
        }
        let none = StoreStats::default;
        let all = counters.snapshot((0, 0), none(), none());
        let top = [
            all.promoted_bytes,
            all.demoted_bytes,
            all.puts,
            all.hits,
            all.lookups,
        ];
        assert_eq!(top, [u64::MAX; 5]);
        assert_eq!((all.promotions, all.demotions), (2, 2));
    }
}
