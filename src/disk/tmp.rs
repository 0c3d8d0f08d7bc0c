//! The folder in `tmp/` where a handle writes what it is about to publish.
//!
//! A lock on the file `alive` in it shows that its owner lives; folders whose lock can be had are
//! left over from a process that died, and are removed.

use super::layout::Layout;
use super::pack::{Files, is_absent, random_bytes};
use crate::hex;
use crate::sync::{Arc, Mutex};
use crate::sys::{Access, RawFile};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// A folder without a lock file is left alone for this long: its owner may be making one.
const GRACE: Duration = Duration::from_secs(3600);
/// How many folders may be taken for left over while they are made: each costs a sweeper its luck.
const TRIES: usize = 64;
const POISON: &str =
    "the lock of keepwarm's temporary folder is poisoned: a thread panicked under it";

/// A file being written; it is removed when dropped unless it was published.
pub(super) type TempFile = NamedTempFile<Arc<dyn RawFile>>;

/// This handle's folder, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct TempFolder(Mutex<Option<Folder>>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// Holds the lock.
    alive: Arc<dyn RawFile>,
}

impl TempFolder {
    /// A new file in the folder.
    pub(super) fn file(&self, files: &Files, access: Access) -> io::Result<TempFile> {
        let folder = self.path(files)?;
        let make = |folder: &Path| {
            tempfile::Builder::new()
                .prefix("")
                .make_in(folder, |path| files.fs.open(path, access))
        };
        match make(&folder) {
            // Somebody deleted the folder (and perhaps all of the directory).
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.0.lock().expect(POISON).take();
                make(&self.path(files)?)
            }
            made => made,
        }
    }

    /// A name in the folder that nothing has.
    pub(super) fn unused_name(&self, files: &Files) -> io::Result<PathBuf> {
        let mut folder = self.path(files)?;
        if files.fs.stat(&folder).is_err() {
            // Somebody deleted it.
            self.0.lock().expect(POISON).take();
            folder = self.path(files)?;
        }
        Ok(folder.join(hex::text(&random_bytes()[..8])))
    }

    /// Tells that a file was renamed, so that there is nothing to remove.
    #[expect(
        clippy::unused_self,
        reason = "reads as a step in the life of a file of this folder"
    )]
    pub(super) fn published(&self, temp: TempFile) {
        let (_, mut path) = temp.into_parts();
        path.disable_cleanup(true);
    }

    fn path(&self, files: &Files) -> io::Result<PathBuf> {
        let mut folder = self.0.lock().expect(POISON);
        if let Some(folder) = &*folder {
            return Ok(folder.path.clone());
        }
        let made = create(files)?;
        Ok(folder.insert(made).path.clone())
    }

    /// Removes the folder. Only for the process that made it.
    pub(super) fn remove(&self, files: &Files) {
        if let Some(folder) = self.0.lock().expect(POISON).take() {
            let names = files.fs.read_dir(&folder.path);
            let is_empty = names.is_ok_and(|names| names.len() <= 1);
            // Best effort: what stays is swept by the next process.
            remove_durably(files, &folder.path, is_empty);
            folder.alive.unlock().ok();
        }
    }

    /// Gives the folder up without touching it: it belongs to the parent of this process.
    pub(super) fn forget(&self) {
        if let Ok(mut folder) = self.0.lock() {
            folder.take();
        }
    }
}

fn create(files: &Files) -> io::Result<Folder> {
    files.fs.create_dir(&files.layout.tmp())?;
    for _ in 0..TRIES {
        let path = files.layout.tmp().join(hex::text(&random_bytes()[..12]));
        files.fs.create_dir(&path)?;
        let name = Layout::alive(&path);
        let alive = files.fs.open(&name, Access::CreateNew)?;
        // A sweeper may have had the lock first; then the folder is its to remove, or removed already.
        if alive.try_lock()? && is_named(files, &*alive, &name)? {
            return Ok(Folder { path, alive });
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn is_named(files: &Files, file: &dyn RawFile, name: &Path) -> io::Result<bool> {
    match files.fs.stat(name) {
        Ok(named) => Ok(file.meta()?.same_file(&named)),
        Err(e) if is_absent(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes what dead processes left in `tmp/`. Best effort.
pub(super) fn sweep(files: &Files) {
    let Ok(names) = files.fs.read_dir(&files.layout.tmp()) else {
        return;
    };
    for name in names {
        remove_if_left(files, &files.layout.tmp().join(name));
    }
}

fn remove_if_left(files: &Files, path: &Path) {
    let lock = match files.fs.open(&Layout::alive(path), Access::Write) {
        Ok(alive) if alive.try_lock().unwrap_or(false) => Some(alive),
        Err(e) if is_absent(&e) && is_old(files, path) => None,
        _ => return,
    };
    remove_durably(files, path, false);
    // Not before: whoever is just making the folder would take a lock that was let go for a sign that it
    // is its own, and see it removed with what it writes there.
    drop(lock);
}

/// Removes a folder; what a clear has moved there, that was killed or failed, only once that is durable: see there.
fn remove_durably(files: &Files, path: &Path, is_empty: bool) {
    if is_empty || files.fs.sync_dir(files.layout.base()).is_ok() {
        files.fs.remove_tree(path).ok();
    }
}

fn is_old(files: &Files, path: &Path) -> bool {
    files.fs.stat(path).is_ok_and(|meta| {
        let age = meta
            .modified
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        !meta.is_dir || age.is_some_and(|age| age > GRACE)
    })
}
