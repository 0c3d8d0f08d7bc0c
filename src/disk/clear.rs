//! Clearing: objects and packs are moved aside as a whole, and deleted once that is durable.

use super::counters::Counters;
use super::header::Field;
use super::index::{Index, NewIndex};
use super::inner::{Inner, Locked};
use super::pack::Pack;
use super::pending::Names;
use crate::error::Result;
use std::io;
use std::mem;
use std::path::PathBuf;

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";

impl Inner {
    /// Unbinds every key and frees the space.
    ///
    /// Writers that appended to a pack which is not there any more notice when they index, and
    /// append again: to them the clear came first.
    pub(super) fn clear(&self) -> Result<()> {
        let io = |e| self.error("clear the cache", e);
        let mut locked = self.locked()?;
        // Before anything moves: writers then see that their packs may be gone, whatever happens
        // to this process.
        locked.index.add(Field::Epoch, 1).map_err(io)?;
        let mut aside = Vec::new();
        // From here on, whatever comes of it, folders may be new.
        self.pending.lock().expect(POISON).names = Names::Directory;
        // Objects first: who dies in between leaves bindings without objects, which are misses, and not
        // objects that nothing names, which take space until a sweep finds them old.
        for folder in [self.files.layout.objects(), self.files.layout.packs()] {
            let to = self.tmp.unused_name(&self.files).map_err(io)?;
            match self.files.fs.rename(&folder, &to) {
                Ok(()) => aside.push(to),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // Windows renames no folder with open files in it: then file by file.
                Err(_) if !cfg!(unix) => self.remove_files(&folder),
                Err(e) => return Err(io(e)),
            }
        }
        let new = match self.start_over(&locked) {
            // A full disk: what was moved aside makes room, now rather than later.
            Err(_) => {
                self.delete(mem::take(&mut aside));
                self.start_over(&locked)?
            }
            Ok(new) => new,
        };
        locked.index = self.install(new);
        {
            // What other threads write into the new folders at this moment stays pending.
            let mut pending = self.pending.lock().expect(POISON);
            let is_there = |pack: &Pack| pack.is_named(&self.files).unwrap_or(true);
            pending.packs.retain(|_, pack| is_there(pack));
            self.unsynced.lock().expect(POISON).forget_but(&pending);
            (pending.names, pending.index) = (Names::Directory, true);
        }
        self.recency.forget();
        let given_up = mem::take(&mut *self.pool.lock().expect(POISON));
        self.packs.write().expect(POISON).clear();
        drop(locked);
        drop(given_up);
        self.delete(aside);
        Ok(())
    }

    /// Deletes what was moved aside. What cannot be deleted now is swept with the temporary folder.
    fn delete(&self, aside: Vec<PathBuf>) {
        // A power cut that undoes the clear must not find half of the packs gone: what is dead in one
        // stands for marks in others, which may not be durable.
        if self.files.fs.sync_dir(self.files.layout.base()).is_err() {
            return Counters::add(&self.counters.maintenance_errors, 1);
        }
        for folder in aside {
            self.files.fs.remove_tree(&folder).ok();
        }
    }

    /// Makes empty folders and publishes an empty index. The caller holds the lock.
    fn start_over(&self, locked: &Locked<'_>) -> Result<Index> {
        let io = |e| self.error("clear the cache", e);
        self.make_directories()?;
        let new = self.publish(&NewIndex {
            flags: 0,
            totals: Some(&locked.index),
            ..NewIndex::empty()
        })?;
        for field in [
            Field::Entries,
            Field::Used,
            Field::DiskBytes,
            Field::Garbage,
        ] {
            new.set_field(field, 0).map_err(io)?;
        }
        new.add(Field::Epoch, 1).map_err(io)?;
        Ok(new)
    }

    fn remove_files(&self, folder: &std::path::Path) {
        for name in self.files.fs.read_dir(folder).unwrap_or_default() {
            self.files.fs.remove_tree(&folder.join(name)).ok();
        }
    }
}
