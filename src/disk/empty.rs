//! Emptying a pack: what is live in it is appended elsewhere, made durable, and then the pack is
//! unlinked. Also how a pack that failed to sync is written anew.

use super::counters::Counters;
use super::header::Field;
use super::index::Index;
use super::inner::Inner;
use super::layout::PackNumber;
use super::lookup::Binding;
use super::moving::{Fate, Moved};
use super::pack::{Claim, OwnedPack, Pack, is_absent};
use super::slot::{Place, Slot, SlotKind};
use super::table::Position;
use crate::error::Result;
use crate::sync::Arc;
use crate::sys::RawFile;
use rustc_hash::{FxHashMap, FxHashSet};
use std::io;

const POISON: &str = "the lock of keepwarm's claimed packs is poisoned: a thread panicked under it";

/// Originals retired, or copies undone, under one hold of the lock.
const BATCH: usize = 256;

impl Inner {
    /// Moves what is live out of a pack and unlinks it; tells whether it is gone. A pack that
    /// another process holds is left alone.
    pub(super) fn empty_pack(&self, number: PackNumber) -> Result<bool> {
        let io = |e| self.error("empty a pack", e);
        let owned = match self.claim_to_empty(number).map_err(io)? {
            Claim::Pack(owned) => owned,
            Claim::Foreign(lock) => return self.unlink_foreign(number, &*lock),
            Claim::None => return Ok(false),
        };
        if owned.pack.key_id != self.check().id() {
            // What is in it is not ours to move; once nothing leads there, durably, it goes.
            self.sync_index()?;
            return self.unlink_pack(&owned);
        }
        // The marks of what moved are durable before the index is, which knows it no more.
        let settle = || match owned.pack.sync() {
            Err(_) => owned.pack.bury_again(self.check()),
            Ok(_) => Ok(()),
        };
        let moved = self
            .move_all(&owned.pack)
            .and_then(|_| settle().map_err(io));
        if let Err(e) = moved {
            // Of a failed sync the kernel speaks once; the next flush must hear of it.
            self.pending.lock().expect(POISON).failed += 1;
            return Err(e);
        }
        // The way to content that moved, which others share, outlives a power cut before the place
        // where it was may not.
        self.sync_index()?;
        self.unlink_pack(&owned)
    }

    /// Unlinks a file that has a pack's name and is none: a pack whose header is damaged, or what
    /// a process left that died while it made one. Slots that point there lead to nothing.
    fn unlink_foreign(&self, number: PackNumber, file: &dyn RawFile) -> Result<bool> {
        let io = |e| self.error("remove a file that is no pack", e);
        let path = self.files.layout.pack(number);
        let Some(locked) = self.locked_and_complete()? else {
            return Ok(false);
        };
        let named = self.files.fs.stat(&path);
        let own = file.meta().map_err(io)?;
        // Where locks are files of their own, these say nothing of the pack.
        if cfg!(unix) && !named.is_ok_and(|named| named.same_file(&own)) {
            return Ok(false);
        }
        match self.files.fs.remove_file(&path) {
            Err(e) if !is_absent(&e) => return Err(io(e)),
            _ => {}
        }
        if cfg!(unix) {
            let len = own.id.len;
            locked.index.subtract(Field::DiskBytes, len).map_err(io)?;
        }
        locked.index.add(Field::Epoch, 1).map_err(io)?;
        Ok(true)
    }

    /// Appends whatever the index finds in a pack elsewhere, makes it durable there, and only then
    /// retires the originals: at no moment is a binding or its content in one place that a power
    /// cut may take, and never is it live in a place that the index does not know. Tells how many
    /// bindings could not be read any more: they are misses now.
    pub(super) fn move_all(&self, pack: &Arc<Pack>) -> Result<u64> {
        let io = |e| self.error("move entries to another pack", e);
        let number = pack.number;
        // Another file may have its name: what is in that stays there, though the places are the same.
        let other = if pack.is_exchanged(&self.files).map_err(io)? {
            Pack::open(&self.files, number).map_err(io)?
        } else {
            None
        };
        let index = self.index();
        let mut keys = Vec::new();
        let mut contents = Vec::new();
        index
            .for_each(|at, slot| {
                if slot.place.pack() == number {
                    match slot.kind {
                        SlotKind::Key => keys.push((at, slot)),
                        SlotKind::Content => contents.push(slot),
                    }
                }
            })
            .map_err(io)?;
        if let Some(other) = other {
            let is_ours = |slot: &Slot| Ok(!self.leads_into(&index, &other, slot)?);
            keys = keep(keys, |(_, slot)| is_ours(slot)).map_err(io)?;
            contents = keep(contents, is_ours).map_err(io)?;
            other.sync().map_err(io)?;
        }
        let mut moved = Vec::new();
        let copied = self.copy_all(pack, (keys, contents), &mut moved);
        let lost = copied.inspect_err(|_| self.undo_copies(&moved))?;
        for batch in moved.chunks(BATCH) {
            self.retire_originals(batch)?;
        }
        Ok(lost)
    }

    /// Whether a slot leads to a record of `pack`, an open file with the name that the slot says.
    fn leads_into(&self, index: &Index, pack: &Pack, slot: &Slot) -> io::Result<bool> {
        let found = pack.envelope_or_hint(self.check(), slot.place.offset())?;
        Ok(found.is_some_and(|(envelope, live)| {
            let hash = |name: &[u8; 32]| index.hash_under(name, pack.key_id);
            match slot.kind {
                SlotKind::Key => live && hash(envelope.key.as_bytes()) == slot.hash,
                SlotKind::Content => hash(envelope.digest.as_bytes()) == slot.hash,
            }
        }))
    }

    /// Copies bindings and contents, and makes the copies durable; `moved` has them also if that
    /// fails. Tells how many bindings could not be read.
    fn copy_all(
        &self,
        pack: &Arc<Pack>,
        (keys, contents): (Vec<(Position, Slot)>, Vec<Slot>),
        moved: &mut Vec<Moved>,
    ) -> Result<u64> {
        let mut lost = 0;
        for (at, slot) in keys {
            match self.move_binding(pack, at, &slot)? {
                Fate::Copied(copy) => moved.push(copy),
                Fate::Dead => {}
                Fate::Lost => lost += 1,
            }
        }
        let with_their_keys: FxHashSet<Place> = moved.iter().map(|m| m.content).collect();
        for slot in contents {
            if !with_their_keys.contains(&slot.place) {
                moved.extend(self.rescue_content(pack, &slot)?);
            }
        }
        // By number of the pack: what was pending may be another thread's flush's by now.
        let packs = moved.iter().filter_map(|m| m.to.as_ref());
        self.sync_moved(&packs.map(|to| (to.number, Arc::clone(to))).collect())?;
        Ok(lost)
    }

    /// Unbinds copies again that could not be made durable: they would stand for the originals when
    /// what is not durable is taken back. Best effort, and counted.
    fn undo_copies(&self, moved: &[Moved]) {
        let undo = || -> Result<()> {
            let io = |e| self.error("unbind copies of moved entries", e);
            // Backwards: what stands for a copy goes before that copy, its original, does.
            for batch in moved.rchunks(BATCH) {
                let locked = self.locked()?;
                for Moved { key, place, .. } in batch.iter().rev().filter(|copy| !copy.is_old) {
                    let Some((key, original)) = key else {
                        continue;
                    };
                    let live = self.bindings(&locked.index, key).map_err(io)?.live;
                    let find = |place: &Place| live.iter().find(|b| b.slot.place == *place);
                    // Somebody may have relied on the copy meanwhile, and ended the original.
                    if let (Some(copy), Some(_)) = (find(place), find(original)) {
                        self.drop_binding(&locked.index, copy).map_err(io)?;
                    }
                }
            }
            Ok(())
        };
        if undo().is_err() {
            Counters::add(&self.counters.maintenance_errors, 1);
        }
    }

    /// The pack, claimed: out of this handle's own pool, or by its lock.
    fn claim_to_empty(&self, number: PackNumber) -> io::Result<Claim> {
        let mut pool = self.pool.lock().expect(POISON);
        if let Some(i) = pool
            .iter()
            .position(|(owned, _)| owned.pack.number == number)
        {
            if pool[i].0.awaits_binding() {
                return Ok(Claim::None);
            }
            let owned = pool.swap_remove(i).0;
            drop(pool);
            let is_exchanged = owned.pack.is_exchanged(&self.files)?;
            return Ok(if is_exchanged {
                Claim::None
            } else {
                Claim::Pack(owned)
            });
        }
        drop(pool);
        OwnedPack::claim(&self.files, number, self.limits.pack)
    }

    /// Unbinds the originals of what was moved, and points contents to the copies. An original
    /// whose copy is no longer there stays: meanwhile it was removed, replaced or evicted.
    fn retire_originals(&self, moved: &[Moved]) -> Result<()> {
        let io = |e| self.error("retire moved entries", e);
        let locked = self.locked()?;
        let index = &locked.index;
        for moved in moved {
            // What has the bytes may have moved on; packs are unlinked under the lock.
            let to = moved.to.as_ref();
            let is_there = to.map_or(Ok(true), |pack| pack.is_named(&self.files));
            if !is_there.map_err(io)? {
                continue;
            }
            let Some((key, original)) = &moved.key else {
                Self::move_content(index, moved).map_err(io)?;
                continue;
            };
            let mut live = self.bindings(index, key).map_err(io)?.live;
            let Some(copy) = live.iter().position(|b| b.slot.place == moved.place) else {
                continue;
            };
            Self::move_content(index, moved).map_err(io)?;
            let copy = live.swap_remove(copy);
            if let Some(original) = live.into_iter().find(|b| b.slot.place == *original) {
                self.retire(index, &original, &copy).map_err(io)?;
            }
        }
        Ok(())
    }

    /// Points the content of what was moved to the copy. The caller holds the lock.
    fn move_content(index: &Index, moved: &Moved) -> io::Result<()> {
        let hash = index.hash(moved.digest.as_bytes());
        for (at, slot) in index.find(SlotKind::Content, hash)? {
            if slot.place == moved.content {
                let place = moved.place;
                index.write(at, &Slot { place, ..slot })?;
            }
        }
        Ok(())
    }

    /// Ends a binding that has a copy. The caller holds the lock.
    fn retire(&self, index: &Index, original: &Binding, copy: &Binding) -> io::Result<()> {
        // Uses may have been written to the original's slot alone.
        let slot = Slot {
            last_use: copy.slot.last_use.max(original.slot.last_use),
            hits: copy.slot.hits.max(original.slot.hits),
            ..copy.slot
        };
        if slot != copy.slot {
            index.write(copy.at, &slot)?;
        }
        match original.pack.mark_gone(original.slot.place.offset()) {
            // Its owner keeps it for itself: it stays, beside its copy.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                Counters::add(&self.counters.maintenance_errors, 1);
                return Ok(());
            }
            marked => marked?,
        }
        self.pending.lock().expect(POISON).add_pack(&original.pack);
        index.vacate(original.at, &original.slot, false)
    }

    /// Clears a slot that leads to nothing, or to what was not alive in `dead`.
    pub(super) fn drop_slot(&self, at: Position, slot: &Slot, dead: Option<&Pack>) -> Result<()> {
        let locked = self.locked()?;
        let io = |e| self.error("clear a slot of the index", e);
        if let Some(pack) = dead {
            // It may have been about to be bound: its slot is there before it is alive.
            let found = pack.envelope(self.check(), slot.place.offset());
            if found.map_err(io)?.is_some_and(|(_, live)| live) {
                return Ok(());
            }
        }
        let now = locked.index.get(at).map_err(io)?;
        if now.is_some_and(|now| now.place == slot.place) {
            // Another binding of the key may be beside it.
            let slots = locked.index.find(SlotKind::Key, slot.hash).map_err(io)?;
            let unbinds = slot.kind == SlotKind::Key && slots.len() == 1;
            locked.index.vacate(at, slot, unbinds).map_err(io)?;
        }
        Ok(())
    }

    /// Makes what was moved durable, and then the slots that point there.
    fn sync_moved(&self, moved: &FxHashMap<PackNumber, Arc<Pack>>) -> Result<()> {
        let io = |e| self.error("sync moved entries", e);
        for pack in moved.values() {
            let len = pack.sync().map_err(io)?;
            self.unsynced.lock().expect(POISON).settle(pack.ident, len);
        }
        self.sync_pack_names()?;
        self.sync_index()
    }

    /// Unlinks a claimed pack unless a slot still points into it.
    fn unlink_pack(&self, owned: &OwnedPack) -> Result<bool> {
        let io = |e| self.error("unlink a pack", e);
        let number = owned.pack.number;
        let is_needed = |index: &Index| {
            let mut needed = false;
            let looked = index.for_each(|_, slot| needed |= slot.place.pack() == number);
            looked.map(|()| needed).map_err(io)
        };
        // What is dead in it may stand for marks elsewhere; and all that will ever be dead in it is so
        // by now, for nobody binds anything in a pack that is claimed.
        let before = match self.locked_and_complete()? {
            Some(locked) if !is_needed(&locked.index)? => locked.index,
            _ => return Ok(false),
        };
        self.make_ends_durable(false)?;
        let Some(locked) = self.locked_and_complete()? else {
            return Ok(false);
        };
        if !Arc::ptr_eq(&locked.index, &before) {
            // One that was made anew may have brought something in the pack to light. Next pass.
            return Ok(false);
        }
        let needed = is_needed(&locked.index)?;
        if needed || !owned.pack.is_named(&self.files).map_err(io)? {
            return Ok(!needed);
        }
        let len = owned.pack.len().map_err(io)?;
        match self.files.fs.remove_file(&self.files.layout.pack(number)) {
            Err(e) if !is_absent(&e) => return Err(io(e)),
            _ => {}
        }
        if !cfg!(unix) {
            // Best effort: an empty lock file is swept with the directory.
            self.files
                .fs
                .remove_file(&self.files.layout.pack_lock(number))
                .ok();
        }
        locked.index.subtract(Field::DiskBytes, len).map_err(io)?;
        locked.index.add(Field::Epoch, 1).map_err(io)?;
        drop(locked);
        self.pending
            .lock()
            .expect(POISON)
            .packs
            .remove(&owned.pack.ident);
        self.unsynced
            .lock()
            .expect(POISON)
            .settle(owned.pack.ident, u64::MAX);
        self.drop_gone_packs();
        Ok(true)
    }
}

/// Those of `all` of which `keeps` says so.
fn keep<T>(all: Vec<T>, keeps: impl Fn(&T) -> io::Result<bool>) -> io::Result<Vec<T>> {
    let mut kept = Vec::new();
    for one in all {
        if keeps(&one)? {
            kept.push(one);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskStore;
    use crate::fingerprint::Fingerprint;
    use crate::store::{Store, StoreExt};
    use crate::sys::fault::{Call, Fault, FaultFs, Plan, When};

    const KEY: Fingerprint = Fingerprint::from_bytes([7; 32]);

    /// A store with one entry, and its binding.
    fn bound(dir: &tempfile::TempDir) -> (DiskStore, Binding) {
        let store = DiskStore::open(dir.path()).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        store.put_bytes(&KEY, [1; 100]).unwrap();
        let inner = &store.inner;
        let binding = inner.bindings(&inner.index(), &KEY).unwrap().live.remove(0);
        (store, binding)
    }

    /// The same where the entry has a copy by now, and what was moved.
    fn moving(dir: &tempfile::TempDir) -> (DiskStore, Binding, Moved) {
        let (store, binding) = bound(dir);
        let (inner, place) = (&store.inner, binding.slot.place);
        let copy = inner.copy(&binding.envelope, &[1; 100], &binding.pack, (place, place));
        let copy = copy.unwrap().unwrap();
        (store, binding, copy)
    }

    #[test]
    fn a_use_that_is_written_while_an_entry_moves_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (store, original, copy) = moving(&dir);
        let index = store.inner.index();
        let used = original.slot.last_use + 1_000_000_000;
        let slot = Slot {
            last_use: used,
            hits: original.slot.hits.plus(3, 0),
            ..original.slot
        };
        index.write(original.at, &slot).unwrap();
        store.inner.retire_originals(&[copy]).unwrap();
        let slots = index.find(SlotKind::Key, original.slot.hash).unwrap();
        assert_eq!(slots.len(), 1);
        assert_ne!(slots[0].1.place, original.slot.place);
        assert_eq!(slots[0].1.last_use, used);
        assert_eq!(slots[0].1.hits.count(), 3);
    }

    #[test]
    fn no_copy_goes_to_a_pack_that_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, original, first) = moving(&dir);
        let inner = &store.inner;
        // The handle has it claimed, and somebody cleans up.
        let layout = &inner.files.layout;
        std::fs::remove_file(layout.pack(first.place.pack())).unwrap();
        let place = original.slot.place;
        let copied = inner.copy(
            &original.envelope,
            &[1; 100],
            &original.pack,
            (place, place),
        );
        let moved = copied.unwrap().unwrap();
        inner.retire_originals(&[moved]).unwrap();
        drop(store);
        let store = DiskStore::open(dir.path()).unwrap();
        assert!(store.get_artifact(&KEY).unwrap().is_some());
    }

    #[test]
    fn an_entry_whose_copy_is_ended_while_it_moves_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (store, original, moved) = moving(&dir);
        let inner = &store.inner;
        let index = inner.index();
        let live = inner.bindings(&index, &KEY).unwrap().live;
        let copy = live.iter().find(|b| b.slot.place == moved.place).unwrap();
        inner.drop_binding(&index, copy).unwrap();
        inner.retire_originals(&[moved]).unwrap();
        assert_eq!(
            store.get_artifact(&KEY).unwrap().unwrap().as_slice(),
            [1; 100]
        );
        assert_eq!(index.field(Field::Entries), 1);
        let slots = index.find(SlotKind::Key, original.slot.hash).unwrap();
        assert_eq!(slots.len(), 1);
        assert_eq!(slots[0].1.place, original.slot.place);
    }

    /// A thread that binds has written the slot, and then makes the record live.
    #[test]
    fn a_slot_whose_record_comes_alive_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = DiskStore::open(dir.path()).unwrap();
        store.put_bytes(&KEY, [1; 100]).unwrap();
        let inner = &store.inner;
        let binding = inner.bindings(&inner.index(), &KEY).unwrap().live.remove(0);
        let dead = Some(&*binding.pack);
        inner.drop_slot(binding.at, &binding.slot, dead).unwrap();
        assert!(store.get_artifact(&KEY).unwrap().is_some());
        binding.pack.mark_dead(binding.slot.place.offset()).unwrap();
        inner.drop_slot(binding.at, &binding.slot, dead).unwrap();
        let slots = inner.index().find(SlotKind::Key, binding.slot.hash);
        assert_eq!(slots.unwrap().len(), 0);
    }

    /// Who removes a key marks it dead, and may be killed before its slot is gone.
    #[test]
    fn what_was_ended_while_it_moves_does_not_come_alive_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (store, binding) = bound(&dir);
        let (inner, place) = (&store.inner, binding.slot.place);
        binding.pack.mark_dead(place.offset()).unwrap();
        let copy = inner.copy(&binding.envelope, &[1; 100], &binding.pack, (place, place));
        assert!(copy.unwrap().is_none());
        assert!(store.get_artifact(&KEY).unwrap().is_none());
        // What is put now is not taken for what was removed.
        store.put_bytes(&KEY, [1; 100]).unwrap();
        store.flush().unwrap();
        inner.rebuild_now().unwrap();
        assert!(store.get_artifact(&KEY).unwrap().is_some());
    }

    /// Whoever has claimed a pack relies on that nothing is bound in it any more.
    #[test]
    fn no_pack_is_claimed_in_which_a_record_is_about_to_be_bound() {
        let dir = tempfile::tempdir().unwrap();
        let (store, original, copy) = moving(&dir);
        let other = DiskStore::open(dir.path()).unwrap();
        let inner = &store.inner;
        inner.retire_originals(&[copy]).unwrap();
        let envelope = original.envelope;
        let (place, _, claim) = inner.append(&envelope, &[1; 100], None).unwrap();
        let number = place.pack();
        let moves = |store: &DiskStore| store.inner.empty_pack(number).unwrap();
        assert!(!moves(&store), "the handle that appended has it");
        store.flush().unwrap();
        assert!(!moves(&other), "a flush gives packs up");
        drop(claim);
        assert!(moves(&other));
        assert!(store.get_artifact(&KEY).unwrap().is_some());
    }

    /// Of copies any may be the one that is left, also not the one that others share.
    #[test]
    fn content_of_a_buried_copy_is_found_in_the_copy_that_is_left() {
        for _ in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let (store, original, copy) = moving(&dir);
            let inner = &store.inner;
            let other = Fingerprint::from_bytes([8; 32]);
            store.put_bytes(&other, [1; 100]).unwrap();
            inner.settle(&KEY).unwrap();
            let live = inner.bindings(&inner.index(), &KEY).unwrap().live;
            assert_eq!(live.len(), 1);
            for pack in [original.pack.number, copy.place.pack()] {
                assert!(inner.empty_pack(pack).unwrap());
                for key in [KEY, other] {
                    let found = store.get_artifact(&key).unwrap().unwrap();
                    assert_eq!(found.as_slice(), [1; 100]);
                }
            }
        }
    }

    /// Who is killed while it empties a pack leaves a copy; the next one makes no other.
    #[test]
    fn a_copy_that_is_there_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, original, copy) = moving(&dir);
        let inner = &store.inner;
        assert!(inner.empty_pack(original.pack.number).unwrap());
        let live = inner.bindings(&inner.index(), &KEY).unwrap().live;
        assert_eq!(live.len(), 1);
        assert_eq!(live[0].slot.place, copy.place);
    }

    /// Between the copying and a failure after it somebody may have made the copy the only one.
    #[test]
    fn a_copy_that_somebody_relies_on_is_not_undone() {
        for _ in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let (store, _, copy) = moving(&dir);
            let inner = &store.inner;
            inner.settle(&KEY).unwrap();
            inner.undo_copies(&[copy]);
            assert!(store.get_artifact(&KEY).unwrap().is_some());
        }
    }

    /// Content whose own key is gone moves under a copy of a key that shares it, itself a copy.
    #[test]
    fn of_copies_that_could_not_be_synced_none_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let plan = Arc::new(Plan::default());
        let store = DiskStore::builder().open_with(root, Arc::new(FaultFs::real(&plan)));
        let store = store.unwrap();
        let sharing = Fingerprint::from_bytes([8; 32]);
        store.put_bytes(&KEY, [1; 100]).unwrap();
        store.put_bytes(&sharing, [1; 100]).unwrap();
        store.put_bytes(&KEY, [2; 100]).unwrap();
        store.flush().unwrap();
        let inner = &store.inner;
        let live = |key: &Fingerprint| inner.bindings(&inner.index(), key).unwrap().live;
        let before = [KEY, sharing].map(|key| live(&key)[0].slot.place);
        plan.start(Fault {
            when: When::From(1),
            errno: 5,
            calls: Call::Sync as u32,
            short: false,
        });
        assert!(inner.move_all(&live(&KEY)[0].pack).is_err());
        assert!(plan.stop() > 0);
        for (key, place) in [KEY, sharing].into_iter().zip(before) {
            let places: Vec<_> = live(&key).iter().map(|b| b.slot.place).collect();
            assert_eq!(places, [place]);
        }
        assert_eq!(
            store.get_artifact(&sharing).unwrap().unwrap().as_slice(),
            [1; 100]
        );
    }

    #[test]
    fn a_copy_whose_file_is_gone_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (store, original, copy) = moving(&dir);
        let inner = &store.inner;
        std::fs::remove_file(inner.files.layout.pack(copy.place.pack())).unwrap();
        inner.empty_pack(original.pack.number).unwrap();
        drop(store);
        let store = DiskStore::open(dir.path()).unwrap();
        assert!(store.get_artifact(&KEY).unwrap().is_some());
    }
}
