//! A pass over the whole table: what is live, how much each pack holds, and what should go.
//!
//! Pure arithmetic over slots and file sizes, so that the choice of victims can be tested alone.

use super::layout::PackNumber;
use super::slot::{Slot, SlotHash, SlotKind};
use super::table::Position;
use rustc_hash::{FxHashMap, FxHashSet};

/// A pack is emptied once less than one in this many of its bytes is live: so emptying writes
/// less than it frees.
const SPARSE: u64 = 2;

/// What a pass saw.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) keys: Vec<(Position, Slot)>,
    pub(super) contents: FxHashMap<u32, Vec<(Position, Slot)>>,
    /// File sizes.
    pub(super) packs: FxHashMap<PackNumber, u64>,
}

/// Bytes and entries to get down to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Which keys go before others, whenever they were used.
#[derive(Clone, Copy)]
pub(super) struct Ranks<'a> {
    /// The lower goes first; a key without a rank stays.
    pub(super) rank: &'a dyn Fn(SlotHash) -> Option<u8>,
    /// Whether the last in the order stays, so that an artifact as large as the budget does.
    pub(super) spare_newest: bool,
}

impl Survey {
    pub(super) fn add(&mut self, at: Position, slot: Slot) {
        match slot.kind {
            SlotKind::Key => self.keys.push((at, slot)),
            SlotKind::Content => {
                let tag = slot.hash.tag(SlotKind::Content);
                self.contents.entry(tag).or_default().push((at, slot));
            }
        }
    }

    /// Distinct keys: bindings beside which a newer one stands count once. Names of namespaces do
    /// not count.
    pub(super) fn entries(&self) -> u64 {
        let bindings = self.keys.iter().filter(|(_, slot)| slot.content != 0);
        bindings
            .map(|(_, slot)| slot.hash)
            .collect::<FxHashSet<_>>()
            .len() as u64
    }

    /// Bytes of objects.
    pub(super) fn object_bytes(&self) -> u64 {
        let contents = self.contents.values().flatten();
        contents
            .filter(|(_, slot)| slot.content == 1)
            .fold(0, |sum, (_, slot)| {
                sum.saturating_add(slot.allocated.bytes())
            })
    }

    /// Bytes of packs and objects, dead space included.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.packs
            .values()
            .fold(self.object_bytes(), |sum, len| sum.saturating_add(*len))
    }

    /// Leaves out contents that no key needs: the pass removes them before anything else, so they
    /// must cost no live entry its place.
    pub(super) fn forget_unused_contents(&mut self) {
        let needed: FxHashSet<u32> = self.keys.iter().map(|(_, slot)| slot.content).collect();
        self.contents.retain(|tag, _| needed.contains(tag));
    }

    /// How much of each pack is needed by a slot.
    pub(super) fn live_in_packs(&self) -> FxHashMap<PackNumber, u64> {
        let mut live: FxHashMap<PackNumber, u64> = self.packs.keys().map(|n| (*n, 0)).collect();
        let contents = self
            .contents
            .values()
            .flatten()
            .filter(|(_, slot)| slot.content == 0);
        for (_, slot) in self.keys.iter().chain(contents) {
            if let Some(sum) = live.get_mut(&slot.place.pack()) {
                *sum = sum.saturating_add(slot.allocated.bytes());
            }
        }
        live
    }

    /// What a pack costs once it was seen to: nothing if nothing in it is live, what is live if
    /// that is little (it is moved), else all of it.
    pub(super) fn cost(len: u64, live: u64) -> u64 {
        if live < len / SPARSE { live } else { len }
    }

    /// The bindings of keys by rank, the least recently used key first. An older binding beside a
    /// newer one goes and stays with it.
    fn by_last_use(&self, ranks: &Ranks<'_>) -> Vec<&(Position, Slot)> {
        let mut order: Vec<_> = self
            .keys
            .iter()
            .filter(|(_, slot)| slot.content != 0)
            .collect();
        let mut used: FxHashMap<SlotHash, u64> = FxHashMap::default();
        for (_, slot) in &order {
            let last = used.entry(slot.hash).or_default();
            *last = slot.last_use.max(*last);
        }
        order.retain(|(_, slot)| (ranks.rank)(slot.hash).is_some());
        order.sort_unstable_by_key(|(_, slot)| {
            let rank = (ranks.rank)(slot.hash);
            (rank, used.get(&slot.hash), slot.hash.0)
        });
        order
    }

    /// The bindings that have to go to get down to `target`, in the order in which they go.
    pub(super) fn victims(&self, target: Target, ranks: &Ranks<'_>) -> Vec<(Position, Slot)> {
        let order = self.by_last_use(ranks);
        let newest = order.last().filter(|_| ranks.spare_newest);
        let newest = newest.map(|(_, slot)| slot.hash);
        let mut users: FxHashMap<u32, u64> = FxHashMap::default();
        let mut bindings: FxHashMap<u64, u64> = FxHashMap::default();
        for (_, slot) in &self.keys {
            *users.entry(slot.content).or_default() += 1;
            *bindings.entry(slot.hash.0).or_default() += 1;
        }
        let mut live = self.live_in_packs();
        let cost_of = |live: &FxHashMap<PackNumber, u64>, number: PackNumber| {
            let len = self.packs.get(&number).copied().unwrap_or(0);
            Self::cost(len, live.get(&number).copied().unwrap_or(0))
        };
        let mut bytes: u64 = self.packs.keys().map(|n| cost_of(&live, *n)).sum::<u64>();
        bytes = bytes.saturating_add(self.object_bytes());
        let mut entries = self.entries();
        let mut chosen = Vec::new();
        for (at, slot) in order {
            if bytes <= target.bytes && entries <= target.entries {
                break;
            }
            if Some(slot.hash) == newest {
                continue;
            }
            chosen.push((*at, *slot));
            let left = bindings.entry(slot.hash.0).or_default();
            *left = left.saturating_sub(1);
            entries = entries.saturating_sub(u64::from(*left == 0));
            let mut free = |slot: &Slot| {
                if slot.content == 1 {
                    bytes = bytes.saturating_sub(slot.allocated.bytes());
                    return;
                }
                let number = slot.place.pack();
                let before = cost_of(&live, number);
                if let Some(live) = live.get_mut(&number) {
                    *live = live.saturating_sub(slot.allocated.bytes());
                }
                bytes = bytes.saturating_sub(before.saturating_sub(cost_of(&live, number)));
            };
            free(slot);
            let users = users.entry(slot.content).or_default();
            *users = users.saturating_sub(1);
            if *users > 0 {
                continue;
            }
            for (_, content) in self.contents.get(&slot.content).into_iter().flatten() {
                free(content);
            }
        }
        chosen
    }
}
