//! The thread that does what nobody waits for: writing last uses and the history, giving up idle
//! packs, rebuilding a lost index. It runs only while there is something to do.

use super::counters::Counters;
use super::header::REBUILDING;
use super::inner::Inner;
use crate::sync::{Arc, AtomicBool, Condvar, JoinHandle, Mutex, Ordering};
use std::time::Duration;

const POISON: &str = "the lock of keepwarm's janitor is poisoned: a thread panicked under it";
/// How long uses are gathered and packs stay claimed without being appended to.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Janitor {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: AtomicBool,
    stop: AtomicBool,
    gate: Mutex<()>,
    wake: Condvar,
}

impl Janitor {
    /// Starts the thread unless it runs, and lets it begin early if it has much to do. Two loads
    /// when it runs and has not; never fails, never waits.
    pub(super) fn wake(&self, inner: &Arc<Inner>) {
        if !self.shared.running.load(Ordering::Relaxed) {
            self.start(inner);
        } else if inner.recency.is_due() {
            // Without the gate: at worst it is a second late, and a get that finds no room writes.
            self.shared.wake.notify_all();
        }
    }

    #[cold]
    fn start(&self, inner: &Arc<Inner>) {
        // Held by another thread that starts it, or by a thread of the parent of a forked child.
        let Ok(mut thread) = self.thread.try_lock() else {
            return;
        };
        if !inner.is_own_process() || self.shared.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (shared, inner) = (Arc::clone(&self.shared), Arc::clone(inner));
        let spawned = crate::sync::Builder::new()
            .name("keepwarm-janitor".into())
            .spawn(move || run(&shared, &inner));
        match spawned {
            Ok(handle) => *thread = Some(handle),
            // Out of threads: the next call tries again.
            Err(_) => self.shared.running.store(false, Ordering::Release),
        }
    }

    /// Ends the thread and waits for it.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        {
            let _gate = self.shared.gate.lock().expect(POISON);
            self.shared.wake.notify_all();
        }
        if let Some(thread) = self.thread.lock().expect(POISON).take() {
            // A panic there was reported by the panic hook; there is nothing to add.
            thread.join().ok();
        }
    }
}

fn run(shared: &Shared, inner: &Inner) {
    loop {
        if inner.index().has_flag(REBUILDING) && inner.rebuild(&shared.stop).is_err() {
            Counters::add(&inner.counters.maintenance_errors, 1);
        }
        if !inner.swept.swap(true, Ordering::Relaxed) {
            // What processes left that were killed; it is in nobody's way.
            super::tmp::sweep(&inner.files);
            super::lease::sweep(&inner.files);
        }
        {
            let gate = shared.gate.lock().expect(POISON);
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            drop(shared.wake.wait_timeout(gate, PERIOD).expect(POISON));
        }
        if shared.stop.load(Ordering::Acquire) {
            return;
        }
        if inner.write_touches().is_err() {
            Counters::add(&inner.counters.maintenance_errors, 1);
        }
        if inner.tell_life().is_err() {
            Counters::add(&inner.counters.maintenance_errors, 1);
        }
        if inner.sample().is_err() {
            Counters::add(&inner.counters.maintenance_errors, 1);
        }
        inner.release_packs(PERIOD);
        if inner.is_idle() {
            shared.running.store(false, Ordering::Release);
            // Whoever brought work since the look was told that the thread runs.
            if inner.is_idle() || shared.running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}
