//! Eviction reports and what is handed back.

use super::{displaced, key, put, store};
use keepwarm::{Entry, Eviction, EvictionReason, PutOutcome, Tier};
use std::time::Duration;

/// The only report of `outcome`: its reason, entries and bytes.
fn report(outcome: &PutOutcome) -> (EvictionReason, u64, u64) {
    let [eviction] = outcome.evictions[..] else {
        panic!("one report expected, not {:?}", outcome.evictions);
    };
    let Eviction {
        tier, oldest_age, ..
    } = eviction;
    assert_eq!(tier, Tier::Memory);
    assert!(oldest_age > Duration::ZERO);
    (eviction.reason, eviction.entries, eviction.bytes)
}

#[test]
fn a_put_that_displaces_nothing_reports_nothing() {
    let store = store(3, 100, 1);
    let outcome = put(&store, 1, 100);
    assert!(outcome.evictions.is_empty() && outcome.displaced.is_empty());
}

#[test]
fn a_report_says_entry_limit() {
    let store = store(2, 100, 1);
    let _ = (put(&store, 1, 5), put(&store, 2, 6));
    let outcome = put(&store, 3, 7);
    assert_eq!(report(&outcome), (EvictionReason::EntryLimit, 1, 5));
    assert_eq!(displaced(&outcome), [key(1)]);
    assert_eq!(outcome.displaced[0].entry, Entry::from(vec![1; 5]));
}

#[test]
fn a_report_says_byte_limit_and_adds_up_what_went() {
    let store = store(10, 100, 1);
    let _ = (put(&store, 1, 40), put(&store, 2, 50), put(&store, 3, 10));
    let outcome = put(&store, 4, 51);
    assert_eq!(report(&outcome), (EvictionReason::ByteLimit, 2, 90));
    assert_eq!(displaced(&outcome), [key(1), key(2)]);
}

#[test]
fn a_report_says_both_limits() {
    let store = store(2, 100, 1);
    let _ = (put(&store, 1, 40), put(&store, 2, 50));
    let outcome = put(&store, 3, 60);
    assert_eq!(report(&outcome), (EvictionReason::EntryAndByteLimit, 2, 90));
}

#[test]
fn a_report_says_rejected_put() {
    let store = store(2, 100, 1);
    let _ = put(&store, 1, 40);
    let outcome = put(&store, 1, 101);
    assert_eq!(report(&outcome), (EvictionReason::RejectedPut, 1, 40));
    // The refused entry is handed back; the older one must not come back from anywhere.
    assert_eq!(outcome.displaced.len(), 1);
    assert_eq!(outcome.displaced[0].entry.artifact.len(), 101);

    assert!(put(&store, 1, 101).evictions.is_empty());
}

#[test]
fn the_reported_age_is_that_of_the_entry_unused_for_longest() {
    let store = store(u64::MAX, 100, 1);
    let _ = put(&store, 1, 50);
    let before_pause = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(60));
    let paused = before_pause.elapsed();
    let _ = put(&store, 2, 50);
    let outcome = put(&store, 3, 100);
    // The clock has ticks of some milliseconds.
    let tick = Duration::from_millis(30);
    assert!(outcome.evictions[0].oldest_age + tick >= paused);
    assert_eq!(outcome.evictions[0].entries, 2);
}
