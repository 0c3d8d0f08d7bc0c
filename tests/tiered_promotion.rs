//! What the lower tier has is handed up.
#![allow(clippy::unwrap_used, reason = "for tests only")]

#[path = "common/map_store.rs"]
mod map_store;

use keepwarm::{Artifact, Store, StoreExt, TierEvent, Tiered, WritePolicy};
use map_store::{MapStore, key};
use std::sync::{Arc, Mutex};

fn address(artifact: &Artifact) -> *const u8 {
    artifact.as_slice().as_ptr()
}

#[test]
fn a_hit_below_is_promoted_and_the_next_get_is_a_hit_above() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    lower.put_bytes(&key(1), vec![1, 2]).unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let tiered = Tiered::builder(upper.clone(), lower.clone())
        .on_event(Arc::new(move |e: &TierEvent| {
            seen.lock().unwrap().push(e.clone());
        }))
        .build();
    assert!(tiered.contains(&key(1)).unwrap());
    let first = tiered.get_artifact(&key(1)).unwrap().unwrap();
    lower.fail_gets.set(usize::MAX);
    let second = tiered.get_artifact(&key(1)).unwrap().unwrap();
    assert_eq!(address(&first), address(&second), "not the same artifact");
    let stats = tiered.stats();
    assert_eq!((stats.lookups, stats.hits, stats.misses), (2, 2, 0));
    assert_eq!((stats.promotions, stats.promoted_bytes), (1, 2));
    let promoted = TierEvent::Promoted {
        key: key(1),
        bytes: 2,
    };
    assert_eq!(*events.lock().unwrap(), [promoted]);
}

#[test]
fn a_promoted_artifact_that_is_displaced_again_is_not_written() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let (upper, lower) = (MapStore::with_budget(2), MapStore::new());
        for n in 0..5 {
            lower.put_bytes(&key(n), [n]).unwrap();
        }
        let writes = lower.writes().len();
        let tiered = Tiered::builder(upper, lower.clone())
            .write_policy(policy)
            .build();
        for n in (0..5).chain(0..5) {
            assert_eq!(*tiered.get_artifact(&key(n)).unwrap().unwrap(), [n]);
        }
        assert!(tiered.stats().promotions > 5);
        tiered.close().unwrap();
        assert_eq!(lower.writes().len(), writes, "{policy:?}");
    }
}

#[test]
fn an_artifact_too_large_for_the_upper_tier_is_served_from_below() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let (upper, lower) = (MapStore::with_budget(2), MapStore::new());
        let tiered = Tiered::builder(upper.clone(), lower.clone())
            .write_policy(policy)
            .build();
        tiered.put_bytes(&key(1), [1]).unwrap();
        assert!(tiered.put_bytes(&key(1), [1, 2, 3]).unwrap(), "kept below");
        assert_eq!(*tiered.get_artifact(&key(1)).unwrap().unwrap(), [1, 2, 3]);
        tiered.flush().unwrap();
        assert_eq!(*tiered.get_artifact(&key(1)).unwrap().unwrap(), [1, 2, 3]);
        assert_eq!(
            (upper.peek(&key(1)), lower.peek(&key(1))),
            (None, Some(vec![1, 2, 3]))
        );
        assert_eq!(tiered.stats().promotions, 0, "a refused promotion is none");
    }
}

#[test]
fn a_failed_promotion_does_not_fail_the_get() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    lower.put_bytes(&key(1), [1]).unwrap();
    let tiered = Tiered::builder(upper.clone(), lower).build();
    upper.fail_puts.set(1);
    assert_eq!(*tiered.get_artifact(&key(1)).unwrap().unwrap(), [1]);
    assert_eq!(tiered.stats().promotions, 0);
}

#[test]
fn a_failing_upper_tier_hides_nothing_that_is_below() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    lower.put_bytes(&key(1), [1]).unwrap();
    let tiered = Tiered::builder(upper.clone(), lower).build();
    upper.fail_gets.set(2);
    assert_eq!(*tiered.get_artifact(&key(1)).unwrap().unwrap(), [1]);
    assert!(
        tiered.get(&key(2)).is_err(),
        "whether it is a miss is unknown"
    );
}

/// A get that has read the old entry below is held back while `change` happens.
fn race(change: impl FnOnce(&Tiered<MapStore, MapStore>), expected: Option<&[u8]>) {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    lower.put_bytes(&key(1), [1]).unwrap();
    let tiered = Tiered::builder(upper.clone(), lower.clone()).build();
    std::thread::scope(|scope| {
        lower.gets_after.close();
        let reader = scope.spawn(|| tiered.get_artifact(&key(1)).unwrap().unwrap());
        lower.gets_after.wait_for_a_call();
        change(&tiered);
        tiered.flush().unwrap();
        lower.gets_after.open();
        // It began before the change, so either answer is right.
        let seen = reader.join().unwrap().to_vec();
        assert!(seen == [1] || Some(seen.as_slice()) == expected);
    });
    assert_eq!(upper.peek(&key(1)).as_deref(), expected);
    assert_eq!(lower.peek(&key(1)).as_deref(), expected);
    let now = tiered.get_artifact(&key(1)).unwrap();
    assert_eq!(now.as_deref(), expected);
    assert_eq!(tiered.stats().promotions, 0);
}

#[test]
fn a_promotion_that_raced_with_a_newer_put_is_dropped() {
    race(
        |tiered| assert!(tiered.put_bytes(&key(1), [2]).unwrap()),
        Some(&[2]),
    );
}

#[test]
fn a_promotion_that_raced_with_a_remove_is_dropped() {
    race(|tiered| assert!(tiered.remove(&key(1)).unwrap()), None);
}

#[test]
fn a_promotion_that_raced_with_a_clear_is_dropped() {
    race(|tiered| tiered.clear().unwrap(), None);
}

#[test]
fn a_get_does_not_wait_for_a_put_of_the_same_key() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    lower.put_bytes(&key(1), [1]).unwrap();
    let tiered = Tiered::builder(upper.clone(), lower).build();
    std::thread::scope(|scope| {
        upper.puts.close();
        let writer = scope.spawn(|| tiered.put_bytes(&key(1), [2]).unwrap());
        upper.puts.wait_for_a_call();
        // The put is on its way up: the table has it already.
        assert_eq!(*tiered.get_artifact(&key(1)).unwrap().unwrap(), [2]);
        upper.puts.open();
        assert!(writer.join().unwrap());
    });
}
