//! A directory whose files are moved by hand while it is in use.

use crate::disk::DiskStore;
use crate::store::StoreExt;
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
