//! The disk tier on a file system that fails at every call in turn.

use super::DiskStore;
use crate::fingerprint::Fingerprint;
use crate::store::Store;
use crate::sys::fault::{FaultFs, Plan};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

fn key(n: u64) -> Fingerprint {
    Fingerprint::builder("fault")
        .field("n", n.to_le_bytes())
        .finish()
}

fn content(n: u64, version: u64) -> Vec<u8> {
    // Inline, shared by pairs of keys, and objects.
    let len = if n % 5 == 0 {
        70_000
    } else {
        300 + usize::try_from(n).unwrap()
    };
    let mut bytes = vec![u8::try_from(version % 251).unwrap(); len];
    bytes[..8].copy_from_slice(&(n / 2 * 1000 + version).to_le_bytes());
    bytes
}

fn open(dir: &Path, plan: &Arc<Plan>) -> DiskStore {
    let root = dir.canonicalize().unwrap();
    let store = DiskStore::builder()
        .byte_budget(1 << 20)
        .open_with(root, Arc::new(FaultFs(Arc::clone(plan))))
        .unwrap();
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    store
}

/// A temporary directory where a sync costs little, if the machine has such a place.
fn fast_dir() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if cfg!(target_os = "linux") && shared_memory.is_dir() {
        if let Ok(dir) = tempfile::tempdir_in(shared_memory) {
            return dir;
        }
    }
    tempfile::tempdir().unwrap()
}

/// What may be found under a key, and what must be.
#[derive(Default)]
struct Model {
    possible: HashMap<u64, Vec<Option<Vec<u8>>>>,
}

impl Model {
    /// An operation that said yes leaves one possibility, one that failed leaves both.
    fn set(&mut self, n: u64, value: Option<Vec<u8>>, ok: bool) {
        let possible = self.possible.entry(n).or_insert_with(|| vec![None]);
        if ok {
            possible.clear();
        } else if !possible.contains(&None) {
            possible.push(None);
        }
        possible.push(value);
    }

    fn check(&self, store: &DiskStore, strict: bool, what: &str) {
        for (n, possible) in &self.possible {
            let found = match store.get(&key(*n)) {
                Ok(found) => found.map(|entry| entry.artifact.to_vec()),
                Err(_) if !strict => continue,
                Err(e) => panic!("{what}: {n}: {e:?}"),
            };
            // A miss is wrong only where the put was acknowledged and nothing failed since.
            let right = possible.contains(&found) || (found.is_none() && !strict);
            assert!(right, "{what}: {n}: {:?}", found.map(|f| f[..8].to_vec()));
        }
    }
}

/// Puts, replaces, removes, flushes, under faults; then without, and in a fresh handle.
fn history(n: u64, lasting: bool, errno: i32, only_syncs: bool) -> bool {
    let what = format!("call {n}, lasting {lasting}, error {errno}, syncs {only_syncs}");
    let dir = fast_dir();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    let mut model = Model::default();
    for i in 0..6 {
        let _ = store.put(&key(i), content(i, 0).into()).unwrap();
        model.set(i, Some(content(i, 0)), true);
    }
    store.flush().unwrap();
    plan.only_syncs(only_syncs);
    plan.fail(n, lasting, errno);
    for i in 3..11 {
        let ok = store.put(&key(i), content(i, 1).into()).is_ok();
        model.set(i, Some(content(i, 1)), ok);
        model.check(&store, false, &what);
    }
    let removed = store.remove(&key(1)).is_ok();
    model.set(1, None, removed);
    let _ = store.flush();
    model.check(&store, false, &what);
    for i in 8..10 {
        let ok = store.put(&key(i), content(i, 2).into()).is_ok();
        model.set(i, Some(content(i, 2)), ok);
    }
    let failed = plan.stop();
    // Later usable, as if nothing had happened; and what was acknowledged is there if the flush
    // said so.
    model.check(&store, !failed, &what);
    for i in 20..24 {
        let ok = store.put(&key(i), content(i, 3).into()).is_ok();
        assert!(ok, "{what}: unusable afterwards");
        model.set(i, Some(content(i, 3)), true);
    }
    let mut last = store.flush();
    if last.is_err() {
        // It tells once of what failed before.
        assert!(failed, "{what}: {last:?}");
        last = store.flush();
    }
    last.unwrap_or_else(|e| panic!("{what}: {e:?}"));
    for i in 20..24 {
        let found = store
            .get(&key(i))
            .unwrap()
            .map(|entry| entry.artifact.to_vec());
        assert_eq!(found, Some(content(i, 3)), "{what}: {i}");
    }
    drop(store);
    let store = open(dir.path(), &plan);
    model.check(&store, false, &what);
    for i in 20..24 {
        assert!(
            store.get(&key(i)).unwrap().is_some(),
            "{what}: {i} was lost after a flush"
        );
    }
    assert!(
        store.get(&key(2)).unwrap().is_some() || failed,
        "{what}: 2 was lost"
    );
    failed
}

#[test]
fn every_call_that_fails_once_is_survived() {
    for (errno, step) in [(EIO, 1), (ENOSPC, 5), (EMFILE, 7)] {
        let mut n = 1;
        while history(n, false, errno, false) {
            n += step;
        }
        assert!(n > 100, "only {n} calls were counted");
    }
}

#[test]
fn every_call_from_which_on_all_fail_is_survived() {
    let mut n = 1;
    while history(n, true, ENOSPC, false) {
        n += 5;
    }
    assert!(n > 100, "only {n} calls were counted");
}

#[test]
fn a_sync_that_fails_is_healed_or_reported() {
    for lasting in [false, true] {
        let mut n = 1;
        while history(n, lasting, EIO, true) {
            n += 1;
        }
        assert!(n > 5, "only {n} syncs were counted");
    }
}

#[test]
fn a_flush_that_says_yes_means_it() {
    let dir = fast_dir();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    let _ = store.put(&key(1), content(1, 1).into()).unwrap();
    plan.fail(1, true, ENOSPC);
    assert!(store.put(&key(2), content(2, 1).into()).is_err());
    plan.stop();
    assert_eq!(store.durability().failed_writes, 1);
    assert!(store.flush().is_err(), "a write had failed");
    store.flush().unwrap();
    assert!(store.durability().survives_a_power_cut());
    plan.only_syncs(true);
    let _ = store.put(&key(3), content(3, 1).into()).unwrap();
    plan.fail(1, true, EIO);
    assert!(store.flush().is_err(), "no sync worked");
    plan.stop();
    // Reported once; what could not be made durable was taken back or is made so now.
    store.flush().unwrap();
}

#[test]
fn a_record_whose_writer_was_killed_before_it_was_indexed_never_comes_back() {
    use super::envelope::{Envelope, Kind};
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    let bytes = content(1, 1);
    let envelope = Envelope {
        kind: Kind::Inline,
        generation: 1,
        key: key(1),
        digest: crate::Digest::of(&bytes),
        length: bytes.len() as u64,
        lag: 0,
        namespace: crate::NamespaceId::NONE,
        build_cost: std::time::Duration::ZERO,
    };
    store.inner.append(&envelope, &bytes, None).unwrap();
    let _ = store.put(&key(2), content(2, 1).into()).unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path(), &plan);
    assert!(store.get(&key(1)).unwrap().is_none());
    assert!(store.get(&key(2)).unwrap().is_some());
}

/// Prunes while the n-th call fails, then without faults; `false` if there were not so many calls.
fn pruning(n: u64, lasting: bool) -> bool {
    let what = format!("call {n}, lasting {lasting}");
    let dir = fast_dir();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    let newest = |i: u64| content(i, i % 3);
    for i in 0..12 {
        for version in 0..=i % 3 {
            let _ = store.put(&key(i), content(i, version).into()).unwrap();
        }
    }
    store.flush().unwrap();
    let mark = store.mark().unwrap();
    for i in 6..12 {
        store.get(&key(i)).unwrap().unwrap();
    }
    plan.fail(n, lasting, EIO);
    let mut gone = Vec::new();
    let rules = crate::Prune::new().unused_since(mark).down_to_entries(4);
    let pruned = store.prune_with(&rules, |key, _| gone.push(*key));
    let listed = store.entries().flatten().count();
    let failed = plan.stop();
    assert!(pruned.is_ok() || failed, "{what}: {pruned:?}");
    assert!(listed <= 12, "{what}: {listed} of 12");
    let mut missing = 0;
    for i in 0..12 {
        let found = store.get(&key(i)).unwrap();
        let found = found.map(|entry| entry.artifact.to_vec());
        assert!(found.is_none() || found == Some(newest(i)), "{what}: {i}");
        assert!(found.is_none() || !gone.contains(&key(i)), "{what}: {i}");
        assert!(found.is_some() || i < 8, "{what}: {i} was used last");
        missing += usize::from(found.is_none());
    }
    // At most the one at which it stopped is gone and was not told of.
    assert!(
        missing <= gone.len() + 1,
        "{what}: {missing}, told {gone:?}"
    );
    store.prune(&rules).unwrap();
    // The first look found a failed flush's writes, the next one makes up for it.
    if store.flush().is_err() {
        assert!(failed, "{what}");
        store.flush().unwrap();
    }
    drop(store);
    std::fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path(), &plan);
    for i in 0..12 {
        let found = store.get(&key(i)).unwrap();
        let found = found.map(|entry| entry.artifact.to_vec());
        assert_eq!(
            found,
            (i >= 8).then(|| newest(i)),
            "{what}: {i} after a rebuild"
        );
    }
    failed
}

#[test]
fn every_call_of_a_prune_that_fails_is_survived() {
    for lasting in [false, true] {
        let mut n = 1;
        while pruning(n, lasting) {
            n += 1;
        }
        assert!(n > 20, "only {n} calls were counted");
    }
}
