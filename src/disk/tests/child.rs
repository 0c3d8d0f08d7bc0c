//! A forked child, which has the packs that its parent claimed.

use super::files;
use crate::disk::DiskStore;
use crate::store::{Store, StoreExt};
use crate::sync::Arc;
use crate::{Entry, ErrorKind, Fingerprint};

const KEY: Fingerprint = Fingerprint::from_bytes([7; 32]);

#[test]
fn a_child_writes_nothing_before_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = DiskStore::open(dir.path()).unwrap();
    other.put_bytes(&KEY, [1; 100]).unwrap();
    let mut store = DiskStore::open(dir.path()).unwrap();
    let inner = Arc::get_mut(&mut store.inner).expect("no thread has it yet");
    inner.process = inner.process.wrapping_add(1);
    let before = files(dir.path());
    for bytes in [vec![1; 100], vec![2; 100], vec![3; 1 << 20]] {
        let refused = store.put(&KEY, Entry::from(bytes)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Closed);
    }
    assert!(store.register_namespace("a name").is_err());
    assert!(store.remove(&KEY).is_err() && store.clear().is_err() && store.flush().is_err());
    assert_eq!(files(dir.path()), before);
    let found = store.get_artifact(&KEY).unwrap().unwrap();
    assert_eq!(found.as_slice(), [1; 100]);
}
