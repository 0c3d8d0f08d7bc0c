//! The state behind a handle: the lock, the index in use, and the packs that are open.

use super::ended::is_sane;
use super::envelope::{CheckKey, Envelope, KeyId};
use super::header::{BadHeader, Field, REBUILDING, RETIRING};
use super::index::{Found, Index, NewIndex};
use super::layout::{INDEX, PackNumber};
use super::life::Life;
use super::lock::{DirLock, LockGuard};
use super::pack::{Files, OwnedPack, Pack};
use super::pending::{Names, Pending, Unsynced};
use super::publish::{newer, open_index};
use super::recency::Recency;
use super::right::Waited;
use super::slot::Place;
use super::tmp::TempFolder;
use super::verified::{Verified, Verify};
use super::{Mapping, counters::Counters};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, OnceLock, Ordering, RwLock};
use crate::sys::CoarseClock;
use rustc_hash::FxHashMap;
use std::io;
use std::time::{Duration, Instant};

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
/// Open packs that nobody asks for are dropped when there are more than this.
const OPEN_PACKS: usize = 192;

/// So many hits of a handle that is younger than [`SHORT_LIFE`] start no thread.
const FEW_HITS: u64 = 16;
/// Nanoseconds.
const SHORT_LIFE: u64 = 100_000_000;

/// Limits and thresholds, all in bytes but for entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) pack: u64,
    /// Payloads up to this length go into packs.
    pub(super) inline: u64,
    pub(super) mapping: Mapping,
    pub(super) verify: Verify,
    pub(super) lock_wait: Duration,
    /// What was put longer ago is a miss.
    pub(super) max_age: Option<Duration>,
    /// Namespaces in which nothing was used for so long go first.
    pub(super) idle_namespaces: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) files: Files,
    pub(super) limits: Limits,
    pub(super) lock: DirLock,
    pub(super) index: RwLock<Arc<Index>>,
    pub(super) packs: RwLock<FxHashMap<PackNumber, Arc<Pack>>>,
    /// The epoch at which `packs` was last looked through.
    pub(super) epoch: AtomicU64,
    /// The epoch at which the folders in `v1` are those that are durable, or pending.
    pub(super) folders: AtomicU64,
    /// Packs that are claimed and that nobody appends to at the moment.
    pub(super) pool: Mutex<Vec<(OwnedPack, Instant)>>,
    pub(super) pending: Mutex<Pending>,
    pub(super) unsynced: Mutex<Unsynced>,
    pub(super) flush_gate: Mutex<()>,
    pub(super) evict_gate: Mutex<()>,
    pub(super) evictor: Mutex<Option<Waited>>,
    pub(super) recency: Recency,
    pub(super) life: Life,
    pub(super) tmp: TempFolder,
    pub(super) counters: Counters,
    pub(super) verified: Verified,
    /// Under which key packs are.
    pub(super) key_ids: Mutex<FxHashMap<PackNumber, KeyId>>,
    /// The highest generation this handle gave out.
    pub(super) generation: AtomicU64,
    /// Whether the janitor has removed what killed processes left.
    pub(super) swept: AtomicBool,
    /// Which start of the machine this is, once somebody asked.
    pub(super) boot: OnceLock<Option<u64>>,
    /// Runs since the handle was opened. A get that misses reads it, and a better clock takes as long as
    /// the rest of the miss.
    pub(super) born: CoarseClock,
    /// Nanoseconds after that at which the path was last compared.
    pub(super) looked: AtomicU64,
    /// Who opened it.
    pub(super) process: u32,
}

/// The lock of the directory, held, with the index that is at the path.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    pub(super) index: Arc<Index>,
    _guard: LockGuard<'a>,
}

pub(super) use crate::store::now;

impl Inner {
    pub(super) fn new(files: Files, limits: Limits, index: Index) -> Self {
        let verified = Verified::new(limits.verify, &files.check);
        Self {
            files,
            limits,
            lock: DirLock::default(),
            index: RwLock::new(Arc::new(index)),
            packs: RwLock::default(),
            epoch: AtomicU64::new(0),
            folders: AtomicU64::new(u64::MAX),
            pool: Mutex::default(),
            pending: Mutex::default(),
            unsynced: Mutex::default(),
            flush_gate: Mutex::default(),
            evict_gate: Mutex::default(),
            evictor: Mutex::default(),
            recency: Recency::default(),
            life: Life::default(),
            tmp: TempFolder::default(),
            counters: Counters::default(),
            verified,
            key_ids: Mutex::default(),
            generation: AtomicU64::new(0),
            swept: AtomicBool::new(false),
            boot: OnceLock::default(),
            born: CoarseClock::start(),
            looked: AtomicU64::new(0),
            process: std::process::id(),
        }
    }

    /// Whether this is the process that opened the handle: a forked child only reads.
    pub(super) fn is_own_process(&self) -> bool {
        std::process::id() == self.process
    }

    /// Refuses what a forked child must not do.
    pub(super) fn refuse_child(&self, action: &str) -> Result<()> {
        if self.is_own_process() {
            return Ok(());
        }
        let action = format!("{action} from a forked process");
        Err(Error::new(ErrorKind::Closed, action).with_path(self.files.layout.root()))
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
        self.generation_above(index, 0)
    }

    /// The same, and above `newest` where the header knows less: it may be damaged, or an older
    /// one. Not above what no damage and no clock explains.
    pub(super) fn generation_above(&self, index: &Index, newest: u64) -> u64 {
        // Neither damage nor malice must use up all numbers there are.
        let sane = |known: u64| if is_sane(known) { known + 1 } else { 0 };
        let floor = sane(index.generation()).max(sane(newest));
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

    /// Makes what is missing of the folders; their names are made durable by the next flush.
    pub(super) fn make_directories(&self) -> Result<()> {
        self.pending.lock().expect(POISON).names = Names::Directory;
        super::create_directories(&self.files)
    }

    /// Makes what is missing, and lets others know: whoever binds to it from now on has to make its name
    /// durable too.
    pub(super) fn heal_directories(&self) -> Result<()> {
        let locked = self.locked()?;
        let io = |e| self.error("make the folders of the cache directory anew", e);
        let epoch = locked.index.field(Field::Epoch);
        locked.index.add(Field::Epoch, 1).map_err(io)?;
        // What was in packs that somebody deleted their open handles tell, so that it can be evicted.
        let new = epoch.wrapping_add(1);
        let same = |known: u64| (known == epoch).then_some(new);
        let known = &self.epoch;
        known
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, same)
            .ok();
        self.make_directories()
    }

    /// Takes the lock, and sees to it that directory and index are there and are the ones in use.
    pub(super) fn locked(&self) -> Result<Locked<'_>> {
        self.locked_within(self.limits.lock_wait)
    }

    /// The same, waiting so long.
    pub(super) fn locked_within(&self, wait: Duration) -> Result<Locked<'_>> {
        if self.files.read_only {
            return Err(self.read_only("change a cache directory"));
        }
        self.refuse_child("write")?;
        let acquire = || self.lock.acquire(&*self.files.fs, &self.files.layout, wait);
        let guard = match acquire() {
            Err(e) if e.kind() != ErrorKind::Timeout => {
                // The directory may have been deleted: make it anew, once.
                self.make_directories()?;
                acquire()?
            }
            guard => guard?,
        };
        self.with_index(guard)
    }

    /// The lock, for whoever removes what no slot names; `None` while the index is being rebuilt,
    /// for then it does not name everything.
    pub(super) fn locked_and_complete(&self) -> Result<Option<Locked<'_>>> {
        let locked = self.locked()?;
        let complete = !locked.index.has_flag(REBUILDING);
        Ok(complete.then_some(locked))
    }

    /// The lock with the index at the path, made if it is missing, and written anew if it was
    /// copied there: a copy knows nothing of what was bound since.
    fn with_index<'a>(&'a self, guard: LockGuard<'a>) -> Result<Locked<'a>> {
        let path = self.files.layout.index();
        let index = self.index();
        // The directory was compared with its path when it was locked: a look into it suffices.
        let below = guard.stat_below(INDEX.as_ref());
        let named = below.unwrap_or_else(|| self.files.fs.stat(&path));
        if named.is_ok_and(|named| index.is(&named)) {
            if index.has_flag(RETIRING) {
                // Whoever was about to replace it died, for the lock is ours.
                index
                    .set_flag(RETIRING, false)
                    .map_err(|e| Error::io("take a mark off the index", &path, e))?;
            }
            // Looked at under the lock: nobody is about to move folders away.
            let epoch = index.field(Field::Epoch);
            if self.folders.swap(epoch, Ordering::Relaxed) != epoch {
                let mut pending = self.pending.lock().expect(POISON);
                pending.names = pending.names.max(Names::Folders);
            }
            return Ok(Locked {
                index,
                _guard: guard,
            });
        }
        self.make_directories()?;
        let index = match open_index(&self.files)? {
            Found::Index(index) => index,
            Found::Bad(BadHeader::Newer) => return Err(newer(&self.files)),
            Found::Bad(BadHeader::Damaged) => self.publish(&NewIndex::empty())?,
        };
        if index.is_copy() {
            let buckets = index.buckets();
            let mut locked = Locked {
                index: Arc::new(index),
                _guard: guard,
            };
            self.copy_index(&mut locked, buckets, REBUILDING)?;
            return Ok(locked);
        }
        Ok(Locked {
            index: self.install(index),
            _guard: guard,
        })
    }

    pub(super) fn install(&self, index: Index) -> Arc<Index> {
        let index = Arc::new(index);
        *self.index.write().expect(POISON) = Arc::clone(&index);
        // Whoever put it there may have died before its name was durable.
        self.pending.lock().expect(POISON).names = Names::Directory;
        self.folders.store(u64::MAX, Ordering::Relaxed);
        // One that was lost and begun anew counts its epochs anew: equal ones tell nothing.
        self.epoch
            .store(index.field(Field::Epoch), Ordering::Relaxed);
        self.look_for_packs();
        index
    }

    /// The index, after a look at the marks that other processes leave in it: whether it was
    /// replaced, and whether packs were unlinked.
    pub(super) fn live_index(&self) -> Arc<Index> {
        let mut index = self.index();
        if index.has_flag(RETIRING) || self.is_private_outdated(&index) {
            index = self.refresh();
        }
        if index.field(Field::Epoch) != self.epoch.load(Ordering::Relaxed) {
            self.drop_gone_packs();
        }
        index
    }

    /// Looks whether another index is at the path, without the lock.
    pub(super) fn refresh(&self) -> Arc<Index> {
        if self.files.read_only {
            return self.refresh_read_only();
        }
        let index = self.index();
        let named = self.files.fs.stat(&self.files.layout.index());
        if named.as_ref().is_ok_and(|named| index.is(named)) {
            return index;
        }
        // Missing, damaged or copied there: the next writer sees to it, this reader goes on with what
        // it has.
        match open_index(&self.files) {
            Ok(Found::Index(found)) if !found.is_copy() => self.install(found),
            _ => index,
        }
    }

    /// Drops handles of packs that were unlinked, if any was since the last look.
    pub(super) fn drop_gone_packs(&self) {
        let epoch = self.index().field(Field::Epoch);
        if self.epoch.swap(epoch, Ordering::Relaxed) != epoch {
            self.look_for_packs();
        }
    }

    /// Drops handles of packs in whose place another file is. Of those whose files are just gone they still
    /// tell what was in them.
    pub(super) fn drop_exchanged_packs(&self) {
        let is_exchanged = |pack: &Pack| pack.is_exchanged(&self.files).unwrap_or(false);
        let mut packs = self.packs.write().expect(POISON);
        packs.retain(|_, pack| !is_exchanged(pack));
    }

    fn look_for_packs(&self) {
        let is_there = |pack: &Pack| pack.is_named(&self.files).unwrap_or(false);
        let mut packs = self.packs.write().expect(POISON);
        packs.retain(|_, pack| is_there(pack));
        drop(packs);
        // A clear that was killed leaves claimed packs aside, where nobody finds what is put.
        let mut pool = self.pool.lock().expect(POISON);
        pool.retain(|(owned, _)| is_there(&owned.pack));
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
                // That a sync failed only its handle knows.
                packs.retain(|_, pack| pack.has_failed());
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

    /// Whether what a get has noted is worth a thread yet: a process that opens the directory, gets
    /// little and ends, writes it when it ends.
    pub(super) fn has_settled_down(&self) -> bool {
        Counters::read(&self.counters.hits) > FEW_HITS || self.born.elapsed() > SHORT_LIFE
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
}
