//! What the memory tier costs: `cargo bench --bench memory`.
//!
//! Each line is the median, over several samples, of the time of one call as one thread sees it;
//! with two threads both work on one store at once.

use keepwarm::{Artifact, Entry, Fingerprint, MemoryStore, Store};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const SAMPLES: usize = 11;
const CALLS: u64 = 100_000;

/// The key of a number, as uniform as a builder makes them, and made without touching memory.
fn key(n: u64) -> Fingerprint {
    let mut bytes = [0; 32];
    for (at, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&mixed(n * 4 + at).to_le_bytes());
    }
    Fingerprint::from_bytes(bytes)
}

/// A number below `count`, in an order that no prefetcher follows.
fn any(n: u64, count: u64) -> u64 {
    mixed(n) % count
}

fn mixed(n: u64) -> u64 {
    // The finish of SplitMix64.
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

fn store(entries: u64) -> MemoryStore {
    let builder = MemoryStore::builder()
        .entry_budget(entries)
        .byte_budget(u64::MAX);
    builder.build().expect("the settings are in range")
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

/// A full store of `entries`, each with an artifact of its own: threads that hit different keys
/// share nothing.
fn filled(entries: u64) -> MemoryStore {
    let store = store(entries);
    for n in 0..entries {
        put(&store, &key(n), &Entry::from(vec![7; 16]));
    }
    store
}

fn hits() {
    for entries in [1_000, 100_000, 1_000_000] {
        let store = filled(entries);
        for threads in [1, 2] {
            measure(&format!("hit, {entries} entries"), threads, |n| {
                let found = store.get(&key(any(n, entries)));
                assert!(matches!(black_box(found), Ok(Some(_))));
            });
        }
    }
}

fn misses() {
    let store = filled(100_000);
    measure("miss, 100000 entries", 1, |n| {
        drop(black_box(store.get(&key(1 << 40 | n))));
    });
}

/// Entries share one artifact from here on, so that the store is measured and not the allocator.
fn inserts() {
    let entry = Entry::from(Artifact::from(vec![7; 4096]));
    for threads in [1, 2] {
        let store = store(u64::MAX);
        measure("insert into a store that grows", threads, |n| {
            put(&store, &key(n), &entry);
        });
    }
}

/// Must cost the same for a thousand entries and for a million, but for the processor's caches.
fn inserts_when_full() {
    let entry = Entry::from(Artifact::from(vec![7; 4096]));
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        let store = store(entries);
        for n in 0..entries {
            put(&store, &key(1 << 40 | n), &entry);
        }
        for threads in [1, 2] {
            // Every key is new and evicts one.
            let name = format!("insert and evict, {entries} entries");
            measure(&name, threads, |n| {
                put(&store, &key(threads << 41 | n), &entry);
            });
        }
    }
}

fn main() {
    println!(
        "shards: four for each core of {:?}",
        thread::available_parallelism()
    );
    hits();
    misses();
    inserts();
    inserts_when_full();
}
