//! Hits in memory: everything fits, every get must hit.

use crate::Fault;
use crate::content::{Random, key, zipf};
use crate::measure::{Basis, Clock, Cost, Reading};
use crate::memory::{Limit, MemoryCache, MemoryWorkload};
use crate::plan::Plan;
use std::sync::Barrier;
use std::thread;

pub(super) const MAIN: &str = "1 thread";

/// How many threads, and what their metric is called.
pub(super) const THREADS: [(usize, &str); 3] = [(1, MAIN), (2, "2 threads"), (4, "4 threads")];

pub(super) struct MemoryHit;

/// A small artifact that tells which one it is.
pub(super) fn stamped(n: u64) -> [u8; 64] {
    let mut bytes = [7; 64];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// Runs `each(thread)` on so many threads, which begin together, and times them all.
pub(super) fn together(
    threads: usize,
    each: impl Fn(usize) -> Result<(), Fault> + Sync,
) -> Result<Cost, Fault> {
    let (ready, go) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (ready, go, each) = (&ready, &go, &each);
                scope.spawn(move || {
                    ready.wait();
                    go.wait();
                    each(thread)
                })
            })
            .collect();
        ready.wait();
        let clock = Clock::start();
        go.wait();
        let results: Vec<_> = handles
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        let cost = clock.stop();
        for result in results {
            result.map_err(|_| "a thread panicked")??;
        }
        Ok(cost)
    })
}

/// The time that passes for a thread at each of its own operations; the processor time is of one
/// operation of any thread.
pub(super) fn each_thread(cost: Cost, calls: usize, threads: usize, metric: &str) -> Reading {
    let basis = if threads == 1 {
        Basis::Cpu
    } else {
        Basis::Wall
    };
    let mut reading = cost.per(calls as u64, metric, basis);
    #[expect(clippy::cast_precision_loss, reason = "at most 4")]
    let threads = threads as f64;
    reading.cpu = reading.cpu.map(|cpu| cpu / threads);
    reading
}

impl MemoryWorkload for MemoryHit {
    fn run<C: MemoryCache>(&self, plan: &Plan) -> Result<Vec<Reading>, Fault> {
        let is_traced = plan.traced.is_some();
        let entries = if is_traced {
            10_000
        } else {
            plan.scaled(100_000, 10_000)
        };
        let calls = plan.scaled(400_000, 20_000);
        let calls = plan.traced.map_or(Ok(calls), usize::try_from)?;
        // Twice as much room, so that no shard is full whatever the hash does.
        let mut cache = C::new(Limit::Entries(2 * entries));
        for n in 0..entries {
            cache.put(&key(plan.seed, n), C::value(&stamped(n)));
        }
        cache.settle();
        let hit = |draws: &[u32]| {
            let mut wrong = 0;
            for (at, n) in draws.iter().enumerate() {
                let n = u64::from(*n);
                let Some(hit) = cache.get(&key(plan.seed, n)) else {
                    return Err(format!("lost entry {n}").into());
                };
                // A sample: looking into each would measure the processor's caches.
                if at % 64 == 0 {
                    wrong += u64::from(hit.as_ref() != stamped(n));
                }
                std::hint::black_box(&hit);
            }
            if wrong == 0 {
                Ok(())
            } else {
                Err("altered an entry".into())
            }
        };
        let mut readings = Vec::new();
        for (threads, metric) in THREADS.into_iter().take(if is_traced { 1 } else { 3 }) {
            let draws: Vec<Vec<u32>> = (0..threads)
                .map(|thread| {
                    let stream = plan.round << 8 | thread as u64;
                    zipf(&mut Random::new(plan.seed, stream), entries, 0.99, calls)
                })
                .collect();
            // Warms up; not in a traced run, whose calls are counted.
            hit(if is_traced {
                &[]
            } else {
                &draws[0][..calls / 4]
            })?;
            let cost = together(threads, |thread| hit(&draws[thread]))?;
            readings.push(each_thread(cost, calls, threads, metric));
        }
        Ok(readings)
    }
}
