//! What the calls of a cache do, over memory alone and over a directory.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are no tests to the lint"
)]

use keepwarm::{Artifact, Cache, Entry, Fingerprint, NamespaceId, WritePolicy};
use std::time::Duration;
use tempfile::TempDir;

fn key(n: u8) -> Fingerprint {
    Fingerprint::builder("calls").field("n", [n]).finish()
}

/// A cache of each kind, and the directory that one of them needs.
fn caches() -> (TempDir, [Cache; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Cache::builder().open(dir.path()).unwrap();
    (dir, [Cache::builder().memory_only().unwrap(), disk])
}

#[test]
fn what_is_put_is_got_until_it_is_removed() {
    let (_dir, caches) = caches();
    for cache in caches {
        assert_eq!(cache.get(&key(1)), None);
        cache.put(&key(1), vec![1]);
        cache.put(&key(2), *b"two");
        assert_eq!(cache.get(&key(1)), Some(vec![1].into()));
        assert!(cache.contains(&key(2)) && !cache.contains(&key(3)));

        cache.put(&key(1), vec![3]);
        assert_eq!(cache.get(&key(1)), Some(vec![3].into()));

        assert!(cache.remove(&key(1)).unwrap());
        assert!(!cache.remove(&key(1)).unwrap());
        assert_eq!(cache.get(&key(1)), None);
        assert!(cache.contains(&key(2)));

        cache.clear().unwrap();
        assert_eq!(cache.get(&key(2)), None);
        assert_eq!(cache.stats().faults, 0);
    }
}

#[test]
fn an_empty_artifact_is_an_artifact() {
    let (_dir, caches) = caches();
    for cache in caches {
        let built = cache.get_or_insert_with(&key(1), || Ok::<_, ()>(Vec::new()));
        assert!(built.unwrap().is_empty());
        let found = cache.get_or_insert_with(&key(1), || Err::<Vec<u8>, _>("built twice"));
        assert!(found.unwrap().is_empty());
        cache.flush().unwrap();
    }
}

#[test]
fn an_entry_keeps_what_is_beside_its_artifact() {
    let (_dir, caches) = caches();
    for cache in caches {
        let mut entry = Entry::from(vec![1]);
        entry.namespace = NamespaceId::of("mine");
        entry.build_cost = Duration::from_nanos(1_234_567_891);
        cache.put_entry(&key(1), entry.clone());
        assert_eq!(cache.get_entry(&key(1)), Some(entry));
    }
}

#[test]
fn a_built_artifact_carries_what_it_cost() {
    let (_dir, caches) = caches();
    for cache in caches {
        cache
            .get_or_insert_with(&key(1), || Ok::<_, ()>(vec![1]))
            .unwrap();
        let entry = cache.get_entry(&key(1)).unwrap();
        assert!(!entry.build_cost.is_zero());
        assert_eq!(entry.namespace, NamespaceId::NONE);
    }
}

#[test]
fn artifacts_are_served_by_the_next_cache_over_the_directory() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let dir = tempfile::tempdir().unwrap();
        let small = vec![1; 100];
        let large: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0] ^ 7).collect();
        let open = || {
            Cache::builder()
                .write_policy(policy)
                .open(dir.path())
                .unwrap()
        };

        let cache = open();
        cache.put(&key(1), small.clone());
        cache.put(&key(2), large.clone());
        cache.namespace("driver 1").put(&key(1), vec![9]);
        cache.close().unwrap();

        let cache = open();
        assert_eq!(cache.get(&key(1)), Some(small.into()));
        assert_eq!(cache.get(&key(2)), Some(large.into()));
        let namespace = cache.namespace("driver 1");
        assert_eq!(namespace.get(&key(1)), Some(vec![9].into()));
        assert_eq!((cache.stats().hits, cache.stats().builds), (3, 0));
    }
}

#[test]
fn a_handle_goes_to_any_thread() {
    fn check<T: Clone + Send + Sync + 'static>() {}
    check::<Cache>();
    check::<keepwarm::Namespace>();
    check::<keepwarm::CacheBuilder>();
}

#[test]
fn dropping_the_last_handle_writes_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::builder().open(dir.path()).unwrap();
    let other = cache.clone();
    cache.put(&key(1), vec![1]);
    drop(cache);
    other.put(&key(2), vec![2]);
    drop(other);

    let cache = Cache::builder().open(dir.path()).unwrap();
    assert!(cache.get(&key(1)).is_some() && cache.get(&key(2)).is_some());
}

#[test]
fn closing_one_of_several_handles_leaves_the_others_working() {
    let (_dir, caches) = caches();
    for cache in caches {
        let (clone, namespace) = (cache.clone(), cache.namespace("x"));
        cache.put(&key(1), vec![1]);
        cache.close().unwrap();
        assert!(clone.durability().survives_a_power_cut(), "it flushed");
        assert!(clone.get(&key(1)).is_some());
        clone.close().unwrap();
        namespace.put(&key(1), vec![2]);
        assert!(namespace.get(&key(1)).is_some());
    }
}

#[test]
fn an_artifact_too_large_for_memory_is_served_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::builder()
        .memory_budget(100)
        .open(dir.path())
        .unwrap();
    cache.put(&key(1), vec![1; 1000]);
    cache.flush().unwrap();
    assert_eq!(cache.get(&key(1)), Some(vec![1; 1000].into()));
    assert_eq!(cache.stats().memory.entries, 0);
}

#[test]
fn an_artifact_is_held_through_everything_that_happens_to_its_key() {
    let (_dir, caches) = caches();
    for cache in caches {
        cache.put(&key(1), vec![1; 300_000]);
        let held: Artifact = cache.get(&key(1)).unwrap();
        cache.put(&key(1), vec![2]);
        cache.remove(&key(1)).unwrap();
        cache.clear().unwrap();
        cache.close().unwrap();
        assert!(held.iter().all(|byte| *byte == 1));
    }
}

#[test]
fn keys_and_values_may_be_anything() {
    let (_dir, caches) = caches();
    for cache in caches {
        let keys = [
            [0; 32],
            [255; 32],
            std::array::from_fn(|i| u8::from(i == 31)),
        ];
        for (n, bytes) in keys.into_iter().enumerate() {
            cache.put(&Fingerprint::from_bytes(bytes), vec![0xff; n]);
        }
        for (n, bytes) in keys.into_iter().enumerate() {
            assert_eq!(cache.get(&Fingerprint::from_bytes(bytes)).unwrap().len(), n);
        }
    }
}

#[test]
fn text_and_literals_are_artifacts_too() {
    let (_dir, caches) = caches();
    for cache in caches {
        let key = Fingerprint::from_bytes([1; 32]);
        let shader = "kernel void main0() {}";
        cache.put(&key, b"literal");
        assert_eq!(cache.get(&key).unwrap().as_slice(), b"literal");
        cache.put(&key, shader);
        assert_eq!(cache.get(&key).unwrap().as_slice(), shader.as_bytes());
        cache.remove(&key).unwrap();
        let built = cache.get_or_insert_with(&key, || Ok::<_, ()>(shader.to_string()));
        assert_eq!(built.unwrap().as_slice(), shader.as_bytes());
    }
}
