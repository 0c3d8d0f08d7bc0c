//! What happens when the lower tier fails, refuses or panics.

#[path = "common/map_store.rs"]
mod map_store;

use keepwarm::{ErrorKind, Store, StoreExt, TierEvent, Tiered};
use map_store::{MapStore, eventually, key};
use std::sync::{Arc, Mutex};

fn tiered(upper: &MapStore, lower: &MapStore) -> Tiered<MapStore, MapStore> {
    Tiered::builder(upper.clone(), lower.clone()).build()
}

#[test]
fn a_write_that_fails_once_is_tried_again() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower);
    lower.fail_puts.set(1);
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.flush().unwrap();
    assert_eq!(lower.peek(&key(1)), Some(vec![1]));
}

#[test]
fn a_failed_write_is_told_and_counted_and_fails_the_next_flush_once() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let tiered = Tiered::builder(upper, lower.clone())
        .on_event(Arc::new(move |e: &TierEvent| {
            seen.lock().unwrap().push(e.clone());
        }))
        .build();
    lower.fail_puts.set(2);
    tiered.put_bytes(&key(1), [1]).unwrap();
    eventually("failed", || tiered.durability().failed_writes == 1);
    assert!(!tiered.durability().survives_a_kill());
    tiered.put_bytes(&key(2), [2]).unwrap();
    assert_eq!(tiered.flush().unwrap_err().kind(), ErrorKind::WriteFailed);
    assert_eq!(
        lower.peek(&key(2)),
        Some(vec![2]),
        "what could be written is"
    );
    assert_eq!(tiered.durability().failed_writes, 0);
    tiered.flush().unwrap();
    let stats = tiered.stats();
    assert_eq!((stats.flushes, stats.flush_errors), (1, 1));
    assert_eq!((stats.puts, stats.demotions), (2, 1));
    let told = |e: &TierEvent| matches!(e, TierEvent::WriteFailed { key: k, .. } if *k == key(1));
    eventually("told", || events.lock().unwrap().iter().any(told));
}

#[test]
fn an_entry_that_could_not_be_written_brings_nothing_older_to_light() {
    let (upper, lower) = (MapStore::with_budget(1), MapStore::new());
    let tiered = tiered(&upper, &lower);
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.flush().unwrap();
    lower.fail_puts.set(2);
    tiered.put_bytes(&key(1), [2]).unwrap();
    assert!(tiered.flush().is_err());
    tiered.put_bytes(&key(2), [0]).unwrap();
    assert_eq!(upper.peek(&key(1)), None);
    assert_eq!(tiered.get(&key(1)).unwrap(), None);
    assert_eq!(lower.peek(&key(1)), None);
}

#[test]
fn an_older_entry_that_cannot_be_removed_is_hidden_until_a_flush_removes_it() {
    let (upper, lower) = (MapStore::with_budget(1), MapStore::new());
    let tiered = tiered(&upper, &lower);
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.flush().unwrap();
    lower.fail_puts.set(2);
    lower.fail_removes.set(1);
    tiered.put_bytes(&key(1), [2]).unwrap();
    eventually("failed", || tiered.durability().failed_writes == 1);
    assert_eq!(
        tiered.get_artifact(&key(1)).unwrap().as_deref(),
        Some(&[2][..]),
        "still above"
    );
    tiered.put_bytes(&key(2), [0]).unwrap();
    assert_eq!(lower.peek(&key(1)), Some(vec![1]));
    assert_eq!(tiered.get(&key(1)).unwrap(), None);
    assert!(!tiered.contains(&key(1)).unwrap());
    assert!(tiered.flush().is_err());
    assert_eq!(lower.peek(&key(1)), None);
    tiered.flush().unwrap();
    lower.put_bytes(&key(1), [7]).unwrap();
    assert_eq!(
        tiered.get_artifact(&key(1)).unwrap().as_deref(),
        Some(&[7][..]),
        "hidden no more"
    );
}

#[test]
fn a_lower_tier_that_panics_fails_one_write_and_hangs_nobody() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower);
    lower.panic_puts.set(2);
    tiered.put_bytes(&key(1), [1]).unwrap();
    assert_eq!(tiered.flush().unwrap_err().kind(), ErrorKind::WriteFailed);
    tiered.put_bytes(&key(2), [2]).unwrap();
    tiered.flush().unwrap();
    assert_eq!(lower.peek(&key(2)), Some(vec![2]));
}

#[test]
fn an_upper_tier_that_panics_blocks_no_later_put() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower);
    upper.panic_puts.set(1);
    let put = || tiered.put_bytes(&key(1), [1]);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(put)).is_err());
    tiered.put_bytes(&key(1), [2]).unwrap();
    tiered.flush().unwrap();
    assert_eq!(lower.peek(&key(1)), Some(vec![2]));
}

#[test]
fn a_put_that_the_upper_tier_fails_leaves_nothing_older_above() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower);
    tiered.put_bytes(&key(1), [1]).unwrap();
    upper.fail_puts.set(1);
    assert!(tiered.put_bytes(&key(1), [2]).is_err());
    assert_eq!(
        tiered.get_artifact(&key(1)).unwrap().as_deref(),
        Some(&[2][..])
    );
    assert_eq!(tiered.stats().failed_puts, 1);
}

#[test]
fn a_refusal_by_the_lower_tier_is_no_failure() {
    let (upper, lower) = (MapStore::with_budget(8), MapStore::with_budget(2));
    let tiered = tiered(&upper, &lower);
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.put_bytes(&key(1), [1, 2, 3]).unwrap();
    tiered.flush().unwrap();
    assert_eq!(
        tiered.get_artifact(&key(1)).unwrap().as_deref(),
        Some(&[1, 2, 3][..])
    );
    assert_eq!(tiered.stats().rejected_puts, 1);
    assert_eq!(tiered.durability().unwritten_entries, 0);
}

#[test]
fn a_failed_flush_below_fails_the_flush() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower);
    lower.fail_flushes.set(1);
    assert_eq!(tiered.flush().unwrap_err().kind(), ErrorKind::Io);
    tiered.flush().unwrap();
}

#[test]
fn a_remove_or_clear_that_fails_below_changes_nothing() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = tiered(&upper, &lower);
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.flush().unwrap();
    lower.puts.close();
    tiered.put_bytes(&key(2), [2]).unwrap();
    lower.puts.wait_for_a_call();
    tiered.put_bytes(&key(1), [3]).unwrap();
    lower.fail_removes.set(1);
    assert!(tiered.remove(&key(1)).is_err());
    assert_eq!(
        tiered.get_artifact(&key(1)).unwrap().as_deref(),
        Some(&[3][..])
    );
    lower.puts.open();
    lower.fail_clears.set(1);
    assert!(tiered.clear().is_err());
    assert_eq!(
        tiered.get_artifact(&key(1)).unwrap().as_deref(),
        Some(&[3][..])
    );
    tiered.flush().unwrap();
    assert_eq!(lower.peek(&key(1)), Some(vec![3]), "its write was not lost");
}
