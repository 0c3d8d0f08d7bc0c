//! The life-time counters of a directory, over handles and processes.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Cache, DirectoryStats, DiskStore, Entry, Store};
use std::path::Path;
use std::time::{Duration, SystemTime};
use support::{bytes, child, fast_dir, get, join, key, open, put, role};

fn stats(dir: &Path) -> DirectoryStats {
    open(dir).directory_stats().unwrap()
}

#[test]
fn what_every_handle_did_adds_up() {
    let dir = fast_dir();
    for round in 0..3 {
        let store = open(dir.path());
        for n in 0..10 {
            put(&store, round * 10 + n, bytes(round * 10 + n, 100));
        }
        put(&store, 0, bytes(0, 100)); // adopted in later rounds, and in the first
        for n in 0..4 {
            get(&store, n);
        }
        assert_eq!(get(&store, 1000), None);
    }
    let all = stats(dir.path());
    assert_eq!((all.lookups, all.hits), (15, 12));
    assert_eq!((all.puts, all.entries), (30, 30));
    assert_eq!(all.deduplicated_bytes, 300);
    assert_eq!(all.since, None);
}

#[test]
fn what_memory_served_and_builders_took_is_told_by_the_cache() {
    let dir = fast_dir();
    for _ in 0..2 {
        let cache = Cache::builder().open(dir.path()).unwrap();
        let mut entry = Entry::from(bytes(1, 100));
        entry.build_cost = Duration::from_secs(3);
        cache.put_entry(&key(1), entry);
        for _ in 0..100 {
            cache.get(&key(1)).unwrap();
        }
        let build = || Ok::<_, ()>(bytes(2, 50));
        cache.get_or_insert_with(&key(2), build).unwrap();
        cache.close().unwrap();
    }
    let all = stats(dir.path());
    // The second cache found what the first built: on disk, and handed it up.
    assert_eq!((all.hits_above, all.hits, all.promotions), (200, 1, 1));
    assert_eq!(all.builds, 1);
    assert!(all.build_time > Duration::ZERO);
    assert!(all.build_time_saved >= Duration::from_secs(600));
}

#[test]
fn a_hit_in_memory_writes_nothing() {
    let dir = fast_dir();
    let cache = Cache::builder().open(dir.path()).unwrap();
    cache.put(&key(1), bytes(1, 100));
    cache.flush().unwrap();
    let before = stats(dir.path());
    for _ in 0..10_000 {
        cache.get(&key(1)).unwrap();
    }
    assert_eq!(stats(dir.path()).hits_above, before.hits_above);
    cache.flush().unwrap();
    assert_eq!(stats(dir.path()).hits_above, before.hits_above + 10_000);
}

#[test]
fn counters_are_zeroed_and_say_since_when() {
    let dir = fast_dir();
    let store = DiskStore::builder()
        .entry_budget(5)
        .open(dir.path())
        .unwrap();
    let store = support::wait(store);
    for n in 0..20 {
        put(&store, n, bytes(n, 100));
        get(&store, n);
    }
    store.flush().unwrap();
    let full = store.directory_stats().unwrap();
    assert!(full.evictions >= 15 && full.evicted_bytes == full.evictions * 100);
    get(&store, 19);
    let before = SystemTime::now();
    store.zero_directory_stats().unwrap();
    let zero = store.directory_stats().unwrap();
    assert!(zero.since.unwrap() >= before);
    assert_eq!((zero.lookups, zero.hits, zero.puts), (0, 0, 0));
    assert_eq!((zero.evictions, zero.evicted_bytes), (0, 0));
    assert_eq!(
        (zero.entries, zero.cached_bytes),
        (full.entries, full.cached_bytes)
    );
    get(&store, 19);
    store.flush().unwrap();
    let after = store.directory_stats().unwrap();
    assert_eq!((after.lookups, after.hits), (1, 1));
}

#[test]
fn counters_survive_a_growing_index_and_a_clear() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..3000 {
        put(&store, n, bytes(n, 10));
    }
    get(&store, 1);
    store.flush().unwrap();
    assert_eq!(store.directory_stats().unwrap().puts, 3000);
    store.clear().unwrap();
    let after = store.directory_stats().unwrap();
    assert_eq!((after.puts, after.hits, after.entries), (3000, 1, 0));
}

#[test]
fn processes_add_to_one_count() {
    const NAME: &str = "processes_add_to_one_count";
    if let Some((_, dir)) = role() {
        let store = open(&dir);
        for n in 0..300 {
            assert!(get(&store, n % 3).is_some());
        }
        return;
    }
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..3 {
        put(&store, n, bytes(n, 10));
    }
    let children: Vec<_> = (0..3).map(|_| child(NAME, "get", dir.path())).collect();
    children.into_iter().for_each(join);
    let all = store.directory_stats().unwrap();
    assert_eq!((all.lookups, all.hits), (900, 900));
}
