//! A cache in memory that holds a tenth of what is asked for: get, and on a miss build the artifact
//! and put it. Building is one copy of its bytes, so that what is measured is the cache, and the
//! allocator that every cache of this kind keeps busy.

use super::memory_hit::{THREADS, each_thread, together};
use crate::Fault;
use crate::content::{Dataset, Random, zipf};
use crate::measure::{Reading, Unit, precise};
use crate::memory::{Limit, MemoryCache, MemoryWorkload};
use crate::plan::Plan;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct GetOrInsert;

impl MemoryWorkload for GetOrInsert {
    fn run<C: MemoryCache>(&self, plan: &Plan) -> Result<Vec<Reading>, Fault> {
        let count = plan.scaled(100_000, 5000);
        let calls = plan.scaled(150_000, 10_000);
        let data = super::dataset("memory", count, [256, 16 << 10]);
        let data = Dataset {
            seed: plan.seed,
            ..data
        };
        let lens: Vec<usize> = (0..count).map(|n| data.len(n)).collect();
        let total: u64 = lens.iter().map(|len| *len as u64).sum();
        // What a build copies: the number at the start makes each artifact another one.
        let source = vec![7; 16 << 10];
        let mut readings = Vec::new();
        for (threads, metric) in THREADS {
            let mut cache = C::new(Limit::Bytes {
                bytes: total / 10,
                about: count / 10,
            });
            let misses = AtomicU64::new(0);
            let go = |draws: &[u32]| {
                let mut source = source.clone();
                let mut missed = 0;
                for n in draws.iter().copied().map(u64::from) {
                    let (key, len) = (data.key(n), lens[usize::try_from(n)?]);
                    if let Some(hit) = cache.get(&key) {
                        let (stamp, hit) = (&n.to_le_bytes()[..], hit.as_ref());
                        if hit.len() != len || !hit.starts_with(stamp) {
                            return Err(format!("altered entry {n}").into());
                        }
                    } else {
                        source[..8].copy_from_slice(&n.to_le_bytes());
                        cache.put(&key, C::value(&source[..len]));
                        missed += 1;
                    }
                }
                misses.fetch_add(missed, Ordering::Relaxed);
                Ok(())
            };
            let draws = |stream: usize| {
                let stream = plan.round << 8 | stream as u64;
                zipf(&mut Random::new(plan.seed, stream), count, 0.9, calls)
            };
            // Fills it, and lets its policy learn.
            go(&draws(100))?;
            misses.store(0, Ordering::Relaxed);
            let draws: Vec<Vec<u32>> = (0..threads).map(draws).collect();
            let cost = together(threads, |thread| go(&draws[thread]))?;
            cache.settle();
            readings.push(each_thread(cost, calls, threads, metric));
            let missed = precise(misses.into_inner()) / precise((calls * threads) as u64);
            let metric = format!("hit ratio, {metric}");
            readings.push(Reading::number(
                metric,
                Unit::Percent,
                100.0 * (1.0 - missed),
            ));
        }
        Ok(readings)
    }
}
