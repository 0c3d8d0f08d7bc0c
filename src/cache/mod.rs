//! The façade: a memory tier over a directory, behind calls that never stand in a build's way.
//!
//! Invariants: a fault of a store never leaves `get`, `put` or `get_or_insert_with`; it becomes a
//! miss, is counted and remembered. No lock is held while a builder or a listener runs.

mod build;
mod builder;
mod claim;
mod counters;
mod default_path;
mod inner;
mod namespace;
mod prune;
mod reports;
mod stats;
mod warm_up;

pub use builder::CacheBuilder;
pub use default_path::default_path;
pub use namespace::Namespace;
pub use reports::EvictionReport;
pub use stats::Stats;
pub use warm_up::{WarmUpEnd, WarmUpProgress, WarmUpReport};

use crate::DiskStore;
use crate::artifact::Artifact;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::stats::Durability;
use crate::store::{Entry, Store};
use inner::{Backend, Inner};
use reports::held;
use std::fmt;
use std::sync::Arc;

/// A cache of artifacts: memory in front of a directory that every process shares.
///
/// A handle is cheap to clone, and all clones are one cache. It never stands in the way of the
/// work it serves: [`get`](Self::get) and [`put`](Self::put) do not fail, and
/// [`get_or_insert_with`](Self::get_or_insert_with) fails only with the builder's own error. What
/// goes wrong is a miss, counted in [`stats`](Self::stats) as a fault.
///
/// ```
/// use keepwarm::{Artifact, Cache, Fingerprint};
///
/// fn compile(source: &str) -> Result<Vec<u8>, String> {
///     Ok(source.to_uppercase().into_bytes())
/// }
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path();
/// let cache = Cache::builder().memory_budget(256 << 20).disk_budget(5 << 30).open(path)?;
/// let source = "fn main() {}";
/// let key = Fingerprint::builder("shouting compiler")
///     .field("version", "1.0")
///     .field("source", source)
///     .finish();
/// let artifact: Artifact = cache.get_or_insert_with(&key, || compile(source))?;
/// assert_eq!(&artifact[..], b"FN MAIN() {}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Many threads, many processes
///
/// An artifact is built by one thread of one process at a time, and the others wait for it
/// ([`get_or_insert_with`](Self::get_or_insert_with) has the limits). A put, remove or clear of another process is seen as soon as this one's memory does not serve
/// the key itself.
///
/// # The end
///
/// Dropping the last handle writes what still waits to be written, but does not sync it: what must
/// survive a power cut is [flushed](Self::flush). [`close`](Self::close) does both, and tells
/// whether it worked.
///
/// A cache in a `static` is never dropped: [flush](Self::flush) it before the process ends, else
/// what was put in the last milliseconds is not on disk, and with
/// [`WritePolicy::OnEviction`](crate::WritePolicy::OnEviction) little of what memory still holds.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

impl Cache {
    /// Starts the settings of a cache.
    ///
    /// ```
    /// let cache = keepwarm::Cache::builder().memory_only()?;
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// The artifact under `key`, or `None`: because there is none, or because the cache could not
    /// tell, which is counted as a fault.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// assert!(cache.get(&key).is_none());
    /// cache.put(&key, vec![7]);
    /// assert_eq!(cache.get(&key).unwrap().as_slice(), [7]);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn get(&self, key: &Fingerprint) -> Option<Artifact> {
        self.get_entry(key).map(|entry| entry.artifact)
    }

    /// Like [`get`](Self::get), with what is kept beside the artifact.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint, NamespaceId};
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// cache.put(&key, vec![7]);
    /// assert_eq!(cache.get_entry(&key).unwrap().namespace, NamespaceId::NONE);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn get_entry(&self, key: &Fingerprint) -> Option<Entry> {
        self.0.get(key)
    }

    /// Whether a [`get`](Self::get) would very likely find an artifact. It counts as no lookup
    /// and as no use.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// let cache = Cache::builder().memory_only()?;
    /// assert!(!cache.contains(&Fingerprint::from_bytes([1; 32])));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn contains(&self, key: &Fingerprint) -> bool {
        self.0.contains(key)
    }

    /// Binds `key` to `artifact`, replacing what was there.
    ///
    /// It is in memory at once and on disk soon after, or when memory evicts it; see
    /// [`CacheBuilder::write_policy`]. If that fails, it is counted as a fault and the next
    /// [`flush`](Self::flush) tells. What does not fit any tier's budget is not kept.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// cache.put(&key, *b"one");
    /// cache.put(&key, *b"two");
    /// assert_eq!(cache.get(&key).unwrap().as_slice(), b"two");
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn put(&self, key: &Fingerprint, artifact: impl Into<Artifact>) {
        self.put_entry(key, artifact.into().into());
    }

    /// Like [`put`](Self::put), with what is kept beside the artifact: for what was built
    /// elsewhere at a known cost.
    ///
    /// ```
    /// # use keepwarm::{Cache, Entry, Fingerprint};
    /// # use std::time::Duration;
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let mut entry = Entry::from(vec![7]);
    /// entry.build_cost = Duration::from_secs(2);
    /// cache.put_entry(&key, entry);
    ///
    /// assert!(cache.get(&key).is_some());
    /// assert_eq!(cache.stats().build_time_saved, Duration::from_secs(2));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn put_entry(&self, key: &Fingerprint, entry: Entry) {
        self.0.put(key, None, entry, None);
    }

    /// Unbinds `key` in memory and on disk; tells whether it was bound.
    ///
    /// A build of the key that is under way is not stopped: it binds the key when it is done.
    ///
    /// # Errors
    ///
    /// If the directory could not be changed; the artifact may then be there still.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// cache.put(&key, vec![7]);
    /// assert!(cache.remove(&key)?);
    /// assert!(!cache.remove(&key)?);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn remove(&self, key: &Fingerprint) -> Result<bool> {
        self.0.store().map_or(Ok(false), |store| store.remove(key))
    }

    /// Unbinds every key, of every namespace and every process that uses the directory.
    ///
    /// # Errors
    ///
    /// If the directory could not be changed; some artifacts may then be there still.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// cache.put(&key, vec![7]);
    /// cache.clear()?;
    /// assert!(cache.get(&key).is_none());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        let cleared = self.0.store().map_or(Ok(()), Store::clear);
        // Names on disk may have gone with the rest: the next put of each writes it anew.
        held(&self.0.named, "cache.named").clear();
        cleared
    }

    /// Makes everything that was put before survive a power cut. A cache in memory only has
    /// nothing to do.
    ///
    /// # Errors
    ///
    /// If that cannot be promised, among other reasons because a write failed since the last
    /// flush ([`ErrorKind::WriteFailed`](crate::ErrorKind::WriteFailed), told once).
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let cache = Cache::builder().open(dir.path())?;
    /// cache.put(&Fingerprint::from_bytes([1; 32]), vec![7]);
    /// cache.flush()?;
    /// assert!(cache.durability().survives_a_power_cut());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn flush(&self) -> Result<()> {
        self.0.store().map_or(Ok(()), Store::flush)
    }

    /// Writes what still waits to be written, makes it survive a power cut, and gives up the
    /// directory.
    ///
    /// Other handles of this cache, namespaces included, go on working: only the last handle can
    /// be closed, and for any other this is a [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// If something could not be written.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let cache = Cache::builder().open(dir.path())?;
    /// cache.put(&key, vec![7]);
    /// cache.close()?;
    ///
    /// let cache = Cache::builder().open(dir.path())?;
    /// assert_eq!(cache.get(&key).unwrap().as_slice(), [7]);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn close(self) -> Result<()> {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => match inner.backend {
                Backend::Tiers(tiers) => tiers.close(),
                Backend::Memory(_) | Backend::Off => Ok(()),
            },
            Err(shared) => Self(shared).flush(),
        }
    }

    /// What was put and is not yet safe from a kill or a power cut; nothing, always, for a cache
    /// that has no directory.
    ///
    /// ```
    /// let cache = keepwarm::Cache::builder().memory_only()?;
    /// assert_eq!(cache.durability(), keepwarm::Durability::default());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn durability(&self) -> Durability {
        let Backend::Tiers(tiers) = &self.0.backend else {
            return Durability::default();
        };
        let (queue, disk) = (tiers.durability(), tiers.lower().durability());
        Durability {
            unwritten_entries: queue
                .unwritten_entries
                .saturating_add(disk.unwritten_entries),
            unwritten_bytes: queue.unwritten_bytes.saturating_add(disk.unwritten_bytes),
            unsynced_files: queue.unsynced_files.saturating_add(disk.unsynced_files),
            // Both count a write that the disk refused to the queue.
            failed_writes: queue.failed_writes.max(disk.failed_writes),
        }
    }

    /// The directory, if there is one: its path, the names of its namespaces.
    ///
    /// A put or remove given to it directly passes by the memory tier, which then goes on serving
    /// what it has.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// let cache = keepwarm::Cache::builder().open(dir.path())?;
    /// assert!(cache.disk().unwrap().path().exists());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn disk(&self) -> Option<&DiskStore> {
        match &self.0.backend {
            Backend::Tiers(tiers) => Some(tiers.lower()),
            Backend::Memory(_) | Backend::Off => None,
        }
    }

    /// The latest 256 reports of evicted artifacts, oldest first.
    ///
    /// They stay: two calls may return the same report, and its
    /// [`sequence`](EvictionReport::sequence) tells.
    ///
    /// ```
    /// use keepwarm::{Cache, EvictionReason, Fingerprint};
    ///
    /// let cache = Cache::builder().memory_entries(1).memory_only()?;
    /// cache.put(&Fingerprint::from_bytes([1; 32]), vec![1]);
    /// cache.put(&Fingerprint::from_bytes([2; 32]), vec![2]);
    /// let reports = cache.eviction_reports();
    /// assert_eq!(reports[0].eviction.reason, EvictionReason::EntryLimit);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn eviction_reports(&self) -> Vec<EvictionReport> {
        self.0.reports.latest()
    }

    /// A snapshot of the counters.
    ///
    /// ```
    /// let stats = keepwarm::Cache::builder().memory_only()?.stats();
    /// assert_eq!((stats.lookups, stats.degraded), (0, None));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("disk", &self.disk().map(DiskStore::path))
            .field("degraded", &self.0.degraded)
            .finish_non_exhaustive()
    }
}
