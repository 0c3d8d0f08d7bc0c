//! Budgets on disk: bytes and entries, oldest first, packs emptied, write amplification bounded.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, EvictionReason, Store};
use std::path::Path;
use support::{bytes, files_in, get, key, open, put, wait};

fn on_disk(dir: &Path) -> u64 {
    let packs = files_in(dir, "packs")
        .iter()
        .map(|p| p.metadata().unwrap().len())
        .sum::<u64>();
    let objects = files_in(dir, "objects").into_iter();
    packs
        + objects
            .map(|p| p.metadata().unwrap().len().next_multiple_of(4096))
            .sum::<u64>()
}

#[test]
fn the_byte_budget_holds_after_every_put_of_every_size() {
    let dir = support::fast_dir();
    let budget = 2 << 20;
    let store = wait(
        DiskStore::builder()
            .byte_budget(budget)
            .open(dir.path())
            .unwrap(),
    );
    let mut put_bytes = 0;
    for n in 0..3000 {
        let len =
            usize::try_from(1 + n * 7919 % 12_000).unwrap() * if n % 50 == 0 { 20 } else { 1 };
        put(&store, n, bytes(n, len));
        put_bytes += len as u64;
        assert!(
            store.stats().cached_bytes <= budget,
            "{} after {n}",
            store.stats().cached_bytes
        );
        assert_eq!(get(&store, n), Some(bytes(n, len)), "the newest is kept");
    }
    let stats = store.stats();
    assert!(on_disk(dir.path()) <= budget, "{}", on_disk(dir.path()));
    assert_eq!(on_disk(dir.path()).abs_diff(stats.cached_bytes) / 4096, 0);
    assert!(
        stats.cached_bytes > budget / 2,
        "{} kept of {budget}",
        stats.cached_bytes
    );
    assert!(stats.evictions > 2000, "{stats:?}");
    let per_cent = stats.written_bytes * 100 / put_bytes;
    println!(
        "written {per_cent} % of what was put, rewritten {}",
        stats.rewritten_bytes
    );
    assert!(per_cent < 150, "{per_cent} %");
}

#[test]
fn the_entry_budget_holds_and_the_oldest_go_first() {
    let dir = support::fast_dir();
    let store = wait(
        DiskStore::builder()
            .entry_budget(100)
            .open(dir.path())
            .unwrap(),
    );
    let mut reported = 0;
    for n in 0..1000 {
        let outcome = store.put(&key(n), bytes(n, 50).into()).unwrap();
        for report in outcome.evictions {
            assert_eq!(report.reason, EvictionReason::EntryLimit);
            assert!(report.oldest_age.as_nanos() > 0);
            reported += report.entries;
        }
        assert!(store.stats().entries <= 100);
    }
    let stats = store.stats();
    assert_eq!(reported, stats.evictions);
    assert_eq!(stats.entries + stats.evictions, 1000);
    let first = (0..1000).find(|n| get(&store, *n).is_some()).unwrap();
    assert!(
        (first..1000).all(|n| get(&store, n).is_some()),
        "a younger one went before {first}"
    );
    assert_eq!(stats.entries, 1000 - first);
}

#[test]
fn what_is_used_is_not_evicted() {
    let dir = support::fast_dir();
    let store = wait(
        DiskStore::builder()
            .byte_budget(1 << 20)
            .open(dir.path())
            .unwrap(),
    );
    for n in 0..10 {
        put(&store, n, bytes(n, 2000));
    }
    for n in 100..2000 {
        put(&store, n, bytes(n, 3000));
        match n % 2 {
            0 => assert!(get(&store, n % 5).is_some(), "{n}"),
            _ => store.touch(&[key(5 + n % 5)]).unwrap(),
        }
    }
    for n in 0..10 {
        assert_eq!(get(&store, n), Some(bytes(n, 2000)));
    }
    assert!(get(&store, 100).is_none());
}

#[test]
fn an_artifact_as_large_as_the_budget_is_cached_and_a_larger_one_refused() {
    let dir = support::fast_dir();
    let store = wait(
        DiskStore::builder()
            .byte_budget(1 << 20)
            .open(dir.path())
            .unwrap(),
    );
    for n in 0..20 {
        put(&store, n, bytes(n, 20_000));
    }
    put(&store, 100, bytes(100, 1 << 20));
    assert_eq!(get(&store, 100), Some(bytes(100, 1 << 20)));
    let outcome = store
        .put(&key(100), bytes(101, (1 << 20) + 1).into())
        .unwrap();
    assert!(outcome.is_rejected());
    assert_eq!(outcome.displaced.len(), 1);
    assert_eq!(outcome.evictions[0].reason, EvictionReason::RejectedPut);
    assert_eq!(get(&store, 100), None);
    assert_eq!(store.stats().rejected_puts, 1);
}

#[test]
fn a_zero_budget_accepts_puts_and_keeps_nothing() {
    for (bytes_, entries) in [(0, 10), (1000, 0), (0, 0)] {
        let dir = support::fast_dir();
        let builder = DiskStore::builder()
            .byte_budget(bytes_)
            .entry_budget(entries);
        let store = wait(builder.open(dir.path()).unwrap());
        let outcome = store.put(&key(1), vec![].into()).unwrap();
        assert!(!outcome.is_rejected());
        assert_eq!(outcome.displaced.len(), 1);
        assert_eq!(get(&store, 1), None);
        assert_eq!(store.stats().entries, 0);
    }
}

#[test]
fn shared_content_survives_evictions_and_the_emptying_of_packs() {
    let dir = support::fast_dir();
    let store = wait(
        DiskStore::builder()
            .byte_budget(1 << 20)
            .open(dir.path())
            .unwrap(),
    );
    // The first key of each content goes (it is never used again), the second is kept in use.
    for n in 0..10 {
        put(&store, n, bytes(n, 4000));
        put(&store, 1000 + n, bytes(n, 4000));
    }
    for n in 2000..5000 {
        put(
            &store,
            n,
            bytes(n, 1000 + usize::try_from(n % 7).unwrap() * 500),
        );
        assert_eq!(get(&store, 1000 + n % 10), Some(bytes(n % 10, 4000)), "{n}");
    }
    for n in 0..10 {
        assert_eq!(get(&store, n), None, "{n}");
        assert_eq!(get(&store, 1000 + n), Some(bytes(n, 4000)), "{n}");
    }
    // Also after the index is lost: what shared the content found a place of its own.
    drop(store);
    std::fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path());
    for n in 0..10 {
        assert_eq!(get(&store, n), None, "{n}");
        assert_eq!(get(&store, 1000 + n), Some(bytes(n, 4000)), "{n}");
    }
}

#[test]
fn thousands_of_evictions_leave_no_half_empty_packs_and_write_little_twice() {
    let dir = support::fast_dir();
    let budget = 4 << 20;
    let store = wait(
        DiskStore::builder()
            .byte_budget(budget)
            .open(dir.path())
            .unwrap(),
    );
    let mut put_bytes = 0_u64;
    for n in 0..20_000 {
        // A third of the puts is kept in use for a while, so that packs empty unevenly.
        put(&store, n, bytes(n, 1500));
        put_bytes += 1500;
        if n > 900 && n % 3 == 0 {
            let _ = get(&store, n - n % 900 + n % 300);
        }
    }
    let stats = store.stats();
    let payload: u64 = (0..20_000)
        .filter_map(|n| get(&store, n))
        .map(|b| b.len() as u64)
        .sum();
    println!(
        "live {payload} of {} on disk; written {} for {put_bytes} put; rewritten {}",
        stats.cached_bytes, stats.written_bytes, stats.rewritten_bytes
    );
    assert!(
        payload * 100 / budget > 55,
        "only {payload} of {budget} are live"
    );
    assert!(stats.rewritten_bytes < put_bytes, "{stats:?}");
}

#[test]
fn removing_gives_the_space_back() {
    let dir = support::fast_dir();
    let store = wait(
        DiskStore::builder()
            .byte_budget(64 << 20)
            .open(dir.path())
            .unwrap(),
    );
    for n in 0..40 {
        put(&store, n, bytes(n, 1 << 20));
    }
    assert!(on_disk(dir.path()) >= 40 << 20);
    for n in 0..40 {
        assert!(store.remove(&key(n)).unwrap());
    }
    assert!(on_disk(dir.path()) < 12 << 20, "{}", on_disk(dir.path()));
    assert_eq!(store.stats().entries, 0);
}

#[test]
fn a_table_that_grows_loses_nothing() {
    let dir = support::fast_dir();
    let (store, other) = (open(dir.path()), open(dir.path()));
    for n in 0..20_000 {
        put(
            if n % 2 == 0 { &store } else { &other },
            n,
            n.to_le_bytes().to_vec(),
        );
    }
    for n in 0..20_000 {
        assert_eq!(get(&store, n), Some(n.to_le_bytes().to_vec()), "{n}");
        assert_eq!(get(&other, n), Some(n.to_le_bytes().to_vec()), "{n}");
    }
    assert_eq!(store.stats().entries, 20_000);
}
