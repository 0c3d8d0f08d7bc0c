//! Every path name of the directory. Byte layouts are in `envelope.rs`, `slot.rs`, `header.rs`.

use crate::digest::Digest;
use crate::fingerprint::Fingerprint;
use crate::hex;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The name of the one format version this crate reads and writes.
const VERSION: &str = "v1";

/// The name of the index below the base.
pub(super) const INDEX: &str = "index";

/// The contents of `CACHEDIR.TAG`, by which backup tools know what not to keep.
pub(super) const CACHEDIR_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n\
# This file marks a cache directory of keepwarm. All of it may be deleted at any time.\n\
# For information about cache directory tags see https://bford.info/cachedir/\n";

/// A pack's number: the first 36 bits of its random id, and its file name in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PackNumber(pub(super) u64);

impl PackNumber {
    /// How many bits a number has.
    pub(super) const BITS: u32 = 36;

    /// The number in an id.
    pub(super) fn of(id: &[u8; 16]) -> Self {
        Self((u128::from_be_bytes(*id) >> (128 - Self::BITS)) as u64)
    }

    /// Reads a file name; `None` for a foreign one.
    pub(super) fn parse(name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let number = Self(u64::from_str_radix(name, 16).ok()?);
        let fits = number.0 >> Self::BITS == 0;
        (fits && number.file_name() == name).then_some(number)
    }

    pub(super) fn file_name(self) -> String {
        format!("{:09x}", self.0)
    }
}

/// The paths below one root.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
    base: PathBuf,
}

impl Layout {
    /// `root` must be canonical.
    pub(super) fn new(root: PathBuf) -> Self {
        let base = root.join(VERSION);
        Self { root, base }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn tag(&self) -> PathBuf {
        self.root.join("CACHEDIR.TAG")
    }

    pub(super) fn index(&self) -> PathBuf {
        self.base.join(INDEX)
    }

    pub(super) fn packs(&self) -> PathBuf {
        self.base.join("packs")
    }

    pub(super) fn pack(&self, number: PackNumber) -> PathBuf {
        self.packs().join(number.file_name())
    }

    /// The file whose lock claims a pack: the pack itself, but where locks are mandatory (Windows)
    /// and would shut readers out.
    pub(super) fn pack_lock(&self, number: PackNumber) -> PathBuf {
        let mut name = number.file_name();
        if !cfg!(unix) {
            name.push_str(".lock");
        }
        self.packs().join(name)
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.base.join("objects")
    }

    pub(super) fn object_dir(&self, digest: &Digest) -> PathBuf {
        self.objects().join(hex::text(&digest.as_bytes()[..1]))
    }

    pub(super) fn object(&self, digest: &Digest) -> PathBuf {
        self.object_dir(digest)
            .join(hex::text(&digest.as_bytes()[1..]))
    }

    /// Whether something is called like a folder in `objects/`.
    pub(super) fn is_object_dir(name: &OsStr) -> bool {
        let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let name = name.as_encoded_bytes();
        name.len() == 2 && name.iter().all(digit)
    }

    /// Whether something in `packs/` is called like the lock of a pack, where these are files.
    pub(super) fn is_pack_lock(name: &OsStr) -> bool {
        let number = name.to_str().and_then(|name| name.strip_suffix(".lock"));
        !cfg!(unix) && number.is_some_and(|name| PackNumber::parse(name.as_ref()).is_some())
    }

    /// Whether something in the base is called like what we make there.
    pub(super) fn is_known(&self, name: &OsStr) -> bool {
        let own = [
            self.index(),
            self.packs(),
            self.objects(),
            self.verified(),
            self.history(),
            self.tmp(),
            self.builds(),
            self.notes(),
            self.lock_file(),
        ];
        own.iter().any(|path| path.file_name() == Some(name))
    }

    /// The digest that a path in `objects/` names; `None` for a foreign one.
    pub(super) fn object_digest(dir: &OsStr, name: &OsStr) -> Option<Digest> {
        let text = format!("{}{}", dir.to_str()?, name.to_str()?);
        let digest: Digest = text.parse().ok()?;
        (digest.to_string() == text).then_some(digest)
    }

    /// Stamps of objects that were verified since the machine was started.
    pub(super) fn verified(&self) -> PathBuf {
        self.base.join("verified")
    }

    /// Samples of the life-time counters.
    pub(super) fn history(&self) -> PathBuf {
        self.base.join("history")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.base.join("tmp")
    }

    /// The file whose lock shows that the owner of a folder in `tmp/` is alive.
    pub(super) fn alive(folder: &Path) -> PathBuf {
        folder.join("alive")
    }

    /// Where leases are: files whose lock says who is at something.
    pub(super) fn builds(&self) -> PathBuf {
        self.base.join("builds")
    }

    /// The lock of whoever rebuilds the index.
    pub(super) fn rebuild_lease(&self) -> PathBuf {
        self.builds().join("rebuild.lock")
    }

    /// The lock of whoever evicts.
    pub(super) fn eviction_lease(&self) -> PathBuf {
        self.builds().join("evict.lock")
    }

    /// The lock of whoever builds what is missing under `key`.
    pub(super) fn build_lease(&self, key: &Fingerprint) -> PathBuf {
        self.builds().join(hex::text(key.as_bytes()))
    }

    /// Whether a name in `builds/` is that of a key's lease.
    pub(super) fn is_build_lease(name: &OsStr) -> bool {
        let is_own = |name: &str| hex::parse(name).is_ok_and(|key| hex::text(&key) == name);
        name.to_str().is_some_and(is_own)
    }

    /// Where tools keep notes.
    pub(super) fn notes(&self) -> PathBuf {
        self.base.join("notes")
    }

    /// Whether a note may have this name: none that leads elsewhere, on any platform.
    pub(super) fn is_note(name: &str) -> bool {
        let is_allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        (1..=100).contains(&name.len()) && name.bytes().all(is_allowed) && !name.starts_with('.')
    }

    /// The note of that name; `None` if none can have it.
    pub(super) fn note(&self, name: &str) -> Option<PathBuf> {
        Self::is_note(name).then(|| self.notes().join(name))
    }

    /// The file that is locked where directories cannot be.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.base.join("lock")
    }
}
