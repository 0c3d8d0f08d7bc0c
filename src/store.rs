//! The contract of every tier.

use crate::artifact::Artifact;
use crate::error::Result;
use crate::few::Few;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::{Eviction, StoreStats};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An artifact with what is kept beside it.
///
/// ```
/// use keepwarm::{Entry, NamespaceId};
/// use std::time::Duration;
///
/// let mut entry = Entry::from(vec![1, 2, 3]);
/// entry.build_cost = Duration::from_millis(40);
/// assert_eq!(entry.namespace, NamespaceId::NONE);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// The bytes.
    pub artifact: Artifact,
    /// The namespace the entry belongs to.
    pub namespace: NamespaceId,
    /// How long the artifact took to build; what a hit saves. Kept in whole nanoseconds.
    pub build_cost: Duration,
    /// Nanoseconds since 1970; zero where nobody knows.
    put_at: u64,
}

/// Whether artifact, namespace and cost are equal; when an entry was put has no part in it.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.artifact == other.artifact
            && self.namespace == other.namespace
            && self.build_cost == other.build_cost
    }
}

impl Eq for Entry {}

impl Entry {
    /// When it was put, by the wall clock; `None` if that is not known, as of an entry that is not
    /// in a store yet.
    ///
    /// Whoever puts an entry first stamps it ([`Cache`](crate::Cache) and
    /// [`DiskStore`](crate::DiskStore) do). The stamp then stays with it: promotion, demotion and
    /// a put into another store do not make it younger. On disk it is kept to the second.
    ///
    /// ```
    /// use keepwarm::{Cache, Entry, Fingerprint};
    ///
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// assert_eq!(Entry::from(vec![1]).put_at(), None);
    /// cache.put(&key, vec![1]);
    /// assert!(cache.get_entry(&key).unwrap().put_at().is_some());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn put_at(&self) -> Option<SystemTime> {
        let at = UNIX_EPOCH.checked_add(Duration::from_nanos(self.put_at));
        at.filter(|_| self.put_at != 0)
    }

    /// The same entry, put at another time: for copying one from elsewhere that keeps its age.
    ///
    /// A time before 1970 counts as the first moment after.
    ///
    /// ```
    /// use keepwarm::Entry;
    /// use std::time::{Duration, SystemTime};
    ///
    /// let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    /// let entry = Entry::from(vec![1]).with_put_at(yesterday);
    /// assert_eq!(entry.put_at(), Some(yesterday));
    /// ```
    #[must_use]
    pub fn with_put_at(self, at: SystemTime) -> Self {
        self.stamped(nanos(at))
    }

    /// Whether it was put longer ago than `age`; never for one of which that is not known, or that
    /// is from the future by this machine's clock.
    ///
    /// ```
    /// use keepwarm::Entry;
    /// use std::time::{Duration, SystemTime};
    ///
    /// let entry = Entry::from(vec![1]).with_put_at(SystemTime::UNIX_EPOCH);
    /// assert!(entry.is_older_than(Duration::from_secs(60)));
    /// assert!(!Entry::from(vec![1]).is_older_than(Duration::ZERO));
    /// ```
    pub fn is_older_than(&self, age: Duration) -> bool {
        self.put_at != 0 && is_past(self.put_at, age, now())
    }

    /// The same entry, put at so many nanoseconds after 1970.
    pub(crate) fn stamped(mut self, put_at: u64) -> Self {
        self.put_at = put_at.max(1);
        self
    }

    /// The same entry; put now unless it was put before.
    pub(crate) fn stamped_now(self) -> Self {
        if self.put_at == 0 {
            return self.stamped(now());
        }
        self
    }

    /// Nanoseconds since 1970 at which it was put; zero where that is not known.
    pub(crate) fn put_nanos(&self) -> u64 {
        self.put_at
    }
}

/// A time in nanoseconds since 1970, cut to what fits.
pub(crate) fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The wall clock in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    nanos(SystemTime::now())
}

/// Whether `at` is longer ago than `age`; what is in the future has the age zero.
pub(crate) fn is_past(at: u64, age: Duration, now: u64) -> bool {
    u128::from(now.saturating_sub(at)) > age.as_nanos()
}

impl From<Artifact> for Entry {
    fn from(artifact: Artifact) -> Self {
        Self {
            artifact,
            namespace: NamespaceId::NONE,
            build_cost: Duration::ZERO,
            put_at: 0,
        }
    }
}

impl From<Vec<u8>> for Entry {
    fn from(bytes: Vec<u8>) -> Self {
        Artifact::from(bytes).into()
    }
}

/// Where an entry went; part of a [`PutOutcome`], which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutStatus {
    /// It is stored (or, in a store whose budget is zero, was stored and displaced at once).
    Stored,
    /// The same bytes were bound to this key already.
    AlreadyStored,
    /// It was refused; the key is absent now, but in a store that is read-only.
    Rejected(Rejection),
}

/// Why a put was refused. A refusal is not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The entry alone is larger than the store's byte budget.
    TooLarge,
    /// The store is open for reading only, and keeps what it has.
    ReadOnly,
}

/// An entry that left a store to make room, handed back to the caller in a [`PutOutcome`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Displaced {
    /// Its key.
    pub key: Fingerprint,
    /// The entry itself.
    pub entry: Entry,
}

impl Displaced {
    /// An entry that left the store.
    ///
    /// For authors of their own [`Store`].
    ///
    /// ```
    /// use keepwarm::{Displaced, Fingerprint};
    ///
    /// let displaced = Displaced::new(Fingerprint::from_bytes([1; 32]), vec![1].into());
    /// assert_eq!(displaced.entry.artifact.len(), 1);
    /// ```
    pub fn new(key: Fingerprint, entry: Entry) -> Self {
        Self { key, entry }
    }
}

/// What a [`put`](Store::put) did.
///
/// ```
/// use keepwarm::{Fingerprint, MemoryStore, PutStatus, Store};
///
/// let store = MemoryStore::builder().entry_budget(1).build()?;
/// let _ = store.put(&Fingerprint::from_bytes([1; 32]), vec![1].into())?;
/// let outcome = store.put(&Fingerprint::from_bytes([2; 32]), vec![2].into())?;
/// assert_eq!(outcome.status, PutStatus::Stored);
/// assert_eq!(outcome.displaced[0].entry.artifact.as_slice(), [1]);
/// assert_eq!(outcome.evictions[0].entries, 1);
/// # Ok::<(), keepwarm::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "displaced entries are lost unless they are put somewhere else"]
pub struct PutOutcome {
    /// Where the entry went.
    pub status: PutStatus,
    /// What left the store for it, for the caller to demote: evicted entries, and the entry itself
    /// where it was refused or the store keeps nothing. Never what the put replaced. A store that
    /// does not own its entries (a disk) hands back only a refused one.
    pub displaced: Few<Displaced>,
    /// Reports of what was evicted, one for each reason. A refused entry is not reported, the
    /// older one that had to go for it is.
    pub evictions: Few<Eviction>,
}

impl PutOutcome {
    /// An outcome with nothing displaced and nothing evicted.
    ///
    /// For authors of their own [`Store`], who fill in the rest.
    ///
    /// ```
    /// use keepwarm::{PutOutcome, PutStatus};
    ///
    /// let outcome = PutOutcome::new(PutStatus::Stored);
    /// assert!(outcome.displaced.is_empty() && !outcome.is_rejected());
    /// ```
    pub fn new(status: PutStatus) -> Self {
        Self {
            status,
            displaced: Few::new(),
            evictions: Few::new(),
        }
    }

    /// Adds the report of an eviction and tells `tracing`: whoever evicts does both, once.
    #[inline]
    pub(crate) fn report(&mut self, eviction: Eviction) {
        crate::events::evicted(&eviction);
        self.evictions.push(eviction);
    }

    /// Whether the entry was refused.
    ///
    /// ```
    /// use keepwarm::{MemoryStore, Store, Fingerprint};
    ///
    /// let store = MemoryStore::builder().byte_budget(2).build()?;
    /// let outcome = store.put(&Fingerprint::from_bytes([0; 32]), vec![1, 2, 3].into())?;
    /// assert!(outcome.is_rejected());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn is_rejected(&self) -> bool {
        matches!(self.status, PutStatus::Rejected(_))
    }
}

/// A place that keeps entries by key: memory, a directory, or a composition of both.
///
/// The trait is the whole contract between tiers, and it is object-safe. It has no default
/// methods, so that a wrapper that forgets one does not compile; pleasant calls are in
/// [`StoreExt`].
///
/// # Misses, refusals, errors
///
/// A miss is `Ok(None)`. A refusal is a [`PutStatus::Rejected`]. An `Err` says that the store
/// could not tell or could not do it. A damaged entry is a miss, never an error and never other
/// bytes.
///
/// # Order
///
/// Calls for one key are atomic: a `get` returns an entry that was put, whole, and once any `get`
/// has seen a put or a remove, no later one sees what was there before. Nothing is promised about
/// the order of different keys.
///
/// # Budgets
///
/// Budgets hold whenever no call is under way. A put of an entry that fits the whole budget is
/// never refused, but by a read-only store. After a refused put the key is absent (see below for
/// read-only stores). After a *failed* put (`Err`) it may hold
/// the old entry, the new one or nothing. A store whose budget is zero accepts puts and keeps
/// nothing: the outcome says [`PutStatus::Stored`] and hands the entry back as displaced.
///
/// # Read-only stores
///
/// A store that may not be changed says so in its [`stats`](StoreStats::read_only). It refuses
/// every put ([`Rejection::ReadOnly`]) and keeps what it has, under the key of a refused put as
/// well. [`remove`](Self::remove) of a key that it has, and [`clear`](Self::clear) unless it is
/// empty, fail with [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly); [`touch`](Self::touch)
/// and [`flush`](Self::flush) have nothing to do.
///
/// # Durability
///
/// [`flush`](Self::flush) returns `Ok` only if everything that was put through this handle before
/// the call (and has not been evicted, replaced or removed since) survives a power cut, as far as
/// this store keeps anything; if a write failed since the last flush, it returns an error once.
/// A memory store has nothing to do.
///
/// # Locks
///
/// A store calls no foreign code while it holds a lock, and waits for none without a bound.
///
/// ```
/// use keepwarm::{Fingerprint, MemoryStore, Store};
///
/// let store: Box<dyn Store> = Box::new(MemoryStore::builder().byte_budget(1 << 20).build()?);
/// let key = Fingerprint::builder("demo").field("n", "1").finish();
/// assert!(store.get(&key)?.is_none());
/// let _ = store.put(&key, vec![1, 2, 3].into())?;
/// assert_eq!(store.get(&key)?.unwrap().artifact.as_slice(), [1, 2, 3]);
/// # Ok::<(), keepwarm::Error>(())
/// ```
pub trait Store: fmt::Debug + Send + Sync {
    /// The entry under `key`; refreshes its recency.
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>>;
    /// Whether a get would very likely find an entry; recency and counters are left alone.
    fn contains(&self, key: &Fingerprint) -> Result<bool>;
    /// Binds `key` to `entry`, replacing what was there.
    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome>;
    /// Unbinds `key`; tells whether it was bound.
    fn remove(&self, key: &Fingerprint) -> Result<bool>;
    /// Refreshes the recency of keys that were used elsewhere (in a tier above); absent keys are
    /// skipped. A hint: it may be delayed or dropped.
    fn touch(&self, keys: &[Fingerprint]) -> Result<()>;
    /// Unbinds every key.
    fn clear(&self) -> Result<()>;
    /// Makes everything put before the call durable.
    fn flush(&self) -> Result<()>;
    /// A snapshot of the counters.
    fn stats(&self) -> StoreStats;
}

/// Pleasant calls on every [`Store`].
pub trait StoreExt: Store {
    /// The artifact under `key`, without what is kept beside it.
    ///
    /// ```
    /// use keepwarm::{Fingerprint, MemoryStore, StoreExt};
    ///
    /// let store = MemoryStore::builder().build()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// store.put_bytes(&key, vec![1])?;
    /// assert_eq!(store.get_artifact(&key)?.unwrap().as_slice(), [1]);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    fn get_artifact(&self, key: &Fingerprint) -> Result<Option<Artifact>> {
        Ok(self.get(key)?.map(|entry| entry.artifact))
    }

    /// Puts plain bytes and drops what they displace; tells whether they are kept.
    ///
    /// ```
    /// # use keepwarm::{Fingerprint, MemoryStore, StoreExt};
    /// let store = MemoryStore::builder().byte_budget(1).build()?;
    /// assert!(!store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1, 2])?);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    fn put_bytes(&self, key: &Fingerprint, bytes: impl Into<Artifact>) -> Result<bool> {
        let outcome = self.put(key, Entry::from(bytes.into()))?;
        Ok(!outcome.is_rejected() && !outcome.displaced.iter().any(|d| d.key == *key))
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        impl<S: Store + ?Sized> Store for $pointer {
            fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
                (**self).get(key)
            }
            fn contains(&self, key: &Fingerprint) -> Result<bool> {
                (**self).contains(key)
            }
            fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
                (**self).put(key, entry)
            }
            fn remove(&self, key: &Fingerprint) -> Result<bool> {
                (**self).remove(key)
            }
            fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
                (**self).touch(keys)
            }
            fn clear(&self) -> Result<()> {
                (**self).clear()
            }
            fn flush(&self) -> Result<()> {
                (**self).flush()
            }
            fn stats(&self) -> StoreStats {
                (**self).stats()
            }
        }
    )*};
}

forward!(&S, Box<S>, Arc<S>);
