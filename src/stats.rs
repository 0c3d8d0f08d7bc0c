//! Plain snapshots of what a store did, and reports of what it evicted.

use std::time::Duration;

/// Which tier a report or a snapshot is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// The in-memory LRU.
    Memory,
    /// The directory.
    Disk,
    /// A composition of stores.
    Tiered,
    /// A store that is none of this crate's.
    #[default]
    Other,
}

/// Why entries left a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionReason {
    /// There were more entries than the budget allows.
    EntryLimit,
    /// There were more bytes than the budget allows.
    ByteLimit,
    /// There were more entries and more bytes than the budgets allow.
    EntryAndByteLimit,
    /// A put under the same key was refused as too large, so the older entry had to go.
    RejectedPut,
    /// The entry was older than it may be.
    Expired,
    /// The entry was removed by the caller's rule (not by a plain `remove`, which reports nothing).
    Removed,
}

/// One report of entries that left a tier together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Eviction {
    /// The tier they left.
    pub tier: Tier,
    /// Why.
    pub reason: EvictionReason,
    /// How many entries.
    pub entries: u64,
    /// How many bytes they had, as that tier counts them.
    pub bytes: u64,
    /// How long ago the oldest of them was put or last used, to some milliseconds; never zero.
    pub oldest_age: Duration,
}

impl Eviction {
    /// A report; an age of zero becomes the shortest one above it.
    ///
    /// For authors of their own [`Store`](crate::Store).
    ///
    /// ```
    /// use keepwarm::{Eviction, EvictionReason, Tier};
    /// use std::time::Duration;
    ///
    /// let reason = EvictionReason::ByteLimit;
    /// let report = Eviction::new(Tier::Other, reason, 1, 4096, Duration::ZERO);
    /// assert!(report.oldest_age > Duration::ZERO);
    /// ```
    pub fn new(
        tier: Tier,
        reason: EvictionReason,
        entries: u64,
        bytes: u64,
        oldest_age: Duration,
    ) -> Self {
        let oldest_age = oldest_age.max(Duration::from_nanos(1));
        Self {
            tier,
            reason,
            entries,
            bytes,
            oldest_age,
        }
    }
}

/// A snapshot of one store's counters since it was opened; every counter saturates.
///
/// For a composition of stores the counters are those of the composition (a get that the lower
/// tier served is one lookup and one hit), and [`tiers`](Self::tiers) has those of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Whose snapshot it is.
    pub tier: Tier,
    /// Whether the store refuses every put: a directory that is open for reading only. A
    /// [`Tiered`](crate::Tiered) does not write to such a lower tier.
    pub read_only: bool,
    /// Calls of `get`.
    pub lookups: u64,
    /// Gets that found an entry.
    pub hits: u64,
    /// Gets that found none, or failed.
    pub misses: u64,
    /// Puts that were accepted.
    pub puts: u64,
    /// Puts that were refused: too large, or the store is read-only.
    pub rejected_puts: u64,
    /// Puts that failed with an error.
    pub failed_puts: u64,
    /// Entries that were evicted.
    pub evictions: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
    /// Entries of a lower tier that were handed up.
    pub promotions: u64,
    /// Their bytes.
    pub promoted_bytes: u64,
    /// Entries of an upper tier that were written below.
    pub demotions: u64,
    /// Their bytes.
    pub demoted_bytes: u64,
    /// Bytes that were not stored because equal ones were there already.
    pub deduplicated_bytes: u64,
    /// Bytes written to the medium for artifacts, rewriting included: divided by the bytes put,
    /// the write amplification.
    pub written_bytes: u64,
    /// Of these, bytes that were moved to make room.
    pub rewritten_bytes: u64,
    /// Calls of `flush` that succeeded.
    pub flushes: u64,
    /// Calls of `flush` that failed.
    pub flush_errors: u64,
    /// Artifacts or records that were found damaged and not served.
    pub corrupt: u64,
    /// Work beside the calls that failed and will be tried again: evicting, writing last uses,
    /// putting damage aside, rebuilding an index. No call fails for it.
    pub maintenance_errors: u64,
    /// Entries now.
    pub entries: u64,
    /// Bytes of these now, as the tier's budget counts them.
    pub cached_bytes: u64,
    /// The parts of a composition, upper first; empty for a plain store.
    pub tiers: Vec<StoreStats>,
}

impl StoreStats {
    /// Hits in a million lookups, rounded down; `None` before the first lookup.
    ///
    /// ```
    /// let mut stats = keepwarm::StoreStats::default();
    /// assert_eq!(stats.hit_rate_ppm(), None);
    /// (stats.lookups, stats.hits) = (3, 2);
    /// assert_eq!(stats.hit_rate_ppm(), Some(666_666));
    /// ```
    pub fn hit_rate_ppm(&self) -> Option<u32> {
        hit_rate_ppm(self.hits, self.lookups)
    }
}

/// `hits` in a million of `lookups`, exact for all values.
pub(crate) fn hit_rate_ppm(hits: u64, lookups: u64) -> Option<u32> {
    let ppm = (u128::from(hits) * 1_000_000).checked_div(u128::from(lookups))?;
    u32::try_from(ppm.min(1_000_000)).ok()
}

/// What a put since the last flush has left to do; see
/// [`DiskStore::durability`](crate::DiskStore::durability) and
/// [`Cache::durability`](crate::Cache::durability).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durability {
    /// Entries that are only in this process's memory yet, or being written.
    pub unwritten_entries: u64,
    /// Their bytes.
    pub unwritten_bytes: u64,
    /// Files that were written, or relied on, and not synced since: what is in them survives the
    /// death of the process, not yet a power cut.
    pub unsynced_files: u64,
    /// Writes that failed since the last flush; the next one will fail.
    pub failed_writes: u64,
}

impl Durability {
    /// Whether a `kill -9` now would lose nothing.
    ///
    /// ```
    /// assert!(keepwarm::Durability::default().survives_a_kill());
    /// ```
    pub fn survives_a_kill(&self) -> bool {
        self.unwritten_entries == 0 && self.failed_writes == 0
    }

    /// Whether a power cut now would lose nothing.
    ///
    /// ```
    /// assert!(keepwarm::Durability::default().survives_a_power_cut());
    /// ```
    pub fn survives_a_power_cut(&self) -> bool {
        self.survives_a_kill() && self.unsynced_files == 0
    }
}
