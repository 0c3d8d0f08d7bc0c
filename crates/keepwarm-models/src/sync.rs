//! What `keepwarm::sync` gives, under the checker.

use shuttle::current::clock;
use shuttle::rand::Rng as _;
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
pub(crate) use shuttle::sync::mpsc::{Receiver, channel};
pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use shuttle::thread::{Builder, JoinHandle, ThreadId, current, yield_now};
use std::cell::RefCell;
use std::collections::HashMap;
pub(crate) use std::sync::TryLockError;
use std::time::Duration;

/// Time does not pass here: whoever sleeps lets the others go first.
pub(crate) fn sleep(_: Duration) {
    yield_now();
}

/// Lets another thread run, or not.
pub(crate) fn switch() {
    AtomicBool::new(false).load(Ordering::SeqCst);
}

/// The checker has no `OnceLock`, and one of the standard library would block the one thread that
/// all tasks of the checker share.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    initialising: Mutex<()>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            initialising: Mutex::new(()),
        }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.get()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.value.get() {
            return value;
        }
        let _one = self.initialising.lock();
        if let Some(value) = self.value.get() {
            return value;
        }
        let value = init();
        self.value.get_or_init(|| value)
    }
}

/// For each thread, up to which of its steps.
type Clock = Vec<u32>;

/// Whether what was done at `then` happened before `now`.
fn is_before(then: &Clock, now: &Clock) -> bool {
    let step = |thread| now.get(thread).copied().unwrap_or(0);
    then.iter()
        .enumerate()
        .all(|(thread, at)| *at <= step(thread))
}

/// A word of the index: stored by a simulated `pwrite`, loaded `Relaxed` from a mapping.
///
/// A load returns the newest value or an older one, but none older than
/// - what was stored before anything whose result an earlier load has returned, if a [`fence`] came
///   in between, and
/// - a store that happened before the load (by locks, atomics or system calls in between), and
/// - what a load that happened before this one has returned (coherence).
///
/// A word that was never stored since it was mapped is loaded without a switch: what another order
/// of the load and a later store would show, an old value shows as well.
pub(crate) struct IndexWord {
    first: u64,
    later: std::sync::Mutex<Option<Box<Later>>>,
}

#[derive(Default)]
struct Later {
    stores: Vec<Store>,
    /// The first load of each thread that returned so new a value: 0 is the first one, then
    /// `stores`.
    loads: Vec<(usize, Clock)>,
}

struct Store {
    value: u64,
    at: Clock,
    released: Released,
}

/// What the writer had done before: whoever loads this has seen that.
pub(crate) type Released = Arc<AtomicU64>;

thread_local! {
    /// For each thread of the model, the stores whose values it loaded since its last fence.
    static LOADED: RefCell<HashMap<ThreadId, Vec<Released>>> = RefCell::default();
}

/// Forgets what threads of an earlier execution loaded.
pub(crate) fn forget_loads() {
    LOADED.take();
}

/// An acquire fence; others are not asked for.
pub(crate) fn fence(order: Ordering) {
    assert_eq!(order, Ordering::Acquire);
    let loaded = LOADED.with_borrow_mut(|all| all.remove(&current().id()));
    for released in loaded.unwrap_or_default() {
        released.load(Ordering::Acquire);
    }
}

impl Default for IndexWord {
    fn default() -> Self {
        Self::new(0)
    }
}

impl IndexWord {
    /// For a table that nobody else sees yet, so that nothing was stored into it.
    pub(crate) fn get_mut(&mut self) -> &mut u64 {
        &mut self.first
    }

    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            later: std::sync::Mutex::new(None),
        }
    }

    pub(crate) fn load(&self, _relaxed: Ordering) -> u64 {
        if self.later.lock().is_ok_and(|later| later.is_none()) {
            return self.first;
        }
        switch();
        let mut later = self.later.lock().unwrap_or_else(|e| e.into_inner());
        let Some(later) = &mut *later else {
            return self.first;
        };
        let now = clock().to_vec();
        let known = |then: &Clock| is_before(then, &now);
        let stored = later.stores.iter().rposition(|store| known(&store.at));
        let loaded = later.loads.iter().filter(|(_, at)| known(at));
        let oldest = loaded.map(|(i, _)| *i).max().unwrap_or(0);
        let oldest = oldest.max(stored.map_or(0, |i| i + 1));
        let newest = later.stores.len();
        let mut random = shuttle::rand::thread_rng();
        let chosen = if oldest < newest && random.gen_range(0..3) == 0 {
            random.gen_range(oldest..newest)
        } else {
            newest
        };
        if chosen > oldest {
            later.loads.push((chosen, now));
        }
        match chosen.checked_sub(1) {
            None => self.first,
            Some(i) => {
                let Store {
                    value, released, ..
                } = &later.stores[i];
                LOADED.with_borrow_mut(|all| {
                    let loaded = all.entry(current().id()).or_default();
                    loaded.push(Arc::clone(released));
                });
                *value
            }
        }
    }

    /// The newest value, for who writes a part of it.
    pub(crate) fn newest(&self) -> u64 {
        let later = self.later.lock().unwrap_or_else(|e| e.into_inner());
        let last = later.as_ref().and_then(|later| later.stores.last());
        last.map_or(self.first, |store| store.value)
    }

    pub(crate) fn store(&self, value: u64, released: &Released) {
        let mut later = self.later.lock().unwrap_or_else(|e| e.into_inner());
        let later = later.get_or_insert_default();
        later.stores.push(Store {
            value,
            at: clock().to_vec(),
            released: Arc::clone(released),
        });
    }
}

impl std::fmt::Debug for IndexWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.newest())
    }
}
