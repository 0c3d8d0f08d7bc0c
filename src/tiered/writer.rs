//! The writes below: by one background thread, started with the first write there is to do.
//!
//! Where no thread can be started, and where a put finds no room in the queue for too long, the
//! caller writes itself, by the same way.

use super::counters::{Counters, count};
use super::event::{Reporter, TierEvent};
use super::queue::{Queue, Task};
use super::touches::Touches;
use super::unwritten::Job;
use crate::error::{Error, ErrorKind, Result};
use crate::panics::discard;
use crate::store::{Entry, PutOutcome, Store};
use crate::sync::{
    Arc, Builder, Mutex, OnceLock, Receiver, ThreadId, TryLockError, channel, current, sleep,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Keys are refreshed below so many at a time.
const TOUCH_BATCH: usize = 256;
/// After the lower tier could not be told, it is not told again for so long at least.
const TOUCH_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait before looking whether another thread has told what it had to tell.
const TELLING_PAUSE: Duration = Duration::from_millis(1);

/// What the writer works with: everything but the upper tier.
#[derive(Debug)]
pub(super) struct Shared<L> {
    pub(super) lower: L,
    pub(super) queue: Queue,
    pub(super) touches: Touches,
    pub(super) reporter: Reporter,
    pub(super) counters: Counters,
}

/// Calls the lower tier; its panic becomes an error, as nobody but the writer would notice it and
/// everybody would wait for the writer.
fn call<R>(action: &str, call: impl FnOnce() -> Result<R>) -> Result<R> {
    // The lower tier answers for its own state after a panic of its own.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        discard(payload);
        let action = format!("{action} the lower tier, which panicked");
        Err(Error::new(ErrorKind::WriteFailed, action))
    })
}

impl<L: Store> Shared<L> {
    /// What the thread does, until the queue is closed and empty.
    fn run(&self) {
        let mut touched = false;
        loop {
            let task = self.queue.next_task(touched);
            touched = matches!(task, Task::Touch { .. });
            match task {
                Task::Write(job) => self.write(&job),
                Task::Touch { next } => {
                    if self.write_touches(next).is_err() {
                        let pause = self.touches.interval().max(TOUCH_PAUSE);
                        self.queue.touch_after(pause);
                    }
                }
                Task::Stop => return,
            }
        }
    }

    /// Does all there is to do, on the thread of the caller.
    pub(super) fn run_here(&self) {
        while let Some(job) = self.queue.claim_next() {
            self.write(&job);
        }
    }

    /// Writes, or removes, what a job says, and ends it.
    pub(super) fn write(&self, job: &Job) {
        let Some(entry) = &job.content else {
            match call("remove from", || self.lower.remove(&job.key)) {
                Ok(_) => self.queue.settle(job),
                Err(error) => self.fail(job, false, &error),
            }
            return;
        };
        let put = || call("write to", || self.lower.put(&job.key, entry.clone()));
        match put().or_else(|_| put()) {
            Ok(outcome) => self.written(job, entry, &outcome),
            Err(error) => {
                // The older entry must not come to light when this one is given up. Until it is
                // removed, readers find this one in the table.
                let removed = call("remove from", || self.lower.remove(&job.key)).is_ok()
                    || matches!(call("read", || self.lower.contains(&job.key)), Ok(false));
                self.fail(job, removed, &error);
            }
        }
    }

    fn written(&self, job: &Job, entry: &Entry, outcome: &PutOutcome) {
        // Counted before a flush returns that waits for it, told when nobody waits any more.
        let (key, bytes) = (job.key, entry.artifact.len() as u64);
        if outcome.is_rejected() {
            count(&self.counters.refused_writes);
        } else {
            self.counters.demoted(bytes);
        }
        self.queue.settle(job);
        if !outcome.is_rejected() {
            self.reporter.report(&TierEvent::Demoted { key, bytes });
        }
        self.reporter.evictions(&outcome.evictions);
    }

    fn fail(&self, job: &Job, removed: bool, error: &Error) {
        self.queue.fail(job, removed);
        let (key, error) = (job.key, error.to_string());
        self.reporter.report(&TierEvent::WriteFailed { key, error });
    }

    /// Refreshes below what was hit above, what another thread is at included; with `next`, a new
    /// interval begins. What fails is noted again.
    pub(super) fn write_touches(&self, next: bool) -> Result<()> {
        let deadline = self.queue.deadline();
        let _telling = loop {
            match self.touches.telling.try_lock() {
                Ok(telling) => break telling,
                // Nothing is left half changed by a panic under it.
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(TELLING_PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let action = "wait for another thread that refreshes the lower tier";
                    return Err(Error::new(ErrorKind::Timeout, action));
                }
            }
        };
        let keys = self.touches.take(next);
        for (i, batch) in keys.chunks(TOUCH_BATCH).enumerate() {
            if let Err(e) = call("touch", || self.lower.touch(batch)) {
                self.touches.give_back(&keys[i * TOUCH_BATCH..]);
                return Err(e);
            }
        }
        Ok(())
    }
}

/// The thread, once there is one.
#[derive(Debug, Default)]
pub(super) struct Writer(OnceLock<Option<Running>>);

#[derive(Debug)]
struct Running {
    id: ThreadId,
    /// Disconnected when the thread has let go of the lower tier. Not a `JoinHandle`: joining has
    /// no bound, and a forked child must not touch one.
    gone: Mutex<Receiver<()>>,
}

impl Writer {
    /// Whether a thread was ever asked for.
    pub(super) fn was_started(&self) -> bool {
        self.0.get().is_some()
    }

    /// Starts the thread if it does not run yet; `false` if that is impossible.
    ///
    /// Not for a forked child that might find it half started.
    pub(super) fn start<L: Store + 'static>(&self, shared: &Arc<Shared<L>>) -> bool {
        let running = self.0.get_or_init(|| {
            let shared = Arc::clone(shared);
            let (alive, gone) = channel();
            let spawned = Builder::new()
                .name("keepwarm-writer".into())
                .spawn(move || {
                    shared.run();
                    // In this order: who sees the channel closed may count on the lower tier
                    // being released.
                    drop(shared);
                    drop(alive);
                });
            let id = spawned.ok()?.thread().id();
            let gone = Mutex::new(gone);
            Some(Running { id, gone })
        });
        running.is_some()
    }

    /// Waits for the end of the thread, but not on itself, and not longer than `limit`.
    pub(super) fn wait(&self, limit: Duration) {
        let Some(Some(running)) = self.0.get() else {
            return;
        };
        if running.id == current().id() {
            return;
        }
        let gone = running.gone.lock().unwrap_or_else(PoisonError::into_inner);
        // Disconnected is what is waited for; a timeout leaves the thread to itself.
        let _ended_or_late = gone.recv_timeout(limit);
    }
}
