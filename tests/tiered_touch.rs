//! The lower tier learns what the upper one serves.

#[path = "common/map_store.rs"]
mod map_store;

use keepwarm::{Store, StoreExt, Tiered};
use map_store::{MapStore, eventually, key};
use std::time::Duration;

#[test]
fn an_artifact_that_memory_serves_is_not_the_one_evicted_below() {
    let (upper, lower) = (MapStore::new(), MapStore::with_budget(3));
    let tiered = Tiered::builder(upper, lower.clone())
        .touch_interval(Duration::ZERO)
        .build();
    for n in 0..3 {
        tiered.put_bytes(&key(n), [n]).unwrap();
    }
    tiered.flush().unwrap();
    tiered.get(&key(0)).unwrap().unwrap();
    eventually("touched", || lower.touched() == [key(0)]);
    tiered.put_bytes(&key(3), [3]).unwrap();
    tiered.flush().unwrap();
    assert_eq!(
        (lower.peek(&key(0)), lower.peek(&key(1))),
        (Some(vec![0]), None)
    );
}

#[test]
fn a_key_is_refreshed_below_once_an_interval_and_at_the_end() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let hour = Duration::from_secs(3600);
    let tiered = Tiered::builder(upper, lower.clone())
        .touch_interval(hour)
        .build();
    tiered.put_bytes(&key(1), [1]).unwrap();
    for _ in 0..1000 {
        tiered.get(&key(1)).unwrap().unwrap();
    }
    tiered.flush().unwrap();
    assert_eq!(lower.touched(), []);
    drop(tiered);
    assert_eq!(lower.touched(), [key(1)]);
}

#[test]
fn the_interval_passes_while_the_writer_has_nothing_else_to_do() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let interval = Duration::from_millis(1);
    let tiered = Tiered::builder(upper, lower.clone())
        .touch_interval(interval)
        .build();
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.flush().unwrap();
    eventually("touched again and again", || {
        tiered.get(&key(1)).unwrap().unwrap();
        lower.touched().len() >= 3
    });
}

#[test]
fn a_touch_from_above_reaches_both_tiers() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = Tiered::builder(upper.clone(), lower.clone()).build();
    tiered.touch(&[key(1), key(2)]).unwrap();
    assert_eq!(upper.touched(), [key(1), key(2)]);
    assert_eq!(lower.touched(), [key(1), key(2)]);
}
