//! What the memory tier costs: `cargo bench --bench memory`.
//!
//! A time is that of one call as one thread sees it; with two threads both work on one store at
//! once.

mod common;

use common::{Case, any, key, measure, scaled};
use keepwarm::{Artifact, Entry, Fingerprint, MemoryStore, Store};
use std::hint::black_box;
use std::thread;

const CALLS: u64 = 100_000;

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
        let store = filled(scaled(entries));
        let case = |threads| {
            let store = &store;
            let name = format!("hit, {entries} entries");
            Case::calls(name, threads, scaled(CALLS), move |n| {
                let found = store.get(&key(any(n, scaled(entries))));
                assert!(matches!(black_box(found), Ok(Some(_))));
            })
        };
        measure(vec![case(1), case(2)]);
    }
}

fn misses() {
    let store = filled(scaled(100_000));
    measure(vec![Case::calls(
        "miss, 100000 entries",
        1,
        scaled(CALLS),
        |n| drop(black_box(store.get(&key(1 << 40 | n)))),
    )]);
}

/// Entries share one artifact from here on, so that the store is measured and not the allocator.
fn inserts() {
    let entry = Entry::from(Artifact::from(vec![7; 4096]));
    let stores = [store(u64::MAX), store(u64::MAX)];
    let case = |threads, store| {
        let entry = &entry;
        let name = "insert into a store that grows";
        Case::calls(name, threads, scaled(CALLS), move |n| {
            put(store, &key(n), entry);
        })
    };
    measure(vec![case(1, &stores[0]), case(2, &stores[1])]);
}

/// Must cost the same for a thousand entries and for a million, but for the processor's caches.
fn inserts_when_full() {
    let entry = Entry::from(Artifact::from(vec![7; 4096]));
    for entries in [1_000, 10_000, 100_000, 1_000_000] {
        let store = store(scaled(entries));
        for n in 0..scaled(entries) {
            put(&store, &key(1 << 40 | n), &entry);
        }
        // Every key is new and evicts one.
        let case = |threads: u64| {
            let (store, entry) = (&store, &entry);
            let name = format!("insert and evict, {entries} entries");
            Case::calls(name, threads, scaled(CALLS), move |n| {
                put(store, &key(threads << 41 | n), entry);
            })
        };
        measure(vec![case(1), case(2)]);
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
