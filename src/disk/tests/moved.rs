//! A directory whose files are moved by hand while it is in use.

use super::open;
use crate::disk::DiskStore;
use crate::store::{Store, StoreExt};
use crate::{ErrorKind, Fingerprint};
use std::fs;
use std::time::Duration;

const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);

/// The index that a handle saw last may be at its path and the directory that the handle has
/// locked may not: then two handles would hold two locks and write the same files.
#[test]
fn files_moved_to_another_directory_take_no_lock_with_them() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let store = DiskStore::builder().lock_wait(Duration::from_millis(300));
        let store = store.open(dir.path()).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        store
    };
    let first = open();
    first.put_bytes(&KEY, [1; 100]).unwrap();
    let (base, aside) = (dir.path().join("v1"), dir.path().join("aside"));
    fs::rename(&base, &aside).unwrap();
    fs::create_dir(&base).unwrap();
    for name in fs::read_dir(&aside).unwrap() {
        let name = name.unwrap().file_name();
        fs::rename(aside.join(&name), base.join(&name)).unwrap();
    }
    let second = open();
    let held = second.inner.locked().unwrap();
    let refused = first.put_bytes(&KEY, [2; 100]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Timeout);
    drop(held);
    first.put_bytes(&KEY, [3; 100]).unwrap();
    assert_eq!(
        second.get_artifact(&KEY).unwrap().unwrap().as_slice(),
        [3; 100]
    );
}

/// The epoch of an index says that packs went; one that is begun anew counts from zero again.
#[test]
fn a_pack_that_was_cleared_away_is_not_written_to_because_the_index_was_lost_since() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let store = DiskStore::open(dir.path()).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        store
    };
    let (first, second) = (open(), open());
    // Each has a pack of its own.
    first.put_bytes(&KEY, [1; 100]).unwrap();
    let other = Fingerprint::from_bytes([2; 32]);
    second.put_bytes(&other, [2; 100]).unwrap();
    first.clear().unwrap();
    first.put_bytes(&KEY, [3; 100]).unwrap();
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    drop(first.inner.locked().unwrap());
    while first.is_rebuilding() {
        first.inner.rebuild_or_wait().unwrap();
    }
    let place = first
        .inner
        .bindings(&first.inner.index(), &KEY)
        .unwrap()
        .live[0]
        .slot
        .place;
    drop(first);
    drop(second.inner.locked().unwrap());
    assert!(second.inner.empty_pack(place.pack()).unwrap());
    let found = second.get_artifact(&KEY).unwrap().unwrap();
    assert_eq!(found.as_slice(), [3; 100]);
    drop(second);
    assert!(open().get_artifact(&KEY).unwrap().is_some());
}

/// As when an older copy of the directory is put over it while processes have it open.
#[test]
fn a_pack_that_was_exchanged_costs_nobody_what_was_put_into_the_new_file_since() {
    let dir = tempfile::tempdir().unwrap();
    let one = open(dir.path());
    let key = |n: u8| Fingerprint::from_bytes([n; 32]);
    one.put_bytes(&key(1), [1; 100]).unwrap();
    one.flush().unwrap();
    let place = {
        let inner = &one.inner;
        let found = inner.bindings(&inner.index(), &key(1)).unwrap();
        found.live[0].slot.place
    };
    let pack = one.inner.files.layout.pack(place.pack());
    let copy = dir.path().join("copy");
    std::fs::copy(&pack, &copy).unwrap();
    // Not in the copy, and not flushed.
    one.put_bytes(&key(2), [2; 100]).unwrap();
    std::fs::rename(&copy, &pack).unwrap();
    let two = open(dir.path());
    for n in 3..6 {
        two.put_bytes(&key(n), [n; 100]).unwrap();
    }
    two.flush().unwrap();
    let has = |n| two.get(&key(n)).unwrap().is_some();
    let found = two.inner.bindings(&two.inner.index(), &key(3)).unwrap();
    assert_eq!(
        found.live[0].slot.place.pack(),
        place.pack(),
        "it went elsewhere"
    );
    // What is lost with the old file it may say; what is in the new one is not its to lose.
    one.flush().ok();
    assert!((3..6).all(has) && has(1));
    one.inner.empty_pack(place.pack()).ok();
    one.put_bytes(&key(7), [7; 100]).unwrap();
    one.flush().ok();
    assert!((3..6).all(has) && has(1) && has(7));
    drop((one, two));
    let store = open(dir.path());
    for n in [1, 3, 4, 5, 7] {
        assert!(store.get(&key(n)).unwrap().is_some(), "{n}");
    }
}
