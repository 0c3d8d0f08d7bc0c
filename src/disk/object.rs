//! Objects: the bytes of large artifacts, a file each, named by their digest.
//!
//! An object is written to a temporary file, published by a rename that replaces nothing, and
//! never changed again.

use super::layout::Layout;
use super::pack::{Files, is_absent};
use super::tmp::TempFolder;
use super::verified::Verified;
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::sync::Arc;
use crate::sys::{Access, Meta, RawFile};
use std::io;
use std::time::SystemTime;

/// From this length on, in bytes, an object is mapped rather than read.
const MAP_FROM: u64 = 256 << 10;
/// Bytes are written, read, compared and hashed in steps of this.
const STEP: usize = 256 << 10;
/// Space is allocated in blocks of this, in bytes, as most file systems do.
pub(super) const BLOCK: u64 = 4096;

/// The space that an object of `length` bytes takes.
pub(super) fn allocated(length: u64) -> u64 {
    length
        .max(1)
        .checked_next_multiple_of(BLOCK)
        .unwrap_or(u64::MAX)
}

/// What loading an object found.
#[derive(Debug)]
pub(super) enum Loaded {
    Artifact(Artifact),
    /// There is no such file.
    Gone,
    /// There is one, and it is not what its name says.
    Corrupt,
}

/// What storing an object did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    New,
    /// Equal bytes were there.
    Adopted,
}

fn open(files: &Files, digest: &Digest) -> io::Result<Option<Arc<dyn RawFile>>> {
    open_for(files, digest, Access::Read)
}

fn open_for(
    files: &Files,
    digest: &Digest,
    access: Access,
) -> io::Result<Option<Arc<dyn RawFile>>> {
    match files.fs.open(&files.layout.object(digest), access) {
        Ok(file) => Ok(Some(file)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether a file is at the object's path.
pub(super) fn exists(files: &Files, digest: &Digest) -> io::Result<bool> {
    match files.fs.stat(&files.layout.object(digest)) {
        Ok(meta) => Ok(meta.is_file),
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Loads an object of `length` bytes and verifies it, unless `verified` knows that it is whole.
pub(super) fn load(
    files: &Files,
    (digest, length): (&Digest, u64),
    map: bool,
    verified: Option<&Verified>,
) -> io::Result<Loaded> {
    let begun = SystemTime::now();
    let Some(file) = open(files, digest)? else {
        // Something that is no file in its place is no better than none, but has to go.
        return match files.fs.stat(&files.layout.object(digest)) {
            Ok(_) => Ok(Loaded::Corrupt),
            Err(e) if is_absent(&e) => Ok(Loaded::Gone),
            Err(e) => Err(e),
        };
    };
    let meta = file.meta()?;
    let Ok(size) = usize::try_from(length) else {
        return Ok(Loaded::Corrupt);
    };
    if meta.id.len != length {
        return Ok(Loaded::Corrupt);
    }
    let is_known = verified.is_some_and(|verified| verified.has_object(files, &meta, digest));
    // Only what was hashed on this load is known to have the digest.
    let hashed = (!is_known).then_some(*digest);
    // Where others may mean harm, the file is not handed out: they may write to it afterwards.
    let is_private = !files.check.is_secret();
    let place = is_private.then(|| (files.layout.object(digest), meta.id));
    let note = || {
        if let (Some(verified), false) = (verified, is_known) {
            verified.note_object(files, (&meta, digest), begun);
        }
    };
    if map && length >= MAP_FROM {
        // A failed map falls back to reading.
        if let Ok(map) = file.map_object(size) {
            if hashed.is_some() && Digest::of(map.bytes()) != *digest {
                return Ok(Loaded::Corrupt);
            }
            note();
            return Ok(Loaded::Artifact(Artifact::from_map(map, hashed, place)));
        }
    }
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(size).is_err() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    bytes.resize(size, 0);
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    for step in bytes.chunks_mut(STEP) {
        match file.read_at(step, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Loaded::Corrupt),
            read => read?,
        }
        if hashed.is_some() {
            hasher.update(step);
        }
        at += step.len() as u64;
    }
    if hashed.is_some() && hasher.finalize().as_bytes() != digest.as_bytes() {
        return Ok(Loaded::Corrupt);
    }
    note();
    let bytes = bytes.into_boxed_slice();
    Ok(Loaded::Artifact(Artifact::from_heap(bytes, hashed, place)))
}

/// What a look at a whole object saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// So many bytes, and their digest is its name.
    Whole(u64),
    /// Something else has its name.
    Damaged(Meta),
    Gone,
}

/// Hashes the object at the path, whatever its length. `step` hears of every part and may end it,
/// which reads as [`Seen::Gone`].
pub(super) fn examine(
    files: &Files,
    digest: &Digest,
    mut step: impl FnMut(u64) -> bool,
) -> io::Result<Seen> {
    let Some(file) = open(files, digest)? else {
        return match files.fs.stat(&files.layout.object(digest)) {
            Ok(meta) => Ok(Seen::Damaged(meta)),
            Err(e) if is_absent(&e) => Ok(Seen::Gone),
            Err(e) => Err(e),
        };
    };
    let meta = file.meta()?;
    let mut hasher = blake3::Hasher::new();
    let mut buf = vec![0; STEP];
    let mut at = 0;
    while at < meta.id.len {
        let n = usize::try_from(meta.id.len - at).unwrap_or(STEP).min(STEP);
        match file.read_at(&mut buf[..n], at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(Seen::Damaged(meta)),
            read => read?,
        }
        hasher.update(&buf[..n]);
        at += n as u64;
        if !step(n as u64) {
            return Ok(Seen::Gone);
        }
    }
    if hasher.finalize().as_bytes() == digest.as_bytes() {
        return Ok(Seen::Whole(meta.id.len));
    }
    Ok(Seen::Damaged(meta))
}

/// Whether the object at the path is exactly `bytes`.
pub(super) fn is_equal(files: &Files, digest: &Digest, bytes: &[u8]) -> io::Result<bool> {
    let Some(file) = open(files, digest)? else {
        return Ok(false);
    };
    if file.meta()?.id.len != bytes.len() as u64 {
        return Ok(false);
    }
    let mut buf = vec![0; STEP.min(bytes.len())];
    let mut at = 0;
    for step in bytes.chunks(STEP) {
        let part = &mut buf[..step.len()];
        match file.read_at(part, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            read => read?,
        }
        if part != step {
            return Ok(false);
        }
        at += step.len() as u64;
    }
    Ok(true)
}

/// Publishes `bytes` under their digest, or adopts equal ones that are there.
pub(super) fn store(
    files: &Files,
    tmp: &TempFolder,
    digest: &Digest,
    bytes: &[u8],
) -> io::Result<Stored> {
    let path = files.layout.object(digest);
    if exists(files, digest)? && is_equal(files, digest, bytes)? {
        return Ok(Stored::Adopted);
    }
    let temp = tmp.file(files, Access::CreateReadOnly)?;
    let mut at = 0;
    for step in bytes.chunks(STEP) {
        temp.as_file().write_at(step, at)?;
        at += step.len() as u64;
    }
    let published = match files.fs.rename_no_replace(temp.path(), &path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            files.fs.create_dir(&files.layout.object_dir(digest))?;
            files.fs.rename_no_replace(temp.path(), &path)
        }
        done => done,
    }?;
    if published {
        tmp.published(temp);
        return Ok(Stored::New);
    }
    if is_equal(files, digest, bytes)? {
        return Ok(Stored::Adopted);
    }
    // What is there is damaged, or no file at all. Ours is made durable before it takes the place,
    // so that a power cut leaves one or the other.
    temp.as_file().sync()?;
    replace(files, temp.path(), digest)?;
    tmp.published(temp);
    Ok(Stored::New)
}

fn replace(files: &Files, from: &std::path::Path, digest: &Digest) -> io::Result<()> {
    let path = files.layout.object(digest);
    match files.fs.rename(from, &path) {
        Err(_) if files.fs.stat(&path).is_ok_and(|meta| meta.is_dir) => {
            files.fs.remove_tree(&path)?;
            files.fs.rename(from, &path)
        }
        done => done,
    }
}

/// Makes an object and its name durable; `false` if it is gone.
pub(super) fn sync(files: &Files, digest: &Digest) -> io::Result<bool> {
    // Windows syncs only what may be written to; there an object is no read-only file.
    let access = if cfg!(windows) {
        Access::Write
    } else {
        Access::Read
    };
    let Some(file) = open_for(files, digest, access)? else {
        return Ok(false);
    };
    file.sync()?;
    for dir in [files.layout.object_dir(digest), files.layout.objects()] {
        match files.fs.sync_dir(&dir) {
            // Cleared meanwhile.
            Err(e) if is_absent(&e) => return Ok(false),
            done => done?,
        }
    }
    Ok(true)
}

/// Writes an object that could not be synced anew, if its bytes are still to be had, and makes
/// that durable: a sync that failed is never just repeated.
pub(super) fn rewrite(files: &Files, tmp: &TempFolder, digest: &Digest) -> io::Result<()> {
    let length = files.fs.stat(&files.layout.object(digest))?.id.len;
    let Loaded::Artifact(artifact) = load(files, (digest, length), false, None)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let temp = tmp.file(files, Access::CreateReadOnly)?;
    temp.as_file().write_at(artifact.as_slice(), 0)?;
    temp.as_file().sync()?;
    replace(files, temp.path(), digest)?;
    tmp.published(temp);
    files.fs.sync_dir(&files.layout.object_dir(digest))?;
    files.fs.sync_dir(&files.layout.objects())
}

/// Unlinks an object; tells whether it was there.
pub(super) fn unlink(files: &Files, digest: &Digest) -> io::Result<bool> {
    let path = files.layout.object(digest);
    match files.fs.remove_file(&path) {
        Ok(()) => Ok(true),
        Err(_) if files.fs.stat(&path).is_ok_and(|meta| meta.is_dir) => {
            files.fs.remove_tree(&path)?;
            Ok(true)
        }
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Calls `each` for every object, by the name alone.
pub(super) fn for_each(files: &Files, mut each: impl FnMut(Digest)) -> io::Result<()> {
    let dirs = match files.fs.read_dir(&files.layout.objects()) {
        Err(e) if is_absent(&e) => return Ok(()),
        dirs => dirs?,
    };
    for dir in dirs {
        let Ok(names) = files.fs.read_dir(&files.layout.objects().join(&dir)) else {
            continue;
        };
        names
            .iter()
            .filter_map(|name| Layout::object_digest(&dir, name))
            .for_each(&mut each);
    }
    Ok(())
}
