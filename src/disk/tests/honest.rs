//! What a flush says: no yes while something is not durable, and yes again when all is.

use super::relying::{ONE, TWO, after_cut, begin, has, open, put};
use crate::disk::DiskStore;
use crate::disk::header::REBUILDING;
use crate::disk::layout::Layout;
use crate::disk::lookup::Binding;
use crate::namespace::NamespaceId;
use crate::store::Store;
use crate::sys::crash::Cut;
use crate::sys::fault::{Call, Fault, FaultFs, Plan, When};
use crate::{Entry, Fingerprint};
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
