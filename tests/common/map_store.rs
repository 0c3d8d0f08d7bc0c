//! A plain store for tests: a map with a byte budget, that fails, panics and blocks on demand.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "for tests only")]

use keepwarm::{
    Displaced, Entry, Error, ErrorKind, Eviction, EvictionReason, Fingerprint, PutOutcome,
    PutStatus, Rejection, Result, Store, StoreStats, Tier,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a test waits for another thread before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

/// Waits until `done`; fails the test if that takes for ever.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Blocks calls while it is closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Closed, and how many calls wait at it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        let (mut state, late) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.0)
            .unwrap();
        state.1 -= 1;
        drop(state);
        assert!(!late.timed_out(), "the gate was never opened");
    }

    /// Waits until a call waits at the gate.
    pub(crate) fn wait_for_a_call(&self) {
        self.wait_for_calls(1);
    }

    /// Waits until so many calls wait at the gate.
    pub(crate) fn wait_for_calls(&self, calls: usize) {
        let state = self.state.lock().unwrap();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.1 < calls)
            .unwrap();
        assert!(state.1 >= calls, "nobody came to the gate");
    }
}

/// How many calls are to fail.
#[derive(Debug, Default)]
pub(crate) struct Failures(AtomicUsize);

impl Failures {
    pub(crate) fn set(&self, calls: usize) {
        self.0.store(calls, SeqCst);
    }

    fn take(&self) -> bool {
        let less = |left: usize| left.checked_sub(1);
        self.0.fetch_update(SeqCst, SeqCst, less).is_ok()
    }

    fn check(&self, action: &str) -> Result<()> {
        if self.take() {
            return Err(Error::new(ErrorKind::Io, action));
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Inner {
    /// Entries with the time of their last use.
    map: HashMap<Fingerprint, (Entry, u64)>,
    clock: u64,
    touched: Vec<Fingerprint>,
    writes: Vec<(Fingerprint, Vec<u8>)>,
}

/// See the module. Cloned, it is the same store: what one handle does, the other sees, as two
/// processes on one directory would.
#[derive(Clone, Debug)]
pub(crate) struct MapStore(Arc<Shared>);

#[derive(Debug, Default)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    budget: u64,
    pub(crate) gets: Gate,
    /// Calls of `get` have read the map when they wait here.
    pub(crate) gets_after: Gate,
    pub(crate) puts: Gate,
    pub(crate) fail_gets: Failures,
    pub(crate) fail_puts: Failures,
    pub(crate) panic_puts: Failures,
    pub(crate) fail_removes: Failures,
    pub(crate) fail_clears: Failures,
    pub(crate) fail_flushes: Failures,
    pub(crate) flushes: AtomicUsize,
}

impl std::ops::Deref for MapStore {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl MapStore {
    pub(crate) fn new() -> Self {
        Self::with_budget(u64::MAX)
    }

    /// A store of at most `budget` bytes.
    pub(crate) fn with_budget(budget: u64) -> Self {
        Self(Arc::new(Shared {
            budget,
            ..Shared::default()
        }))
    }

    /// The keys and bytes of all puts that succeeded, in order.
    pub(crate) fn writes(&self) -> Vec<(Fingerprint, Vec<u8>)> {
        self.inner.lock().unwrap().writes.clone()
    }

    pub(crate) fn touched(&self) -> Vec<Fingerprint> {
        self.inner.lock().unwrap().touched.clone()
    }

    /// The bytes under `key`, around gates and failures.
    pub(crate) fn peek(&self, key: &Fingerprint) -> Option<Vec<u8>> {
        let inner = self.inner.lock().unwrap();
        inner.map.get(key).map(|(entry, _)| entry.artifact.to_vec())
    }
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn bytes(&self) -> u64 {
        self.map
            .values()
            .map(|(e, _)| e.artifact.len() as u64)
            .sum()
    }

    fn evict(&mut self, budget: u64, outcome: &mut PutOutcome) {
        while self.bytes() > budget {
            let oldest = self.map.iter().min_by_key(|(_, (_, used))| *used);
            let key = *oldest.unwrap().0;
            let (entry, _) = self.map.remove(&key).unwrap();
            let bytes = entry.artifact.len() as u64;
            let reason = EvictionReason::ByteLimit;
            let eviction = Eviction::new(Tier::Other, reason, 1, bytes, Duration::ZERO);
            outcome.evictions.push(eviction);
            outcome.displaced.push(Displaced::new(key, entry));
        }
    }
}

impl Store for MapStore {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        self.gets.pass();
        self.fail_gets.check("get")?;
        let found = {
            let mut inner = self.inner.lock().unwrap();
            let now = inner.tick();
            inner.map.get_mut(key).map(|(entry, used)| {
                *used = now;
                entry.clone()
            })
        };
        self.gets_after.pass();
        Ok(found)
    }

    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        Ok(self.inner.lock().unwrap().map.contains_key(key))
    }

    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        self.puts.pass();
        self.fail_puts.check("put")?;
        assert!(!self.panic_puts.take(), "a put panics on demand");
        let mut inner = self.inner.lock().unwrap();
        let old = inner.map.remove(key);
        if self.budget > 0 && entry.artifact.len() as u64 > self.budget {
            let mut outcome = PutOutcome::new(PutStatus::Rejected(Rejection::TooLarge));
            outcome.displaced.push(Displaced::new(*key, entry));
            return Ok(outcome);
        }
        let same = old.is_some_and(|(old, _)| old == entry);
        inner.writes.push((*key, entry.artifact.to_vec()));
        let now = inner.tick();
        inner.map.insert(*key, (entry, now));
        let status = if same {
            PutStatus::AlreadyStored
        } else {
            PutStatus::Stored
        };
        let mut outcome = PutOutcome::new(status);
        inner.evict(self.budget, &mut outcome);
        Ok(outcome)
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        self.fail_removes.check("remove")?;
        Ok(self.inner.lock().unwrap().map.remove(key).is_some())
    }

    fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
        let mut inner = self.inner.lock().unwrap();
        inner.touched.extend(keys);
        let now = inner.tick();
        for key in keys {
            if let Some((_, used)) = inner.map.get_mut(key) {
                *used = now;
            }
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        self.fail_clears.check("clear")?;
        self.inner.lock().unwrap().map.clear();
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.flushes.fetch_add(1, SeqCst);
        self.fail_flushes.check("flush")
    }

    fn stats(&self) -> StoreStats {
        let inner = self.inner.lock().unwrap();
        let mut stats = StoreStats::default();
        stats.entries = inner.map.len() as u64;
        stats.cached_bytes = inner.bytes();
        stats
    }
}
