//! What one handle relies on that another one wrote, moved or removed: its flush makes that durable as well, and
//! a failure of the other one takes nothing of it away.

use super::super::bind::Appended;
use super::super::envelope::Kind;
use super::super::header::Field;
use super::super::layout::Layout;
use super::super::lookup::Binding;
use crate::digest::Digest;
use crate::disk::DiskStore;
use crate::store::Store;
use crate::sys::FileSystem;
use crate::sys::crash::{CrashFs, Cut, Rng};
use crate::sys::fault::{Call, Fault, FaultFs, Plan, When};
use crate::sys::real::RealFs;
use crate::{Entry, Fingerprint};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const ONE: Fingerprint = Fingerprint::from_bytes([1; 32]);
pub(super) const TWO: Fingerprint = Fingerprint::from_bytes([2; 32]);
const THREE: Fingerprint = Fingerprint::from_bytes([3; 32]);

pub(super) struct Dir {
    #[expect(dead_code, reason = "deleted when it is dropped")]
    held: tempfile::TempDir,
    pub(super) root: PathBuf,
    pub(super) fs: CrashFs,
}

pub(super) fn begin() -> Dir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let fs = CrashFs::new(&root, Arc::new(RealFs::UNCHECKED));
    Dir {
        held: dir,
        root,
        fs,
    }
}

pub(super) fn open(root: &Path, fs: &CrashFs) -> DiskStore {
    let store = DiskStore::builder()
        .open_with(root.to_path_buf(), Arc::new(fs.clone()))
        .unwrap();
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    store
}

pub(super) fn after_cut(dir: &Dir, how: Cut) -> (Dir, DiskStore) {
    let mut replay = dir.fs.replay();
    dir.fs.advance(&mut replay, usize::MAX);
    let new = tempfile::tempdir().unwrap();
    let root = new.path().canonicalize().unwrap();
    let fs = CrashFs::after_cut(&replay, (how, false), &mut Rng(1), &root).unwrap();
    let store = open(&root, &fs);
    (
        Dir {
            held: new,
            root,
            fs,
        },
        store,
    )
}

/// What a clear leaves that is killed when it has moved the packs away.
fn kill_in_a_clear(dir: &Dir, store: &DiskStore) {
    let locked = store.inner.locked().unwrap();
    locked.index.add(Field::Epoch, 1).unwrap();
    let to = store.inner.tmp.unused_name(&store.inner.files).unwrap();
    let fs: &dyn FileSystem = &dir.fs;
    fs.rename(&store.inner.files.layout.packs(), &to).unwrap();
}

fn lose_index(dir: &Dir) {
    let fs: &dyn FileSystem = &dir.fs;
    fs.remove_file(&Layout::new(dir.root.clone()).index())
        .unwrap();
}

/// A put up to the point where the record is to be bound.
pub(super) fn half_put(store: &DiskStore, key: &Fingerprint, bytes: &[u8]) -> Appended {
    let entry = Entry::from(bytes.to_vec());
    let begun = store.inner.begin_put(key, &entry, &Digest::of(bytes), None);
    begun.unwrap().expect("nothing like it is bound")
}

fn finish(store: &DiskStore, half: Appended) {
    assert!(store.inner.finish_put(&half).unwrap());
    drop(half);
}

pub(super) fn put(store: &DiskStore, key: &Fingerprint, bytes: &[u8]) {
    let _ = store.put(key, bytes.to_vec().into()).unwrap();
}

pub(super) fn has(store: &DiskStore, key: &Fingerprint) -> bool {
    store.get(key).unwrap().is_some()
}

/// A put that another process overtook, and whose flush says Ok.
#[test]
fn a_put_that_was_overtaken_is_covered_by_its_flush() {
    for how in [Cut::Nothing, Cut::Zeros, Cut::Names] {
        let dir = begin();
        let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
        let half = half_put(&a, &ONE, &[7; 100]);
        put(&b, &ONE, &[7; 100]);
        finish(&a, half);
        a.flush().unwrap();
        assert!(has(&a, &ONE));
        let (_new, after) = after_cut(&dir, how);
        assert!(has(&after, &ONE), "lost after {how:?}");
    }
}

/// Else the content that a flushed key shares is where nobody synced it.
#[test]
fn content_stays_where_it_is_when_it_is_put_twice() {
    for (how, flushes_before) in Cut::ALL
        .into_iter()
        .flat_map(|how| [(how, false), (how, true)])
    {
        let dir = begin();
        let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
        let half = half_put(&b, &THREE, &[7; 100]);
        put(&a, &ONE, &[7; 100]);
        put(&a, &TWO, &[7; 100]);
        if flushes_before {
            a.flush().unwrap();
        }
        finish(&b, half);
        // Any flush syncs the index.
        put(&a, &ONE, &[8; 100]);
        a.flush().unwrap();
        let (_new, after) = after_cut(&dir, how);
        assert!(has(&after, &ONE));
        assert!(has(&after, &TWO), "lost after {how:?}, {flushes_before}");
    }
}

/// Content goes and comes between looking for it and binding to it.
#[test]
fn content_that_went_and_came_back_elsewhere_is_covered_by_the_flush() {
    let dir = begin();
    let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    put(&b, &ONE, &[7; 100]);
    b.flush().unwrap();
    let half = half_put(&a, &TWO, &[7; 100]);
    assert_eq!(half.envelope.kind, Kind::Shared);
    b.remove(&ONE).unwrap();
    b.inner.remove_dead_contents().unwrap();
    put(&b, &THREE, &[7; 100]);
    finish(&a, half);
    a.flush().unwrap();
    assert!(has(&a, &TWO));
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    assert!(has(&after, &TWO));
}

const EVERY_SYNC: Fault = Fault {
    when: When::From(1),
    errno: 5,
    calls: Call::Sync as u32,
    short: false,
};

fn faulty(dir: &tempfile::TempDir, plan: &Arc<Plan>) -> DiskStore {
    let root = dir.path().canonicalize().unwrap();
    let store = DiskStore::builder()
        .open_with(root, Arc::new(FaultFs::real(plan)))
        .unwrap();
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    store
}

/// A sync fails while the index is lost.
#[test]
fn a_sync_that_fails_while_the_index_is_rebuilt_is_told() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let store = faulty(&dir, &plan);
    put(&store, &ONE, &[7; 100]);
    let inner = &store.inner;
    let find = || -> Vec<Binding> { inner.bindings(&inner.index(), &ONE).unwrap().live };
    let before = find()[0].slot.place;
    let lease = inner
        .lease(&inner.files.layout.rebuild_lease())
        .unwrap()
        .unwrap();
    std::fs::remove_file(inner.files.layout.index()).unwrap();
    plan.start(Fault {
        when: When::Once(1),
        ..EVERY_SYNC
    });
    let flushed = store.flush();
    assert!(plan.stop() > 0);
    drop(lease);
    inner.wait_for_rebuild().unwrap();
    let after = find()[0].slot.place;
    assert!(
        flushed.is_err() || after.pack() != before.pack(),
        "flush said {flushed:?}, and the record is only in the pack whose sync failed"
    );
}

/// What somebody else removed and did not flush is removed once more and flushed.
#[test]
fn what_somebody_else_removed_is_gone_durably_once_it_is_removed_again_and_flushed() {
    let dir = begin();
    let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    put(&a, &ONE, &[7; 100]);
    a.flush().unwrap();
    b.remove(&ONE).unwrap();
    a.remove(&ONE).unwrap();
    a.flush().unwrap();
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    assert!(!has(&after, &ONE));
}

/// An original whose slot is durably cleared before its mark comes back after its copy was removed.
#[test]
fn the_original_of_what_moved_and_was_removed_stays_away() {
    let dir = begin();
    let a = open(&dir.root, &dir.fs);
    let place = |store: &DiskStore, key: &Fingerprint| {
        let inner = &store.inner;
        inner.bindings(&inner.index(), key).unwrap().live[0]
            .slot
            .place
    };
    // All ends are settled.
    put(&a, &TWO, &[2; 100]);
    a.flush().unwrap();
    assert!(a.inner.empty_pack(place(&a, &TWO).pack()).unwrap());
    put(&a, &ONE, &[1; 100]);
    a.flush().unwrap();
    let original = place(&a, &ONE);
    assert!(a.inner.empty_pack(original.pack()).unwrap());
    assert_ne!(place(&a, &ONE).pack(), original.pack());
    let (new, after) = after_cut(&dir, Cut::Nothing);
    let copy = place(&after, &ONE);
    after.remove(&ONE).unwrap();
    after.flush().unwrap();
    after.inner.remove_dead_contents().unwrap();
    // What is in the other pack keeps that.
    let unlinked = after.inner.empty_pack(copy.pack()).unwrap();
    assert!(unlinked);
    after.flush().unwrap();
    assert!(!has(&after, &ONE));
    drop(after);
    lose_index(&new);
    let again = open(&new.root, &new.fs);
    assert!(!has(&again, &ONE));
}

/// An object that could not be synced is unlinked although a key of another secret has it.
#[test]
fn an_object_that_another_secret_relies_on_is_not_taken_back() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let first = faulty(&dir, &plan);
    let second = DiskStore::builder()
        .authenticate("other")
        .open(dir.path())
        .unwrap();
    put(&second, &ONE, &vec![7; 400_000]);
    second.flush().unwrap();
    put(&first, &ONE, &vec![7; 400_000]);
    plan.start(EVERY_SYNC);
    assert!(first.flush().is_err());
    plan.stop();
    assert!(has(&second, &ONE), "flushed under another secret");
}

/// What another handle has put since goes with what could not be synced.
#[test]
fn a_newer_binding_of_another_handle_is_not_taken_back() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let first = faulty(&dir, &plan);
    let second = DiskStore::open(dir.path()).unwrap();
    put(&first, &ONE, &[7; 100]);
    put(&second, &ONE, &[8; 100]);
    plan.start(EVERY_SYNC);
    assert!(first.flush().is_err());
    plan.stop();
    second.flush().unwrap();
    assert!(
        has(&second, &ONE),
        "put and flushed by second, taken back by first"
    );
}

/// A clear that was killed, and a folder that another process made anew.
#[test]
fn a_folder_that_another_handle_made_after_a_killed_clear_is_durable() {
    let dir = begin();
    let (a, c) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    for (store, key) in [(&a, &TWO), (&c, &THREE)] {
        put(store, key, &[9; 50]);
        store.flush().unwrap();
    }
    kill_in_a_clear(&dir, &c);
    put(&c, &TWO, &[8; 100]);
    put(&a, &ONE, &[7; 100]);
    a.flush().unwrap();
    assert!(has(&a, &ONE));
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    assert!(has(&after, &ONE));
}

/// A rebuild lets a content lead to a record that nobody synced.
#[test]
fn a_rebuild_leads_content_to_what_is_durable() {
    for round in 0..12 {
        let dir = begin();
        let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
        let half = half_put(&b, &THREE, &[7; 100]);
        put(&a, &ONE, &[7; 100]);
        put(&a, &TWO, &[7; 100]);
        a.flush().unwrap();
        finish(&b, half);
        lose_index(&dir);
        drop(a.inner.locked().unwrap());
        a.inner.wait_for_rebuild().unwrap();
        // Any put and flush.
        put(&a, &Fingerprint::from_bytes([9; 32]), &[9; 100]);
        a.flush().unwrap();
        let (_new, after) = after_cut(&dir, Cut::Nothing);
        assert!(has(&after, &ONE));
        assert!(has(&after, &TWO), "round {round}");
    }
}

/// The names of packs are what a sync of a pack leaves out.
#[test]
fn a_rebuild_leads_content_to_no_pack_whose_name_is_not_durable() {
    for round in 0..8 {
        let dir = begin();
        let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
        let mut half = half_put(&b, &THREE, &[7; 100]);
        put(&a, &ONE, &[7; 100]);
        put(&a, &TWO, &[7; 100]);
        a.flush().unwrap();
        // Into a pack that is new.
        let from = Arc::clone(&half.pack);
        let appended = b.inner.append(&half.envelope, &[7; 100], Some(&from));
        let (place, pack, claim) = appended.unwrap();
        half = Appended {
            place,
            pack,
            claim,
            ..half
        };
        finish(&b, half);
        lose_index(&dir);
        drop(a.inner.locked().unwrap());
        a.inner.wait_for_rebuild().unwrap();
        {
            let mut locked = a.inner.locked().unwrap();
            let buckets = locked.index.buckets() * 2;
            a.inner.copy_index(&mut locked, buckets, 0).unwrap();
        }
        let (_new, after) = after_cut(&dir, Cut::Nothing);
        assert!(has(&after, &TWO), "round {round}");
    }
}

/// A put that finds its key bound takes no lock.
#[test]
fn what_is_found_in_a_folder_that_another_handle_made_is_durable_after_a_flush() {
    let dir = begin();
    let (a, c) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    for (store, key) in [(&a, &TWO), (&c, &THREE)] {
        put(store, key, &[9; 50]);
        store.flush().unwrap();
    }
    kill_in_a_clear(&dir, &c);
    put(&c, &ONE, &[7; 100]);
    put(&a, &ONE, &[7; 100]);
    a.inner.flush().unwrap();
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    assert!(has(&after, &ONE));
}

/// A flush fails once where an object was deleted, whoever else names it and whatever became of its sync.
#[test]
fn an_object_that_is_gone_fails_one_flush() {
    let large = vec![7; 400_000];
    for (secret, fails) in [(None, true), (Some("other"), false), (Some("other"), true)] {
        let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
        let first = faulty(&dir, &plan);
        let second = DiskStore::builder();
        let second = match secret {
            Some(secret) => second.authenticate(secret),
            None => second,
        };
        let second = second.open(dir.path()).unwrap();
        put(&second, &TWO, &large);
        second.flush().unwrap();
        put(&first, &ONE, &large);
        if fails {
            plan.start(EVERY_SYNC);
            assert!(first.flush().is_err());
            plan.stop();
        }
        let object = first.inner.files.layout.object(&Digest::of(&large));
        std::fs::remove_file(object).unwrap();
        let later = [first.flush(), first.flush(), first.flush()].map(|f| f.is_ok());
        assert_eq!(later[1..], [true; 2], "{secret:?}, {fails}");
    }
}

/// Its put found it stored, and had synced it; when it was bound the file was another one.
#[test]
fn an_object_that_went_and_came_back_before_it_was_bound_is_covered_by_the_flush() {
    for how in [Cut::Nothing, Cut::Zeros, Cut::Names] {
        let dir = begin();
        let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
        let bytes = vec![7; 400_000];
        put(&b, &ONE, &bytes);
        b.flush().unwrap();
        let half = half_put(&a, &TWO, &bytes);
        a.flush().unwrap();
        assert!(b.remove(&ONE).unwrap());
        b.inner.remove_dead_contents().unwrap();
        put(&b, &THREE, &bytes);
        finish(&a, half);
        a.flush().unwrap();
        let (_new, after) = after_cut(&dir, how);
        assert!(has(&after, &TWO), "{how:?}");
    }
}

/// Its content was gone, and who found that was killed before it had made durable what it did about it.
#[test]
fn what_somebody_else_found_torn_is_gone_durably_once_it_is_removed_and_flushed() {
    let dir = begin();
    let bytes = vec![7; 400_000];
    let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    put(&a, &ONE, &bytes);
    assert!(a.remove(&TWO).is_ok());
    a.flush().unwrap();
    let fs: &dyn FileSystem = &dir.fs;
    let object = Layout::new(dir.root.clone()).object(&Digest::of(&bytes));
    fs.remove_file(&object).unwrap();
    assert!(!has(&b, &ONE), "it forgets what is gone");
    let c = open(&dir.root, &dir.fs);
    assert!(!c.remove(&ONE).unwrap());
    c.flush().unwrap();
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    put(&after, &THREE, &bytes);
    assert!(!has(&after, &ONE));
}
