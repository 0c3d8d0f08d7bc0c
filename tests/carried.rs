//! Entries that come from another directory keep the time of their last use.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Entry, Prune, PutStatus, Store};
use std::time::{Duration, SystemTime};
use support::{bytes, fast_dir, key, open, wait};

#[test]
fn what_is_carried_here_counts_as_used_when_it_was_used_elsewhere() {
    let dir = fast_dir();
    let store = open(dir.path());
    let hour = Duration::from_secs(3600);
    let now = SystemTime::now();
    let used = |n| store.info(&key(n)).unwrap().unwrap().last_used;
    for n in 0..4_u32 {
        let entry = Entry::from(bytes(n.into(), 100)).with_put_at(now - 9 * hour);
        let outcome = store.put_used_at(&key(n.into()), entry, now - (n + 2) * hour);
        assert_eq!(outcome.unwrap().status, PutStatus::Stored);
        assert_eq!(used(n.into()), now - (n + 2) * hour);
    }
    // Equal entries are not put again: the later use stays, and no later one is made up.
    for (at, expected) in [(3 * hour, 2 * hour), (hour, hour), (4 * hour, hour)] {
        let entry = Entry::from(bytes(0, 100));
        let outcome = store.put_used_at(&key(0), entry, now - at).unwrap();
        assert_eq!(outcome.status, PutStatus::AlreadyStored);
        assert_eq!(used(0), now - expected);
    }
    // A use of the future is one of now.
    let mark = store.mark().unwrap();
    store
        .touch_at(&[(key(1), now + hour), (key(77), now)])
        .unwrap();
    let entry = Entry::from(bytes(5, 100));
    let _ = store.put_used_at(&key(5), entry, now + hour).unwrap();
    for n in [1, 5] {
        assert!(used(n) >= now && used(n) <= SystemTime::now(), "{n}");
    }
    // It does not count as used since a mark, and goes before what was used later.
    let rules = Prune::new().unused_since(mark).dry_run(true);
    assert_eq!(store.prune(&rules).unwrap().entries, 3);
    store.prune(&Prune::new().down_to_entries(3)).unwrap();
    let left: Vec<_> = (0..6)
        .filter(|n| store.contains(&key(*n)).unwrap())
        .collect();
    assert_eq!(left, [0, 1, 5]);
    // A get is a use like any other.
    assert!(store.get(&key(0)).unwrap().is_some());
    store.flush().unwrap();
    assert!(used(0) >= now);
}

#[test]
fn what_is_carried_into_a_full_directory_is_the_first_to_go_if_it_is_the_oldest() {
    let dir = fast_dir();
    let builder = DiskStore::builder().entry_budget(10);
    // Nothing is evicted before a new directory is known to be empty.
    let store = wait(builder.open(dir.path()).unwrap());
    for n in 0..10 {
        let _ = store.put(&key(n), bytes(n, 100).into()).unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    let evicted = store
        .put_used_at(&key(10), bytes(10, 100).into(), long_ago)
        .unwrap();
    assert!(!evicted.evictions.is_empty());
    assert!(!store.contains(&key(10)).unwrap());
}
