//! Notes: small named files that tools keep in the directory, beside what is cached.
//!
//! A note is written aside, synced and renamed, so a reader sees one version of it or another, whole.

use super::DiskStore;
use super::inner::Inner;
use super::layout::Layout;
use super::pack::is_absent;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::sys::Access;
use std::io;
use std::path::PathBuf;

/// A note may be this long, in bytes.
const LONGEST: usize = 1 << 20;

impl DiskStore {
    /// The note called `name`; `None` if there is none. What no [`set_note`](Self::set_note) can have
    /// written counts as none: a name of another form, something longer, no file at all.
    ///
    /// Whoever may write to the directory may write any note: check what it says.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// assert_eq!(store.note("my-tool.history")?, None);
    /// store.set_note("my-tool.history", b"began")?;
    /// assert_eq!(store.note("my-tool.history")?.as_deref(), Some(&b"began"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.inner.files.layout.note(name) else {
            return Ok(None);
        };
        let read = || {
            let file = self.inner.files.fs.open(&path, Access::Read)?;
            let length = file.meta()?.id.len;
            let length = usize::try_from(length).ok().filter(|n| *n <= LONGEST);
            let mut bytes = vec![0; length.ok_or(io::ErrorKind::InvalidInput)?];
            file.read_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            // Nobody changes a note in place: one that is shorter than it said is none.
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(Error::io("read a note", &path, e)),
        }
    }

    /// Keeps a small note in the directory, in place of the one of that name, for tools that go
    /// with it: it is no part of the budget, and a [`clear`](crate::Store::clear) leaves it. It is
    /// durable when this returns.
    ///
    /// A name has 1 to 100 characters: ASCII letters and digits, `.`, `-` and `_`, not beginning with
    /// `.`. Begin it with the name of your tool, and let names differ in more than case.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for another name, and for more than a mebibyte; and if the
    /// directory cannot be written.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.set_note("my-tool.history", b"began")?;
    /// assert!(store.set_note("../elsewhere", b"").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_note(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.inner.note_path(name)?;
        if bytes.len() > LONGEST {
            let action = format!("keep a note of more than {LONGEST} bytes");
            return Err(Error::new(ErrorKind::InvalidConfig, action).with_path(path));
        }
        // Also the check that this process may write.
        drop(self.inner.locked()?);
        self.inner
            .write_note(&path, bytes)
            .map_err(|e| Error::io("write a note", &path, e))
    }

    /// Removes the note called `name`; tells whether there was one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for what is no name of a note; and if the directory cannot be
    /// written.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.set_note("my-tool.history", b"began")?;
    /// assert!(store.remove_note("my-tool.history")?);
    /// assert!(!store.remove_note("my-tool.history")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_note(&self, name: &str) -> Result<bool> {
        let path = self.inner.note_path(name)?;
        drop(self.inner.locked()?);
        match self.inner.files.fs.remove_file(&path) {
            Ok(()) => Ok(true),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(Error::io("remove a note", &path, e)),
        }
    }

    /// The names of all notes, in order.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.set_note("my-tool.history", b"began")?;
    /// assert_eq!(store.notes()?, ["my-tool.history"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn notes(&self) -> Result<Vec<String>> {
        let folder = self.inner.files.layout.notes();
        let names = match self.inner.files.fs.read_dir(&folder) {
            Err(e) if is_absent(&e) => Vec::new(),
            names => names.map_err(|e| Error::io("list the notes", &folder, e))?,
        };
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        let mut names: Vec<_> = names.filter(|name| Layout::is_note(name)).collect();
        names.sort_unstable();
        Ok(names)
    }
}

impl Inner {
    fn note_path(&self, name: &str) -> Result<PathBuf> {
        self.files.layout.note(name).ok_or_else(|| {
            let action = format!(
                "use {name:?} as the name of a note: 1 to 100 of A-Z, a-z, 0-9, '.', '-' and '_', \
                 not beginning with '.'"
            );
            Error::new(ErrorKind::InvalidConfig, action)
        })
    }

    fn write_note(&self, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
        let folder = self.files.layout.notes();
        self.files.fs.create_dir(&folder)?;
        let temp = self.tmp.file(&self.files, Access::CreateNew)?;
        let file = Arc::clone(temp.as_file());
        file.write_at(bytes, 0)?;
        // Before it has the name: a power cut must not leave an empty note in place of a whole one.
        file.sync()?;
        self.files.fs.rename(temp.path(), path)?;
        self.tmp.published(temp);
        self.files.fs.sync_dir(&folder)?;
        self.files.fs.sync_dir(self.files.layout.base())?;
        // The directory may be new, and nobody has flushed into it.
        let root = self.files.layout.root();
        self.files.fs.sync_dir(root)?;
        if let Some(parent) = root.parent() {
            // It may not be readable; the name was there before us then.
            self.files.fs.sync_dir(parent).ok();
        }
        Ok(())
    }
}
