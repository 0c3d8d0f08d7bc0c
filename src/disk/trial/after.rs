//! A directory after a power cut: it has what it must, and is usable.

use super::model::Model;
use super::{KEYS, Setup, Trial, Verdict, canonical, content, fast_dir, key, number_of};
use crate::disk::DiskStore;
use crate::disk::header::{Field, REBUILDING};
use crate::disk::layout::Layout;
use crate::disk::slot::SlotKind;
use crate::store::Store;
use crate::sync::Ordering;
use crate::sys::FileSystem;
use crate::sys::crash::{CrashFs, Cut, Rng};
use crate::sys::fault::Plan;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The number of what was found under a key.
pub(super) fn read(n: usize, bytes: Option<&[u8]>) -> Verdict<Option<u64>> {
    let Some(bytes) = bytes else {
        return Ok(None);
    };
    match number_of(bytes) {
        Some(number) => Ok(Some(number)),
        None => Err(format!("key {n} has {} bytes that nobody put", bytes.len())),
    }
}

pub(super) fn get(store: &DiskStore, n: usize) -> Verdict<Option<u64>> {
    let found = store
        .get(&key(n))
        .map_err(|e| format!("get of {n}: {e:?}"))?;
    read(n, found.as_ref().map(|entry| entry.artifact.as_slice()))
}

/// The totals after a pass are what is there. A thread of the store may be at work at the moment of
/// a count, so only what stays wrong is.
pub(super) fn totals(store: &DiskStore) -> Verdict {
    let mut verdict = Ok(());
    for _ in 0..3 {
        verdict = totals_now(store);
        if verdict.is_ok() {
            break;
        }
        crate::sync::sleep(Duration::from_millis(50));
    }
    verdict
}

fn totals_now(store: &DiskStore) -> Verdict {
    store
        .inner
        .recount()
        .map_err(|e| format!("recounting: {e:?}"))?;
    // Nobody binds, evicts or moves anything meanwhile.
    let locked = store
        .inner
        .locked()
        .map_err(|e| format!("locking: {e:?}"))?;
    let index = &locked.index;
    if index.has_flag(REBUILDING) {
        return Ok(());
    }
    let is_bound = |n: &usize| store.contains(&key(*n)).unwrap_or(false);
    let bound = (0..KEYS).filter(is_bound).count() as u64;
    let extra = u64::from(store.contains(&key(KEYS)).unwrap_or(false));
    // A slot that a power cut tore leads to nothing, and counts until it is evicted.
    let (mut slots, mut torn) = (Vec::new(), 0);
    let read = index.for_each(|_, slot| slots.push(slot));
    read.map_err(|e| format!("reading the index: {e}"))?;
    for slot in slots.iter().filter(|slot| slot.kind == SlotKind::Key) {
        let found = store
            .inner
            .envelope(slot.place)
            .map_err(|e| format!("reading a pack: {e}"))?;
        let leads =
            found.is_some_and(|(_, e, live)| live && index.hash(e.key.as_bytes()) == slot.hash);
        torn += u64::from(!leads);
    }
    let said = index.field(Field::Entries);
    if said < bound + extra || said > bound + extra + torn {
        return Err(format!(
            "{said} entries are counted, {bound} are there, {torn} torn"
        ));
    }
    Ok(())
}

/// What keys had after the cut, what they might have had, and which were put since.
type Expected<'a> = (&'a [Option<u64>; KEYS], &'a [Vec<Option<u64>>], [usize; 2]);

/// A directory after a power cut.
pub(super) struct After {
    pub(super) setup: Setup,
    pub(super) root: PathBuf,
    pub(super) fs: CrashFs,
    pub(super) dir: tempfile::TempDir,
}

impl After {
    pub(super) fn check(self, model: &Model, step: usize, rng: &mut Rng) -> Verdict {
        let Self {
            setup,
            root,
            fs,
            dir,
        } = self;
        let plan = Arc::new(Plan::default());
        let trial = Trial::over(dir, (setup, fs.clone(), plan))?;
        let store = &trial.stores[0];
        // No machine is back within the second that numbers run ahead of the clock after a rebuild.
        let later = crate::store::now() + 2_000_000_000;
        store.inner.generation.store(later, Ordering::Relaxed);
        let before: Vec<_> = (0..KEYS).map(|n| model.after_cut(n, step)).collect();
        let mut seen = [None; KEYS];
        for n in 0..KEYS {
            let found = get(store, n)?;
            let allowed = &before[n];
            if !allowed.contains(&found) {
                return Err(format!("key {n} has {found:?} and not {allowed:?}"));
            }
            seen[n] = found;
        }
        for (n, seen) in seen.iter().enumerate() {
            let found = get(store, n)?;
            if found != *seen {
                return Err(format!("key {n} had {seen:?} and then {found:?}"));
            }
        }
        // Usable: an old key is rebound, one is removed, one is put as it is, a new one is put, and all
        // of it lasts.
        let evicted = |n: usize| store.contains(&key(n)).is_ok_and(|there| !there);
        let (rebound, removed, again) = (rng.below(KEYS), rng.below(KEYS), rng.below(KEYS));
        let fail = |what: &str, e| format!("{what}: {e:?}");
        let _ = store
            .put(&key(rebound), content(900).into())
            .map_err(|e| fail("put", e))?;
        seen[rebound] = Some(900);
        store.remove(&key(removed)).map_err(|e| fail("remove", e))?;
        seen[removed] = None;
        if let Some(number) = seen[again] {
            let _ = store
                .put(&key(again), content(number).into())
                .map_err(|e| fail("put of what is there", e))?;
        }
        let _ = store
            .put(&key(KEYS), content(901).into())
            .map_err(|e| fail("put", e))?;
        store.flush().map_err(|e| fail("flush", e))?;
        (0..KEYS)
            .filter(|n| evicted(*n))
            .for_each(|n| seen[n] = None);
        totals(store)?;
        drop(trial.stores);
        Self::check_again(
            &setup,
            (&fs, &root),
            (&seen, &before, [rebound, again]),
            rng,
        )
    }

    /// What was flushed after the cut outlives another one, and the loss of the index.
    fn check_again(
        setup: &Setup,
        (fs, _root): (&CrashFs, &Path),
        (seen, before, put): Expected<'_>,
        rng: &mut Rng,
    ) -> Verdict {
        if !rng.chance(4) {
            return Ok(());
        }
        let mut replay = fs.replay();
        fs.advance(&mut replay, usize::MAX);
        let dir = fast_dir();
        let root = canonical(&dir);
        let how = Cut::ALL[rng.below(Cut::ALL.len())];
        let fs =
            CrashFs::after_cut(&replay, (how, false), rng, &root).map_err(|e| e.to_string())?;
        let lose = rng.chance(2);
        let shared: Arc<dyn FileSystem> = Arc::new(fs.clone());
        if lose {
            shared.remove_file(&Layout::new(root.clone()).index()).ok();
        }
        let trial = Trial::over(dir, (*setup, fs, Arc::new(Plan::default())))?;
        let rebuilt = lose || trial.fs.story().contains("rebuild.lock");
        for n in 0..KEYS {
            let found = get(&trial.stores[0], n)?;
            // A record without a slot may come to light: see the known limits.
            let is_put = seen[n].is_some() && put.contains(&n);
            let is_limit = rebuilt && !is_put && before[n].contains(&found);
            if found != seen[n] && !is_limit {
                return Err(format!(
                    "key {n} was flushed with {:?} and has {found:?} after a second cut, {how:?}, lost index: {lose}",
                    seen[n]
                ));
            }
        }
        if trial.stores[0].inner.index().has_flag(REBUILDING) {
            return Err("still rebuilding".into());
        }
        Ok(())
    }
}
