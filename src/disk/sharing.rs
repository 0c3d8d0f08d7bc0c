//! Who may use a directory, and what is checked of that when it is opened.

use super::pack::Files;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::FileSystem as _;
use crate::sys::real::RealFs;
use crate::sys::trust::{self, Trust};
use std::io;
use std::path::{Path, PathBuf};

/// Who else may write to a directory.
///
/// Whoever may write to it can put into it what they like (see `docs/safety.md`), so by default it
/// is for one user. What does not belong there is never used, whenever it comes to light: a file
/// of somebody else is as good as none, a folder of somebody else is an error of kind
/// [`Untrusted`](crate::ErrorKind::Untrusted). The superuser is no exception, neither as the one
/// who opens nor as the one who owns.
///
/// Only Unix has the owners and modes that are checked; elsewhere, and in access control lists
/// that name further users, nothing is. A [read-only](crate::DiskStoreBuilder::read_only) store
/// trusts the owner of the directory, whoever that is.
///
/// ```
/// use keepwarm::{DiskStore, Sharing};
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::builder().sharing(Sharing::Private).open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// Nobody: everything belongs to this user, folders are created with mode 0700, and a
    /// directory that its group or everybody may write to is refused.
    #[default]
    Private,
    /// The members of the directory's group, who all trust one another. Everything belongs to
    /// that group; whatever the umask, folders are created with mode 2770 and files with 0660 or
    /// 0440. The directory itself may be owned by any of them, or by an administrator, and nobody
    /// outside the group may write to it. Where it is created, it is for the group of the process;
    /// parents that are missing are created with mode 0755, less the umask.
    Group,
    /// Anybody who can: nothing is checked. For containers, in which user ids mean nothing, and
    /// for places that others are kept out of in another way.
    Unchecked,
}

impl Sharing {
    /// Whom a handle of `root` trusts.
    pub(super) fn trust(self, root: &Path, read_only: bool) -> Result<Trust> {
        let trust = match self {
            Self::Private => trust::owner(root, read_only),
            Self::Group => trust::group(root),
            Self::Unchecked => Ok(Trust::Anyone),
        };
        trust.map_err(|e| Error::io("see whose the cache directory is", root, e))
    }
}

/// Creates the root and its parents where they are missing, and resolves every symlink on the way
/// to it.
pub(super) fn create_root(path: &Path, sharing: Sharing) -> Result<PathBuf> {
    check_path(path)?;
    // Most often it is there; that it is no folder is found out when it is opened.
    if let Ok(root) = path.canonicalize() {
        return Ok(root);
    }
    let io = |e: io::Error| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::NotADirectory, "create the cache directory").with_path(path)
        }
        _ => Error::io("create the cache directory", path, e),
    };
    let is_new = |dir: &&Path| !dir.as_os_str().is_empty() && dir.symlink_metadata().is_err();
    let new_parents = path.ancestors().skip(1).take_while(is_new).count();
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    if sharing == Sharing::Group {
        if let Some(new) = create_shared_root(path, &mut builder).map_err(io)? {
            sync_parents(&new, new_parents);
            return Ok(new);
        }
    }
    builder.create(path).map_err(io)?;
    let root = path.canonicalize().map_err(io)?;
    sync_parents(&root, new_parents);
    Ok(root)
}

/// Makes the names of a new root's parents durable, of which so many are new. Best effort: a journal that commits in
/// order does that with the root's own name, which is for the first flush.
fn sync_parents(root: &Path, new: usize) {
    for dir in root.ancestors().skip(2).take(new) {
        RealFs::new(Trust::Anyone).sync_dir(dir).ok();
    }
}

/// Creates a root that a group shares; `None` if something is there.
fn create_shared_root(
    path: &Path,
    builder: &mut std::fs::DirBuilder,
) -> io::Result<Option<PathBuf>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    if path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let mut parents = std::fs::DirBuilder::new();
    parents.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        // Others of the group have to get through.
        parents.mode(0o755);
    }
    parents.create(parent)?;
    let root = parent.canonicalize()?.join(name);
    match builder.recursive(false).create(&root) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            builder.recursive(true);
            Ok(None)
        }
        Err(e) => Err(e),
        Ok(()) => trust::share_root(&root).map(|()| Some(root)),
    }
}

/// Refuses an empty path: most often a variable that is set to nothing.
pub(super) fn check_path(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() {
        let action = "open a cache directory whose path is empty";
        return Err(Error::new(ErrorKind::InvalidConfig, action));
    }
    Ok(())
}

/// Sees whether the root and the folders that are there belong to those who are trusted.
pub(super) fn check_folders(files: &Files) -> Result<()> {
    let layout = &files.layout;
    let io = |dir: &Path, e| Error::io("use the cache directory", dir, e);
    files
        .fs
        .open_dir(layout.root())
        .map_err(|e| io(layout.root(), e))?;
    // What is missing is made when it is needed, and what is no folder found out then.
    let absent_or = |dir: &Path, e: io::Error| {
        let is_absent = super::pack::is_absent(&e);
        if is_absent { Ok(()) } else { Err(io(dir, e)) }
    };
    let base = match files.fs.open_dir(layout.base()) {
        Ok(base) => base,
        Err(e) => return absent_or(layout.base(), e),
    };
    for dir in [
        layout.packs(),
        layout.objects(),
        layout.tmp(),
        layout.builds(),
    ] {
        let name = dir.file_name().unwrap_or_default();
        // One call where it is as it should be; what else it may be tells a closer look.
        if base.is_trusted_dir(name) {
            continue;
        }
        if let Err(e) = files.fs.open_dir(&dir) {
            absent_or(&dir, e)?;
        }
    }
    Ok(())
}
