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
use crate::sync::{Arc, Ordering};
use std::io;
use std::path::{Path, PathBuf};

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
const OPEN: &str = "open a cache directory for reading only";

const OPEN_THERE: &str = "open a cache directory";

/// Resolves every symlink on the way to a root that is there.
pub(super) fn find_root(path: &Path, read_only: bool) -> Result<PathBuf> {
    check_path(path)?;
    path.canonicalize()
        .map_err(|e| Error::io(action(read_only), path, e))
}

/// Sees whether a root is a directory of this format.
pub(super) fn find_base(files: &Files) -> Result<()> {
    let base = files.layout.base();
    let action = action(files.read_only);
    match files.fs.stat(base) {
        Ok(meta) if meta.is_dir => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::NotADirectory, action).with_path(base)),
        Err(e) => Err(Error::io(action, base, e)),
    }
}

fn action(read_only: bool) -> &'static str {
    if read_only { OPEN } else { OPEN_THERE }
}

/// Opens a directory that is there.
pub(super) fn open(files: Files, limits: Limits) -> Result<DiskStore> {
    find_base(&files)?;
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
            if self.is_expired(&binding.envelope) {
                // As would be whatever is older.
                return Ok(Look::Nothing);
            }
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

#[cfg(test)]
mod tests {
    use super::super::DiskStoreBuilder;
    use super::*;
    use crate::store::Store;
    use crate::sys::real::RealFs;
    use crate::sys::spy::{Notes, SpyFs};
    use crate::sys::trust::Trust;
    use crate::sys::{Access, FileSystem};

    fn key(n: u64) -> Fingerprint {
        Fingerprint::builder("read only")
            .field("n", n.to_le_bytes())
            .finish()
    }

    fn content(n: u64) -> Vec<u8> {
        let len = if n % 4 == 0 { 300_000 } else { 300 };
        vec![u8::try_from(n % 200).unwrap(); len]
    }

    /// A directory with 40 entries, of which some share content, and one that is damaged.
    fn filled() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let store = DiskStore::open(&root).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        for n in 0..40 {
            let _ = store.put(&key(n), content(n / 2 * 2).into()).unwrap();
        }
        store.flush().unwrap();
        let digest = crate::Digest::of(&content(36));
        let object = store.inner.files.layout.object(&digest);
        drop(store);
        std::fs::remove_file(&object).unwrap();
        std::fs::write(&object, content(2)).unwrap();
        (dir, root)
    }

    fn spied(root: &Path) -> (DiskStore, Notes) {
        let notes = Notes::default();
        let fs = SpyFs(RealFs::UNCHECKED, Arc::clone(&notes));
        let builder = DiskStoreBuilder::default().read_only(true);
        let store = builder.open_with(root.to_path_buf(), Arc::new(fs)).unwrap();
        (store, notes)
    }

    #[test]
    fn no_call_that_changes_or_locks_anything_is_even_tried() {
        let (_dir, root) = filled();
        let index = root.join("v1/index");
        for state in ["whole", "flagged as being rebuilt", "damaged", "gone"] {
            match state {
                "flagged as being rebuilt" => {
                    let file = RealFs::UNCHECKED.open(&index, Access::Write).unwrap();
                    let at = Field::Flags.offset();
                    file.write_at(&REBUILDING.to_ne_bytes(), at).unwrap();
                }
                "damaged" => std::fs::write(&index, b"nothing").unwrap(),
                "gone" => std::fs::remove_file(&index).unwrap(),
                _ => {}
            }
            let (store, notes) = spied(&root);
            for n in 0..40 {
                let found = store.get(&key(n)).unwrap();
                let found = found.map(|entry| entry.artifact.to_vec());
                let expected = (n / 2 != 18).then(|| content(n / 2 * 2));
                assert!(found == expected, "{state}: {n}");
            }
            assert!(store.get(&key(99)).unwrap().is_none());
            assert!(store.contains(&key(1)).unwrap() && !store.is_rebuilding());
            assert!(
                store.stats().corrupt >= 2 && store.stats().entries == 40,
                "{state}"
            );
            let outcome = store.put(&key(1), vec![1].into()).unwrap();
            assert!(outcome.is_rejected() && outcome.displaced[0].entry.artifact[..] == [1]);
            let _ = store.put(&key(99), vec![1].into()).unwrap();
            assert!(!store.contains(&key(99)).unwrap());
            let is_refused = |e: Error| e.kind() == ErrorKind::ReadOnly;
            assert!(store.remove(&key(1)).is_err_and(is_refused));
            assert!(!store.remove(&key(99)).unwrap());
            assert!(store.clear().is_err_and(is_refused));
            assert!(store.register_namespace("new").is_err_and(is_refused));
            store.touch(&[key(1), key(99)]).unwrap();
            store.flush().unwrap();
            assert!(store.durability().survives_a_power_cut());
            drop(store);
            let notes = notes.lock().unwrap();
            assert!(notes.is_empty(), "{state}: {notes:?}");
        }
    }

    #[test]
    fn an_index_that_is_being_rebuilt_still_tells_last_uses() {
        let (_dir, root) = filled();
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        let then = std::time::SystemTime::now() - day;
        let store = DiskStore::open(&root).unwrap();
        let _ = store.put_used_at(&key(50), vec![1].into(), then).unwrap();
        drop(store);
        let index = root.join("v1/index");
        let file = RealFs::UNCHECKED.open(&index, Access::Write).unwrap();
        let at = Field::Flags.offset();
        file.write_at(&REBUILDING.to_ne_bytes(), at).unwrap();
        let used = || {
            let store = spied(&root).0;
            assert!(store.inner.index().as_private().is_some());
            store.info(&key(50)).unwrap().unwrap().last_used
        };
        assert_eq!(used(), then);
        // Where nobody knows, it was used when it was bound.
        std::fs::remove_file(&index).unwrap();
        assert!(used() > then + day / 2);
    }

    #[test]
    fn a_call_that_fails_is_an_error_or_a_miss_and_nothing_is_tried_in_its_place() {
        use crate::sys::fault::{FaultFs, Plan};
        const EIO: i32 = 5;
        let (_dir, root) = filled();
        for index in ["whole", "gone"] {
            if index == "gone" {
                std::fs::remove_file(root.join("v1/index")).unwrap();
            }
            let mut n = 0;
            loop {
                n += 1;
                let plan = Arc::new(Plan::default());
                plan.fail(n, n % 2 == 0, EIO);
                let fs = Arc::new(FaultFs::real(&plan));
                let builder = DiskStoreBuilder::default().read_only(true);
                let opened = builder.open_with(root.clone(), fs);
                let look = |store: &DiskStore, must: bool| {
                    for k in (0..36).step_by(3) {
                        let found = store.get(&key(k)).ok().flatten();
                        let found = found.map(|entry| entry.artifact.to_vec());
                        assert!(!must || found.is_some(), "{index}: {n}: {k}");
                        assert!(found.is_none_or(|found| found == content(k / 2 * 2)));
                    }
                };
                opened.as_ref().map(|store| look(store, false)).ok();
                let failed = plan.stop() > 0;
                opened.as_ref().map(|store| look(store, true)).ok();
                if !failed {
                    opened.unwrap();
                    break;
                }
            }
            assert!(n > 15, "{index}: only {n} calls were counted");
        }
    }

    #[test]
    fn the_spy_sees_what_a_store_that_writes_does() {
        let (_dir, root) = filled();
        let notes = Notes::default();
        let fs = SpyFs(RealFs::UNCHECKED, Arc::clone(&notes));
        let store = DiskStoreBuilder::default().open_with(root, Arc::new(fs));
        let _ = store.unwrap().put(&key(77), vec![1].into()).unwrap();
        let notes = notes.lock().unwrap().join(", ");
        for call in ["open for writing", "write", "lock", "unlock"] {
            assert!(notes.contains(call), "{call}: {notes}");
        }
    }

    #[test]
    fn the_file_system_of_a_read_only_store_refuses_what_would_change_something() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (file, other) = (root.join("file"), root.join("other"));
        std::fs::write(&file, b"x").unwrap();
        let fs = RealFs::read_only(Trust::Anyone);
        assert!(
            fs.open(&file, Access::Read)
                .unwrap()
                .write_at(b"y", 0)
                .is_err()
        );
        let refused = [
            fs.open(&file, Access::Write).map(drop),
            fs.open(&file, Access::Create).map(drop),
            fs.open(&other, Access::CreateNew).map(drop),
            fs.open(&other, Access::CreateReadOnly).map(drop),
            fs.create_dir(&other),
            fs.rename(&file, &other),
            fs.rename_no_replace(&file, &other).map(drop),
            fs.remove_file(&file),
            fs.remove_tree(&file),
            fs.sync_dir(&root),
        ];
        for (i, done) in refused.into_iter().enumerate() {
            let kind = done.unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::ReadOnlyFilesystem, "{i}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 1);
    }
}
