//! What is there, and how much of it.

use super::{has, key, put, store};
use keepwarm::{Artifact, Entry, Fingerprint, PutStatus, Store};

#[test]
fn an_artifact_put_is_got_back_and_another_key_is_a_miss() {
    let store = store(10, 1000, 4);
    assert!(store.is_empty());
    assert_eq!((store.len(), store.cached_bytes()), (0, 0));

    let _ = put(&store, 7, 30);
    assert_eq!(
        store.get(&key(7)).unwrap().unwrap().artifact.as_slice(),
        [7; 30]
    );
    assert!(store.get(&key(8)).unwrap().is_none());
    assert!(!store.is_empty());
    assert_eq!((store.len(), store.cached_bytes()), (1, 30));

    let _ = put(&store, 8, 0);
    assert!(store.get(&key(8)).unwrap().unwrap().artifact.is_empty());
    assert_eq!((store.len(), store.cached_bytes()), (2, 30));
}

#[test]
fn replacing_a_key_fixes_the_accounting() {
    let store = store(10, 1000, 4);
    for len in [100, 1000, 0, 7] {
        let outcome = put(&store, 1, len);
        assert_eq!(outcome.status, PutStatus::Stored);
        assert!(outcome.displaced.is_empty() && outcome.evictions.is_empty());
        assert_eq!((store.len(), store.cached_bytes()), (1, len as u64));
    }
}

#[test]
fn only_the_same_allocation_is_already_stored() {
    let store = store(10, 1000, 4);
    let artifact = Artifact::from(vec![1, 2, 3]);
    let status = |artifact: Artifact| {
        let outcome = store.put(&key(1), Entry::from(artifact)).unwrap();
        assert_eq!((store.len(), store.cached_bytes()), (1, 3));
        outcome.status
    };
    assert_eq!(status(artifact.clone()), PutStatus::Stored);
    assert_eq!(status(artifact.clone()), PutStatus::AlreadyStored);
    assert_eq!(status(Artifact::from(artifact.to_vec())), PutStatus::Stored);
}

#[test]
fn removing_and_clearing_free_what_they_drop() {
    let store = store(100, 1000, 4);
    for n in 0..50 {
        let _ = put(&store, n, 3);
    }
    assert!(store.remove(&key(9)).unwrap());
    assert!(!store.remove(&key(9)).unwrap());
    assert_eq!((store.len(), store.cached_bytes()), (49, 147));

    store.clear().unwrap();
    assert_eq!((store.len(), store.cached_bytes()), (0, 0));
    assert!((0..50).all(|n| !has(&store, n)));

    let _ = put(&store, 9, 3);
    assert_eq!((store.len(), store.cached_bytes()), (1, 3));
}

#[test]
fn a_held_artifact_stays_intact_when_it_leaves_the_store() {
    let store = store(1, 1000, 1);
    let _ = put(&store, 5, 100);
    let held = store.get(&key(5)).unwrap().unwrap().artifact;
    let _ = put(&store, 5, 10);
    let _ = put(&store, 6, 10);
    store.clear().unwrap();
    assert_eq!(held.as_slice(), [5; 100]);
}

#[test]
fn keys_of_low_entropy_are_told_apart() {
    let store = store(u64::MAX, u64::MAX, 8);
    let families = |n: u8| {
        let mut front = [0; 32];
        front[0] = n;
        let mut back = [0xff; 32];
        back[31] = n;
        [front, back].map(Fingerprint::from_bytes)
    };
    for n in 0..=254 {
        for key in families(n) {
            let _ = store.put(&key, Entry::from(vec![n])).unwrap();
        }
    }
    assert_eq!(store.len(), 510);
    for n in 0..=254 {
        for key in families(n) {
            assert_eq!(store.get(&key).unwrap().unwrap().artifact.as_slice(), [n]);
        }
    }
}
