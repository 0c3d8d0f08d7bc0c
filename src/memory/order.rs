//! The order of use of a shard's places, without links between them.
//!
//! A record names a place and when its entry was last used, as far as was known when it was made.
//! Entries that came in since are a queue by themselves, for they come in order; entries that were
//! used again are found out only when their turn has come, and get a new record in a heap. So a hit
//! changes nothing here, and what comes in once and goes costs one step at each end of a queue.
//! As long as nobody asks for the oldest there are no records at all: they are made by sorting.
//!
//! Invariant: if there are records, each entry has one, of a use that was its last one or before it.
//! So the least record that is true is the entry used longest ago. (Records of what was removed are
//! thrown away when their turn comes, or if there are too many.)

#![expect(
    clippy::inline_always,
    reason = "an entry would go through memory once for each layer"
)]

use super::Stamp;
use super::table::Place;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

type Record = (Stamp, Place);

#[derive(Debug, Default)]
pub(super) struct Order {
    /// The oldest in front.
    came: VecDeque<Record>,
    used: BinaryHeap<Reverse<Record>>,
    is_kept: bool,
}

impl Order {
    /// Whether there are records.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Forgets all records.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Makes records of all entries.
    pub(super) fn make(&mut self, mut all: Vec<Record>) {
        all.sort_unstable();
        self.used.clear();
        self.came = all.into();
        self.is_kept = true;
    }

    /// An entry came in and was used later than all others; there are so many now.
    #[inline]
    pub(super) fn came(&mut self, stamp: Stamp, place: Place, entries: usize) {
        if !self.is_kept {
            return;
        }
        if self.came.len() + self.used.len() > entries * 2 + 8 {
            self.forget();
            return;
        }
        self.came.push_back((stamp, place));
    }

    /// The oldest record that is true, where `last_use` tells of a place what is true, if it is
    /// taken.
    #[inline(always)]
    pub(super) fn oldest(&mut self, last_use: impl Fn(Place) -> Option<Stamp>) -> Option<Record> {
        loop {
            let came = self.came.front().copied();
            let used = self.used.peek().map(|record| record.0);
            let is_used = came.is_none() || used.is_some_and(|used| Some(used) < came);
            let record = if is_used { used? } else { came? };
            let now = last_use(record.1);
            if now == Some(record.0) {
                return Some(record);
            }
            self.take(record);
            if let Some(now) = now {
                self.used.push(Reverse((now, record.1)));
            }
        }
    }

    /// A moment before which nothing was last used, as far as the records tell without a look at
    /// what is true; [`Stamp::MAX`] if there is no entry.
    #[inline]
    pub(super) fn bound(&self) -> Stamp {
        if !self.is_kept {
            return 0;
        }
        let came = self.came.front().map_or(Stamp::MAX, |record| record.0);
        let used = self.used.peek().map_or(Stamp::MAX, |record| record.0.0);
        came.min(used)
    }

    /// Takes out a record if it is the oldest of all.
    #[inline]
    pub(super) fn take(&mut self, record: Record) {
        if self.came.front() == Some(&record) {
            self.came.pop_front();
        } else if self.used.peek() == Some(&Reverse(record)) {
            self.used.pop();
        }
    }

    /// Puts a record back.
    pub(super) fn put_back(&mut self, record: Record) {
        self.used.push(Reverse(record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        // A place is taken, used, freed and taken again; now and then the oldest goes.
        #[test]
        #[cfg_attr(miri, ignore = "safe code of one thread: hours, and nothing for Miri to see")]
        fn the_oldest_is_the_least_of_all_last_uses(
            steps in prop::collection::vec((0..12u32, 0..8u8), 0..300),
        ) {
            let mut order = Order::default();
            let mut model: BTreeMap<Place, Stamp> = BTreeMap::new();
            for (stamp, (place, what)) in (1..).zip(steps) {
                if what < 3 {
                    if !order.is_kept() {
                        order.make(model.iter().map(|(place, stamp)| (*stamp, *place)).collect());
                    }
                    let oldest = model.iter().map(|(place, stamp)| (*stamp, *place)).min();
                    prop_assert_eq!(order.oldest(|place| model.get(&place).copied()), oldest);
                    if let (Some((_, place)), true) = (oldest, what == 0) {
                        model.remove(&place);
                    }
                } else if what == 3 {
                    model.remove(&place);
                } else if model.insert(place, stamp).is_none() {
                    order.came(stamp, place, model.len());
                }
                let records = order.came.len() + order.used.len();
                prop_assert!(records <= 2 * 12 + 9, "{} records", records);
            }
        }
    }
}
