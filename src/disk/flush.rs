//! Durability: what `flush` has to make sure of before it says `Ok`.
//!
//! The order is objects, packs, their names, then the index; only after that are bindings marked
//! dead that newer ones replaced. A failed sync of an object, a pack or the index is not just
//! repeated: what was in the file is written anew elsewhere, or taken back.

use super::counters::Counters;
use super::envelope::{Envelope, Kind};
use super::header::{Field, REBUILDING};
use super::index::Index;
use super::inner::{Inner, Locked};
use super::lock::turn;
use super::object::{self, Seen};
use super::pack::{Pack, is_absent};
use super::pending::{Names, Pending};
use super::slot::{Slot, SlotKind};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Ordering};
use crate::sys::Meta;
use rustc_hash::FxHashSet;
use std::io;
use std::mem;
use std::time::Duration;

const POISON: &str = "the lock of keepwarm's flush is poisoned: a thread panicked under it";

/// How long a flush waits for another one of the same handle: a slow disk takes its time.
const FLUSH_WAIT: Duration = Duration::from_secs(600);
/// An object that is evicted and put again all the time is synced this often before it fails.
const TRIES: usize = 4;

impl Inner {
    /// Makes everything that is pending durable.
    pub(super) fn flush(&self) -> Result<()> {
        self.refuse_child("flush")?;
        let Some(_turn) = turn(&self.flush_gate, FLUSH_WAIT) else {
            return Err(
                Error::new(ErrorKind::Timeout, "wait for another flush to end")
                    .with_path(self.files.layout.root()),
            );
        };
        let mut pending = mem::take(&mut *self.pending.lock().expect(POISON));
        let failed = mem::take(&mut pending.failed);
        match self.sync_pending(&mut pending) {
            Ok(()) if failed == 0 => {
                Counters::add(&self.counters.flushes, 1);
                self.release_packs(Duration::ZERO);
                Ok(())
            }
            Ok(()) => {
                Counters::add(&self.counters.flush_errors, 1);
                let action = format!("make everything durable: {failed} writes had failed");
                Err(Error::new(ErrorKind::WriteFailed, action).with_path(self.files.layout.root()))
            }
            Err(e) => {
                Counters::add(&self.counters.flush_errors, 1);
                self.pending.lock().expect(POISON).merge(pending);
                Err(e)
            }
        }
    }

    /// On an error `pending` has what is still to be done.
    fn sync_pending(&self, pending: &mut Pending) -> Result<()> {
        let mut lost = None;
        let objects: Vec<Digest> = pending.objects.iter().copied().collect();
        for digest in objects {
            match self.sync_object(&digest, &mut pending.suspect) {
                // It could not even be taken back: the next flush has to.
                Err(e) if pending.suspect.contains(&digest) => return Err(e),
                // Taken back, or not even looked at: the next flush sees which.
                Err(e) => lost = Some(e),
                Ok(()) => {
                    pending.objects.remove(&digest);
                }
            }
        }
        let packs: Vec<Arc<Pack>> = pending.packs.values().cloned().collect();
        for pack in &packs {
            match self.sync_pack_as_known(pack) {
                // What is in it could not even be taken back: the next flush has to.
                Err(e) if self.is_referred_to(pack).unwrap_or(true) => return Err(e),
                Err(e) => lost = Some(e),
                Ok(()) => {}
            }
        }
        // A pack of others that cannot be read keeps nothing of ours from being made durable.
        let ended = if pending.ends {
            self.make_ends_durable(true)
        } else {
            Ok(())
        };
        if !packs.is_empty() || pending.ends {
            self.sync_pack_names()?;
        }
        self.sync_names(pending)?;
        if pending.index || pending.ends {
            self.sync_index()?;
        }
        pending.ends = ended.is_err();
        if !pending.rebound.is_empty() {
            self.bury_replaced(pending)?;
        }
        pending.packs.clear();
        pending.index = false;
        lost.map_or(ended, Err)
    }

    /// Syncs a pack, or has all of it written elsewhere that is known.
    fn sync_pack_as_known(&self, pack: &Arc<Pack>) -> Result<()> {
        let known = |index: &Index| (!index.has_flag(REBUILDING)).then(|| index.seed());
        let before = known(&self.index());
        self.sync_pack(pack)?;
        if !pack.has_failed() {
            return Ok(());
        }
        let stays = || self.pending.lock().expect(POISON).add_pack(pack);
        let locked = self.locked().inspect_err(|_| stays())?;
        if before.is_some() && before == known(&locked.index) {
            return Ok(());
        }
        // What an index does not know that is being rebuilt stayed where it was.
        stays();
        let (path, busy) = (
            self.files.layout.pack(pack.number),
            io::ErrorKind::ResourceBusy,
        );
        Err(Error::io("write a pack anew", path, busy.into()))
    }

    /// Makes the names of folders durable, and of what they are in.
    fn sync_names(&self, pending: &mut Pending) -> Result<()> {
        let files = &self.files;
        let io = |e| Error::io("sync the cache directory", files.layout.base(), e);
        // What was written elsewhere just now may have healed the directory before.
        let since = mem::take(&mut self.pending.lock().expect(POISON).names);
        pending.names = pending.names.max(since);
        // What is relied on without taking the lock may be in folders that others made anew.
        if self.folders.load(Ordering::Relaxed) != self.index().field(Field::Epoch) {
            pending.names = pending.names.max(Names::Folders);
        }
        let levels = match pending.names {
            Names::None => 0,
            Names::Folders => 1,
            Names::Directory => 3,
        };
        let parents = files.layout.packs();
        for dir in parents.ancestors().skip(1).take(levels) {
            // The parent of the root may not be readable; its name was there before us.
            let synced = files.fs.sync_dir(dir);
            if dir.starts_with(files.layout.root()) {
                synced.map_err(io)?;
            }
        }
        pending.names = Names::None;
        Ok(())
    }

    /// Makes the names of packs durable.
    pub(super) fn sync_pack_names(&self) -> Result<()> {
        let packs = self.files.layout.packs();
        let io = |e| Error::io("sync the folder of packs", &packs, e);
        match self.files.fs.sync_dir(&packs) {
            Err(e) if is_absent(&e) => {
                // In the middle of a clear, or deleted: there are no names to sync.
                self.heal_directories()?;
                self.files.fs.sync_dir(&packs).map_err(io)
            }
            done => done.map_err(io),
        }
    }

    /// Syncs an object. If that fails it is written anew. If that fails too, what this handle has bound to it
    /// since it last synced is taken back, and the object as well if nobody else is bound to it: of what others
    /// bound, or this one before, a flush may have said that it is durable. While it is neither, it is suspect.
    pub(super) fn sync_object(
        &self,
        digest: &Digest,
        suspect: &mut FxHashSet<Digest>,
    ) -> Result<()> {
        let action = "sync an artifact; it was taken back";
        let path = self.files.layout.object(digest);
        let io = |e| Error::io("sync an artifact", &path, e);
        let mut failure = Error::new(ErrorKind::WriteFailed, action).with_path(&path);
        for _ in 0..TRIES {
            let (mut is_damaged, mut torn) = (false, None);
            let synced = if suspect.contains(digest) {
                Err(io::Error::other("an earlier sync failed"))
            } else {
                object::sync(&self.files, digest)
            };
            match synced {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(e) => {
                    Counters::add(&self.counters.maintenance_errors, 1);
                    suspect.insert(*digest);
                    if object::rewrite(&self.files, &self.tmp, digest).is_ok() {
                        suspect.remove(digest);
                        return Ok(());
                    }
                    is_damaged = true;
                    torn = match object::examine(&self.files, digest, |_| true) {
                        Ok(Seen::Damaged(meta)) => Some(meta),
                        _ => None,
                    };
                    failure = Error::io(action, &path, e);
                }
            }
            let locked = self.locked()?;
            // Whoever removes an object holds the lock: seen from here it is there, or it was
            // removed, or a stranger deleted it.
            let is_there = object::exists(&self.files, digest).map_err(io)?;
            if !is_damaged && is_there {
                continue;
            }
            if !is_there {
                // Nothing is left that could be kept for anybody.
                is_damaged = false;
                suspect.remove(digest);
            }
            // Evicted or removed meanwhile is no failure; deleted under a binding is.
            if !is_damaged && !self.is_bound(&locked.index, digest)? {
                return Ok(());
            }
            let is_unbound = self.take_back_object(&locked, digest, (is_damaged, torn))?;
            // If it stays it is swept, and is what it was.
            if is_unbound && object::unlink(&self.files, digest).is_ok() {
                suspect.remove(digest);
            }
            break;
        }
        Err(failure)
    }

    /// Un-publishes an object that is gone, or that could neither be synced nor written anew; `false` if it
    /// stays, for a flush may have promised it to others. `torn` was seen not to be the object: such a file is
    /// of no use to anybody.
    fn take_back_object(
        &self,
        locked: &Locked<'_>,
        digest: &Digest,
        (is_there, torn): (bool, Option<Meta>),
    ) -> Result<bool> {
        let io = |e| self.error("take back what could not be synced", e);
        let tag = locked.index.hash(digest.as_bytes()).tag(SlotKind::Content);
        if is_there {
            let unsynced = self.unsynced.lock().expect(POISON).clone();
            let is_ours = |slot: &Slot| {
                slot.kind == SlotKind::Key && slot.content == tag && unsynced.has(slot.place)
            };
            self.take_back(locked, Some(digest), is_ours)?;
            let now = self.files.fs.stat(&self.files.layout.object(digest));
            let now = now.map_err(io)?;
            if torn.is_some_and(|torn| now.is_unchanged(&torn)) {
                self.drop_object(&locked.index, digest).map_err(io)?;
            } else if self.is_needed(&locked.index, digest)? {
                return Ok(false);
            }
        }
        let is_lost = |slot: &Slot| match slot.kind {
            SlotKind::Key => slot.content == tag,
            SlotKind::Content => slot.content == 1 && slot.hash.tag(SlotKind::Content) == tag,
        };
        self.take_back(locked, Some(digest), is_lost)?;
        Ok(true)
    }

    /// Whether a key is bound to an object, of this secret or of another, whose flush may have promised it.
    fn is_needed(&self, index: &Index, digest: &Digest) -> Result<bool> {
        let io = |e| self.error("look for a content", e);
        let mut keys = self.all_key_ids().map_err(io)?;
        keys.retain(|key| *key != self.check().id());
        let is_theirs = Self::is_object_named(index, digest, &keys).map_err(io)?;
        Ok(is_theirs || self.is_bound(index, digest)?)
    }

    /// Whether a key is bound to the object; the same bytes may also be stored inline.
    fn is_bound(&self, index: &Index, digest: &Digest) -> Result<bool> {
        let io = |e| self.error("look for a content", e);
        let tag = index.hash(digest.as_bytes()).tag(SlotKind::Content);
        let mut users = Vec::new();
        index
            .for_each(|_, slot| {
                if slot.kind == SlotKind::Key && slot.content == tag {
                    users.push(slot.place);
                }
            })
            .map_err(io)?;
        for place in users {
            let found = self.envelope(place).map_err(io)?;
            let is_user = |e: &Envelope| e.digest == *digest && e.kind == Kind::Object;
            if found.is_some_and(|(_, e, live)| live && is_user(&e)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Un-publishes whatever `is_lost` says of: its keys are misses from now on. Older bindings of
    /// these keys go as well, for nobody may see an older value after a newer one.
    ///
    /// With the digest of an object, only what is bound to that: a slot tells no more than a part of it, and the
    /// same bytes may also be stored inline.
    fn take_back(
        &self,
        locked: &Locked<'_>,
        digest: Option<&Digest>,
        is_lost: impl Fn(&Slot) -> bool,
    ) -> Result<()> {
        let index = &locked.index;
        let io = |e| self.error("take back what could not be synced", e);
        if index.has_flag(REBUILDING) {
            // It does not know every binding: an older one might be left.
            return Err(io(io::ErrorKind::ResourceBusy.into()));
        }
        let mut lost = Vec::new();
        index
            .for_each(|at, slot| {
                if is_lost(&slot) {
                    lost.push((at, slot));
                }
            })
            .map_err(io)?;
        for (at, slot) in lost {
            let found = self.envelope(slot.place).map_err(io)?;
            let is_inline = |e: &Envelope| slot.kind == SlotKind::Key && e.kind != Kind::Object;
            let is_other =
                |e: &Envelope| digest.is_some_and(|digest| *digest != e.digest || is_inline(e));
            let is_other = found.as_ref().is_some_and(|(_, e, _)| is_other(e));
            if is_other || (found.is_none() && self.is_theirs(slot.place.pack())) {
                continue;
            }
            match found.filter(|_| slot.kind == SlotKind::Key) {
                Some((_, envelope, true)) => {
                    // What is newer stays, unless it is lost too.
                    self.unbind_up_to(index, &envelope.key, envelope.generation)
                        .map_err(io)?;
                }
                _ => index.vacate(at, &slot, true).map_err(io)?,
            }
        }
        Ok(())
    }

    /// Syncs a pack. If that fails, or the pack lost its name, what is bound to it is written
    /// elsewhere. If that fails too, what this handle has appended since it last synced is taken back (of
    /// a pack that lost its name, everything). The rest stays, for an earlier flush, or another handle's, may
    /// have promised it; and since it may also be what nobody synced, the pack stays
    /// pending, so that no later flush says yes before it was written elsewhere.
    pub(super) fn sync_pack(&self, pack: &Arc<Pack>) -> Result<()> {
        let io = |e| Error::io("sync a pack", self.files.layout.pack(pack.number), e);
        // What cannot be looked at is not synced: the next flush has to, also if nothing leads into it.
        let stays = |_: &io::Error| self.pending.lock().expect(POISON).add_pack(pack);
        let named = pack.is_named(&self.files).inspect_err(stays).map_err(io)?;
        let failure = match pack.sync() {
            Ok(len) => {
                self.unsynced.lock().expect(POISON).settle(pack.ident, len);
                if named {
                    return Ok(());
                }
                None
            }
            Err(e) => Some(io(e)),
        };
        if failure.is_none() && !self.is_referred_to(pack)? {
            return Ok(());
        }
        if pack.key_id != self.check().id() {
            if failure.is_none() {
                return Ok(());
            }
            // Only life words of it were written here, of what was evicted: they are written again.
            Counters::add(&self.counters.maintenance_errors, 1);
            return pack.bury_again(self.check()).inspect_err(stays).map_err(io);
        }
        Counters::add(&self.counters.maintenance_errors, 1);
        // Nobody may append to it again.
        self.pool
            .lock()
            .expect(POISON)
            .retain(|(owned, _)| owned.pack.number != pack.number);
        match self.move_all(pack) {
            // What is dead in it stays dead: its marks are written again, for the failed sync may
            // have lost them.
            Ok(lost) => {
                let buried = pack.bury_again(self.check()).map_err(io);
                if buried.is_err() {
                    self.pending.lock().expect(POISON).add_pack(pack);
                }
                if lost == 0 {
                    return buried;
                }
                Err(failure.unwrap_or_else(|| {
                    Error::new(
                        ErrorKind::WriteFailed,
                        "sync a pack; entries in it were lost",
                    )
                    .with_path(self.files.layout.pack(pack.number))
                }))
            }
            Err(e) => {
                if named {
                    self.pending.lock().expect(POISON).add_pack(pack);
                }
                let locked = self.locked()?;
                // Of a pack without a name nothing is left to stay.
                let unsynced = self.unsynced.lock().expect(POISON).clone();
                let is_lost = |slot: &Slot| {
                    slot.place.pack() == pack.number && (!named || unsynced.has(slot.place))
                };
                self.take_back(&locked, None, is_lost)?;
                Err(failure.unwrap_or(e))
            }
        }
    }

    fn is_referred_to(&self, pack: &Pack) -> Result<bool> {
        let mut referred = false;
        self.index()
            .for_each(|_, slot| referred |= slot.place.pack() == pack.number)
            .map_err(|e| self.error("look for entries of a pack", e))?;
        Ok(referred)
    }

    /// Makes the slots durable, and the name of the file that has them.
    pub(super) fn sync_index(&self) -> Result<()> {
        if self.index().sync().is_err() {
            Counters::add(&self.counters.maintenance_errors, 1);
            // Pages that failed to reach the disk count as clean now: the table is written anew.
            let mut locked = self.locked()?;
            let buckets = locked.index.buckets();
            self.copy_index(&mut locked, buckets, 0)?;
        }
        self.sync_index_name()
    }

    /// Makes the name of the index durable, if it may not be: else a power cut brings back an
    /// older table, which knows nothing of what was written to this one.
    fn sync_index_name(&self) -> Result<()> {
        let index = self.index();
        if index.is_named_durably() {
            return Ok(());
        }
        let base = self.files.layout.base();
        let io = |e| Error::io("sync the cache directory", base, e);
        match self.files.fs.sync_dir(base) {
            Err(e) if is_absent(&e) => {
                // Deleted: taking the lock makes it anew, with another index.
                drop(self.locked()?);
                self.files.fs.sync_dir(base).map_err(io)?;
            }
            done => done.map_err(io)?,
        }
        index.named_durably();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::DiskStore;
    use crate::fingerprint::Fingerprint;
    use crate::store::Store;
    use crate::sys::fault::{Call, Fault, FaultFs, Plan, When};
    use crate::sys::real::RealFs;
    use crate::sys::spy::{Notes, SpyFs};
    use std::sync::Arc;

    fn key(name: &str) -> Fingerprint {
        Fingerprint::builder("flush").field("name", name).finish()
    }

    const EVERY_SYNC: Fault = Fault {
        when: When::From(1),
        errno: 5,
        calls: Call::Sync as u32,
        short: false,
    };

    fn open(dir: &tempfile::TempDir, plan: &Arc<Plan>) -> DiskStore {
        let fs = Arc::new(FaultFs::real(plan));
        let root = dir.path().canonicalize().unwrap();
        let store = DiskStore::builder().open_with(root, fs).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        store
    }

    /// Others may have flushed what stands behind the end that a handle saw when it opened a pack.
    #[test]
    fn a_failed_sync_takes_back_nothing_that_another_handle_flushed() {
        let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
        let first = open(&dir, &plan);
        let put = |store: &DiskStore, name: &str| {
            let bytes = name.repeat(20).into_bytes();
            let _ = store.put(&key(name), bytes.into()).unwrap();
        };
        put(&first, "first");
        put(&first, "goes");
        first.flush().unwrap();
        let second = DiskStore::open(dir.path()).unwrap();
        put(&second, "second");
        second.flush().unwrap();
        let packs = first.inner.files.layout.packs();
        assert_eq!(std::fs::read_dir(packs).unwrap().count(), 1, "of both");
        first.remove(&key("goes")).unwrap();
        plan.start(EVERY_SYNC);
        assert!(first.flush().is_err());
        assert!(plan.stop() > 0);
        first.flush().unwrap();
        for store in [first, second, open(&dir, &plan)] {
            for name in ["first", "second"] {
                assert!(store.get(&key(name)).unwrap().is_some(), "{name}");
            }
        }
    }

    /// An object that is durable may be relied on by a key that is not.
    #[test]
    fn an_object_that_another_key_was_flushed_with_is_not_taken_back() {
        let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
        let store = open(&dir, &plan);
        let put = |name: &str| {
            let _ = store.put(&key(name), vec![7; 400_000].into()).unwrap();
        };
        put("flushed");
        store.flush().unwrap();
        put("since");
        plan.start(EVERY_SYNC);
        assert!(store.flush().is_err());
        assert!(store.flush().is_err(), "it is not forgotten");
        assert!(plan.stop() > 0);
        assert!(store.get(&key("flushed")).unwrap().is_some());
        assert!(store.get(&key("since")).unwrap().is_none());
        store.flush().unwrap();
        put("since");
        store.flush().unwrap();
        for store in [store, open(&dir, &plan)] {
            for name in ["flushed", "since"] {
                assert!(store.get(&key(name)).unwrap().is_some(), "{name}");
            }
        }
    }

    /// Where the marks of what was removed can be made durable neither at once nor anew, the next flush
    /// has to know.
    #[test]
    fn a_pack_whose_marks_could_not_be_written_again_stays_pending() {
        let mut failed = 0;
        for call in 1..8 {
            let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
            let store = open(&dir, &plan);
            let _ = store.put(&key("goes"), vec![1].into()).unwrap();
            store.flush().unwrap();
            store.remove(&key("goes")).unwrap();
            let pending = || store.inner.pending.lock().unwrap();
            let pack = pending().packs.values().next().unwrap().clone();
            let fault = |when| Fault { when, ..EVERY_SYNC };
            plan.start(fault(When::Once(1)));
            assert!(pack.sync().is_err());
            plan.start(fault(When::Once(call)));
            if store.flush().is_err() {
                failed += 1;
                assert!(pending().packs.contains_key(&pack.ident), "call {call}");
                plan.stop();
                store.flush().unwrap();
            }
        }
        assert!(failed > 0);
    }

    /// Else what it says is durable is in a folder that a power cut takes away.
    #[test]
    fn a_flush_that_makes_the_directory_anew_makes_its_name_durable() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let notes = Notes::default();
        let fs = SpyFs(RealFs::UNCHECKED, Arc::clone(&notes));
        let builder = DiskStore::builder();
        let store = builder.open_with(root.clone(), Arc::new(fs)).unwrap();
        let _ = store.put(&key("flushed"), vec![1].into()).unwrap();
        store.flush().unwrap();
        let _ = store.put(&key("since"), vec![2].into()).unwrap();
        std::fs::remove_dir_all(root.join("v1")).unwrap();
        notes.lock().unwrap().clear();
        store.flush().unwrap();
        let notes = notes.lock().unwrap().clone();
        let last = |what: String| notes.iter().rposition(|note| *note == what);
        let made = last(format!("create {}", root.join("v1").display()));
        let synced = last(format!("sync {}", root.display()));
        assert!(made.is_some() && made < synced, "{notes:?}");
    }

    #[test]
    fn a_failed_sync_takes_back_nothing_that_an_earlier_flush_made_durable() {
        let (dir, plan) = (tempfile::tempdir().unwrap(), Arc::new(Plan::default()));
        let open = || open(&dir, &plan);
        let put = |store: &DiskStore, name: &str| {
            // Equal bytes of two keys are stored once.
            let bytes = vec![1; if name == "since" { 99 } else { 100 }];
            let _ = store.put(&key(name), bytes.into()).unwrap();
        };
        let has = |store: &DiskStore, name: &str| store.get(&key(name)).unwrap().is_some();
        let store = open();
        put(&store, "by another handle");
        store.flush().unwrap();
        drop(store);
        let store = open();
        put(&store, "by this one");
        store.flush().unwrap();
        put(&store, "since");
        plan.start(EVERY_SYNC);
        assert!(store.flush().is_err(), "no sync worked");
        assert!(store.flush().is_err(), "nor did the next");
        assert!(plan.stop() > 0);
        store.flush().unwrap();
        for store in [store, open()] {
            assert!(has(&store, "by another handle"));
            assert!(has(&store, "by this one"));
            assert!(!has(&store, "since"), "it was never durable");
        }
    }
}
