//! The policy: an exact least-recently-used map, as single-threaded code.
//!
//! A [`Table`] that gives each entry a place, the places, and the [`Order`] of use. Every operation
//! hands back what left, so that the caller decides where it is freed.
//!
//! A hit writes its stamp into the cache line that it reads anyway, and that is all: entries are
//! linked to no neighbours that would have to be fetched. The order learns of it when the turn of the
//! entry would have come; so it costs the more the less often something is used, and nothing in a
//! store in which all fits.
//!
//! Invariants:
//! - the places that the table says are taken hold an entry, no others do;
//! - stamps of uses are given in the order of uses, each once.

#![expect(
    clippy::inline_always,
    reason = "an entry would go through memory once for each layer"
)]

use super::Stamp;
use super::facts::Facts;
use super::key::Key;
use super::order::Order;
use super::table::{Place, Table};
use crate::artifact::Artifact;
use crate::few::Few;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::store::{Displaced, Entry};
use std::time::Duration;

#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Lru {
    /// The last stamp that was given; first, since a hit changes nothing else here.
    latest: Stamp,
    table: Table,
    places: Box<[Option<Kept>]>,
    facts: Facts,
    order: Order,
}

/// What a place holds: one cache line of 64 bytes, so that a hit waits for one.
#[derive(Debug)]
#[repr(align(64))]
struct Kept {
    key: Fingerprint,
    artifact: Artifact,
    last_use: Stamp,
    /// In nanoseconds since 1970; zero if it is not known.
    put_at: u64,
    /// Namespace and cost; see [`Facts`].
    facts: u64,
}

impl Kept {
    fn size(&self) -> u64 {
        self.artifact.len() as u64
    }
}

/// An entry that left, and when it was last used.
#[derive(Debug)]
pub(super) struct Removed {
    pub(super) entry: Entry,
    pub(super) last_use: Stamp,
}

impl Lru {
    pub(super) fn contains(&self, key: &Key<'_>) -> bool {
        self.find(key).is_some()
    }

    /// The entry under `key`, used now.
    #[inline(always)]
    pub(super) fn get(&mut self, key: &Key<'_>, stamp: Stamp) -> Option<Entry> {
        let place = self.find(key)?;
        let stamp = self.next(stamp);
        let kept = self.places[place as usize].as_mut()?;
        kept.last_use = stamp;
        let artifact = kept.artifact.clone();
        let (namespace, cost) = self.facts.read(&kept.key, kept.facts);
        Some(entry(artifact, kept.put_at, namespace, cost))
    }

    /// When the entry under `key` was put, in nanoseconds since 1970; zero if that is not known.
    pub(super) fn put_at(&self, key: &Key<'_>) -> Option<u64> {
        Some(self.kept(self.find(key)?)?.put_at)
    }

    /// The size of the entry under `key` if `is_it` says so, knowing its namespace and put.
    pub(super) fn size_if(
        &self,
        key: &Key<'_>,
        is_it: impl FnOnce(NamespaceId, u64) -> bool,
    ) -> Option<u64> {
        let kept = self.kept(self.find(key)?)?;
        is_it(self.namespace(kept), kept.put_at).then(|| kept.size())
    }

    /// Binds `key`, which is not bound, to `entry`, behind all that was used after `stamp`.
    pub(super) fn insert_aged(&mut self, key: &Key<'_>, entry: Entry, stamp: Stamp) {
        self.add(key, entry, stamp);
        // It stands somewhere among the others: the order is made anew, with it, when asked for.
        self.order.forget();
    }

    /// The keys of entries of which `is_it` says so, knowing namespace and time of the put.
    pub(super) fn keys(&self, is_it: impl Fn(NamespaceId, u64) -> bool) -> Vec<Fingerprint> {
        let kept = self.places.iter().flatten();
        kept.filter(|kept| is_it(self.namespace(kept), kept.put_at))
            .map(|kept| kept.key)
            .collect()
    }

    /// Binds `key`, which is bound at `place`, to another entry, used now. Hands back the old one.
    pub(super) fn replace(
        &mut self,
        place: Place,
        key: &Key<'_>,
        entry: Entry,
        stamp: Stamp,
    ) -> Option<Entry> {
        let stamp = self.next(stamp);
        let old = self.places[place as usize].take();
        let old = old.map(|old| self.entry_of(old).1);
        self.fill(place, key, entry, stamp);
        old
    }

    /// Binds `key`, which is not bound, to `entry`, used now.
    #[inline(always)]
    pub(super) fn insert(&mut self, key: &Key<'_>, entry: Entry, stamp: Stamp) {
        let stamp = self.next(stamp);
        self.add(key, entry, stamp);
    }

    pub(super) fn remove(&mut self, key: &Key<'_>) -> Option<Removed> {
        let kept = self.take(self.find(key)?)?;
        let last_use = kept.last_use;
        let (_, entry) = self.entry_of(kept);
        Some(Removed { entry, last_use })
    }

    /// When the entry was last used, and where it is, that was used longest ago, but for the one
    /// under `spared`; to be [removed](Self::evict).
    #[inline(always)]
    pub(super) fn oldest_but(&mut self, spared: &Key<'_>) -> Option<(Stamp, Place)> {
        if !self.order.is_kept() {
            self.make_order();
        }
        let oldest = self.oldest()?;
        if self.is_other(oldest.1, spared) {
            return Some(oldest);
        }
        self.next_but(oldest, spared)
    }

    /// What comes after the oldest. Which is asked for seldom: the one under `spared` was put just now,
    /// so all others were used since, or there are none.
    #[cold]
    fn next_but(&mut self, oldest: (Stamp, Place), spared: &Key<'_>) -> Option<(Stamp, Place)> {
        let mut next = Some(oldest);
        while let Some(record) = next.filter(|(_, place)| !self.is_other(*place, spared)) {
            self.order.take(record);
            next = self.oldest();
        }
        self.order.put_back(oldest);
        next
    }

    fn is_other(&self, place: Place, spared: &Key<'_>) -> bool {
        let kept = self.kept(place);
        kept.is_some_and(|kept| kept.key != *spared.fingerprint())
    }

    /// Moves what [`oldest_but`](Self::oldest_but) found to `displaced`; tells how large it is, and
    /// when it was last used.
    #[inline(always)]
    pub(super) fn evict(
        &mut self,
        oldest: (Stamp, Place),
        displaced: &mut Few<Displaced>,
    ) -> Option<(u64, Stamp)> {
        self.order.take(oldest);
        let kept = self.take(oldest.1)?;
        let evicted = (kept.size(), kept.last_use);
        let (key, entry) = self.entry_of(kept);
        displaced.push(Displaced::new(key, entry));
        Some(evicted)
    }

    /// A moment before which nothing was last used, after an [`evict`](Self::evict); most often that
    /// at which the oldest was. [`Stamp::MAX`] if there is nothing.
    #[inline]
    pub(super) fn oldest_use(&self) -> Stamp {
        self.order.bound()
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The bytes of all entries, added up.
    pub(super) fn bytes(&self) -> u64 {
        let kept = self.places.iter().flatten();
        kept.fold(0, |sum, kept| sum.wrapping_add(kept.size()))
    }

    /// Takes out what is at a place.
    #[inline(always)]
    fn take(&mut self, place: Place) -> Option<Kept> {
        let kept = self.places[place as usize].take()?;
        self.table.remove(Key::new(&kept.key).fold(), place);
        Some(kept)
    }

    /// A stamp after all that were given.
    fn next(&mut self, stamp: Stamp) -> Stamp {
        self.latest = stamp.max(self.latest.saturating_add(1));
        self.latest
    }

    /// Where `key` is bound.
    #[inline]
    pub(super) fn find(&self, key: &Key<'_>) -> Option<Place> {
        let is_it = |place| {
            let kept = self.kept(place);
            kept.is_some_and(|kept| kept.key == *key.fingerprint())
        };
        self.table.find(key.fold(), is_it)
    }

    #[inline]
    fn kept(&self, place: Place) -> Option<&Kept> {
        self.places[place as usize].as_ref()
    }

    fn namespace(&self, kept: &Kept) -> NamespaceId {
        self.facts.read(&kept.key, kept.facts).0
    }

    /// What left its place, as it was put.
    #[inline(always)]
    fn entry_of(&mut self, kept: Kept) -> (Fingerprint, Entry) {
        let (namespace, cost) = self.facts.read(&kept.key, kept.facts);
        self.facts.forget(&kept.key, kept.facts);
        let entry = entry(kept.artifact, kept.put_at, namespace, cost);
        (kept.key, entry)
    }

    #[inline(always)]
    fn add(&mut self, key: &Key<'_>, entry: Entry, stamp: Stamp) {
        if self.table.is_full() {
            // By a quarter, for what is not taken costs memory too.
            self.move_to(Table::with_room(self.table.len() / 4 * 5 + 5));
        }
        let place = self.table.insert(key.fold());
        self.fill(place, key, entry, stamp);
        self.order.came(stamp, place, self.table.len());
    }

    #[inline(always)]
    fn fill(&mut self, place: Place, key: &Key<'_>, entry: Entry, stamp: Stamp) {
        let key = key.fingerprint();
        let cost = u64::try_from(entry.build_cost.as_nanos()).unwrap_or(u64::MAX);
        self.places[place as usize] = Some(Kept {
            key: *key,
            put_at: entry.put_nanos(),
            facts: self.facts.word(key, entry.namespace, cost),
            artifact: entry.artifact,
            last_use: stamp,
        });
    }

    /// Moves all entries to a table of another size.
    #[cold]
    fn move_to(&mut self, table: Table) {
        self.table = table;
        let places = (0..self.table.places()).map(|_| None).collect();
        let old = std::mem::replace(&mut self.places, places);
        for kept in old.into_iter().flatten() {
            let place = self.table.insert(Key::new(&kept.key).fold());
            self.places[place as usize] = Some(kept);
        }
        self.order.forget();
    }

    #[inline(always)]
    fn oldest(&mut self) -> Option<(Stamp, Place)> {
        let places = &self.places;
        let last_use = |place: Place| Some(places[place as usize].as_ref()?.last_use);
        self.order.oldest(last_use)
    }

    #[cold]
    fn make_order(&mut self) {
        // What once held many more entries must not be looked through again and again.
        if self.table.places() / 4 > self.table.len() + 7 {
            self.move_to(Table::with_room(self.table.len() * 2));
        }
        let places = (0..).zip(&self.places);
        let uses = places.filter_map(|(place, kept)| Some((kept.as_ref()?.last_use, place)));
        let uses: Vec<_> = uses.collect();
        // Of entries that nobody used yet the stamps are not among those given.
        let newest = uses.iter().map(|(stamp, _)| *stamp).max();
        self.latest = self.latest.max(newest.unwrap_or(0));
        self.order.make(uses);
    }
}

#[inline]
fn entry(artifact: Artifact, put_at: u64, namespace: NamespaceId, cost: u64) -> Entry {
    let mut entry = Entry::from(artifact);
    if put_at != 0 {
        entry = entry.stamped(put_at);
    }
    entry.namespace = namespace;
    entry.build_cost = Duration::from_nanos(cost);
    entry
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
    fn an_entry_takes_one_cache_line() {
        assert_eq!(size_of::<Option<Kept>>(), 64);
    }

    fn fingerprint(n: u8) -> Fingerprint {
        Fingerprint::from_bytes([n; 32])
    }

    fn put(lru: &mut Lru, n: u8, entry: Entry, stamp: Stamp) {
        let fingerprint = fingerprint(n);
        let key = Key::new(&fingerprint);
        match lru.find(&key) {
            Some(place) => assert!(lru.replace(place, &key, entry, stamp).is_some()),
            None => lru.insert(&key, entry, stamp),
        }
    }

    /// When the entry used longest ago was used.
    fn oldest(lru: &mut Lru) -> Stamp {
        let oldest = lru.oldest_but(&Key::new(&fingerprint(200)));
        let oldest = oldest.map_or(Stamp::MAX, |(stamp, _)| stamp);
        assert_eq!(lru.oldest_use(), oldest, "now that it was looked for");
        oldest
    }

    /// What goes and when it was last used, but for the one under `spared`, which stays.
    fn evicted(lru: &mut Lru, spared: u8) -> Vec<(u8, Stamp)> {
        let spared = fingerprint(spared);
        let spared = Key::new(&spared);
        let removed = std::iter::from_fn(|| {
            let oldest = lru.oldest_but(&spared)?;
            assert!(oldest.0 >= lru.oldest_use());
            let mut displaced = Few::new();
            let (_, last_use) = lru.evict(oldest, &mut displaced).unwrap();
            assert_eq!(last_use, oldest.0);
            Some((displaced[0].key.as_bytes()[0], last_use))
        });
        removed.collect()
    }

    fn evict(lru: &mut Lru) -> Option<Stamp> {
        let oldest = lru.oldest_but(&Key::new(&fingerprint(200)))?;
        Some(lru.evict(oldest, &mut Few::new())?.1)
    }

    #[test]
    fn the_order_is_exact_though_it_is_made_when_it_is_asked_for() {
        let mut lru = Lru::default();
        let put = |lru: &mut Lru, n, stamp| put(lru, n, vec![n].into(), stamp);
        for n in 0..6 {
            put(&mut lru, n, 10 + u64::from(n));
        }
        assert_eq!(evict(&mut lru), Some(10));
        assert_eq!(oldest(&mut lru), 11);
        // Used, removed, replaced, put again in the slot of another, and new: after those sorted.
        assert!(lru.get(&Key::new(&fingerprint(1)), 20).is_some());
        assert!(lru.remove(&Key::new(&fingerprint(2))).is_some());
        put(&mut lru, 2, 21);
        put(&mut lru, 3, 22);
        put(&mut lru, 0, 23);
        assert!(lru.oldest_use() <= 14);
        assert_eq!(oldest(&mut lru), 14);
        let gone = evicted(&mut lru, 2);
        assert_eq!(gone, [(4, 14), (5, 15), (1, 20), (3, 22), (0, 23)]);
        assert_eq!((lru.len(), oldest(&mut lru)), (1, 21));
        // The oldest is spared, and what was used after it goes.
        put(&mut lru, 7, 30);
        assert_eq!(evicted(&mut lru, 2), [(7, 30)]);
        assert_eq!(evicted(&mut lru, 200), [(2, 21)]);
        assert_eq!((lru.len(), oldest(&mut lru)), (0, Stamp::MAX));
    }

    #[test]
    fn stamps_that_are_given_twice_or_late_keep_the_order_of_uses() {
        let mut lru = Lru::default();
        for n in 0..4 {
            put(&mut lru, n, vec![n].into(), 10);
        }
        for (n, stamp) in [(2, 9), (0, 10), (2, 10)] {
            lru.get(&Key::new(&fingerprint(n)), stamp);
        }
        assert_eq!(evicted(&mut lru, 200), [(1, 11), (3, 13), (0, 15), (2, 16)]);
    }

    #[test]
    fn what_comes_in_unused_stands_behind_what_was_used_in_the_order_of_its_stamps() {
        let mut lru = Lru::default();
        let add = |lru: &mut Lru, n: u8| {
            let stamp = u64::from(n) * 10;
            lru.insert_aged(&Key::new(&fingerprint(n)), vec![n].into(), stamp);
        };
        add(&mut lru, 5);
        put(&mut lru, 100, vec![1].into(), 1000);
        for n in [3, 4, 9, 1] {
            add(&mut lru, n);
        }
        assert_eq!(evict(&mut lru), Some(10));
        for n in [7, 8, 2, 6] {
            add(&mut lru, n);
        }
        put(&mut lru, 101, vec![1].into(), 1001);
        lru.get(&Key::new(&fingerprint(2)), 1002);
        let order: Vec<u8> = evicted(&mut lru, 200).into_iter().map(|e| e.0).collect();
        assert_eq!(order, [3, 4, 5, 6, 7, 8, 9, 100, 101, 2]);
        // Nothing but what nobody used.
        add(&mut lru, 1);
        add(&mut lru, 2);
        let order: Vec<u8> = evicted(&mut lru, 200).into_iter().map(|e| e.0).collect();
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn an_entry_comes_back_as_it_was_put() {
        let fingerprint = fingerprint(1);
        let key = Key::new(&fingerprint);
        let mut lru = Lru::default();
        for put_at in [1, 77, u64::MAX] {
            let mut entry = Entry::from(vec![1, 2]).stamped(put_at);
            entry.namespace = NamespaceId::of("x");
            entry.build_cost = Duration::from_nanos(123_456_789_012);
            put(&mut lru, 1, entry.clone(), 5);
            let found = lru.get(&key, 6).unwrap();
            assert_eq!((found.put_nanos(), &found), (put_at, &entry));
        }
        put(&mut lru, 1, vec![3].into(), 7);
        assert_eq!(lru.get(&key, 8).unwrap().put_at(), None);
    }
}
