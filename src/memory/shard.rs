//! One shard: the policy with its counters, as it is found under the shard's lock.

#![expect(
    clippy::inline_always,
    reason = "an entry would go through memory once for each layer"
)]

use super::Stamp;
use super::budget::{Budget, Owed, signed};
use super::key::Key;
use super::lru::{Lru, Removed, size};
use super::table::Place;
use crate::few::Few;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::StoreStats;
use crate::store::{Displaced, Entry, PutStatus};
use std::ptr;

// In this order: what a hit writes is on one cache line with the lock, which the processor has to
// itself then, and what it only reads is on the next.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Shard {
    counters: Counters,
    lru: Lru,
}

/// What became of an entry that was to be added without displacing any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Done,
    /// Its key is bound.
    Present,
    /// There is no room for it.
    Full,
}

/// What happened in a shard; saturating.
#[derive(Debug, Default)]
struct Counters {
    hits: u64,
    misses: u64,
    puts: u64,
    rejected_puts: u64,
    evictions: u64,
    evicted_bytes: u64,
}

impl Shard {
    pub(super) fn contains(&self, key: &Key<'_>) -> bool {
        self.lru.contains(key)
    }

    /// Looks `key` up at the time that `stamp` makes of the number of hits so far.
    #[inline(always)]
    pub(super) fn get(&mut self, key: &Key<'_>, stamp: impl FnOnce(u64) -> Stamp) -> Option<Entry> {
        let found = self.lru.get(key, stamp(self.counters.hits));
        match found {
            Some(_) => bump(&mut self.counters.hits, 1),
            None => bump(&mut self.counters.misses, 1),
        }
        found
    }

    /// Takes the entry under `key` out if it was put at a time of which `is_old` says so; counted
    /// as evicted.
    pub(super) fn expire(
        &mut self,
        key: &Key<'_>,
        budget: &Budget,
        is_old: impl FnOnce(u64) -> bool,
    ) -> Option<Removed> {
        if !self.is_old(key, is_old) {
            return None;
        }
        self.prune(key, budget)
    }

    /// Whether there is an entry under `key` that was put at a time of which `is_old` says so.
    pub(super) fn is_old(&self, key: &Key<'_>, is_old: impl FnOnce(u64) -> bool) -> bool {
        let put_at = self.lru.put_at(key);
        put_at.is_some_and(|put_at| put_at != 0 && is_old(put_at))
    }

    /// Binds `key` to `entry` unless it is bound, if there is room, behind all that was used after
    /// `stamp`. Counts nothing.
    pub(super) fn add_aged(
        &mut self,
        key: &Key<'_>,
        entry: Entry,
        stamp: Stamp,
        budget: &Budget,
    ) -> Added {
        let bytes = size(&entry);
        if self.contains(key) {
            return Added::Present;
        }
        if !budget.add_if_room(bytes) {
            return Added::Full;
        }
        self.lru.insert_aged(key, entry, stamp);
        Added::Done
    }

    /// The size of the entry under `key` if `is_it` says so, knowing its namespace and put.
    pub(super) fn size_if(
        &self,
        key: &Key<'_>,
        is_it: impl FnOnce(NamespaceId, u64) -> bool,
    ) -> Option<u64> {
        self.lru.size_if(key, is_it)
    }

    /// Takes an entry out by a caller's rule; counted as evicted.
    pub(super) fn prune(&mut self, key: &Key<'_>, budget: &Budget) -> Option<Removed> {
        let removed = self.remove(key, budget)?;
        self.count_eviction(size(&removed.entry));
        Some(removed)
    }

    /// See [`Lru::keys`].
    pub(super) fn keys(&self, is_it: impl Fn(NamespaceId, u64) -> bool) -> Vec<Fingerprint> {
        self.lru.keys(is_it)
    }

    /// Refreshes the recency of `key` and counts nothing.
    pub(super) fn touch(&mut self, key: &Key<'_>, stamp: Stamp) {
        self.lru.get(key, stamp);
    }

    /// Counts a put; where its key is bound, if it is.
    #[inline(always)]
    pub(super) fn begin_put(&mut self, key: &Key<'_>) -> Option<Place> {
        bump(&mut self.counters.puts, 1);
        self.lru.find(key)
    }

    /// Binds `key`, which is bound at `place`, to `entry`; what it replaced is put into `replaced`, to be
    /// freed outside the lock. Returns what the caller owes the budget.
    pub(super) fn replace(
        &mut self,
        (place, key): (Place, &Key<'_>),
        entry: Entry,
        stamp: Stamp,
        replaced: &mut Option<Entry>,
    ) -> (PutStatus, Owed) {
        let (bytes, new_size) = (ptr::from_ref(entry.artifact.as_slice()), size(&entry));
        *replaced = self.lru.replace(place, key, entry, stamp);
        let mut owed = Owed::of(new_size);
        let mut status = PutStatus::Stored;
        if let Some(old) = replaced {
            owed.entries -= 1;
            owed.bytes -= signed(size(old));
            if ptr::eq(bytes, old.artifact.as_slice()) {
                status = PutStatus::AlreadyStored;
            }
        }
        (status, owed)
    }

    /// See [`Lru::insert`].
    #[inline(always)]
    pub(super) fn insert(&mut self, key: &Key<'_>, entry: Entry, stamp: Stamp) {
        self.lru.insert(key, entry, stamp);
    }

    /// Counts a put that a zero budget accepts and does not keep.
    pub(super) fn put_nothing(&mut self) {
        bump(&mut self.counters.puts, 1);
    }

    /// Refuses a put of `key`: what was there before has to go.
    pub(super) fn reject(&mut self, key: &Key<'_>, budget: &Budget) -> Option<Removed> {
        bump(&mut self.counters.rejected_puts, 1);
        let removed = self.remove(key, budget)?;
        self.count_eviction(size(&removed.entry));
        Some(removed)
    }

    pub(super) fn remove(&mut self, key: &Key<'_>, budget: &Budget) -> Option<Removed> {
        let removed = self.lru.remove(key)?;
        budget.subtract(1, size(&removed.entry));
        Some(removed)
    }

    /// See [`Lru::oldest_but`].
    #[inline(always)]
    pub(super) fn oldest_but(&mut self, spared: &Key<'_>) -> Option<(Stamp, Place)> {
        self.lru.oldest_but(spared)
    }

    /// See [`Lru::evict`].
    #[inline(always)]
    pub(super) fn evict(
        &mut self,
        oldest: (Stamp, Place),
        displaced: &mut Few<Displaced>,
    ) -> Option<(u64, Stamp)> {
        let evicted = self.lru.evict(oldest, displaced)?;
        self.count_eviction(evicted.0);
        Some(evicted)
    }

    /// Takes every entry out, to be freed outside the lock.
    pub(super) fn clear(&mut self, budget: &Budget) -> Lru {
        let all = std::mem::take(&mut self.lru);
        budget.subtract(all.len() as u64, all.bytes());
        all
    }

    /// See [`Lru::oldest_use`].
    #[inline]
    pub(super) fn oldest_use(&self) -> Stamp {
        self.lru.oldest_use()
    }

    /// Adds this shard's counters to a snapshot.
    pub(super) fn add_to(&self, stats: &mut StoreStats) {
        let counters = &self.counters;
        bump(&mut stats.hits, counters.hits);
        bump(&mut stats.misses, counters.misses);
        bump(&mut stats.puts, counters.puts);
        bump(&mut stats.rejected_puts, counters.rejected_puts);
        bump(&mut stats.evictions, counters.evictions);
        bump(&mut stats.evicted_bytes, counters.evicted_bytes);
        stats.lookups = stats.hits.saturating_add(stats.misses);
    }

    fn count_eviction(&mut self, bytes: u64) {
        bump(&mut self.counters.evictions, 1);
        bump(&mut self.counters.evicted_bytes, bytes);
    }
}

fn bump(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_saturate_and_never_wrap_or_panic() {
        let budget = Budget::new(1, u64::MAX);
        let full = || Counters {
            hits: u64::MAX,
            misses: u64::MAX,
            puts: u64::MAX,
            rejected_puts: u64::MAX,
            evictions: u64::MAX,
            evicted_bytes: u64::MAX,
        };
        let mut shard = Shard {
            counters: full(),
            lru: Lru::default(),
        };
        let keys = [0, 1].map(|n| Fingerprint::from_bytes([n; 32]));
        let keys = keys.each_ref().map(Key::new);
        for key in keys {
            assert_eq!(shard.begin_put(&key), None);
            shard.insert(&key, vec![0; 3].into(), 1);
            budget.conclude(Owed::of(3));
        }
        assert!(shard.get(&keys[0], |_| 2).is_some());
        let oldest = shard.oldest_but(&keys[0]).unwrap();
        assert!(shard.evict(oldest, &mut Few::new()).is_some());
        assert!(shard.get(&keys[1], |_| 3).is_none());
        assert!(shard.reject(&keys[0], &budget).is_some());
        shard.put_nothing();

        // Two such shards in one snapshot.
        let mut stats = StoreStats::default();
        shard.add_to(&mut stats);
        shard.add_to(&mut stats);
        let all = [
            stats.lookups,
            stats.hits,
            stats.misses,
            stats.puts,
            stats.rejected_puts,
            stats.evictions,
            stats.evicted_bytes,
        ];
        assert_eq!(all, [u64::MAX; 7]);
        assert_eq!(stats.hit_rate_ppm(), Some(1_000_000));
    }
}
