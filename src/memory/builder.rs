//! How a [`MemoryStore`] is set up.

use super::MemoryStore;
use crate::error::{Error, ErrorKind, Result};
use std::num::NonZero;
use std::thread;
use std::time::Duration;

const DEFAULT_BYTE_BUDGET: u64 = 256 << 20;
const MOST_SHARDS: usize = 1 << 16;
/// Settled by measurement: `docs/benchmarks.md`.
const SHARDS_PER_CORE: usize = 16;

/// Sets up a [`MemoryStore`]; see [`MemoryStore::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct MemoryStoreBuilder {
    pub(super) byte_budget: u64,
    pub(super) entry_budget: u64,
    pub(super) max_age: Option<Duration>,
    shards: Option<usize>,
}

impl MemoryStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            byte_budget: DEFAULT_BYTE_BUDGET,
            entry_budget: u64::MAX,
            max_age: None,
            shards: None,
        }
    }

    /// The most bytes of artifacts that are kept; 256 MiB if not set.
    ///
    /// An artifact counts its length. What the store needs to find it (less than 200 bytes) comes on
    /// top; where artifacts are tiny or empty, bound their number too. An artifact as large as the
    /// whole budget is kept. Zero makes a store that accepts every put and keeps nothing.
    ///
    /// ```
    /// # use keepwarm::{Fingerprint, MemoryStore, StoreExt};
    /// let store = MemoryStore::builder().byte_budget(64 << 20).build()?;
    /// assert!(store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![0; 64 << 20])?);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn byte_budget(mut self, bytes: u64) -> Self {
        self.byte_budget = bytes;
        self
    }

    /// The most entries that are kept; without a limit of its own if not set, and never more than
    /// 2^31. Zero makes a store that accepts every put and keeps nothing.
    ///
    /// ```
    /// # use keepwarm::{Fingerprint, MemoryStore, StoreExt};
    /// let store = MemoryStore::builder().entry_budget(1).build()?;
    /// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1])?;
    /// store.put_bytes(&Fingerprint::from_bytes([2; 32]), vec![2])?;
    /// assert_eq!(store.len(), 1);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn entry_budget(mut self, entries: u64) -> Self {
        self.entry_budget = entries;
        self
    }

    /// How old an entry may be, counted from when it was [put](crate::Entry::put_at) into the first store
    /// that said so; any age if not set.
    ///
    /// An older one is a miss, and leaves memory when it is asked for.
    ///
    /// ```
    /// # use keepwarm::{Entry, Fingerprint, MemoryStore, Store};
    /// # use std::time::{Duration, SystemTime};
    /// let hour = Duration::from_secs(60 * 60);
    /// let store = MemoryStore::builder().max_age(hour).build()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let _ = store.put(&key, Entry::from(vec![1]).with_put_at(SystemTime::UNIX_EPOCH))?;
    /// assert!(store.get(&key)?.is_none());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// How many independently locked parts there are, from 1 to 65,536; rounded up to a power of
    /// two. Sixteen for each core if not set.
    ///
    /// Budgets are shared by all of them. With one shard, eviction takes the entry used longest
    /// ago of all; with more, one of those used longest ago.
    ///
    /// ```
    /// # use keepwarm::MemoryStore;
    /// assert!(MemoryStore::builder().shards(1).build().is_ok());
    /// assert!(MemoryStore::builder().shards(0).build().is_err());
    /// ```
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// The store.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for a number of shards out of range.
    ///
    /// ```
    /// # use keepwarm::MemoryStore;
    /// assert!(MemoryStore::builder().build()?.is_empty());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn build(self) -> Result<MemoryStore> {
        let shards = match self.shards {
            Some(shards @ 1..=MOST_SHARDS) => shards,
            None => default_shards(),
            Some(other) => {
                let action = format!("make {other} shards: choose from 1 to {MOST_SHARDS}");
                return Err(Error::new(ErrorKind::InvalidConfig, action));
            }
        };
        Ok(MemoryStore::new(&self, shards.next_power_of_two()))
    }
}

fn default_shards() -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.saturating_mul(SHARDS_PER_CORE).min(MOST_SHARDS)
}
