//! What is in the directory: facts of entries and namespaces, read without the lock.
//!
//! The index says where to look, and only what an envelope bears out is told. A listing goes
//! through the table bucket by bucket, so it needs little memory however much there is.

use super::DiskStore;
use super::envelope::{Envelope, Kind, SIZE, record_len};
use super::index::Index;
use super::inner::Inner;
use super::lookup::Binding;
use super::object;
use super::slot::{Slot, SlotKind};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::sync::Arc;
use rustc_hash::FxHashMap;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Buckets read at a time, of 16 slots each.
const CHUNK: u64 = 64;

/// How the bytes of an entry are stored; part of an [`EntryInfo`], which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoredAs {
    /// In a pack, behind the entry's record.
    Inline,
    /// In a file of their own.
    Object,
    /// In a pack, behind the record of another entry with equal bytes.
    Shared,
}

/// What the directory knows of an entry; see [`DiskStore::entries`] and [`DiskStore::info`].
///
/// ```
/// use keepwarm::{DiskStore, Fingerprint, Store, StoreExt, StoredAs};
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::open(dir.path())?;
/// let key = Fingerprint::from_bytes([1; 32]);
/// store.put_bytes(&key, vec![7; 100])?;
/// let info = store.info(&key)?.unwrap();
/// assert_eq!((info.length, info.stored_as), (100, StoredAs::Inline));
/// assert_eq!(info.disk_bytes, 256); // with its record, in units of 64
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryInfo {
    /// Its key.
    pub key: Fingerprint,
    /// The BLAKE3 of its artifact.
    pub digest: Digest,
    /// The length of its artifact, in bytes.
    pub length: u64,
    /// The namespace it belongs to.
    pub namespace: NamespaceId,
    /// How long the artifact took to build; zero if nobody knows.
    pub build_cost: Duration,
    /// When it was put, to the second.
    pub put_at: SystemTime,
    /// When it was last used, as far as that is written: up to about a second, and for what memory
    /// serves up to a minute, late.
    pub last_used: SystemTime,
    /// How often it was used since it was put, or since the index was lost: exact up to 16, from
    /// there on about right. Written with the last use. What memory serves counts once each time
    /// that it tells the directory of its uses.
    pub hits: u64,
    /// How its bytes are stored.
    pub stored_as: StoredAs,
    /// Bytes on disk that go when it goes: its record, and its artifact unless another entry has
    /// the same.
    pub disk_bytes: u64,
}

/// A time that is kept as nanoseconds since 1970.
pub(super) fn time(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

impl EntryInfo {
    /// `None` for what is nobody's artifact.
    pub(super) fn new(envelope: &Envelope, slot: &Slot) -> Option<Self> {
        let Envelope {
            kind,
            length,
            digest,
            ..
        } = *envelope;
        let record = record_len(kind, length).unwrap_or(u64::MAX);
        let (stored_as, disk_bytes) = match kind {
            Kind::Inline => (StoredAs::Inline, record),
            Kind::Shared => (StoredAs::Shared, SIZE as u64),
            Kind::Object => {
                let object = object::allocated(length);
                (StoredAs::Object, object.saturating_add(SIZE as u64))
            }
            Kind::Namespace => return None,
        };
        Some(Self {
            key: envelope.key,
            digest,
            length,
            namespace: envelope.namespace,
            build_cost: envelope.build_cost,
            put_at: time(envelope.put_at()),
            last_used: time(slot.last_use),
            hits: slot.hits.count(),
            stored_as,
            disk_bytes,
        })
    }

    fn of(binding: &Binding) -> Option<Self> {
        Self::new(&binding.envelope, &binding.slot)
    }
}

/// An iterator over the entries of a directory; see [`DiskStore::entries`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Entries<'a> {
    store: &'a Inner,
    index: Arc<Index>,
    bucket: u64,
    found: std::vec::IntoIter<EntryInfo>,
    prefix: Vec<u8>,
    namespace: Option<NamespaceId>,
}

impl Entries<'_> {
    /// Only entries whose key begins with these hexadecimal digits, of either case.
    ///
    /// The whole table is looked through, as for any listing: keys are not kept in order.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for anything but up to 64 hexadecimal digits.
    ///
    /// ```
    /// # use keepwarm::{DiskStore, Fingerprint, StoreExt};
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// store.put_bytes(&Fingerprint::from_bytes([0xab; 32]), vec![1])?;
    /// assert_eq!(store.entries().with_prefix("aBa")?.count(), 1);
    /// assert_eq!(store.entries().with_prefix("b")?.count(), 0);
    /// assert!(store.entries().with_prefix("xyz").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self> {
        let valid = prefix.len() <= 64 && prefix.bytes().all(|b| b.is_ascii_hexdigit());
        if !valid {
            let action = format!("look for keys that begin with {prefix:?}: they are hexadecimal");
            return Err(Error::new(ErrorKind::InvalidConfig, action));
        }
        self.prefix = prefix.to_ascii_lowercase().into_bytes();
        Ok(self)
    }

    /// Only entries of one namespace.
    ///
    /// ```
    /// # use keepwarm::{DiskStore, Fingerprint, NamespaceId, StoreExt};
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1])?;
    /// assert_eq!(store.entries().in_namespace(NamespaceId::NONE).count(), 1);
    /// assert_eq!(store.entries().in_namespace(NamespaceId::of("x")).count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_namespace(mut self, id: NamespaceId) -> Self {
        self.namespace = Some(id);
        self
    }

    fn wants(&self, info: &EntryInfo) -> bool {
        let in_namespace = self.namespace.is_none_or(|id| id == info.namespace);
        in_namespace
            && (self.prefix.is_empty() || info.key.to_string().as_bytes().starts_with(&self.prefix))
    }

    /// Reads the next buckets.
    fn read(&mut self) -> io::Result<()> {
        let mut slots = Vec::new();
        let end = self.bucket.saturating_add(CHUNK).min(self.index.buckets());
        self.index
            .for_each_in(self.bucket..end, |at, slot| slots.push((at, slot)))?;
        self.bucket = end;
        // In the order in which they were written, so that a pack is looked at once.
        slots.sort_unstable_by_key(|(_, slot)| slot.place);
        let mut found = Vec::new();
        for (at, slot) in slots {
            if slot.kind != SlotKind::Key || slot.content == 0 {
                continue;
            }
            let Some((_, envelope, true)) = self.store.envelope(slot.place)? else {
                continue;
            };
            // Only damage puts a slot where nobody looks for it.
            let hash = self.index.hash(envelope.key.as_bytes());
            if hash != slot.hash || !hash.buckets(self.index.buckets()).contains(&at.bucket) {
                continue;
            }
            // Of several bindings of a key the newest counts, so the entry is listed once.
            if self.index.find(SlotKind::Key, hash)?.len() > 1 {
                let newest = self.store.bindings(&self.index, &envelope.key)?.live.pop();
                if newest.is_none_or(|newest| newest.at != at) {
                    continue;
                }
            }
            found.extend(EntryInfo::new(&envelope, &slot));
        }
        found.retain(|info| self.wants(info));
        self.found = found.into_iter();
        Ok(())
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<EntryInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(info) = self.found.next() {
                return Some(Ok(info));
            }
            if self.bucket >= self.index.buckets() {
                return None;
            }
            if let Err(e) = self.read() {
                // What cannot be read now is not asked for again and again.
                self.bucket = self.index.buckets();
                return Some(Err(self.store.error("list the entries of a directory", e)));
            }
        }
    }
}

/// What a namespace has in a directory; see [`DiskStore::namespaces`], which has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceInfo {
    /// What its entries carry; [`NamespaceId::NONE`] for those outside every namespace.
    pub id: NamespaceId,
    /// Its name, if the directory knows it.
    pub name: Option<String>,
    /// How many entries it has.
    pub entries: u64,
    /// The lengths of their artifacts, added up.
    pub bytes: u64,
    /// Their [bytes on disk](EntryInfo::disk_bytes).
    pub disk_bytes: u64,
    /// What their artifacts took to build, added up.
    pub build_cost: Duration,
    /// When any of them was last used.
    pub last_used: SystemTime,
    /// When the oldest of them was put.
    pub oldest_put: SystemTime,
    /// When the newest of them was put.
    pub newest_put: SystemTime,
}

impl NamespaceInfo {
    fn new(first: &EntryInfo) -> Self {
        Self {
            id: first.namespace,
            name: None,
            entries: 0,
            bytes: 0,
            disk_bytes: 0,
            build_cost: Duration::ZERO,
            last_used: first.last_used,
            oldest_put: first.put_at,
            newest_put: first.put_at,
        }
    }

    fn add(&mut self, info: &EntryInfo) {
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(info.length);
        self.disk_bytes = self.disk_bytes.saturating_add(info.disk_bytes);
        self.build_cost = self.build_cost.saturating_add(info.build_cost);
        self.last_used = self.last_used.max(info.last_used);
        self.oldest_put = self.oldest_put.min(info.put_at);
        self.newest_put = self.newest_put.max(info.put_at);
    }
}

impl DiskStore {
    /// The entries of the directory, in no order, without the lock and in little memory.
    ///
    /// Entries that are too old for this handle are listed as well. What is put, removed or moved
    /// while the listing is under way may be listed or not. Nothing counts as used, and artifacts
    /// are not read: one may turn out to be damaged.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read; then the iteration ends.
    ///
    /// ```
    /// use keepwarm::{DiskStore, Fingerprint, StoreExt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// for n in 0..3 {
    ///     store.put_bytes(&Fingerprint::from_bytes([n; 32]), vec![n; 10])?;
    /// }
    /// let mut bytes = 0;
    /// for info in store.entries() {
    ///     bytes += info?.length;
    /// }
    /// assert_eq!(bytes, 30);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn entries(&self) -> Entries<'_> {
        Entries {
            store: &self.inner,
            index: self.inner.live_index(),
            bucket: 0,
            found: Vec::new().into_iter(),
            prefix: Vec::new(),
            namespace: None,
        }
    }

    /// What the directory knows of the entry under `key`, without using it. An entry that is too
    /// old for this handle is told of as well.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// # use keepwarm::{DiskStore, Fingerprint};
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// assert_eq!(store.info(&Fingerprint::from_bytes([1; 32]))?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn info(&self, key: &Fingerprint) -> Result<Option<EntryInfo>> {
        let index = self.inner.live_index();
        let found = self.inner.settled_bindings(&index, key);
        let found = found.map_err(|e| self.inner.error("look up a key", e))?;
        Ok(found.live.last().and_then(EntryInfo::of))
    }

    /// The namespaces that have entries, by id.
    ///
    /// Looks at every entry, as [`entries`](Self::entries) does.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let cache = Cache::builder().open(dir.path())?;
    /// cache.namespace("driver 1").put(&Fingerprint::from_bytes([1; 32]), vec![0; 10]);
    /// cache.flush()?;
    /// let all = cache.disk().unwrap().namespaces()?;
    /// assert_eq!(all[0].name.as_deref(), Some("driver 1"));
    /// assert_eq!((all[0].entries, all[0].bytes), (1, 10));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        self.sum_up(self.entries())
    }

    /// What one namespace has; `None` if it has no entries.
    ///
    /// Looks at every entry, as [`entries`](Self::entries) does.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// assert_eq!(store.namespace(keepwarm::NamespaceId::of("driver 1"))?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn namespace(&self, id: NamespaceId) -> Result<Option<NamespaceInfo>> {
        Ok(self.sum_up(self.entries().in_namespace(id))?.pop())
    }

    fn sum_up(&self, entries: Entries<'_>) -> Result<Vec<NamespaceInfo>> {
        let mut all: FxHashMap<NamespaceId, NamespaceInfo> = FxHashMap::default();
        for info in entries {
            let info = info?;
            all.entry(info.namespace)
                .or_insert_with(|| NamespaceInfo::new(&info))
                .add(&info);
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by_key(|namespace| namespace.id);
        for namespace in &mut all {
            if namespace.id != NamespaceId::NONE {
                namespace.name = self.namespace_name(namespace.id)?;
            }
        }
        Ok(all)
    }
}
