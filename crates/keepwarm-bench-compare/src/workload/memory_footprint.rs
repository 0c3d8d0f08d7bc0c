//! What an entry takes in memory beyond its bytes: the heap's growth for each entry of 64 bytes,
//! what the allocator rounds up included.

use super::memory_hit::stamped;
use crate::Fault;
use crate::content::key;
use crate::measure::{Reading, Unit, precise, resident};
use crate::memory::{Limit, MemoryCache, MemoryWorkload};
use crate::plan::Plan;

pub(super) struct MemoryFootprint;

impl MemoryWorkload for MemoryFootprint {
    fn run<C: MemoryCache>(&self, plan: &Plan) -> Result<Vec<Reading>, Fault> {
        let entries = plan.scaled(300_000, 30_000);
        let before = resident();
        let mut cache = C::new(Limit::Entries(entries));
        let idle = resident();
        for n in 0..entries {
            cache.put(&key(plan.seed, n), C::value(&stamped(n)));
        }
        cache.settle();
        let after = resident();
        // Policies and shards that fill unevenly keep less.
        let kept = (0..entries)
            .filter(|n| cache.get(&key(plan.seed, *n)).is_some())
            .count() as u64;
        if kept < entries / 2 {
            return Err(format!("lost all but {kept} of {entries} entries").into());
        }
        let each = precise(after.saturating_sub(before)) / precise(kept) - 64.0;
        let idle = precise(idle.saturating_sub(before));
        Ok(vec![
            Reading::number("beyond the bytes of an entry", Unit::Bytes, each),
            Reading::number("empty, made for as many entries", Unit::Bytes, idle),
        ])
    }
}
