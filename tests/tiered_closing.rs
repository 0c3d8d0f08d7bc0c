//! What closing, dropping and flushing leave below.

#[path = "common/map_store.rs"]
mod map_store;

use keepwarm::{ErrorKind, Store, StoreExt, Tiered, WritePolicy};
use map_store::{MapStore, key};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

const POLICIES: [WritePolicy; 2] = [WritePolicy::OnInsert, WritePolicy::OnEviction];

#[test]
fn dropping_writes_everything_below_and_releases_the_lower_tier() {
    for policy in POLICIES {
        let (upper, lower) = (MapStore::new(), Arc::new(MapStore::new()));
        let below = Arc::clone(&lower);
        let tiered = Tiered::builder(upper, below).write_policy(policy).build();
        for n in 0..50 {
            tiered.put_bytes(&key(n), [n]).unwrap();
        }
        drop(tiered);
        assert_eq!(lower.writes().len(), 50, "{policy:?}");
        assert_eq!(lower.flushes.load(SeqCst), 0, "a drop does not sync");
        assert_eq!(Arc::strong_count(&lower), 1, "the writer still holds it");
    }
}

#[test]
fn closing_writes_everything_below_and_flushes() {
    for policy in POLICIES {
        let (upper, lower) = (MapStore::new(), MapStore::new());
        let tiered = Tiered::builder(upper.clone(), lower.clone())
            .write_policy(policy)
            .build();
        tiered.put_bytes(&key(1), [1]).unwrap();
        tiered.close().unwrap();
        assert_eq!(lower.writes(), [(key(1), vec![1])]);
        assert_eq!(
            (lower.flushes.load(SeqCst), upper.flushes.load(SeqCst)),
            (1, 1)
        );
    }
}

#[test]
fn closing_reports_what_could_not_be_written() {
    for policy in POLICIES {
        let (upper, lower) = (MapStore::new(), MapStore::new());
        let tiered = Tiered::builder(upper, lower.clone())
            .write_policy(policy)
            .build();
        lower.fail_puts.set(usize::MAX);
        tiered.put_bytes(&key(1), [1]).unwrap();
        assert_eq!(tiered.close().unwrap_err().kind(), ErrorKind::WriteFailed);
    }
}

#[test]
fn a_flush_covers_everything_put_before_it() {
    for policy in POLICIES {
        let (upper, lower) = (MapStore::with_budget(20), MapStore::new());
        let tiered = Tiered::builder(upper, lower.clone())
            .write_policy(policy)
            .build();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (tiered, lower) = (&tiered, &lower);
                scope.spawn(move || {
                    for n in 0..40 {
                        let key = key(thread * 40 + n);
                        tiered.put_bytes(&key, [n]).unwrap();
                        tiered.flush().unwrap();
                        assert_eq!(lower.peek(&key), Some(vec![n]));
                    }
                });
            }
        });
    }
}
