//! Memory in front of a directory, as one cache.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Cache, DiskStore, MemoryStore, Store, Tiered, WritePolicy};
use std::time::Duration;
use support::{bytes, get, key, put, wait};

const POLICIES: [WritePolicy; 2] = [WritePolicy::OnInsert, WritePolicy::OnEviction];

#[test]
fn an_evicted_artifact_is_found_on_disk_and_promoted_and_costs_no_second_write() {
    for policy in POLICIES {
        let dir = support::fast_dir();
        let builder = Cache::builder().memory_entries(4).write_policy(policy);
        let cache = builder.open(dir.path()).unwrap();
        let all = |cache: &Cache| {
            for n in 0..20 {
                assert!(
                    cache.get(&key(n)).unwrap().as_slice() == bytes(n, 3000),
                    "{n}"
                );
            }
        };
        (0..20).for_each(|n| cache.put(&key(n), bytes(n, 3000)));
        cache.flush().unwrap();
        assert!(cache.stats().memory.evictions >= 16);
        let written = cache.stats().disk.unwrap().written_bytes;

        let before = cache.stats();
        assert!(cache.get(&key(0)).is_some());
        let promoted = cache.stats();
        assert_eq!(promoted.promotions, before.promotions + 1, "a hit on disk");
        assert!(cache.get(&key(0)).is_some());
        let again = cache.stats();
        assert_eq!(
            again.memory.hits,
            promoted.memory.hits + 1,
            "a hit in memory"
        );
        let lookups = |stats: &keepwarm::Stats| stats.disk.as_ref().unwrap().lookups;
        assert_eq!(lookups(&again), lookups(&promoted));

        // Promoted and evicted over and over: nothing is written.
        (0..3).for_each(|_| all(&cache));
        cache.flush().unwrap();
        assert_eq!(
            cache.stats().disk.unwrap().written_bytes,
            written,
            "{policy:?}"
        );
    }
}

#[test]
fn an_artifact_that_memory_serves_is_not_the_one_evicted_from_disk() {
    let dir = support::fast_dir();
    let disk = DiskStore::builder().entry_budget(50);
    let disk = wait(disk.open(dir.path()).unwrap());
    let memory = MemoryStore::builder().build().unwrap();
    let builder = Tiered::builder(memory, disk).touch_interval(Duration::ZERO);
    let tiered = builder.build();
    for n in 0..500 {
        put(&tiered, n, bytes(n, 100));
        // Only memory is asked.
        assert!(get(&tiered, 0).is_some());
        tiered.flush().unwrap();
    }
    assert!(tiered.lower().stats().evictions > 400);
    assert!(tiered.lower().contains(&key(0)).unwrap());
    assert!(!tiered.lower().contains(&key(1)).unwrap());
}

#[test]
fn an_artifact_that_is_held_stays_intact_while_it_is_evicted_and_its_pack_is_emptied() {
    let dir = support::fast_dir();
    let store = DiskStore::builder().byte_budget(1 << 20);
    let store = wait(store.open(dir.path()).unwrap());
    let len = |n: u64| if n % 3 == 0 { 300_000 } else { 2_000 };
    let mut held = Vec::new();
    for n in 0..600 {
        put(&store, n, bytes(n, len(n)));
        if n % 20 < 2 {
            held.push((n, store.get(&key(n)).unwrap().unwrap().artifact));
        }
    }
    assert!(store.stats().evictions > 500);
    for (n, artifact) in held {
        assert!(artifact.as_slice() == bytes(n, len(n)), "{n}");
    }
}

#[test]
fn a_flush_covers_what_somebody_else_had_stored() {
    let dir = support::fast_dir();
    let (one, two) = (support::open(dir.path()), support::open(dir.path()));
    one.flush().unwrap();
    two.flush().unwrap();
    for (n, len) in [(1, 100), (2, 300_000)] {
        put(&one, n, bytes(n, len));
        // The same key; and another key with equal bytes.
        for n in [n, n + 10] {
            put(&two, n, bytes(n % 10, len));
            assert!(!two.durability().survives_a_power_cut(), "{n}");
            two.flush().unwrap();
            assert!(two.durability().survives_a_power_cut());
        }
    }
}
