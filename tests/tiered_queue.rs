//! The queue of writes is bounded, and so is every wait for it.

#[path = "common/map_store.rs"]
mod map_store;

use keepwarm::{ErrorKind, Store, StoreExt, Tiered, WritePolicy};
use map_store::{MapStore, eventually, key};
use std::time::Duration;

/// Room for two entries of a kilobyte, with what each costs beside its bytes.
const TWO: u64 = 2 * (1024 + 256);

#[test]
fn a_put_waits_until_the_queue_has_room() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = Tiered::builder(upper, lower.clone())
        .queue_bytes(TWO)
        .build();
    lower.puts.close();
    let put = |n| tiered.put_bytes(&key(n), vec![n; 1024]).unwrap();
    put(1);
    lower.puts.wait_for_a_call();
    put(2);
    std::thread::scope(|scope| {
        let third = scope.spawn(|| put(3));
        eventually("bound in the table", || {
            tiered.durability().unwritten_entries == 3
        });
        assert!(
            tiered.get(&key(3)).unwrap().is_some(),
            "a get does not wait"
        );
        assert!(!third.is_finished());
        lower.puts.open();
        assert!(third.join().unwrap());
    });
    tiered.flush().unwrap();
    assert_eq!(lower.writes().len(), 3);
}

#[test]
fn an_entry_larger_than_the_whole_queue_is_admitted() {
    let (upper, lower) = (MapStore::with_budget(0), MapStore::new());
    let tiered = Tiered::builder(upper, lower.clone()).queue_bytes(0).build();
    for n in 0..3 {
        assert!(tiered.put_bytes(&key(n), vec![n; 1024]).unwrap());
    }
    tiered.flush().unwrap();
    assert_eq!(lower.writes().len(), 3);
}

#[test]
fn a_put_that_finds_no_room_for_too_long_writes_itself() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let (upper, lower) = (MapStore::with_budget(0), MapStore::new());
        let tiered = Tiered::builder(upper, lower.clone())
            .write_policy(policy)
            .queue_bytes(0)
            .wait_limit(Duration::from_millis(1))
            .build();
        lower.puts.close();
        std::thread::scope(|scope| {
            for n in [1, 2] {
                let tiered = &tiered;
                scope.spawn(move || tiered.put_bytes(&key(n), [n]).unwrap());
            }
            // The writer is one thread: the other one is a put.
            lower.puts.wait_for_calls(2);
            lower.puts.open();
        });
        eventually("written", || tiered.durability().survives_a_kill());
    }
}

#[test]
fn waiting_for_a_lower_tier_that_hangs_is_bounded() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = Tiered::builder(upper.clone(), lower.clone())
        .wait_limit(Duration::from_millis(5))
        .build();
    lower.puts.close();
    tiered.put_bytes(&key(1), [1]).unwrap();
    lower.puts.wait_for_a_call();
    assert_eq!(tiered.flush().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(
        tiered.remove(&key(1)).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert_eq!(tiered.clear().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(
        upper.peek(&key(1)),
        Some(vec![1]),
        "a failed remove changes nothing"
    );
    tiered.put_bytes(&key(1), [2]).unwrap();
    drop(tiered);
    assert_eq!(lower.peek(&key(1)), None, "the drop did not wait for ever");
    // The writer goes on alone.
    lower.puts.open();
    eventually("written", || lower.peek(&key(1)) == Some(vec![2]));
}

#[test]
fn on_eviction_a_get_skips_the_promotion_when_the_queue_is_full() {
    let (upper, lower) = (MapStore::with_budget(1), MapStore::new());
    lower.put_bytes(&key(9), [9]).unwrap();
    let tiered = Tiered::builder(upper.clone(), lower.clone())
        .write_policy(WritePolicy::OnEviction)
        .queue_bytes(257)
        .build();
    lower.puts.close();
    tiered.put_bytes(&key(1), [1]).unwrap();
    tiered.put_bytes(&key(2), [2]).unwrap();
    lower.puts.wait_for_a_call();
    assert!(tiered.get(&key(9)).unwrap().is_some());
    assert_eq!(
        upper.peek(&key(2)),
        Some(vec![2]),
        "displaced without room to go"
    );
    lower.puts.open();
}
