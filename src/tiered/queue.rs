//! The unwritten table under its lock, and everybody who waits for it.
//!
//! No store is called, and nothing freed or let go of, under this lock. Every wait but the idle writer's is
//! bounded by `wait_limit`.
//!
//! A forked child has no writer thread, and the lock may have been held by a thread that does not
//! exist there: a lock that is not free is waited for only in the process that made it.

use super::unwritten::{Hold, Job, Slot, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::stats::Durability;
use crate::store::Entry;
use crate::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, TryLockError};
use std::time::{Duration, Instant};

/// So many holds may wait with their entries: each may be an open file.
const HOLDS: usize = 64;

#[derive(Debug, Default)]
struct State {
    table: Table,
    touch: Touch,
    closing: bool,
    /// Writes that failed, ever.
    failed: u64,
    /// How many of them a flush has reported.
    reported: u64,
    /// Whether the writer sleeps; it is woken only then, as waking costs a system call.
    writer_sleeps: bool,
    /// Whether there is something else to do for it than what is queued.
    wake_writer: bool,
    /// Threads that wait for progress.
    waiters: usize,
}

/// Noted hits that are to be written below.
#[derive(Debug, Default)]
struct Touch {
    /// When the interval ends; `None` if none began.
    due: Option<Instant>,
    /// Whether there are so many that they are written at once, within the interval.
    early: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    progress: Condvar,
    /// The number of slots: while it is zero, a look-up takes no lock. A get that must see a put
    /// starts after that put was seen, and so after this was counted up; a get that sees it
    /// counted down looks below after the write below.
    slots: AtomicUsize,
    bound: u64,
    wait_limit: Duration,
    process: u32,
}

/// What the table says about a key.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The newest entry, which is not below yet.
    Found(Entry),
    /// A miss, whatever is below.
    Hidden,
    /// Nothing: ask below.
    Clean,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Task {
    Write(Job),
    /// With `next`, a new interval begins.
    Touch {
        next: bool,
    },
    Stop,
}

fn poisoned() -> ! {
    panic!("the lock of the unwritten table of a tiered store is poisoned")
}

fn timeout(action: &str) -> Error {
    Error::new(ErrorKind::Timeout, action)
}

impl Queue {
    /// A queue of `bound` bytes, in which nobody waits longer than `wait_limit`.
    pub(super) fn new(bound: u64, wait_limit: Duration) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            progress: Condvar::new(),
            slots: AtomicUsize::new(0),
            bound,
            wait_limit,
            process: std::process::id(),
        }
    }

    /// Whether this process is a fork of the one that made the queue. A system call.
    pub(super) fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }

    /// Makes this look like the queue of the parent of this process.
    #[cfg(test)]
    pub(super) fn pretend_forked(&mut self) {
        self.process = self.process.wrapping_add(1);
    }

    /// When who starts to wait now gives up.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.wait_limit
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(_)) => poisoned(),
            Err(TryLockError::WouldBlock) if self.is_forked() => {
                let action = "use a store that belongs to the parent of this process";
                Err(Error::new(ErrorKind::Closed, action))
            }
            Err(TryLockError::WouldBlock) => Ok(self.state.lock().unwrap_or_else(|_| poisoned())),
        }
    }

    /// Changes the table; wakes whoever it may concern.
    fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> Result<R> {
        let mut state = self.lock()?;
        let left = state.table.left();
        let result = change(&mut state);
        self.slots.store(state.table.len(), Ordering::Release);
        let progress = state.waiters > 0 && state.table.left() != left;
        let work = state.writer_sleeps && (state.wake_writer || state.table.has_next());
        state.writer_sleeps &= !work;
        drop(state);
        if progress {
            self.progress.notify_all();
        }
        if work {
            self.work.notify_one();
        }
        Ok(result)
    }

    /// Waits for progress, at most until the deadline; `Err` if that has passed.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        deadline: Instant,
        action: &str,
    ) -> Result<MutexGuard<'a, State>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timeout(action));
        }
        state.waiters += 1;
        let (mut state, _) = self
            .progress
            .wait_timeout(state, left)
            .unwrap_or_else(|_| poisoned());
        state.waiters -= 1;
        Ok(state)
    }

    /// The newest content of `key` that is not below. Never waits for a write.
    pub(super) fn get(&self, key: &Fingerprint) -> Lookup {
        if self.slots.load(Ordering::Acquire) == 0 {
            return Lookup::Clean;
        }
        // In a forked child a table that cannot be read may hide anything: a miss.
        let Ok(state) = self.lock() else {
            return Lookup::Hidden;
        };
        match state.table.get(key) {
            Some(Some(entry)) => Lookup::Found(entry.clone()),
            Some(None) => Lookup::Hidden,
            None => Lookup::Clean,
        }
    }

    /// Puts the newest content of `key`, queued at once or dirty; tells whether it is queued.
    pub(super) fn insert(
        &self,
        key: Fingerprint,
        entry: Entry,
        queue: bool,
        hold: Option<Hold>,
    ) -> Result<bool> {
        let (replaced, queued) = self.update(|state| {
            let replaced = state.table.insert(key, entry, queue, hold);
            (replaced, state.table.is_queued(&key))
        })?;
        drop(replaced);
        Ok(queued)
    }

    /// Queues those of `keys` that are dirty, and returns them.
    pub(super) fn demote(&self, keys: impl Iterator<Item = Fingerprint>) -> Vec<Fingerprint> {
        if self.slots.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.update(|state| keys.filter(|key| state.table.demote(key)).collect())
            .unwrap_or_default()
    }

    /// Whether a put would have to wait now.
    pub(super) fn is_full(&self) -> bool {
        self.slots.load(Ordering::Acquire) > 0
            && self
                .lock()
                .map_or(true, |state| state.table.queue_cost() >= self.bound)
    }

    /// Waits until the queue is within its bounds, or the last of `keys` is being written.
    pub(super) fn wait_for_room(&self, keys: &[Fingerprint]) -> Result<()> {
        let deadline = self.deadline();
        let mut state = self.lock()?;
        while (state.table.queue_cost() > self.bound || state.table.holds() > HOLDS)
            && keys.iter().any(|key| state.table.is_queued(key))
        {
            state = self.wait(state, deadline, "wait for room in the queue of writes")?;
        }
        Ok(())
    }

    /// Claims `key` if it waits in the queue, but not while a clear has stopped all writes: it
    /// would be below again when the clear is done.
    pub(super) fn claim_queued(&self, key: &Fingerprint) -> Option<Job> {
        self.update(|state| {
            let queued = state.table.is_queued(key) && !state.table.is_paused();
            queued.then(|| state.table.claim(key)).flatten()
        })
        .unwrap_or_default()
    }

    /// Claims the oldest content of the queue.
    pub(super) fn claim_next(&self) -> Option<Job> {
        self.update(|state| state.table.claim_next())
            .unwrap_or_default()
    }

    /// Claims `key` for its removal, after a write of it that is in flight; `None` if it is clean.
    ///
    /// The caller holds the stripe of the key, so nothing newer comes in between.
    pub(super) fn claim_for_removal(&self, key: &Fingerprint) -> Result<Option<Job>> {
        let deadline = self.deadline();
        let mut state = self.lock()?;
        while state.table.is_in_flight(key) {
            state = self.wait(state, deadline, "wait for a write of the key in flight")?;
        }
        Ok(state.table.claim(key))
    }

    /// Ends a job that reached the lower tier.
    pub(super) fn settle(&self, job: &Job) {
        let gone = self.update(|state| state.table.settle(job));
        drop(gone);
    }

    /// Ends a job that came to nothing.
    pub(super) fn give_back(&self, job: &Job) {
        drop(self.update(|state| state.table.give_back(job)));
    }

    /// Ends a job whose write failed; `removed` says that nothing older is left below.
    pub(super) fn fail(&self, job: &Job, removed: bool) {
        let gone = self.update(|state| {
            state.failed = state.failed.saturating_add(1);
            if removed {
                state.table.settle(job)
            } else {
                state.table.condemn(job)
            }
        });
        drop(gone);
    }

    /// Queues everything dirty; names everything that is not below yet.
    pub(super) fn queue_all(&self) -> Result<Vec<(Fingerprint, u64)>> {
        self.update(|state| state.table.queue_all())
    }

    /// Waits until nothing of `names` has still to be written: `Timeout` if nothing at all was
    /// written for as long as the limit.
    pub(super) fn wait_for(&self, mut names: Vec<(Fingerprint, u64)>) -> Result<()> {
        let mut state = self.lock()?;
        let mut settled = state.table.settled();
        let mut deadline = self.deadline();
        while let Some((key, id)) = names.last() {
            if !state.table.is_pending(key, *id) {
                names.pop();
                continue;
            }
            if state.table.settled() != settled {
                (settled, deadline) = (state.table.settled(), self.deadline());
            }
            state = self.wait(state, deadline, "wait for the queue of writes")?;
        }
        Ok(())
    }

    /// Stops the writer between two jobs, until the guard is dropped.
    ///
    /// The caller holds all stripes, so nothing is put and nobody else pauses.
    pub(super) fn pause(&self) -> Result<Paused<'_>> {
        let deadline = self.deadline();
        self.update(|state| state.table.set_paused(true))?;
        let paused = Paused(self);
        let mut state = self.lock()?;
        while state.table.jobs() > 0 {
            state = self.wait(state, deadline, "wait for a write in flight")?;
        }
        drop(state);
        Ok(paused)
    }

    /// How many failed writes a flush has reported yet.
    pub(super) fn reported(&self) -> Result<u64> {
        Ok(self.lock()?.reported)
    }

    /// Whether a write failed since `reported`; the failures count as reported from now on.
    ///
    /// Every flush that was under way when a write failed tells it, not only the first to look.
    pub(super) fn report_failures(&self, reported: u64) -> Result<bool> {
        self.update(|state| {
            state.reported = state.failed;
            state.failed > reported
        })
    }

    /// What is not below yet.
    pub(super) fn durability(&self) -> Durability {
        let mut durability = Durability::default();
        if let Ok(state) = self.lock() {
            let (entries, bytes) = state.table.unwritten();
            (durability.unwritten_entries, durability.unwritten_bytes) = (entries, bytes);
            durability.failed_writes = state.failed.saturating_sub(state.reported);
        }
        durability
    }

    /// Lets the writer write the noted hits after `interval`.
    pub(super) fn touch_after(&self, interval: Duration) {
        drop(self.update(|state| {
            // At the end hints are told once: a lower tier that refuses them is not asked for ever.
            if state.closing {
                return;
            }
            let due = || Instant::now() + interval;
            state.touch.due.get_or_insert_with(due);
            state.wake_writer = true;
        }));
    }

    /// Lets the writer write the noted hits at once; the interval goes on.
    pub(super) fn touch_now(&self) {
        drop(self.update(|state| {
            state.touch.early = true;
            state.wake_writer = true;
        }));
    }

    /// The keys of what is not below yet, of which `is_it` says so.
    pub(super) fn unwritten_keys(
        &self,
        is_it: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Fingerprint>> {
        Ok(self.lock()?.table.keys(is_it))
    }

    /// Lets the writer stop once everything queued is written.
    pub(super) fn close(&self) {
        drop(self.update(|state| {
            state.closing = true;
            state.wake_writer = true;
        }));
    }

    /// Sleeps until there is something for the writer to do. If it `touched` last, a write comes
    /// before it does so again: hits may go on for ever.
    pub(super) fn next_task(&self, touched: bool) -> Task {
        let Ok(mut state) = self.lock() else {
            return Task::Stop;
        };
        loop {
            state.wake_writer = false;
            let left = state
                .touch
                .due
                .map(|due| due.saturating_duration_since(Instant::now()));
            let due = left.is_some_and(|left| left.is_zero() || state.closing);
            if (due || state.touch.early) && !(touched && state.table.has_next()) {
                state.touch.early = false;
                if due {
                    state.touch.due = None;
                }
                return Task::Touch { next: due };
            }
            if let Some(job) = state.table.claim_next() {
                return Task::Write(job);
            }
            if state.closing {
                return Task::Stop;
            }
            state.writer_sleeps = true;
            state = match left {
                None => self.work.wait(state).unwrap_or_else(|_| poisoned()),
                Some(left) => {
                    let woken = self.work.wait_timeout(state, left);
                    woken.unwrap_or_else(|_| poisoned()).0
                }
            };
            state.writer_sleeps = false;
        }
    }
}

/// While it lives, no write starts; see [`Queue::pause`].
#[derive(Debug)]
pub(super) struct Paused<'a>(&'a Queue);

impl Paused<'_> {
    /// Forgets everything unwritten; tells what it was, to be freed by the caller.
    pub(super) fn forget_all(&self) -> Result<Vec<Slot>> {
        self.0.update(|state| state.table.take_all())
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        drop(self.0.update(|state| state.table.set_paused(false)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flush_under_way_when_a_write_fails_tells_it() {
        let queue = Queue::new(1 << 20, Duration::from_secs(30));
        let key = Fingerprint::from_bytes([1; 32]);
        let (one, two) = (queue.reported().unwrap(), queue.reported().unwrap());
        assert!(queue.insert(key, vec![1].into(), true, None).unwrap());
        let job = queue.claim_next().unwrap();
        queue.fail(&job, true);
        assert!(queue.report_failures(one).unwrap());
        let later = queue.reported().unwrap();
        assert!(
            queue.report_failures(two).unwrap(),
            "the other told it first"
        );
        assert!(!queue.report_failures(later).unwrap(), "told twice");
    }

    const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);

    /// A waiter for all that is queued, asleep; it would sleep for an hour if nobody woke it.
    fn asleep(queue: &std::sync::Arc<Queue>) -> std::thread::JoinHandle<Result<()>> {
        let names = queue.queue_all().unwrap();
        let waiting = std::sync::Arc::clone(queue);
        let waiter = std::thread::spawn(move || waiting.wait_for(names));
        eventually(|| queue.state.lock().unwrap().waiters == 1);
        waiter
    }

    fn eventually(done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(20), "nobody woke it");
            std::thread::yield_now();
        }
    }

    fn patient() -> std::sync::Arc<Queue> {
        std::sync::Arc::new(Queue::new(1 << 20, Duration::from_secs(3600)))
    }

    #[test]
    fn a_clear_wakes_who_waits_for_what_it_forgets() {
        let queue = patient();
        assert!(queue.insert(KEY, vec![1].into(), true, None).unwrap());
        let waiter = asleep(&queue);
        let paused = queue.pause().unwrap();
        drop(paused.forget_all().unwrap());
        drop(paused);
        eventually(|| waiter.is_finished());
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn what_was_to_be_queued_while_a_removal_had_it_is_queued_when_that_fails() {
        let queue = patient();
        for flush in [true, false] {
            assert!(!queue.insert(KEY, vec![1].into(), false, None).unwrap());
            let removal = queue.claim_for_removal(&KEY).unwrap().unwrap();
            if flush {
                assert_eq!(queue.queue_all().unwrap().len(), 1);
            } else {
                queue.demote(std::iter::once(KEY));
            }
            queue.give_back(&removal);
            let job = queue.claim_next().expect("nobody would ever write it");
            queue.settle(&job);
        }
    }

    #[test]
    fn a_put_wakes_who_waits_for_what_it_replaces() {
        let queue = patient();
        assert!(queue.insert(KEY, vec![1].into(), true, None).unwrap());
        let waiter = asleep(&queue);
        // Under `OnEviction`: nothing that would be written, and wake the waiter then.
        assert!(!queue.insert(KEY, vec![2].into(), false, None).unwrap());
        eventually(|| waiter.is_finished());
        waiter.join().unwrap().unwrap();
    }

    #[test]
    fn a_put_without_room_writes_nothing_itself_while_a_clear_has_stopped_the_writer() {
        let queue = patient();
        assert!(queue.insert(KEY, vec![1].into(), true, None).unwrap());
        let paused = queue.pause().unwrap();
        assert!(queue.claim_queued(&KEY).is_none(), "it would come back");
        drop(paused);
        let job = queue.claim_queued(&KEY).unwrap();
        queue.settle(&job);
    }

    #[test]
    fn a_put_waits_while_too_many_holds_are_queued() {
        let queue = Queue::new(1 << 20, Duration::from_millis(5));
        let key = |n: usize| Fingerprint::from_bytes([u8::try_from(n).unwrap(); 32]);
        for n in 0..=HOLDS {
            assert!(queue.wait_for_room(&[key(0)]).is_ok(), "{n}");
            queue
                .insert(key(n), vec![1].into(), true, Some(Box::new(n)))
                .unwrap();
        }
        let error = queue.wait_for_room(&[key(HOLDS)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let job = queue.claim_next().unwrap();
        queue.settle(&job);
        assert!(queue.wait_for_room(&[key(HOLDS)]).is_ok());
    }

    #[test]
    fn noted_hits_that_never_end_do_not_keep_the_writer_from_writing() {
        let queue = patient();
        assert!(queue.insert(KEY, vec![1].into(), true, None).unwrap());
        queue.touch_after(Duration::ZERO);
        assert!(matches!(queue.next_task(false), Task::Touch { next: true }));
        queue.touch_after(Duration::ZERO);
        let Task::Write(job) = queue.next_task(true) else {
            panic!("it would never be written");
        };
        assert!(matches!(queue.next_task(false), Task::Touch { next: true }));
        queue.settle(&job);
    }

    #[test]
    fn a_forked_child_does_not_wait_for_a_lock_that_nobody_will_release() {
        let mut queue = Queue::new(1 << 20, Duration::from_secs(30));
        let key = Fingerprint::from_bytes([1; 32]);
        assert!(queue.insert(key, vec![1].into(), true, None).unwrap());
        queue.pretend_forked();
        assert!(matches!(queue.get(&key), Lookup::Found(_)));
        let held = queue.state.lock().unwrap();
        std::thread::scope(|scope| {
            let child = || {
                assert!(
                    matches!(queue.get(&key), Lookup::Hidden),
                    "it may hide anything"
                );
                let error = queue.insert(key, vec![2].into(), true, None).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Closed);
                assert!(queue.claim_next().is_none());
                assert!(queue.is_full());
            };
            scope.spawn(child).join().unwrap();
        });
        drop(held);
    }
}
