//! What need not be hashed again, and why that is known.
//!
//! A payload in a pack is known by the open pack it is in, which remembers the places that were
//! verified: while a pack is open nobody else has its inode, and its handle forgets everything with
//! itself. An object is known by a stamp over everything that would tell another file, or other
//! bytes in it, from the one that was verified. Stamps live as long as the process, or in the file
//! `verified` as long as the machine is not started again.

use super::envelope::{ALIGN, CheckKey, MAX_PACK};
use super::pack::{Files, Pack};
use crate::digest::Digest;
use crate::sync::{Arc, AtomicU64, Mutex, OnceLock, Ordering};
use crate::sys::{Access, Meta, RawFile, boot_id};
use rustc_hash::FxHashSet;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Objects that a handle remembers; when there are more, all are forgotten.
const REMEMBERED: usize = 1 << 16;
/// Stamps in the file: 1 MiB.
const STAMPS: u64 = 1 << 16;
/// A file that was changed less than this ago may be changed again without its times telling.
const SETTLED: Duration = Duration::from_secs(2);
const POISON: &str =
    "the lock of keepwarm's verified objects is poisoned: a thread panicked under it";

/// How often the bytes of an artifact are hashed and compared with its digest when it is loaded.
///
/// Whatever it is, a get only follows an envelope whose check holds and which carries the full key,
/// and looks at the length. What is found damaged is never served, is counted, and heals with the
/// next put.
///
/// ```
/// use keepwarm::{DiskStore, Verify};
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::builder().verify(Verify::OncePerBoot).open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verify {
    /// On every load: what is handed out is what was hashed.
    #[default]
    OnLoad,
    /// Once by each open store. Damage done to a file after that, while the store is open, is served:
    /// of large artifacts only where it does not show in the file's times, of small ones always.
    /// (Where files have no identity, as on Windows, large ones are hashed on every load.)
    OncePerProcess,
    /// As `OncePerProcess` for small artifacts; large ones once between two starts of the machine,
    /// by whichever process comes first. Damage beneath the file system, such as a bad sector, is
    /// then served until the next start. Where the system does not tell its starts apart (anywhere
    /// but Linux and Android), once by each open store.
    OncePerBoot,
    /// Never: **bytes that were damaged on the disk are served as they are.** This gives up the
    /// promise that no wrong byte is served, for whatever happens to a file without keepwarm: bit
    /// rot, a power cut before a flush, an edited file.
    Never,
}

/// The places in an open pack whose payloads were verified: a bit each, made when the first one is
/// noted.
#[derive(Debug, Default)]
pub(super) struct Places(OnceLock<Box<[AtomicU64]>>);

impl Places {
    fn bit(offset: u64) -> (usize, u64) {
        let bit = offset / ALIGN;
        (
            usize::try_from(bit / 64).unwrap_or(usize::MAX),
            1 << (bit % 64),
        )
    }

    fn has(&self, offset: u64) -> bool {
        let (word, bit) = Self::bit(offset);
        let words = self.0.get().and_then(|words| words.get(word));
        words.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn note(&self, offset: u64) {
        let (word, bit) = Self::bit(offset);
        let words = self.0.get_or_init(|| {
            let words = usize::try_from(MAX_PACK / ALIGN / 64).unwrap_or(0);
            std::iter::repeat_with(AtomicU64::default)
                .take(words)
                .collect()
        });
        if let Some(word) = words.get(word) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// What is at a place is not known to be whole any more.
    pub(super) fn forget(&self, offset: u64) {
        let (word, bit) = Self::bit(offset);
        if let Some(word) = self.0.get().and_then(|words| words.get(word)) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

type Stamp = [u8; 16];

/// What this handle knows to be whole.
#[derive(Debug)]
pub(super) struct Verified {
    policy: Verify,
    key: [u8; 32],
    /// Which start of the machine this is; empty where nothing outlives the handle.
    boot: Vec<u8>,
    objects: Mutex<FxHashSet<Stamp>>,
    /// The file of stamps, once it was needed; `None` inside if it cannot be had.
    file: OnceLock<Option<Arc<dyn RawFile>>>,
    /// A forked child writes nothing.
    process: u32,
}

impl Verified {
    pub(super) fn new(policy: Verify, check: &CheckKey) -> Self {
        let boot = match policy {
            Verify::OncePerBoot => boot_id().unwrap_or_default(),
            _ => Vec::new(),
        };
        // Nothing is stamped under the others.
        let key = match policy {
            Verify::OncePerProcess | Verify::OncePerBoot => check.stamp_key(),
            Verify::OnLoad | Verify::Never => [0; 32],
        };
        Self {
            policy,
            key,
            boot,
            objects: Mutex::default(),
            file: OnceLock::default(),
            process: std::process::id(),
        }
    }

    fn remembers(&self) -> bool {
        matches!(self.policy, Verify::OncePerProcess | Verify::OncePerBoot)
    }

    /// Whether the payload at `offset` of an open pack may be served without being hashed.
    pub(super) fn has_payload(&self, pack: &Pack, offset: u64) -> bool {
        self.policy == Verify::Never || (self.remembers() && pack.verified.has(offset))
    }

    /// The payload at `offset` was hashed and is whole.
    pub(super) fn note_payload(&self, pack: &Pack, offset: u64) {
        if self.remembers() {
            pack.verified.note(offset);
        }
    }

    /// Whether an object may be served without being hashed; `meta` is of the open file.
    pub(super) fn has_object(&self, files: &Files, meta: &Meta, digest: &Digest) -> bool {
        match self.policy {
            Verify::OnLoad => false,
            Verify::Never => true,
            Verify::OncePerProcess | Verify::OncePerBoot => {
                let Some(stamp) = self.stamp(meta, digest) else {
                    return false;
                };
                self.objects.lock().expect(POISON).contains(&stamp)
                    || self.is_on_disk(files, &stamp)
            }
        }
    }

    /// An object was hashed and is whole; `meta` was taken before, at the time `begun`.
    pub(super) fn note_object(
        &self,
        files: &Files,
        (meta, digest): (&Meta, &Digest),
        begun: SystemTime,
    ) {
        if !self.remembers() || !is_settled(meta, begun) {
            return;
        }
        let Some(stamp) = self.stamp(meta, digest) else {
            return;
        };
        let mut objects = self.objects.lock().expect(POISON);
        if objects.len() >= REMEMBERED {
            objects.clear();
        }
        objects.insert(stamp);
        drop(objects);
        if !files.read_only && self.process == std::process::id() {
            if let Some(file) = self.file(files) {
                // A hint: what is not written is hashed again.
                file.write_at(&stamp, place(&stamp)).ok();
            }
        }
    }

    /// Everything that would be different if it were another file, or if other bytes had been
    /// written to it. `None` where the platform does not tell.
    fn stamp(&self, meta: &Meta, digest: &Digest) -> Option<Stamp> {
        if meta.id.inode == 0 {
            return None;
        }
        let nanos = |time: Option<SystemTime>| {
            let since = time?.duration_since(UNIX_EPOCH).ok()?;
            Some(since.as_nanos().to_le_bytes())
        };
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for number in [meta.id.device, meta.id.inode, meta.id.len] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&nanos(meta.modified)?);
        hasher.update(&nanos(meta.changed)?);
        hasher.update(digest.as_bytes());
        hasher.update(&self.boot);
        let mut stamp = [0; 16];
        stamp.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Some(stamp)
    }

    fn is_on_disk(&self, files: &Files, stamp: &Stamp) -> bool {
        let Some(file) = self.file(files) else {
            return false;
        };
        let mut found = [0; 16];
        file.read_at(&mut found, place(stamp)).is_ok() && found == *stamp
    }

    /// The file of stamps. Written and read without a lock: a torn stamp is none.
    fn file(&self, files: &Files) -> Option<&Arc<dyn RawFile>> {
        if self.boot.is_empty() {
            return None;
        }
        let open = || -> io::Result<Arc<dyn RawFile>> {
            let path = files.layout.verified();
            if !files.read_only && self.process == std::process::id() {
                // What may not be written, such as a read-only directory, may still be read.
                if let Ok(file) = files.fs.open(&path, Access::Create) {
                    return Ok(file);
                }
            }
            files.fs.open(&path, Access::Read)
        };
        self.file.get_or_init(|| open().ok()).as_ref()
    }
}

/// Where a stamp is in the file.
fn place(stamp: &Stamp) -> u64 {
    let slot = u64::from(u16::from_le_bytes([stamp[0], stamp[1]])) % STAMPS;
    slot * stamp.len() as u64
}

/// Whether a change after `begun` would show in the file's times.
fn is_settled(meta: &Meta, begun: SystemTime) -> bool {
    [meta.modified, meta.changed].into_iter().all(|time| {
        let age = time.and_then(|time| begun.duration_since(time).ok());
        age.is_some_and(|age| age >= SETTLED)
    })
}
