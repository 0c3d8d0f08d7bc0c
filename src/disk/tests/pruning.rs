//! Pruning on a file system that fails, at every call in turn.

use super::faults::open;
use crate::disk::trial::fast_dir;
use crate::fingerprint::Fingerprint;
use crate::store::Store;
use crate::sys::fault::Plan;
use std::sync::Arc;

const EIO: i32 = 5;

pub(super) fn key(n: u64) -> Fingerprint {
    Fingerprint::builder("fault")
        .field("n", n.to_le_bytes())
        .finish()
}

pub(super) fn content(n: u64, version: u64) -> Vec<u8> {
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
    let failed = plan.stop() > 0;
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
