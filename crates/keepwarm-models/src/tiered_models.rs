//! What a composition of tiers promises about one key, under every schedule. Waits in these models
//! do not end by time, so a waiter that nobody wakes is a deadlock, which the checker reports.
#![allow(clippy::missing_panics_doc, reason = "that is how a model says no")]

use crate::{
    Displaced, Entry, Fingerprint, PutOutcome, PutStatus, Result, Store, StoreStats, Thread,
    Tiered, WritePolicy, at_once,
};
use shuttle::sync::atomic::{AtomicU8, Ordering::SeqCst};
use shuttle::sync::{Arc, Condvar, Mutex};

/// A store of the last `room` keys that were put, atomic in each call.
#[derive(Debug)]
struct Tier {
    entries: Mutex<Vec<(Fingerprint, Entry)>>,
    room: usize,
}

impl Tier {
    fn new(room: usize) -> Self {
        Self {
            entries: Mutex::default(),
            room,
        }
    }

    fn with<R>(&self, run: impl FnOnce(&mut Vec<(Fingerprint, Entry)>) -> R) -> R {
        run(&mut self
            .entries
            .lock()
            .unwrap_or_else(|_| panic!("a poisoned tier")))
    }
}

impl Store for Tier {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let find = |all: &mut Vec<(_, Entry)>| all.iter().find(|(k, _)| k == key).cloned();
        Ok(self.with(find).map(|(_, entry)| entry))
    }
    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }
    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        let mut outcome = PutOutcome::new(PutStatus::Stored);
        self.with(|all| {
            all.retain(|(k, _)| k != key);
            all.push((*key, entry));
            while all.len() > self.room {
                let (key, entry) = all.remove(0);
                outcome.displaced.push(Displaced::new(key, entry));
            }
        });
        Ok(outcome)
    }
    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        Ok(self.with(|all| {
            let before = all.len();
            all.retain(|(k, _)| k != key);
            all.len() < before
        }))
    }
    fn touch(&self, _: &[Fingerprint]) -> Result<()> {
        Ok(())
    }
    fn clear(&self) -> Result<()> {
        self.with(Vec::clear);
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

type Model = Tiered<Tier, Tier>;

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

/// Above there is room for one key, so that two displace each other.
fn model(policy: WritePolicy) -> Arc<Model> {
    let tiers = Tiered::builder(Tier::new(1), Tier::new(9));
    Arc::new(tiers.write_policy(policy).build())
}

fn put(model: &Model, n: u8, value: u8) {
    assert!(model.put(&key(n), vec![value].into()).is_ok());
}

fn get(model: &Model, n: u8) -> Option<u8> {
    let found = model.get(&key(n));
    assert!(found.is_ok());
    found.ok().flatten().map(|entry| entry.artifact[0])
}

/// A key that is below only, with nothing left to write.
fn only_below(policy: WritePolicy) -> Arc<Model> {
    let model = model(policy);
    put(&model, 1, 1);
    put(&model, 2, 0);
    assert!(model.flush().is_ok());
    model
}

/// No look-up finds an older value than one that began after it had been seen.
fn newest_wins(policy: WritePolicy, displace: bool) {
    let model = only_below(policy);
    let seen = Arc::new(AtomicU8::new(0));
    let (writer, other) = (Arc::clone(&model), Arc::clone(&model));
    let mut threads: Vec<Thread> = vec![Box::new(move || (2..4).for_each(|n| put(&writer, 1, n)))];
    if displace {
        threads.push(Box::new(move || put(&other, 2, 1)));
    }
    for _ in 0..2 {
        let (reader, seen) = (Arc::clone(&model), Arc::clone(&seen));
        threads.push(Box::new(move || {
            let at_least = seen.load(SeqCst);
            let found = get(&reader, 1);
            assert!(found >= Some(at_least.max(1)), "{found:?} after {at_least}");
            seen.fetch_max(found.unwrap_or(0), SeqCst);
        }));
    }
    at_once(threads, || {
        assert!(model.flush().is_ok());
        assert_eq!(get(&model, 1), Some(3));
        let below = model.lower().get(&key(1)).ok().flatten();
        assert_eq!(below.map(|entry| entry.artifact[0]), Some(3));
    });
}

/// What was removed does not come back: not from the queue, nor by a promotion or demotion.
fn removed_stays_removed(policy: WritePolicy, displace: bool) {
    let model = if displace {
        model(policy)
    } else {
        only_below(policy)
    };
    put(&model, 1, 1);
    let gone = Arc::new(AtomicU8::new(0));
    let (remover, removed) = (Arc::clone(&model), Arc::clone(&gone));
    let (reader, looked) = (Arc::clone(&model), Arc::clone(&gone));
    let other = Arc::clone(&model);
    let threads: Vec<Thread> = vec![
        Box::new(move || {
            assert!(remover.remove(&key(1)).is_ok());
            removed.store(1, SeqCst);
        }),
        Box::new(move || put(&other, 2, 0)),
        Box::new(move || {
            for _ in 0..2 {
                let gone = looked.load(SeqCst) == 1;
                let found = get(&reader, 1);
                assert!(!gone || found.is_none(), "came back");
                if found.is_none() {
                    looked.store(1, SeqCst);
                }
            }
        }),
    ];
    at_once(threads, || {
        assert!(model.flush().is_ok());
        assert_eq!(get(&model, 1), None, "came back");
    });
}

/// A promotion and a removal of one key, and nothing else.
fn promotion_or_removal(policy: WritePolicy) {
    let model = only_below(policy);
    let (remover, reader) = (Arc::clone(&model), Arc::clone(&model));
    let threads: Vec<Thread> = vec![
        Box::new(move || assert!(remover.remove(&key(1)).is_ok())),
        Box::new(move || assert!(get(&reader, 1) <= Some(1))),
    ];
    at_once(threads, || assert_eq!(get(&model, 1), None, "came back"));
}

/// Drops with writes pending end, with everything below.
fn drop_drains(policy: WritePolicy) {
    let lower = Arc::new(Tier::new(9));
    let model = Arc::new(
        Tiered::builder(Tier::new(1), Arc::clone(&lower))
            .write_policy(policy)
            .queue_bytes(0)
            .build(),
    );
    let spawn = |n| -> Thread {
        let model = Arc::clone(&model);
        Box::new(move || assert!(model.put(&key(n), vec![n].into()).is_ok()))
    };
    at_once((0..3).map(spawn).collect(), || drop(model));
    for n in 0..3 {
        assert!(lower.contains(&key(n)).is_ok_and(|there| there), "lost {n}");
    }
}

/// What was below at each drop of a hold.
type Drops = Arc<(Mutex<Vec<Option<u8>>>, Condvar)>;

/// Says, when it is dropped, what is below under its key.
struct Hold {
    lower: Arc<Tier>,
    drops: Drops,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let below = self.lower.get(&key(1)).ok().flatten();
        let (drops, dropped) = &*self.drops;
        if let Ok(mut drops) = drops.lock() {
            drops.push(below.map(|entry| entry.artifact[0]));
        }
        dropped.notify_all();
    }
}

/// A put with a hold, among others that do what `rival` does: the hold is dropped exactly once,
/// without a flush, and then `fits` what is below. A hold that is never dropped is a deadlock.
fn hold(policy: WritePolicy, rival: fn(&Tiered<Tier, Arc<Tier>>), fits: fn(Option<u8>) -> bool) {
    let lower = Arc::new(Tier::new(9));
    let tiers = Tiered::builder(Tier::new(1), Arc::clone(&lower));
    let model = Arc::new(tiers.write_policy(policy).build());
    let drops = Drops::default();
    let (holder, held) = (Arc::clone(&model), Arc::clone(&drops));
    let (other, displacer) = (Arc::clone(&model), Arc::clone(&model));
    let threads: Vec<Box<dyn FnOnce() + Send>> = vec![
        Box::new(move || {
            let hold = Box::new(Hold { lower, drops: held });
            let put = holder.put_holding(&key(1), vec![1].into(), Some(hold));
            assert!(put.is_ok());
        }),
        Box::new(move || rival(&other)),
        Box::new(move || assert!(displacer.put(&key(2), vec![0].into()).is_ok())),
    ];
    at_once(threads, || {
        let (list, dropped) = &*drops;
        let Ok(mut list) = list.lock() else { return };
        while list.is_empty() {
            let Ok(next) = dropped.wait(list) else { return };
            list = next;
        }
        drop(list);
        drop(model);
        let Ok(list) = drops.0.lock() else { return };
        assert_eq!(list.len(), 1, "dropped more than once");
        assert!(fits(list[0]), "dropped with {:?} below", list[0]);
    });
}

/// Whatever is put meanwhile, the hold is not dropped before its entry, or a newer one, is below.
fn hold_until_below(policy: WritePolicy) {
    let put = |model: &Tiered<Tier, Arc<Tier>>| {
        assert!(model.put(&key(1), vec![2].into()).is_ok());
    };
    hold(policy, put, |below| below.is_some());
    let flush = |model: &Tiered<Tier, Arc<Tier>>| assert!(model.flush().is_ok());
    hold(policy, flush, |below| below == Some(1));
}

/// What removes the entry ends the hold, once.
fn hold_until_gone(policy: WritePolicy) {
    let fits = |below: Option<u8>| below == Some(1) || below.is_none();
    let remove = |model: &Tiered<Tier, Arc<Tier>>| assert!(model.remove(&key(1)).is_ok());
    hold(policy, remove, fits);
    let clear = |model: &Tiered<Tier, Arc<Tier>>| assert!(model.clear().is_ok());
    hold(policy, clear, fits);
}

/// Runs a model under both policies.
fn both(model: fn(WritePolicy)) {
    model(WritePolicy::OnInsert);
    model(WritePolicy::OnEviction);
}

/// See [`newest_wins`].
pub fn no_older_value_after_a_newer_one() {
    both(|policy| newest_wins(policy, false));
    both(|policy| newest_wins(policy, true));
}

/// See [`removed_stays_removed`].
pub fn no_value_after_its_removal() {
    both(promotion_or_removal);
    both(|policy| removed_stays_removed(policy, false));
    both(|policy| removed_stays_removed(policy, true));
}

/// See [`drop_drains`].
pub fn nothing_lost_at_the_end() {
    both(drop_drains);
}

/// See [`hold_until_below`] and [`hold_until_gone`].
pub fn holds_are_dropped_once_and_not_before_the_entry_is_below() {
    both(hold_until_below);
    both(hold_until_gone);
}
