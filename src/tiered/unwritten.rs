//! What the lower tier does not hold yet: a table by key and a queue, as plain data.
//!
//! A slot holds the newest content of a key that is not below yet: an entry, or (after a write and
//! the removal of what it replaced both failed) the knowledge that nothing below may be served.
//! What has no slot is *clean*: the lower tier knows it.
//!
//! # Invariants
//!
//! * A key has at most one slot, and the slot holds the newest put.
//! * A key is in the queue exactly once if its slot is [`State::Waiting`], else not at all.
//! * At most one write of a key is in flight, and while it is, the key has a slot.
//! * A slot is [`State::Writing`] exactly if the content in flight is the newest one.
//! * `queue_cost` is the sum of the costs of what waits and of what is in flight.
//! * A slot with a [`Hold`] is never [`State::Dirty`]: somebody waits for it.
//!
//! A removal claims the slot as a write does, so the two exclude each other with one mechanism.
//! What leaves the table is returned, so that the caller frees it outside its lock: a hold may do
//! anything when it is dropped.

use crate::fingerprint::Fingerprint;
use crate::store::Entry;
use rustc_hash::FxHashMap;
use std::any::Any;
use std::collections::BTreeMap;

/// What an entry costs in the queue beside its bytes, so that empty artifacts are bounded too.
pub(super) const ENTRY_OVERHEAD: u64 = 256;

/// What the lower tier should hold under a key: an entry, or (`None`) nothing.
pub(super) type Content = Option<Entry>;

/// Something of whoever put an entry, dropped when the newest content of the key has left the
/// table: written, refused, given up, removed or cleared. A newer put takes it over, since who
/// waits for the drop will then look for the newest.
pub(crate) type Hold = Box<dyn Any + Send>;

/// A content that somebody writes below, or removes; ended by [`Table::settle`],
/// [`Table::condemn`] or [`Table::give_back`].
#[derive(Debug)]
pub(super) struct Job {
    pub(super) key: Fingerprint,
    pub(super) content: Content,
    id: u64,
    was_dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be queued when the upper tier displaces it, or at a flush.
    Dirty,
    /// In the queue, at this place.
    Waiting(u64),
    /// To be queued as soon as the older content that is in flight has landed.
    Next,
    /// In flight itself.
    Writing,
}

/// What is not below yet of a key. Whoever takes it out of the table drops it outside its lock.
#[derive(Debug)]
pub(super) struct Slot {
    content: Content,
    /// Names this very put.
    id: u64,
    state: State,
    /// The cost of what is in flight, which may be older than `content`.
    in_flight: Option<u64>,
    /// It was to be queued while it was in flight: should that come to nothing, it is.
    asked: bool,
    hold: Option<Hold>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: FxHashMap<Fingerprint, Slot>,
    queue: BTreeMap<u64, Fingerprint>,
    last_id: u64,
    queue_cost: u64,
    jobs: usize,
    entries: u64,
    bytes: u64,
    settled: u64,
    left: u64,
    holds: usize,
    paused: bool,
}

fn len(content: &Content) -> u64 {
    content.as_ref().map_or(0, |e| e.artifact.len() as u64)
}

fn cost(content: &Content) -> u64 {
    len(content).saturating_add(ENTRY_OVERHEAD)
}

impl Table {
    /// Puts the newest content of `key`; returns what it replaces. It is queued if `queue` says so
    /// or there is a hold, its own or the one that it takes over.
    pub(super) fn insert(
        &mut self,
        key: Fingerprint,
        entry: Entry,
        queue: bool,
        hold: Option<Hold>,
    ) -> Option<Slot> {
        let mut old = self.retire(&key);
        let (in_flight, place) = match &old {
            Some(slot) => (slot.in_flight, slot.state),
            None => (None, State::Dirty),
        };
        let hold = hold.or_else(|| old.as_mut()?.hold.take());
        let queue = queue || hold.is_some();
        let id = self.next_id();
        let content = Some(entry);
        self.entries += 1;
        self.holds += usize::from(hold.is_some());
        self.bytes = self.bytes.saturating_add(len(&content));
        let slot = Slot {
            content,
            id,
            state: State::Dirty,
            in_flight,
            asked: false,
            hold,
        };
        self.slots.insert(key, slot);
        if queue {
            // It keeps the place of the put it replaces: a key put again and again is written.
            let place = match place {
                State::Waiting(place) => Some(place),
                _ => None,
            };
            self.queue_at(&key, place);
        }
        old
    }

    /// Takes the slot of `key` out of the table and its accounts; what is in flight stays counted.
    fn retire(&mut self, key: &Fingerprint) -> Option<Slot> {
        let slot = self.slots.remove(key)?;
        self.left = self.left.saturating_add(1);
        if let State::Waiting(place) = slot.state {
            self.queue.remove(&place);
        }
        if matches!(slot.state, State::Waiting(_) | State::Next) {
            self.queue_cost = self.queue_cost.saturating_sub(cost(&slot.content));
        }
        let holds = usize::from(slot.hold.is_some());
        self.holds = self.holds.saturating_sub(holds);
        if slot.content.is_some() {
            self.entries = self.entries.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(len(&slot.content));
        }
        Some(slot)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Queues a dirty slot, at an old place or at the end.
    fn queue_at(&mut self, key: &Fingerprint, place: Option<u64>) -> bool {
        let place = place.unwrap_or_else(|| self.next_id());
        let Some(slot) = self.slots.get_mut(key) else {
            return false;
        };
        if slot.state != State::Dirty {
            slot.asked |= slot.state == State::Writing;
            return false;
        }
        self.queue_cost = self.queue_cost.saturating_add(cost(&slot.content));
        if slot.in_flight.is_some() {
            slot.state = State::Next;
        } else {
            slot.state = State::Waiting(place);
            self.queue.insert(place, *key);
        }
        true
    }

    /// Queues `key` if it is dirty: the upper tier displaced it. A clean key is left alone, so
    /// that a demotion never undoes what somebody else did below since. Tells whether it queued.
    pub(super) fn demote(&mut self, key: &Fingerprint) -> bool {
        let is_entry = self.slots.get(key).is_some_and(|s| s.content.is_some());
        is_entry && self.queue_at(key, None)
    }

    /// Queues everything; returns a name for every content that is not below yet.
    pub(super) fn queue_all(&mut self) -> Vec<(Fingerprint, u64)> {
        let names: Vec<_> = self.slots.iter().map(|(key, s)| (*key, s.id)).collect();
        for (key, _) in &names {
            self.queue_at(key, None);
        }
        names
    }

    /// The newest content of `key`, if it is not below yet.
    pub(super) fn get(&self, key: &Fingerprint) -> Option<&Content> {
        self.slots.get(key).map(|slot| &slot.content)
    }

    /// The keys whose newest content is an entry of which `is_it` says so.
    pub(super) fn keys(&self, is_it: impl Fn(&Entry) -> bool) -> Vec<Fingerprint> {
        let is_it = |slot: &Slot| slot.content.as_ref().is_some_and(&is_it);
        let slots = self.slots.iter().filter(|(_, slot)| is_it(slot));
        slots.map(|(key, _)| *key).collect()
    }

    /// Whether the content of that name still has to be written.
    pub(super) fn is_pending(&self, key: &Fingerprint, id: u64) -> bool {
        self.slots.get(key).is_some_and(|slot| slot.id == id)
    }

    /// Whether the newest content of `key` is queued and nobody writes it yet.
    pub(super) fn is_queued(&self, key: &Fingerprint) -> bool {
        let state = self.slots.get(key).map(|slot| slot.state);
        matches!(state, Some(State::Waiting(_) | State::Next))
    }

    /// Whether a write of `key` is in flight.
    pub(super) fn is_in_flight(&self, key: &Fingerprint) -> bool {
        self.slots.get(key).is_some_and(|s| s.in_flight.is_some())
    }

    /// Whether [`claim_next`](Self::claim_next) would find something.
    pub(super) fn has_next(&self) -> bool {
        !self.paused && !self.queue.is_empty()
    }

    /// Claims the oldest content of the queue; nothing while paused.
    pub(super) fn claim_next(&mut self) -> Option<Job> {
        if !self.has_next() {
            return None;
        }
        let key = *self.queue.values().next()?;
        self.claim(&key)
    }

    /// Claims the content of `key`, queued or dirty, unless a write of it is in flight.
    pub(super) fn claim(&mut self, key: &Fingerprint) -> Option<Job> {
        let slot = self.slots.get_mut(key)?;
        if slot.in_flight.is_some() {
            return None;
        }
        let cost = cost(&slot.content);
        if let State::Waiting(place) = slot.state {
            self.queue.remove(&place);
        } else {
            self.queue_cost = self.queue_cost.saturating_add(cost);
        }
        let was_dirty = slot.state == State::Dirty;
        slot.state = State::Writing;
        slot.in_flight = Some(cost);
        self.jobs += 1;
        Some(Job {
            key: *key,
            content: slot.content.clone(),
            id: slot.id,
            was_dirty,
        })
    }

    /// Ends a job; `true` if nothing newer was put meanwhile. What was put meanwhile is queued if
    /// it waited for this.
    fn land(&mut self, job: &Job) -> bool {
        let Some(slot) = self.slots.get_mut(&job.key) else {
            return false;
        };
        if let Some(cost) = slot.in_flight.take() {
            self.queue_cost = self.queue_cost.saturating_sub(cost);
            self.jobs = self.jobs.saturating_sub(1);
            self.settled += 1;
            self.left = self.left.saturating_add(1);
        }
        if slot.id == job.id {
            return true;
        }
        if slot.state == State::Next {
            self.queue_cost = self.queue_cost.saturating_sub(cost(&slot.content));
            slot.state = State::Dirty;
            self.queue_at(&job.key, None);
        }
        false
    }

    /// Ends a job that reached the lower tier, or was given up.
    pub(super) fn settle(&mut self, job: &Job) -> Option<Slot> {
        if !self.land(job) {
            return None;
        }
        self.retire(&job.key)
    }

    /// Ends a job that failed with something older left below: until the next flush tries again
    /// to remove it, the key is a miss.
    pub(super) fn condemn(&mut self, job: &Job) -> Option<Slot> {
        if !self.land(job) {
            return None;
        }
        let gone = self.retire(&job.key);
        let slot = Slot {
            content: None,
            id: self.next_id(),
            state: State::Dirty,
            in_flight: None,
            asked: false,
            hold: None,
        };
        self.slots.insert(job.key, slot);
        gone
    }

    /// Ends a job as if it had not been claimed.
    pub(super) fn give_back(&mut self, job: &Job) {
        if !self.land(job) {
            return;
        }
        let mut queue = !job.was_dirty;
        if let Some(slot) = self.slots.get_mut(&job.key) {
            slot.state = State::Dirty;
            queue |= std::mem::take(&mut slot.asked);
        }
        if queue {
            self.queue_at(&job.key, None);
        }
    }

    /// Stops or resumes handing out jobs.
    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Forgets everything; only while no job is in flight.
    pub(super) fn take_all(&mut self) -> Vec<Slot> {
        debug_assert_eq!(self.jobs, 0, "cleared under a write in flight");
        self.queue.clear();
        (self.queue_cost, self.entries, self.bytes, self.holds) = (0, 0, 0, 0);
        self.left = self.left.saturating_add(1);
        self.slots.drain().map(|(_, slot)| slot).collect()
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Jobs in flight.
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Whether nothing is queued and nothing in flight.
    #[cfg(test)]
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.jobs == 0
    }

    /// The cost of what waits and of what is in flight.
    pub(super) fn queue_cost(&self) -> u64 {
        self.queue_cost
    }

    /// How many holds there are.
    pub(super) fn holds(&self) -> usize {
        self.holds
    }

    /// Entries that are not below yet, and their bytes.
    pub(super) fn unwritten(&self) -> (u64, u64) {
        (self.entries, self.bytes)
    }

    /// Whether a clear has stopped the handing out of jobs.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Grows whenever a job ends or a content leaves the table, replaced and forgotten ones
    /// included: whatever anybody may wait for.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// How many jobs have ended, ever; grows while there is progress.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, HashMap};
    use std::sync::{Arc, Mutex};

    fn key(n: u8) -> Fingerprint {
        Fingerprint::from_bytes([n; 32])
    }

    fn entry(n: usize) -> Entry {
        vec![7; n].into()
    }

    fn content(gone: Option<Slot>) -> Content {
        gone.and_then(|slot| slot.content)
    }

    impl Table {
        /// The invariants of the module's documentation.
        fn check(&self) {
            let mut expected = 0;
            let mut jobs = 0;
            for (key, slot) in &self.slots {
                if let State::Waiting(place) = slot.state {
                    assert_eq!(self.queue.get(&place), Some(key));
                    assert!(slot.in_flight.is_none(), "waiting and in flight");
                }
                if matches!(slot.state, State::Waiting(_) | State::Next) {
                    expected += cost(&slot.content);
                }
                if matches!(slot.state, State::Writing | State::Next) {
                    assert!(slot.in_flight.is_some());
                }
                assert!(slot.hold.is_none() || slot.state != State::Dirty);
                expected += slot.in_flight.unwrap_or(0);
                jobs += usize::from(slot.in_flight.is_some());
            }
            let waiting = |s: &&Slot| matches!(s.state, State::Waiting(_));
            assert_eq!(
                self.queue.len(),
                self.slots.values().filter(waiting).count()
            );
            assert_eq!((self.queue_cost, self.jobs), (expected, jobs));
            let held = self.slots.values().filter(|s| s.hold.is_some());
            assert_eq!(self.holds, held.count());
            let some: Vec<_> = self
                .slots
                .values()
                .filter_map(|s| s.content.as_ref())
                .collect();
            let bytes = some.iter().map(|e| e.artifact.len() as u64).sum();
            assert_eq!(self.unwritten(), (some.len() as u64, bytes));
        }
    }

    #[test]
    fn jobs_come_in_the_order_of_puts() {
        let mut table = Table::default();
        for n in [3, 1, 2] {
            table.insert(key(n), entry(1), true, None);
        }
        table.insert(key(3), entry(2), true, None);
        let order: Vec<_> = std::iter::from_fn(|| table.claim_next().map(|j| j.key)).collect();
        assert_eq!(order, [key(3), key(1), key(2)]);
        table.check();
    }

    #[test]
    fn a_put_over_a_write_in_flight_is_written_after_it() {
        let mut table = Table::default();
        table.insert(key(1), entry(1), true, None);
        let old = table.claim_next().unwrap();
        table.insert(key(1), entry(2), true, None);
        assert!(table.claim_next().is_none(), "two writes of one key");
        assert!(table.claim(&key(1)).is_none(), "two writes of one key");
        assert!(table.settle(&old).is_none());
        let new = table.claim_next().unwrap();
        assert_eq!(new.content, Some(entry(2)));
        assert_eq!(content(table.settle(&new)), Some(entry(2)));
        assert_eq!(table.len(), 0);
        table.check();
    }

    #[test]
    fn a_clean_key_is_not_queued_by_a_demotion() {
        let mut table = Table::default();
        assert!(!table.demote(&key(1)));
        table.insert(key(1), entry(1), false, None);
        assert!(table.claim_next().is_none());
        assert!(table.demote(&key(1)));
        assert!(!table.demote(&key(1)), "queued twice");
        let job = table.claim_next().unwrap();
        table.settle(&job);
        assert!(!table.demote(&key(1)));
        table.check();
    }

    #[test]
    fn a_condemned_key_hides_what_is_below_until_it_is_removed_or_put() {
        let mut table = Table::default();
        table.insert(key(1), entry(1), true, None);
        let job = table.claim_next().unwrap();
        assert_eq!(content(table.condemn(&job)), Some(entry(1)));
        assert_eq!(table.get(&key(1)), Some(&None));
        assert_eq!(table.unwritten(), (0, 0));
        assert!(!table.demote(&key(1)));
        table.queue_all();
        let job = table.claim_next().unwrap();
        assert_eq!(job.content, None);
        table.settle(&job);
        assert_eq!(table.get(&key(1)), None);
        table.check();
    }

    /// The holds that are not dropped yet.
    type Live = Arc<Mutex<BTreeSet<u64>>>;

    struct Held(Live, u64);

    impl Held {
        fn hold(live: &Live, id: u64) -> Hold {
            live.lock().unwrap().insert(id);
            Box::new(Self(Arc::clone(live), id))
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.0.lock().unwrap().remove(&self.1);
        }
    }

    #[test]
    fn a_hold_lives_until_the_newest_content_of_its_key_has_left() {
        let live = Live::default();
        let held = || !live.lock().unwrap().is_empty();
        let mut table = Table::default();
        table.insert(key(1), entry(1), false, Some(Held::hold(&live, 1)));
        let old = table.claim_next().expect("queued at once");
        drop(table.insert(key(1), entry(2), false, None));
        drop(table.settle(&old));
        assert!(held(), "the newer put is not below");
        let new = table
            .claim_next()
            .expect("who waits for it must not wait for an eviction");
        table.give_back(&new);
        assert!(held(), "neither removed nor written");
        let new = table.claim_next().unwrap();
        let gone = table.settle(&new);
        assert!(held(), "dropped under the lock of the table");
        drop(gone);
        assert!(!held());

        table.insert(key(1), entry(1), true, Some(Held::hold(&live, 2)));
        let job = table.claim_next().unwrap();
        drop(table.condemn(&job));
        assert!(!held(), "it will never be below");

        table.insert(key(1), entry(1), true, Some(Held::hold(&live, 3)));
        drop(table.insert(key(1), entry(1), true, Some(Held::hold(&live, 4))));
        assert_eq!(*live.lock().unwrap(), BTreeSet::from([4]));
        drop(table.take_all());
        assert!(!held(), "cleared");
        table.check();
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u8, usize, bool),
        InsertHolding(u8, usize),
        Demote(u8),
        QueueAll,
        Claim,
        ClaimKey(u8),
        Settle(usize),
        Condemn(usize),
        GiveBack(usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => (0..4_u8, 0..9_usize, any::<bool>()).prop_map(|(k, n, q)| Op::Insert(k, n, q)),
            2 => (0..4_u8, 0..9_usize).prop_map(|(k, n)| Op::InsertHolding(k, n)),
            2 => (0..4_u8).prop_map(Op::Demote),
            1 => Just(Op::QueueAll),
            3 => Just(Op::Claim),
            1 => (0..4_u8).prop_map(Op::ClaimKey),
            3 => (0..4_usize).prop_map(Op::Settle),
            1 => (0..4_usize).prop_map(Op::Condemn),
            1 => (0..4_usize).prop_map(Op::GiveBack),
        ];
        proptest::collection::vec(op, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// The reference says what is the newest of each key, and that nothing is lost: a content
        /// stays in the table until a job that carried exactly it was settled, and so does what is
        /// held for the key.
        #[test]
        #[cfg_attr(miri, ignore = "safe code of one thread: hours, and nothing for Miri to see")]
        fn the_table_holds_what_a_plain_map_holds(ops in ops()) {
            let mut table = Table::default();
            let mut model: HashMap<Fingerprint, (u64, Content)> = HashMap::new();
            let mut jobs: Vec<(Job, u64)> = Vec::new();
            let live = Live::default();
            let mut holds: HashMap<Fingerprint, u64> = HashMap::new();
            let mut version = 0;
            for op in ops {
                version += 1;
                match op {
                    Op::Insert(k, n, _) | Op::InsertHolding(k, n) => {
                        let hold = matches!(op, Op::InsertHolding(..)).then(|| {
                            holds.insert(key(k), version);
                            Held::hold(&live, version)
                        });
                        let queue = matches!(op, Op::Insert(_, _, true));
                        let old = content(table.insert(key(k), entry(n), queue, hold));
                        let before = model.insert(key(k), (version, Some(entry(n))));
                        prop_assert_eq!(old, before.and_then(|(_, content)| content));
                    }
                    Op::Demote(k) => { table.demote(&key(k)); }
                    Op::QueueAll => prop_assert_eq!(table.queue_all().len(), model.len()),
                    Op::Claim | Op::ClaimKey(_) => {
                        let job = match op {
                            Op::ClaimKey(k) => table.claim(&key(k)),
                            _ => table.claim_next(),
                        };
                        if let Some(job) = job {
                            prop_assert!(jobs.iter().all(|(other, _)| other.key != job.key));
                            let (version, content) = &model[&job.key];
                            prop_assert_eq!(content, &job.content);
                            jobs.push((job, *version));
                        }
                    }
                    Op::Settle(i) | Op::Condemn(i) | Op::GiveBack(i) => {
                        if i >= jobs.len() { continue; }
                        let (job, carried) = jobs.swap_remove(i);
                        let newest = model[&job.key].0 == carried;
                        match op {
                            Op::Settle(_) => { table.settle(&job); }
                            Op::Condemn(_) => { table.condemn(&job); }
                            _ => table.give_back(&job),
                        }
                        if newest && !matches!(op, Op::GiveBack(_)) {
                            holds.remove(&job.key);
                        }
                        match op {
                            Op::Settle(_) if newest => { model.remove(&job.key); }
                            Op::Condemn(_) if newest => { model.insert(job.key, (version, None)); }
                            _ => {}
                        }
                    }
                }
                table.check();
                prop_assert_eq!(&*live.lock().unwrap(), &holds.values().copied().collect());
                for k in 0..4 {
                    let expected = model.get(&key(k)).map(|(_, content)| content);
                    prop_assert_eq!(table.get(&key(k)), expected);
                }
            }
            for (job, _) in jobs {
                table.settle(&job);
            }
            table.queue_all();
            while let Some(job) = table.claim_next() {
                table.settle(&job);
            }
            prop_assert!(table.is_drained());
            prop_assert_eq!(table.len(), 0, "something stays for ever");
            prop_assert!(live.lock().unwrap().is_empty(), "held for ever");
            table.check();
        }
    }
}
