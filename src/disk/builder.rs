//! Settings of a disk store, and opening the directory.

use super::envelope::{CheckKey, MAX_PACK};
use super::header::{BadHeader, REBUILDING};
use super::index::Found;
use super::index::NewIndex;
use super::inner::{Inner, Limits};
use super::layout::{CACHEDIR_TAG, Layout};
use super::lock::DirLock;
use super::pack::Files;
use super::pending::Names;
use super::publish::{newer, open_index, publish_index};
use super::read_only;
use super::sharing::{Sharing, check_folders, create_root};
use super::tmp::TempFolder;
use super::{DiskStore, Verify, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::sys::real::RealFs;
use crate::sys::{Access, FileSystem, is_network_file_system};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Payloads up to this many bytes share packs; larger ones get a file of their own.
const INLINE: u64 = 256 << 10;
/// No budget makes packs smaller than this, in bytes.
const SMALLEST_PACK: u64 = 4096;
/// A year: longer settings are cut, so that no sum of instants overflows.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What of the directory is memory-mapped.
///
/// ```
/// use keepwarm::{DiskStore, Mapping};
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::builder().mapping(Mapping::IndexOnly).open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mapping {
    /// The index, packs, and artifacts from 256 KiB up; smaller ones are copied.
    #[default]
    Large,
    /// The index and packs; every artifact is copied while it is verified, so nobody who rewrites
    /// a file in place can change bytes that were handed out. Truncating the index or a pack in
    /// place still makes the process receive SIGBUS.
    IndexOnly,
    /// Nothing: for directories in which somebody truncates files in place.
    Never,
}

/// Settings of a [`DiskStore`].
///
/// ```
/// use keepwarm::DiskStore;
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::builder()
///     .byte_budget(5 << 30)
///     .entry_budget(100_000)
///     .open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `open`"]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub struct DiskStoreBuilder {
    bytes: u64,
    entries: u64,
    mapping: Mapping,
    verify: Verify,
    lock_wait: Duration,
    network: bool,
    check: CheckKey,
    /// Refused by `open`, which can say so.
    is_secret_empty: bool,
    max_age: Option<Duration>,
    idle_namespaces: Option<Duration>,
    read_only: bool,
    must_exist: bool,
    sharing: Sharing,
}

impl Default for DiskStoreBuilder {
    fn default() -> Self {
        Self {
            bytes: 5 << 30,
            entries: u64::MAX,
            mapping: Mapping::default(),
            verify: Verify::default(),
            lock_wait: Duration::from_secs(10),
            network: false,
            check: CheckKey::public(),
            is_secret_empty: false,
            max_age: None,
            idle_namespaces: None,
            read_only: false,
            must_exist: false,
            sharing: Sharing::default(),
        }
    }
}

impl DiskStoreBuilder {
    /// At most this many bytes of packs and objects, as allocated on disk; 5 GiB by default. The
    /// index comes on top: 28 bytes a slot, about 70 an entry. Zero keeps nothing.
    ///
    /// ```
    /// let builder = keepwarm::DiskStore::builder().byte_budget(1 << 30);
    /// ```
    pub fn byte_budget(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// At most this many entries; no limit by default. Zero keeps nothing.
    ///
    /// ```
    /// let builder = keepwarm::DiskStore::builder().entry_budget(10_000);
    /// ```
    pub fn entry_budget(mut self, entries: u64) -> Self {
        self.entries = entries;
        self
    }

    /// What is memory-mapped; [`Mapping::Large`] by default.
    ///
    /// ```
    /// let builder = keepwarm::DiskStore::builder().mapping(keepwarm::Mapping::Never);
    /// ```
    pub fn mapping(mut self, mapping: Mapping) -> Self {
        self.mapping = mapping;
        self
    }

    /// How often an artifact is verified; [`Verify::OnLoad`] by default.
    ///
    /// ```
    /// let builder = keepwarm::DiskStore::builder().verify(keepwarm::Verify::OncePerProcess);
    /// ```
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// How long a write waits for the directory's lock before it fails; 10 s by default, at most a
    /// year.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let builder = keepwarm::DiskStore::builder().lock_wait(Duration::from_secs(1));
    /// ```
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait.min(LONGEST_WAIT);
        self
    }

    /// Opens a directory on a network file system all the same. Only for one that a single machine
    /// uses: mappings and locks of different machines know nothing of each other. Network file
    /// systems are recognised, and refused, on Linux and Android only.
    ///
    /// ```
    /// let builder = keepwarm::DiskStore::builder().allow_network_file_system(true);
    /// ```
    pub fn allow_network_file_system(mut self, allow: bool) -> Self {
        self.network = allow;
        self
    }

    /// Keys every check with a secret, so that nobody without it can forge an artifact.
    ///
    /// Whoever can write to the directory and lacks the secret can cause misses, and bring back what
    /// was stored under a key with this secret before; they cannot make a get return anything else.
    /// Others read what is stored all the same: it is not encrypted. The secret should be 16 random
    /// bytes or more, for who reads the directory can try guesses; only what is derived from it is
    /// kept, and never shown.
    ///
    /// Every artifact is verified on every load and copied while it is, whatever else is set:
    /// [`Verify::OnLoad`], [`Mapping::IndexOnly`] (or `Never`), and no
    /// [`Artifact::path`](crate::Artifact::path). Processes with other secrets, or none, may use the
    /// same directory at the same time: each sees its own entries, within one budget. A
    /// [`clear`](crate::Store::clear) clears them all.
    ///
    /// ```
    /// use keepwarm::{DiskStore, Fingerprint, Store, StoreExt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let ours = DiskStore::builder().authenticate("a long secret").open(dir.path())?;
    /// ours.put_bytes(&key, vec![1, 2, 3])?;
    /// assert!(ours.get(&key)?.is_some());
    /// assert!(DiskStore::open(dir.path())?.get(&key)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn authenticate(mut self, secret: impl AsRef<[u8]>) -> Self {
        self.is_secret_empty = secret.as_ref().is_empty();
        self.check = CheckKey::from_secret(secret.as_ref());
        self
    }

    /// How old an entry may be; any age by default. It counts from the put, to the second, not from
    /// the last use; putting an entry again makes it young again.
    ///
    /// To this handle an older entry is a miss. It stays in the directory, for others that allow
    /// more, until room is needed: then such entries go first, as
    /// [`EvictionReason::Expired`](crate::EvictionReason::Expired).
    /// [`prune`](DiskStore::prune) removes them at once. An entry from the future has the age
    /// zero, so a clock that was set back makes nothing old.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// let builder = keepwarm::DiskStore::builder().max_age(week);
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// When room is needed, entries of namespaces in which nothing was used for so long go first,
    /// whatever was used last elsewhere; by default only the last use of each entry counts.
    ///
    /// Entries outside every namespace count as those of one more. Making room then reads a
    /// 128-byte envelope an entry.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let month = Duration::from_secs(30 * 24 * 60 * 60);
    /// let builder = keepwarm::DiskStore::builder().idle_namespaces_first(month);
    /// ```
    pub fn idle_namespaces_first(mut self, idle: Duration) -> Self {
        self.idle_namespaces = Some(idle);
        self
    }

    /// Opens the directory for reading only: nothing in it is changed, locked or created, and no
    /// last use is written, so it may be on a read-only mount, belong to another user (who is then
    /// trusted), or be a layer of a container image. Not set by default.
    ///
    /// A directory that is not there is an error. What other processes write meanwhile is seen.
    /// Where the index is missing or damaged, opening reads through all packs and keeps an index
    /// of its own in memory, about 100 bytes an entry and of at most 3 million entries.
    ///
    /// A put is refused with [`Rejection::ReadOnly`](crate::Rejection::ReadOnly), and what would
    /// change something fails with [`ErrorKind::ReadOnly`]. To write elsewhere what is not in the
    /// directory, put a writable store in front of it: a [`Tiered`](crate::Tiered) never writes to
    /// a lower tier that is read-only.
    ///
    /// ```
    /// use keepwarm::{DiskStore, Fingerprint, Store, StoreExt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// DiskStore::open(dir.path())?.put_bytes(&key, [7])?;
    ///
    /// let store = DiskStore::builder().read_only(true).open(dir.path())?;
    /// assert_eq!(store.get_artifact(&key)?.unwrap().as_slice(), [7]);
    /// assert!(store.put(&key, vec![8].into())?.is_rejected());
    /// assert!(store.remove(&key).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens only a directory that is there, and creates none: for tools that look after a cache,
    /// which a wrong path should not make. Not set by default; a [read-only](Self::read_only) store
    /// never creates one.
    ///
    /// What is missing has the kind [`Io`](ErrorKind::Io), and
    /// [`NotFound`](std::io::ErrorKind::NotFound) behind it.
    ///
    /// ```
    /// use keepwarm::DiskStore;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("cache");
    /// assert!(DiskStore::builder().must_exist(true).open(&path).is_err());
    /// assert!(!path.exists());
    /// DiskStore::open(&path)?;
    /// assert!(DiskStore::builder().must_exist(true).open(&path).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn must_exist(mut self, must_exist: bool) -> Self {
        self.must_exist = must_exist;
        self
    }

    /// Who else may write to the directory; [nobody](Sharing::Private) by default.
    ///
    /// ```
    /// let builder = keepwarm::DiskStore::builder().sharing(keepwarm::Sharing::Group);
    /// ```
    pub fn sharing(mut self, sharing: Sharing) -> Self {
        self.sharing = sharing;
        self
    }

    /// Opens the directory at `path`, and creates it (and its parents) if it is missing.
    ///
    /// # Errors
    ///
    /// See [`DiskStore::open`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::builder().open(dir.path())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(self, path: impl AsRef<Path>) -> Result<DiskStore> {
        if self.is_secret_empty {
            // Most often a variable that is set to nothing.
            let action = "authenticate with a secret that is empty";
            return Err(Error::new(ErrorKind::InvalidConfig, action));
        }
        let root = if self.read_only || self.must_exist {
            read_only::find_root(path.as_ref(), self.read_only)?
        } else {
            create_root(path.as_ref(), self.sharing)?
        };
        if !self.network && is_network_file_system(&root) {
            return Err(
                Error::new(ErrorKind::NetworkFileSystem, "use a network file system")
                    .with_path(root),
            );
        }
        let trust = self.sharing.trust(&root, self.read_only)?;
        let fs = if self.read_only {
            RealFs::read_only(trust)
        } else {
            RealFs::new(trust)
        };
        self.open_with(root, Arc::new(fs))
    }

    /// Opens a canonical `root` through any implementation of the seam.
    pub(super) fn open_with(mut self, root: PathBuf, fs: Arc<dyn FileSystem>) -> Result<DiskStore> {
        if self.check.is_secret() {
            self.verify = Verify::OnLoad;
            if self.mapping == Mapping::Large {
                self.mapping = Mapping::IndexOnly;
            }
        }
        let map = self.mapping != Mapping::Never;
        let files = Files {
            fs,
            layout: Layout::new(root),
            check: self.check,
            map,
            read_only: self.read_only,
        };
        check_folders(&files)?;
        if self.must_exist {
            read_only::find_base(&files)?;
        }
        let pack = (self.bytes / 16).clamp(SMALLEST_PACK, MAX_PACK) / 64 * 64;
        let limits = Limits {
            bytes: self.bytes,
            entries: self.entries,
            pack,
            inline: INLINE.min(pack / 4),
            mapping: self.mapping,
            verify: self.verify,
            lock_wait: self.lock_wait,
            max_age: self.max_age,
            idle_namespaces: self.idle_namespaces,
        };
        if self.read_only {
            return read_only::open(files, limits);
        }
        let found = match open_index(&files) {
            // Where a parent is no directory, or forbidden, creating it says so best.
            Ok(Found::Index(index)) if !index.is_copy() => index,
            Ok(Found::Bad(BadHeader::Newer)) => return Err(newer(&files)),
            _ => return create(files, limits),
        };
        let inner = Inner::new(files, limits, found);
        inner.pending.lock().expect(super::POISON).names = Names::Directory;
        Ok(DiskStore::new(inner))
    }
}

/// Creates whatever is missing of the directories.
pub(super) fn create_directories(files: &Files) -> Result<()> {
    let layout = &files.layout;
    let root = layout.root();
    let io = |e| Error::io("create the cache directory", root, e);
    if let (Err(_), Some(parent)) = (files.fs.stat(root), root.parent()) {
        create_root(parent, Sharing::Private)?;
        files.fs.create_dir(root).map_err(io)?;
    }
    // It may be another one than was opened.
    files.fs.open_dir(root).map_err(io)?;
    for dir in [
        layout.base().into(),
        layout.packs(),
        layout.objects(),
        layout.tmp(),
        layout.builds(),
    ] {
        let dir: PathBuf = dir;
        files
            .fs
            .create_dir(&dir)
            .map_err(|e| Error::io("create a folder of the cache directory", &dir, e))?;
    }
    // If it is there, or something else of that name is, so be it: it is for others only.
    if let Ok(tag) = files.fs.open(&layout.tag(), Access::CreateNew) {
        tag.write_at(CACHEDIR_TAG, 0)
            .map_err(|e| Error::io("write the tag of the cache directory", layout.tag(), e))?;
    }
    Ok(())
}

/// Opens a directory whose index is missing, damaged or copied from elsewhere.
fn create(files: Files, limits: Limits) -> Result<DiskStore> {
    create_directories(&files)?;
    let guard_lock = DirLock::default();
    let guard: lock::LockGuard<'_> =
        guard_lock.acquire(&*files.fs, &files.layout, limits.lock_wait)?;
    // Another process may have been faster.
    let (index, copied) = match open_index(&files)? {
        Found::Index(index) => {
            let copied = index.is_copy();
            (index, copied)
        }
        Found::Bad(BadHeader::Newer) => return Err(newer(&files)),
        Found::Bad(BadHeader::Damaged) => {
            let tmp = TempFolder::default();
            let index = publish_index(&files, &tmp, &NewIndex::empty())
                .map_err(|e| Error::io("create the index", files.layout.index(), e))?;
            tmp.remove(&files);
            (index, false)
        }
    };
    drop(guard);
    let inner = Inner::new(files, limits, index);
    inner.pending.lock().expect(super::POISON).names = Names::Directory;
    if copied {
        let mut locked = inner.locked()?;
        if locked.index.is_copy() {
            let buckets = locked.index.buckets();
            inner.copy_index(&mut locked, buckets, REBUILDING)?;
        }
    }
    Ok(DiskStore::new(inner))
}
