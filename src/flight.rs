//! One build at a time for each key, inside this process.
//!
//! The first caller that misses a key becomes its *leader* and builds; later ones *follow*: they
//! wait and are given what the leader made. A leader that gives up (its builder failed or
//! panicked) hands the key to the follower that waited longest, which then builds itself.
//!
//! # Who waits for whom
//!
//! A builder may ask for other keys. So threads wait for keys, keys are led by threads, and
//! following both gives a graph in which a cycle would be a deadlock. Invariants, all under the
//! one mutex:
//!
//! 1. A key in the table always has a leader, and that leader does not wait for that key. Giving
//!    up names the next leader in the same hold of the mutex.
//! 2. A thread waits for at most one key, and is in that key's queue exactly as long as it waits.
//! 3. The graph has no cycle: a thread starts to wait only if walking from the key's leader does
//!    not lead back to itself, else it builds *alone*. Naming a new leader adds no cycle either,
//!    since a new leader has just stopped waiting and so has no way out.
//!
//! A builder that passes work to other threads and waits for them by its own means is outside
//! this graph; there the bound on every wait is what ends it.
//!
//! # Who is given what
//!
//! A caller must not be given what was removed, or replaced, before it asked. So the leader
//! [marks](Lead::mark) the moment before it looks the value up or puts it, and what lands goes to
//! those who followed by then. Whoever came later waits too, and then looks for itself.
//!
//! The mutex is held for table updates only, never while anything is built or waited for.

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, ThreadId, current};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::fmt;
use std::hash::Hash;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// No wait is longer, whatever is asked for.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The builds under way.
pub(crate) struct Flights<K, T> {
    table: Mutex<Table<K, T>>,
    /// Who leads and holds locks is a thread of this process: a forked child has none of them.
    process: u32,
}

struct Table<K, T> {
    builds: FxHashMap<K, Build<T>>,
    waiting: FxHashMap<ThreadId, K>,
}

struct Build<T> {
    leader: ThreadId,
    /// Who waits, longest first.
    queue: VecDeque<ThreadId>,
    /// How many ever followed.
    followed: u64,
    /// So many of them are given what lands.
    served: u64,
    flight: Arc<Flight<T>>,
}

struct Flight<T> {
    /// Set once, under the table's mutex: the value, and how many followers are given it.
    landed: OnceLock<(T, u64)>,
    /// Waited on with the table's mutex.
    changed: Condvar,
}

/// What a caller has to do for a key that it missed.
#[must_use]
pub(crate) enum Turn<'a, K: Copy + Eq + Hash, T> {
    /// Build it, then [`land`](Lead::land).
    Lead(Lead<'a, K, T>),
    /// Nothing: another thread built it meanwhile.
    Landed(T),
    /// Look again: another thread has put it meanwhile, maybe before this one asked, and since
    /// then it may have been removed.
    Look,
    /// Build it without telling anybody: waiting would never end (this very thread builds the key
    /// already, or one that waits for this one does, or the threads are those of the process that
    /// this one was forked from), or has taken all the time allowed.
    Alone,
}

impl<K: Copy + Eq + Hash, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::new(Table {
                builds: FxHashMap::default(),
                waiting: FxHashMap::default(),
            }),
            process: std::process::id(),
        }
    }

    #[cfg(test)]
    fn pretend_forked(&mut self) {
        self.process = self.process.wrapping_add(1);
    }

    /// Leads the build of `key`, or waits up to `bound` for whoever does. Also tells for how long
    /// it waited, if it did.
    pub(crate) fn join(&self, key: K, bound: Duration) -> (Turn<'_, K, T>, Option<Duration>) {
        if self.is_forked() {
            return (Turn::Alone, None);
        }
        let me = current().id();
        let mut table = self.lock();
        let Some(leader) = table.builds.get(&key).map(|build| build.leader) else {
            table.builds.insert(key, Build::led_by(me));
            return (Turn::Lead(Lead { flights: self, key }), None);
        };
        if bound.is_zero() || table.depends_on(leader, me) {
            return (Turn::Alone, None);
        }
        let Some((flight, place)) = table.enqueue(key, me) else {
            return (Turn::Alone, None); // not reached: the build was just seen
        };
        let start = Instant::now();
        let deadline = start + bound.min(MAX_WAIT);
        let turn = self.follow(table, (&flight, place), key, deadline);
        (turn, Some(start.elapsed()))
    }

    fn follow<'a>(
        &'a self,
        mut table: MutexGuard<'a, Table<K, T>>,
        (flight, place): (&Flight<T>, u64),
        key: K,
        deadline: Instant,
    ) -> Turn<'a, K, T> {
        let me = current().id();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            table = match flight.changed.wait_timeout(table, left) {
                Ok((table, _)) => table,
                Err(_) => poisoned(),
            };
            if let Some((value, served)) = flight.landed.get() {
                drop(table);
                return if place < *served {
                    Turn::Landed(value.clone())
                } else {
                    Turn::Look
                };
            }
            // Named leader before the time was up, even if this thread slept through it: the
            // others wait for it now.
            if table.builds.get(&key).is_some_and(|b| b.leader == me) {
                return Turn::Lead(Lead { flights: self, key });
            }
            if Instant::now() >= deadline {
                table.dequeue(key, me);
                return Turn::Alone;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<K, T>> {
        match self.table.lock() {
            Ok(table) => table,
            Err(_) => poisoned(),
        }
    }
}

impl<K, T> Flights<K, T> {
    /// Whether this process is a fork of the one that made them. A system call.
    fn is_forked(&self) -> bool {
        std::process::id() != self.process
    }
}

/// Half-mutated state must never be read on.
#[cold]
fn poisoned() -> ! {
    panic!("keepwarm: the lock `flight.table` is poisoned: a thread panicked while holding it")
}

impl<T> Build<T> {
    fn led_by(leader: ThreadId) -> Self {
        Self {
            leader,
            queue: VecDeque::new(),
            followed: 0,
            served: u64::MAX,
            flight: Arc::new(Flight {
                landed: OnceLock::new(),
                changed: Condvar::new(),
            }),
        }
    }
}

impl<K: Copy + Eq + Hash, T> Table<K, T> {
    /// Whether `thread` is `other`, or waits for a key that (at the end of the chain) `other`
    /// leads. Ends because the graph has no cycle.
    fn depends_on(&self, mut thread: ThreadId, other: ThreadId) -> bool {
        while thread != other {
            let next = self.waiting.get(&thread).and_then(|k| self.builds.get(k));
            let Some(build) = next else { return false };
            thread = build.leader;
        }
        true
    }

    fn enqueue(&mut self, key: K, thread: ThreadId) -> Option<(Arc<Flight<T>>, u64)> {
        let build = self.builds.get_mut(&key)?;
        build.queue.push_back(thread);
        let place = build.followed;
        build.followed = place.saturating_add(1);
        self.waiting.insert(thread, key);
        Some((Arc::clone(&build.flight), place))
    }

    fn dequeue(&mut self, key: K, thread: ThreadId) {
        self.waiting.remove(&thread);
        if let Some(build) = self.builds.get_mut(&key) {
            build.queue.retain(|waiter| *waiter != thread);
        }
    }

    fn land(&mut self, key: &K, value: T) {
        let Some(build) = self.builds.remove(key) else {
            return;
        };
        for waiter in &build.queue {
            self.waiting.remove(waiter);
        }
        // Nobody else sets it: a flight has one leader at a time, and it left the table here.
        build.flight.landed.get_or_init(|| (value, build.served));
        build.flight.changed.notify_all();
    }

    fn hand_over(&mut self, key: &K) {
        let Some(build) = self.builds.get_mut(key) else {
            return;
        };
        let Some(next) = build.queue.pop_front() else {
            self.builds.remove(key);
            return;
        };
        build.leader = next;
        build.served = u64::MAX;
        self.waiting.remove(&next);
        // All of them: which one wakes first is not ours to say, and each looks for itself.
        build.flight.changed.notify_all();
    }
}

impl<K, T> fmt::Debug for Flights<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

/// The duty to build a key. Dropped without [`land`](Self::land), it passes to the next follower.
#[must_use = "dropping it hands the build to the next caller"]
pub(crate) struct Lead<'a, K: Copy + Eq + Hash, T> {
    flights: &'a Flights<K, T>,
    key: K,
}

impl<K: Copy + Eq + Hash, T: Clone> Lead<'_, K, T> {
    /// What is looked up or put from now on is given only to those who follow already.
    pub(crate) fn mark(&self) {
        if self.flights.is_forked() {
            return;
        }
        if let Some(build) = self.flights.lock().builds.get_mut(&self.key) {
            build.served = build.followed;
        }
    }

    /// Gives `value` to every follower who came before the last [`mark`](Self::mark), if there was
    /// one. It must be in the cache before, so that a caller who
    /// comes too late to follow finds it there.
    pub(crate) fn land(self, value: T) {
        if !self.flights.is_forked() {
            self.flights.lock().land(&self.key, value);
        }
        // The drop that follows finds no build, or a later one that it must not touch.
        std::mem::forget(self);
    }
}

impl<K: Copy + Eq + Hash, T> Drop for Lead<'_, K, T> {
    fn drop(&mut self) {
        // Runs while a builder's panic unwinds: a second panic here would abort. A poisoned table
        // is left alone; followers stop waiting when their time is up.
        if self.flights.is_forked() {
            return;
        }
        if let Ok(mut table) = self.flights.table.lock() {
            table.hand_over(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;
    use std::thread;

    const LONG: Duration = Duration::from_secs(60);

    /// Waits until `count` threads wait for `key`.
    fn until_followed(flights: &Flights<u8, u32>, key: u8, count: usize) {
        let start = Instant::now();
        while flights.lock().builds.get(&key).map_or(0, |b| b.queue.len()) != count {
            assert!(start.elapsed() < LONG, "nobody came to wait");
            thread::yield_now();
        }
    }

    fn lead(flights: &Flights<u8, u32>, key: u8) -> Lead<'_, u8, u32> {
        match flights.join(key, LONG).0 {
            Turn::Lead(lead) => lead,
            Turn::Landed(_) | Turn::Look | Turn::Alone => panic!("somebody else leads {key}"),
        }
    }

    fn landed(flights: &Flights<u8, u32>, key: u8) -> u32 {
        match flights.join(key, LONG) {
            (Turn::Landed(value), Some(_)) => value,
            _ => panic!("nothing landed for {key}"),
        }
    }

    fn is_alone(flights: &Flights<u8, u32>, key: u8, bound: Duration) -> bool {
        matches!(flights.join(key, bound).0, Turn::Alone)
    }

    fn under_way(flights: &Flights<u8, u32>) -> usize {
        let table = flights.lock();
        table.builds.len() + table.waiting.len()
    }

    #[test]
    fn every_follower_is_given_what_the_leader_made() {
        let flights = Flights::new();
        thread::scope(|scope| {
            let first = lead(&flights, 1);
            let followers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| landed(&flights, 1)))
                .collect();
            until_followed(&flights, 1, 3);
            first.land(7);
            for follower in followers {
                assert_eq!(follower.join().unwrap(), 7);
            }
        });
        assert_eq!(under_way(&flights), 0);
        drop(lead(&flights, 1));
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn a_forked_child_waits_for_no_thread_of_its_parent() {
        let mut flights: Flights<u8, u32> = Flights::new();
        std::mem::forget(lead(&flights, 1));
        flights.pretend_forked();
        let held = flights.table.lock().unwrap();
        thread::scope(|scope| {
            let child = scope.spawn(|| is_alone(&flights, 1, LONG));
            let start = Instant::now();
            while !child.is_finished() && start.elapsed() < Duration::from_secs(5) {
                thread::yield_now();
            }
            let ended = child.is_finished();
            drop(held);
            assert!(ended && child.join().unwrap(), "it waits");
        });
    }

    #[test]
    fn who_comes_after_the_mark_looks_for_itself() {
        let flights = Flights::new();
        thread::scope(|scope| {
            let first = lead(&flights, 1);
            let early = scope.spawn(|| landed(&flights, 1));
            until_followed(&flights, 1, 1);
            first.mark();
            let late = scope.spawn(|| matches!(flights.join(1, LONG).0, Turn::Look));
            until_followed(&flights, 1, 2);
            first.land(7);
            assert_eq!(early.join().unwrap(), 7);
            assert!(late.join().unwrap());
        });
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn keys_do_not_wait_for_one_another() {
        let flights = Flights::new();
        let (one, two) = (lead(&flights, 1), lead(&flights, 2));
        one.land(1);
        two.land(2);
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn whoever_waited_longest_leads_when_the_leader_gives_up() {
        let flights = Flights::new();
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let first = lead(&flights, 1);
            for n in 0..3 {
                let (flights, tell) = (&flights, tell.clone());
                scope.spawn(move || {
                    let lead = lead(flights, 1);
                    tell.send(n).unwrap();
                    drop(lead);
                });
                until_followed(flights, 1, n + 1);
            }
            drop(first);
        });
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn a_panicking_leader_hands_over() {
        let flights = Flights::new();
        thread::scope(|scope| {
            let first = lead(&flights, 1);
            let second = scope.spawn(|| lead(&flights, 1).land(2));
            until_followed(&flights, 1, 1);
            let third = scope.spawn(|| landed(&flights, 1));
            until_followed(&flights, 1, 2);
            let panicked = catch_unwind(AssertUnwindSafe(move || {
                let _lead = first;
                panic!("the builder broke");
            }));
            assert!(panicked.is_err());
            second.join().unwrap();
            assert_eq!(third.join().unwrap(), 2);
        });
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let flights = Flights::new();
        let first = lead(&flights, 1);
        assert!(is_alone(&flights, 1, LONG));
        let inner = lead(&flights, 2);
        assert!(is_alone(&flights, 1, LONG));
        inner.land(2);
        first.land(1);
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn a_wait_that_would_close_a_cycle_is_not_begun() {
        // Thread n leads key n and asks for key n + 1; the last one asks for key 0.
        const THREADS: u8 = 4;
        let flights = Flights::new();
        thread::scope(|scope| {
            let first = lead(&flights, 0);
            for n in (1..THREADS).rev() {
                let (flights, (ready, led)) = (&flights, mpsc::channel());
                scope.spawn(move || {
                    let own = lead(flights, n);
                    ready.send(()).unwrap();
                    assert_eq!(landed(flights, (n + 1) % THREADS), 9);
                    own.land(9);
                });
                led.recv().unwrap();
                until_followed(flights, (n + 1) % THREADS, 1);
            }
            assert!(
                is_alone(&flights, 1, LONG),
                "1 waits for 2 .. for 0, which is ours"
            );
            first.land(9);
        });
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn a_cycle_is_seen_through_a_leader_that_took_over() {
        let flights = Flights::new();
        thread::scope(|scope| {
            let (start, started) = mpsc::channel();
            let first = lead(&flights, 1);
            let flights = &flights;
            let second = scope.spawn(move || {
                let two = lead(flights, 2);
                let one = lead(flights, 1); // waits, then takes over
                start.send(()).unwrap();
                until_followed(flights, 2, 1);
                assert!(is_alone(flights, 3, LONG), "3 is led by who waits for 2");
                one.land(1);
                two.land(2);
            });
            until_followed(flights, 1, 1);
            let three = lead(flights, 3);
            drop(first);
            started.recv().unwrap();
            assert_eq!(landed(flights, 2), 2);
            three.land(3);
            second.join().unwrap();
        });
        assert_eq!(under_way(&flights), 0);
    }

    #[test]
    fn a_wait_ends_when_its_time_is_up() {
        let flights = Flights::new();
        let first = lead(&flights, 1);
        thread::scope(|scope| {
            scope.spawn(|| {
                assert!(is_alone(&flights, 1, Duration::ZERO));
                assert!(is_alone(&flights, 1, Duration::from_millis(2)));
            });
        });
        until_followed(&flights, 1, 0);
        drop(first);
        assert_eq!(under_way(&flights), 0, "nothing was handed to who left");
    }

    #[test]
    fn a_bound_without_end_is_cut_to_one_that_a_clock_can_tell() {
        let flights = Flights::new();
        thread::scope(|scope| {
            let first = lead(&flights, 1);
            let second =
                scope.spawn(|| matches!(flights.join(1, Duration::MAX).0, Turn::Landed(5)));
            until_followed(&flights, 1, 1);
            first.land(5);
            assert!(second.join().unwrap());
        });
    }
}
