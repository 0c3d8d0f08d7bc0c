//! A directory that is only read: nothing is written, locked, created or repaired.
//!
//! Three things see to that: files are opened for reading, whatever would take the directory's
//! lock is refused ([`Inner::locked`]), and the file system itself refuses every call that changes
//! something ([`RealFs::read_only`](crate::sys::real::RealFs::read_only)).

use super::DiskStore;
use super::counters::Counters;
use super::header::{BadHeader, Field, REBUILDING};
use super::index::{Found, Index};
use super::inner::{Inner, Limits};
use super::lookup::{Binding, Content};
use super::pack::Files;
use super::private;
use super::publish::{newer, open_index};
use super::sharing::check_path;
use crate::artifact::Artifact;
use crate::error::{Error, ErrorKind, Result};
use crate::events;
use crate::fingerprint::Fingerprint;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
const OPEN: &str = "open a cache directory for reading only";

/// Resolves every symlink on the way to a root that is there.
pub(super) fn find_root(path: &Path) -> Result<PathBuf> {
    check_path(path)?;
    path.canonicalize().map_err(|e| Error::io(OPEN, path, e))
}

/// Opens a directory that is there.
pub(super) fn open(files: Files, limits: Limits) -> Result<DiskStore> {
    let base = files.layout.base();
    match files.fs.stat(base) {
        Ok(meta) if meta.is_dir => {}
        Ok(_) => return Err(Error::new(ErrorKind::NotADirectory, OPEN).with_path(base)),
        Err(e) => return Err(Error::io(OPEN, base, e)),
    }
    let index = match open_index(&files)? {
        Found::Bad(BadHeader::Newer) => return Err(newer(&files)),
        Found::Index(index) if !index.has_flag(REBUILDING) => index,
        Found::Index(index) => walk(&files, Some(index))?,
        Found::Bad(BadHeader::Damaged) => walk(&files, None)?,
    };
    Ok(DiskStore::new(Inner::new(files, limits, index)))
}

fn walk(files: &Files, shared: Option<Index>) -> Result<Index> {
    private::build(files, shared)
        .map_err(|e| Error::io("read the packs of a directory", files.layout.packs(), e))
}

/// What one look-up saw.
enum Look {
    Found(Artifact, Binding),
    /// A slot led to nothing, or to what is not whole.
    Broken,
    Nothing,
}

impl Inner {
    /// The error of what would change something.
    pub(super) fn read_only(&self, action: &str) -> Error {
        let action = format!("{action} that is open for reading only");
        Error::new(ErrorKind::ReadOnly, action).with_path(self.files.layout.root())
    }

    /// The entry under `key`, verified, as [`get`](Self::get) finds it; but what is damaged stays,
    /// and the next older binding beside it is looked at, which is what a repair would leave.
    pub(super) fn get_read_only(&self, key: &Fingerprint) -> Result<Option<(Artifact, Binding)>> {
        let io = |e| self.error("look up a key", e);
        let index = self.live_index();
        match self.look_past_damage(&index, key, false).map_err(io)? {
            Look::Found(artifact, binding) => return Ok(Some((artifact, binding))),
            Look::Nothing if !self.is_time_to_look() => return Ok(None),
            Look::Broken | Look::Nothing => {}
        }
        // It may have moved, or another index may be at the path: once more.
        self.epoch.store(u64::MAX, Ordering::Relaxed);
        let index = self.refresh();
        self.drop_gone_packs();
        Ok(
            match self.look_past_damage(&index, key, true).map_err(io)? {
                Look::Found(artifact, binding) => Some((artifact, binding)),
                Look::Broken | Look::Nothing => None,
            },
        )
    }

    /// Damage is counted by the `last` look only: the first may have seen a change under way.
    fn look_past_damage(&self, index: &Index, key: &Fingerprint, last: bool) -> io::Result<Look> {
        let mut found = self.settled_bindings(index, key)?;
        if found.live.is_empty() && found.stale.is_empty() {
            return Ok(Look::Nothing);
        }
        while let Some(binding) = found.live.pop() {
            match self.load(index, &binding)? {
                Content::Artifact(artifact) => return Ok(Look::Found(artifact, binding)),
                _ if !last => break,
                Content::Corrupt => {
                    Counters::add(&self.counters.corrupt, 1);
                    let pack = self.files.layout.pack(binding.slot.place.pack());
                    events::corrupt(&pack, "content");
                }
                Content::Gone => {}
            }
        }
        Ok(Look::Broken)
    }

    /// Whether a private index may have a better one beside it by now.
    pub(super) fn is_private_outdated(&self, index: &Index) -> bool {
        let is_outdated = |private: &private::Private| private.is_outdated();
        index
            .as_private()
            .is_some_and(|private| is_outdated(private) || self.is_time_to_look())
    }

    /// Looks whether a better index is at the path.
    pub(super) fn refresh_read_only(&self) -> Arc<Index> {
        let index = self.index();
        let named = self.files.fs.stat(&self.files.layout.index());
        if named.as_ref().is_ok_and(|named| index.is(named)) {
            return index;
        }
        let found = match open_index(&self.files) {
            Ok(Found::Index(found)) => Some(found),
            Ok(Found::Bad(_)) | Err(_) => None,
        };
        let rebuilding = match found {
            Some(whole) if !whole.has_flag(REBUILDING) => return self.show(whole),
            other => other,
        };
        // Missing, damaged or being rebuilt: this reader goes on with what it has.
        let Some(private) = index.as_private() else {
            return index;
        };
        if private.is_worth_a_walk(&self.files) {
            if let Ok(walked) = private::build(&self.files, rebuilding) {
                return self.show(walked);
            }
            Counters::add(&self.counters.maintenance_errors, 1);
            return index;
        }
        match index.with_private(private.beside(rebuilding)) {
            Some(same) => self.show(same),
            None => index,
        }
    }

    fn show(&self, index: Index) -> Arc<Index> {
        let index = Arc::new(index);
        *self.index.write().expect(POISON) = Arc::clone(&index);
        self.epoch.store(u64::MAX, Ordering::Relaxed);
        self.drop_gone_packs();
        index
    }

    /// Nothing is removed: an error unless there is nothing to remove.
    pub(super) fn refuse_removal(&self, key: &Fingerprint) -> Result<bool> {
        let found = self.bindings(&self.live_index(), key);
        let found = found.map_err(|e| self.error("look up a key", e))?;
        if found.live.is_empty() {
            return Ok(false);
        }
        Err(self.read_only("remove a key of a directory"))
    }

    /// Nothing is cleared: an error unless there is nothing to clear.
    pub(super) fn refuse_clear(&self) -> Result<()> {
        if self.live_index().field(Field::Entries) == 0 {
            return Ok(());
        }
        Err(self.read_only("clear a directory"))
    }
}
