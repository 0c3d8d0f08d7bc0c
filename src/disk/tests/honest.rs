//! What a flush says: no yes while something is not durable, and yes again when all is.

use super::relying::{ONE, TWO, after_cut, begin, half_put, has, open, put};
use crate::digest::Digest;
use crate::disk::DiskStore;
use crate::disk::envelope::SIZE;
use crate::disk::header::REBUILDING;
use crate::disk::layout::Layout;
use crate::disk::lookup::Binding;
use crate::namespace::NamespaceId;
use crate::store::Store;
use crate::sys::crash::Cut;
use crate::sys::fault::{Call, Fault, FaultFs, Plan, When};
use crate::{Entry, Fingerprint};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

#[test]
fn a_note_in_a_new_directory_is_durable() {
    for how in [Cut::Nothing, Cut::Zeros, Cut::Names] {
        let dir = begin();
        let a = open(&dir.root, &dir.fs);
        a.set_note("tool.note", b"began").unwrap();
        let (_new, after) = after_cut(&dir, how);
        assert!(after.note("tool.note").unwrap().is_some(), "{how:?}");
    }
}

#[test]
fn a_namespace_that_somebody_else_removed_is_gone_durably_once_it_is_removed_again_and_flushed() {
    let dir = begin();
    let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    let id = NamespaceId::of("driver 1");
    let mut entry = Entry::from(vec![7; 100]);
    entry.namespace = id;
    let _ = a.put(&ONE, entry).unwrap();
    for n in 10..60 {
        put(&a, &Fingerprint::from_bytes([n; 32]), &[n; 900]);
    }
    a.flush().unwrap();
    assert_eq!(b.remove_namespace(id).unwrap().entries, 1);
    assert_eq!(a.remove_namespace(id).unwrap().entries, 0);
    a.flush().unwrap();
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    assert!(has(&after, &Fingerprint::from_bytes([20; 32])));
    assert!(!has(&after, &ONE));
}

#[test]
fn a_flush_that_cannot_look_at_a_pack_keeps_it_pending() {
    for n in 1..40 {
        let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
        let root = dir.path().canonicalize().unwrap();
        let store = DiskStore::builder()
            .open_with(root, Arc::new(FaultFs::real(&plan)))
            .unwrap();
        put(&store, &ONE, &[7; 100]);
        store.flush().unwrap();
        let inner = &store.inner;
        let live: Vec<Binding> = inner.bindings(&inner.index(), &ONE).unwrap().live;
        let pack = Arc::clone(&live[0].pack);
        store.remove(&ONE).unwrap();
        inner.remove_dead_contents().unwrap();
        assert!(
            inner
                .pending
                .lock()
                .unwrap()
                .packs
                .contains_key(&pack.ident)
        );
        plan.start(Fault {
            when: When::Once(n),
            errno: 24,
            calls: Call::Look as u32,
            short: false,
        });
        let flushed = store.flush();
        let failed = plan.stop();
        if failed == 0 {
            break;
        }
        let kept = inner
            .pending
            .lock()
            .unwrap()
            .packs
            .contains_key(&pack.ident);
        assert!(
            flushed.is_ok() || kept,
            "call {n}: {flushed:?} and the pack is not pending"
        );
    }
}

#[test]
fn a_folder_that_a_lease_made_is_durable() {
    let dir = begin();
    let (a, c) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    put(&a, &TWO, &[9; 50]);
    a.flush().unwrap();
    let fs: &dyn crate::sys::FileSystem = &dir.fs;
    // Somebody cleans up by hand.
    fs.remove_tree(&c.inner.files.layout.packs()).unwrap();
    fs.remove_tree(&c.inner.files.layout.builds()).unwrap();
    fs.sync_dir(c.inner.files.layout.base()).unwrap();
    let lease = c.request_build(&ONE).unwrap().poll().unwrap();
    assert!(lease.is_some());
    drop(lease);
    put(&a, &ONE, &[7; 100]);
    a.flush().unwrap();
    assert!(has(&a, &ONE));
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    assert!(has(&after, &ONE));
}

/// While a lost index is rebuilt, another process puts bytes that are stored, before the walk comes to them.
#[test]
fn content_that_is_put_while_a_rebuild_is_under_way_leads_to_what_is_durable() {
    let dir = begin();
    let (a, b) = (open(&dir.root, &dir.fs), open(&dir.root, &dir.fs));
    put(&a, &ONE, &[7; 100]);
    put(&a, &TWO, &[7; 100]);
    a.flush().unwrap();
    // A claims its pack again.
    put(&a, &Fingerprint::from_bytes([5; 32]), &[5; 50]);
    a.flush().unwrap();
    put(&a, &Fingerprint::from_bytes([6; 32]), &[6; 50]);
    let inner = &a.inner;
    let pack = inner.bindings(&inner.index(), &ONE).unwrap().live[0]
        .pack
        .clone();
    let lease = inner
        .lease(&inner.files.layout.rebuild_lease())
        .unwrap()
        .unwrap();
    let fs: &dyn crate::sys::FileSystem = &dir.fs;
    fs.remove_file(&inner.files.layout.index()).unwrap();
    drop(inner.locked().unwrap());
    let three = Fingerprint::from_bytes([3; 32]);
    put(&b, &three, &[7; 100]);
    let other = b.inner.bindings(&b.inner.index(), &three).unwrap().live[0]
        .pack
        .clone();
    assert_ne!(other.number, pack.number);
    assert!(inner.rebuild_pack_alone(&pack).unwrap());
    // The rest was walked before B put.
    {
        let locked = inner.locked().unwrap();
        locked.index.set_flag(REBUILDING, false).unwrap();
    }
    drop(lease);
    a.flush().unwrap();
    assert!(has(&a, &TWO));
    let (_new, after) = after_cut(&dir, Cut::Nothing);
    assert!(has(&after, &ONE));
    assert!(has(&after, &TWO));
}

#[test]
fn what_was_removed_stays_away_when_a_flush_could_not_look_at_its_pack() {
    let dir = begin();
    let plan = Arc::new(Plan::default());
    let fs = FaultFs::new(&plan, Arc::new(dir.fs.clone()));
    let store = DiskStore::builder()
        .open_with(dir.root.clone(), Arc::new(fs))
        .unwrap();
    put(&store, &ONE, &[7; 100]);
    store.flush().unwrap();
    store.remove(&ONE).unwrap();
    store.inner.remove_dead_contents().unwrap();
    plan.start(Fault {
        when: When::Once(1),
        errno: 24,
        calls: Call::Look as u32,
        short: false,
    });
    let flushed = store.flush();
    assert_eq!(plan.stop(), 1);
    assert!(flushed.is_err());
    store.flush().unwrap();
    let (new, after) = after_cut(&dir, Cut::Nothing);
    assert!(!has(&after, &ONE));
    drop(after);
    let fs: &dyn crate::sys::FileSystem = &new.fs;
    fs.remove_file(&Layout::new(new.root.clone()).index())
        .unwrap();
    let again = open(&new.root, &new.fs);
    assert!(!has(&again, &ONE));
}

/// A pack that cannot be read keeps a flush from all else, once a key was removed that was not there.
#[test]
fn a_flush_beside_a_pack_that_cannot_be_read_makes_the_rest_durable() {
    for removes in [false, true] {
        let dir = begin();
        let plan = Arc::new(Plan::default());
        let b = open(&dir.root, &dir.fs);
        put(&b, &TWO, &[2; 100]);
        b.flush().unwrap();
        b.remove(&TWO).unwrap();
        put(&b, &TWO, &[3; 100]);
        let fs = FaultFs::new(&plan, Arc::new(dir.fs.clone()));
        let a = DiskStore::builder()
            .open_with(dir.root.clone(), Arc::new(fs))
            .unwrap();
        put(&a, &ONE, &[7; 100]);
        if removes {
            let _ = a.remove(&Fingerprint::from_bytes([9; 32])).unwrap();
        }
        plan.start(Fault {
            when: When::From(1),
            errno: 5,
            calls: Call::Read as u32,
            short: false,
        });
        let flushed = [a.flush(), a.flush(), a.flush()].map(|f| f.is_ok());
        plan.stop();
        let (_new, after) = after_cut(&dir, Cut::Nothing);
        assert_eq!(flushed, [!removes; 3]);
        assert!(
            has(&after, &ONE),
            "a flush that fails makes durable what it can: removes {removes}"
        );
        drop(after);
        a.flush().unwrap();
    }
}

/// A sync of a pack of another secret fails once, after something in it was evicted.
#[test]
fn one_failed_sync_of_a_pack_of_another_secret_does_not_fail_every_flush() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let root = dir.path().canonicalize().unwrap();
    let first = DiskStore::builder()
        .open_with(root, Arc::new(FaultFs::real(&plan)))
        .unwrap();
    let second = DiskStore::builder()
        .authenticate("other")
        .open(dir.path())
        .unwrap();
    put(&second, &ONE, &[1; 100]);
    put(&second, &TWO, &[2; 100]);
    second.flush().unwrap();
    let inner = &first.inner;
    {
        let locked = inner.locked().unwrap();
        let theirs = second.inner.bindings(&second.inner.index(), &ONE).unwrap();
        let binding = &theirs.live[0];
        let freed = inner.evict_slot(&locked.index, binding.at, &binding.slot);
        assert_eq!(freed.unwrap(), Some(100));
    }
    plan.start(Fault {
        when: When::Once(1),
        errno: 5,
        calls: Call::Sync as u32,
        short: false,
    });
    // Whatever it says: the marks may be written again, or not.
    let _ = first.flush();
    assert_eq!(plan.stop(), 1);
    put(&first, &ONE, &[7; 100]);
    let later = [first.flush(), first.flush(), first.flush()].map(|f| f.is_ok());
    assert_eq!(later, [true; 3], "no sync fails any more");
}

/// Else whatever has to be marked in it fails until the handle is opened anew.
#[test]
fn a_pack_that_could_not_be_opened_for_writing_once_is_written_to_when_that_is_over() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let root = dir.path().canonicalize().unwrap();
    let open = || {
        let fs = Arc::new(FaultFs::real(&plan));
        DiskStore::builder().open_with(root.clone(), fs).unwrap()
    };
    let other = open();
    put(&other, &ONE, &[7; 100]);
    put(&other, &TWO, &[8; 100]);
    other.flush().unwrap();
    let store = open();
    let refused = |when| Fault {
        when,
        errno: 13,
        calls: Call::Open as u32,
        short: false,
    };
    plan.start(refused(When::Once(1)));
    assert!(has(&store, &ONE));
    assert_eq!(plan.stop(), 1);
    plan.start(refused(When::Every(1)));
    assert!(store.remove(&ONE).is_err(), "nothing may be opened");
    assert!(plan.stop() > 0);
    assert!(store.remove(&ONE).unwrap());
    put(&store, &TWO, &[9; 100]);
    store.flush().unwrap();
    assert!(!has(&other, &ONE));
    assert_eq!(
        open().get(&TWO).unwrap().unwrap().artifact.as_slice(),
        [9; 100]
    );
}

/// A power cut that undoes it must not find half of what it moved away gone.
#[test]
fn what_a_clear_moved_away_that_could_not_be_made_durable_outlives_its_handle() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let root = dir.path().canonicalize().unwrap();
    let open = || {
        let fs = Arc::new(FaultFs::real(&plan));
        DiskStore::builder().open_with(root.clone(), fs).unwrap()
    };
    let left = || {
        let folders = std::fs::read_dir(Layout::new(root.clone()).tmp()).unwrap();
        let files = folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(Iterator::count).sum::<usize>()
    };
    let store = open();
    put(&store, &ONE, &[7; 100]);
    plan.start(Fault {
        when: When::Every(1),
        errno: 5,
        calls: Call::Sync as u32,
        short: false,
    });
    // The index is synced before it is published, what follows is not.
    let _ = store.clear();
    let before = left();
    drop(store);
    assert!(plan.stop() > 0);
    assert!(before > 1, "packs and objects were moved away");
    assert_eq!(left(), before);
    let store = open();
    assert!(!has(&store, &ONE));
    put(&store, &ONE, &[7; 100]);
    store.flush().unwrap();
    drop(store);
    assert_eq!(left(), 0, "swept");
}

const EVERY_SYNC: Fault = Fault {
    when: When::Every(1),
    errno: 5,
    calls: Call::Sync as u32,
    short: false,
};

fn faulty(root: &std::path::Path, plan: &Arc<Plan>) -> DiskStore {
    let fs = Arc::new(FaultFs::real(plan));
    DiskStore::builder()
        .open_with(root.to_path_buf(), fs)
        .unwrap()
}

/// A put that finds many bindings of a killed process syncs what it is in itself.
#[test]
fn what_a_put_had_to_take_back_of_others_the_next_flush_tells() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let root = dir.path().canonicalize().unwrap();
    let killed = faulty(&root, &plan);
    for n in 0..4 {
        // It binds, and is killed before the flush that ends what it replaced.
        let half = half_put(&killed, &ONE, &[n; 100]);
        let _ = killed.inner.bind(&half).unwrap();
    }
    drop(killed);
    let store = faulty(&root, &plan);
    put(&store, &TWO, &[200; 100]);
    // The kernel gave pages up of which the sync failed.
    let two = store.inner.bindings(&store.inner.index(), &TWO).unwrap();
    let place = two.live[0].slot.place;
    let pack = Layout::new(root).pack(place.pack());
    let pack = std::fs::File::options().write(true).open(pack).unwrap();
    pack.write_all_at(&[0; 100], place.offset() + SIZE as u64)
        .unwrap();
    plan.start(Fault {
        when: When::Once(1),
        ..EVERY_SYNC
    });
    // It flushes, since that left too many bindings.
    let told = store.put(&ONE, vec![77; 100].into()).is_err();
    assert_eq!(plan.stop(), 1, "it settled what was there");
    assert!(!has(&store, &TWO), "it could not be written elsewhere");
    assert!(
        told && store.flush().is_err(),
        "one would say that it is durable"
    );
    put(&store, &TWO, &[200; 100]);
    store.flush().unwrap();
    assert!(has(&store, &TWO));
}

/// Else a flush that meets it fails until somebody asks for it.
#[test]
fn an_object_that_is_damaged_when_its_sync_fails_fails_one_flush() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let root = dir.path().canonicalize().unwrap();
    let bytes = vec![7; 400_000];
    let other = faulty(&root, &plan);
    put(&other, &ONE, &[6; 100]);
    other.flush().unwrap();
    put(&other, &ONE, &bytes);
    let store = faulty(&root, &plan);
    put(&store, &TWO, &bytes);
    let path = Layout::new(root.clone()).object(&Digest::of(&bytes));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![8; 400_000]).unwrap();
    plan.start(Fault {
        when: When::Once(1),
        ..EVERY_SYNC
    });
    assert!(store.flush().is_err());
    assert_eq!(plan.stop(), 1);
    store.flush().unwrap();
    assert!(!path.exists(), "it was of no use");
    assert!(!has(&store, &TWO));
    assert!(has(&store, &ONE), "what was flushed before stays");
    put(&store, &TWO, &bytes);
    store.flush().unwrap();
    assert!(has(&other, &TWO));
}

/// What is written by what a word says must not follow from a word that could not be read.
#[test]
fn an_index_whose_header_cannot_be_read_is_not_taken_for_one_without_marks() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let root = dir.path().canonicalize().unwrap();
    let store = DiskStore::builder()
        .mapping(crate::Mapping::Never)
        .open_with(root, Arc::new(FaultFs::real(&plan)))
        .unwrap();
    put(&store, &ONE, &[7; 100]);
    store.remove(&ONE).unwrap();
    let locked = store.inner.locked().unwrap();
    let index = &locked.index;
    let hash = index.hash(ONE.as_bytes());
    let ended = index.newest_end(hash).unwrap();
    assert!(ended > 0 && index.has_unsettled_ends() && !index.has_flag(REBUILDING));
    plan.start(Fault {
        calls: Call::Read as u32,
        ..EVERY_SYNC
    });
    assert!(index.has_flag(REBUILDING) && index.has_unsettled_ends());
    assert!(index.newest_end(hash).is_err());
    assert!(index.note_newest_end(hash, 1).is_err());
    assert!(index.raise_generation(1).is_err());
    assert!(index.begin_to_settle_ends().is_err());
    assert!(index.set_flag(REBUILDING, false).is_err());
    assert!(index.carry(index).is_err());
    assert!(plan.stop() > 0);
    assert_eq!(index.newest_end(hash).unwrap(), ended);
}

/// A member of a group may keep its packs for itself. What is in them is relied on all the same.
#[test]
fn one_failed_sync_of_a_pack_that_may_not_be_written_to_fails_one_flush() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let root = dir.path().canonicalize().unwrap();
    let other = faulty(&root, &plan);
    put(&other, &ONE, &[7; 100]);
    let denied = Arc::new(Plan::default());
    let fs = FaultFs::new(&denied, Arc::new(FaultFs::real(&plan)));
    let store = DiskStore::builder()
        .open_with(root.clone(), Arc::new(fs))
        .unwrap();
    denied.start(Fault {
        errno: 13,
        calls: Call::OpenToWrite as u32,
        ..EVERY_SYNC
    });
    put(&store, &ONE, &[7; 100]);
    put(&store, &TWO, &[8; 100]);
    plan.start(Fault {
        when: When::Once(1),
        ..EVERY_SYNC
    });
    // Written elsewhere, or the next one does it.
    let _ = store.flush();
    assert_eq!(plan.stop(), 1);
    store.flush().unwrap();
    put(&store, &TWO, &[9; 100]);
    store.flush().unwrap();
    assert!(has(&store, &ONE) && has(&other, &ONE) && has(&other, &TWO));
    let pack = |store: &DiskStore| {
        let live = store.inner.bindings(&store.inner.index(), &ONE).unwrap();
        live.live.into_iter().map(|b| b.pack).collect::<Vec<_>>()
    };
    assert!(pack(&store).iter().any(|pack| pack.is_read_only()));
    assert!(denied.stop() > 1);
    assert!(store.remove(&ONE).unwrap());
    store.flush().unwrap();
    assert!(!has(&other, &ONE));
}

/// A member of a group may die before it had given the file its mode.
#[test]
fn a_lease_that_may_not_be_opened_makes_way() {
    let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
    let store = faulty(&dir.path().canonicalize().unwrap(), &plan);
    drop(
        store
            .inner
            .eviction_lease()
            .unwrap()
            .expect("nobody has it"),
    );
    let denied = Fault {
        when: When::Once(1),
        errno: 13,
        calls: Call::Open as u32,
        short: false,
    };
    plan.start(denied);
    assert!(store.inner.eviction_lease().unwrap().is_some());
    assert_eq!(plan.stop(), 1);
    plan.start(denied);
    assert!(store.request_build(&ONE).unwrap().poll().unwrap().is_some());
    assert_eq!(plan.stop(), 1);
}

#[test]
fn an_object_that_nobody_is_bound_to_any_more_fails_no_flush_though_its_bytes_are_stored_inline() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let open = |bytes| {
        let fs = Arc::new(crate::sys::real::RealFs::UNCHECKED);
        let builder = DiskStore::builder().byte_budget(bytes);
        builder.open_with(root.clone(), fs).unwrap()
    };
    // What is stored inline depends on the budget.
    let (large, small) = (open(1 << 30), open(1 << 20));
    let bytes = vec![7; 100_000];
    put(&large, &ONE, &bytes);
    put(&small, &TWO, &bytes);
    let path = Layout::new(root.clone()).object(&Digest::of(&bytes));
    assert!(path.exists());
    assert!(small.remove(&TWO).unwrap());
    std::fs::remove_file(&path).unwrap();
    small.flush().unwrap();
    assert!(has(&large, &ONE));
}
