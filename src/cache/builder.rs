//! The settings of a cache, and the ways to open one.

use super::Cache;
use super::inner::{Backend, Inner};
use super::reports::{Listener, Reports, describe};
use crate::error::{Error, ErrorKind, Result};
use crate::flight::MAX_WAIT;
use crate::stats::Eviction;
use crate::{DiskStore, Mapping, MemoryStore, Sharing, Tiered, WritePolicy};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a [`Cache`]; see [`Cache::builder`].
///
/// Every budget may be anything: zero makes a tier that accepts everything and keeps nothing,
/// [`u64::MAX`] one without a bound.
///
/// ```
/// use keepwarm::{Cache, WritePolicy};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path();
/// let cache = Cache::builder()
///     .memory_budget(64 << 20)
///     .disk_budget(1 << 30)
///     .write_policy(WritePolicy::OnEviction)
///     .open(path)?;
/// # drop(cache);
/// # Ok::<(), keepwarm::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `open`, `open_or_memory` or `memory_only`"]
pub struct CacheBuilder {
    memory_budget: u64,
    memory_entries: u64,
    disk_budget: u64,
    disk_entries: u64,
    write_policy: WritePolicy,
    mapping: Mapping,
    allow_network_file_system: bool,
    read_only: bool,
    sharing: Sharing,
    queue_bytes: Option<u64>,
    build_wait: Duration,
    max_age: Option<Duration>,
    idle_namespaces: Option<Duration>,
    enabled: bool,
    listener: Option<Listener>,
}

impl Default for CacheBuilder {
    fn default() -> Self {
        Self {
            memory_budget: 256 << 20,
            memory_entries: u64::MAX,
            disk_budget: 5 << 30,
            disk_entries: u64::MAX,
            write_policy: WritePolicy::default(),
            mapping: Mapping::default(),
            allow_network_file_system: false,
            read_only: false,
            sharing: Sharing::default(),
            queue_bytes: None,
            build_wait: Duration::from_secs(10 * 60),
            max_age: None,
            idle_namespaces: None,
            enabled: true,
            listener: None,
        }
    }
}

impl CacheBuilder {
    /// Bytes that memory may hold; 256 MiB unless set.
    ///
    /// ```
    /// let builder = keepwarm::Cache::builder().memory_budget(64 << 20);
    /// ```
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// Artifacts that memory may hold; not bounded unless set.
    ///
    /// ```
    /// let builder = keepwarm::Cache::builder().memory_entries(1_000);
    /// ```
    pub fn memory_entries(mut self, entries: u64) -> Self {
        self.memory_entries = entries;
        self
    }

    /// Bytes that the directory may take, as the file system counts them; 5 GiB unless set.
    ///
    /// The index comes on top, about 70 bytes an artifact.
    ///
    /// ```
    /// let builder = keepwarm::Cache::builder().disk_budget(1 << 30);
    /// ```
    pub fn disk_budget(mut self, bytes: u64) -> Self {
        self.disk_budget = bytes;
        self
    }

    /// Artifacts that the directory may hold; not bounded unless set.
    ///
    /// ```
    /// let builder = keepwarm::Cache::builder().disk_entries(100_000);
    /// ```
    pub fn disk_entries(mut self, entries: u64) -> Self {
        self.disk_entries = entries;
        self
    }

    /// When artifacts are written to the directory; soon after they were put unless set.
    ///
    /// ```
    /// use keepwarm::{Cache, WritePolicy};
    ///
    /// let builder = Cache::builder().write_policy(WritePolicy::OnEviction);
    /// ```
    pub fn write_policy(mut self, policy: WritePolicy) -> Self {
        self.write_policy = policy;
        self
    }

    /// What is memory-mapped and what is read; large artifacts are mapped unless set.
    ///
    /// ```
    /// use keepwarm::{Cache, Mapping};
    ///
    /// let builder = Cache::builder().mapping(Mapping::IndexOnly);
    /// ```
    pub fn mapping(mut self, mapping: Mapping) -> Self {
        self.mapping = mapping;
        self
    }

    /// Whether the directory may be on a network file system, which is safe only while one
    /// machine uses it; refused unless set. Only Linux and Android tell which one it is on; elsewhere
    /// nothing is refused.
    ///
    /// ```
    /// let builder = keepwarm::Cache::builder().allow_network_file_system(true);
    /// ```
    pub fn allow_network_file_system(mut self, allow: bool) -> Self {
        self.allow_network_file_system = allow;
        self
    }

    /// Whether the directory is only read; it is written to unless set.
    ///
    /// Nothing in the directory is changed, locked or created, so it may be on a read-only mount,
    /// belong to another user (who is then trusted), or be a layer of a container image; see
    /// [`DiskStoreBuilder::read_only`](crate::DiskStoreBuilder::read_only). What is put or built
    /// stays in memory, as long as the memory budget allows: no fault, and a
    /// [`flush`](Cache::flush) has nothing to do. [`StoreStats::read_only`](crate::StoreStats::read_only)
    /// of [`Stats::disk`](crate::Stats::disk) tells.
    ///
    /// A put of a key that the directory has hides what is there while memory holds it. A
    /// [`remove`](Cache::remove) of such a key fails with [`ErrorKind::ReadOnly`], and so does a
    /// [`clear`](Cache::clear) unless the directory is empty.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// # Cache::builder().open(path)?.close()?;
    /// let cache = Cache::builder().read_only(true).open(path)?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// cache.put(&key, vec![7]);
    /// assert_eq!(cache.get(&key).unwrap().as_slice(), [7]);
    /// cache.flush()?;
    /// assert!(cache.stats().disk.unwrap().read_only);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Who else may write to the directory; nobody unless set.
    ///
    /// ```
    /// use keepwarm::{Cache, Sharing};
    ///
    /// let builder = Cache::builder().sharing(Sharing::Group);
    /// ```
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// Bytes that may wait to be written to the directory before a put waits for room; at least 1,
    /// 64 MiB unless set.
    ///
    /// ```
    /// let builder = keepwarm::Cache::builder().queue_bytes(16 << 20);
    /// ```
    pub fn queue_bytes(mut self, bytes: u64) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// How long [`Cache::get_or_insert_with`] waits for another thread that is building the same
    /// artifact before it builds it too; up to 24 hours, 10 minutes unless set. Zero never waits.
    ///
    /// For another process it waits at most half as long: one that was stopped in the midst of a
    /// build is then replaced by one thread, for which the others still wait.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let builder = keepwarm::Cache::builder().build_wait(Duration::from_secs(60));
    /// ```
    pub fn build_wait(mut self, bound: Duration) -> Self {
        self.build_wait = bound;
        self
    }

    /// How old an artifact may be; any age unless set. It counts from the put, to the second, not from
    /// the last use; putting it again makes it young again.
    ///
    /// An older artifact is a miss, in memory and on disk at the same moment, so that
    /// [`Cache::get_or_insert_with`] builds it anew. On disk it is the first to go when room is
    /// needed; see [`DiskStoreBuilder::max_age`](crate::DiskStoreBuilder::max_age).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// let builder = keepwarm::Cache::builder().max_age(week);
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// When the directory needs room, artifacts of namespaces in which nothing was used for so long
    /// go first; see
    /// [`DiskStoreBuilder::idle_namespaces_first`](crate::DiskStoreBuilder::idle_namespaces_first).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let month = Duration::from_secs(30 * 24 * 60 * 60);
    /// let builder = keepwarm::Cache::builder().idle_namespaces_first(month);
    /// ```
    pub fn idle_namespaces_first(mut self, idle: Duration) -> Self {
        self.idle_namespaces = Some(idle);
        self
    }

    /// Whether the cache does anything at all; it does unless switched off.
    ///
    /// With `false` no directory is touched, every lookup is a miss, puts do nothing and
    /// [`Cache::get_or_insert_with`] just builds: one switch for "is it the cache?".
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint};
    ///
    /// let cache = Cache::builder().enabled(false).open("never/created")?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// cache.put(&key, vec![1]);
    /// assert!(cache.get(&key).is_none());
    /// assert!(!std::path::Path::new("never").exists());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Calls `listener` with every report of evicted artifacts, of either tier.
    ///
    /// It runs on the thread where the eviction happened, often a background one, and never under
    /// a lock: it may use the cache (what it evicts itself is only reported in
    /// [`Cache::eviction_reports`]), but should be short, and must not own a handle of the cache,
    /// which could then never be dropped. If it panics, the panic is counted and ends there.
    ///
    /// On the background thread a [flush](Cache::flush), or a put that finds the queue full, would
    /// wait for that very thread, in vain and for 30 seconds: leave these to another thread.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// let evicted = Arc::new(AtomicU64::new(0));
    /// let counter = Arc::clone(&evicted);
    /// let cache = Cache::builder()
    ///     .memory_entries(1)
    ///     .on_eviction(move |eviction| {
    ///         counter.fetch_add(eviction.entries, Ordering::Relaxed);
    ///     })
    ///     .memory_only()?;
    /// cache.put(&Fingerprint::from_bytes([1; 32]), vec![1]);
    /// cache.put(&Fingerprint::from_bytes([2; 32]), vec![2]);
    /// assert_eq!(evicted.load(Ordering::Relaxed), 1);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn on_eviction(mut self, listener: impl Fn(&Eviction) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// Opens the cache over the directory `path`, which is created where it is missing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for a setting out of its range, and whatever keeps the
    /// directory from being used, such as [`ErrorKind::NotADirectory`],
    /// [`ErrorKind::PermissionDenied`], [`ErrorKind::Untrusted`],
    /// [`ErrorKind::UnsupportedFormat`] or [`ErrorKind::NetworkFileSystem`].
    ///
    /// ```
    /// use keepwarm::{Cache, ErrorKind};
    ///
    /// # #[cfg(unix)] {
    /// let error = Cache::builder().open("/dev/null/cache").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotADirectory);
    /// # }
    /// ```
    pub fn open(self, path: impl AsRef<Path>) -> Result<Cache> {
        Ok(finish(self.open_inner(Some(path.as_ref()))?, None))
    }

    /// Opens the cache over the directory `path`, or where that cannot be done, one in memory.
    ///
    /// Never fails: [`Stats::degraded`](crate::Stats::degraded) tells what was missing. With a
    /// setting out of its range the nearest allowed value is used, and the same place tells.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// let cache = keepwarm::Cache::builder().open_or_memory("/dev/null/cache");
    /// let stats = cache.stats();
    /// assert!(stats.disk.is_none());
    /// assert!(stats.degraded.unwrap().contains("/dev/null"));
    /// # }
    /// ```
    pub fn open_or_memory(mut self, path: impl AsRef<Path>) -> Cache {
        let invalid = self.check().err();
        self.queue_bytes = self.queue_bytes.map(|bytes| bytes.max(1));
        self.build_wait = self.build_wait.min(MAX_WAIT);
        match self.open_inner(Some(path.as_ref())) {
            Ok(inner) => finish(inner, invalid),
            Err(error) => {
                // Without even a memory tier, a cache that is off.
                let inner = self.open_inner(None).unwrap_or_else(|_| self.off());
                finish(inner, Some(error))
            }
        }
    }

    /// A cache in memory only, which ends with its last handle; settings of the disk are ignored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for a setting out of its range.
    ///
    /// ```
    /// let cache = keepwarm::Cache::builder().memory_budget(1 << 20).memory_only()?;
    /// assert!(cache.disk().is_none());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn memory_only(self) -> Result<Cache> {
        Ok(finish(self.open_inner(None)?, None))
    }

    fn open_inner(&self, path: Option<&Path>) -> Result<Inner> {
        self.check()?;
        if !self.enabled {
            return Ok(self.off());
        }
        let mut memory = MemoryStore::builder()
            .byte_budget(self.memory_budget)
            .entry_budget(self.memory_entries);
        if let Some(age) = self.max_age {
            memory = memory.max_age(age);
        }
        let memory = memory.build()?;
        let reports = Arc::new(Reports::new(self.listener.clone()));
        let backend = match path {
            None => Backend::Memory(memory),
            Some(path) => Backend::Tiers(self.tiers(memory, path, Arc::clone(&reports))?),
        };
        Ok(Inner::new(backend, reports, self.build_wait))
    }

    fn tiers(
        &self,
        memory: MemoryStore,
        path: &Path,
        reports: Arc<Reports>,
    ) -> Result<Tiered<MemoryStore, DiskStore>> {
        let mut disk = DiskStore::builder()
            .byte_budget(self.disk_budget)
            .entry_budget(self.disk_entries)
            .mapping(self.mapping)
            .allow_network_file_system(self.allow_network_file_system)
            .read_only(self.read_only)
            .sharing(self.sharing);
        if let Some(age) = self.max_age {
            disk = disk.max_age(age);
        }
        if let Some(idle) = self.idle_namespaces {
            disk = disk.idle_namespaces_first(idle);
        }
        let disk = disk.open(path)?;
        let mut tiers = Tiered::builder(memory, disk)
            .write_policy(self.write_policy)
            .on_event(Arc::new(move |event| reports.on_event(event)));
        if let Some(age) = self.max_age {
            tiers = tiers.max_age(age);
        }
        if let Some(bytes) = self.queue_bytes {
            tiers = tiers.queue_bytes(bytes);
        }
        Ok(tiers.build())
    }

    fn off(&self) -> Inner {
        let reports = Arc::new(Reports::new(self.listener.clone()));
        Inner::new(Backend::Off, reports, self.build_wait)
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: String| Err(Error::new(ErrorKind::InvalidConfig, what));
        if self.queue_bytes == Some(0) {
            return invalid("use a `queue_bytes` of 0: it must be at least 1 byte".into());
        }
        if self.build_wait > MAX_WAIT {
            let wait = self.build_wait;
            return invalid(format!(
                "use a `build_wait` of {wait:?}: it may be 0 to 24 hours"
            ));
        }
        Ok(())
    }
}

/// The first handle of a cache; `problem` is why it is less than was asked for.
fn finish(mut inner: Inner, problem: Option<Error>) -> Cache {
    inner.degraded = problem.map(|error| describe(&error));
    Cache(Arc::new(inner))
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("memory_budget", &self.memory_budget)
            .field("memory_entries", &self.memory_entries)
            .field("disk_budget", &self.disk_budget)
            .field("disk_entries", &self.disk_entries)
            .field("write_policy", &self.write_policy)
            .field("mapping", &self.mapping)
            .field("allow_network_file_system", &self.allow_network_file_system)
            .field("read_only", &self.read_only)
            .field("sharing", &self.sharing)
            .field("queue_bytes", &self.queue_bytes)
            .field("build_wait", &self.build_wait)
            .field("max_age", &self.max_age)
            .field("idle_namespaces", &self.idle_namespaces)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}
