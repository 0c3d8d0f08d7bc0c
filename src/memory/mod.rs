//! The memory tier: a sharded LRU with budgets that all shards share.
//!
//! Built in layers: [`table`], [`order`] and [`lru`] are the policy, single-threaded; [`shard`] adds the
//! counters; this file adds the locks. [`key`] chooses shards, [`budget`] counts, [`clock`] stamps.
//!
//! Invariants:
//! - never are two shard locks held at once, and no foreign code runs under one;
//! - what leaves a shard is handed out of its lock before it is freed;
//! - budgets hold whenever no call is under way: a put returns when what it added is counted, or
//!   as much was evicted, if need be everything but its own entry;
//! - [`MemoryStore::oldest`] says of no shard that its oldest entry is younger than it is: hits
//!   change nothing there, and an eviction looks whether the shard it chose is what it seemed.

mod budget;
mod builder;
mod clock;
mod facts;
mod key;
mod lru;
mod order;
mod shard;
mod table;

pub use builder::MemoryStoreBuilder;

use crate::error::Result;
use crate::few::Few;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::{Eviction, EvictionReason, StoreStats, Tier};
use crate::store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, yield_now};
use budget::{Budget, Exceeded, Owed, signed};
use clock::{Clock, Stamp, age};
use key::Key;
use lru::size;
pub(crate) use shard::Added;
use shard::Shard;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

/// How many shards an eviction looks at before it chooses its victim; a power of two.
const SAMPLED_SHARDS: usize = 8;
/// After so many looks at shards whose oldest entry was used meanwhile it takes what it finds.
const MOST_LOOKS: usize = 2 * SAMPLED_SHARDS;
/// A put evicts no more than this under one hold of a lock: others wait for it.
const MOST_AT_ONCE: u64 = 16;
/// A shard reads the system's clock for one of so many hits.
const HITS_PER_CLOCK_READING: u64 = 32;

/// Artifacts in memory, the least recently used of which make room for new ones.
///
/// Cheap to share by reference or in an [`Arc`](std::sync::Arc). A hit and an insert cost the same
/// with a thousand entries and with a million, but for what the processor's caches miss; evicting
/// what was used again costs the logarithm of how many such entries there are. The order of eviction
/// is exact inside a shard, and close to exact across shards.
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
    /// For each shard a moment before which none of its entries was last used.
    oldest: Box<[AtomicU64]>,
    budget: Budget,
    clock: Clock,
    flushes: AtomicU64,
    max_age: Option<Duration>,
    /// The stamp of the next entry that comes in without being used.
    aged: AtomicU64,
}

/// A shard and its lock, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LockedShard(Mutex<Shard>);

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
        let none = || AtomicU64::new(Stamp::MAX);
        Self {
            shards: (0..shards).map(|_| LockedShard::default()).collect(),
            oldest: (0..shards).map(|_| none()).collect(),
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

    #[inline]
    fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        let Ok(guard) = self.shards[index].0.lock() else {
            panic!("the lock of memory shard {index} is poisoned: a call panicked while it held it")
        };
        guard
    }

    /// Changes a shard under its lock. What `change` returns is freed by the caller, outside it.
    fn with<R>(&self, index: usize, change: impl FnOnce(&mut Shard) -> R) -> R {
        change(&mut self.lock(index))
    }

    /// Tells, under the lock of a shard, that an entry came in that was last used at `stamp`.
    fn came_in(&self, index: usize, stamp: Stamp) {
        let oldest = &self.oldest[index];
        if stamp < oldest.load(Ordering::Relaxed) {
            oldest.store(stamp, Ordering::Relaxed);
        }
    }

    /// Whether what was put at `put_at` is too old now; `None` where nothing ever is.
    fn age_limit(&self) -> Option<impl Fn(u64) -> bool + use<>> {
        let (limit, now) = (self.max_age?, crate::store::now());
        Some(move |put_at| crate::store::is_past(put_at, limit, now))
    }

    /// Takes the entry under `key` out if it is too old.
    fn expire(&self, key: &Key<'_>, index: usize, is_old: impl FnOnce(u64) -> bool) {
        drop(self.with(index, |shard| shard.expire(key, &self.budget, is_old)));
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
        let index = self.index(key.fold());
        self.with(index, |shard| {
            self.came_in(index, place);
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
    fn reject(&self, key: &Key<'_>, entry: Entry) -> PutOutcome {
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

    /// Evicts a few entries from the shard that one comes into, whose lock is held, until what is owed
    /// is paid or another shard seems to have something that is clearly older.
    #[inline]
    fn make_room_beside(
        &self,
        (shard, index): (&mut Shard, usize),
        newest: &Key<'_>,
        now: Stamp,
        room: &mut Room,
    ) {
        let mut is_changed = false;
        while !room.is_paid(&self.budget) && room.evicted < MOST_AT_ONCE {
            let Some(oldest) = shard.oldest_but(newest) else {
                break;
            };
            // Exactly now; hits do not tell.
            self.oldest[index].store(oldest.0, Ordering::Relaxed);
            let some = &self.oldest[self.some_shards(newest, room.evicted)];
            let seems = |min: Stamp, shard: &AtomicU64| min.min(shard.load(Ordering::Relaxed));
            if oldest.0 > clock::nearly(some.iter().fold(Stamp::MAX, seems), now) {
                break;
            }
            let Some(evicted) = shard.evict(oldest, &mut room.outcome.displaced) else {
                break;
            };
            room.took(evicted);
            is_changed = true;
        }
        if is_changed {
            self.oldest[index].store(shard.oldest_use(), Ordering::Relaxed);
        }
    }

    /// Evicts until what is owed is paid. Where nothing is left to evict but the entry under
    /// `newest`, which fits, that is as soon as other calls have paid too.
    fn make_room(&self, newest: &Key<'_>, room: &mut Room) {
        while !room.is_paid(&self.budget) {
            match self.evict_one(newest, room.evicted, &mut room.outcome.displaced) {
                Some(evicted) => room.took(evicted),
                None => yield_now(),
            }
        }
    }

    /// A few shards, others each round.
    #[inline]
    fn some_shards(&self, newest: &Key<'_>, round: u64) -> Range<usize> {
        // The upper half of the fold chose no shard yet.
        let number = SAMPLED_SHARDS.min(self.shards.len());
        let first = self.index((newest.fold() >> 32).wrapping_add(round) * number as u64);
        first..first + number
    }

    /// Evicts the oldest entry of a few shards, among them that of `newest`. If there is none, from
    /// any shard: an entry as large as the whole budget displaces all others.
    fn evict_one(
        &self,
        newest: &Key<'_>,
        round: u64,
        displaced: &mut Few<Displaced>,
    ) -> Option<(u64, Stamp)> {
        let own = self.index(newest.fold());
        let mut is_spared = false;
        let mut looked_at = self.some_shards(newest, round);
        for look in 0.. {
            let (oldest, index, next) = self.oldest_of(looked_at.clone(), own, is_spared);
            if oldest == Stamp::MAX {
                if looked_at.len() == self.shards.len() {
                    break;
                }
                looked_at = 0..self.shards.len();
                continue;
            }
            // Others may use what is found to be the oldest again and again; not for ever.
            let next = if look < MOST_LOOKS { next } else { Stamp::MAX };
            match self.evict_from(index, newest, next, displaced) {
                Ok(evicted) => return Some(evicted),
                // Nothing but the newest entry.
                Err(stamp) => is_spared |= stamp == Stamp::MAX && index == own,
            }
        }
        None
    }

    /// Of `own`, unless it is spared, and some more shards that which seems to have the oldest
    /// entry: when that was used, and when the oldest of the others was.
    #[inline]
    fn oldest_of(&self, some: Range<usize>, own: usize, is_spared: bool) -> (Stamp, usize, Stamp) {
        let own_seems = self.oldest[own].load(Ordering::Relaxed);
        let own_seems = if is_spared { Stamp::MAX } else { own_seems };
        let (mut oldest, mut chosen, mut next) = (own_seems, own, Stamp::MAX);
        for (other, seems) in some.clone().zip(&self.oldest[some]) {
            let stamp = seems.load(Ordering::Relaxed);
            if other == own {
                continue;
            }
            if stamp < oldest {
                (oldest, chosen, next) = (stamp, other, oldest);
            } else {
                next = next.min(stamp);
            }
        }
        (oldest, chosen, next)
    }

    /// Evicts from one shard, unless its oldest entry was last used after `other`: then tells when.
    fn evict_from(
        &self,
        index: usize,
        newest: &Key<'_>,
        other: Stamp,
        displaced: &mut Few<Displaced>,
    ) -> std::result::Result<(u64, Stamp), Stamp> {
        let mut shard = self.lock(index);
        let oldest = shard.oldest_but(newest).ok_or(Stamp::MAX);
        let evicted = oldest.and_then(|oldest| match oldest.0 {
            stamp if stamp > other => Err(stamp),
            _ => shard.evict(oldest, displaced).ok_or(Stamp::MAX),
        });
        self.oldest[index].store(shard.oldest_use(), Ordering::Relaxed);
        evicted
    }
}

/// What a put still owes for the room that it took, and what it evicted for it.
#[derive(Debug)]
struct Room {
    owed: Owed,
    over: Exceeded,
    evicted: u64,
    evicted_bytes: u64,
    oldest_use: Stamp,
    outcome: PutOutcome,
}

impl Room {
    #[inline]
    fn new() -> Self {
        Self {
            owed: Owed::default(),
            over: Exceeded::default(),
            evicted: 0,
            evicted_bytes: 0,
            oldest_use: Stamp::MAX,
            outcome: PutOutcome::new(PutStatus::Stored),
        }
    }

    /// Pays if there is room; else knows why there is none.
    #[inline]
    fn is_paid(&mut self, budget: &Budget) -> bool {
        match budget.pay(&mut self.owed) {
            Ok(()) => true,
            Err(exceeded) => {
                self.over = self.over.or(exceeded);
                false
            }
        }
    }

    /// An entry of so many bytes went that was last used then.
    #[inline]
    fn took(&mut self, (bytes, last_use): (u64, Stamp)) {
        self.owed.entries -= 1;
        self.owed.bytes -= signed(bytes);
        self.evicted += 1;
        self.evicted_bytes = self.evicted_bytes.saturating_add(bytes);
        self.oldest_use = self.oldest_use.min(last_use);
    }

    /// The outcome, with the report of what was evicted until now.
    #[inline]
    fn outcome(mut self, now: Stamp) -> PutOutcome {
        if self.evicted > 0 {
            self.outcome.report(Eviction::new(
                Tier::Memory,
                self.over.reason(),
                self.evicted,
                self.evicted_bytes,
                age(now, self.oldest_use),
            ));
        }
        self.outcome
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for MemoryStore {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let key = Key::new(key);
        let index = self.index(key.fold());
        if let Some(is_old) = self.age_limit() {
            self.expire(&key, index, is_old);
        }
        let found = self.lock(index).get(&key, |hits| {
            if hits % HITS_PER_CLOCK_READING == 0 {
                self.clock.now()
            } else {
                self.clock.recent()
            }
        });
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
        let mut replaced = None;
        let mut room = Room::new();
        self.with(index, |shard| {
            if let Some(place) = shard.begin_put(&key) {
                (room.outcome.status, room.owed) =
                    shard.replace((place, &key), entry, now, &mut replaced);
                self.make_room_beside((shard, index), &key, now, &mut room);
            } else {
                // First, so that what goes and what comes are waited for at the same time.
                room.owed = Owed::of(size(&entry));
                self.make_room_beside((shard, index), &key, now, &mut room);
                shard.insert(&key, entry, now);
            }
            self.came_in(index, now);
        });
        drop(replaced);
        self.make_room(&key, &mut room);
        self.budget.conclude(std::mem::take(&mut room.owed));
        Ok(room.outcome(now))
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
