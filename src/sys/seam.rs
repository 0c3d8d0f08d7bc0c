//! What the disk tier asks of files: the traits of the seam, without an implementation, so that a
//! model checker can compile them beside files and mappings of its own.

use super::mapping::{ObjectMap, SharedMap};
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io;
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
}

impl Meta {
    /// Whether two looks saw the same file, whatever its length then. `true` where the platform
    /// gives files no identity.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        self.id.device == other.id.device && self.id.inode == other.id.inode
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
    /// In an open directory: what [`FileSystem::stat`] would say of a name in it. Unix only.
    fn stat_below(&self, name: &OsStr) -> io::Result<Meta>;
    /// Reads all of `buf`; `UnexpectedEof` if the file is shorter.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `buf`; on failure a part of it may be there.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the content (and the length) durable.
    fn sync(&self) -> io::Result<()>;
    /// Takes the exclusive advisory lock if nobody has it; never waits.
    fn try_lock(&self) -> io::Result<bool>;
    fn unlock(&self) -> io::Result<()>;
    fn map_shared(&self, len: usize) -> io::Result<SharedMap>;
    fn map_object(&self, len: usize) -> io::Result<ObjectMap>;
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
