//! Warming up: what was used last is brought from the directory into memory before it is asked for.
//!
//! Several threads load and verify, in the order of last use; the caller's thread hears of each
//! artifact and may end it. Everything goes by the rules of a promotion, fills only room that is
//! free, and stands behind whatever memory holds: what was used last is last to leave again.

use super::Cache;
use super::inner::{Backend, Inner};
use crate::disk::{Quiet, Recent};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::memory::Added;
use crate::store::Store;
use crate::{DiskStore, MemoryStore, Tiered};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

const POISON: &str = "the lock of a warm-up is poisoned: a thread panicked under it";
/// More threads than this do not make a disk faster.
const MOST_THREADS: usize = 8;
/// Results that may wait for the caller's callback.
const WAITING: usize = 64;

/// How far a warm-up is; see [`Cache::warm_up_with`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUpProgress {
    /// Artifacts that were brought into memory.
    pub artifacts: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Artifacts that were left: in memory already, larger than limit or memory, too old, changed or gone
    /// meanwhile, or not to be read.
    pub skipped: u64,
    /// Artifacts that were found damaged. They are not served.
    pub damaged: u64,
    /// Artifacts in the directory; more than there is room for, maybe.
    pub candidates: u64,
}

/// Why a warm-up ended; part of a [`WarmUpReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WarmUpEnd {
    /// Everything in the directory was looked at.
    Complete,
    /// The next artifact would have gone beyond the limit of bytes.
    Limit,
    /// Memory has no room for the next artifact.
    MemoryFull,
    /// The callback said so.
    Cancelled,
    /// The cache has no directory.
    NoDirectory,
    /// The directory could not be read; counted as a fault.
    Failed,
}

/// What a warm-up did; see [`Cache::warm_up`], which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUpReport {
    /// Artifacts, bytes, and what was left.
    pub progress: WarmUpProgress,
    /// How long it took.
    pub time: Duration,
    /// Why it ended.
    pub end: WarmUpEnd,
}

impl Cache {
    /// Brings the artifacts used last into memory, up to `limit` bytes, and tells what it did.
    ///
    /// They are verified as a get would, by several threads, those used last first. It stops at
    /// the limit or where memory is full: nothing that memory holds makes room. It counts as
    /// neither lookups nor uses, and what is put or removed meanwhile wins. A fault of the cache
    /// is counted, and never fails the caller.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path();
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let cache = Cache::builder().open(path)?;
    /// cache.put(&key, vec![7; 100]);
    /// cache.close()?;
    ///
    /// let cache = Cache::builder().open(path)?;
    /// let report = cache.warm_up(64 << 20);
    /// assert_eq!((report.progress.artifacts, report.progress.bytes), (1, 100));
    /// assert_eq!(cache.stats().memory.entries, 1);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn warm_up(&self, limit: u64) -> WarmUpReport {
        self.warm_up_with(limit, |_| ControlFlow::Continue(()))
    }

    /// Like [`warm_up`](Self::warm_up); calls `progress` on this thread after each artifact, and
    /// ends when it says so. A few artifacts more may then be in memory.
    ///
    /// ```
    /// use keepwarm::{Cache, WarmUpEnd};
    /// use std::ops::ControlFlow;
    /// use std::time::{Duration, Instant};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let cache = Cache::builder().open(dir.path())?;
    /// let start = Instant::now();
    /// let report = cache.warm_up_with(64 << 20, |progress| {
    ///     eprint!("\r{} of {}", progress.artifacts, progress.candidates);
    ///     if start.elapsed() > Duration::from_secs(2) {
    ///         return ControlFlow::Break(());
    ///     }
    ///     ControlFlow::Continue(())
    /// });
    /// assert_eq!(report.end, WarmUpEnd::Complete);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn warm_up_with(
        &self,
        limit: u64,
        mut progress: impl FnMut(&WarmUpProgress) -> ControlFlow<()>,
    ) -> WarmUpReport {
        let start = Instant::now();
        let (progress, end) = self.0.warm_up(limit, &mut progress);
        WarmUpReport {
            progress,
            time: start.elapsed(),
            end,
        }
    }
}

/// What became of one candidate.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Warm(u64),
    Skipped,
    Damaged,
}

type Progress<'a> = &'a mut dyn FnMut(&WarmUpProgress) -> ControlFlow<()>;

impl Inner {
    fn warm_up(&self, limit: u64, told: Progress<'_>) -> (WarmUpProgress, WarmUpEnd) {
        let mut progress = WarmUpProgress::default();
        let Backend::Tiers(tiers) = &self.backend else {
            return (progress, WarmUpEnd::NoDirectory);
        };
        let Some(candidates) = self.or_fault(tiers.lower().most_recent()) else {
            return (progress, WarmUpEnd::Failed);
        };
        progress.candidates = candidates.len() as u64;
        let work = Work {
            cache: self,
            tiers,
            first_place: tiers.upper().places_behind(candidates.len() as u64),
            candidates,
            next: Mutex::new(0),
            loading: Mutex::default(),
            landed: Condvar::new(),
            limit,
            stop: AtomicBool::new(false),
            end: Mutex::new(WarmUpEnd::Complete),
        };
        let (tell, hear) = sync_channel(WAITING);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = threads.min(MOST_THREADS).min(work.candidates.len());
        std::thread::scope(|scope| {
            // Also if the callback panics: nobody goes on then.
            let _stop = StopOnDrop(&work.stop);
            let mut alone = true;
            for _ in 0..threads {
                let (work, tell) = (&work, tell.clone());
                let name = std::thread::Builder::new().name("keepwarm-warm-up".into());
                alone &= name.spawn_scoped(scope, move || work.run(&tell)).is_err();
            }
            drop(tell);
            if alone {
                work.run_here(&mut progress, told);
            } else {
                work.listen(hear, &mut progress, told);
            }
        });
        let end = *work.end.lock().expect(POISON);
        (progress, end)
    }
}

/// Sets a flag when it is dropped.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// What is to be done with a candidate.
enum Admitted<'a> {
    /// Load it: its key, and the room it has.
    Yes(Fingerprint, Reserved<'a>),
    Skipped,
    End(WarmUpEnd),
}

/// What takes room.
#[derive(Debug, Default)]
struct Loading {
    /// Artifacts that are being loaded, and their bytes.
    artifacts: u64,
    bytes: u64,
    /// Bytes of what this brought into memory before.
    warm: u64,
}

/// Room that is reserved for an artifact, until it is in memory or known not to get there.
struct Reserved<'a> {
    work: &'a Work<'a>,
    length: u64,
    used: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        // Also while a thread panics: others wait for this.
        let loading = self.work.loading.lock();
        let mut loading = loading.unwrap_or_else(PoisonError::into_inner);
        loading.warm = loading.warm.saturating_add(self.used);
        loading.artifacts -= 1;
        loading.bytes -= self.length;
        drop(loading);
        self.work.landed.notify_all();
    }
}

/// What the threads share.
struct Work<'a> {
    cache: &'a Inner,
    tiers: &'a Tiered<MemoryStore, DiskStore>,
    /// Those used last first.
    candidates: Vec<Recent>,
    /// Where the first candidate stands in memory's order of use; each other one below.
    first_place: u64,
    /// Held while a candidate is looked at and its room is reserved, not while it is loaded: so
    /// that one which was used longer ago never takes the room of one before it.
    next: Mutex<usize>,
    loading: Mutex<Loading>,
    /// Something that was being loaded is in memory, or is not going to be.
    landed: Condvar,
    limit: u64,
    stop: AtomicBool,
    end: Mutex<WarmUpEnd>,
}

impl Work<'_> {
    /// Brings up one candidate after the other, until there is none or somebody stops.
    fn run(&self, tell: &SyncSender<Outcome>) {
        while let Some(outcome) = self.step() {
            // Nobody listens any more if the callback panicked.
            if tell.send(outcome).is_err() {
                return;
            }
        }
    }

    /// The same on the caller's thread, where there is no other.
    fn run_here(&self, progress: &mut WarmUpProgress, told: Progress<'_>) {
        while let Some(outcome) = self.step() {
            self.count(outcome, progress, told);
        }
    }

    fn listen(&self, hear: Receiver<Outcome>, progress: &mut WarmUpProgress, told: Progress<'_>) {
        for outcome in hear {
            self.count(outcome, progress, told);
        }
    }

    fn count(&self, outcome: Outcome, progress: &mut WarmUpProgress, told: Progress<'_>) {
        match outcome {
            Outcome::Warm(bytes) => {
                progress.artifacts += 1;
                progress.bytes = progress.bytes.saturating_add(bytes);
            }
            Outcome::Skipped => progress.skipped += 1,
            Outcome::Damaged => progress.damaged += 1,
        }
        // Who said so once is not asked again.
        let is_cancelled = *self.end.lock().expect(POISON) == WarmUpEnd::Cancelled;
        if !is_cancelled && told(progress).is_break() {
            self.end(WarmUpEnd::Cancelled);
        }
    }

    fn end(&self, why: WarmUpEnd) {
        let first = !self.stop.swap(true, Relaxed);
        if first || why == WarmUpEnd::Cancelled {
            *self.end.lock().expect(POISON) = why;
        }
    }

    /// Brings up the next candidate; `None` at the end.
    fn step(&self) -> Option<Outcome> {
        let mut next = self.next.lock().expect(POISON);
        if self.stop.load(Relaxed) {
            return None;
        }
        let rank = *next;
        let candidate = *self.candidates.get(rank)?;
        *next += 1;
        let done = match self.admit(candidate) {
            // Before anybody gets the one after it.
            Ok(Admitted::End(why)) => {
                self.end(why);
                return None;
            }
            Ok(Admitted::Skipped) => return Some(Outcome::Skipped),
            Ok(Admitted::Yes(key, room)) => {
                drop(next);
                self.bring_up(&key, room, rank as u64)
            }
            Err(error) => Err(error),
        };
        done.unwrap_or_else(|error| {
            self.cache.reports.fault(&error);
            Some(Outcome::Skipped)
        })
    }

    /// Looks at a candidate, and reserves its room; waits for those before it where it depends on them whether
    /// there is any.
    fn admit(&self, candidate: Recent) -> Result<Admitted<'_>> {
        let (upper, lower) = (self.tiers.upper(), self.tiers.lower());
        let Some((key, length)) = lower.peek(candidate)? else {
            return Ok(Admitted::Skipped);
        };
        if length > self.limit || !upper.fits(length) || upper.contains(&key)? {
            return Ok(Admitted::Skipped);
        }
        let mut loading = self.loading.lock().expect(POISON);
        loop {
            let (entries, bytes) = upper.room();
            let fits = entries > loading.artifacts
                && bytes
                    .checked_sub(loading.bytes)
                    .is_some_and(|room| room >= length);
            let sum = loading.warm.saturating_add(loading.bytes);
            if fits && sum.saturating_add(length) <= self.limit {
                loading.artifacts += 1;
                loading.bytes += length;
                let room = Reserved {
                    work: self,
                    length,
                    used: 0,
                };
                return Ok(Admitted::Yes(key, room));
            }
            if loading.artifacts == 0 {
                let why = if fits {
                    WarmUpEnd::Limit
                } else {
                    WarmUpEnd::MemoryFull
                };
                return Ok(Admitted::End(why));
            }
            if self.stop.load(Relaxed) {
                return Ok(Admitted::Skipped);
            }
            loading = self.landed.wait(loading).expect(POISON);
        }
    }

    /// Loads what was admitted; `None` if that ended it.
    fn bring_up(
        &self,
        key: &Fingerprint,
        mut room: Reserved<'_>,
        rank: u64,
    ) -> Result<Option<Outcome>> {
        let length = room.length;
        let mut is_damaged = false;
        let load = |lower: &DiskStore| {
            Ok(match lower.load_quietly(key)? {
                // It was replaced by a longer one: that is not what was reserved.
                Quiet::Entry(entry) if entry.artifact.len() as u64 > length => None,
                Quiet::Entry(entry) => Some(entry),
                Quiet::Nothing => None,
                Quiet::Damaged => {
                    is_damaged = true;
                    None
                }
            })
        };
        let place = self.first_place.saturating_sub(rank).max(1);
        let placed = self.tiers.bring_up(key, load, |memory, entry| {
            let bytes = entry.artifact.len() as u64;
            (memory.add_aged(key, entry, place), bytes)
        });
        match placed {
            Ok(Some((Added::Done, bytes))) => {
                room.used = bytes;
                Ok(Some(Outcome::Warm(bytes)))
            }
            Ok(Some((Added::Full, _))) => {
                self.end(WarmUpEnd::MemoryFull);
                Ok(None)
            }
            Ok(_) if is_damaged => Ok(Some(Outcome::Damaged)),
            Ok(_) => Ok(Some(Outcome::Skipped)),
            Err(e) => Err(e),
        }
    }
}
