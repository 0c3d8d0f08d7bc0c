//! Making, growing and replacing the index: a table is built aside and renamed into its place.

use super::counters::Counters;
use super::header::{BadHeader, Field, REBUILDING, RETIRING};
use super::index::{Found, Index, NewIndex};
use super::inner::{Inner, Locked};
use super::pack::{Files, is_absent, list};
use super::rebuild::newest;
use super::table::HeapTable;
use super::tmp::TempFolder;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Arc;
use crate::sys::Access;
use std::io;

/// Two full buckets are a reason to grow a table that has more than this many slots a bucket.
const CROWDED: u64 = 4;

/// What is at the index's path.
pub(super) fn open_index(files: &Files) -> Result<Found> {
    let path = files.layout.index();
    let io = |e| Error::io("open the index", &path, e);
    let file = match files.fs.open(&path, files.access()) {
        Ok(file) => file,
        Err(e) if is_absent(&e) => return Ok(Found::Bad(BadHeader::Damaged)),
        Err(e) => return Err(io(e)),
    };
    match Index::open(file, files.map, files.check.id()) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Found::Bad(BadHeader::Damaged)),
        found => found.map_err(io),
    }
}

/// Writes an index to a temporary file and renames it into its place.
pub(super) fn publish_index(
    files: &Files,
    tmp: &TempFolder,
    new: &NewIndex<'_>,
) -> io::Result<Index> {
    let temp = tmp.file(files, Access::CreateNew)?;
    // The first table of a directory knows all there is: nothing binds but under the lock.
    let is_first = new.totals.is_none() && list(files).is_ok_and(|packs| packs.is_empty());
    let flags = new.flags & if is_first { !REBUILDING } else { u64::MAX };
    // A table that does not know every record yet must give out no number below theirs: what is put
    // until it does would be taken for older than what it replaces.
    let knows_all = flags & REBUILDING == 0;
    let floor = if knows_all { 0 } else { newest(files) };
    Index::write_new(&**temp.as_file(), &NewIndex { flags, ..*new }, floor)?;
    let file = Arc::clone(temp.as_file());
    let Found::Index(index) = Index::open(file, files.map, files.check.id())? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    if let Some(totals) = new.totals {
        index.carry(totals)?;
        index.raise_generation(floor)?;
        index.sync()?;
    }
    // Marked before it loses its name: were it marked afterwards, a process that dies in between
    // would leave readers with it for as long as they find what they look for.
    if let Some(old) = new.totals {
        old.set_flag(RETIRING, true)?;
    }
    let path = files.layout.index();
    let renamed = match files.fs.rename(temp.path(), &path) {
        Err(_) if files.fs.stat(&path).is_ok_and(|meta| meta.is_dir) => files
            .fs
            .remove_tree(&path)
            .and_then(|()| files.fs.rename(temp.path(), &path)),
        done => done,
    };
    if let (Err(_), Some(old)) = (&renamed, new.totals) {
        // If this fails too, the next who takes the lock does it.
        old.set_flag(RETIRING, false).ok();
    }
    renamed?;
    tmp.published(temp);
    Ok(index)
}

pub(super) fn newer(files: &Files) -> Error {
    Error::new(
        ErrorKind::UnsupportedFormat,
        "read an index of a newer format version",
    )
    .with_path(files.layout.index())
}

impl Inner {
    /// Builds an index aside and puts it in its place. The caller holds the lock.
    pub(super) fn publish(&self, new: &NewIndex<'_>) -> Result<Index> {
        publish_index(&self.files, &self.tmp, new)
            .map_err(|e| Error::io("write the index", self.files.layout.index(), e))
    }

    /// Doubles the table if it is as loaded as its header says. The caller holds the lock.
    pub(super) fn grow_if_loaded(&self, locked: &mut Locked<'_>) -> Result<()> {
        self.recount_slots(&locked.index)?;
        if !locked.index.is_loaded() {
            return Ok(());
        }
        let buckets = locked.index.buckets().saturating_mul(2);
        self.copy_index(locked, buckets, 0)
    }

    /// Makes room where two buckets are full. The caller holds the lock.
    ///
    /// A table with few slots has full buckets only by damage or malice: it is written anew
    /// without what does not belong, but does not grow.
    pub(super) fn make_room(&self, locked: &mut Locked<'_>) -> Result<()> {
        let used = self.recount_slots(&locked.index)?;
        let buckets = locked.index.buckets();
        let doubled = u64::from(used > buckets.saturating_mul(CROWDED)) + 1;
        self.copy_index(locked, buckets.saturating_mul(doubled), 0)
    }

    /// The count of slots in the header is a hint, which damage must not turn into a huge table.
    fn recount_slots(&self, index: &Index) -> Result<u64> {
        let io = |e| Error::io("count the slots of the index", self.files.layout.index(), e);
        let mut used = 0;
        index.for_each(|_, _| used += 1).map_err(io)?;
        index.set_field(Field::Used, used).map_err(io)?;
        Ok(used)
    }

    /// Writes the table anew, with at least `buckets` buckets and with `flag` set. The caller
    /// holds the lock.
    pub(super) fn copy_index(
        &self,
        locked: &mut Locked<'_>,
        mut buckets: u64,
        flag: u64,
    ) -> Result<()> {
        let old = Arc::clone(&locked.index);
        let io = |e| Error::io("copy the index", self.files.layout.index(), e);
        let largest = buckets.saturating_mul(4);
        let (table, used) = loop {
            let too_large = || io(io::ErrorKind::OutOfMemory.into());
            let mut table = HeapTable::new(buckets).ok_or_else(too_large)?;
            let (mut used, mut left_out) = (0, Vec::new());
            old.for_each(|at, slot| {
                // Only damage puts a slot where nobody looks for it.
                if !slot.hash.buckets(old.buckets()).contains(&at.bucket) {
                } else if table.insert(&slot) {
                    used += 1;
                } else {
                    left_out.push(slot);
                }
            })
            .map_err(io)?;
            if left_out.is_empty() {
                break (table, used);
            }
            // No table is large enough for slots that are all alike: the oldest are left out.
            if buckets >= largest {
                for slot in &left_out {
                    table.insert_over_older(slot);
                }
                break (table, used);
            }
            buckets = buckets.saturating_mul(2);
        };
        let flags = old.flags().map_err(io)? & !RETIRING | flag;
        self.replace_index(locked, buckets, flags, Some(&table))?;
        locked.index.set_field(Field::Used, used).map_err(io)
    }

    /// Puts a table with the totals of the old one in its place, durably. The caller holds the lock.
    pub(super) fn replace_index(
        &self,
        locked: &mut Locked<'_>,
        buckets: u64,
        flags: u64,
        table: Option<&HeapTable>,
    ) -> Result<()> {
        let old = Arc::clone(&locked.index);
        let totals = Some(&*old);
        let new = self.publish(&NewIndex {
            buckets,
            flags,
            seed: old.seed(),
            table,
            totals,
        })?;
        // In use from the rename on.
        locked.index = self.install(new);
        // A power cut may bring the old table back until then, and file systems that do not order data
        // (ext4 with `data=writeback`) give its blocks to others as soon as nobody has it open. If this
        // fails, the next flush of every handle that installs it does so.
        match self.files.fs.sync_dir(self.files.layout.base()) {
            Ok(()) => locked.index.named_durably(),
            Err(_) => Counters::add(&self.counters.maintenance_errors, 1),
        }
        drop(old);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::builder::DiskStoreBuilder;
    use crate::sys::real::RealFs;
    use crate::sys::spy::{Notes, SpyFs};
    use std::sync::Arc;

    /// Else a power cut might bring the old table back, when others have its blocks.
    #[test]
    fn a_table_that_is_replaced_is_open_until_the_name_of_the_new_one_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let notes = Notes::default();
        let fs = SpyFs(RealFs::UNCHECKED, Arc::clone(&notes));
        let store = DiskStoreBuilder::default()
            .open_with(root.clone(), Arc::new(fs))
            .unwrap();
        let mut locked = store.inner.locked().unwrap();
        let old = Arc::downgrade(&locked.index);
        notes.lock().unwrap().clear();
        store.inner.copy_index(&mut locked, 1024, 0).unwrap();
        assert_eq!(locked.index.buckets(), 1024);
        assert!(old.upgrade().is_none(), "nobody else has it");
        let notes = notes.lock().unwrap();
        let renamed = notes.iter().position(|note| note.starts_with("rename"));
        let synced = format!("sync {}", root.join("v1").display());
        let synced = notes.iter().rposition(|note| *note == synced);
        assert!(renamed.is_some() && renamed < synced, "{notes:?}");
        assert!(locked.index.is_named_durably());
    }
}
