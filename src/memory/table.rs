//! Which place an entry has: a hash table that holds no entries, only eight bits of the fold of each
//! one's key.
//!
//! Seven places are a group, and their tags one word, which is compared with a tag at once. The
//! entries themselves are elsewhere, each in the cache line of its place. So all words of a table
//! together are small enough to be near the processor; a look-up fetches one line from far away, and
//! a miss most often none; and there is next to no branch that the processor cannot foresee. What
//! finds its group full goes to the next one with room, and each group that it passed counts it (as
//! in Facebook's F14): a search ends at the first group that nobody passed, and a removal leaves
//! nothing behind.
//!
//! Invariant: the count of a group is the number of entries that found it full, unless it was once
//! more than the count can say: then it stays.

/// Places of a group.
const WAYS: usize = 7;
/// One in each of eight lanes: seven tags, zero for none, then the count of what passed.
const ONES: u64 = 0x0101_0101_0101_0101;
const TAG_TOPS: u64 = 0x0080_8080_8080_8080;
const COUNT_LANE: usize = WAYS;
/// Of so many places ...
const PLACES: usize = 20;
/// ... no more than these are taken, so that few entries stand far from home.
const MOST_TAKEN: usize = 17;

/// Which place of a table.
pub(super) type Place = u32;

#[derive(Clone, Copy, Debug, Default)]
struct Group(u64);

/// Begins without any place.
#[derive(Debug, Default)]
pub(super) struct Table {
    groups: Box<[Group]>,
    taken: usize,
}

impl Table {
    /// A table that is not full before it holds so many entries.
    pub(super) fn with_room(entries: usize) -> Self {
        let groups = (entries * PLACES).div_ceil(WAYS * MOST_TAKEN);
        Self {
            groups: vec![Group::default(); groups].into(),
            taken: 0,
        }
    }

    /// How many places there are.
    pub(super) fn places(&self) -> usize {
        self.groups.len() * WAYS
    }

    /// How many of them are taken.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// Whether it must not grow fuller.
    pub(super) fn is_full(&self) -> bool {
        self.taken * PLACES >= self.places() * MOST_TAKEN
    }

    /// The place with this fold that `is_it` confirms. It may be asked about empty places too.
    #[inline]
    pub(super) fn find(&self, fold: u64, is_it: impl Fn(Place) -> bool) -> Option<Place> {
        let mut at = self.home(fold);
        // More groups than there are cannot have been passed.
        for _ in 0..self.groups.len() {
            let group = self.groups[at];
            let mut ways = group.like(tag(fold));
            while ways != 0 {
                let place = place(at, first(ways));
                if is_it(place) {
                    return Some(place);
                }
                ways &= ways - 1;
            }
            if group.lane(COUNT_LANE) == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Takes a place, for what is not there, in a table that is not full.
    pub(super) fn insert(&mut self, fold: u64) -> Place {
        self.taken += 1;
        let mut at = self.home(fold);
        loop {
            let group = &mut self.groups[at];
            let free = group.like(0);
            if free != 0 {
                group.set(first(free), tag(fold));
                return place(at, first(free));
            }
            group.set(COUNT_LANE, group.lane(COUNT_LANE).saturating_add(1));
            at = self.after(at);
        }
    }

    /// Frees a place that was taken with this fold.
    pub(super) fn remove(&mut self, fold: u64, place: Place) {
        let (stands, way) = (place as usize / WAYS, place as usize % WAYS);
        self.groups[stands].set(way, 0);
        self.taken -= 1;
        let mut at = self.home(fold);
        while at != stands {
            let group = &mut self.groups[at];
            let count = group.lane(COUNT_LANE);
            if count < u8::MAX {
                group.set(COUNT_LANE, count - 1);
            }
            at = self.after(at);
        }
    }

    /// The group where the search begins; in the order of folds, so that moving all entries to a
    /// larger table goes through both in order.
    #[inline]
    fn home(&self, fold: u64) -> usize {
        // Budgets are below 2^31 entries, so there are fewer than 2^32 groups.
        (((fold >> 32) * self.groups.len() as u64) >> 32) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.groups.len() {
            0
        } else {
            at + 1
        }
    }
}

/// Bits of a fold that have no say in the choice of the group; never zero.
#[inline]
fn tag(fold: u64) -> u8 {
    ((fold >> 24 & 0xff) as u8).max(1)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "there are below 2^32 places"
)]
fn place(group: usize, way: usize) -> Place {
    (group * WAYS + way) as Place
}

/// The first way of a set as [`Group::like`] gives it.
fn first(ways: u64) -> usize {
    ways.trailing_zeros() as usize / 8
}

impl Group {
    /// The ways with this tag, as the top bit of each one's lane. The first one has it indeed; after
    /// it there may be some that have not.
    #[inline]
    fn like(self, tag: u8) -> u64 {
        // The subtraction borrows from a lane that is zero; going on, the borrow makes a lane that is
        // one look as if it were.
        let others = self.0 ^ (ONES * u64::from(tag));
        others.wrapping_sub(ONES) & !others & TAG_TOPS
    }

    fn lane(self, lane: usize) -> u8 {
        (self.0 >> (lane * 8) & 0xff) as u8
    }

    fn set(&mut self, lane: usize, value: u8) {
        let shift = lane * 8;
        self.0 = self.0 & !(0xff << shift) | u64::from(value) << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Whether the model has this fold at this place, and how often it was passed.
    fn check(table: &Table, model: &HashMap<Place, u64>) {
        assert_eq!(table.len(), model.len());
        let mut passed = vec![0; table.groups.len()];
        for (place, fold) in model {
            let is_it = |found| found == *place && model.contains_key(&found);
            assert_eq!(table.find(*fold, is_it), Some(*place));
            let mut at = table.home(*fold);
            while at != *place as usize / WAYS {
                passed[at] += 1;
                at = table.after(at);
            }
        }
        let counts = table.groups.iter().map(|group| group.lane(COUNT_LANE));
        assert_eq!(counts.collect::<Vec<_>>(), passed);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        // Few folds at either end, so that groups overflow, wrap around, and share tags.
        #[test]
        #[cfg_attr(miri, ignore = "safe code of one thread: hours, and nothing for Miri to see")]
        fn the_table_finds_what_a_map_finds(
            steps in prop::collection::vec((0..40usize, prop::sample::select(vec![
                0u64, 1 << 24, 2 << 24, 3 << 24, 1 << 61, u64::MAX - (1 << 24), u64::MAX,
            ])), 0..300),
        ) {
            let mut table = Table::with_room(30);
            let mut model = HashMap::new();
            let mut order = Vec::new();
            for (step, fold) in steps {
                if step < order.len() {
                    let place = order.swap_remove(step);
                    let fold = model.remove(&place).unwrap();
                    table.remove(fold, place);
                    let is_it = |found| found == place && model.contains_key(&found);
                    prop_assert_eq!(table.find(fold, is_it), None);
                } else if !table.is_full() {
                    let place = table.insert(fold);
                    prop_assert_eq!(model.insert(place, fold), None);
                    order.push(place);
                }
                check(&table, &model);
            }
        }
    }

    #[test]
    fn a_table_without_places_finds_nothing_and_is_full() {
        let table = Table::default();
        assert!(table.is_full() && table.find(7, |_| true).is_none());
        for room in 1..100 {
            let mut table = Table::with_room(room);
            (0..room as u64).for_each(|n| {
                assert!(!table.is_full());
                table.insert(n << 30);
            });
        }
    }

    #[test]
    fn a_count_that_is_full_stays_and_loses_nothing() {
        let mut table = Table::with_room(30);
        table.groups[0].set(COUNT_LANE, u8::MAX - 1);
        let places: Vec<Place> = (0..WAYS + 3).map(|_| table.insert(5)).collect();
        assert_eq!(table.groups[0].lane(COUNT_LANE), u8::MAX);
        for place in places {
            assert_eq!(table.find(5, |found| found == place), Some(place));
            table.remove(5, place);
        }
        assert_eq!(table.groups[0].lane(COUNT_LANE), u8::MAX);
        assert_eq!(table.find(5, |_| true), None);
    }
}
