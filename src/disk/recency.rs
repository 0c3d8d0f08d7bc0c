//! Last uses: gathered in memory by gets, written in batches under the lock.
//!
//! "Unused since" relies on them, so a use is not forgotten because many come at once: the janitor
//! writes early when half of the room is taken, and a get that finds none writes them itself,
//! for a short time at most. Only then is a use given up, and counted.

use super::counters::Counters;
use super::index::Index;
use super::inner::{Inner, Locked, now};
use super::lock::turn;
use super::lookup::Binding;
use super::slot::{Slot, SlotHash, SlotKind};
use super::table::Position;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, TryLockError};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::time::Duration;

const POISON: &str = "the lock of keepwarm's touches is poisoned: a thread panicked under it";
/// Uses that are remembered until they are written.
const REMEMBERED: usize = 1 << 16;
/// Uses written under one hold of the lock.
const BATCH: usize = 1024;
/// How long a get that finds no room waits for the lock.
const FULL_WAIT: Duration = Duration::from_millis(100);
/// After it waited in vain, gets do not try again for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// The uses that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Recency {
    uses: Mutex<Uses>,
    /// Held while a batch is written: who wants last uses to be right waits for it.
    writing: Mutex<()>,
    /// Set once when half of the room is taken.
    due: AtomicBool,
    /// Nanoseconds after the birth of the handle before which no get tries to write.
    not_before: AtomicU64,
}

/// Uses of a key.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Where its slot was.
    at: Position,
    /// Of the last one.
    tick: u64,
    /// How many.
    count: u32,
}

/// By the hash of the key.
type ByHash = FxHashMap<SlotHash, Use>;

#[derive(Debug, Default)]
struct Uses {
    new: ByHash,
    /// Those that are being written: they count until they are.
    writing: ByHash,
}

impl Recency {
    /// The uses; `None` in a forked child where a thread of the parent holds them for ever.
    fn lock(&self, inner: &Inner) -> Option<MutexGuard<'_, Uses>> {
        match self.uses.try_lock() {
            Ok(uses) => Some(uses),
            Err(TryLockError::Poisoned(_)) => panic!("{POISON}"),
            Err(TryLockError::WouldBlock) if !inner.is_own_process() => None,
            Err(TryLockError::WouldBlock) => Some(self.uses.lock().expect(POISON)),
        }
    }

    /// Remembers a use; `false` if there is no room.
    fn insert(&self, inner: &Inner, hash: SlotHash, at: Position, tick: u64) -> bool {
        let Some(mut uses) = self.lock(inner) else {
            return false;
        };
        let is_full = uses.new.len() >= REMEMBERED;
        match uses.new.entry(hash) {
            Entry::Occupied(mut known) => {
                let count = known.get().count.saturating_add(1);
                known.insert(Use { at, tick, count });
                return true;
            }
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(new) => new.insert(Use { at, tick, count: 1 }),
        };
        if uses.new.len() == REMEMBERED / 2 {
            self.due.store(true, Ordering::Relaxed);
        }
        true
    }

    /// The uses that are there now, to be written; those before them are.
    fn begin_writing(&self, inner: &Inner) -> Vec<(SlotHash, Use)> {
        let Some(mut uses) = self.lock(inner) else {
            return Vec::new();
        };
        uses.writing = std::mem::take(&mut uses.new);
        let uses = uses.writing.iter();
        let mut uses: Vec<_> = uses.map(|(hash, used)| (*hash, *used)).collect();
        // So that what is near each other is written together.
        uses.sort_unstable_by_key(|(_, used)| used.at);
        uses
    }

    /// Ends that; what is `left` could not be written, and newer uses of the same keys stay. Tells how many
    /// found no room.
    fn end_writing(&self, left: &[(SlotHash, Use)]) -> u64 {
        let mut lost = 0;
        let mut uses = self.uses.lock().expect(POISON);
        uses.writing = ByHash::default();
        for (hash, used) in left {
            let is_full = uses.new.len() >= REMEMBERED;
            match uses.new.entry(*hash) {
                Entry::Occupied(mut newer) => {
                    let newer = newer.get_mut();
                    newer.count = newer.count.saturating_add(used.count);
                }
                Entry::Vacant(_) if is_full => lost += 1,
                Entry::Vacant(new) => {
                    new.insert(*used);
                }
            }
        }
        lost
    }

    /// Whether a key was used after `tick`, as far as that is not written yet.
    pub(super) fn is_used_since(&self, hash: SlotHash, tick: u64) -> bool {
        let uses = self.uses.lock().expect(POISON);
        let later = |uses: &ByHash| uses.get(&hash).is_some_and(|used| used.tick > tick);
        later(&uses.new) || later(&uses.writing)
    }

    /// Whether half of the room was taken since the last call. A load, most often.
    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed) && self.due.swap(false, Ordering::Relaxed)
    }

    /// Forgets everything: there is nothing any more that was used.
    pub(super) fn forget(&self) {
        *self.uses.lock().expect(POISON) = Uses::default();
    }
}

impl Inner {
    /// Remembers that a binding was used. No system call while there is room.
    pub(super) fn note_use(&self, index: &Index, binding: &Binding) {
        let hash = binding.slot.hash;
        let (at, tick) = (binding.at, self.next_generation(index));
        if self.recency.insert(self, hash, at, tick) {
            return;
        }
        if !self.make_room_for_uses() || !self.recency.insert(self, hash, at, tick) {
            Counters::add(&self.counters.lost_uses, 1);
        }
    }

    /// Writes the uses on the thread of a get that found no room; `false` if that did not work.
    fn make_room_for_uses(&self) -> bool {
        let now = self.born.elapsed();
        if now < self.recency.not_before.load(Ordering::Relaxed) || !self.is_own_process() {
            return false;
        }
        let done = self.write_uses(FULL_WAIT).is_ok();
        if !done {
            let later = now.saturating_add(u64::try_from(PAUSE.as_nanos()).unwrap_or(0));
            self.recency.not_before.store(later, Ordering::Relaxed);
        }
        done
    }

    /// Whether there are uses to write.
    pub(super) fn has_touches(&self) -> bool {
        self.recency
            .lock(self)
            .is_some_and(|uses| !uses.new.is_empty())
    }

    /// Writes the remembered uses, those that another thread is writing at this moment included.
    pub(super) fn write_touches(&self) -> Result<()> {
        self.write_uses(self.limits.lock_wait)
    }

    /// The same, waiting so long for each lock.
    fn write_uses(&self, wait: Duration) -> Result<()> {
        let late = || {
            Error::new(ErrorKind::Timeout, "write when entries were last used")
                .with_path(self.files.layout.base())
        };
        // A thread of the parent may hold what would be waited for.
        self.refuse_child("write last uses")?;
        let _turn = turn(&self.recency.writing, wait).ok_or_else(late)?;
        let uses = self.recency.begin_writing(self);
        for (i, batch) in uses.chunks(BATCH).enumerate() {
            let written = self.locked_within(wait).and_then(|locked| {
                let written = write_batch(&locked, batch);
                written
                    .and_then(|()| self.add_to_life(&locked.index))
                    .map_err(|e| self.error("write when entries were last used", e))
            });
            if let Err(e) = written {
                let lost = self.recency.end_writing(&uses[i * BATCH..]);
                Counters::add(&self.counters.lost_uses, lost);
                return Err(e);
            }
        }
        self.recency.end_writing(&[]);
        Ok(())
    }

    /// Refreshes keys that were used in a tier above.
    pub(super) fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
        let io = |e| self.error("write when entries were last used", e);
        for batch in keys.chunks(BATCH) {
            let locked = self.locked()?;
            let mut tick = 0;
            for key in batch {
                let hash = locked.index.hash(key.as_bytes());
                tick = self.next_generation(&locked.index);
                refresh(&locked.index, hash, (tick, 1)).map_err(io)?;
            }
            locked.index.raise_generation(tick).map_err(io)?;
            self.add_to_life(&locked.index).map_err(io)?;
        }
        Ok(())
    }

    /// Keys were used elsewhere at these times: what is known to have been used later stays so.
    pub(super) fn touch_at(&self, uses: &[(Fingerprint, u64)]) -> Result<()> {
        let io = |e| self.error("write when entries were last used", e);
        for batch in uses.chunks(BATCH) {
            let locked = self.locked()?;
            // Nothing was used in the future.
            let latest = now();
            for (key, at) in batch {
                let hash = locked.index.hash(key.as_bytes());
                refresh(&locked.index, hash, ((*at).min(latest), 0)).map_err(io)?;
            }
            let newest = batch.iter().map(|(_, at)| (*at).min(latest)).max();
            locked
                .index
                .raise_generation(newest.unwrap_or(0))
                .map_err(io)?;
        }
        Ok(())
    }
}

fn write_batch(locked: &Locked<'_>, batch: &[(SlotHash, Use)]) -> io::Result<()> {
    let index = &locked.index;
    // What is marked from now on is above these uses, in every process: ticks may run ahead of the
    // clock, and then only the header tells.
    let newest = batch.iter().map(|(_, used)| used.tick).max();
    index.raise_generation(newest.unwrap_or(0))?;
    let mut found = Vec::with_capacity(batch.len());
    for (hash, Use { at, tick, count }) in batch {
        // Most often the slot is where it was. Else the table was grown, or the binding moved.
        let slot = if at.bucket < index.buckets() {
            index.get(*at)?
        } else {
            None
        };
        match slot {
            Some(slot) if slot.kind == SlotKind::Key && slot.hash == *hash => {
                found.push((*at, used(&slot, *tick, *count)));
            }
            _ => refresh(index, *hash, (*tick, *count))?,
        }
    }
    index.write_uses(&found)
}

/// Refreshes all slots of a key with the tick and the number of its uses. The hash decides:
/// refreshing a stranger with the same 47 bits does no harm.
fn refresh(index: &Index, hash: SlotHash, (tick, count): (u64, u32)) -> io::Result<()> {
    for (at, slot) in index.find(SlotKind::Key, hash)? {
        let used = used(&slot, tick, count);
        if used != slot {
            index.write(at, &used)?;
        }
    }
    Ok(())
}

/// The slot after so many more uses, the last of them at `tick`.
fn used(slot: &Slot, tick: u64, count: u32) -> Slot {
    Slot {
        last_use: slot.last_use.max(tick),
        hits: slot.hits.plus(count, tick),
        ..*slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskStore;
    use crate::store::{Store, StoreExt};

    const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);

    fn lost(store: &DiskStore) -> u64 {
        Counters::read(&store.inner.counters.lost_uses)
    }

    /// A store with one key, which would wait for the lock for an hour.
    fn patient(dir: &std::path::Path) -> DiskStore {
        let hour = Duration::from_secs(3600);
        let store = DiskStore::builder().lock_wait(hour).open(dir).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        store.put_bytes(&KEY, [1]).unwrap();
        // It would write what a test wants to be unwritten.
        store.janitor.stop();
        store
    }

    /// Takes all the room there is.
    fn fill(store: &DiskStore) {
        let at = Position { bucket: 0, slot: 0 };
        for n in 0..REMEMBERED as u64 {
            let hash = SlotHash(1 << 40 | n);
            assert!(store.inner.recency.insert(&store.inner, hash, at, 1));
        }
    }

    #[test]
    fn a_get_that_finds_no_room_writes_the_uses_itself() {
        let dir = tempfile::tempdir().unwrap();
        let store = patient(dir.path());
        let before = store.info(&KEY).unwrap().unwrap().last_used;
        fill(&store);
        store.get(&KEY).unwrap().unwrap();
        assert_eq!(lost(&store), 0);
        store.flush().unwrap();
        assert!(store.info(&KEY).unwrap().unwrap().last_used > before);
    }

    #[test]
    fn uses_that_are_written_together_each_reach_their_slot_and_change_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = patient(dir.path());
        let key = |n: u64| {
            Fingerprint::builder("use")
                .field("n", n.to_le_bytes())
                .finish()
        };
        for n in 0..600 {
            store.put_bytes(&key(n), n.to_le_bytes()).unwrap();
        }
        store.janitor.stop();
        store.inner.write_touches().unwrap();
        let last_used = |n| store.info(&key(n)).unwrap().unwrap().last_used;
        let before: Vec<_> = (0..600).map(last_used).collect();
        for n in (0..600).filter(|n| n % 3 == 0) {
            store.get(&key(n)).unwrap().unwrap();
        }
        store.inner.write_touches().unwrap();
        for (n, before) in (0..).zip(before) {
            assert_eq!(last_used(n) > before, n % 3 == 0, "{n}");
            let found = store.get_artifact(&key(n)).unwrap().unwrap();
            assert_eq!(found.as_slice(), n.to_le_bytes());
        }
    }

    #[test]
    fn uses_that_cannot_be_written_are_given_back_and_nobody_hangs() {
        use crate::sys::fault::{FaultFs, Plan};
        use std::sync::Arc;

        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let plan = Arc::new(Plan::default());
        let fs = Arc::new(FaultFs::real(&plan));
        let store = DiskStore::builder().open_with(root, fs).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        store.put_bytes(&KEY, [1]).unwrap();
        store.janitor.stop();
        store.inner.write_touches().unwrap();
        store.get(&KEY).unwrap().unwrap();
        plan.fail(1, true, 5);
        assert!(store.inner.write_touches().is_err());
        assert!(store.inner.has_touches(), "they were given back");
        plan.stop();
        store.inner.write_touches().unwrap();
        assert!(!store.inner.has_touches());
    }

    #[test]
    fn a_mark_is_above_every_use_that_was_written_before_by_whomever() {
        let dir = tempfile::tempdir().unwrap();
        let store = patient(dir.path());
        let ahead = crate::store::now() + 60_000_000_000;
        let locked = store.inner.locked().unwrap();
        locked.index.set_generation(ahead).unwrap();
        drop(locked);
        for _ in 0..5 {
            store.get(&KEY).unwrap().unwrap();
        }
        store.inner.write_touches().unwrap();
        let other = DiskStore::open(dir.path()).unwrap();
        let mark = other.mark().unwrap();
        let used = store.info(&KEY).unwrap().unwrap().last_used;
        assert!(crate::store::nanos(used) > ahead, "ticks run ahead");
        assert!(mark.0 > crate::store::nanos(used));
        other.touch(&[KEY]).unwrap();
        let mark = store.mark().unwrap();
        let used = store.info(&KEY).unwrap().unwrap().last_used;
        assert!(mark.0 > crate::store::nanos(used));
    }

    #[test]
    fn a_get_waits_for_no_lock_that_somebody_holds_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let store = patient(dir.path());
        let other = patient(dir.path());
        fill(&store);
        let held = other.inner.locked().unwrap();
        for n in 1..=3 {
            store.get(&KEY).unwrap().unwrap();
            assert_eq!(lost(&store), n, "given up and counted");
        }
        drop(held);
        // The uses that were there before are there still, and are written now.
        store.inner.recency.not_before.store(0, Ordering::Relaxed);
        store.get(&KEY).unwrap().unwrap();
        assert_eq!(lost(&store), 3);
        let now = crate::store::now();
        assert!(
            store
                .inner
                .recency
                .is_used_since(other.inner.index().hash(KEY.as_bytes()), 1)
        );
        store.inner.write_touches().unwrap();
        let used = store.info(&KEY).unwrap().unwrap().last_used;
        assert!(crate::store::nanos(used) <= now);
        assert!(!store.inner.has_touches());
    }

    #[test]
    fn uses_are_counted_by_whomever_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let store = patient(dir.path());
        let hits = |store: &DiskStore| store.info(&KEY).unwrap().unwrap().hits;
        assert_eq!(hits(&store), 0, "a put is no use");
        let other = patient(dir.path());
        for store in [&store, &other, &store] {
            for _ in 0..2 {
                store.get(&KEY).unwrap().unwrap();
            }
        }
        store.inner.write_touches().unwrap();
        other.inner.write_touches().unwrap();
        // Putting what is there is a use of it, and one in memory is told of.
        assert_eq!(hits(&store), 6 + 1);
        store.touch(&[KEY]).unwrap();
        assert_eq!(hits(&store), 8);
        store
            .touch_at(&[(KEY, std::time::SystemTime::now())])
            .unwrap();
        assert_eq!(hits(&store), 8, "a use elsewhere is no use of this entry");
        store.put_bytes(&KEY, [2]).unwrap();
        assert_eq!(hits(&store), 0, "another artifact");
    }

    #[test]
    fn uses_find_their_slots_after_the_table_was_grown() {
        let dir = tempfile::tempdir().unwrap();
        let store = patient(dir.path());
        let before = store.info(&KEY).unwrap().unwrap().last_used;
        store.get(&KEY).unwrap().unwrap();
        {
            let mut locked = store.inner.locked().unwrap();
            let buckets = locked.index.buckets() * 4;
            store.inner.copy_index(&mut locked, buckets, 0).unwrap();
        }
        store.inner.write_touches().unwrap();
        assert!(store.info(&KEY).unwrap().unwrap().last_used > before);
    }
}
