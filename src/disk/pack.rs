//! Packs: append-only logs of bindings and small payloads.
//!
//! A pack is read through a mapping (or `pread`), appended to by the one process that holds its
//! lock, and unlinked whole by who holds its lock. Its bytes never change once written, but for
//! the life word of an envelope.

use super::envelope::{
    self, ALIGN, CheckKey, DEAD, Envelope, GONE, KeyId, LIFE_WORD, LIVE, LifeWord, MAX_PACK,
    PACK_HEADER, SIZE,
};
use super::layout::{Layout, PackNumber};
use super::slot::Place;
use super::verified::Places;
use crate::digest::Digest;
use crate::sync::{Arc, AtomicBool, AtomicU64, OnceLock, Ordering};
use crate::sys::mapping::SharedMap;
use crate::sys::{Access, FileId, FileSystem, Meta, RawFile};
use std::io::{self, IoSlice};
use std::path::PathBuf;

/// Bytes are copied and hashed in steps of this: they stay in the first-level cache in between.
const STEP: usize = 16 << 10;

/// What records are padded with: to the next place, which is as far as the header is long.
const ZEROS: [u8; PACK_HEADER] = [0; PACK_HEADER];

/// An open pack.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) number: PackNumber,
    /// Under which key its envelopes are: of another one than ours they are hints.
    pub(super) key_id: KeyId,
    id: [u8; 16],
    file: Arc<dyn RawFile>,
    /// Where it could be opened for reading only.
    upgrade: Option<Upgrade>,
    map: Option<SharedMap>,
    /// Which file it is; another one may have its name by now.
    pub(super) ident: Ident,
    /// A length that `fstat` has seen.
    seen: AtomicU64,
    /// Where payloads were verified through this handle.
    pub(super) verified: Places,
    /// A sync failed: the kernel may have given pages up, of which a later sync says nothing.
    failed: AtomicBool,
}

/// How a pack that could be opened for reading only is opened for writing once something in it has to be marked:
/// what kept it from that may be over.
#[derive(Debug)]
struct Upgrade {
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
    file: OnceLock<Arc<dyn RawFile>>,
}

/// A pack's number, and device and inode of its file where there are such.
pub(super) type Ident = (PackNumber, [u64; 2]);

/// What the files of a directory are opened with.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) layout: Layout,
    pub(super) check: CheckKey,
    /// Whether packs are mapped.
    pub(super) map: bool,
    /// Whether nothing may be changed.
    pub(super) read_only: bool,
}

impl Files {
    /// How a file is opened that is there.
    pub(super) fn access(&self) -> Access {
        if self.read_only {
            Access::Read
        } else {
            Access::Write
        }
    }
}

impl Pack {
    /// Opens the pack called `number`; `None` if there is none, or something else has its name.
    pub(super) fn open(files: &Files, number: PackNumber) -> io::Result<Option<Arc<Self>>> {
        let path = files.layout.pack(number);
        let mut upgrade = None;
        let opened = match files.fs.open(&path, files.access()) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                upgrade = Some(Upgrade {
                    fs: Arc::clone(&files.fs),
                    path: path.clone(),
                    file: OnceLock::default(),
                });
                files.fs.open(&path, Access::Read)
            }
            opened => opened,
        };
        match opened {
            Ok(file) => {
                let id = file.meta_at_open()?.id;
                let pack = Self::from_file(files, number, (file, id))?;
                Ok(pack.map(|pack| Arc::new(Self { upgrade, ..pack })))
            }
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Under which key the envelopes of a pack are, without mapping it; `None` if there is no such
    /// pack.
    pub(super) fn key_id_at(files: &Files, number: PackNumber) -> io::Result<Option<KeyId>> {
        let file = match files.fs.open(&files.layout.pack(number), Access::Read) {
            Ok(file) => file,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut header = [0; PACK_HEADER];
        match file.read_at(&mut header, 0) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        Ok(envelope::decode_pack_header(&header, number).map(|(_, key_id)| key_id))
    }

    /// With the length that the file had, at the latest now.
    fn from_file(
        files: &Files,
        number: PackNumber,
        (file, id_of_file): (Arc<dyn RawFile>, FileId),
    ) -> io::Result<Option<Self>> {
        let len = id_of_file.len;
        if len < PACK_HEADER as u64 {
            return Ok(None);
        }
        let mut header = [0; PACK_HEADER];
        file.read_at(&mut header, 0)?;
        let Some((id, key_id)) = envelope::decode_pack_header(&header, number) else {
            return Ok(None);
        };
        // On Unix a mapping may reach beyond the end of the file, so that one serves the pack
        // while it grows; elsewhere what lies beyond is read.
        let mapped = if cfg!(unix) {
            MAX_PACK
        } else {
            len.min(MAX_PACK)
        };
        let mapped = usize::try_from(mapped).unwrap_or(0);
        let map = if files.map {
            file.map_shared(mapped).ok()
        } else {
            None
        };
        Ok(Some(Self {
            number,
            key_id,
            id,
            file,
            upgrade: None,
            map,
            ident: (number, [id_of_file.device, id_of_file.inode]),
            seen: AtomicU64::new(len),
            verified: Places::default(),
            failed: AtomicBool::new(false),
        }))
    }

    /// The file, open for writing.
    fn writable(&self) -> io::Result<&dyn RawFile> {
        let Some(upgrade) = &self.upgrade else {
            return Ok(&*self.file);
        };
        if let Some(file) = upgrade.file.get() {
            return Ok(&**file);
        }
        let file = upgrade.fs.open(&upgrade.path, Access::Write)?;
        if !file.meta()?.same_file(&self.file.meta()?) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(&**upgrade.file.get_or_init(|| file))
    }

    /// Whether nothing was ever written to it by this handle, which could not.
    pub(super) fn is_read_only(&self) -> bool {
        let upgrade = self.upgrade.as_ref();
        upgrade.is_some_and(|upgrade| upgrade.file.get().is_none())
    }

    /// Its length now, in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        let len = self.file.meta()?.id.len;
        self.seen.store(len, Ordering::Relaxed);
        Ok(len)
    }

    /// Whether the file still has a name, as far as the file itself knows.
    pub(super) fn is_linked(&self) -> io::Result<bool> {
        Ok(self.file.links()? > 0)
    }

    /// Whether the file at the pack's path is this one.
    pub(super) fn is_named(&self, files: &Files) -> io::Result<bool> {
        match files.fs.stat(&files.layout.pack(self.number)) {
            Ok(named) => Ok(self.file.meta()?.same_file(&named)),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether another file is at the pack's path.
    pub(super) fn is_exchanged(&self, files: &Files) -> io::Result<bool> {
        match files.fs.stat(&files.layout.pack(self.number)) {
            Ok(named) => Ok(!self.file.meta()?.same_file(&named)),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether the pack reaches to `end`.
    fn reaches(&self, end: u64) -> io::Result<bool> {
        Ok(end <= MAX_PACK && (end <= self.seen.load(Ordering::Relaxed) || end <= self.len()?))
    }

    /// Fills `buf` from `offset`; the range was seen to be inside the file.
    pub(super) fn copy(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if let Some(map) = &self.map {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            if map.copy_to(at, buf).is_some() {
                return Ok(());
            }
        }
        self.file.read_at(buf, offset)
    }

    fn envelope_bytes(&self, offset: u64) -> io::Result<Option<[u8; SIZE]>> {
        let mut bytes = [0; SIZE];
        if offset < PACK_HEADER as u64 || !self.reaches(offset.saturating_add(SIZE as u64))? {
            return Ok(None);
        }
        self.copy(offset, &mut bytes)?;
        Ok(Some(bytes))
    }

    /// The envelope at `offset`, and whether it is live; `None` if none was written there by who
    /// has the key.
    pub(super) fn envelope(
        &self,
        check: &CheckKey,
        offset: u64,
    ) -> io::Result<Option<(Envelope, bool)>> {
        let found = self.envelope_and_life(check, offset)?;
        Ok(found.map(|(envelope, life)| (envelope, life == LifeWord::Live)))
    }

    /// The same, with all that the life word says.
    pub(super) fn envelope_and_life(
        &self,
        check: &CheckKey,
        offset: u64,
    ) -> io::Result<Option<(Envelope, LifeWord)>> {
        if self.key_id != check.id() {
            return Ok(None);
        }
        let bytes = self.envelope_bytes(offset)?;
        Ok(bytes.and_then(|bytes| Envelope::decode(&bytes, check, &self.id, offset)))
    }

    /// What seems to be an envelope at `offset`, unchecked: all that can be said of a pack under
    /// another key. A hint, as a slot is one.
    pub(super) fn hint(&self, offset: u64) -> io::Result<Option<(Envelope, bool)>> {
        let found = self.hint_and_life(offset)?;
        Ok(found.map(|(envelope, life)| (envelope, life == LifeWord::Live)))
    }

    /// The same, with all that the life word says.
    pub(super) fn hint_and_life(&self, offset: u64) -> io::Result<Option<(Envelope, LifeWord)>> {
        let bytes = self.envelope_bytes(offset)?;
        Ok(bytes.and_then(|bytes| Envelope::parse(&bytes, offset)))
    }

    /// The envelope at `offset` of a pack of ours, a hint in one under another key.
    pub(super) fn envelope_or_hint(
        &self,
        check: &CheckKey,
        offset: u64,
    ) -> io::Result<Option<(Envelope, bool)>> {
        if self.key_id == check.id() {
            self.envelope(check, offset)
        } else {
            self.hint(offset)
        }
    }

    /// A copy of the payload of the envelope at `offset`; with a digest, `None` unless that is its.
    pub(super) fn payload(
        &self,
        offset: u64,
        length: u64,
        digest: Option<&Digest>,
    ) -> io::Result<Option<Box<[u8]>>> {
        let start = offset.saturating_add(SIZE as u64);
        // Seen to be in the file before anything is allocated.
        if !self.reaches(start.saturating_add(length))? {
            return Ok(None);
        }
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        let bytes = self.copied(start, length)?;
        let is_valid = |digest: &Digest| Digest::of(&bytes) == *digest;
        Ok(digest.is_none_or(is_valid).then_some(bytes))
    }

    /// A copy of a range that was seen to be inside the file.
    fn copied(&self, offset: u64, length: usize) -> io::Result<Box<[u8]>> {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(bytes) = self.map.as_ref().and_then(|map| map.copy(at, length)) {
            return Ok(bytes.into_boxed_slice());
        }
        let mut bytes = vec![0; length].into_boxed_slice();
        self.file.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Whether the payload of the envelope at `offset` is exactly `bytes`.
    pub(super) fn payload_is(&self, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let start = offset.saturating_add(SIZE as u64);
        if !self.reaches(start.saturating_add(bytes.len() as u64))? {
            return Ok(false);
        }
        let mut buf = [0; 4096];
        let mut at = start;
        for step in bytes.chunks(buf.len()) {
            let part = &mut buf[..step.len()];
            self.copy(at, part)?;
            if part != step {
                return Ok(false);
            }
            at += step.len() as u64;
        }
        Ok(true)
    }

    fn mark(&self, life: [u8; 8], offset: u64) -> io::Result<()> {
        match self.writable() {
            // A file without a name: nobody will read the mark.
            Err(e) if is_absent(&e) => Ok(()),
            file => file?.write_at(&life, offset + LIFE_WORD),
        }
    }

    /// Marks the binding at `offset` dead, and with it copies and whatever is older. The caller has just decoded
    /// the envelope there, and has told the index, see [`Index::note_end`](super::index::Index::note_end).
    pub(super) fn mark_dead(&self, offset: u64) -> io::Result<()> {
        self.mark(DEAD, offset)
    }

    /// Marks the binding at `offset` as gone from there; copies and what is older stay. The caller has
    /// just decoded the envelope there.
    pub(super) fn mark_gone(&self, offset: u64) -> io::Result<()> {
        self.mark(GONE, offset)
    }

    /// Marks the binding at `offset` live: the index knows it. The caller appended it.
    pub(super) fn mark_live(&self, offset: u64) -> io::Result<()> {
        self.mark(LIVE, offset)
    }

    /// Makes what was written durable; tells how far. Once that failed it fails for ever: what is in the
    /// pack has to be written elsewhere.
    pub(super) fn sync(&self) -> io::Result<u64> {
        // Before the sync: what is appended meanwhile may not be covered. It only serves to know
        // what stays when a later one fails.
        let len = self
            .len()
            .unwrap_or_else(|_| self.seen.load(Ordering::Relaxed));
        // Only a file that was open then hears of what failed before. Windows wants one that may write.
        let file = if cfg!(windows) {
            self.writable()?
        } else {
            &*self.file
        };
        sync_once(file, &self.failed)?;
        Ok(len)
    }

    /// Whether a sync failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// After a failed sync, when everything in the pack is bound elsewhere: writes the marks of what
    /// was ended once more and makes these durable.
    pub(super) fn bury_again(&self, check: &CheckKey) -> io::Result<()> {
        if !self.has_failed() {
            return Ok(());
        }
        let file = match self.writable() {
            // No mark in it is ours, or nobody will read it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied || is_absent(&e) => return Ok(()),
            file => file?,
        };
        let (mut dead, mut gone) = (Vec::new(), Vec::new());
        self.walk_or_hints(check, |offset, _, life| match life {
            LifeWord::Dead => dead.push(offset),
            LifeWord::Gone => gone.push(offset),
            LifeWord::Live | LifeWord::None => {}
        })?;
        dead.into_iter()
            .try_for_each(|offset| self.mark_dead(offset))?;
        gone.into_iter()
            .try_for_each(|offset| self.mark_gone(offset))?;
        file.sync()
    }

    /// Whether the payload of the envelope at `offset` has the digest; nothing is allocated.
    pub(super) fn is_whole(&self, offset: u64, length: u64, digest: &Digest) -> io::Result<bool> {
        let start = offset.saturating_add(SIZE as u64);
        let end = start.saturating_add(length);
        if !self.reaches(end)? {
            return Ok(false);
        }
        let mut hasher = blake3::Hasher::new();
        let mut buf = [0; STEP];
        let mut at = start;
        while at < end {
            let n = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
            self.copy(at, &mut buf[..n])?;
            hasher.update(&buf[..n]);
            at += n as u64;
        }
        Ok(hasher.finalize().as_bytes() == digest.as_bytes())
    }
}

/// Syncs a file unless that failed before.
pub(super) fn sync_once(file: &dyn RawFile, failed: &AtomicBool) -> io::Result<()> {
    if failed.load(Ordering::Relaxed) {
        return Err(io::Error::other("an earlier sync failed"));
    }
    file.sync()
        .inspect_err(|_| failed.store(true, Ordering::Relaxed))
}

/// Whether an error of `open` or `stat` means that there is no such file of ours: missing, or
/// something else (a symlink, a directory, a FIFO) has its name.
pub(super) fn is_absent(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
    ) || is_special(e)
}

/// What opening a socket or a device without driver says on Unix.
#[cfg(unix)]
fn is_special(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = e.raw_os_error();
    [Errno::NXIO, Errno::NODEV, Errno::LOOP]
        .iter()
        .any(|n| code == Some(n.raw_os_error()))
}

#[cfg(not(unix))]
fn is_special(_: &io::Error) -> bool {
    false
}

/// A pack that this process holds the lock of, and so may append to.
#[derive(Debug)]
pub(super) struct OwnedPack {
    pub(super) pack: Arc<Pack>,
    claim: Arc<Held>,
    end: u64,
    /// No more than this many bytes.
    limit: u64,
}

/// The lock of a claimed pack. It is given up when the last one drops it: whoever appends, and who
/// has appended and not bound yet, so that nothing is bound in a pack that another one has claimed.
#[derive(Debug)]
pub(super) struct Held {
    lock: Arc<dyn RawFile>,
    /// Who took the lock: a forked child must not give up what its parent relies on.
    process: u32,
}

/// What claiming a pack found.
#[derive(Debug)]
pub(super) enum Claim {
    Pack(OwnedPack),
    /// A file with the name of a pack that is none, and its lock.
    Foreign(Arc<dyn RawFile>),
    /// Somebody holds it, or it is gone.
    None,
}

impl OwnedPack {
    /// Creates a pack and claims it.
    pub(super) fn create(files: &Files, limit: u64) -> io::Result<Self> {
        loop {
            let mut id = [0; 16];
            id.copy_from_slice(&random_bytes()[..16]);
            let number = PackNumber::of(&id);
            let file = match files.fs.open(&files.layout.pack(number), Access::CreateNew) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            let lock = lock_of(files, number, &file)?;
            // Nobody else can have claimed it: without a header it is no pack yet.
            if !lock.try_lock()? {
                continue;
            }
            let header = envelope::encode_pack_header(files.check.id(), &id);
            let done = file
                .write_at(&header, 0)
                .and_then(|()| file.meta())
                .and_then(|meta| Pack::from_file(files, number, (Arc::clone(&file), meta.id)));
            match done {
                Ok(Some(pack)) => {
                    return Ok(Self::new(Arc::new(pack), lock, (PACK_HEADER as u64, limit)));
                }
                Ok(None) => return Err(io::ErrorKind::InvalidData.into()),
                Err(e) => {
                    // Best effort: a file without a header is no pack, and harmless.
                    files.fs.remove_file(&files.layout.pack(number)).ok();
                    return Err(e);
                }
            }
        }
    }

    /// Claims an existing pack.
    pub(super) fn claim(files: &Files, number: PackNumber, limit: u64) -> io::Result<Claim> {
        let path = files.layout.pack(number);
        let file = match files.fs.open(&path, Access::Write) {
            Ok(file) => file,
            Err(e) if is_absent(&e) => return Ok(Claim::None),
            // Another member of the group keeps it for itself, or is just making it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(Claim::None),
            Err(e) => return Err(e),
        };
        let lock = lock_of(files, number, &file)?;
        if !lock.try_lock()? {
            return Ok(Claim::None);
        }
        // Looked at now, not when it was opened: what others appended and synced before they gave up the
        // lock is settled.
        let id = file.meta()?.id;
        let Some(pack) = Pack::from_file(files, number, (file, id))? else {
            return Ok(Claim::Foreign(lock));
        };
        let end = pack.len()?.next_multiple_of(ALIGN);
        let owned = Self::new(Arc::new(pack), lock, (end, limit));
        // It may have been unlinked between open and lock.
        if !owned.pack.is_named(files)? {
            return Ok(Claim::None);
        }
        Ok(Claim::Pack(owned))
    }

    fn new(pack: Arc<Pack>, lock: Arc<dyn RawFile>, (end, limit): (u64, u64)) -> Self {
        Self {
            pack,
            claim: Arc::new(Held {
                lock,
                process: std::process::id(),
            }),
            end,
            limit,
        }
    }

    /// Keeps it claimed.
    pub(super) fn hold(&self) -> Arc<Held> {
        Arc::clone(&self.claim)
    }

    /// Whether a record in it may yet be bound.
    pub(super) fn awaits_binding(&self) -> bool {
        Arc::strong_count(&self.claim) > 1
    }

    /// Whether a record of `len` bytes still fits.
    pub(super) fn fits(&self, len: u64) -> bool {
        self.end.saturating_add(len) <= self.limit
    }

    /// Appends a record; tells where it is. On failure the pack must not be appended to again.
    pub(super) fn append(
        &mut self,
        check: &CheckKey,
        envelope: &Envelope,
        payload: &[u8],
    ) -> io::Result<Place> {
        let offset = self.end;
        let head = envelope.encode(check, &self.pack.id, offset);
        let len = (head.len() + payload.len()) as u64;
        let padded = len.next_multiple_of(ALIGN);
        // What a failed write left behind stays: it is beyond what anybody was told of.
        self.end += padded;
        let padding = usize::try_from(padded - len).unwrap_or(0);
        let padding = ZEROS.get(..padding).unwrap_or(&ZEROS);
        let mut parts = [&head[..], payload, padding].map(IoSlice::new);
        self.pack.file.write_all_at(&mut parts, offset)?;
        self.pack.seen.fetch_max(self.end, Ordering::Relaxed);
        Ok(Place::new(self.pack.number, offset))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            return;
        }
        // The file stays open for readers, so the lock has to be given up by hand. If that fails
        // the pack stays claimed until the process ends: nobody waits for it.
        self.lock.unlock().ok();
    }
}

/// The file whose lock claims a pack: on Unix the pack itself.
fn lock_of(
    files: &Files,
    number: PackNumber,
    file: &Arc<dyn RawFile>,
) -> io::Result<Arc<dyn RawFile>> {
    if cfg!(unix) {
        return Ok(Arc::clone(file));
    }
    files
        .fs
        .open(&files.layout.pack_lock(number), Access::Create)
}

/// 32 bytes that no other call in any process gives: a hash over `RandomState`s, which the
/// standard library seeds from the operating system.
pub(super) fn random_bytes() -> [u8; 32] {
    use std::hash::{BuildHasher as _, RandomState};
    let mut hasher = blake3::Hasher::new();
    for i in 0_u64..4 {
        hasher.update(&RandomState::new().hash_one(i).to_le_bytes());
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    hasher.update(&now.unwrap_or_default().as_nanos().to_le_bytes());
    hasher.update(&u64::from(std::process::id()).to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// The packs of a directory by number; foreign names are skipped.
pub(super) fn list(files: &Files) -> io::Result<Vec<(PackNumber, Meta)>> {
    let names = match files.fs.read_dir(&files.layout.packs()) {
        Err(e) if is_absent(&e) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for number in names.iter().filter_map(|name| PackNumber::parse(name)) {
        match files.fs.stat(&files.layout.pack(number)) {
            Ok(meta) if meta.is_file => found.push((number, meta)),
            Ok(_) => {}
            Err(e) if is_absent(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}
