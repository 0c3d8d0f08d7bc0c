//! The least recently used entry of a shard goes first, exactly.

use super::{displaced, has, key, put, store};
use keepwarm::{MemoryStore, Store};
use std::time::{Duration, Instant};

/// One shard with the entries 0, 1, 2 and 3, put in this order, and room for no more.
fn four() -> MemoryStore {
    let store = store(4, u64::MAX, 1);
    for n in 0..4 {
        let _ = put(&store, n, 1);
    }
    store
}

/// The order in which `store`'s entries are displaced.
fn order(store: &MemoryStore) -> Vec<u64> {
    let outcomes = (0..store.len() as u64).map(|n| put(store, 100 + n, 1));
    let keys = outcomes.flat_map(|outcome| displaced(&outcome));
    keys.map(|key| u64::from(key.as_bytes()[31])).collect()
}

#[test]
fn the_least_recently_used_entry_of_a_shard_goes_first() {
    assert_eq!(order(&four()), [0, 1, 2, 3]);
}

#[test]
fn a_get_refreshes() {
    let store = four();
    store.get(&key(1)).unwrap();
    store.get(&key(0)).unwrap();
    assert_eq!(order(&store), [2, 3, 1, 0]);
}

#[test]
fn a_replacement_refreshes() {
    let store = four();
    let _ = put(&store, 0, 2);
    assert_eq!(order(&store), [1, 2, 3, 0]);
}

#[test]
fn contains_does_not_refresh() {
    let store = four();
    assert!(has(&store, 0) && !has(&store, 50));
    assert_eq!(order(&store), [0, 1, 2, 3]);
}

#[test]
fn a_touch_refreshes_what_is_there_and_skips_the_rest() {
    let store = four();
    store.touch(&[key(2), key(77), key(0)]).unwrap();
    assert_eq!(order(&store), [1, 3, 2, 0]);
}

#[test]
fn the_order_survives_thousands_of_hits() {
    let store = four();
    for n in 0..5000 {
        store.get(&key(n * 7 % 4)).unwrap();
    }
    for n in [3, 1, 0, 2] {
        store.get(&key(n)).unwrap();
    }
    assert_eq!(order(&store), [3, 1, 0, 2]);
}

#[test]
fn an_entry_that_was_just_hit_outlives_older_ones_in_other_shards() {
    // Between shards what is less than an eighth younger may go first: where the machine was busy with
    // something else meanwhile, that is everything, and nothing is told.
    for gap in [20, 200, 2000].map(Duration::from_millis) {
        // With eight shards every eviction looks at all of them.
        let store = store(40, u64::MAX, 8);
        for n in 0..39 {
            let _ = put(&store, n, 1);
        }
        std::thread::sleep(gap);
        let begun = Instant::now();
        // Only puts are sure to look at the clock.
        let _ = put(&store, 39, 1);
        for n in 0..20 {
            store.get(&key(n)).unwrap();
        }
        for n in 100..119 {
            let _ = put(&store, n, 1);
        }
        if begun.elapsed() < gap * 3 {
            assert!((0..20).all(|n| has(&store, n)) && has(&store, 39));
            assert!((20..39).all(|n| !has(&store, n)));
            return;
        }
    }
    panic!("this machine takes seconds for twenty puts");
}
