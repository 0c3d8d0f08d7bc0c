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

/// The bindings of a key, and slots that look like its own and lead to nothing.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    /// By generation, the newest last.
    pub(super) live: Vec<Binding>,
    pub(super) stale: Vec<(Position, Slot)>,
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

    /// The index at the path, made if it is missing.
    fn current_index(&self, guard: &LockGuard<'_>) -> Result<Arc<Index>> {
        let index = self.index();
        // The directory was compared with its path when it was locked: one look into it suffices.
        let named = guard
            .stat_below(INDEX.as_ref())
            .unwrap_or_else(|| self.files.fs.stat(&self.files.layout.index()));
        if named.as_ref().is_ok_and(|named| index.is(named)) {
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

    /// Doubles the table. The caller holds the lock.
    pub(super) fn grow(&self, locked: &mut Locked<'_>) -> Result<()> {
        let buckets = locked.index.buckets().saturating_mul(2);
        self.copy_index(locked, buckets, 0)
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
        let table = loop {
            let too_large = || io(io::ErrorKind::OutOfMemory.into());
            let mut table = HeapTable::new(buckets).ok_or_else(too_large)?;
            let mut fits = true;
            old.for_each(|_, slot| fits &= table.insert(&slot))
                .map_err(io)?;
            if fits {
                break table;
            }
            buckets = buckets.saturating_mul(2);
        };
        let flags = old.field(Field::Flags) & !RETIRING | flag;
        self.replace_index(locked, buckets, flags, Some(&table))
    }

    /// Puts a table with the totals of the old one in its place. The caller holds the lock.
    ///
    /// The old one is marked afterwards, so that a failure changes nothing; a process that dies in
    /// between leaves readers to find out by time.
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
        old.set_flag(RETIRING, true).map_err(io)?;
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
            let mut packs = self.packs.write().expect(POISON);
            packs.retain(|_, pack| pack.is_named(&self.files).unwrap_or(false));
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

    /// Where equal content is stored inline: the slot and the pack, if its envelope bears it out.
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
        let index = self.live_index()?;
        let found = self
            .look(&index, key)
            .map_err(|e| self.error("look up a key", e))?;
        let (damaged, doubtful) = match found {
            Look::Found(artifact, binding) => {
                self.note_use(&index, &binding);
                return Ok(Some((artifact, binding)));
            }
            Look::Corrupt(binding) => (Some(binding), true),
            Look::Gone => (None, true),
            Look::Nothing => (None, false),
        };
        if let Some(binding) = damaged {
            self.quarantine(&binding);
            return Ok(None);
        }
        if !doubtful && !self.is_time_to_look() {
            return Ok(None);
        }
        // It may have moved, or another index may be at the path: once more.
        self.epoch.store(u64::MAX, Ordering::Relaxed);
        let index = self.refresh()?;
        self.drop_gone_packs();
        match self
            .look(&index, key)
            .map_err(|e| self.error("look up a key", e))?
        {
            Look::Found(artifact, binding) => {
                self.note_use(&index, &binding);
                return Ok(Some((artifact, binding)));
            }
            Look::Corrupt(binding) => self.quarantine(&binding),
            Look::Gone => self.forget_stale(key),
            Look::Nothing => {}
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
        let mut found = self.bindings(index, key)?;
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

    /// Sees to it that damaged content is not found again. Best effort, and counted.
    fn quarantine(&self, binding: &Binding) {
        Counters::add(&self.counters.corrupt, 1);
        events::corrupt(
            &self.files.layout.pack(binding.slot.place.pack()),
            "content",
        );
        let Ok(locked) = self.locked() else { return };
        let digest = binding.envelope.digest;
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
            binding.pack.mark_dead(binding.slot.place.offset())?;
            self.clear_slot(&locked.index, binding.at, &binding.slot, true)?;
            if let Some((at, slot, _, _)) = self.content(&locked.index, &digest)? {
                self.clear_slot(&locked.index, at, &slot, false)?;
            }
            if binding.envelope.kind == Kind::Object && object::unlink(&self.files, &digest)? {
                let freed = object::allocated(binding.envelope.length);
                locked.index.subtract(Field::DiskBytes, freed)?;
            }
            Ok(())
        })();
        if done.is_err() {
            Counters::add(&self.counters.internal_errors, 1);
        }
    }

    /// Clears slots of `key` that lead to nothing, under the lock and after a second look.
    pub(super) fn forget_stale(&self, key: &Fingerprint) {
        let Ok(locked) = self.locked() else { return };
        let done = (|| -> io::Result<()> {
            let found = self.bindings(&locked.index, key)?;
            for (i, (at, slot)) in found.stale.into_iter().enumerate() {
                self.clear_slot(&locked.index, at, &slot, found.live.is_empty() && i == 0)?;
            }
            for binding in found.live {
                if matches!(self.load(&locked.index, &binding)?, Content::Gone) {
                    binding.pack.mark_dead(binding.slot.place.offset())?;
                    self.clear_slot(&locked.index, binding.at, &binding.slot, true)?;
                }
            }
            Ok(())
        })();
        if done.is_err() {
            Counters::add(&self.counters.internal_errors, 1);
        }
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
    /// The first index of a directory; if there is anything in it, it is being rebuilt.
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
    let path = files.layout.index();
    match files.fs.rename(temp.path(), &path) {
        Err(_) if files.fs.stat(&path).is_ok_and(|meta| meta.is_dir) => {
            files.fs.remove_tree(&path)?;
            files.fs.rename(temp.path(), &path)?;
        }
        done => done?,
    }
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
