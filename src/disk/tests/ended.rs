//! What was removed stays so, whichever marks a power cut takes.

use super::open;
use crate::disk::DiskStore;
use crate::disk::bind::{Appended, Bound};
use crate::disk::builder::DiskStoreBuilder;
use crate::disk::envelope::Kind;
use crate::disk::envelope::LifeWord;
use crate::disk::header::{Field, SIZE};
use crate::disk::lookup::Binding;
use crate::disk::table::BUCKET_BYTES;
use crate::store::{Store, StoreExt};
use crate::sys::real::RealFs;
use crate::sys::spy::{Notes, SpyFs};
use crate::{Fingerprint, PutStatus};
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

const KEY: Fingerprint = Fingerprint::from_bytes([7; 32]);
const OTHER: Fingerprint = Fingerprint::from_bytes([8; 32]);

fn put(store: &DiskStore, value: u8) -> Binding {
    store.put_bytes(&KEY, [value; 100]).unwrap();
    binding(store)
}

/// The newest of the key.
fn binding(store: &DiskStore) -> Binding {
    let inner = &store.inner;
    let mut found = inner.bindings(&inner.index(), &KEY).unwrap();
    found.live.pop().unwrap()
}

fn value(store: &DiskStore) -> Option<u8> {
    let found = store.get_artifact(&KEY).unwrap();
    found.map(|artifact| artifact.as_slice()[0])
}

fn lose_index(dir: &Path) {
    fs::remove_file(dir.join("v1/index")).unwrap();
}

fn life(store: &DiskStore, of: &Binding) -> LifeWord {
    let found = of
        .pack
        .envelope_and_life(store.inner.check(), of.slot.place.offset());
    found.unwrap().unwrap().1
}

#[test]
fn no_older_value_comes_back_whose_mark_a_power_cut_took() {
    for reads_only in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let older = put(&store, 1);
        store.flush().unwrap();
        assert!(store.remove(&KEY).unwrap());
        let newer = put(&store, 2);
        store.flush().unwrap();
        assert!(store.remove(&KEY).unwrap());
        // The newer mark reached the disk, the older one did not.
        older.pack.mark_live(older.slot.place.offset()).unwrap();
        assert_eq!(life(&store, &newer), LifeWord::Dead);
        drop(store);
        lose_index(dir.path());
        if reads_only {
            let store = DiskStore::builder()
                .read_only(true)
                .open(dir.path())
                .unwrap();
            assert_eq!(value(&store), None);
            continue;
        }
        let store = open(dir.path());
        assert_eq!(value(&store), None);
        assert_eq!(life(&store, &older), LifeWord::Dead, "once and for all");
        // Nothing stands in the way of what is put now.
        put(&store, 3);
        store.flush().unwrap();
        drop(store);
        lose_index(dir.path());
        assert_eq!(value(&open(dir.path())), Some(3));
    }
}

#[test]
fn a_removed_value_does_not_come_back_where_it_was_before_it_moved() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let original = put(&store, 1);
    assert!(store.inner.empty_pack(original.pack.number).unwrap());
    let copy = binding(&store);
    assert_ne!(copy.slot.place, original.slot.place);
    assert!(store.remove(&KEY).unwrap());
    assert_eq!(life(&store, &copy), LifeWord::Dead);
    drop(store);
    // As if the pack had never been emptied: its file is back, and alive in it is what was.
    let store = open(dir.path());
    let inner = &store.inner;
    let (place, pack, _claim) = inner.append(&copy.envelope, &[1; 100], None).unwrap();
    pack.mark_live(place.offset()).unwrap();
    drop(store);
    lose_index(dir.path());
    assert_eq!(value(&open(dir.path())), None);
}

#[test]
fn what_was_found_damaged_ends_nothing_that_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let older = put(&store, 1);
    store.flush().unwrap();
    let newer = put(&store, 2);
    // As a power cut leaves what was not flushed.
    let path = store.inner.files.layout.pack(newer.pack.number);
    let mut bytes = fs::read(&path).unwrap();
    let payload = usize::try_from(newer.slot.place.offset()).unwrap() + 128;
    bytes[payload..payload + 100].fill(0);
    fs::write(&path, bytes).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(value(&store), Some(1));
    assert_eq!(life(&store, &newer), LifeWord::Gone);
    drop(store);
    lose_index(dir.path());
    let store = open(dir.path());
    assert_eq!(value(&store), Some(1));
    assert_eq!(life(&store, &older), LifeWord::Live);
}

/// The record that `put` would have written before all that is done since.
fn appended_before(store: &DiskStore, generation: u64, before: &Binding) -> Appended {
    let inner = &store.inner;
    let index = inner.index();
    let mut envelope = before.envelope;
    envelope.generation = generation;
    let epoch = index.field(Field::Epoch);
    let (place, pack, claim) = inner.append(&envelope, &[1; 100], None).unwrap();
    Appended {
        envelope,
        place,
        pack,
        claim,
        object_bytes: 0,
        last_use: generation,
        before: (index, epoch),
    }
}

#[test]
fn a_put_that_a_newer_one_overtook_which_is_removed_already_is_given_another_number() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (open(dir.path()), open(dir.path()));
    let first = put(&store, 1);
    assert!(store.remove(&KEY).unwrap());
    let number = first.envelope.generation;
    for (given, is_bound) in [(number - 1, false), (number, false), (number + 1, true)] {
        let record = appended_before(&other, given, &first);
        let bound = other.inner.bind(&record).unwrap();
        assert_eq!(matches!(bound, Bound::Done { .. }), is_bound, "{given}");
        assert_eq!(value(&store).is_some(), is_bound);
    }
    // What is put as usual is above all of them.
    assert!(store.remove(&KEY).unwrap());
    put(&other, 2);
    other.flush().unwrap();
    drop((store, other));
    lose_index(dir.path());
    assert_eq!(value(&open(dir.path())), Some(2));
}

#[test]
fn a_number_that_damage_made_up_keeps_nobody_from_putting() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for damage in [u64::MAX, u64::MAX / 2, 1 << 62] {
        let path = dir.path().join("v1/index");
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(30 * 8)).unwrap();
        file.write_all(&damage.to_ne_bytes().repeat(512 - 30))
            .unwrap();
        for value in 1..4 {
            put(&store, value);
            assert!(store.remove(&KEY).unwrap());
        }
        store.register_namespace(&damage.to_string()).unwrap();
    }
}

#[test]
fn before_a_pack_goes_all_marks_are_durable_that_it_may_stand_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let notes = Notes::default();
    let open = || {
        let fs = SpyFs(RealFs::UNCHECKED, Arc::clone(&notes));
        let builder = DiskStoreBuilder::default();
        builder.open_with(root.clone(), Arc::new(fs)).unwrap()
    };
    // Two that append have two packs.
    let (one, two) = (open(), open());
    let kept = put(&one, 1);
    one.put_bytes(&OTHER, [9; 100]).unwrap();
    assert!(one.remove(&KEY).unwrap());
    let goes = put(&two, 2);
    assert_ne!(kept.pack.number, goes.pack.number);
    two.flush().unwrap();
    assert!(two.remove(&KEY).unwrap());
    two.inner.remove_dead_contents().unwrap();
    for is_first in [true, false] {
        notes.lock().unwrap().clear();
        if is_first {
            assert!(two.inner.empty_pack(goes.pack.number).unwrap());
        } else {
            // Nothing was marked since: nothing is synced again.
            two.inner.make_ends_durable(false).unwrap();
        }
        let notes = notes.lock().unwrap();
        let unlinked = notes.iter().position(|note| note.starts_with("remove"));
        let syncs = notes.iter().take(unlinked.unwrap_or(notes.len()));
        let syncs = syncs
            .filter(|note| note.contains("sync of an open file"))
            .count();
        if is_first {
            // The other pack and, beside what emptying does, this one.
            assert!(unlinked.is_some() && syncs >= 2, "{notes:?}");
        } else {
            assert_eq!(syncs, 0, "{notes:?}");
        }
    }
    assert!(one.remove(&OTHER).unwrap());
    notes.lock().unwrap().clear();
    two.inner.make_ends_durable(false).unwrap();
    let notes = notes.lock().unwrap();
    assert!(
        notes
            .iter()
            .any(|note| note.contains("sync of an open file"))
    );
}

/// A power cut may keep the tag of what was written to a slot later, and not its body, and lose the mark of
/// what the slot led to before.
#[test]
fn a_slot_that_was_cleared_leads_nowhere_whatever_tag_it_gets() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let removed = put(&store, 1);
    let index = dir.path().join("v1/index");
    let bucket = removed.at.bucket * BUCKET_BYTES + SIZE as u64;
    let tag = usize::try_from(bucket).unwrap() + removed.at.slot * 4;
    let before = fs::read(&index).unwrap()[tag..tag + 4].to_vec();
    assert!(store.remove(&KEY).unwrap());
    removed.pack.mark_live(removed.slot.place.offset()).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&index).unwrap();
    file.seek(SeekFrom::Start(tag as u64)).unwrap();
    file.write_all(&before).unwrap();
    assert_eq!(value(&store), None);
}

/// A power cut that undoes a clear finds all packs, or none.
#[test]
fn a_clear_deletes_nothing_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let notes = Notes::default();
    let fs = SpyFs(RealFs::UNCHECKED, Arc::clone(&notes));
    let root = dir.path().canonicalize().unwrap();
    let store = DiskStoreBuilder::default().open_with(root.clone(), Arc::new(fs));
    let store = store.unwrap();
    put(&store, 1);
    notes.lock().unwrap().clear();
    store.clear().unwrap();
    let notes = std::mem::take(&mut *notes.lock().unwrap());
    let last = notes.iter().rposition(|note| note.starts_with("rename"));
    let (before, then) = notes.split_at(last.unwrap());
    assert!(before.iter().all(|note| !note.starts_with("remove")));
    let synced = format!("sync {}", root.join("v1").display());
    let synced = then.iter().position(|note| *note == synced);
    let removed = then.iter().position(|note| note.starts_with("remove"));
    assert!(synced.is_some() && synced < removed, "{notes:?}");
}

#[test]
fn what_was_bound_before_the_machine_was_started_is_bound_anew_and_relied_on_then() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    if store.inner.files.fs.boot().is_none() {
        // Here the system does not tell.
        return;
    }
    let put = || store.put(&KEY, vec![1; 100].into()).unwrap().status;
    assert_eq!(put(), PutStatus::Stored);
    assert_eq!(put(), PutStatus::AlreadyStored);
    let before = binding(&store);
    let index = store.inner.index();
    index.set_field(Field::Boot, 4).unwrap();
    assert_eq!(put(), PutStatus::Stored);
    let now = binding(&store);
    assert_ne!(now.slot.place, before.slot.place);
    assert_eq!(now.envelope.kind, Kind::Shared, "the bytes are there");
    assert_eq!(put(), PutStatus::AlreadyStored);
    // A header that knows less than what was bound.
    index.set_field(Field::Boot, 4).unwrap();
    index.set_generation(1).unwrap();
    store.put_bytes(&OTHER, [2; 100]).unwrap();
    assert_eq!(put(), PutStatus::Stored);
}

/// What one with another secret finds when it rebuilds the index is all that its owner has.
#[test]
fn records_in_the_place_of_a_torn_payload_are_found_by_whoever_rebuilds() {
    let dir = tempfile::tempdir().unwrap();
    let ours = || {
        let store = DiskStore::builder().authenticate(b"ours").open(dir.path());
        let store = store.unwrap();
        store.inner.wait_for_rebuild().unwrap();
        store
    };
    let store = ours();
    let pack = put(&store, 1).pack;
    let path = store.inner.files.layout.pack(pack.number);
    let whole = fs::read(&path).unwrap();
    store.put_bytes(&OTHER, vec![2; 100_000]).unwrap();
    drop(store);
    // Its writer was killed in the middle of the append.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(whole.len() as u64 + 300).unwrap();
    drop(file);
    let store = ours();
    let keys: Vec<_> = (10..200)
        .map(|n| Fingerprint::from_bytes([n; 32]))
        .collect();
    for key in &keys {
        store.put_bytes(key, key.as_bytes().repeat(30)).unwrap();
    }
    store.flush().unwrap();
    assert_eq!(
        store
            .inner
            .bindings(&store.inner.index(), &keys[0])
            .unwrap()
            .live[0]
            .pack
            .number,
        pack.number
    );
    drop(store);
    lose_index(dir.path());
    let theirs = DiskStore::builder()
        .authenticate(b"theirs")
        .open(dir.path());
    theirs.unwrap().inner.wait_for_rebuild().unwrap();
    let store = ours();
    assert_eq!(value(&store), Some(1));
    for key in &keys {
        assert!(store.get_artifact(key).unwrap().is_some(), "{key:?}");
    }
}
