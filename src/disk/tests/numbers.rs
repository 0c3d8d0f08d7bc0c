//! The numbers that order puts, where the index forgot how far they had got.

use super::open;
use crate::Fingerprint;
use crate::disk::DiskStore;
use crate::store::{Store, StoreExt};
use std::sync::atomic::Ordering;

const KEY: Fingerprint = Fingerprint::from_bytes([7; 32]);

fn set_generation(store: &DiskStore, generation: u64) {
    let locked = store.inner.locked().unwrap();
    let set = locked.index.set_generation(generation);
    set.unwrap();
}

#[test]
fn a_put_counts_though_the_index_forgot_what_was_put_with_a_higher_number() {
    // Far ahead of any clock; and beyond what is believed, so that nothing is put above it.
    for ahead in [1 << 62, u64::MAX - 9] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        store.inner.generation.store(ahead, Ordering::Relaxed);
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

#[test]
fn copies_of_a_record_do_not_crowd_out_what_is_put_after_them_nor_come_back_once_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put_bytes(&KEY, [1; 100]).unwrap();
    let inner = &store.inner;
    let slots = || {
        let bindings = inner.bindings(&inner.index(), &KEY).unwrap();
        bindings.live.len() + bindings.stale.len()
    };
    // As if a pack had been emptied again and again, and could never be removed.
    let binding = inner.bindings(&inner.index(), &KEY).unwrap().live.pop();
    let envelope = binding.unwrap().envelope;
    for _ in 0..40 {
        let (place, pack, _claim) = inner.append(&envelope, &[1; 100], None).unwrap();
        pack.mark_live(place.offset()).unwrap();
    }
    inner.rebuild_now().unwrap();
    assert_eq!(slots(), 1);
    assert_eq!(
        store.get(&KEY).unwrap().unwrap().artifact.to_vec(),
        [1; 100]
    );
    store.put_bytes(&KEY, [2]).unwrap();
    inner.rebuild_now().unwrap();
    assert_eq!(store.get(&KEY).unwrap().unwrap().artifact.to_vec(), [2]);
    store.remove(&KEY).unwrap();
    inner.rebuild_now().unwrap();
    assert!(store.get(&KEY).unwrap().is_none());
}

#[test]
fn what_is_put_before_a_rebuild_begins_is_newer_than_all_that_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    // As after an earlier rebuild: numbers run ahead of the clock.
    let ahead = crate::store::now() + 900_000_000;
    first.inner.generation.store(ahead, Ordering::Relaxed);
    first.put_bytes(&KEY, [1]).unwrap();
    first.flush().unwrap();
    let layout = &first.inner.files.layout;
    let lease = first.inner.lease(&layout.rebuild_lease()).unwrap().unwrap();
    std::fs::remove_file(layout.index()).unwrap();
    let second = DiskStore::open(dir.path()).unwrap();
    second.put_bytes(&KEY, [2]).unwrap();
    second.flush().unwrap();
    assert!(second.is_rebuilding());
    drop((lease, first, second));
    let found = open(dir.path()).get(&KEY).unwrap().unwrap();
    assert_eq!(found.artifact.to_vec(), [2]);
}
