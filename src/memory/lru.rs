//! The policy: an exact least-recently-used map, as single-threaded code.
//!
//! A map from key to slot, a slab of slots with a list of free ones, and the [`Order`] of use.
//! Every operation is O(1) and hands back what left, so that the caller decides where it is freed.
//! Invariant: the map, the slab's taken slots and the order name the same slots.

use super::key::Key;
use super::order::{Order, Slot, Stamp};
use crate::store::Entry;
use rustc_hash::FxHashMap;
use std::collections::hash_map;

#[derive(Debug, Default)]
pub(super) struct Lru {
    map: FxHashMap<Key, Slot>,
    slots: Vec<Option<(Key, Entry)>>,
    free: Vec<Slot>,
    order: Order,
}

/// An entry that left, and when it was last used.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) key: Key,
    pub(super) entry: Entry,
    pub(super) last_use: Stamp,
}

impl Lru {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.map.contains_key(key)
    }

    /// The entry under `key`, used now.
    pub(super) fn get(&mut self, key: &Key, stamp: Stamp) -> Option<&Entry> {
        let slot = *self.map.get(key)?;
        self.order.refresh(slot, stamp);
        let (_, entry) = self.slots[slot as usize].as_ref()?;
        Some(entry)
    }

    /// Binds `key` to `entry`, used now; returns what it replaced.
    pub(super) fn insert(&mut self, key: Key, entry: Entry, stamp: Stamp) -> Option<Entry> {
        match self.map.entry(key) {
            hash_map::Entry::Occupied(found) => {
                let slot = *found.get();
                self.order.refresh(slot, stamp);
                let (_, old) = self.slots[slot as usize].replace((key, entry))?;
                Some(old)
            }
            hash_map::Entry::Vacant(vacant) => {
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    Slot::try_from(self.slots.len() - 1)
                        .expect("budgets are below 2^31 entries, so slots never run out")
                });
                vacant.insert(slot);
                self.slots[slot as usize] = Some((key, entry));
                self.order.insert(slot, stamp);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Removed> {
        let slot = self.map.remove(key)?;
        self.vacate(slot)
    }

    /// Removes the entry used longest ago that is not the one under `spared`.
    pub(super) fn evict(&mut self, spared: &Key) -> Option<Removed> {
        let mut slot = self.order.oldest()?;
        if matches!(&self.slots[slot as usize], Some((key, _)) if key == spared) {
            slot = self.order.next_newer(slot)?;
        }
        let removed = self.vacate(slot)?;
        self.map.remove(&removed.key);
        Some(removed)
    }

    /// When the entry used longest ago was used; `None` if there is none.
    pub(super) fn oldest_use(&self) -> Option<Stamp> {
        Some(self.order.stamp(self.order.oldest()?))
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The bytes of all entries, added up.
    pub(super) fn bytes(&self) -> u64 {
        let entries = self.slots.iter().flatten();
        entries.fold(0, |sum, (_, entry)| sum.wrapping_add(size(entry)))
    }

    fn vacate(&mut self, slot: Slot) -> Option<Removed> {
        let (key, entry) = self.slots[slot as usize].take()?;
        let last_use = self.order.stamp(slot);
        self.order.remove(slot);
        self.free.push(slot);
        Some(Removed {
            key,
            entry,
            last_use,
        })
    }
}

/// What an entry counts against the byte budget: its artifact's length.
pub(super) fn size(entry: &Entry) -> u64 {
    entry.artifact.len() as u64
}
