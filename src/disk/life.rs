//! Life-time counters of the directory: what all processes did, kept in the header of the index.
//!
//! Each handle counts in memory and adds what is new when it writes last uses, at a flush and when
//! it is dropped: a look-up costs no system call. A kill loses what was not added yet.

use super::counters::Counters;
use super::header::{Changes, Field, TOTALS};
use super::index::Index;
use super::inner::{Inner, now};
use crate::error::Result;
use crate::sync::{Mutex, OnceLock};
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const POISON: &str = "the lock of keepwarm's life-time counters is poisoned";

/// What every process did with a directory since it was made, or since
/// [`DiskStore::zero_directory_stats`](crate::DiskStore::zero_directory_stats).
///
/// Every counter saturates. They are for people: what a process counted last is added about a
/// second later, at its flush or at its end, and lost if it is killed before; a directory whose
/// index is lost counts anew from zero.
///
/// ```
/// use keepwarm::{Cache, Fingerprint};
///
/// # let dir = tempfile::tempdir().unwrap();
/// let cache = Cache::builder().open(dir.path())?;
/// let key = Fingerprint::from_bytes([1; 32]);
/// cache.put(&key, vec![1]);
/// assert!(cache.get(&key).is_some());
/// cache.close()?;
///
/// let cache = Cache::builder().open(dir.path())?;
/// let life = cache.disk().unwrap().directory_stats()?;
/// assert_eq!((life.puts, life.hits_above), (1, 1));
/// # Ok::<(), keepwarm::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryStats {
    /// When the counters were last zeroed; `None` if they never were.
    pub since: Option<SystemTime>,
    /// Keys bound now.
    pub entries: u64,
    /// Bytes of packs and objects now, dead space included.
    pub cached_bytes: u64,
    /// Times the directory was asked for an artifact.
    pub lookups: u64,
    /// Times it had it.
    pub hits: u64,
    /// Hits that memory above served, so that the directory was not asked.
    pub hits_above: u64,
    /// Artifacts that were handed up to memory.
    pub promotions: u64,
    /// Artifacts that were bound.
    pub puts: u64,
    /// Entries that were evicted, expired or pruned.
    pub evictions: u64,
    /// Bytes of their artifacts.
    pub evicted_bytes: u64,
    /// Bytes that were not stored because equal ones were there already.
    pub deduplicated_bytes: u64,
    /// Artifacts that were found damaged.
    pub corrupt: u64,
    /// Builds that [`Cache::get_or_insert_with`](crate::Cache::get_or_insert_with) ran.
    pub builds: u64,
    /// Time spent in these, over all threads.
    pub build_time: Duration,
    /// Build time of everything that was a hit.
    pub build_time_saved: Duration,
}

/// What tiers above a directory did, as they count it: sums since they were opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Above {
    /// Hits, of the directory too.
    pub(crate) hits: u64,
    pub(crate) promotions: u64,
    pub(crate) builds: u64,
    pub(crate) build_nanos: u64,
    pub(crate) saved_nanos: u64,
}

pub(super) type Source = Box<dyn Fn() -> Above + Send + Sync>;

/// What of this handle's counts the header has already.
#[derive(Default)]
pub(super) struct Life {
    added: Mutex<[u64; COUNTED.len()]>,
    above: OnceLock<Source>,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").finish_non_exhaustive()
    }
}

/// The counters that handles add up; the others are counted under the lock where they happen.
const COUNTED: [Field; 9] = [
    Field::Lookups,
    Field::Hits,
    Field::HitsAbove,
    Field::Promotions,
    Field::Builds,
    Field::BuildTime,
    Field::BuildTimeSaved,
    Field::EvictedBytes,
    Field::DeduplicatedBytes,
];

/// Everything that zeroing sets to zero.
const ZEROED: [Field; 12] = [
    Field::Puts,
    Field::Evictions,
    Field::Corrupt,
    Field::Lookups,
    Field::Hits,
    Field::HitsAbove,
    Field::Promotions,
    Field::Builds,
    Field::BuildTime,
    Field::BuildTimeSaved,
    Field::EvictedBytes,
    Field::DeduplicatedBytes,
];

impl Inner {
    /// Lets a tier above tell what it did.
    pub(super) fn count_above(&self, source: Source) {
        // Only the first is asked: a store has one tier above.
        drop(self.life.above.set(source));
    }

    /// This handle's counts now, in the order of [`COUNTED`].
    fn counted(&self) -> [u64; COUNTED.len()] {
        let c = &self.counters;
        let read = Counters::read;
        let above = self.life.above.get().map(|source| source());
        let above = above.unwrap_or_default();
        [
            read(&c.lookups),
            read(&c.hits),
            above.hits.saturating_sub(read(&c.hits)),
            above.promotions,
            above.builds,
            above.build_nanos,
            above.saved_nanos,
            read(&c.evicted_bytes),
            read(&c.deduplicated_bytes),
        ]
    }

    /// Whether there is something to add.
    pub(super) fn has_news(&self) -> bool {
        *self.life.added.lock().expect(POISON) != self.counted()
    }

    /// Adds what is new to the header. The caller holds the lock of the directory.
    pub(super) fn add_to_life(&self, index: &Index) -> io::Result<()> {
        let counted = self.counted();
        let before = *self.life.added.lock().expect(POISON);
        let mut changes = Changes::default();
        for ((field, now), before) in COUNTED.into_iter().zip(counted).zip(before) {
            changes.add(field, now.saturating_sub(before));
        }
        index.change(&changes)?;
        let mut added = self.life.added.lock().expect(POISON);
        for (before, now) in added.iter_mut().zip(counted) {
            *before = (*before).max(now);
        }
        Ok(())
    }

    /// Adds what is new, taking the lock if there is anything. Best effort: these are counters.
    pub(super) fn tell_life(&self) -> Result<()> {
        if !self.has_news() {
            return Ok(());
        }
        let locked = self.locked()?;
        let added = self.add_to_life(&locked.index);
        added.map_err(|e| self.error("add to the counters of the directory", e))
    }

    /// Whether this handle was asked for anything, or given anything.
    pub(super) fn has_worked(&self) -> bool {
        let c = &self.counters;
        [&c.lookups, &c.puts]
            .into_iter()
            .any(|n| Counters::read(n) > 0)
    }

    pub(super) fn directory_stats(&self) -> Result<DirectoryStats> {
        let totals = self.live_index().totals();
        let totals = totals.map_err(|e| self.error("read the counters of the directory", e))?;
        Ok(stats_of(&totals))
    }

    pub(super) fn zero_life(&self) -> Result<()> {
        let locked = self.locked()?;
        let io = |e| self.error("zero the counters of the directory", e);
        // What this handle has not added yet happened before.
        self.add_to_life(&locked.index).map_err(io)?;
        for field in ZEROED {
            locked.index.set_field(field, 0).map_err(io)?;
        }
        locked
            .index
            .set_field(Field::CountedSince, now())
            .map_err(io)
    }
}

pub(super) fn stats_of(totals: &[u64; TOTALS]) -> DirectoryStats {
    let of = |field: Field| totals.get(field.total()).copied().unwrap_or(0);
    let since = of(Field::CountedSince);
    DirectoryStats {
        since: (since != 0).then(|| UNIX_EPOCH + Duration::from_nanos(since)),
        entries: of(Field::Entries),
        cached_bytes: of(Field::DiskBytes),
        lookups: of(Field::Lookups),
        hits: of(Field::Hits),
        hits_above: of(Field::HitsAbove),
        promotions: of(Field::Promotions),
        puts: of(Field::Puts),
        evictions: of(Field::Evictions),
        evicted_bytes: of(Field::EvictedBytes),
        deduplicated_bytes: of(Field::DeduplicatedBytes),
        corrupt: of(Field::Corrupt),
        builds: of(Field::Builds),
        build_time: Duration::from_nanos(of(Field::BuildTime)),
        build_time_saved: Duration::from_nanos(of(Field::BuildTimeSaved)),
    }
}
