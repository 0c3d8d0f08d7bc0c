//! The disk tier: a log-structured store shared by processes.
//!
//! | file | what it is |
//! |---|---|
//! | `layout` | all path names |
//! | `envelope`, `slot`, `header`, `table` | all byte layouts, pure |
//! | `pack` (`walk`), `object`, `index`, `tmp`, `lock` | one kind of file each |
//! | `lease` | who builds a key, of all processes |
//! | `inner`, `publish` | the state behind a handle, the lock and the index in use |
//! | `lookup`, `heal`, `recency` | a get, what it found damaged, what it used |
//! | `verified` | what need not be hashed again |
//! | `listing`, `warm` | facts of entries and namespaces, what was used last |
//! | `put`, `append`, `bind` | a put, a removal |
//! | `read_only`, `private` | a directory that is only read, its index where there is none |
//! | `survey`, `evict`, `empty`, `clear` | the budget: the choice, keys and contents, packs; everything |
//! | `verification` | looking at everything, and repairing it |
//! | `foreign` | what processes with another secret have in the directory |
//! | `collect`, `notes` | the budget on request, what tools keep beside |
//! | `facts`, `prune`, `prune_pass` | what envelopes tell a pass, the rules of a caller, making it go |
//! | `flush`, `pending`, `rebuild`, `janitor` | durability, a lost index, the background thread |
//! | `builder`, `sharing` | settings and opening, whose files are used |
//! | `counters`, `life` | what this handle did, what all did |
//! | `history`, `samples` | what all did over time; its bytes, pure |
//!
//! Three rules carry all promises: packs are the truth about keys and digests the truth about
//! bytes, the index is never trusted; nothing that a reader may hold is ever changed; what is
//! verified is what is served. `docs/design.md` has the argument, `docs/format.md` the bytes.

mod append;
mod bind;
mod builder;
mod carry;
mod clear;
mod collect;
mod counters;
mod empty;
mod ended;
mod envelope;
mod evict;
mod facts;
mod flush;
mod foreign;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod header;
mod heal;
mod history;
mod hits;
mod index;
mod inner;
mod janitor;
mod layout;
pub(crate) mod lease;
mod life;
mod listing;
mod lock;
mod lookup;
mod moving;
mod notes;
mod object;
mod pack;
mod pending;
mod private;
mod prune;
mod prune_pass;
mod publish;
mod put;
mod read_only;
mod rebuild;
mod recency;
mod right;
mod samples;
mod settle;
mod sharing;
mod slot;
mod survey;
mod table;
// Miri knows neither `openat2` nor mapped files.
#[cfg(test)]
#[cfg(not(miri))]
mod tests;
mod tmp;
#[cfg(any(test, fuzzing))]
pub(crate) mod trial;
mod verification;
mod verified;
mod walk;
mod warm;

use crate::artifact::Artifact;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
use crate::store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store};
use crate::sync::Arc;
pub use builder::{DiskStoreBuilder, Mapping};
use counters::Counters;
use envelope::{Envelope, Kind};
use header::{Field, REBUILDING};
pub use history::HistorySample;
use inner::Inner;
use janitor::Janitor;
use lease::LeaseRequest;
pub(crate) use life::Above;
pub use life::DirectoryStats;
pub use listing::{Entries, EntryInfo, NamespaceInfo, StoredAs};
pub use prune::{Mark, Prune, PruneReason, PruneReport, Pruned};
pub use sharing::Sharing;
use std::path::Path;
use std::time::Duration;
pub use verification::{Fault, Finding, Verification, VerificationProgress, VerificationReport};
pub use verified::Verify;
pub(crate) use warm::{Quiet, Recent};

use builder::create_directories;

const POISON: &str =
    "the lock of keepwarm's pending writes is poisoned: a thread panicked under it";
/// A namespace's name may be this long, in bytes.
const LONGEST_NAME: usize = 4096;

/// A directory of artifacts that outlives the process and is shared by all processes that open it.
///
/// Small artifacts go into append-only packs, large ones into files of their own, named by their
/// BLAKE3. Equal bytes are stored once. Whatever happened to the directory, a get returns the
/// exact bytes that were put under a key, or a miss.
///
/// Cheap to open, however much is in it. Dropping it writes what it still has to say about last
/// uses, and gives up its packs; nothing that was put is lost by a drop, a panic or a `kill -9`.
/// Only a power cut needs a [`flush`](Store::flush) before it.
///
/// ```
/// use keepwarm::{DiskStore, Fingerprint, Store, StoreExt};
///
/// let dir = tempfile::tempdir()?;
/// let key = Fingerprint::builder("demo").field("n", "1").finish();
/// {
///     let store = DiskStore::open(dir.path())?;
///     store.put_bytes(&key, vec![1, 2, 3])?;
///     store.flush()?;
/// }
/// let store = DiskStore::open(dir.path())?;
/// assert_eq!(store.get_artifact(&key)?.unwrap().as_slice(), [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct DiskStore {
    inner: Arc<Inner>,
    janitor: Janitor,
}

impl DiskStore {
    /// Opens (or creates) the directory at `path` with the defaults of [`DiskStore::builder`].
    ///
    /// # Errors
    ///
    /// If the directory cannot be created or written, is something else, belongs to somebody else
    /// or may be written to by others than its [`Sharing`] says, was written by a newer version, or
    /// lies on a network file system.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path().join("cache"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(path)
    }

    /// Settings for a store.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::builder().byte_budget(1 << 30).open(dir.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> DiskStoreBuilder {
        DiskStoreBuilder::default()
    }

    fn new(inner: Inner) -> Self {
        let store = Self {
            inner: Arc::new(inner),
            janitor: Janitor::default(),
        };
        if store.inner.index().has_flag(REBUILDING) {
            store.wake();
        }
        store
    }

    fn wake(&self) {
        if !self.is_read_only() {
            self.janitor.wake(&self.inner);
        }
    }

    /// Whether it was opened for [reading only](DiskStoreBuilder::read_only).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// assert!(!store.is_read_only());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_read_only(&self) -> bool {
        self.inner.files.read_only
    }

    /// The directory, as a canonical path.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// assert!(store.path().is_dir());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn path(&self) -> &Path {
        self.inner.files.layout.root()
    }

    /// What a power cut now would put at risk; nothing is unwritten in a disk store.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it held one of the store's locks, which only a defect of this
    /// crate can make happen; so does every other call then.
    ///
    /// ```
    /// # use keepwarm::Store;
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.flush()?;
    /// assert!(store.durability().survives_a_power_cut());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn durability(&self) -> Durability {
        let pending = self.inner.pending.lock().expect(POISON);
        Durability {
            unsynced_files: pending.files(),
            failed_writes: pending.failed,
            ..Durability::default()
        }
    }

    /// What all processes did with the directory; one read.
    ///
    /// # Errors
    ///
    /// If the index cannot be read.
    ///
    /// ```
    /// # use keepwarm::{Fingerprint, Store, StoreExt};
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1])?;
    /// assert_eq!(store.directory_stats()?.puts, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn directory_stats(&self) -> Result<DirectoryStats> {
        self.inner.directory_stats()
    }

    /// Sets the counters of [`directory_stats`](Self::directory_stats) to zero, and notes when.
    ///
    /// What other processes counted and have not written yet comes after.
    ///
    /// # Errors
    ///
    /// If the index cannot be written.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.zero_directory_stats()?;
    /// assert!(store.directory_stats()?.since.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn zero_directory_stats(&self) -> Result<()> {
        self.inner.zero_life()
    }

    /// Lets a tier above count what the directory was not asked for.
    pub(crate) fn count_above(&self, source: impl Fn() -> Above + Send + Sync + 'static) {
        self.inner.count_above(Box::new(source));
    }

    /// Whether the index was lost and is being rebuilt: until that is done, some of what is in the
    /// directory is not found, and removals wait.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// while store.is_rebuilding() {
    ///     std::thread::yield_now();
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_rebuilding(&self) -> bool {
        self.inner.index().has_flag(REBUILDING)
    }

    /// Keeps the name of a namespace in the directory, and gives its id.
    ///
    /// Any string is a name; of one longer than 4,096 bytes the beginning is kept, while the id is
    /// that of the whole. A read-only store knows only names that are kept already, and fails with
    /// [`ErrorKind::ReadOnly`](crate::ErrorKind::ReadOnly) for any other.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// let id = store.register_namespace("driver 1")?;
    /// assert_eq!(store.namespace_name(id)?.as_deref(), Some("driver 1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn register_namespace(&self, name: &str) -> Result<NamespaceId> {
        let id = NamespaceId::of(name);
        if self.namespace_name(id)?.is_some() {
            return Ok(id);
        }
        if self.is_read_only() {
            return Err(self
                .inner
                .read_only("keep the name of a namespace in a directory"));
        }
        let mut end = name.len().min(LONGEST_NAME);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let kept = &name.as_bytes()[..end];
        let envelope = Envelope {
            kind: Kind::Namespace,
            generation: 0,
            key: name_key(id),
            digest: crate::digest::Digest::of(kept),
            length: kept.len() as u64,
            lag: 0,
            namespace: id,
            build_cost: Duration::ZERO,
        };
        self.inner.put_name(&envelope, kept)?;
        self.wake();
        Ok(id)
    }

    /// The name of a namespace that was [registered](Self::register_namespace).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// assert_eq!(store.namespace_name(keepwarm::NamespaceId::of("unknown"))?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn namespace_name(&self, id: NamespaceId) -> Result<Option<String>> {
        let index = self.inner.index();
        let io = |e| self.inner.error("read the name of a namespace", e);
        let Some(found) = self
            .inner
            .bindings(&index, &name_key(id))
            .map_err(io)?
            .live
            .pop()
        else {
            return Ok(None);
        };
        let Envelope {
            kind,
            length,
            digest,
            ..
        } = found.envelope;
        if kind != Kind::Namespace || length > LONGEST_NAME as u64 {
            return Ok(None);
        }
        let name = found
            .pack
            .payload(found.slot.place.offset(), length, Some(&digest))
            .map_err(io)?;
        Ok(name.and_then(|bytes| String::from_utf8(bytes.into_vec()).ok()))
    }

    /// A wish for the lease of a build; `None` where there are no leases: in a forked child, where
    /// nothing is written, and where nothing is kept that another process could wait for.
    pub(crate) fn request_build(&self, key: &Fingerprint) -> Option<LeaseRequest<'_>> {
        let inner = &self.inner;
        let keeps = inner.limits.bytes > 0 && inner.limits.entries > 0;
        let writes = !self.is_read_only() && inner.is_own_process();
        (keeps && writes).then(|| LeaseRequest::new(inner, key))
    }

    /// Sees to it that the next look-up finds what other processes put before this call, even if
    /// the index was replaced.
    pub(crate) fn look_afresh(&self) {
        self.inner.refresh();
    }

    fn refuse(&self, key: &Fingerprint, entry: Entry, status: PutStatus) -> Result<PutOutcome> {
        let found = self.inner.bindings(&self.inner.live_index(), key);
        let older = found
            .map_err(|e| self.inner.error("look up a key", e))?
            .live
            .pop();
        let removed = self.inner.remove(key)?;
        let mut outcome = PutOutcome::new(status);
        if let (true, Some(older)) = (removed, older) {
            let age = Duration::from_nanos(inner::now().saturating_sub(older.slot.last_use));
            let (reason, bytes) = (EvictionReason::RejectedPut, older.envelope.length);
            outcome.report(Eviction::new(Tier::Disk, reason, 1, bytes, age));
        }
        outcome.displaced.push(Displaced::new(*key, entry));
        Ok(outcome)
    }

    fn put_with(&self, key: &Fingerprint, entry: Entry, used: Option<u64>) -> Result<PutOutcome> {
        let inner = &self.inner;
        if self.is_read_only() {
            Counters::add(&inner.counters.rejected_puts, 1);
            let mut outcome = PutOutcome::new(PutStatus::Rejected(Rejection::ReadOnly));
            outcome.displaced.push(Displaced::new(*key, entry));
            return Ok(outcome);
        }
        if inner.limits.bytes == 0 || inner.limits.entries == 0 {
            Counters::add(&inner.counters.puts, 1);
            let mut outcome = PutOutcome::new(PutStatus::Stored);
            outcome.displaced.push(Displaced::new(*key, entry));
            return Ok(outcome);
        }
        let length = entry.artifact.len() as u64;
        if length > inner.limits.bytes.min(envelope::LONGEST) {
            Counters::add(&inner.counters.rejected_puts, 1);
            let rejected = PutStatus::Rejected(Rejection::TooLarge);
            return self.count_failure(self.refuse(key, entry, rejected));
        }
        let stored = self.count_failure(inner.put(key, &entry, used))?;
        Counters::add(&inner.counters.puts, 1);
        self.wake();
        let status = if stored {
            PutStatus::Stored
        } else {
            PutStatus::AlreadyStored
        };
        let mut outcome = PutOutcome::new(status);
        match inner.enforce() {
            Ok(evictions) => outcome.evictions = evictions.into(),
            // The entry is stored; the budget is tried again by the next put.
            Err(_) => Counters::add(&inner.counters.maintenance_errors, 1),
        }
        Ok(outcome)
    }

    fn count_failure<T>(&self, done: Result<T>) -> Result<T> {
        if done.is_err() {
            Counters::add(&self.inner.counters.failed_puts, 1);
            let mut pending = self.inner.pending.lock().expect(POISON);
            pending.failed = pending.failed.saturating_add(1);
        }
        done
    }
}

/// An artifact with what its envelope says of it.
fn entry_of(artifact: Artifact, envelope: &Envelope) -> Entry {
    let mut entry = Entry::from(artifact).stamped(envelope.put_at());
    entry.namespace = envelope.namespace;
    entry.build_cost = envelope.build_cost;
    entry
}

/// The key under which a namespace's name is kept; no builder makes it.
fn name_key(id: NamespaceId) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes[..24].copy_from_slice(b"keepwarm namespace name\0");
    bytes[24..].copy_from_slice(&id.as_u64().to_le_bytes());
    Fingerprint::from_bytes(bytes)
}

impl Store for DiskStore {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let counters = &self.inner.counters;
        Counters::add(&counters.lookups, 1);
        let found = if self.is_read_only() {
            self.inner.get_read_only(key)?
        } else {
            self.inner.get(key)?
        };
        let Some((artifact, binding)) = found else {
            return Ok(None);
        };
        Counters::add(&counters.hits, 1);
        if self.inner.has_settled_down() {
            self.wake();
        }
        Ok(Some(entry_of(artifact, &binding.envelope)))
    }

    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        let found = self.inner.settled_bindings(&self.inner.live_index(), key);
        let found = found.map_err(|e| self.inner.error("look up a key", e))?;
        Ok(found.live.last().is_some_and(|newest| {
            newest.envelope.kind != Kind::Namespace && !self.inner.is_expired(&newest.envelope)
        }))
    }

    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        self.put_with(key, entry, None)
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        if self.is_read_only() {
            return self.inner.refuse_removal(key);
        }
        self.inner.remove(key)
    }

    fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        self.inner.touch(keys)
    }

    fn clear(&self) -> Result<()> {
        if self.is_read_only() {
            return self.inner.refuse_clear();
        }
        self.inner.clear()
    }

    fn flush(&self) -> Result<()> {
        if self.is_read_only() {
            // Nothing was put.
            Counters::add(&self.inner.counters.flushes, 1);
            return Ok(());
        }
        // Hints, which the sync of the index then covers.
        if self.inner.is_own_process() && self.inner.write_touches().is_ok() {
            self.inner.tell_life().ok();
        }
        self.inner.flush()
    }

    fn stats(&self) -> StoreStats {
        let c = &self.inner.counters;
        let read = Counters::read;
        let index = self.inner.index();
        let (lookups, hits) = (read(&c.lookups), read(&c.hits));
        StoreStats {
            tier: Tier::Disk,
            read_only: self.is_read_only(),
            lookups,
            hits,
            misses: lookups.saturating_sub(hits),
            puts: read(&c.puts),
            rejected_puts: read(&c.rejected_puts),
            failed_puts: read(&c.failed_puts),
            evictions: read(&c.evictions),
            evicted_bytes: read(&c.evicted_bytes),
            deduplicated_bytes: read(&c.deduplicated_bytes),
            written_bytes: read(&c.written_bytes),
            rewritten_bytes: read(&c.rewritten_bytes),
            flushes: read(&c.flushes),
            flush_errors: read(&c.flush_errors),
            corrupt: read(&c.corrupt),
            maintenance_errors: read(&c.maintenance_errors),
            entries: index.field(Field::Entries),
            cached_bytes: index.field(Field::DiskBytes),
            ..StoreStats::default()
        }
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        if self.is_read_only() {
            return;
        }
        if !self.inner.is_own_process() {
            // All of it, locks included, belongs to the parent.
            self.inner.abandon();
            return;
        }
        self.janitor.stop();
        // Hints only; what was put is on disk already.
        self.inner.write_touches().ok();
        // Who cannot have the lock for the one does not wait for it again for the other.
        if self.inner.tell_life().is_ok() && self.inner.has_worked() {
            self.inner.sample().ok();
        }
        self.inner.release_packs(Duration::ZERO);
        self.inner.tmp.remove(&self.inner.files);
    }
}
