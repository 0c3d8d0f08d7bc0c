//! A store on trial: any sequence of operations through one or two handles, with failing calls, and
//! after any of its steps a power cut, against a model of what may be found then.
//!
//! For tests and fuzzers. What breaks a promise is an `Err` that says which and where.

mod after;
mod drive;
mod model;

pub(crate) use drive::{cut_everywhere, fuzz, history, under_fault};

use super::DiskStore;
use super::bind::Appended;
use super::builder::DiskStoreBuilder;
use super::layout::PackNumber;
use super::pack;
use super::put::into_error;
use crate::digest::Digest;
use crate::fingerprint::Fingerprint;
use crate::store::Store;
use crate::sys::FileSystem;
use crate::sys::crash::{CrashFs, Cut, Replay, Rng};
use crate::sys::fault::{Fault, FaultFs, Plan};
use crate::sys::real::RealFs;
use after::{After, get, read, totals};
use model::{Event, Flushed, Model};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys of a trial.
pub(crate) const KEYS: usize = 16;

/// ENOENT, ENOTDIR, EISDIR, EINVAL, ENXIO, ENODEV, ELOOP: errors that say that a file of ours is none.
const LIES: [i32; 7] = [2, 20, 21, 22, 6, 19, 40];

pub(crate) type Verdict<T = ()> = Result<T, String>;

/// What a trial does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Binds a key to the content of a number.
    Put(usize, u64),
    /// Writes the record for that, as another thread would whose put is under way.
    Begin(usize, u64),
    /// Binds what this handle has begun; a put if that is nothing.
    Finish(usize, u64),
    Remove(usize),
    Get(usize),
    Touch(usize),
    Flush,
    Clear,
    /// Doubles the table of the index.
    Grow,
    /// Empties a pack.
    Empty(usize),
    /// Somebody deletes the index; it is rebuilt.
    LoseIndex,
    /// Drops the handle and opens another one.
    Reopen,
    /// Five minutes pass, and the history has another sample.
    Sample,
}

impl Op {
    /// One of the operations, as often as a history should have them.
    pub(crate) fn any(rng: &mut Rng) -> Self {
        let key = rng.below(KEYS);
        match rng.below(100) {
            0..=45 => {
                let number = rng.next();
                let kinds = [Self::Put, Self::Begin, Self::Put, Self::Finish, Self::Put];
                let kind = kinds[usize::try_from(number / 64 % 5).unwrap_or(0)];
                // Every other one from a few, which are shared more.
                let few = if number & (1 << 40) == 0 { 60 } else { 6 };
                kind(key, 1 + number % few)
            }
            46 => Self::Sample,
            47..=58 => Self::Remove(key),
            59..=70 => Self::Get(key),
            71..=73 => Self::Touch(key),
            74..=87 => Self::Flush,
            88 => Self::Clear,
            89..=90 => Self::Grow,
            91..=95 => Self::Empty(rng.below(8)),
            96..=97 => Self::LoseIndex,
            _ => Self::Reopen,
        }
    }
}

/// A put that was begun.
struct Begun {
    key: usize,
    number: u64,
    appended: Appended,
    /// How many events its key had.
    events: usize,
}

pub(crate) fn key(n: usize) -> Fingerprint {
    Fingerprint::builder("trial")
        .field("n", (n as u64).to_le_bytes())
        .finish()
}

/// The content of a number: the same for every key, so that it is shared. Some are objects.
pub(crate) fn content(number: u64) -> Vec<u8> {
    let len = match number % 10 {
        0 => 17_000 + number * 10,
        1 => 3_000 + number,
        _ => 8 + number * 7 % 500,
    };
    let mut rng = Rng(number);
    let mut bytes: Vec<u8> = (0..len).map(|_| 0).collect();
    for part in bytes.chunks_mut(8) {
        let word = rng.next().to_le_bytes();
        part.copy_from_slice(&word[..part.len()]);
    }
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// The number of a content; `None` for bytes that nobody ever put.
fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    (number < 1 << 20 && content(number) == bytes).then_some(number)
}

/// How a trial is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    pub(crate) handles: usize,
}

impl Setup {
    pub(crate) fn any(rng: &mut Rng) -> Self {
        Self {
            bytes: [96 << 10, 192 << 10, 1 << 20][rng.below(3)],
            entries: [8, 1000][rng.below(2)],
            handles: 1 + usize::from(rng.chance(3)),
        }
    }

    fn open(&self, root: &Path, fs: &Arc<dyn FileSystem>) -> Verdict<DiskStore> {
        let store = DiskStoreBuilder::default()
            .byte_budget(self.bytes)
            .entry_budget(self.entries)
            .lock_wait(Duration::from_secs(2))
            .open_with(root.to_path_buf(), Arc::clone(fs));
        store.map_err(|e| format!("the directory does not open: {e:?}"))
    }
}

/// A temporary directory where a sync costs little, if the machine has such a place.
pub(crate) fn fast_dir() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if cfg!(target_os = "linux") && shared_memory.is_dir() {
        if let Ok(dir) = tempfile::tempdir_in(shared_memory) {
            return dir;
        }
    }
    tempfile::tempdir().expect("a temporary directory")
}

fn canonical(dir: &tempfile::TempDir) -> PathBuf {
    dir.path()
        .canonicalize()
        .expect("a directory that was just made")
}

/// Handles on one directory, whose history is recorded.
pub(crate) struct Trial {
    setup: Setup,
    root: PathBuf,
    fs: CrashFs,
    shared: Arc<dyn FileSystem>,
    pub(crate) plan: Arc<Plan>,
    stores: Vec<DiskStore>,
    /// What each of them has begun to put.
    begun: Vec<Option<Begun>>,
    /// Which handle of the history each store is: a flush says nothing of what an earlier one did.
    ids: Vec<usize>,
    model: Model,
    /// After failures totals and evictions are not followed.
    pub(crate) faulty: bool,
    plan_lied: bool,
    /// Evicted while calls failed.
    evicted: u64,
    _dir: tempfile::TempDir,
}

impl Trial {
    pub(crate) fn begin(setup: Setup) -> Verdict<Self> {
        let dir = fast_dir();
        let root = canonical(&dir);
        let plan = Arc::new(Plan::default());
        let fs = CrashFs::new(
            &root,
            Arc::new(FaultFs::new(&plan, Arc::new(RealFs::UNCHECKED))),
        );
        Self::over(dir, (setup, fs, plan))
    }

    fn over(
        dir: tempfile::TempDir,
        (setup, fs, plan): (Setup, CrashFs, Arc<Plan>),
    ) -> Verdict<Self> {
        let root = canonical(&dir);
        let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
        let stores: Vec<_> = (0..setup.handles)
            .map(|_| setup.open(&root, &shared))
            .collect::<Verdict<_>>()?;
        let trial = Self {
            setup,
            root,
            fs,
            shared,
            plan,
            begun: (0..setup.handles).map(|_| None).collect(),
            ids: (0..setup.handles).collect(),
            stores,
            model: Model::default(),
            faulty: false,
            plan_lied: false,
            evicted: 0,
            _dir: dir,
        };
        trial.settle()?;
        Ok(trial)
    }

    pub(crate) fn fs(&self) -> &CrashFs {
        &self.fs
    }

    /// Waits until no index is being rebuilt.
    fn settle(&self) -> Verdict {
        let deadline = Instant::now() + Duration::from_secs(20);
        for store in &self.stores {
            drop(
                store
                    .inner
                    .locked()
                    .map_err(|e| format!("locking: {e:?}"))?,
            );
            while store.is_rebuilding() {
                if Instant::now() > deadline {
                    return Err("the index is being rebuilt for ever".into());
                }
                store
                    .inner
                    .rebuild_or_wait()
                    .map_err(|e| format!("rebuilding: {e:?}"))?;
            }
        }
        Ok(())
    }

    fn settle_unless_faulty(&self) -> Verdict {
        if !self.faulty {
            return self.settle();
        }
        for store in &self.stores {
            drop(store.inner.locked());
            store.inner.rebuild_or_wait().ok();
        }
        Ok(())
    }

    /// From now on calls fail as the fault says.
    pub(crate) fn fail(&mut self, fault: Fault) {
        self.faulty = true;
        self.plan_lied = LIES.contains(&fault.errno);
        self.plan.start(fault);
    }

    /// Nothing fails any more: the same handles are usable, what they have is right, and what they
    /// say is durable is. Tells how many calls had failed.
    pub(crate) fn recover(&mut self) -> Verdict<u64> {
        let failed = self.plan.stop();
        self.faulty = false;
        if failed > 0 && self.plan_lied {
            // What was said not to exist was forgotten.
            for n in 0..KEYS {
                self.may_be_lost(n, 0, 0);
            }
        }
        self.settle()?;
        self.note_evicted_meanwhile()?;
        self.check()?;
        for handle in 0..self.stores.len() {
            // Tells once of what failed before; no more is lost by it.
            self.stores[handle].flush().ok();
            self.run(Op::Put(handle, 70), handle)?;
            self.run(Op::Flush, handle)?;
            self.run(Op::Get(handle), handle)?;
        }
        self.check()?;
        Ok(failed)
    }

    /// Does it, and checks what can be seen of it while everything runs.
    #[allow(clippy::too_many_lines, reason = "one arm an operation")]
    pub(crate) fn run(&mut self, op: Op, handle: usize) -> Verdict {
        let handle = handle % self.stores.len();
        let begin = self.fs.steps();
        let id = self.ids[handle];
        let evicted = self.evictions();
        let event = |value, sure| Event {
            handle: id,
            value,
            sure,
            begin,
        };
        let store = &self.stores[handle];
        match op {
            Op::Begin(n, number) => {
                let bytes = content(number);
                let digest = Digest::of(&bytes);
                let events = self.model.events[n].len();
                let appended = store.inner.begin_put(&key(n), &bytes.into(), &digest, None);
                let appended = appended.map_err(|e| into_error(e, &store.inner));
                self.tolerate(op, appended.as_ref().err())?;
                match appended {
                    Ok(Some(appended)) => {
                        self.begun[handle] = Some(Begun {
                            key: n,
                            number,
                            appended,
                            events,
                        });
                    }
                    // Exactly that was bound.
                    Ok(None) => self.model.add(n, event(Some(number), true)),
                    Err(_) => {}
                }
            }
            Op::Finish(n, number) => {
                let Some(begun) = self.begun[handle].take() else {
                    return self.run(Op::Put(n, number), handle);
                };
                self.finish(op, handle, &begun)?;
            }
            Op::Put(n, number) => {
                let done = store.put(&key(n), content(number).into());
                self.tolerate(op, done.as_ref().err())?;
                let stored = done.as_ref().is_ok_and(|outcome| !outcome.is_rejected());
                if done.is_err() {
                    self.model.add(n, event(None, false));
                }
                self.model.add(n, event(Some(number), stored));
            }
            Op::Remove(n) => {
                let done = store.remove(&key(n));
                self.tolerate(op, done.as_ref().err())?;
                // Also where there was nothing: somebody else may have removed or evicted it.
                self.model.add(n, event(None, done.is_ok()));
            }
            Op::Get(n) => self.look(n, handle, op)?,
            Op::Touch(n) => {
                let done = store.touch(&[key(n)]);
                self.tolerate(op, done.as_ref().err())?;
            }
            Op::Flush => self.flush(handle)?,
            Op::Clear => {
                let done = store.clear();
                self.tolerate(op, done.as_ref().err())?;
                for n in 0..KEYS {
                    self.model.add(n, event(None, done.is_ok()));
                }
            }
            Op::Grow => {
                let grown = store.inner.locked().and_then(|mut locked| {
                    let buckets = locked.index.buckets();
                    let buckets = if buckets > 512 { buckets } else { buckets * 2 };
                    store.inner.copy_index(&mut locked, buckets, 0)
                });
                self.tolerate(op, grown.as_ref().err())?;
            }
            Op::Empty(nth) => {
                let packs = pack::list(&store.inner.files).unwrap_or_default();
                let numbers: Vec<PackNumber> =
                    packs.into_iter().map(|(number, _)| number).collect();
                if !numbers.is_empty() {
                    let done = store.inner.empty_pack(numbers[nth % numbers.len()]);
                    self.tolerate(op, done.as_ref().err())?;
                }
            }
            Op::LoseIndex => {
                let path = store.inner.files.layout.index();
                self.shared.remove_file(&path).ok();
                self.settle_unless_faulty()?;
            }
            Op::Reopen => {
                match self.setup.open(&self.root, &self.shared) {
                    Err(e) if !self.faulty => return Err(e),
                    // The handle that there is goes on.
                    Err(_) => {}
                    Ok(store) => {
                        self.begun[handle] = None;
                        self.stores[handle] = store;
                        self.ids[handle] = self.ids.iter().max().map_or(0, |last| last + 1);
                    }
                }
                self.settle_unless_faulty()?;
            }
            Op::Sample => {
                let done = store.inner.sample_next().and_then(|()| store.history());
                self.tolerate(op, done.as_ref().err())?;
                let samples = done.map_or(2, |history| history.len());
                if samples < 2 && !self.faulty {
                    return Err("a sample was not kept".to_owned());
                }
            }
        }
        if self.faulty {
            self.evicted += self.evictions().saturating_sub(evicted);
        } else {
            self.note_evicted(handle, begin);
        }
        Ok(())
    }

    /// Binds what was begun. Somebody else may have bound the key since, and have the newer number.
    fn finish(&mut self, op: Op, handle: usize, begun: &Begun) -> Verdict {
        let (n, store) = (begun.key, &self.stores[handle]);
        let (begin, evicted) = (self.fs.steps(), self.evictions());
        let done = store.inner.finish_put(&begun.appended);
        let done = done
            .map_err(|e| into_error(e, &store.inner))
            .and_then(|bound| {
                if !bound {
                    return store.put(&key(n), content(begun.number).into()).map(drop);
                }
                store.inner.enforce().map(drop)
            });
        self.tolerate(op, done.as_ref().err())?;
        let since = &self.model.events[n][begun.events..];
        let last = since.iter().rposition(|e| e.sure).unwrap_or(0);
        let newer = since[last..].iter().filter_map(|e| e.value);
        let id = self.ids[handle];
        let mut possible = vec![Some(begun.number)];
        possible.extend(newer.map(Some));
        if self.evictions() > evicted {
            // Used at the time at which it was begun, it may be what is oldest.
            possible.push(None);
        }
        if done.is_ok() && !self.faulty {
            // Which of them is the newer one depends on whether the other had to be written.
            let found = get(&self.stores[handle], n)?;
            if !possible.contains(&found) {
                return Err(format!("key {n} has {found:?} and not {possible:?}"));
            }
            possible = vec![found];
        } else {
            possible.push(None);
        }
        let sure = possible.len() == 1;
        let event = |value| Event {
            handle: id,
            value,
            sure,
            begin,
        };
        for value in possible {
            self.model.add(n, event(value));
        }
        Ok(())
    }

    fn evictions(&self) -> u64 {
        self.stores
            .iter()
            .map(|store| store.stats().evictions)
            .sum()
    }

    fn tolerate(&self, op: Op, error: Option<&crate::error::Error>) -> Verdict {
        match error {
            Some(e) if !self.faulty => Err(format!("{op:?} failed: {e:?}")),
            _ => Ok(()),
        }
    }

    fn flush(&mut self, handle: usize) -> Verdict {
        let events = std::array::from_fn(|n| self.model.events[n].len());
        let begin = self.fs.steps();
        let done = self.stores[handle].flush();
        self.tolerate(Op::Flush, done.as_ref().err())?;
        let end = self.fs.steps();
        if done.is_ok() {
            let handle = self.ids[handle];
            self.model.flushes.push(Flushed {
                handle,
                events,
                end,
            });
        } else {
            // What this handle put and could not make durable was taken back, and nothing else.
            for n in self.model.unflushed(self.ids[handle]) {
                self.may_be_lost(n, handle, begin);
            }
        }
        Ok(())
    }

    fn may_be_lost(&mut self, n: usize, handle: usize, begin: usize) {
        let (handle, value, sure) = (self.ids[handle], None, false);
        self.model.add(
            n,
            Event {
                handle,
                value,
                sure,
                begin,
            },
        );
    }

    /// What is not there any more although nobody removed it was evicted.
    fn note_evicted(&mut self, handle: usize, begin: usize) {
        for n in 0..KEYS {
            // Of what a failed put left, a record without a slot may come to light later.
            let bound = self.model.events[n]
                .last()
                .is_some_and(|e| e.sure && e.value.is_some());
            if bound && matches!(self.stores[handle].contains(&key(n)), Ok(false)) {
                let (value, sure) = (None, true);
                self.model.add(
                    n,
                    Event {
                        handle,
                        value,
                        sure,
                        begin,
                    },
                );
            }
        }
    }

    /// Of what is not there after calls had failed, so many may have been evicted as were counted.
    fn note_evicted_meanwhile(&mut self) -> Verdict {
        let evicted = std::mem::take(&mut self.evicted);
        if evicted == 0 {
            return Ok(());
        }
        let begin = self.fs.steps();
        let mut lost = Vec::new();
        for n in 0..KEYS {
            if get(&self.stores[0], n)?.is_none() && !self.model.now(n).contains(&None) {
                lost.push(n);
            }
        }
        if lost.len() as u64 > evicted {
            return Err(format!("{lost:?} are lost, {evicted} were evicted"));
        }
        for n in lost {
            self.may_be_lost(n, 0, begin);
        }
        Ok(())
    }

    fn look(&self, n: usize, handle: usize, op: Op) -> Verdict {
        let found = self.stores[handle].get(&key(n));
        self.tolerate(op, found.as_ref().err())?;
        let Ok(found) = found else {
            return Ok(());
        };
        let found = read(n, found.as_ref().map(|entry| entry.artifact.as_slice()))?;
        let allowed = self.model.now(n);
        // While an index is being rebuilt, which a fault may put off, it may know only an older
        // binding.
        let rebuilding = self.faulty && self.stores.iter().any(DiskStore::is_rebuilding);
        let is_older = || self.model.events[n].iter().any(|e| e.value == found);
        let excused = self.faulty && (found.is_none() || rebuilding && is_older());
        if allowed.contains(&found) || excused {
            return Ok(());
        }
        Err(format!("key {n} has {found:?} and not {allowed:?}"))
    }

    /// Everything is as it was put, and the totals are right after a pass.
    pub(crate) fn check(&self) -> Verdict {
        for handle in 0..self.stores.len() {
            for n in 0..KEYS {
                self.look(n, handle, Op::Get(n))?;
            }
        }
        totals(&self.stores[0])
    }

    /// What a power cut at a moment leaves is checked in a directory of its own.
    pub(crate) fn cut(
        &self,
        replay: &Replay,
        (step, how, copied): (usize, Cut, bool),
        rng: &mut Rng,
    ) -> Verdict {
        let context =
            |e: String| format!("{e} (after a cut at step {step}, {how:?}, copied: {copied})");
        let dir = fast_dir();
        let root = canonical(&dir);
        let fs = CrashFs::after_cut(replay, (how, copied), rng, &root)
            .map_err(|e| context(e.to_string()))?;
        let after = After {
            // Without a budget: what comes back of what was evicted must not cost other entries theirs.
            setup: Setup {
                bytes: 8 << 20,
                entries: 1000,
                handles: 1,
            },
            dir,
            root,
            fs,
        };
        after.check(&self.model, step, rng).map_err(context)
    }
}
