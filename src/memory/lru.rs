//! The policy: an exact least-recently-used map, as single-threaded code.
//!
//! A [`Table`] from key to slot, a slab of slots with a list of free ones, and the [`Order`] of
//! use. Every operation is O(1) (amortised where something grows) and hands back what left, so
//! that the caller decides where it is freed.
//!
//! A hit is only noted. Relinking it touches two neighbours that are in nobody's cache, which is
//! most of what a hit would cost; done for many hits in a row the processor overlaps the waiting.
//!
//! Invariants:
//! - the table, the taken slots and the order name the same slots;
//! - notes are brought into the order before anything else changes it, so they name taken slots;
//! - the oldest of the order has no note, so it is the oldest indeed.

use super::key::Key;
use super::order::{Order, Slot, Stamp};
use super::table::Table;
use crate::artifact::Artifact;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::store::Entry;
use std::time::Duration;

/// After so many noted hits the order is brought up to date.
const MOST_NOTES: usize = 32;

#[derive(Debug)]
pub(super) struct Lru {
    table: Table,
    slots: Vec<Option<Kept>>,
    free: Vec<Slot>,
    order: Order,
    notes: Vec<(Slot, Stamp)>,
    oldest_use: Stamp,
}

/// What a slot holds: one cache line of 64 bytes, so that a hit waits for one.
#[derive(Debug)]
#[repr(align(64))]
struct Kept {
    key: Fingerprint,
    artifact: Artifact,
    namespace: NamespaceId,
    /// In nanoseconds.
    build_cost: u64,
    /// In nanoseconds since 1970; zero if it is not known.
    put_at: u64,
}

impl Kept {
    fn new(key: &Key, entry: Entry) -> Self {
        let cost = entry.build_cost.as_nanos();
        Self {
            key: *key.fingerprint(),
            put_at: entry.put_nanos(),
            artifact: entry.artifact,
            namespace: entry.namespace,
            build_cost: u64::try_from(cost).unwrap_or(u64::MAX),
        }
    }

    fn into_entry(self) -> Entry {
        let mut entry = Entry::from(self.artifact);
        if self.put_at != 0 {
            entry = entry.stamped(self.put_at);
        }
        entry.namespace = self.namespace;
        entry.build_cost = Duration::from_nanos(self.build_cost);
        entry
    }

    fn entry(&self) -> Entry {
        let Self { key, artifact, .. } = self;
        Self {
            key: *key,
            artifact: artifact.clone(),
            ..*self
        }
        .into_entry()
    }

    fn size(&self) -> u64 {
        self.artifact.len() as u64
    }
}

/// An entry that left, and when it was last used.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) key: Fingerprint,
    pub(super) entry: Entry,
    pub(super) last_use: Stamp,
}

impl Default for Lru {
    fn default() -> Self {
        Self {
            table: Table::default(),
            slots: Vec::new(),
            free: Vec::new(),
            order: Order::default(),
            notes: Vec::new(),
            oldest_use: Stamp::MAX,
        }
    }
}

impl Lru {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// The entry under `key`, used now.
    pub(super) fn get(&mut self, key: &Key, stamp: Stamp) -> Option<Entry> {
        let slot = self.find(key)?;
        self.notes.push((slot, stamp));
        if self.notes.len() == MOST_NOTES || self.order.oldest() == Some(slot) {
            self.settle();
        }
        Some(self.kept(slot)?.entry())
    }

    /// When the entry under `key` was put, in nanoseconds since 1970; zero if that is not known.
    pub(super) fn put_at(&self, key: &Key) -> Option<u64> {
        Some(self.kept(self.find(key)?)?.put_at)
    }

    /// The size of the entry under `key` if `is_it` says so, knowing its namespace and put.
    pub(super) fn size_if(
        &self,
        key: &Key,
        is_it: impl FnOnce(NamespaceId, u64) -> bool,
    ) -> Option<u64> {
        let kept = self.kept(self.find(key)?)?;
        is_it(kept.namespace, kept.put_at).then(|| kept.size())
    }

    /// Binds `key` to `entry` unless it is bound, behind all that was used after `stamp`.
    pub(super) fn insert_aged(&mut self, key: &Key, entry: Entry, stamp: Stamp) -> bool {
        self.settle();
        if self.find(key).is_some() {
            return false;
        }
        let slot = self.free_slot();
        self.table.insert(key.tag(), slot);
        self.order.insert_aged(slot, stamp);
        self.slots[slot as usize] = Some(Kept::new(key, entry));
        self.look_at_oldest();
        true
    }

    /// The keys of entries of which `is_it` says so, knowing namespace and time of the put.
    pub(super) fn keys(&self, is_it: impl Fn(NamespaceId, u64) -> bool) -> Vec<Fingerprint> {
        let kept = self.slots.iter().flatten();
        kept.filter(|kept| is_it(kept.namespace, kept.put_at))
            .map(|kept| kept.key)
            .collect()
    }

    /// Binds `key` to `entry`, used now; returns what it replaced.
    pub(super) fn insert(&mut self, key: &Key, entry: Entry, stamp: Stamp) -> Option<Entry> {
        self.settle();
        let kept = Some(Kept::new(key, entry));
        let old = if let Some(slot) = self.find(key) {
            self.order.refresh(slot, stamp);
            std::mem::replace(&mut self.slots[slot as usize], kept)
        } else {
            let slot = self.free_slot();
            self.table.insert(key.tag(), slot);
            self.order.insert(slot, stamp);
            std::mem::replace(&mut self.slots[slot as usize], kept)
        };
        self.look_at_oldest();
        Some(old?.into_entry())
    }

    fn free_slot(&mut self) -> Slot {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1)
                .expect("budgets are below 2^31 entries, so slots never run out")
        })
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Removed> {
        self.settle();
        self.vacate(self.find(key)?)
    }

    /// Removes the entry used longest ago that is not the one under `spared`, if `may` has a reason
    /// for it, knowing its size.
    pub(super) fn evict<R>(
        &mut self,
        spared: &Key,
        may: impl FnOnce(u64) -> Option<R>,
    ) -> Option<(Removed, R)> {
        self.settle();
        let mut slot = self.order.oldest()?;
        if self.kept(slot)?.key == *spared.fingerprint() {
            slot = self.order.next_newer(slot)?;
        }
        let reason = may(self.kept(slot)?.size())?;
        Some((self.vacate(slot)?, reason))
    }

    /// When the entry used longest ago was used; [`Stamp::MAX`] if there is none.
    pub(super) fn oldest_use(&self) -> Stamp {
        self.oldest_use
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The bytes of all entries, added up.
    pub(super) fn bytes(&self) -> u64 {
        let kept = self.slots.iter().flatten();
        kept.fold(0, |sum, kept| sum.wrapping_add(kept.size()))
    }

    fn find(&self, key: &Key) -> Option<Slot> {
        let is_it = |slot| {
            let kept = self.kept(slot);
            kept.is_some_and(|kept| kept.key == *key.fingerprint())
        };
        self.table.find(key.tag(), is_it)
    }

    fn kept(&self, slot: Slot) -> Option<&Kept> {
        self.slots[slot as usize].as_ref()
    }

    fn vacate(&mut self, slot: Slot) -> Option<Removed> {
        let kept = self.slots[slot as usize].take()?;
        let (key, entry) = (kept.key, kept.into_entry());
        let last_use = self.order.stamp(slot);
        self.table.remove(Key::new(&key).tag(), slot);
        self.order.remove(slot);
        self.free.push(slot);
        self.look_at_oldest();
        Some(Removed {
            key,
            entry,
            last_use,
        })
    }

    /// Brings the noted hits into the order, oldest first.
    fn settle(&mut self) {
        if self.notes.is_empty() {
            return;
        }
        for (slot, stamp) in self.notes.drain(..) {
            self.order.refresh(slot, stamp);
        }
        self.look_at_oldest();
    }

    /// Remembers when the oldest was used, so that a hit need not look.
    fn look_at_oldest(&mut self) {
        let oldest = self.order.oldest();
        self.oldest_use = oldest.map_or(Stamp::MAX, |slot| self.order.stamp(slot));
    }
}

/// What an entry counts against the byte budget: its artifact's length.
pub(super) fn size(entry: &Entry) -> u64 {
    entry.artifact.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_slot_is_one_cache_line() {
        assert_eq!(size_of::<Option<Kept>>(), 64);
    }

    #[test]
    fn the_oldest_is_known_whatever_was_only_noted() {
        let keys = [0, 1, 2].map(|n| Key::new(&Fingerprint::from_bytes([n; 32])));
        let mut lru = Lru::default();
        for (stamp, key) in (10..).zip(&keys) {
            lru.insert(key, vec![1].into(), stamp);
        }
        assert_eq!(lru.oldest_use(), 10);
        lru.get(&keys[1], 20);
        assert_eq!((lru.notes.len(), lru.oldest_use()), (1, 10));
        // The hit of the oldest brings the other one into the order too.
        lru.get(&keys[0], 21);
        assert_eq!((lru.notes.len(), lru.oldest_use()), (0, 12));
        for n in 0..100 {
            lru.get(&keys[usize::from(n % 2 == 0)], 30 + n);
            assert_eq!(lru.oldest_use(), 12);
        }
        assert!(lru.evict(&keys[2], |_| None::<()>).is_none());
        let (removed, size) = lru.evict(&keys[2], Some).unwrap();
        assert_eq!((lru.len(), size), (2, 1));
        assert_eq!(
            (removed.key, removed.last_use),
            (*keys[1].fingerprint(), 128)
        );
    }

    #[test]
    fn what_comes_in_unused_stands_behind_what_was_used_in_the_order_of_its_stamps() {
        let key = |n: u8| Key::new(&Fingerprint::from_bytes([n; 32]));
        let mut lru = Lru::default();
        assert!(lru.insert_aged(&key(5), vec![5].into(), 50));
        lru.insert(&key(100), vec![1].into(), 1000);
        for n in [3, 4, 9, 1, 7, 8, 2, 6] {
            assert!(lru.insert_aged(&key(n), vec![n].into(), u64::from(n) * 10));
        }
        assert!(
            !lru.insert_aged(&key(7), vec![0].into(), 2000),
            "it is there"
        );
        lru.insert(&key(101), vec![1].into(), 1001);
        lru.get(&key(2), 1002);
        let mut order = Vec::new();
        while let Some(((removed, ()), oldest)) = {
            let oldest = lru.oldest_use();
            lru.evict(&key(200), |_| Some(())).map(|r| (r, oldest))
        } {
            order.push(removed.key.as_bytes()[0]);
            assert!(removed.last_use >= oldest);
        }
        assert_eq!(order, [1, 3, 4, 5, 6, 7, 8, 9, 100, 101, 2]);
        assert_eq!(lru.len(), 0);
    }

    #[test]
    fn an_entry_comes_back_as_it_was_put() {
        let key = Key::new(&Fingerprint::from_bytes([1; 32]));
        let mut lru = Lru::default();
        for put_at in [1, 77, u64::MAX] {
            let mut entry = Entry::from(vec![1, 2]).stamped(put_at);
            entry.namespace = NamespaceId::of("x");
            entry.build_cost = Duration::from_nanos(123_456_789_012);
            lru.insert(&key, entry.clone(), 5);
            let found = lru.get(&key, 6).unwrap();
            assert_eq!((found.put_nanos(), &found), (put_at, &entry));
        }
        lru.insert(&key, vec![3].into(), 7);
        assert_eq!(lru.get(&key, 8).unwrap().put_at(), None);
    }
}
