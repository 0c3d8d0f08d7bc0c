//! What a directory tells of its entries and namespaces.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{
    Cache, Digest, DiskStore, Entry, EntryInfo, ErrorKind, Fingerprint, NamespaceId, Store,
    StoredAs,
};
use std::collections::HashSet;
use std::time::{Duration, SystemTime};
use support::{bytes, fast_dir, files_in, get, key, open, put};

fn listed(store: &DiskStore) -> Vec<EntryInfo> {
    let mut all: Vec<_> = store.entries().map(Result::unwrap).collect();
    all.sort_by_key(|info| info.key);
    all
}

#[test]
fn every_fact_of_an_entry_is_told() {
    let dir = fast_dir();
    let store = open(dir.path());
    let before = SystemTime::now();
    let mut entry = Entry::from(bytes(1, 1000));
    entry.namespace = NamespaceId::of("driver");
    entry.build_cost = Duration::from_millis(1234);
    let _ = store.put(&key(1), entry).unwrap();
    put(&store, 2, bytes(1, 1000));
    put(&store, 3, bytes(3, 300_000));
    put(&store, 4, bytes(3, 300_000));

    let info = store.info(&key(1)).unwrap().unwrap();
    assert_eq!(info.key, key(1));
    assert_eq!(info.digest, Digest::of(&bytes(1, 1000)));
    assert_eq!((info.length, info.stored_as), (1000, StoredAs::Inline));
    assert_eq!(info.namespace, NamespaceId::of("driver"));
    assert_eq!(info.build_cost, Duration::from_millis(1234));
    assert!(info.put_at >= before && info.last_used >= info.put_at);
    assert_eq!(info.disk_bytes, (1000 + 128_u64).next_multiple_of(64));
    let told = |n| {
        let info = store.info(&key(n)).unwrap().unwrap();
        (info.length, info.stored_as, info.disk_bytes)
    };
    assert_eq!(told(2), (1000, StoredAs::Shared, 128));
    let object = 300_000_u64.next_multiple_of(4096) + 128;
    assert_eq!(told(3), (300_000, StoredAs::Object, object));
    assert_eq!(told(4), told(3), "each names the one file");

    let all = listed(&store);
    assert_eq!(all.len(), 4);
    for info in all {
        assert_eq!(store.info(&info.key).unwrap(), Some(info));
    }
    assert_eq!(store.info(&key(9)).unwrap(), None);
}

#[test]
fn looking_is_no_use_and_a_get_is() {
    let dir = fast_dir();
    let store = open(dir.path());
    put(&store, 1, bytes(1, 10));
    let before = store.info(&key(1)).unwrap().unwrap();
    assert_eq!(listed(&store), std::slice::from_ref(&before));
    store.flush().unwrap();
    assert_eq!(store.info(&key(1)).unwrap().unwrap(), before);
    get(&store, 1).unwrap();
    store.flush().unwrap();
    let after = store.info(&key(1)).unwrap().unwrap();
    assert!(after.last_used > before.last_used);
    assert_eq!(after.put_at, before.put_at);
    assert_eq!(store.stats().lookups, 1);
}

#[test]
fn a_key_that_was_rebound_is_listed_once_as_what_it_is_now() {
    let dir = fast_dir();
    let store = open(dir.path());
    for version in 1..=2 {
        for n in 0..200 {
            put(&store, n, bytes(n + version * 1000, 50));
        }
    }
    let all = listed(&store);
    assert_eq!(all.len(), 200);
    let now: HashSet<_> = (0..200).map(|n| Digest::of(&bytes(n + 2000, 50))).collect();
    assert!(all.iter().all(|info| now.contains(&info.digest)));
}

#[test]
fn removed_evicted_and_damaged_entries_are_not_listed() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..20 {
        put(&store, n, bytes(n, 100));
    }
    store.remove(&key(3)).unwrap();
    store.flush().unwrap();
    let mut left: Vec<_> = (0..20).filter(|n| *n != 3).map(key).collect();
    left.sort();
    let keys = |store: &DiskStore| listed(store).iter().map(|i| i.key).collect::<Vec<_>>();
    assert_eq!(keys(&store), left);
    drop(store);
    // Envelopes with a flipped bit are nobody's.
    let pack = files_in(dir.path(), "packs").remove(0);
    let mut damaged = std::fs::read(&pack).unwrap();
    let at = damaged
        .windows(32)
        .position(|w| w == key(7).as_bytes())
        .unwrap();
    damaged[at] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, damaged).unwrap();
    left.retain(|k| *k != key(7));
    assert_eq!(keys(&open(dir.path())), left);
}

#[test]
fn keys_are_found_by_any_prefix_of_their_digits() {
    let dir = fast_dir();
    let store = open(dir.path());
    let number = |n: u16| {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        Fingerprint::from_bytes(bytes)
    };
    for n in 0..=0x1ff {
        let _ = store.put(&number(n), vec![1].into()).unwrap();
    }
    let count = |prefix: &str| store.entries().with_prefix(prefix).unwrap().count();
    assert_eq!(
        (count(""), count("0"), count("01"), count("1")),
        (512, 512, 256, 0)
    );
    assert_eq!((count("01F"), count("01f"), count("01ff")), (16, 16, 1));
    let whole = number(0x123).to_string();
    let found: Vec<_> = store.entries().with_prefix(&whole).unwrap().collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].as_ref().unwrap().key, number(0x123));
    let long = "0".repeat(65);
    for wrong in ["x", "0g", "é", long.as_str()] {
        let error = store.entries().with_prefix(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}

#[test]
fn namespaces_are_summed_up_by_name() {
    let dir = fast_dir();
    let cache = Cache::builder().open(dir.path()).unwrap();
    for (name, entries) in [("driver 1", 3), ("driver 2", 5)] {
        for n in 0..entries {
            let mut entry = Entry::from(bytes(n, 100));
            entry.build_cost = Duration::from_secs(2);
            cache.namespace(name).put_entry(&key(n), entry);
        }
    }
    cache.put(&key(1), bytes(1, 7));
    cache.flush().unwrap();
    let disk = cache.disk().unwrap();
    let all = disk.namespaces().unwrap();
    let told: HashSet<_> = all
        .iter()
        .map(|n| {
            (
                n.name.as_deref(),
                n.entries,
                n.bytes,
                n.build_cost.as_secs(),
            )
        })
        .collect();
    let expected = [
        (Some("driver 1"), 3, 300, 6),
        (Some("driver 2"), 5, 500, 10),
        (None, 1, 7, 0),
    ];
    assert_eq!(told, HashSet::from(expected));
    assert!(all.is_sorted_by_key(|n| n.id));
    for namespace in &all {
        assert!(namespace.oldest_put <= namespace.newest_put);
        assert!(namespace.last_used >= namespace.newest_put);
        assert_eq!(
            disk.namespace(namespace.id).unwrap().as_ref(),
            Some(namespace)
        );
        let entries = disk.entries().in_namespace(namespace.id);
        assert_eq!(entries.count() as u64, namespace.entries);
    }
    let one = cache.namespace("driver 1").info().unwrap().unwrap();
    assert_eq!((one.entries, one.bytes), (3, 300));
    assert_eq!(cache.namespace("driver 3").info().unwrap(), None);
}

#[test]
fn a_hundred_thousand_entries_are_listed_pruned_and_used() {
    const MANY: u64 = 100_000;
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..MANY {
        put(&store, n, n.to_le_bytes().to_vec());
    }
    let keys: HashSet<_> = store.entries().map(|info| info.unwrap().key).collect();
    assert_eq!(keys.len() as u64, MANY);
    // More uses at once than there is room to remember: none is forgotten.
    let mark = store.mark().unwrap();
    for n in 0..MANY - 1000 {
        assert!(get(&store, n).is_some(), "{n}");
    }
    let rules = keepwarm::Prune::new().unused_since(mark);
    let report = store.prune(&rules).unwrap();
    assert_eq!((report.entries, report.bytes), (1000, 8000));
    assert_eq!(store.entries().count() as u64, MANY - 1000);
    assert_eq!(store.stats().entries, MANY - 1000);
    let report = store
        .prune(&keepwarm::Prune::new().down_to_entries(10))
        .unwrap();
    assert_eq!(report.entries, MANY - 1010);
    let mut left: Vec<_> = listed(&store).iter().map(|info| info.key).collect();
    let mut last: Vec<_> = (MANY - 1010..MANY - 1000).map(key).collect();
    left.sort();
    last.sort();
    assert_eq!(left, last, "those used last");
}

#[test]
fn a_listing_beside_puts_and_removes_tells_no_wrong_fact() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..500 {
        put(&store, n, bytes(n, 64));
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, done) = (&store, &done);
        let writer = scope.spawn(move || {
            for n in 500..4000 {
                put(store, n, bytes(n, 64));
                store.remove(&key(n)).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let digests: HashSet<_> = (0..4000).map(|n| Digest::of(&bytes(n, 64))).collect();
        let always: HashSet<_> = (0..500).map(key).collect();
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let all: Vec<_> = store.entries().map(Result::unwrap).collect();
            let keys: HashSet<_> = all.iter().map(|info| info.key).collect();
            assert!(keys.is_superset(&always));
            assert_eq!(keys.len(), all.len(), "a key is listed once");
            assert!(all.iter().all(|info| digests.contains(&info.digest)));
        }
        writer.join().unwrap();
    });
}
