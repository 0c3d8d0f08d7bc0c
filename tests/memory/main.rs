//! The memory tier through its public API; what every store must do besides is in
//! `tests/conformance.rs`.
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests
#![allow(clippy::cast_possible_truncation)] // small numbers made up here

mod accounting;
mod budgets;
mod counters;
mod model;
mod recency;
mod reports;
mod threads;

use keepwarm::{Entry, Fingerprint, MemoryStore, PutOutcome, Store};

/// A key that is nothing but a zero-padded counter.
fn key(n: u64) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&n.to_be_bytes());
    Fingerprint::from_bytes(bytes)
}

fn store(entry_budget: u64, byte_budget: u64, shards: usize) -> MemoryStore {
    let builder = MemoryStore::builder().entry_budget(entry_budget);
    builder
        .byte_budget(byte_budget)
        .shards(shards)
        .build()
        .unwrap()
}

fn put(store: &MemoryStore, n: u64, len: usize) -> PutOutcome {
    store.put(&key(n), Entry::from(vec![n as u8; len])).unwrap()
}

fn has(store: &MemoryStore, n: u64) -> bool {
    store.contains(&key(n)).unwrap()
}

/// The keys that `outcome` handed back, in order.
fn displaced(outcome: &PutOutcome) -> Vec<Fingerprint> {
    outcome.displaced.iter().map(|d| d.key).collect()
}
