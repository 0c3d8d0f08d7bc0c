//! What cannot be seen through the public API in one process.

#![allow(clippy::unwrap_used, reason = "for tests only")]

use super::*;
use crate::store::Rejection;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, Weak};
use std::time::Duration;

/// Keeps one entry, and counts what it is asked to change.
#[derive(Debug, Default)]
struct One {
    entry: Mutex<Option<Entry>>,
    changes: Mutex<usize>,
    /// What it does with puts.
    mood: Mood,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Keep,
    Refuse,
    Fail,
    Panic,
}

#[deny(clippy::missing_trait_methods)]
impl Store for One {
    fn get(&self, _: &Fingerprint) -> Result<Option<Entry>> {
        Ok(self.entry.lock().unwrap().clone())
    }
    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }
    fn put(&self, _: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        *self.changes.lock().unwrap() += 1;
        match self.mood {
            Mood::Keep => *self.entry.lock().unwrap() = Some(entry),
            Mood::Refuse => return Ok(PutOutcome::new(PutStatus::Rejected(Rejection::TooLarge))),
            Mood::Fail => return Err(Error::new(ErrorKind::StorageFull, "put")),
            Mood::Panic => panic!("a store that panics"),
        }
        Ok(PutOutcome::new(PutStatus::Stored))
    }
    fn remove(&self, _: &Fingerprint) -> Result<bool> {
        *self.changes.lock().unwrap() += 1;
        Ok(self.entry.lock().unwrap().take().is_some())
    }
    fn touch(&self, _: &[Fingerprint]) -> Result<()> {
        *self.changes.lock().unwrap() += 1;
        Ok(())
    }
    fn clear(&self) -> Result<()> {
        *self.changes.lock().unwrap() += 1;
        self.entry.lock().unwrap().take();
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        *self.changes.lock().unwrap() += 1;
        Ok(())
    }
    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

#[test]
fn a_forked_child_reads_but_changes_nothing_below() {
    let key = Fingerprint::from_bytes([1; 32]);
    let lower = Arc::new(One::default());
    let mut tiered = Tiered::builder(One::default(), Arc::clone(&lower))
        .write_policy(WritePolicy::OnEviction)
        .build();
    let _ = tiered.put(&key, vec![1].into()).unwrap();
    // No writer was started yet, so nobody else holds this.
    let shared = Arc::get_mut(&mut tiered.shared).unwrap();
    shared.queue.pretend_forked();
    assert!(tiered.get(&key).unwrap().is_some());
    let errors = [
        tiered.put(&key, vec![2].into()).unwrap_err(),
        tiered.remove(&key).unwrap_err(),
        tiered.clear().unwrap_err(),
        tiered.flush().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    assert!(!tiered.writer.was_started(), "a thread in the child");
    drop(tiered);
    assert_eq!(*lower.changes.lock().unwrap(), 0);
}

/// Says, when it is dropped, what is below then.
struct Witness {
    lower: Weak<One>,
    said: std::sync::mpsc::Sender<Option<u8>>,
}

impl Drop for Witness {
    fn drop(&mut self) {
        // The table of a store that was dropped goes with its lower tier.
        let lower = self.lower.upgrade();
        let entry = lower.and_then(|lower| lower.entry.lock().unwrap().clone());
        self.said
            .send(entry.map(|entry| entry.artifact[0]))
            .unwrap();
    }
}

const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);
const POLICIES: [WritePolicy; 2] = [WritePolicy::OnInsert, WritePolicy::OnEviction];

fn tiers(policy: WritePolicy, mood: Mood) -> (Tiered<One, Arc<One>>, Arc<One>) {
    let lower = Arc::new(One {
        mood,
        ..One::default()
    });
    let tiers = Tiered::builder(One::default(), Arc::clone(&lower));
    (tiers.write_policy(policy).build(), lower)
}

fn put_witnessed(
    tiered: &Tiered<One, Arc<One>>,
    lower: &Arc<One>,
    value: u8,
) -> Receiver<Option<u8>> {
    let (said, heard) = channel();
    let lower = Arc::downgrade(lower);
    let hold = Box::new(Witness { lower, said });
    let outcome = tiered.put_holding(&KEY, vec![value].into(), Some(hold));
    assert!(!outcome.unwrap().is_rejected());
    heard
}

/// What was below when the hold was dropped.
fn heard(witness: &Receiver<Option<u8>>) -> Option<u8> {
    let said = witness.recv_timeout(Duration::from_secs(20));
    said.expect("held for ever")
}

#[test]
fn a_hold_is_dropped_by_itself_when_its_entry_is_below_whatever_the_policy() {
    for policy in POLICIES {
        let (tiered, lower) = tiers(policy, Mood::Keep);
        let witness = put_witnessed(&tiered, &lower, 7);
        // No flush, no eviction.
        assert_eq!(heard(&witness), Some(7), "{policy:?}");
        assert!(witness.try_recv().is_err(), "dropped twice");
        tiered.close().unwrap();
    }
}

#[test]
fn a_hold_is_dropped_when_its_entry_will_never_be_below() {
    for (policy, mood) in POLICIES
        .into_iter()
        .flat_map(|policy| [Mood::Refuse, Mood::Fail, Mood::Panic].map(|mood| (policy, mood)))
    {
        let (tiered, lower) = tiers(policy, mood);
        let witness = put_witnessed(&tiered, &lower, 7);
        assert_eq!(heard(&witness), None, "{policy:?} {mood:?}");
        let tries = if mood == Mood::Refuse { 1 } else { 2 };
        assert!(*lower.changes.lock().unwrap() >= tries);
        assert_eq!(tiered.flush().is_err(), mood != Mood::Refuse);
    }
}

#[test]
fn a_hold_is_dropped_with_a_store_that_takes_no_put_any_more() {
    let (mut tiered, lower) = tiers(WritePolicy::OnInsert, Mood::Keep);
    Arc::get_mut(&mut tiered.shared)
        .unwrap()
        .queue
        .pretend_forked();
    let (said, witness) = channel();
    let hold = Box::new(Witness {
        lower: Arc::downgrade(&lower),
        said,
    });
    let error = tiered
        .put_holding(&KEY, vec![7].into(), Some(hold))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(heard(&witness), None);
}

#[test]
fn a_hold_ends_with_a_removal_and_with_a_clear() {
    for clear in [false, true] {
        let (tiered, lower) = tiers(WritePolicy::OnInsert, Mood::Keep);
        // The writer is kept from it, so that the removal comes first.
        let paused = tiered.shared.queue.pause().unwrap();
        let witness = put_witnessed(&tiered, &lower, 7);
        assert!(witness.try_recv().is_err(), "nothing is below");
        if clear {
            drop(paused);
            tiered.clear().unwrap();
            assert!(heard(&witness).is_none_or(|written| written == 7));
        } else {
            assert!(tiered.remove(&KEY).unwrap());
            assert_eq!(heard(&witness), None);
            drop(paused);
        }
        assert_eq!(tiered.get(&KEY).unwrap(), None);
    }
}

#[test]
fn a_put_that_replaces_an_unwritten_one_takes_its_hold_over_and_is_written_at_once() {
    let (tiered, lower) = tiers(WritePolicy::OnEviction, Mood::Keep);
    let paused = tiered.shared.queue.pause().unwrap();
    let witness = put_witnessed(&tiered, &lower, 7);
    let _ = tiered.put(&KEY, vec![8].into()).unwrap();
    assert!(witness.try_recv().is_err(), "nothing is below");
    drop(paused);
    assert_eq!(heard(&witness), Some(8));
}
