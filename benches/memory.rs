//! What the memory tier costs: `cargo bench --bench memory`.
//!
//! Each line is the median, over several samples, of the time of one call as one thread sees it;
//! with two threads both work on one store at once.

use keepwarm::{Artifact, Entry, Fingerprint, MemoryStore, Store};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const SAMPLES: usize = 15;
const CALLS: u64 = 100_000;

/// Keys as a builder makes them: uniform, and unrelated to their order.
struct Keys(Vec<Fingerprint>);

impl Keys {
    fn new(count: u64) -> Self {
        let key = |n: u64| {
            let digest = blake3::hash(&n.to_le_bytes());
            Fingerprint::from_bytes(*digest.as_bytes())
        };
        Self((0..count).map(key).collect())
    }

    /// The keys again and again, in an order that no prefetcher follows.
    fn nth(&self, n: u64) -> &Fingerprint {
        let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        &self.0[usize::try_from(mixed).unwrap_or(0) % self.0.len()]
    }
}

fn store(entries: u64) -> MemoryStore {
    let builder = MemoryStore::builder()
        .entry_budget(entries)
        .byte_budget(u64::MAX);
    builder.build().expect("the settings are in range")
}

/// Entries share one artifact, so that the store is measured and not the allocator.
fn filled(entries: u64, keys: &Keys) -> (MemoryStore, Entry) {
    let store = store(entries);
    let entry = Entry::from(Artifact::from(vec![7; 4096]));
    for key in keys
        .0
        .iter()
        .take(usize::try_from(entries).unwrap_or(usize::MAX))
    {
        put(&store, key, &entry);
    }
    (store, entry)
}

fn put(store: &MemoryStore, key: &Fingerprint, entry: &Entry) {
    let outcome = store.put(key, entry.clone());
    drop(black_box(outcome).expect("a memory store does not fail"));
}

/// The median time of `call`, which is given ever new numbers, on so many threads.
fn measure(name: &str, threads: u64, call: impl Fn(u64) + Sync) {
    let mut samples: Vec<Duration> = (0..=SAMPLES as u64)
        .map(|sample| {
            let barrier = Barrier::new(usize::try_from(threads).unwrap_or(1));
            let run = |thread: u64| {
                barrier.wait();
                let start = Instant::now();
                let first = (sample * threads + thread) * CALLS;
                for n in first..first + CALLS {
                    call(n);
                }
                start.elapsed()
            };
            thread::scope(|scope| {
                let run = &run;
                let handles: Vec<_> = (0..threads)
                    .map(|thread| scope.spawn(move || run(thread)))
                    .collect();
                let times = handles.into_iter().filter_map(|handle| handle.join().ok());
                times.max().unwrap_or_default()
            })
        })
        .skip(1) // the first warms up
        .collect();
    samples.sort();
    let median = samples[samples.len() / 2].as_nanos() / u128::from(CALLS);
    println!("{name:<44} {threads} thread(s) {median:>8} ns");
}

fn hits() {
    for entries in [1_000, 100_000, 1_000_000] {
        let keys = Keys::new(entries);
        let (store, _) = filled(entries, &keys);
        // An artifact of its own for each key: threads that hit different keys share nothing.
        for key in &keys.0 {
            put(&store, key, &Entry::from(vec![7; 16]));
        }
        for threads in [1, 2] {
            measure(&format!("hit, {entries} entries"), threads, |n| {
                drop(black_box(store.get(keys.nth(n))));
            });
        }
    }
}

fn misses() {
    let keys = Keys::new(100_000);
    let (store, _) = filled(1000, &Keys::new(1000));
    store.clear().expect("a memory store does not fail");
    measure("miss", 1, |n| {
        drop(black_box(store.get(keys.nth(n))));
    });
}

fn inserts() {
    let keys = Keys::new(1_000_000);
    for threads in [1, 2] {
        let (store, entry) = filled(0, &Keys::new(0));
        drop(store);
        let store = self::store(u64::MAX);
        measure("insert or replace, no eviction", threads, |n| {
            put(&store, keys.nth(n), &entry);
        });
    }
}

/// Must cost the same for a thousand entries and for a million, but for the memory's caches.
fn inserts_when_full() {
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        // More keys than fit, in turn: each put is of an absent key and evicts one.
        let keys = Keys::new(entries + entries / 2);
        let (store, entry) = filled(entries, &keys);
        for threads in [1, 2] {
            measure(
                &format!("insert and evict, {entries} entries"),
                threads,
                |n| {
                    let at = usize::try_from(n + entries).unwrap_or(0) % keys.0.len();
                    put(&store, &keys.0[at], &entry);
                },
            );
        }
    }
}

fn main() {
    hits();
    misses();
    inserts();
    inserts_when_full();
}
