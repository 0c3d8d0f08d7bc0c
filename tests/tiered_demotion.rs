//! What is written below, and when.

#[path = "common/map_store.rs"]
mod map_store;

use keepwarm::{Store, StoreExt, TierEvent, Tiered, WritePolicy};
use map_store::{MapStore, eventually, key};
use std::sync::{Arc, Mutex};

fn tiered(upper: &MapStore, lower: &MapStore, policy: WritePolicy) -> Tiered<MapStore, MapStore> {
    Tiered::builder(upper.clone(), lower.clone())
        .write_policy(policy)
        .build()
}

#[test]
fn a_put_is_written_below_soon_without_being_asked() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower, WritePolicy::OnInsert);
    tiered.put_bytes(&key(1), [1]).unwrap();
    eventually("written", || tiered.durability().survives_a_kill());
    assert_eq!(lower.writes(), [(key(1), vec![1])]);
}

#[test]
fn what_was_written_at_the_put_is_not_written_when_it_is_displaced() {
    let (upper, lower) = (MapStore::with_budget(2), MapStore::new());
    let tiered = tiered(&upper, &lower, WritePolicy::OnInsert);
    for n in 0..10 {
        tiered.put_bytes(&key(n), [n]).unwrap();
    }
    tiered.close().unwrap();
    assert_eq!(
        lower.writes(),
        (0..10).map(|n| (key(n), vec![n])).collect::<Vec<_>>()
    );
}

#[test]
fn on_eviction_only_what_is_displaced_is_written_before_a_flush() {
    let (upper, lower) = (MapStore::with_budget(2), MapStore::new());
    let tiered = tiered(&upper, &lower, WritePolicy::OnEviction);
    for n in 0..5 {
        tiered.put_bytes(&key(n), [n]).unwrap();
    }
    eventually("three written", || lower.writes().len() == 3);
    assert_eq!(tiered.durability().unwritten_entries, 2);
    for n in 0..5 {
        assert_eq!(*tiered.get_artifact(&key(n)).unwrap().unwrap(), [n]);
    }
    tiered.flush().unwrap();
    let mut written = lower.writes();
    written.sort();
    assert_eq!(
        written,
        (0..5).map(|n| (key(n), vec![n])).collect::<Vec<_>>()
    );
    assert!(tiered.durability().survives_a_kill());
}

#[test]
fn on_eviction_what_is_replaced_or_removed_in_memory_is_never_written() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower, WritePolicy::OnEviction);
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.put_bytes(&key(1), [2]).unwrap();
    tiered.put_bytes(&key(2), [3]).unwrap();
    assert!(tiered.remove(&key(2)).unwrap());
    tiered.close().unwrap();
    assert_eq!(lower.writes(), [(key(1), vec![2])]);
}

#[test]
fn a_demotion_never_undoes_what_another_handle_stored_or_removed_since() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let (upper, lower) = (MapStore::with_budget(2), MapStore::new());
        let tiered = tiered(&upper, &lower, policy);
        tiered.put_bytes(&key(1), [1]).unwrap();
        tiered.put_bytes(&key(2), [2]).unwrap();
        tiered.flush().unwrap();
        // Another process: the same store below, not through this composition.
        lower.put_bytes(&key(1), [9]).unwrap();
        lower.remove(&key(2)).unwrap();
        tiered.put_bytes(&key(3), [3]).unwrap();
        tiered.put_bytes(&key(4), [4]).unwrap();
        assert_eq!((upper.peek(&key(1)), upper.peek(&key(2))), (None, None));
        tiered.close().unwrap();
        assert_eq!(
            (lower.peek(&key(1)), lower.peek(&key(2))),
            (Some(vec![9]), None)
        );
    }
}

#[test]
fn what_is_displaced_while_it_waits_to_be_written_stays_readable() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let (upper, lower) = (MapStore::with_budget(1), MapStore::new());
        let tiered = tiered(&upper, &lower, policy);
        lower.puts.close();
        for n in 0..5 {
            tiered.put_bytes(&key(n), [n]).unwrap();
        }
        for n in 0..5 {
            assert!(tiered.contains(&key(n)).unwrap());
            assert_eq!(*tiered.get_artifact(&key(n)).unwrap().unwrap(), [n]);
        }
        let durability = tiered.durability();
        assert_eq!(
            (durability.unwritten_entries, durability.unwritten_bytes),
            (5, 5)
        );
        lower.puts.open();
    }
}

#[test]
fn a_promotion_that_displaces_what_was_never_written_demotes_it() {
    let (upper, lower) = (MapStore::with_budget(1), MapStore::new());
    lower.put_bytes(&key(1), [1]).unwrap();
    let tiered = tiered(&upper, &lower, WritePolicy::OnEviction);
    tiered.put_bytes(&key(2), [2]).unwrap();
    tiered.get(&key(1)).unwrap().unwrap();
    assert_eq!(upper.peek(&key(1)), Some(vec![1]));
    eventually("demoted", || lower.peek(&key(2)) == Some(vec![2]));
}

#[test]
fn tiers_nest() {
    let (one, two, three) = (
        MapStore::with_budget(1),
        MapStore::with_budget(2),
        MapStore::new(),
    );
    let below = Tiered::builder(two, three.clone())
        .write_policy(WritePolicy::OnEviction)
        .build();
    let below: Box<dyn Store> = Box::new(below);
    let tiered = Tiered::builder(Arc::new(one), below).build();
    for n in 0..6 {
        tiered.put_bytes(&key(n), [n]).unwrap();
    }
    for n in 0..6 {
        assert_eq!(*tiered.get_artifact(&key(n)).unwrap().unwrap(), [n]);
    }
    assert_eq!(tiered.stats().tiers[1].tiers.len(), 2);
    tiered.flush().unwrap();
    assert_eq!(three.writes().len(), 6);
    tiered.clear().unwrap();
    assert_eq!(tiered.get(&key(1)).unwrap(), None);
    assert_eq!(three.stats().entries, 0);
}

#[test]
fn writes_and_evictions_are_told_and_counted() {
    let (upper, lower) = (MapStore::with_budget(2), MapStore::new());
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let tiered = Tiered::builder(upper, lower)
        .on_event(Arc::new(move |e: &TierEvent| {
            seen.lock().unwrap().push(e.clone());
        }))
        .build();
    tiered.put_bytes(&key(1), [1, 1]).unwrap();
    let outcome = tiered.put(&key(2), vec![2, 2].into()).unwrap();
    assert_eq!((outcome.displaced.len(), outcome.evictions.len()), (0, 0));
    tiered.flush().unwrap();
    // The flush may be over a moment before the event of the last write is told.
    eventually("told", || events.lock().unwrap().len() == 3);
    let events = events.lock().unwrap();
    for n in [1, 2] {
        assert!(events.contains(&TierEvent::Demoted {
            key: key(n),
            bytes: 2
        }));
    }
    let evicted = |e: &TierEvent| matches!(e, TierEvent::Evicted(e) if e.bytes == 2);
    assert!(events.iter().any(evicted), "the upper tier's");
    let stats = tiered.stats();
    assert_eq!(
        (stats.puts, stats.demotions, stats.demoted_bytes),
        (2, 2, 4)
    );
    assert_eq!(
        (stats.entries, stats.cached_bytes, stats.flushes),
        (2, 4, 1)
    );
}

#[test]
fn a_listener_that_panics_does_not_break_the_store() {
    let (upper, lower) = (MapStore::with_budget(1), MapStore::new());
    let tiered = Tiered::builder(upper, lower.clone())
        .on_event(Arc::new(|_: &TierEvent| {
            panic!("a listener panics on demand")
        }))
        .build();
    for n in 0..3 {
        tiered.put_bytes(&key(n), [n]).unwrap();
        tiered.get(&key(0)).unwrap().unwrap();
    }
    tiered.close().unwrap();
    assert_eq!(lower.writes().len(), 3);
}
