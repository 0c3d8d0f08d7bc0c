//! Counters; that they saturate is tested beside them, in `src/memory/shard.rs`.

use super::{has, key, put, store};
use keepwarm::{Store, StoreStats, Tier};

#[test]
fn counters_count_lookups_puts_and_evictions_once_each() {
    let store = store(2, 100, 4);
    assert_eq!(store.stats().tier, Tier::Memory);
    assert_eq!(store.stats().hit_rate_ppm(), None);

    let _ = (put(&store, 1, 10), put(&store, 2, 20));
    let _ = (put(&store, 1, 30), put(&store, 1, 101)); // replaced, then refused
    let _ = (put(&store, 3, 40), put(&store, 4, 50)); // displaces 20 bytes
    for n in [3, 4, 5] {
        store.get(&key(n)).unwrap();
    }
    store.flush().unwrap();
    // These count nothing.
    assert!(has(&store, 3) && !has(&store, 5));
    store.touch(&[key(3), key(5)]).unwrap();
    store.remove(&key(5)).unwrap();

    let stats = store.stats();
    let mut expected = StoreStats::default();
    expected.tier = Tier::Memory;
    (expected.lookups, expected.hits, expected.misses) = (3, 2, 1);
    (expected.puts, expected.rejected_puts) = (5, 1);
    (expected.evictions, expected.evicted_bytes) = (2, 50);
    (expected.entries, expected.cached_bytes) = (2, 90);
    expected.flushes = 1;
    assert_eq!(stats, expected);
    assert_eq!(stats.hit_rate_ppm(), Some(666_666));
}

#[test]
fn gauges_fall_and_counters_stay_when_entries_go() {
    let store = store(10, 100, 4);
    let _ = (put(&store, 1, 10), put(&store, 2, 20));
    store.get(&key(1)).unwrap();
    store.remove(&key(1)).unwrap();
    assert_eq!((store.stats().entries, store.stats().cached_bytes), (1, 20));
    store.clear().unwrap();
    let stats = store.stats();
    assert_eq!((stats.entries, stats.cached_bytes), (0, 0));
    assert_eq!((stats.puts, stats.hits, stats.evictions), (2, 1, 0));
}
