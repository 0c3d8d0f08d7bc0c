//! The state behind a handle: how a key is looked up, and how the lock is taken.

use super::envelope::{CheckKey, Envelope, Kind};
use super::header::{BadHeader, Changes, Field, REBUILDING, RETIRING};
use super::index::{FIRST_BUCKETS, Found, Index};
use super::layout::{INDEX, PackNumber};
use super::lock::{DirLock, LockGuard};
use super::object::{self, Loaded};
use super::pack::{Files, OwnedPack, Pack, is_absent, random_bytes};
use super::pending::Pending;
use super::slot::{Place, Slot, SlotKind};
use super::table::{HeapTable, Position};
use super::tmp::TempFolder;
use super::{Mapping, counters::Counters};
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::events;
use crate::fingerprint::Fingerprint;
use crate::sys::Access;
use rustc_hash::FxHashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
/// A handle that only misses looks at the index's path this often, to see that it was replaced.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A get looks this often: where something was found damaged or moved away, what is beside it or
/// where it went is served.
const LOOKS: usize = 6;
/// Two full buckets are a reason to grow a table that has more than this many slots a bucket.
const CROWDED: u64 = 4;
/// A look-up of a key that is changed all the while looks this often before it takes what it sees.
const SETTLING_LOOKS: usize = 16;
/// Open packs that nobody asks for are dropped when there are more than this.
const OPEN_PACKS: usize = 1024;

/// Limits and thresholds, all in bytes but for entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) pack: u64,
    /// Payloads up to this length go into packs.
    pub(super) inline: u64,
    pub(super) mapping: Mapping,
    pub(super) lock_wait: Duration,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) files: Files,
    pub(super) limits: Limits,
    pub(super) lock: DirLock,
    pub(super) index: RwLock<Arc<Index>>,
    pub(super) packs: RwLock<FxHashMap<PackNumber, Arc<Pack>>>,
    /// The epoch at which `packs` was last looked through.
    epoch: AtomicU64,
    /// Packs that are claimed and that nobody appends to at the moment.
    pub(super) pool: Mutex<Vec<(OwnedPack, Instant)>>,
    pub(super) pending: Mutex<Pending>,
    pub(super) flush_gate: Mutex<()>,
    pub(super) evict_gate: Mutex<()>,
    pub(super) touches: Mutex<FxHashMap<Place, (Position, u64)>>,
    pub(super) tmp: TempFolder,
    pub(super) counters: Counters,
    /// The highest generation this handle gave out.
    generation: AtomicU64,
    born: Instant,
    /// Milliseconds after `born` at which the path was last compared.
    looked: AtomicU64,
    process: u32,
}

/// A live binding, as its envelope says.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) at: Position,
    pub(super) slot: Slot,
    pub(super) envelope: Envelope,
    pub(super) pack: Arc<Pack>,
}

/// The bindings of a key, and slots that look like its own and lead to nothing live.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    /// By generation, the newest last.
    pub(super) live: Vec<Binding>,
    pub(super) stale: Vec<(Position, Slot)>,
}

impl Bindings {
    /// Where the slots are and where they lead, and which of them are alive.
    fn places(&self) -> impl Iterator<Item = (Position, Place, bool)> {
        let live = self.live.iter().map(|b| (b.at, b.slot.place, true));
        live.chain(self.stale.iter().map(|(at, slot)| (*at, slot.place, false)))
    }

    /// Whether `slots` are among the live ones.
    fn has_all(&self, slots: &[(Position, Slot)]) -> bool {
        let is_live = |at: Position, place| {
            self.live
                .iter()
                .any(|b| (b.at, b.slot.place) == (at, place))
        };
        slots.iter().all(|(at, slot)| is_live(*at, slot.place))
    }
}

/// The lock of the directory, held, with the index that is at the path.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    pub(super) index: Arc<Index>,
    _guard: LockGuard<'a>,
}

/// What loading the content of a binding found.
enum Content {
    Artifact(Artifact),
    Gone,
    Corrupt,
}

pub(super) fn now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

impl Inner {
    pub(super) fn new(files: Files, limits: Limits, index: Index) -> Self {
        Self {
            files,
            limits,
            lock: DirLock::default(),
            index: RwLock::new(Arc::new(index)),
            packs: RwLock::default(),
            epoch: AtomicU64::new(0),
            pool: Mutex::default(),
            pending: Mutex::default(),
            flush_gate: Mutex::default(),
            evict_gate: Mutex::default(),
            touches: Mutex::default(),
            tmp: TempFolder::default(),
            counters: Counters::default(),
            generation: AtomicU64::new(0),
            born: Instant::now(),
            looked: AtomicU64::new(0),
            process: std::process::id(),
        }
    }

    /// Whether this is the process that opened the handle: a forked child only reads.
    pub(super) fn is_own_process(&self) -> bool {
        std::process::id() == self.process
    }

    pub(super) fn check(&self) -> &CheckKey {
        &self.files.check
    }

    pub(super) fn error(&self, action: &str, e: io::Error) -> Error {
        Error::io(action, self.files.layout.base(), e)
    }

    /// The index as it was last seen.
    pub(super) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().expect(POISON))
    }

    /// A number above every generation given out so far, near the wall clock in nanoseconds. Clock
    /// jumps do not reorder: it never runs backwards.
    pub(super) fn next_generation(&self, index: &Index) -> u64 {
        let floor = index.field(Field::Generation);
        // A header's damage must not use up all numbers there are.
        let floor = if floor > u64::MAX / 2 { 0 } else { floor + 1 };
        let mut given = now().max(floor);
        let next = |last: u64| Some(last.saturating_add(1).max(given));
        if let Ok(last) = self
            .generation
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
        {
            given = last.saturating_add(1).max(given);
        }
        given
    }

    /// Takes the lock, and sees to it that directory and index are there and are the ones in use.
    pub(super) fn locked(&self) -> Result<Locked<'_>> {
        if !self.is_own_process() {
            return Err(Error::new(ErrorKind::Closed, "write from a forked process")
                .with_path(self.files.layout.root()));
        }
        let acquire = || {
            self.lock
                .acquire(&*self.files.fs, &self.files.layout, self.limits.lock_wait)
        };
        let guard = match acquire() {
            Err(e) if e.kind() != ErrorKind::Timeout => {
                // The directory may have been deleted: make it anew, once.
                super::create_directories(&self.files)?;
                acquire()?
            }
            guard => guard?,
        };
        let index = self.current_index(&guard)?;
        Ok(Locked {
            index,
            _guard: guard,
        })
    }

    /// The lock, for whoever removes what no slot names; `None` while the index is being rebuilt,
    /// for then it does not name everything.
    pub(super) fn locked_and_complete(&self) -> Result<Option<Locked<'_>>> {
        let locked = self.locked()?;
        let complete = !locked.index.has_flag(REBUILDING);
        Ok(complete.then_some(locked))
    }

    /// The index at the path, made if it is missing.
    fn current_index(&self, guard: &LockGuard<'_>) -> Result<Arc<Index>> {
        let path = self.files.layout.index();
        let index = self.index();
        // The directory was compared with its path when it was locked: one look into it suffices.
        let named = guard
            .stat_below(INDEX.as_ref())
            .unwrap_or_else(|| self.files.fs.stat(&path));
        if named.as_ref().is_ok_and(|named| index.is(named)) {
            if index.has_flag(RETIRING) {
                // Whoever was about to replace it died, for the lock is ours.
                index
                    .set_flag(RETIRING, false)
                    .map_err(|e| Error::io("take a mark off the index", &path, e))?;
            }
            return Ok(index);
        }
        super::create_directories(&self.files)?;
        let index = match open_index(&self.files)? {
            Found::Index(index) => index,
            Found::Bad(BadHeader::Newer) => return Err(newer(&self.files)),
            Found::Bad(BadHeader::Damaged) => self.publish(&NewIndex::empty())?,
        };
        Ok(self.install(index))
    }

    pub(super) fn install(&self, index: Index) -> Arc<Index> {
        let index = Arc::new(index);
        *self.index.write().expect(POISON) = Arc::clone(&index);
        // Whoever put it there may have died before its name was durable.
        self.pending.lock().expect(POISON).names = true;
        self.drop_gone_packs();
        index
    }

    /// The index, after a look at the marks that other processes leave in it: whether it was
    /// replaced, and whether packs were unlinked.
    pub(super) fn live_index(&self) -> Result<Arc<Index>> {
        let mut index = self.index();
        if index.has_flag(RETIRING) {
            index = self.refresh()?;
        }
        if index.field(Field::Epoch) != self.epoch.load(Ordering::Relaxed) {
            self.drop_gone_packs();
        }
        Ok(index)
    }

    /// Looks whether another index is at the path, without the lock.
    pub(super) fn refresh(&self) -> Result<Arc<Index>> {
        let index = self.index();
        let named = self.files.fs.stat(&self.files.layout.index());
        if named.as_ref().is_ok_and(|named| index.is(named)) {
            return Ok(index);
        }
        // Missing or damaged: the next writer sees to it, this reader goes on with what it has.
        match open_index(&self.files) {
            Ok(Found::Index(found)) => Ok(self.install(found)),
            _ => Ok(index),
        }
    }

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
            let (mut used, mut left_out) = (0, 0_u64);
            old.for_each(|at, slot| {
                // Only damage puts a slot where nobody looks for it.
                if !slot.hash.buckets(old.buckets()).contains(&at.bucket) {
                } else if table.insert(&slot) {
                    used += 1;
                } else {
                    left_out += 1;
                }
            })
            .map_err(io)?;
            // No table is large enough for slots that are all alike: some of these are left out.
            if left_out == 0 || buckets >= largest {
                break (table, used);
            }
            buckets = buckets.saturating_mul(2);
        };
        let flags = old.field(Field::Flags) & !RETIRING | flag;
        self.replace_index(locked, buckets, flags, Some(&table))?;
        locked.index.set_field(Field::Used, used).map_err(io)
    }

    /// Puts a table with the totals of the old one in its place. The caller holds the lock.
    ///
    pub(super) fn replace_index(
        &self,
        locked: &mut Locked<'_>,
        buckets: u64,
        flags: u64,
        table: Option<&HeapTable>,
    ) -> Result<()> {
        let old = Arc::clone(&locked.index);
        let io = |e| Error::io("replace the index", self.files.layout.index(), e);
        let totals = Some(&*old);
        let new = self.publish(&NewIndex {
            buckets,
            flags,
            seed: old.seed(),
            table,
            totals,
        })?;
        self.files
            .fs
            .sync_dir(self.files.layout.base())
            .map_err(io)?;
        locked.index = self.install(new);
        Ok(())
    }

    /// Drops handles of packs that were unlinked, if any was since the last look.
    pub(super) fn drop_gone_packs(&self) {
        let epoch = self.index().field(Field::Epoch);
        if self.epoch.swap(epoch, Ordering::Relaxed) != epoch {
            let is_there = |pack: &Pack| pack.is_named(&self.files).unwrap_or(false);
            let mut packs = self.packs.write().expect(POISON);
            packs.retain(|_, pack| is_there(pack));
            drop(packs);
            // A clear that was killed leaves claimed packs aside, where nobody finds what is put.
            let mut pool = self.pool.lock().expect(POISON);
            pool.retain(|(owned, _)| is_there(&owned.pack));
        }
    }

    /// The pack called `number`; `None` if it is gone.
    pub(super) fn pack(&self, number: PackNumber) -> io::Result<Option<Arc<Pack>>> {
        if let Some(pack) = self.packs.read().expect(POISON).get(&number) {
            return Ok(Some(Arc::clone(pack)));
        }
        let pack = Pack::open(&self.files, number)?;
        if let Some(pack) = &pack {
            let mut packs = self.packs.write().expect(POISON);
            if packs.len() >= OPEN_PACKS {
                packs.clear();
            }
            packs.insert(number, Arc::clone(pack));
        }
        Ok(pack)
    }

    /// The envelope at a place, and whether it is live.
    pub(super) fn envelope(&self, place: Place) -> io::Result<Option<(Arc<Pack>, Envelope, bool)>> {
        let Some(pack) = self.pack(place.pack())? else {
            return Ok(None);
        };
        let found = pack.envelope(self.check(), place.offset())?;
        Ok(found.map(|(envelope, live)| (pack, envelope, live)))
    }

    /// All bindings of `key` that the index knows.
    pub(super) fn bindings(&self, index: &Index, key: &Fingerprint) -> io::Result<Bindings> {
        let hash = index.hash(key.as_bytes());
        let mut found = Bindings::default();
        for (at, slot) in index.find(SlotKind::Key, hash)? {
            match self.envelope(slot.place)? {
                Some((pack, envelope, true)) if envelope.key == *key => {
                    found.live.push(Binding {
                        at,
                        slot,
                        envelope,
                        pack,
                    });
                }
                // Another key with the same hash: leave its slot alone.
                Some((_, envelope, true)) if index.hash(envelope.key.as_bytes()) == hash => {}
                _ => found.stale.push((at, slot)),
            }
        }
        found
            .live
            .sort_by_key(|binding| (binding.envelope.generation, binding.slot.place));
        Ok(found)
    }

    /// The bindings of `key` at one moment, for who does not hold the lock.
    ///
    /// Bindings are looked at one after the other, while a flush or a removal may bury them, the
    /// oldest first: a look that found an older one alive may come to the newer one when that is
    /// dead too, or no longer in the table. So only a look that nothing changed under counts.
    pub(super) fn settled_bindings(
        &self,
        index: &Index,
        key: &Fingerprint,
    ) -> io::Result<Bindings> {
        let mut found = self.bindings(index, key)?;
        for _ in 0..SETTLING_LOOKS {
            if found.live.is_empty() {
                break;
            }
            if found.stale.is_empty() {
                // What was alive is alive unless its slot went, and nothing newer came.
                let slots = index.find(SlotKind::Key, index.hash(key.as_bytes()))?;
                if slots.len() == found.live.len() && found.has_all(&slots) {
                    break;
                }
            }
            let again = self.bindings(index, key)?;
            let settled = again.places().eq(found.places());
            found = again;
            if settled {
                break;
            }
        }
        Ok(found)
    }

    /// Where the index says that content is stored, inline or as an object (the envelope's kind
    /// tells): the slot and the pack, if the envelope there bears it out.
    pub(super) fn content(
        &self,
        index: &Index,
        digest: &Digest,
    ) -> io::Result<Option<(Position, Slot, Arc<Pack>, Envelope)>> {
        for (at, slot) in index.find(SlotKind::Content, index.hash(digest.as_bytes()))? {
            if let Some((pack, envelope, _)) = self.envelope(slot.place)? {
                // Live or dead: the dead word ends a binding, not the bytes behind it.
                if envelope.digest == *digest {
                    return Ok(Some((at, slot, pack, envelope)));
                }
            }
        }
        Ok(None)
    }

    /// The entry under `key` and its slot, verified; its use is noted.
    pub(super) fn get(&self, key: &Fingerprint) -> Result<Option<(Artifact, Binding)>> {
        let mut index = self.live_index()?;
        let mut looked_again = false;
        for _ in 0..LOOKS {
            let found = self.look(&index, key);
            let go_on = match found.map_err(|e| self.error("look up a key", e))? {
                Look::Found(artifact, binding) => {
                    self.note_use(&index, &binding);
                    return Ok(Some((artifact, binding)));
                }
                // An older binding, which a flush made durable, may be beside what a power cut
                // left of a newer one.
                Look::Corrupt(binding) => self.quarantine(&binding),
                Look::Gone if looked_again => self.forget_stale(key),
                Look::Nothing if looked_again || !self.is_time_to_look() => false,
                // It may have moved, or another index may be at the path: once more.
                Look::Gone | Look::Nothing => {
                    looked_again = true;
                    self.epoch.store(u64::MAX, Ordering::Relaxed);
                    index = self.refresh()?;
                    self.drop_gone_packs();
                    true
                }
            };
            if !go_on {
                break;
            }
        }
        Ok(None)
    }

    /// Whether there is nothing for the janitor to do.
    pub(super) fn is_idle(&self) -> bool {
        let pool_is_empty = self.pool.lock().expect(POISON).is_empty();
        pool_is_empty && !self.has_touches() && !self.index().has_flag(REBUILDING)
    }

    /// In a forked child: leaves everything to the parent.
    pub(super) fn abandon(&self) {
        self.tmp.forget();
        // Unlocking here would unlock for the parent as well.
        if let Ok(mut pool) = self.pool.try_lock() {
            pool.drain(..).for_each(std::mem::forget);
        }
    }

    fn is_time_to_look(&self) -> bool {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = self.looked.load(Ordering::Relaxed);
        if now < last + LOOK_AGAIN.as_millis() as u64 {
            return false;
        }
        self.looked.store(now, Ordering::Relaxed);
        true
    }

    fn look(&self, index: &Index, key: &Fingerprint) -> io::Result<Look> {
        let mut found = self.settled_bindings(index, key)?;
        let Some(binding) = found.live.pop() else {
            return Ok(if found.stale.is_empty() {
                Look::Nothing
            } else {
                Look::Gone
            });
        };
        Ok(match self.load(index, &binding)? {
            Content::Artifact(artifact) => Look::Found(artifact, binding),
            Content::Gone => Look::Gone,
            Content::Corrupt => Look::Corrupt(binding),
        })
    }

    fn load(&self, index: &Index, binding: &Binding) -> io::Result<Content> {
        let Envelope {
            kind,
            digest,
            length,
            ..
        } = binding.envelope;
        let (pack, offset) = match kind {
            Kind::Inline => (Arc::clone(&binding.pack), binding.slot.place.offset()),
            Kind::Namespace => return Ok(Content::Gone),
            Kind::Object => {
                let map = self.limits.mapping == Mapping::Large;
                return Ok(match object::load(&self.files, &digest, length, map)? {
                    Loaded::Artifact(artifact) => Content::Artifact(artifact),
                    Loaded::Gone => Content::Gone,
                    Loaded::Corrupt => Content::Corrupt,
                });
            }
            Kind::Shared => match self.content(index, &digest)? {
                Some((_, slot, pack, found)) if found.kind == Kind::Inline => {
                    (pack, slot.place.offset())
                }
                _ => return Ok(Content::Gone),
            },
        };
        Ok(match pack.payload(offset, length, &digest)? {
            Some(bytes) => Content::Artifact(Artifact::verified_heap(bytes, digest, None)),
            None => Content::Corrupt,
        })
    }

    /// Sees to it that damaged content is not found again; tells whether it did. Best effort, and
    /// counted.
    fn quarantine(&self, binding: &Binding) -> bool {
        Counters::add(&self.counters.corrupt, 1);
        events::corrupt(
            &self.files.layout.pack(binding.slot.place.pack()),
            "content",
        );
        let Ok(locked) = self.locked() else {
            return false;
        };
        let done = (|| -> io::Result<()> {
            locked.index.add(Field::Corrupt, 1)?;
            // Only if it is still there: another process may have healed it meanwhile.
            if locked
                .index
                .get(binding.at)?
                .is_none_or(|slot| slot.place != binding.slot.place)
            {
                return Ok(());
            }
            if !matches!(self.load(&locked.index, binding)?, Content::Corrupt) {
                return Ok(());
            }
            self.drop_binding(&locked.index, binding)?;
            self.drop_content(&locked.index, binding)
        })();
        if done.is_err() {
            Counters::add(&self.counters.internal_errors, 1);
        }
        done.is_ok()
    }

    /// Drops the damaged content of a binding, unless an equal copy elsewhere is what others share.
    fn drop_content(&self, index: &Index, binding: &Binding) -> io::Result<()> {
        let Envelope { kind, digest, .. } = binding.envelope;
        if let Some((at, slot, _, _)) = self.content(index, &digest)? {
            if kind != Kind::Inline || slot.place == binding.slot.place {
                self.clear_slot(index, at, &slot, false)?;
            }
        }
        if kind == Kind::Object && object::unlink(&self.files, &digest)? {
            let freed = object::allocated(binding.envelope.length);
            index.subtract(Field::DiskBytes, freed)?;
        }
        Ok(())
    }

    /// Ends one binding; older ones of its key stay.
    fn drop_binding(&self, index: &Index, binding: &Binding) -> io::Result<()> {
        let others = self.bindings(index, &binding.envelope.key)?.live;
        let unbinds = others.iter().all(|other| other.at == binding.at);
        binding.pack.mark_dead(binding.slot.place.offset())?;
        self.pending.lock().expect(POISON).add_pack(&binding.pack);
        self.clear_slot(index, binding.at, &binding.slot, unbinds)
    }

    /// Clears slots of `key` that lead to nothing, under the lock and after a second look; tells
    /// whether it did.
    pub(super) fn forget_stale(&self, key: &Fingerprint) -> bool {
        let Ok(locked) = self.locked() else {
            return false;
        };
        let done = (|| -> io::Result<()> {
            let found = self.bindings(&locked.index, key)?;
            for (i, (at, slot)) in found.stale.into_iter().enumerate() {
                self.clear_slot(&locked.index, at, &slot, found.live.is_empty() && i == 0)?;
            }
            if let Some(newest) = found.live.last() {
                if matches!(self.load(&locked.index, newest)?, Content::Gone) {
                    self.drop_binding(&locked.index, newest)?;
                }
            }
            Ok(())
        })();
        if done.is_err() {
            Counters::add(&self.counters.internal_errors, 1);
        }
        done.is_ok()
    }

    /// Ends the newest bindings of `key` until one is left whose content is whole, for a rebuild:
    /// only a whole one may put an end to what is older.
    pub(super) fn drop_torn(&self, key: &Fingerprint) -> io::Result<()> {
        for _ in 0..LOOKS {
            let index = self.index();
            let Some(newest) = self.bindings(&index, key)?.live.pop() else {
                break;
            };
            if matches!(self.load(&index, &newest)?, Content::Artifact(_))
                || newest.envelope.kind == Kind::Namespace
            {
                break;
            }
            let locked = self.locked().map_err(super::bind::into_io)?;
            // Only if it is still the newest, and torn: it may have been healed meanwhile.
            let now = self.bindings(&locked.index, key)?.live.pop();
            if let Some(now) = now.filter(|now| now.slot.place == newest.slot.place) {
                if !matches!(self.load(&locked.index, &now)?, Content::Artifact(_)) {
                    self.drop_binding(&locked.index, &now)?;
                }
            }
        }
        Ok(())
    }

    /// Writes: empties a slot and corrects the totals. The caller holds the lock, and says whether
    /// a key lost its last binding.
    pub(super) fn clear_slot(
        &self,
        index: &Index,
        at: Position,
        slot: &Slot,
        unbinds: bool,
    ) -> io::Result<()> {
        index.clear(at)?;
        let mut totals = Changes::default();
        totals.subtract(Field::Used, 1);
        if slot.kind == SlotKind::Key {
            totals.add(Field::Garbage, slot.allocated.bytes());
            if unbinds && slot.content != 0 {
                totals.subtract(Field::Entries, 1);
            }
        }
        index.change(&totals)
    }
}

enum Look {
    Found(Artifact, Binding),
    Corrupt(Binding),
    /// A slot led to nothing.
    Gone,
    Nothing,
}

/// What is at the index's path.
pub(super) fn open_index(files: &Files) -> Result<Found> {
    let path = files.layout.index();
    let io = |e| Error::io("open the index", &path, e);
    let file = match files.fs.open(&path, Access::Write) {
        Ok(file) => file,
        Err(e) if is_absent(&e) => return Ok(Found::Bad(BadHeader::Damaged)),
        Err(e) => return Err(io(e)),
    };
    match Index::open(file, files.map) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Found::Bad(BadHeader::Damaged)),
        found => found.map_err(io),
    }
}

/// A table to be published.
#[derive(Debug)]
pub(super) struct NewIndex<'a> {
    pub(super) buckets: u64,
    pub(super) flags: u64,
    pub(super) seed: u64,
    /// `None`: an empty one.
    pub(super) table: Option<&'a HeapTable>,
    /// The index whose totals it takes over. It is then made durable before it is published,
    /// because what a flush acknowledged relies on it.
    pub(super) totals: Option<&'a Index>,
}

impl NewIndex<'_> {
    /// The first index of a directory, flagged as being rebuilt: whoever walks the packs (most
    /// often there are none) takes the flag away.
    pub(super) fn empty() -> Self {
        let seed = crate::hex::words(&random_bytes())[0];
        let flags = REBUILDING;
        Self {
            buckets: FIRST_BUCKETS,
            flags,
            seed,
            table: None,
            totals: None,
        }
    }
}

/// Writes an index to a temporary file and renames it into its place.
pub(super) fn publish_index(
    files: &Files,
    tmp: &TempFolder,
    new: &NewIndex<'_>,
) -> io::Result<Index> {
    let temp = tmp.file(files, Access::CreateNew)?;
    Index::write_new(&**temp.as_file(), new)?;
    let Found::Index(index) = Index::open(Arc::clone(temp.as_file()), files.map)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    if let Some(totals) = new.totals {
        for field in super::header::CARRIED {
            index.set_field(field, totals.field(field))?;
        }
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
