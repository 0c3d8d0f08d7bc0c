//! A directory whose files are moved by hand while it is in use.

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
