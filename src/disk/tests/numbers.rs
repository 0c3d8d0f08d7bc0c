//! The numbers that order puts, where the index forgot how far they had got.

use crate::Fingerprint;
use crate::disk::DiskStore;
use crate::disk::header::Field;
use crate::store::{Store, StoreExt};
use std::path::Path;

const KEY: Fingerprint = Fingerprint::from_bytes([7; 32]);

fn open(dir: &Path) -> DiskStore {
    let store = DiskStore::open(dir).unwrap();
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    store
}

fn set_generation(store: &DiskStore, generation: u64) {
    let locked = store.inner.locked().unwrap();
    let set = locked.index.set_field(Field::Generation, generation);
    set.unwrap();
}

#[test]
fn a_put_counts_though_the_index_forgot_what_was_put_with_a_higher_number() {
    // Far ahead of any clock; and the last that is believed, above which there is none.
    for ahead in [1 << 62, u64::MAX / 2] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        set_generation(&store, ahead);
        store.put_bytes(&KEY, [1]).unwrap();
        let put = store.info(&KEY).unwrap().unwrap();
        assert!(crate::store::nanos(put.last_used) > ahead, "{ahead}");
        set_generation(&store, 1);
        drop(store);
        for value in 2..5 {
            let store = open(dir.path());
            set_generation(&store, 1);
            store.put_bytes(&KEY, [value]).unwrap();
            let found = store.get(&KEY).unwrap().unwrap();
            assert_eq!(found.artifact.to_vec(), [value], "{ahead}");
            store.flush().unwrap();
            let found = open(dir.path()).get(&KEY).unwrap().unwrap();
            assert_eq!(found.artifact.to_vec(), [value], "{ahead}");
        }
    }
}
