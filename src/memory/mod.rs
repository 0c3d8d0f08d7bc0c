//! The memory tier: a sharded LRU with budgets that all shards share.
//!
//! Built in layers: [`table`], [`order`] and [`lru`] are the policy, single-threaded; [`shard`] adds
//! the counters; this file adds the locks. [`key`] chooses shards, [`budget`] counts, [`clock`] stamps.
//!
//! Invariants:
//! - never are two shard locks held at once, and no foreign code runs under one;
//! - what leaves a shard is handed out of its lock before it is freed;
//! - budgets hold whenever no call is under way: of several puts, the last to be counted sees
//!   them all and evicts until the rest fits, if need be everything but its own entry.

mod budget;
mod builder;
mod clock;
mod key;
mod lru;
mod order;
mod shard;
mod table;

pub use builder::MemoryStoreBuilder;

use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::{Eviction, EvictionReason, StoreStats, Tier};
use crate::store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use budget::{Budget, Exceeded};
use clock::{Clock, age};
use key::Key;
use lru::{Removed, size};
use order::Stamp;
pub(crate) use shard::Added;
use shard::Shard;
use std::fmt;
use std::time::Duration;

/// How many shards an eviction looks at before it chooses its victim.
const SAMPLED_SHARDS: usize = 8;
/// A shard reads the system's clock for one of so many hits.
const HITS_PER_CLOCK_READING: u64 = 32;

/// Artifacts in memory, the least recently used of which make room for new ones.
///
/// Cheap to share by reference or in an [`Arc`](std::sync::Arc). A hit, an insert and an eviction
/// each cost the same with a thousand entries and with a million. The order of eviction is exact
/// inside a shard, and close to exact across shards.
///
/// What [`put`](Store::put) displaces is handed back in its [`PutOutcome`], the newest entry is
/// not among it, and all evictions of one put are one report. A put of the very allocation that is
/// there already says [`PutStatus::AlreadyStored`]; equal bytes elsewhere replace it, for bytes
/// are never compared here.
///
/// # Panics
///
/// Every call panics if an earlier one panicked while it held a shard's lock, which only a defect
/// of this crate can make happen: half-changed state is never read on.
///
/// ```
/// use keepwarm::{Fingerprint, MemoryStore, Store};
///
/// let store = MemoryStore::builder().byte_budget(8).shards(1).build()?;
/// let [old, new] = [1, 2].map(|n| Fingerprint::from_bytes([n; 32]));
/// let _ = store.put(&old, vec![1; 5].into())?;
/// let outcome = store.put(&new, vec![2; 5].into())?;
/// assert_eq!(outcome.displaced[0].key, old);
/// assert_eq!((store.len(), store.cached_bytes()), (1, 5));
/// # Ok::<(), keepwarm::Error>(())
/// ```
pub struct MemoryStore {
    shards: Box<[LockedShard]>,
    budget: Budget,
    clock: Clock,
    flushes: AtomicU64,
    max_age: Option<Duration>,
    /// The stamp of the next entry that comes in without being used.
    aged: AtomicU64,
}

/// A shard, its lock, and when its oldest entry was used, for evictions that choose a shard.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LockedShard {
    shard: Mutex<Shard>,
    oldest_use: AtomicU64,
}

impl MemoryStore {
    /// Starts to set up a store.
    ///
    /// ```
    /// # use keepwarm::MemoryStore;
    /// let store = MemoryStore::builder().byte_budget(1 << 30).entry_budget(10_000).build()?;
    /// assert!(store.is_empty());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder::new()
    }

    fn new(settings: &MemoryStoreBuilder, shards: usize) -> Self {
        let shard = || LockedShard {
            shard: Mutex::default(),
            oldest_use: AtomicU64::new(Stamp::MAX),
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            budget: Budget::new(settings.entry_budget, settings.byte_budget),
            clock: Clock::new(),
            flushes: AtomicU64::new(0),
            max_age: settings.max_age,
            aged: AtomicU64::new(clock::FIRST - 1),
        }
    }

    /// How many entries there are.
    ///
    /// ```
    /// # use keepwarm::{Fingerprint, MemoryStore, StoreExt};
    /// let store = MemoryStore::builder().build()?;
    /// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1, 2])?;
    /// assert_eq!(store.len(), 1);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn len(&self) -> usize {
        usize::try_from(self.budget.entries()).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    ///
    /// ```
    /// # use keepwarm::MemoryStore;
    /// assert!(MemoryStore::builder().build()?.is_empty());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all artifacts, as the byte budget counts them: the sum of their lengths.
    ///
    /// ```
    /// # use keepwarm::{Fingerprint, MemoryStore, StoreExt};
    /// let store = MemoryStore::builder().build()?;
    /// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1, 2])?;
    /// assert_eq!(store.cached_bytes(), 2);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn cached_bytes(&self) -> u64 {
        self.budget.bytes()
    }

    /// Which shard `number` chooses: its low bits do.
    fn index(&self, number: u64) -> usize {
        let mask = self.shards.len() - 1;
        usize::try_from(number & mask as u64).unwrap_or(0)
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        let Ok(guard) = self.shards[index].shard.lock() else {
            panic!("the lock of memory shard {index} is poisoned: a call panicked while it held it")
        };
        guard
    }

    /// Changes a shard under its lock and publishes how old its oldest entry is then. What `change`
    /// returns is freed by the caller, outside the lock.
    fn with<R>(&self, index: usize, change: impl FnOnce(&mut Shard) -> R) -> R {
        let mut shard = self.lock(index);
        let result = change(&mut shard);
        let oldest = shard.oldest_use();
        self.shards[index]
            .oldest_use
            .store(oldest, Ordering::Relaxed);
        result
    }

    /// Whether what was put at `put_at` is too old now; `None` where nothing ever is.
    fn age_limit(&self) -> Option<impl Fn(u64) -> bool + use<>> {
        let (limit, now) = (self.max_age?, crate::store::now());
        Some(move |put_at| crate::store::is_past(put_at, limit, now))
    }

    /// The room that is left, in entries and bytes.
    pub(crate) fn room(&self) -> (u64, u64) {
        self.budget.room()
    }

    /// Whether an entry of so many bytes can be kept, alone if need be.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.budget.fits(bytes)
    }

    /// So many places in the order of use, behind all entries that are there: this number and
    /// those below it, to be given in this order.
    pub(crate) fn places_behind(&self, number: u64) -> u64 {
        let next = |now: u64| Some(now.saturating_sub(number).max(1));
        let given = self
            .aged
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        given.unwrap_or(1)
    }

    /// Adds an entry that nobody used, at a place that [`places_behind`](Self::places_behind) gave.
    /// Displaces and replaces nothing, counts as no put.
    pub(crate) fn add_aged(&self, key: &Fingerprint, entry: Entry, place: u64) -> Added {
        let key = Key::new(key);
        self.with(self.index(key.fold()), |shard| {
            shard.add_aged(&key, entry, place, &self.budget)
        })
    }

    /// The keys of entries of which `is_it` says so, knowing namespace and time of the put in
    /// nanoseconds since 1970 (zero if not known). Shard by shard: no snapshot of one moment.
    pub(crate) fn keys(&self, is_it: impl Fn(NamespaceId, u64) -> bool) -> Vec<Fingerprint> {
        let shards = 0..self.shards.len();
        shards
            .flat_map(|index| self.lock(index).keys(&is_it))
            .collect()
    }

    /// Takes an entry out, or only looks, if `is_it` says so still; tells how many bytes it has.
    pub(crate) fn take(
        &self,
        key: &Fingerprint,
        is_it: impl Fn(NamespaceId, u64) -> bool,
        only_look: bool,
    ) -> Option<u64> {
        let key = Key::new(key);
        let (bytes, removed) = self.with(self.index(key.fold()), |shard| {
            let bytes = shard.size_if(&key, is_it)?;
            let removed = (!only_look).then(|| shard.prune(&key, &self.budget));
            Some((bytes, removed))
        })?;
        drop(removed);
        Some(bytes)
    }

    /// Refuses an entry larger than the whole budget; the older one under its key goes too.
    fn reject(&self, key: &Key, entry: Entry) -> PutOutcome {
        let old = self.with(self.index(key.fold()), |shard| {
            shard.reject(key, &self.budget)
        });
        let mut outcome = PutOutcome::new(PutStatus::Rejected(Rejection::TooLarge));
        if let Some(old) = old {
            outcome.report(Eviction::new(
                Tier::Memory,
                EvictionReason::RejectedPut,
                1,
                size(&old.entry),
                age(self.clock.now(), old.last_use),
            ));
        }
        outcome
            .displaced
            .push(Displaced::new(*key.fingerprint(), entry));
        outcome
    }

    /// Evicts until the budgets hold or nothing but the entry under `newest` is left.
    fn make_room(&self, newest: &Key, now: Stamp, outcome: &mut PutOutcome) {
        let mut over = Exceeded::default();
        let mut evicted_bytes = 0u64;
        let mut oldest_use = Stamp::MAX;
        let mut round = 0;
        while self.budget.is_exceeded() {
            let Some((removed, exceeded)) = self.evict_one(newest, round) else {
                break;
            };
            over = over.or(exceeded);
            evicted_bytes = evicted_bytes.saturating_add(size(&removed.entry));
            oldest_use = oldest_use.min(removed.last_use);
            let displaced = Displaced::new(removed.key, removed.entry);
            outcome.displaced.push(displaced);
            round += 1;
        }
        if round > 0 {
            outcome.report(Eviction::new(
                Tier::Memory,
                over.reason(),
                round,
                evicted_bytes,
                age(now, oldest_use),
            ));
        }
    }

    /// Evicts the oldest entry of a few shards, among them that of `newest`. If there is none, from
    /// any shard: an entry as large as the whole budget displaces all others.
    fn evict_one(&self, newest: &Key, round: u64) -> Option<(Removed, Exceeded)> {
        // The upper half of the fold chose no shard yet; each round looks elsewhere.
        let start = (newest.fold() >> 32).wrapping_add(round.wrapping_mul(SAMPLED_SHARDS as u64));
        let sampled = SAMPLED_SHARDS.min(self.shards.len()) as u64;
        let candidates = (0..sampled)
            .map(|step| self.index(start.wrapping_add(step)))
            .chain([self.index(newest.fold())]);
        let published = |index: &usize| self.shards[*index].oldest_use.load(Ordering::Relaxed);
        let choice = candidates.min_by_key(published)?;
        let removed = self.evict_from(choice, newest);
        if removed.is_some() || !self.budget.is_exceeded() {
            return removed;
        }
        let mut all: Vec<usize> = (0..self.shards.len()).collect();
        all.sort_by_cached_key(published);
        all.into_iter()
            .find_map(|index| self.evict_from(index, newest))
    }

    /// Evicts from one shard, unless another thread made enough room meanwhile.
    fn evict_from(&self, index: usize, newest: &Key) -> Option<(Removed, Exceeded)> {
        self.with(index, |shard| shard.evict(newest, &self.budget))
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for MemoryStore {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let key = Key::new(key);
        let is_old = self.age_limit();
        let (found, expired) = self.with(self.index(key.fold()), |shard| {
            let expired = is_old.and_then(|is_old| shard.expire(&key, &self.budget, is_old));
            let found = shard.get(&key, |hits| {
                if hits % HITS_PER_CLOCK_READING == 0 {
                    self.clock.now()
                } else {
                    self.clock.recent()
                }
            });
            (found, expired)
        });
        drop(expired);
        Ok(found)
    }

    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        let key = Key::new(key);
        let is_old = self.age_limit();
        let shard = self.lock(self.index(key.fold()));
        Ok(shard.contains(&key) && !is_old.is_some_and(|is_old| shard.is_old(&key, is_old)))
    }

    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        let key = Key::new(key);
        let index = self.index(key.fold());
        if self.budget.is_zero() {
            self.with(index, Shard::put_nothing);
            let mut outcome = PutOutcome::new(PutStatus::Stored);
            outcome
                .displaced
                .push(Displaced::new(*key.fingerprint(), entry));
            return Ok(outcome);
        }
        if !self.budget.fits(size(&entry)) {
            return Ok(self.reject(&key, entry));
        }
        let now = self.clock.now();
        let (status, replaced) =
            self.with(index, |shard| shard.put(&key, entry, now, &self.budget));
        drop(replaced);
        let mut outcome = PutOutcome::new(status);
        self.make_room(&key, now, &mut outcome);
        Ok(outcome)
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        let key = Key::new(key);
        let removed = self.with(self.index(key.fold()), |shard| {
            shard.remove(&key, &self.budget)
        });
        Ok(removed.is_some())
    }

    fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
        let now = self.clock.now();
        for key in keys.iter().map(Key::new) {
            self.with(self.index(key.fold()), |shard| shard.touch(&key, now));
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        for index in 0..self.shards.len() {
            drop(self.with(index, |shard| shard.clear(&self.budget)));
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let more = |flushes: u64| flushes.checked_add(1);
        // At its maximum it stays there.
        let _ = self
            .flushes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let mut stats = StoreStats {
            tier: Tier::Memory,
            flushes: self.flushes.load(Ordering::Relaxed),
            ..StoreStats::default()
        };
        for index in 0..self.shards.len() {
            self.lock(index).add_to(&mut stats);
        }
        stats.entries = self.budget.entries();
        stats.cached_bytes = self.budget.bytes();
        stats
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.len())
            .field("cached_bytes", &self.cached_bytes())
            .field("budget", &self.budget)
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{self, AssertUnwindSafe};

    #[test]
    fn a_poisoned_shard_lock_fails_closed_with_a_message_that_names_it() {
        let store = MemoryStore::builder().shards(1).build().unwrap();
        let key = Fingerprint::from_bytes([1; 32]);
        let _ = store.put(&key, vec![1].into()).unwrap();
        let message = |call: &dyn Fn()| {
            let panic = panic::catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            let literal = panic.downcast_ref::<&str>().map(ToString::to_string);
            literal
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap()
        };
        let poison = message(&|| store.with(0, |_| panic!("on purpose")));
        assert_eq!(poison, "on purpose");

        let calls: [&dyn Fn(); 7] = [
            &|| drop(store.get(&key)),
            &|| drop(store.contains(&key)),
            &|| drop(store.put(&key, vec![2].into())),
            &|| drop(store.remove(&key)),
            &|| drop(store.touch(&[key])),
            &|| drop(store.clear()),
            &|| drop(store.stats()),
        ];
        for call in calls {
            assert!(message(call).contains("memory shard 0 is poisoned"));
        }
    }
}
