//! Where the slot of a key is: an open-addressing table of 8-byte cells.
//!
//! A cell holds 32 bits of the key's fold and the slot; the keys themselves are in the slots. So a
//! look-up touches one cache line here and one there, and growing touches no key at all. Linear
//! probing, removal by shifting back (Knuth, The Art of Computer Programming, 6.4, algorithm R).
//! Invariant: no empty cell lies between a cell and the home of what it holds.

use super::order::Slot;

const EMPTY: u64 = 0;
const LEAST_CELLS: usize = 8;

#[derive(Debug)]
pub(super) struct Table {
    /// Tag in the upper half, slot + 1 in the lower.
    cells: Vec<u64>,
    taken: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            cells: vec![EMPTY; LEAST_CELLS],
            taken: 0,
        }
    }
}

impl Table {
    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// The slot with this tag that `is_it` confirms.
    pub(super) fn find(&self, tag: u32, is_it: impl Fn(Slot) -> bool) -> Option<Slot> {
        let at = self.position(tag, is_it)?;
        Some(slot_in(self.cells[at]))
    }

    /// Adds a slot that is not there.
    pub(super) fn insert(&mut self, tag: u32, slot: Slot) {
        if (self.taken + 1) * 8 > self.cells.len() * 5 {
            self.grow();
        }
        self.place(u64::from(tag) << 32 | (u64::from(slot) + 1));
        self.taken += 1;
    }

    /// Removes `slot`, which has this tag.
    pub(super) fn remove(&mut self, tag: u32, slot: Slot) {
        let Some(mut hole) = self.position(tag, |other| other == slot) else {
            return;
        };
        let mut at = hole;
        loop {
            at = self.after(at);
            let cell = self.cells[at];
            if cell == EMPTY {
                break;
            }
            // It may move back to the hole unless its home lies behind the hole.
            if self.distance(self.home(tag_in(cell)), at) >= self.distance(hole, at) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = EMPTY;
        self.taken -= 1;
    }

    fn position(&self, tag: u32, is_it: impl Fn(Slot) -> bool) -> Option<usize> {
        let mut at = self.home(tag);
        loop {
            let cell = self.cells[at];
            if cell == EMPTY {
                return None;
            }
            if tag_in(cell) == tag && is_it(slot_in(cell)) {
                return Some(at);
            }
            at = self.after(at);
        }
    }

    fn place(&mut self, cell: u64) {
        let mut at = self.home(tag_in(cell));
        while self.cells[at] != EMPTY {
            at = self.after(at);
        }
        self.cells[at] = cell;
    }

    fn grow(&mut self) {
        let larger = vec![EMPTY; self.cells.len() * 2];
        let cells = std::mem::replace(&mut self.cells, larger);
        for cell in cells.into_iter().filter(|cell| *cell != EMPTY) {
            self.place(cell);
        }
    }

    /// Where the search for a tag begins: its upper bits, so that growing keeps the order.
    fn home(&self, tag: u32) -> usize {
        let bits = self.cells.len().trailing_zeros();
        // Budgets are below 2^31 entries, so there are at most 2^32 cells.
        (u64::from(tag) << bits >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.cells.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.cells.len() - 1)
    }
}

fn tag_in(cell: u64) -> u32 {
    (cell >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half of a word")]
fn slot_in(cell: u64) -> Slot {
    (cell as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn check(table: &Table, model: &HashMap<Slot, u32>) {
        assert_eq!(table.len(), model.len());
        for (slot, tag) in model {
            assert_eq!(table.find(*tag, |found| found == *slot), Some(*slot));
        }
        let taken = table.cells.iter().filter(|cell| **cell != EMPTY);
        assert_eq!(taken.count(), model.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        // Few tags at either end, so that runs are long, wrap around, and share tags.
        #[test]
        #[cfg_attr(miri, ignore = "safe code of one thread: hours, and nothing for Miri to see")]
        fn the_table_finds_what_a_map_finds(
            steps in prop::collection::vec((0..60u32, prop::sample::select(vec![
                0u32, 1, 1 << 28, 1 << 29, u32::MAX - (1 << 29), u32::MAX - 1, u32::MAX,
            ])), 0..300),
        ) {
            let mut table = Table::default();
            let mut model = HashMap::new();
            for (slot, tag) in steps {
                if let Some(tag) = model.remove(&slot) {
                    table.remove(tag, slot);
                    prop_assert_eq!(table.find(tag, |found| found == slot), None);
                } else {
                    table.insert(tag, slot);
                    model.insert(slot, tag);
                }
                check(&table, &model);
            }
        }
    }
}
