//! Any sequence of operations on a `MemoryStore` of one shard, against the simplest LRU there is:
//! a list in the order of use.
//!
//! With one shard the policy is exact, so the model says which entries must go and which stay.

#![no_main]

use arbitrary::Arbitrary;
use keepwarm::{Entry, Fingerprint, MemoryStore, PutOutcome, PutStatus, Store};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case {
    byte_budget: u8,
    entry_budget: u8,
    operations: Vec<Operation>,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Get { key: u8 },
    Contains { key: u8 },
    Put { key: u8, len: u8, fill: u8 },
    Remove { key: u8 },
    Touch { keys: Vec<u8> },
    Clear,
}

/// Least recently used first.
#[derive(Debug, Default)]
struct Model {
    entries: Vec<(u8, Vec<u8>)>,
    byte_budget: usize,
    entry_budget: usize,
}

impl Model {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn take(&mut self, key: u8) -> Option<Vec<u8>> {
        let at = self.entries.iter().position(|(k, _)| *k == key)?;
        Some(self.entries.remove(at).1)
    }

    fn get(&mut self, key: u8) -> Option<Vec<u8>> {
        let bytes = self.take(key)?;
        self.entries.push((key, bytes.clone()));
        Some(bytes)
    }

    /// What the put must say, and which keys must be handed back, in any order.
    fn put(&mut self, key: u8, bytes: Vec<u8>) -> (Expected, Vec<u8>) {
        let keeps_nothing = self.byte_budget == 0 || self.entry_budget == 0;
        let old = self.take(key);
        if keeps_nothing {
            return (Expected::Stored, vec![key]);
        }
        if bytes.len() > self.byte_budget {
            return (Expected::Rejected, vec![key]);
        }
        let status = if old.as_ref() == Some(&bytes) {
            Expected::StoredOrAlreadyStored
        } else {
            Expected::Stored
        };
        self.entries.push((key, bytes));
        let mut displaced = Vec::new();
        while self.bytes() > self.byte_budget || self.entries.len() > self.entry_budget {
            displaced.push(self.entries.remove(0).0);
        }
        (status, displaced)
    }
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Stored,
    /// The bytes are equal; a store need not compare them, but says so only if they are.
    StoredOrAlreadyStored,
    Rejected,
}

/// Zero-padded counters: the least uniform keys a user may bring.
fn fingerprint(key: u8) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes[31] = key;
    Fingerprint::from_bytes(bytes)
}

fn check_put(outcome: &PutOutcome, expected: Expected, mut displaced: Vec<u8>) {
    let as_expected = match expected {
        Expected::Stored => outcome.status == PutStatus::Stored,
        Expected::StoredOrAlreadyStored => {
            matches!(outcome.status, PutStatus::Stored | PutStatus::AlreadyStored)
        }
        Expected::Rejected => outcome.is_rejected(),
    };
    assert!(as_expected, "{:?}, not {expected:?}", outcome.status);
    let mut handed_back: Vec<u8> = outcome
        .displaced
        .iter()
        .map(|d| d.key.as_bytes()[31])
        .collect();
    handed_back.sort_unstable();
    displaced.sort_unstable();
    assert_eq!(handed_back, displaced);
    for eviction in &outcome.evictions {
        assert!(eviction.entries > 0 && !eviction.oldest_age.is_zero());
    }
}

fn apply(store: &MemoryStore, model: &mut Model, operation: Operation) -> keepwarm::Result<()> {
    match operation {
        Operation::Get { key } => {
            let found = store
                .get(&fingerprint(key))?
                .map(|entry| entry.artifact.to_vec());
            assert_eq!(found, model.get(key));
        }
        Operation::Contains { key } => {
            let known = model.entries.iter().any(|(k, _)| *k == key);
            assert_eq!(store.contains(&fingerprint(key))?, known);
        }
        Operation::Put { key, len, fill } => {
            let bytes = vec![fill; len.into()];
            let (expected, displaced) = model.put(key, bytes.clone());
            let outcome = store.put(&fingerprint(key), Entry::from(bytes))?;
            check_put(&outcome, expected, displaced);
        }
        Operation::Remove { key } => {
            assert_eq!(store.remove(&fingerprint(key))?, model.take(key).is_some());
        }
        Operation::Touch { keys } => {
            let fingerprints: Vec<_> = keys.iter().copied().map(fingerprint).collect();
            store.touch(&fingerprints)?;
            for key in keys {
                model.get(key);
            }
        }
        Operation::Clear => {
            store.clear()?;
            model.entries.clear();
        }
    }
    Ok(())
}

fuzz_target!(|case: Case| {
    let store = MemoryStore::builder()
        .byte_budget(case.byte_budget.into())
        .entry_budget(case.entry_budget.into())
        .shards(1)
        .build()
        .unwrap();
    let mut model = Model {
        byte_budget: case.byte_budget.into(),
        entry_budget: case.entry_budget.into(),
        ..Model::default()
    };
    for operation in case.operations {
        apply(&store, &mut model, operation).unwrap();
        assert_eq!(store.len(), model.entries.len());
        assert_eq!(store.is_empty(), model.entries.is_empty());
        assert_eq!(store.cached_bytes(), model.bytes() as u64);
    }
    let stats = store.stats();
    assert_eq!(stats.lookups, stats.hits + stats.misses);
    assert_eq!(stats.entries, model.entries.len() as u64);
});
