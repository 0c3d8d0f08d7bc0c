//! What the memory tier promises when threads meet in it: budgets that all shards share hold
//! whenever no call is under way, no entry is counted twice or lost between the shards, and what
//! was evicted is handed to exactly one caller.
//!
//! The order of eviction among shards is a choice by hints and no promise; it is not modelled.
#![allow(clippy::missing_panics_doc, reason = "that is how a model says no")]

use crate::{Fingerprint, MemoryStore, PutOutcome, Store, Thread, at_once};
use shuttle::sync::atomic::{AtomicU64, Ordering::SeqCst};
use shuttle::sync::{Arc, Mutex};

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

struct Model {
    store: MemoryStore,
    entries: u64,
    bytes: u64,
    /// Key and version of everything that was handed back.
    displaced: Mutex<Vec<(u8, u8)>>,
    evictions: AtomicU64,
}

impl Model {
    fn new(shards: usize, entries: u64, bytes: u64) -> Arc<Self> {
        let builder = MemoryStore::builder().shards(shards);
        let store = builder.entry_budget(entries).byte_budget(bytes).build();
        let Ok(store) = store else {
            panic!("a memory store is built")
        };
        Arc::new(Self {
            store,
            entries,
            bytes,
            displaced: Mutex::default(),
            evictions: AtomicU64::new(0),
        })
    }

    /// Puts `version` under key `n`, in `len` bytes.
    fn put(&self, n: u8, version: u8, len: usize) {
        let mut value = vec![version; len];
        value[0] = n;
        let Ok(outcome) = self.store.put(&key(n), value.into()) else {
            panic!("a put failed")
        };
        self.count(&outcome, n, version, len);
    }

    fn count(&self, outcome: &PutOutcome, n: u8, version: u8, len: usize) {
        let reported: u64 = outcome.evictions.iter().map(|e| e.entries).sum();
        self.evictions.fetch_add(reported, SeqCst);
        let refused = len as u64 > self.bytes;
        let mut all = self.displaced.lock().unwrap_or_else(|e| e.into_inner());
        for gone in &outcome.displaced {
            let bytes = gone.entry.artifact.as_slice();
            let what = (bytes[0], bytes[bytes.len() - 1]);
            assert!(
                refused || what != (n, version),
                "the newest entry made room for itself"
            );
            all.push(what);
        }
    }

    fn get(&self, n: u8) -> Option<u8> {
        let found = self.store.get(&key(n));
        let found = found.unwrap_or_else(|e| panic!("a get failed: {e}"))?;
        let bytes = found.artifact.as_slice();
        assert_eq!(bytes[0], n, "another key's bytes");
        Some(bytes[bytes.len() - 1])
    }

    /// What must be true when no call is under way; `keys` are all there may be.
    fn check(&self, keys: std::ops::Range<u8>) -> Vec<(u8, u8)> {
        let found: Vec<(u8, usize)> = keys
            .filter_map(|n| Some((n, self.store.get(&key(n)).ok()??.artifact.len())))
            .collect();
        let bytes: usize = found.iter().map(|(_, len)| len).sum();
        let (len, cached) = (self.store.len(), self.store.cached_bytes());
        assert_eq!((len, cached), (found.len(), bytes as u64), "miscounted");
        assert!(len as u64 <= self.entries, "too many entries: {len}");
        assert!(cached <= self.bytes, "too many bytes: {cached}");
        let stats = self.store.stats();
        assert_eq!((stats.entries, stats.cached_bytes), (len as u64, cached));
        found
            .into_iter()
            .filter_map(|(n, _)| Some((n, self.get(n)?)))
            .collect()
    }
}

/// Of entries that are put once each, every one is kept or handed back, once; with one limit no
/// more are evicted than must be; and what reports, counters and callers say is the same.
fn nothing_lost(shards: usize, entries: u64, bytes: u64) {
    let model = Model::new(shards, entries, bytes);
    let writer = |first: u8| -> Thread {
        let model = Arc::clone(&model);
        Box::new(move || (first..first + 2).for_each(|n| model.put(n, 1, 2)))
    };
    at_once(vec![writer(0), writer(2), writer(4)], || {
        let kept = model.check(0..6);
        let displaced = model.displaced.lock().unwrap_or_else(|e| e.into_inner());
        let mut all: Vec<_> = kept.iter().chain(displaced.iter()).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..6).map(|n| (n, 1)).collect::<Vec<_>>());
        let evicted = displaced.len() as u64;
        assert_eq!(model.evictions.load(SeqCst), evicted);
        let stats = model.store.stats();
        assert_eq!((stats.puts, stats.evictions), (6, evicted));
        assert_eq!(stats.evicted_bytes, 2 * evicted);
        let room = entries.min(bytes / 2);
        if entries != bytes / 2 {
            assert_eq!(kept.len() as u64, room, "evicted more than was needed");
        }
        assert!(!kept.is_empty());
    });
}

/// See [`nothing_lost`].
pub fn budgets_hold_and_nothing_is_lost() {
    nothing_lost(4, 2, 1000);
    nothing_lost(4, 1000, 6);
    nothing_lost(2, 2, 4);
    nothing_lost(1, 1, 1000);
}

/// Entries as large as the whole budget, smaller ones, replaced and refused ones: budgets hold.
pub fn large_and_replaced_entries_are_counted_right() {
    let model = Model::new(2, 3, 8);
    let run = |steps: &'static [(u8, u8, usize)]| -> Thread {
        let model = Arc::clone(&model);
        Box::new(move || steps.iter().for_each(|(n, v, len)| model.put(*n, *v, *len)))
    };
    let threads = vec![
        run(&[(0, 1, 8), (0, 2, 3)]),
        run(&[(1, 3, 2), (1, 4, 9)]),
        run(&[(0, 5, 4), (2, 6, 8)]),
    ];
    at_once(threads, || {
        model.check(0..3);
    });
}

/// A get finds the newest put, or nothing; never an older one after it, never another key's.
pub fn no_older_value_after_a_newer_one() {
    let model = Model::new(2, 2, 1000);
    model.put(0, 1, 2);
    let seen = Arc::new(AtomicU64::new(0));
    let (writer, other) = (Arc::clone(&model), Arc::clone(&model));
    let mut threads: Vec<Thread> = vec![
        Box::new(move || (2..5).for_each(|version| writer.put(0, version, 2))),
        Box::new(move || (1..4).for_each(|n| other.put(n, 1, 2))),
    ];
    for _ in 0..2 {
        let (reader, seen) = (Arc::clone(&model), Arc::clone(&seen));
        threads.push(Box::new(move || {
            let at_least = seen.load(SeqCst);
            if let Some(found) = reader.get(0) {
                assert!(u64::from(found) >= at_least, "{found} after {at_least}");
                seen.fetch_max(found.into(), SeqCst);
            }
        }));
    }
    at_once(threads, || {
        model.check(0..4);
    });
}

/// Removals, touches and clears among puts leave counts that are right, and nothing removed.
pub fn removals_and_clears_are_counted_right() {
    let model = Model::new(2, 3, 1000);
    model.put(0, 1, 2);
    let (remover, clearer) = (Arc::clone(&model), Arc::clone(&model));
    let (writer, toucher) = (Arc::clone(&model), Arc::clone(&model));
    let threads: Vec<Thread> = vec![
        Box::new(move || {
            assert!(remover.store.remove(&key(0)).is_ok());
            assert_eq!(remover.get(0), None, "came back");
        }),
        Box::new(move || assert!(clearer.store.clear().is_ok())),
        Box::new(move || (1..4).for_each(|n| writer.put(n, 1, 2))),
        Box::new(move || assert!(toucher.store.touch(&[key(0), key(1)]).is_ok())),
    ];
    at_once(threads, || {
        let left = model.check(0..4);
        assert!(left.iter().all(|(n, _)| *n != 0), "came back");
    });
}
