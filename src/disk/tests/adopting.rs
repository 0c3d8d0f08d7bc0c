//! Puts that find what they bring stored already, and what such a put promises.

use super::{files, open};
use crate::disk::DiskStore;
use crate::disk::bind::key_slot;
use crate::disk::slot::SlotKind;
use crate::store::{Store, StoreExt};
use crate::{Artifact, Fingerprint, PutStatus};
use std::fs;
use std::time::{Duration, SystemTime};

const KEY: Fingerprint = Fingerprint::from_bytes([7; 32]);
const OTHER: Fingerprint = Fingerprint::from_bytes([8; 32]);

fn put(store: &DiskStore, value: &[u8]) -> PutStatus {
    store.put(&KEY, value.to_vec().into()).unwrap().status
}

fn value(store: &DiskStore) -> Option<Artifact> {
    store.get_artifact(&KEY).unwrap()
}

#[test]
fn a_new_directory_is_complete_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::open(dir.path()).unwrap();
    assert!(!store.is_rebuilding());
    assert_eq!(put(&store, b"a"), PutStatus::Stored);
    assert_eq!(put(&store, b"a"), PutStatus::AlreadyStored);
}

/// A rebuild that came to the older of two records only: what is put now must be above both.
#[test]
fn an_older_value_that_is_put_again_during_a_rebuild_is_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert_eq!(put(&first, b"older"), PutStatus::Stored);
    let inner = &first.inner;
    let older = inner.bindings(&inner.index(), &KEY).unwrap().live.remove(0);
    assert_eq!(put(&first, b"newer"), PutStatus::Stored);
    let layout = &inner.files.layout;
    let lease = inner.lease(&layout.rebuild_lease()).unwrap().unwrap();
    fs::remove_file(layout.index()).unwrap();
    let second = DiskStore::open(dir.path()).unwrap();
    {
        let mut locked = second.inner.locked().unwrap();
        let slot = key_slot(&locked.index, &older.envelope, older.slot.place);
        second.inner.insert(&mut locked, &slot).unwrap();
    }
    assert_eq!(value(&second).unwrap().as_slice(), b"older");
    assert_eq!(put(&second, b"older"), PutStatus::Stored);
    second.flush().unwrap();
    assert!(second.is_rebuilding());
    drop((lease, first));
    second.inner.wait_for_rebuild().unwrap();
    assert_eq!(value(&second).unwrap().as_slice(), b"older");
    drop(second);
    assert_eq!(value(&open(dir.path())).unwrap().as_slice(), b"older");
}

/// As after a power cut that took a page of the index.
fn lose_slot_of_content(store: &DiskStore) {
    let inner = &store.inner;
    let locked = inner.locked().unwrap();
    let digest = inner.bindings(&locked.index, &KEY).unwrap().live[0]
        .envelope
        .digest;
    let content = inner.content(&locked.index, &digest).unwrap().unwrap();
    locked
        .index
        .vacate(content.at, &content.slot, false)
        .unwrap();
    let object = fs::File::open(inner.files.layout.object(&digest)).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(7200);
    object.set_modified(long_ago).unwrap();
}

#[test]
fn an_object_whose_content_lost_its_slot_is_counted_again_by_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let large = vec![5; 1 << 20];
    assert_eq!(put(&store, &large), PutStatus::Stored);
    store.flush().unwrap();
    lose_slot_of_content(&store);
    let inner = &store.inner;
    inner.recount().unwrap();
    let without = store.stats().cached_bytes;
    assert_eq!(put(&store, &large), PutStatus::Stored);
    assert!(store.stats().cached_bytes >= without + (1 << 20));
    store.flush().unwrap();
    inner.sweep().unwrap();
    assert_eq!(value(&store).unwrap().as_slice(), large);
    let index = inner.index();
    let live = inner.bindings(&index, &KEY).unwrap().live;
    assert_eq!(live.len(), 1, "the flush ended what was replaced");
    let hash = index.hash(live[0].envelope.digest.as_bytes());
    assert_eq!(index.find(SlotKind::Content, hash).unwrap().len(), 1);
}

#[test]
fn an_object_that_a_key_is_bound_to_is_no_orphan_though_its_content_lost_its_slot() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let large = vec![5; 1 << 20];
    put(&store, &large);
    store.flush().unwrap();
    lose_slot_of_content(&store);
    store.inner.sweep().unwrap();
    assert_eq!(value(&store).unwrap().as_slice(), large);
    // Nothing needs it any more.
    store.remove(&KEY).unwrap();
    store.inner.sweep().unwrap();
    assert_eq!(files(&dir.path().join("v1/objects")), 0);
}

/// Nothing older than what was flushed is ever served, whatever becomes of that.
#[test]
fn a_flush_of_what_another_handle_rebound_ends_what_that_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (open(dir.path()), open(dir.path()));
    put(&first, b"older");
    first.flush().unwrap();
    put(&second, b"newer");
    assert_eq!(put(&first, b"newer"), PutStatus::AlreadyStored);
    first.flush().unwrap();
    let inner = &first.inner;
    let live = inner.bindings(&inner.index(), &KEY).unwrap().live;
    assert_eq!(live.len(), 1);
    assert_eq!(value(&second).unwrap().as_slice(), b"newer");
}

/// An archive of an earlier state is unpacked over a directory that is in use.
#[test]
fn an_index_that_was_copied_into_a_directory_in_use_hides_nothing_from_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put_bytes(&OTHER, *b"before").unwrap();
    let path = store.inner.files.layout.index();
    let archive = dir.path().join("archive");
    fs::copy(&path, &archive).unwrap();
    put(&store, b"since");
    store.flush().unwrap();
    fs::rename(&archive, &path).unwrap();
    assert!(
        store
            .inner
            .refresh()
            .field(crate::disk::header::Field::Entries)
            >= 2
    );
    assert!(store.remove(&KEY).unwrap());
    assert_eq!(value(&store), None);
    drop(store);
    let store = open(dir.path());
    assert_eq!(value(&store), None);
    let other = store.get_artifact(&OTHER).unwrap().unwrap();
    assert_eq!(other.as_slice(), b"before");
}

/// Real threads: the rebuild comes to the records of a key one after the other, while it is put.
#[test]
#[cfg_attr(miri, ignore = "files")]
fn what_is_put_while_an_index_is_rebuilt_is_what_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let key = |n: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        Fingerprint::from_bytes(bytes)
    };
    let keys = 0..1500;
    for round in 0..2 {
        for value in 0..2u8 {
            for n in keys.clone() {
                store.put_bytes(&key(n), [value; 10]).unwrap();
            }
        }
        fs::remove_file(store.inner.files.layout.index()).unwrap();
        // From the other end than the walk, so that many are put before it comes to them.
        let value = |n: u32| [u8::try_from((n + round) % 3).unwrap(); 10];
        for n in keys.clone().rev() {
            store.put_bytes(&key(n), value(n)).unwrap();
        }
        store.inner.wait_for_rebuild().unwrap();
        for n in keys.clone() {
            let found = store.get_artifact(&key(n)).unwrap().unwrap();
            assert_eq!(found.as_slice(), value(n), "key {n}, round {round}");
        }
    }
}

/// A look-up that comes between a key and the content that it shares ends nothing.
#[test]
fn a_key_whose_content_a_rebuild_has_not_come_to_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    first.put_bytes(&OTHER, [3; 5000]).unwrap();
    first.put_bytes(&KEY, [3; 5000]).unwrap();
    let inner = &first.inner;
    let shared = inner.bindings(&inner.index(), &KEY).unwrap().live.remove(0);
    let layout = &inner.files.layout;
    let lease = inner.lease(&layout.rebuild_lease()).unwrap().unwrap();
    fs::remove_file(layout.index()).unwrap();
    let second = DiskStore::open(dir.path()).unwrap();
    {
        let mut locked = second.inner.locked().unwrap();
        let slot = key_slot(&locked.index, &shared.envelope, shared.slot.place);
        second.inner.insert(&mut locked, &slot).unwrap();
    }
    assert_eq!(value(&second), None, "its content is not known yet");
    drop((lease, first));
    second.inner.wait_for_rebuild().unwrap();
    assert_eq!(value(&second).unwrap().as_slice(), [3; 5000]);
}

/// A power cut tore the record that a rebuild meets first; what is stored since is whole.
#[test]
#[cfg(unix)]
fn a_rebuild_finds_the_whole_one_of_two_records_of_a_content() {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put_bytes(&OTHER, [3; 5000]).unwrap();
    let inner = &store.inner;
    let torn = inner
        .bindings(&inner.index(), &OTHER)
        .unwrap()
        .live
        .remove(0);
    let path = inner.files.layout.pack(torn.pack.number);
    let file = fs::File::options().write(true).open(path).unwrap();
    let payload = torn.slot.place.offset() + crate::disk::envelope::SIZE as u64;
    file.write_all_at(&[0; 100], payload).unwrap();
    let third = Fingerprint::from_bytes([9; 32]);
    for key in [KEY, third] {
        store.put_bytes(&key, [3; 5000]).unwrap();
    }
    store.flush().unwrap();
    fs::remove_file(inner.files.layout.index()).unwrap();
    drop(store);
    let store = open(dir.path());
    for key in [third, KEY] {
        let found = store.get_artifact(&key).unwrap().unwrap();
        assert_eq!(found.as_slice(), [3; 5000]);
    }
}
