//! How old an entry may be: in each tier, through the cache, and in eviction.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{
    Cache, DiskStore, Entry, EvictionReason, Fingerprint, MemoryStore, NamespaceId, Store,
    StoreExt, WritePolicy,
};
use std::path::Path;
use std::time::{Duration, SystemTime};
use support::{bytes, fast_dir, get, key, open, put, wait};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// An entry that was put so many hours ago.
fn aged(n: u64, hours: u32) -> Entry {
    Entry::from(bytes(n, 100)).with_put_at(SystemTime::now() - HOUR * hours)
}

fn put_aged(store: &dyn Store, n: u64, hours: u32) {
    let _ = store.put(&key(n), aged(n, hours)).unwrap();
}

fn limited(dir: &Path, age: Duration) -> DiskStore {
    wait(DiskStore::builder().max_age(age).open(dir).unwrap())
}

/// How far apart two moments are.
fn apart(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b)
        .or_else(|_| b.duration_since(a))
        .unwrap()
}

#[test]
fn an_entry_older_than_allowed_is_a_miss_and_contains_agrees() {
    let dir = fast_dir();
    let store = limited(dir.path(), HOUR);
    put_aged(&store, 1, 2);
    put_aged(&store, 2, 0);
    for (n, is_there) in [(1, false), (2, true)] {
        assert_eq!(get(&store, n).is_some(), is_there);
        assert_eq!(store.contains(&key(n)).unwrap(), is_there);
    }
    let all = open(dir.path());
    assert_eq!(get(&all, 1), Some(bytes(1, 100)), "who allows more has it");
}

#[test]
fn putting_the_very_bytes_again_makes_an_old_entry_young() {
    for len in [100, 300_000] {
        let dir = fast_dir();
        let store = limited(dir.path(), HOUR);
        let old = Entry::from(bytes(1, len)).with_put_at(SystemTime::now() - 2 * HOUR);
        let _ = store.put(&key(1), old).unwrap();
        assert_eq!(get(&store, 1), None);
        put(&store, 1, bytes(1, len));
        assert_eq!(get(&store, 1), Some(bytes(1, len)));
        store.flush().unwrap();
        assert_eq!(get(&store, 1), Some(bytes(1, len)));
        assert_eq!(store.stats().entries, 1);
    }
}

#[test]
fn an_entry_keeps_its_age_from_store_to_store_to_the_second() {
    let (here, there) = (fast_dir(), fast_dir());
    let (from, to) = (open(here.path()), open(there.path()));
    let at = SystemTime::now() - 5 * HOUR;
    let _ = from
        .put(&key(1), Entry::from(bytes(1, 10)).with_put_at(at))
        .unwrap();
    let carried = from.get(&key(1)).unwrap().unwrap();
    let _ = to.put(&key(1), carried).unwrap();
    let found = to.get(&key(1)).unwrap().unwrap().put_at().unwrap();
    assert!(
        apart(found, at) <= Duration::from_secs(2),
        "{found:?} {at:?}"
    );
    assert_eq!(to.info(&key(1)).unwrap().unwrap().put_at, found);
}

#[test]
fn when_an_entry_was_put_is_no_part_of_equality() {
    assert_eq!(aged(1, 5), aged(1, 6));
    assert_eq!(aged(1, 5), Entry::from(bytes(1, 100)));
}

#[test]
fn a_demotion_long_after_the_put_makes_nothing_younger() {
    let dir = fast_dir();
    let cache = Cache::builder()
        .write_policy(WritePolicy::OnEviction)
        .open(dir.path())
        .unwrap();
    cache.put_entry(&key(1), aged(1, 3));
    cache.flush().unwrap();
    let in_memory = cache.get_entry(&key(1)).unwrap().put_at().unwrap();
    let below = cache.disk().unwrap().info(&key(1)).unwrap().unwrap().put_at;
    assert!(apart(in_memory, below) <= Duration::from_secs(1));
    cache.close().unwrap();

    let cache = Cache::builder().max_age(2 * HOUR).open(dir.path()).unwrap();
    assert!(cache.get(&key(1)).is_none());
    assert_eq!(cache.stats().memory.entries, 0);
}

#[test]
fn what_is_too_old_is_built_anew_whichever_tier_has_it() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let dir = fast_dir();
        let open = || {
            let cache = Cache::builder().max_age(HOUR).write_policy(policy);
            cache.open(dir.path()).unwrap()
        };
        let cache = open();
        cache.put_entry(&key(1), aged(1, 2));
        assert!(!cache.contains(&key(1)));
        assert!(cache.get(&key(1)).is_none());
        let build = || Ok::<_, ()>(bytes(9, 50));
        let built = cache.get_or_insert_with(&key(1), build).unwrap();
        assert_eq!(built, bytes(9, 50)[..]);
        assert_eq!(cache.get(&key(1)).unwrap(), bytes(9, 50)[..]);
        cache.close().unwrap();
        let cache = open();
        assert_eq!(cache.get(&key(1)).unwrap(), bytes(9, 50)[..]);
    }
}

#[test]
fn a_copy_in_memory_is_too_old_when_the_one_below_is() {
    let dir = fast_dir();
    let limit = Duration::from_secs(2);
    let cache = Cache::builder().max_age(limit).open(dir.path()).unwrap();
    cache.put(&key(1), bytes(1, 10));
    cache.flush().unwrap();
    while cache.contains(&key(1)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let disk = cache.disk().unwrap();
    // Kept to the second below.
    let mut looks = 0;
    while disk.contains(&key(1)).unwrap() && looks < 60 {
        std::thread::sleep(Duration::from_millis(20));
        looks += 1;
    }
    assert!(!disk.contains(&key(1)).unwrap());
    assert!(cache.get(&key(1)).is_none());
    assert_eq!(cache.stats().memory.entries, 0, "it left memory");
}

#[test]
fn an_entry_from_the_future_has_the_age_zero() {
    let dir = fast_dir();
    let years = HOUR * 24 * 365 * 10;
    let entry = Entry::from(bytes(1, 10)).with_put_at(SystemTime::now() + years);
    assert!(!entry.is_older_than(Duration::ZERO));
    let memory = MemoryStore::builder().max_age(HOUR).build().unwrap();
    let disk = limited(dir.path(), HOUR);
    for store in [&memory as &dyn Store, &disk] {
        let _ = store.put(&key(1), entry.clone()).unwrap();
        assert!(store.contains(&key(1)).unwrap());
        assert_eq!(get(store, 1), Some(bytes(1, 10)));
    }
}

#[test]
fn an_entry_of_unknown_age_is_never_too_old_in_memory() {
    let memory = MemoryStore::builder()
        .max_age(Duration::ZERO)
        .build()
        .unwrap();
    memory.put_bytes(&key(1), [1]).unwrap();
    assert!(memory.get(&key(1)).unwrap().is_some());
    let _ = memory.put(&key(2), aged(2, 1)).unwrap();
    assert!(memory.get(&key(2)).unwrap().is_none());
    assert_eq!(memory.len(), 1);
    assert_eq!(memory.stats().evictions, 1);
}

#[test]
fn what_is_too_old_goes_first_whenever_it_was_used() {
    let dir = fast_dir();
    let store = wait(
        DiskStore::builder()
            .entry_budget(20)
            .max_age(HOUR)
            .open(dir.path())
            .unwrap(),
    );
    for n in 0..15 {
        put_aged(&store, n, 0);
    }
    for n in 15..20 {
        put_aged(&store, n, 2);
    }
    // Used last, by who allows them to be older.
    let others = open(dir.path());
    for n in 15..20 {
        assert!(get(&others, n).is_some());
    }
    drop(others);
    let outcome = store.put(&key(20), bytes(20, 100).into()).unwrap();
    let reasons: Vec<_> = outcome
        .evictions
        .iter()
        .map(|e| (e.reason, e.entries))
        .collect();
    // Down to nine tenths of twenty.
    assert_eq!(reasons, [(EvictionReason::Expired, 3)]);
    for n in 0..15 {
        assert_eq!(get(&store, n), Some(bytes(n, 100)), "{n}");
    }
    put_until_evicted(&store);
    assert!((15..20).all(|n| store.info(&key(n)).unwrap().is_none()));
}

/// Puts fresh entries until something goes that was not too old.
fn put_until_evicted(store: &DiskStore) {
    for n in 100..200 {
        let outcome = store.put(&key(n), bytes(n, 100).into()).unwrap();
        if outcome
            .evictions
            .iter()
            .any(|e| e.reason == EvictionReason::EntryLimit)
        {
            return;
        }
    }
    panic!("nothing was evicted");
}

#[test]
fn entries_of_idle_namespaces_go_before_older_ones_of_busy_namespaces() {
    let dir = fast_dir();
    let idle = Duration::from_secs(2);
    let store = wait(
        DiskStore::builder()
            .entry_budget(10)
            .idle_namespaces_first(idle)
            .open(dir.path())
            .unwrap(),
    );
    let in_namespace = |n: u64, name: &str| {
        let mut entry = Entry::from(bytes(n, 100));
        entry.namespace = NamespaceId::of(name);
        store.put(&key(n), entry).unwrap()
    };
    for n in 0..5 {
        let _ = in_namespace(n, "busy");
    }
    for n in 5..10 {
        let _ = in_namespace(n, "idle");
    }
    std::thread::sleep(idle + idle / 2);
    let outcome = in_namespace(10, "busy");
    assert_eq!(outcome.evictions[0].reason, EvictionReason::EntryLimit);
    let left = |range: std::ops::Range<u64>| {
        let found = range.filter(|n| store.contains(&key(*n)).unwrap());
        found.count()
    };
    assert_eq!((left(0..5), left(5..10), left(10..11)), (5, 3, 1));
}

#[test]
fn a_clock_years_off_breaks_nothing() {
    // What such a clock leaves behind: puts decades ago and decades ahead, in one directory.
    let dir = fast_dir();
    let store = limited(dir.path(), HOUR);
    let day = HOUR * 24;
    for (n, at) in [
        (1, SystemTime::UNIX_EPOCH),
        (2, SystemTime::UNIX_EPOCH + day * 20_000 * 2),
        (3, SystemTime::now()),
    ] {
        let entry = Entry::from(bytes(n, 100)).with_put_at(at);
        let _ = store.put(&key(n), entry).unwrap();
    }
    assert_eq!(
        [1, 2, 3].map(|n| get(&store, n).is_some()),
        [false, true, true]
    );
    assert_eq!(store.entries().flatten().count(), 3);
    store.flush().unwrap();
    let key: Fingerprint = key(1);
    assert!(store.remove(&key).unwrap());
}

/// What memory drops because it is too old, it does not hand on: it must not stay unwritten, and in
/// memory beyond every budget, until somebody flushes.
#[test]
fn what_grew_too_old_before_it_was_written_does_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::builder()
        .memory_budget(4 << 20)
        .queue_bytes(4 << 20)
        .write_policy(WritePolicy::OnEviction)
        .max_age(Duration::from_millis(1))
        .open(dir.path())
        .unwrap();
    for n in 0..32 {
        let key = Fingerprint::from_bytes([n; 32]);
        cache.put(&key, vec![n; 1 << 20]);
        std::thread::sleep(Duration::from_millis(2));
        assert!(cache.get(&key).is_none());
    }
    let start = std::time::Instant::now();
    while cache.durability().unwritten_bytes > 8 << 20 {
        assert!(start.elapsed().as_secs() < 5, "{:?}", cache.durability());
        std::thread::sleep(Duration::from_millis(5));
    }
}
