//! Puts, gets, removes and promotions of one key keep their order.
#![allow(clippy::unwrap_used, reason = "for tests only")]

#[path = "common/map_store.rs"]
mod map_store;

use keepwarm::{Entry, Fingerprint, Store, StoreExt, Tiered, WritePolicy};
use map_store::{MapStore, key};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

const POLICIES: [WritePolicy; 2] = [WritePolicy::OnInsert, WritePolicy::OnEviction];

#[test]
fn of_two_puts_the_newer_one_stays_below() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = Tiered::builder(upper, lower.clone()).build();
    lower.puts.close();
    tiered.put_bytes(&key(1), [1]).unwrap();
    lower.puts.wait_for_a_call();
    for n in 2..5 {
        tiered.put_bytes(&key(1), [n]).unwrap();
    }
    lower.puts.open();
    tiered.flush().unwrap();
    assert_eq!(lower.writes(), [(key(1), vec![1]), (key(1), vec![4])]);
}

#[test]
fn a_removed_entry_does_not_come_back_from_the_queue() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = Tiered::builder(upper, lower.clone()).build();
    lower.puts.close();
    tiered.put_bytes(&key(1), [1]).unwrap();
    lower.puts.wait_for_a_call();
    tiered.put_bytes(&key(2), [2]).unwrap();
    assert!(tiered.remove(&key(2)).unwrap(), "it waited in the queue");
    std::thread::scope(|scope| {
        let remove = scope.spawn(|| tiered.remove(&key(1)).unwrap());
        lower.puts.open();
        assert!(remove.join().unwrap(), "its write was in flight");
    });
    assert!(!tiered.remove(&key(1)).unwrap());
    tiered.flush().unwrap();
    for n in [1, 2] {
        assert_eq!(tiered.get(&key(n)).unwrap(), None);
        assert_eq!(lower.peek(&key(n)), None);
    }
}

#[test]
fn nothing_comes_back_from_the_queue_after_a_clear() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = Tiered::builder(upper, lower.clone()).build();
    lower.puts.close();
    for n in 0..5 {
        tiered.put_bytes(&key(n), [n]).unwrap();
    }
    lower.puts.wait_for_a_call();
    std::thread::scope(|scope| {
        let clear = scope.spawn(|| tiered.clear().unwrap());
        lower.puts.open();
        clear.join().unwrap();
    });
    assert_eq!(tiered.durability().unwritten_entries, 0);
    tiered.put_bytes(&key(9), [9]).unwrap();
    tiered.flush().unwrap();
    for n in 0..5 {
        assert_eq!(tiered.get(&key(n)).unwrap(), None);
        assert_eq!(lower.peek(&key(n)), None);
    }
    assert_eq!(lower.peek(&key(9)), Some(vec![9]));
}

/// A look-up misses above; behind its back one entry comes above, and a newer one is on its way.
#[test]
fn a_get_does_not_see_below_what_is_not_above_yet() {
    let (upper, lower) = (MapStore::new(), MapStore::new());
    let tiered = Tiered::builder(upper.clone(), lower).build();
    std::thread::scope(|scope| {
        upper.gets_after.close();
        let slow = scope.spawn(|| tiered.get_artifact(&key(1)).unwrap());
        upper.gets_after.wait_for_a_call();
        tiered.put_bytes(&key(1), [1]).unwrap();
        upper.puts.close();
        let put = scope.spawn(|| tiered.put_bytes(&key(1), [2]).unwrap());
        upper.puts.wait_for_a_call();
        upper.gets_after.open();
        let first = slow.join().unwrap();
        let second = tiered.get_artifact(&key(1)).unwrap();
        upper.puts.open();
        assert!(put.join().unwrap());
        assert!(
            first.as_deref() <= second.as_deref(),
            "an older one after a newer one"
        );
    });
}

fn numbered(n: u32) -> Entry {
    n.to_le_bytes().to_vec().into()
}

fn number(entry: &Entry) -> u32 {
    u32::from_le_bytes(entry.artifact.as_slice().try_into().unwrap())
}

/// Writers put growing numbers under one key while others displace, promote and remove; no thread
/// ever sees a smaller one than any thread has seen before it asked.
#[test]
fn no_thread_sees_an_older_entry_after_a_newer_one_was_seen() {
    for policy in POLICIES {
        // Above there is room for one entry: the two keys displace each other all the time.
        let (upper, lower) = (MapStore::with_budget(4), MapStore::new());
        let tiered = Tiered::builder(upper, lower)
            .write_policy(policy)
            .queue_bytes(300)
            .touch_interval(std::time::Duration::ZERO)
            .build();
        let hot = key(1);
        let (last, seen) = (AtomicU32::new(0), AtomicU32::new(0));
        let look = || {
            let at_least = seen.load(SeqCst);
            if let Some(entry) = tiered.get(&hot).unwrap() {
                let n = number(&entry);
                assert!(n >= at_least, "saw {n} after {at_least}");
                seen.fetch_max(n, SeqCst);
            }
        };
        let stopped = AtomicU32::new(0);
        let until_stopped = |work: &dyn Fn()| {
            while stopped.load(SeqCst) < 2 {
                work();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| until_stopped(&look));
            }
            scope.spawn(|| {
                until_stopped(&|| {
                    drop(tiered.get(&key(2)).unwrap());
                    tiered.put_bytes(&key(2), [0; 4]).unwrap();
                });
            });
            // One writer at a time: of two puts at once, either may be the newer.
            scope.spawn(|| {
                for round in 0..1500 {
                    let n = last.fetch_add(1, SeqCst) + 1;
                    let _ = tiered.put(&hot, numbered(n)).unwrap();
                    if round % 7 == 0 {
                        tiered.flush().unwrap();
                    }
                    look();
                }
                stopped.fetch_add(1, SeqCst);
            });
            scope.spawn(|| {
                for _ in 0..300 {
                    tiered.remove(&key(2)).unwrap();
                    std::thread::yield_now();
                }
                stopped.fetch_add(1, SeqCst);
            });
        });
        tiered.flush().unwrap();
        let end = tiered.get(&hot).unwrap().unwrap();
        assert_eq!(number(&end), last.load(SeqCst));
    }
}

/// After a remove was seen, what was put before it is gone for good.
#[test]
fn no_thread_sees_an_entry_again_after_it_saw_it_removed() {
    for policy in POLICIES {
        let (upper, lower) = (MapStore::with_budget(4), MapStore::new());
        let tiered = Tiered::builder(upper, lower).write_policy(policy).build();
        let hot = key(1);
        // Entries up to this number were removed before it was stored.
        let (removed, done) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while done.load(SeqCst) == 0 {
                        let gone = removed.load(SeqCst);
                        if let Some(entry) = tiered.get(&hot).unwrap() {
                            assert!(number(&entry) > gone, "came back");
                        }
                        tiered.put_bytes(&key(2), [0; 4]).unwrap();
                    }
                });
            }
            for n in 1..600 {
                let _ = tiered.put(&hot, numbered(n)).unwrap();
                if n % 50 == 0 {
                    tiered.clear().unwrap();
                } else {
                    tiered.remove(&hot).unwrap();
                }
                removed.store(n, SeqCst);
            }
            done.store(1, SeqCst);
        });
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, Vec<u8>),
    Get(u8),
    Contains(u8),
    Remove(u8),
    Flush,
    Clear,
    /// Holds the writes below back, or lets them go.
    Gate(bool),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..12);
    let op = prop_oneof![
        8 => (0..6_u8, bytes()).prop_map(|(k, bytes)| Op::Put(k, bytes)),
        8 => (0..6_u8).prop_map(Op::Get),
        1 => (0..6_u8).prop_map(Op::Contains),
        2 => (0..6_u8).prop_map(Op::Remove),
        1 => Just(Op::Flush),
        1 => (0..20_u8).prop_filter_map("rare", |n| (n == 0).then_some(Op::Clear)),
        1 => any::<bool>().prop_map(Op::Gate),
    ];
    proptest::collection::vec(op, 0..50)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_composition_holds_what_a_map_holds(ops in ops(), on_insert: bool, above in 0..30_u64) {
        let (upper, lower) = (MapStore::with_budget(above), MapStore::new());
        let policy = POLICIES[usize::from(on_insert)];
        let tiered = Tiered::builder(upper, lower.clone()).write_policy(policy).build();
        let mut model: HashMap<Fingerprint, Vec<u8>> = HashMap::new();
        let mut lookups = 0;
        for op in ops {
            if matches!(op, Op::Remove(_) | Op::Flush | Op::Clear) {
                // These wait for writes in flight.
                lower.puts.open();
            }
            match op {
                Op::Put(k, bytes) => {
                    prop_assert!(tiered.put_bytes(&key(k), bytes.clone()).unwrap());
                    model.insert(key(k), bytes);
                }
                Op::Get(k) => {
                    lookups += 1;
                    let found = tiered.get_artifact(&key(k)).unwrap().map(|a| a.to_vec());
                    prop_assert_eq!(found.as_ref(), model.get(&key(k)));
                }
                Op::Contains(k) => {
                    prop_assert_eq!(tiered.contains(&key(k)).unwrap(), model.contains_key(&key(k)));
                }
                Op::Remove(k) => {
                    prop_assert_eq!(tiered.remove(&key(k)).unwrap(), model.remove(&key(k)).is_some());
                }
                Op::Flush => {
                    tiered.flush().unwrap();
                    for (key, bytes) in &model {
                        prop_assert_eq!(lower.peek(key), Some(bytes.clone()));
                    }
                }
                Op::Clear => {
                    tiered.clear().unwrap();
                    model.clear();
                }
                Op::Gate(true) => lower.puts.close(),
                Op::Gate(false) => lower.puts.open(),
            }
        }
        prop_assert_eq!(tiered.stats().lookups, lookups);
        lower.puts.open();
        drop(tiered);
        prop_assert_eq!(lower.stats().entries, model.len() as u64);
        for (key, bytes) in &model {
            prop_assert_eq!(lower.peek(key), Some(bytes.clone()));
        }
    }
}
