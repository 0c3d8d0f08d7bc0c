//! Budgets: global, and right after every operation.

use super::{displaced, has, key, put, store};
use keepwarm::{Entry, ErrorKind, MemoryStore, PutStatus, Rejection, Store};

/// Puts of all sizes under keys that come again, with a check after each.
fn fill(entry_budget: u64, byte_budget: u64, shards: usize) -> MemoryStore {
    let store = store(entry_budget, byte_budget, shards);
    for n in 0..500u64 {
        let len = usize::try_from(n * 37 % 200).unwrap();
        let outcome = put(&store, n % 130, len);
        assert_eq!(outcome.is_rejected(), len as u64 > byte_budget);
        assert!(
            store.len() as u64 <= entry_budget,
            "{} entries",
            store.len()
        );
        assert!(
            store.cached_bytes() <= byte_budget,
            "{} bytes",
            store.cached_bytes()
        );
        if n % 7 == 0 {
            store.get(&key(n % 50)).unwrap();
            store.remove(&key(n % 90)).unwrap();
        }
    }
    store
}

#[test]
fn the_entry_budget_holds_after_every_operation_over_all_shards() {
    for shards in [1, 4, 64] {
        assert_eq!(fill(20, u64::MAX, shards).len(), 20);
        assert_eq!(fill(1, u64::MAX, shards).len(), 1);
    }
}

#[test]
fn the_byte_budget_holds_after_every_operation_over_all_shards() {
    for shards in [1, 4, 64] {
        // No artifact is larger than 199 bytes, so no more than that is left unused.
        assert!(fill(u64::MAX, 1000, shards).cached_bytes() > 800);
        let _ = fill(u64::MAX, 100, shards);
    }
}

#[test]
fn both_budgets_hold_together() {
    for shards in [1, 4, 64] {
        let _ = fill(15, 1000, shards);
        let _ = fill(5, 1000, shards);
    }
}

#[test]
fn an_artifact_as_large_as_the_whole_budget_is_never_refused_because_of_sharding() {
    for shards in [1, 4, 64, 1024] {
        let store = store(u64::MAX, 1000, shards);
        for n in 0..100 {
            let _ = put(&store, n, 10);
        }
        assert_eq!(store.len(), 100);
        let outcome = put(&store, 1000, 1000);
        assert_eq!(outcome.status, PutStatus::Stored);
        assert_eq!(outcome.displaced.len(), 100);
        assert_eq!((store.len(), store.cached_bytes()), (1, 1000));
        assert!(has(&store, 1000));

        // And it goes as a whole for the smallest.
        assert_eq!(displaced(&put(&store, 1001, 1)), [key(1000)]);
        assert_eq!((store.len(), store.cached_bytes()), (1, 1));
    }
}

#[test]
fn an_entry_is_never_displaced_by_its_own_put() {
    for shards in [1, 2, 16] {
        let store = store(3, 100, shards);
        for n in 0..200 {
            let outcome = put(&store, n % 11, 1 + (n as usize * 13) % 100);
            assert!(!displaced(&outcome).contains(&key(n % 11)));
            assert!(has(&store, n % 11));
        }
    }
}

#[test]
fn a_replacement_that_grows_makes_room_for_itself() {
    let store = store(u64::MAX, 100, 16);
    for n in 0..10 {
        let _ = put(&store, n, 10);
    }
    let outcome = put(&store, 3, 100);
    assert_eq!(outcome.displaced.len(), 9);
    assert_eq!((store.len(), store.cached_bytes()), (1, 100));
    assert!(has(&store, 3));
}

#[test]
fn a_zero_budget_accepts_puts_and_keeps_nothing() {
    for (entries, bytes) in [(0, 1000), (10, 0), (0, 0)] {
        let store = store(entries, bytes, 4);
        for len in [0, 5, 5000] {
            let outcome = put(&store, 1, len);
            assert_eq!(outcome.status, PutStatus::Stored);
            assert_eq!(displaced(&outcome), [key(1)]);
            assert_eq!(outcome.displaced[0].entry, Entry::from(vec![1; len]));
            assert!(outcome.evictions.is_empty());
            assert!(store.is_empty() && store.get(&key(1)).unwrap().is_none());
        }
        assert_eq!((store.stats().puts, store.stats().evictions), (3, 0));
    }
}

#[test]
fn a_put_that_is_too_large_is_refused_and_the_older_artifact_is_gone() {
    let store = store(10, 100, 4);
    let _ = put(&store, 1, 60);
    let _ = put(&store, 2, 40);
    let outcome = put(&store, 1, 101);
    assert_eq!(outcome.status, PutStatus::Rejected(Rejection::TooLarge));
    assert_eq!(displaced(&outcome), [key(1)]);
    assert_eq!(outcome.displaced[0].entry, Entry::from(vec![1; 101]));
    assert!(store.get(&key(1)).unwrap().is_none());
    assert!(has(&store, 2));
    assert_eq!((store.len(), store.cached_bytes()), (1, 40));
}

#[test]
fn absurd_settings_are_well_defined() {
    let store = store(u64::MAX, u64::MAX, 1);
    assert_eq!(put(&store, 1, 10).status, PutStatus::Stored);

    for shards in [0, (1 << 16) + 1, usize::MAX] {
        let error = MemoryStore::builder().shards(shards).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(&shards.to_string()), "{error}");
    }
    for shards in [1, 3, 1000] {
        assert!(MemoryStore::builder().shards(shards).build().is_ok());
    }
}
