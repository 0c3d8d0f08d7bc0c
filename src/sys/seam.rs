//! What the disk tier asks of files: the traits of the seam, without an implementation, so that a
//! model checker can compile them beside files and mappings of its own.

use super::mapping::{ObjectMap, SharedMap};
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// Which file it is and how long, to notice that another one took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) len: u64,
}

/// What `fstat` or `lstat` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) id: FileId,
    /// Names the file has; 0 once it was unlinked. Always 1 where the platform does not tell.
    pub(crate) links: u64,
    /// A regular file, of somebody whom the directory [trusts](super::trust).
    pub(crate) is_file: bool,
    pub(crate) is_dir: bool,
    pub(crate) modified: Option<SystemTime>,
    /// When anything about the file was last changed, which nobody can set; `None` where the
    /// platform does not tell.
    pub(crate) changed: Option<SystemTime>,
}

impl Meta {
    /// Whether two looks saw the same file, whatever its length then. `true` where the platform
    /// gives files no identity.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        self.id.device == other.id.device && self.id.inode == other.id.inode
    }
}

impl Meta {
    /// Whether two looks saw the same file with, as far as its times tell, the same bytes in it.
    pub(crate) fn is_unchanged(&self, other: &Self) -> bool {
        self.id == other.id && self.modified == other.modified && self.changed == other.changed
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// For reading only.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; created (0600) if it is missing.
    Create,
    /// For reading and writing; must not exist yet (0600).
    CreateNew,
    /// As `CreateNew`, but nobody may write to it afterwards (0444).
    CreateReadOnly,
}

/// An open file. Dropping it gives up its lock.
pub(crate) trait RawFile: Debug + Send + Sync {
    fn meta(&self) -> io::Result<Meta>;
    /// In an open directory: what [`FileSystem::stat`] would say of a name in it, without times. Unix
    /// only.
    fn stat_below(&self, name: &OsStr) -> io::Result<Meta>;
    /// In an open directory: whether a name in it is a directory that is [trusted](super::trust).
    /// Where that cannot be told so, no.
    fn is_trusted_dir(&self, name: &OsStr) -> bool;
    /// Names the file has now, as in [`Meta`]. Unlike `meta` it asks for no times: Linux makes the
    /// write after a look at a file's times a dearer one.
    fn links(&self) -> io::Result<u64> {
        self.meta().map(|meta| meta.links)
    }
    /// What `meta` said when it was opened.
    fn meta_at_open(&self) -> io::Result<Meta> {
        self.meta()
    }
    /// Reads a part of `buf`, from its begin, and tells how much; zero only at the end of the file.
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes a part of `buf`, from its begin, and tells how much.
    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Writes a part of what `parts` hold one after the other, from its begin, and tells how much.
    fn write_some_of(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        // Where there is no call for it, a part after the other.
        let next = parts.iter().find(|part| !part.is_empty());
        next.map_or(Ok(0), |part| self.write_some(part, offset))
    }
    /// Makes the content (and the length) durable.
    fn sync(&self) -> io::Result<()>;
    /// Takes the exclusive advisory lock if nobody has it; never waits.
    fn try_lock(&self) -> io::Result<bool>;
    fn unlock(&self) -> io::Result<()>;
    fn map_shared(&self, len: usize) -> io::Result<SharedMap>;
    fn map_object(&self, len: usize) -> io::Result<ObjectMap>;
}

/// A read or write is interrupted this often in a row before it fails: nothing is repeated for ever.
const INTERRUPTIONS: usize = 1000;

impl dyn RawFile + '_ {
    /// Reads all of `buf`; `UnexpectedEof` if the file is shorter.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        transfer(buf.len(), io::ErrorKind::UnexpectedEof, |done| {
            self.read_some(&mut buf[done..], offset.saturating_add(done as u64))
        })
    }

    /// Writes all of `buf`; on failure a part of it may be there.
    pub(crate) fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        transfer(buf.len(), io::ErrorKind::WriteZero, |done| {
            self.write_some(&buf[done..], offset.saturating_add(done as u64))
        })
    }

    /// Writes all of `parts`, one after the other; on failure some of it may be there.
    pub(crate) fn write_all_at(
        &self,
        mut parts: &mut [IoSlice<'_>],
        offset: u64,
    ) -> io::Result<()> {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut before = 0;
        transfer(len, io::ErrorKind::WriteZero, |done| {
            IoSlice::advance_slices(&mut parts, done - before);
            before = done;
            self.write_some_of(parts, offset.saturating_add(done as u64))
        })
    }
}

/// Calls `some` with what is done until `len` bytes are; `end` is the error where it does nothing.
fn transfer(
    len: usize,
    end: io::ErrorKind,
    mut some: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    let (mut done, mut interruptions) = (0, 0);
    while done < len {
        match some(done) {
            Ok(0) => return Err(end.into()),
            Ok(n) => (done, interruptions) = (done.saturating_add(n), 0),
            Err(e) if e.kind() == io::ErrorKind::Interrupted && interruptions < INTERRUPTIONS => {
                interruptions += 1;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The file system below one root.
pub(crate) trait FileSystem: Debug + Send + Sync {
    /// Opens a regular file; anything else, a stranger's included, is `InvalidInput`. Waits for no
    /// FIFO.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn RawFile>>;
    /// Opens a directory, to lock it (Unix) or to see whether it is [trusted](super::trust).
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn RawFile>>;
    /// Creates a directory (0700, or for a group to share); one that exists and is
    /// [trusted](super::trust) is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn stat(&self, path: &Path) -> io::Result<Meta>;
    /// As `stat`, with as few system calls as there can be, so that a symlink on the way may be
    /// followed, and without times: only to see whether what is open is what the path leads to.
    fn glance(&self, path: &Path) -> io::Result<Meta>;
    /// Which start of the machine this is, never 0; `None` where the system does not say.
    fn boot(&self) -> Option<u64> {
        let id = super::boot_id()?;
        let hash = blake3::hash(&id);
        Some(crate::hex::words(hash.as_bytes())[0] | 1)
    }
    /// The names in a directory.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Renames, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames unless something is there; `false` if so.
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<bool>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it, following no symlink.
    fn remove_tree(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}
