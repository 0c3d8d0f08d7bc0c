//! Inserts of new keys into a cache that is full: each has to make room for itself. The artifacts
//! are a few that all keys share, so that the allocator is not measured.

use crate::Fault;
use crate::content::key;
use crate::measure::{Basis, Clock, Reading};
use crate::memory::{Limit, MemoryCache, MemoryWorkload};
use crate::plan::Plan;

pub(super) struct InsertFull;

const SIZES: [(u64, &str); 4] = [
    (1_000, "1,000 entries"),
    (10_000, "10,000 entries"),
    (100_000, "100,000 entries"),
    (1_000_000, "1,000,000 entries"),
];

impl MemoryWorkload for InsertFull {
    fn run<C: MemoryCache>(&self, plan: &Plan) -> Result<Vec<Reading>, Fault> {
        let artifact = |n: u64| [u8::try_from(n % 16).unwrap_or(0); 1024];
        let values: Vec<C::Value> = (0..16).map(|n| C::value(&artifact(n))).collect();
        let calls = plan.scaled(200_000, 5000);
        let put = |cache: &C, from: u64, calls: u64| -> Result<(), Fault> {
            for n in from..from + calls {
                cache.put(&key(plan.seed, n), values[usize::try_from(n % 16)?].clone());
            }
            Ok(())
        };
        let mut readings = Vec::new();
        for (entries, metric) in SIZES {
            let entries = if plan.quick { entries / 20 } else { entries };
            let mut cache = C::new(Limit::Entries(entries));
            put(&cache, 0, entries + entries / 4)?;
            cache.settle();
            let first = 2 * entries;
            let clock = Clock::start();
            put(&cache, first, calls)?;
            readings.push(clock.stop().per(calls, metric, Basis::Cpu));
            // A policy need not keep what was put last; what it gives must be right.
            for n in (first..first + calls).rev().take(1000) {
                if cache
                    .get(&key(plan.seed, n))
                    .is_some_and(|hit| hit.as_ref() != artifact(n))
                {
                    return Err(format!("altered entry {n}").into());
                }
            }
        }
        Ok(readings)
    }
}
