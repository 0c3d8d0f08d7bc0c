//! The policy against a naive reference model, under random operations.

use super::{key, store};
use keepwarm::{Entry, Fingerprint, MemoryStore, PutStatus, Store};
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Clone, Debug)]
enum Op {
    Get(u64),
    Contains(u64),
    Put(u64, usize),
    Remove(u64),
    Touch(Vec<u64>),
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..24u64;
    let op = prop_oneof![
        8 => key.clone().prop_map(Op::Get),
        2 => key.clone().prop_map(Op::Contains),
        8 => (key.clone(), 0..40usize).prop_map(|(key, len)| Op::Put(key, len)),
        2 => key.clone().prop_map(Op::Remove),
        1 => prop::collection::vec(key, 0..4).prop_map(Op::Touch),
        1 => prop::bool::weighted(0.1).prop_map(|clear| if clear { Op::Clear } else { Op::Get(0) }),
    ];
    prop::collection::vec(op, 1..200)
}

/// The reference: a list from the least to the most recently used.
struct Model {
    entries: Vec<(u64, Entry)>,
    entry_budget: u64,
    byte_budget: u64,
}

impl Model {
    fn position(&self, key: u64) -> Option<usize> {
        self.entries.iter().position(|(k, _)| *k == key)
    }

    fn refresh(&mut self, key: u64) -> Option<Entry> {
        let found = self.entries.remove(self.position(key)?);
        self.entries.push(found);
        self.entries.last().map(|(_, entry)| entry.clone())
    }

    fn remove(&mut self, key: u64) -> bool {
        self.position(key)
            .map(|at| self.entries.remove(at))
            .is_some()
    }

    fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|(_, e)| e.artifact.len() as u64)
            .sum()
    }

    /// Whether it was refused, and what is handed back.
    fn put(&mut self, key: u64, entry: Entry) -> (bool, Vec<(u64, Entry)>) {
        self.remove(key);
        if self.entry_budget == 0 || self.byte_budget == 0 {
            return (false, vec![(key, entry)]);
        }
        if entry.artifact.len() as u64 > self.byte_budget {
            return (true, vec![(key, entry)]);
        }
        self.entries.push((key, entry));
        let mut displaced = Vec::new();
        while self.entries.len() as u64 > self.entry_budget || self.bytes() > self.byte_budget {
            displaced.push(self.entries.remove(0));
        }
        (false, displaced)
    }
}

/// An entry that no other put made.
fn entry(key: u64, len: usize, step: usize) -> Entry {
    let bytes: Vec<u8> = (0..len).map(|i| (i + step) as u8 ^ key as u8).collect();
    Entry::from(bytes)
}

fn check_gauges(store: &MemoryStore, model: &Model) {
    assert_eq!(store.len(), model.entries.len());
    assert_eq!(store.cached_bytes(), model.bytes());
    assert_eq!(store.is_empty(), model.entries.is_empty());
}

fn run_against_the_model(ops: &[Op], entry_budget: u64, byte_budget: u64) {
    let store = store(entry_budget, byte_budget, 1);
    let mut model = Model {
        entries: Vec::new(),
        entry_budget,
        byte_budget,
    };
    for (step, op) in ops.iter().enumerate() {
        match op {
            Op::Get(n) => assert_eq!(store.get(&key(*n)).unwrap(), model.refresh(*n)),
            Op::Contains(n) => {
                assert_eq!(
                    store.contains(&key(*n)).unwrap(),
                    model.position(*n).is_some()
                );
            }
            Op::Put(n, len) => {
                let outcome = store.put(&key(*n), entry(*n, *len, step)).unwrap();
                let (refused, displaced) = model.put(*n, entry(*n, *len, step));
                assert_eq!(outcome.is_rejected(), refused);
                let handed: Vec<_> = outcome
                    .displaced
                    .into_iter()
                    .map(|d| (d.key, d.entry))
                    .collect();
                let expected: Vec<_> = displaced.into_iter().map(|(n, e)| (key(n), e)).collect();
                assert_eq!(handed, expected);
            }
            Op::Remove(n) => assert_eq!(store.remove(&key(*n)).unwrap(), model.remove(*n)),
            Op::Touch(keys) => {
                store
                    .touch(&keys.iter().map(|n| key(*n)).collect::<Vec<_>>())
                    .unwrap();
                for n in keys {
                    model.refresh(*n);
                }
            }
            Op::Clear => {
                store.clear().unwrap();
                model.entries.clear();
            }
        }
        check_gauges(&store, &model);
    }
}

/// With many shards the victim is not foreseen; everything else is.
fn run_with_many_shards(ops: &[Op], entry_budget: u64, byte_budget: u64, shards: usize) {
    let store = store(entry_budget, byte_budget, shards);
    let mut kept: HashMap<Fingerprint, Entry> = HashMap::new();
    for (step, op) in ops.iter().enumerate() {
        match op {
            Op::Get(n) => {
                assert_eq!(store.get(&key(*n)).unwrap().as_ref(), kept.get(&key(*n)));
            }
            Op::Contains(n) => {
                assert_eq!(
                    store.contains(&key(*n)).unwrap(),
                    kept.contains_key(&key(*n))
                );
            }
            Op::Put(n, len) => {
                let outcome = store.put(&key(*n), entry(*n, *len, step)).unwrap();
                let old = kept.insert(key(*n), entry(*n, *len, step));
                for displaced in &outcome.displaced {
                    let was = kept.remove(&displaced.key);
                    assert_eq!(
                        was.as_ref(),
                        Some(&displaced.entry),
                        "handed back what was kept"
                    );
                }
                if entry_budget > 0 && *len as u64 <= byte_budget && byte_budget > 0 {
                    assert!(kept.contains_key(&key(*n)), "displaced by its own put");
                }
                if old.is_none() {
                    assert_ne!(outcome.status, PutStatus::AlreadyStored);
                }
            }
            Op::Remove(n) => {
                assert_eq!(
                    store.remove(&key(*n)).unwrap(),
                    kept.remove(&key(*n)).is_some()
                );
            }
            Op::Touch(keys) => {
                store
                    .touch(&keys.iter().map(|n| key(*n)).collect::<Vec<_>>())
                    .unwrap();
            }
            Op::Clear => {
                store.clear().unwrap();
                kept.clear();
            }
        }
        let bytes: usize = kept.values().map(|e| e.artifact.len()).sum();
        assert_eq!(
            (store.len(), store.cached_bytes()),
            (kept.len(), bytes as u64)
        );
        assert!(store.len() as u64 <= entry_budget && store.cached_bytes() <= byte_budget);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_shard_does_exactly_what_the_model_does(
        ops in ops(),
        entry_budget in 0..12u64,
        byte_budget in 0..200u64,
    ) {
        run_against_the_model(&ops, entry_budget, byte_budget);
    }

    #[test]
    fn many_shards_keep_the_budgets_and_lose_nothing(
        ops in ops(),
        entry_budget in 0..12u64,
        byte_budget in 0..200u64,
        shards in 2..40usize,
    ) {
        run_with_many_shards(&ops, entry_budget, byte_budget, shards);
    }
}
