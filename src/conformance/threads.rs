//! Calls from several threads at once.

use super::subject::{Subject, entry, key};
use super::{Case, Check, Config, Suite, budgets};
use crate::artifact::Artifact;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::store::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};

const ROUNDS: u64 = 400;
const THREADS: u64 = 3;
const READERS: u64 = 2;

const fn case(promise: &'static str, check: Check) -> Case {
    Case {
        applies: |_| true,
        config: |_| Config {
            entry_budget: None,
            byte_budget: None,
        },
        promise,
        check,
    }
}

const fn budget(
    applies: fn(&Suite) -> bool,
    config: fn(&Suite) -> Config,
    check: Check,
    promise: &'static str,
) -> Case {
    Case {
        applies,
        config,
        promise,
        check,
    }
}

pub(super) const CASES: &[Case] = &[
    case(
        "no older entry of a key is seen after a newer one, or after its removal",
        newest_wins,
    ),
    budget(
        |suite| suite.entry_budget,
        budgets::few_entries,
        newest_wins,
        "no older entry of a key is seen after a newer one, while others are evicted",
    ),
    case(
        "puts of one key by several threads leave one of them, whole",
        one_wins,
    ),
    case(
        "threads that use different keys do not disturb one another",
        apart,
    ),
    budget(
        |suite| suite.entry_budget && suite.byte_budget,
        budgets::few_of_both,
        budgets_hold,
        "budgets hold after puts from several threads",
    ),
];

/// What went wrong in a thread; a panic there would hide its message.
struct Failure(String);

type Verdict = Result<(), Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("a call failed: {error}"))
    }
}

impl From<String> for Failure {
    fn from(how: String) -> Self {
        Self(how)
    }
}

type Job<'a> = Box<dyn FnOnce() -> Verdict + Send + 'a>;

fn run(subject: &Subject, jobs: Vec<Job>) {
    let verdicts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
        threads.into_iter().map(ScopedJoinHandle::join).collect()
    });
    for verdict in verdicts {
        match verdict {
            Ok(Ok(())) => {}
            Ok(Err(Failure(how))) => subject.broken(how),
            Err(_) => subject.broken("a call panicked in a thread"),
        }
    }
}

/// An entry that says its version in every word, in as many words as tell a mixture.
fn versioned(version: u64) -> Entry {
    let words = 4 + version % 60;
    let bytes: Vec<u8> = (0..words).flat_map(|_| version.to_le_bytes()).collect();
    Entry::from(bytes)
}

/// The version that an artifact says, if it is whole.
fn version(artifact: &Artifact) -> Result<u64, String> {
    let words = artifact.chunks_exact(8);
    let mut words = words.filter_map(|word| word.try_into().ok().map(u64::from_le_bytes));
    let version = words.next().unwrap_or(u64::MAX);
    let whole = *artifact == versioned(version % ROUNDS_OF_ALL).artifact;
    whole
        .then_some(version)
        .ok_or_else(|| "an artifact is not whole".to_string())
}

/// Versions are below this.
const ROUNDS_OF_ALL: u64 = ROUNDS * (THREADS + 1);

/// Sets its flag when it is dropped, however the thread ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// One thread puts ever newer versions of a key and removes it now and then; others get it.
/// `oldest` is what may still be seen: every get that starts later finds that or newer, or nothing.
fn newest_wins(subject: &Subject) {
    let store = &*subject.store;
    let (oldest, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let gets = AtomicU64::new(0);
    // Lets the readers look at what was just done, on a machine with one core too.
    let wait_for_readers = || {
        let before = gets.load(Ordering::SeqCst);
        for _ in 0..1000 {
            if gets.load(Ordering::SeqCst) > before + READERS {
                break;
            }
            thread::yield_now();
        }
    };
    let write = || {
        let _done = Done(&done);
        for n in 0..ROUNDS {
            let outcome = store.put(&key(0), versioned(n))?;
            oldest.fetch_max(n, Ordering::SeqCst);
            drop(outcome);
            if n % 5 == 4 {
                store.remove(&key(0))?;
                oldest.fetch_max(n + 1, Ordering::SeqCst);
            }
            if n % 5 > 2 {
                wait_for_readers();
            }
            if n % 4 == 0 {
                // The rest of the store is in use too.
                drop(store.put(&key(n + 1), versioned(n))?);
            }
        }
        Ok(())
    };
    let read = || {
        while !done.load(Ordering::SeqCst) {
            let least = oldest.load(Ordering::SeqCst);
            let found = store.get(&key(0))?;
            gets.fetch_add(1, Ordering::SeqCst);
            thread::yield_now();
            let Some(found) = found else {
                continue;
            };
            let found = version(&found.artifact)?;
            if found < least {
                return Err(format!("version {found} was seen after {least}").into());
            }
            oldest.fetch_max(found, Ordering::SeqCst);
        }
        Ok(())
    };
    let mut jobs: Vec<Job> = vec![Box::new(write)];
    jobs.extend((0..READERS).map(|_| -> Job { Box::new(read) }));
    run(subject, jobs);
    subject.within_budget();
    subject.misses(&key(0));
}

fn one_wins(subject: &Subject) {
    let store = &*subject.store;
    let put = |thread: u64| {
        for n in 0..ROUNDS {
            let entry = versioned(thread * ROUNDS + n);
            drop(store.put(&key(0), entry)?);
            if let Some(found) = store.get(&key(0))? {
                version(&found.artifact)?;
            }
        }
        Ok(())
    };
    let jobs = (0..THREADS).map(|thread| -> Job { Box::new(move || put(thread)) });
    run(subject, jobs.collect());
    let found = subject.get(&key(0)).map(|entry| version(&entry.artifact));
    let last = matches!(found, Some(Ok(version)) if version % ROUNDS == ROUNDS - 1);
    subject.require(
        last,
        format_args!("{found:?} is left, which is no thread's last put"),
    );
    subject.counts(1);
}

fn apart(subject: &Subject) {
    let store = &*subject.store;
    let expect = |key: &Fingerprint, expected: Option<u64>| {
        let found = store.get(key)?;
        let found = found.map(|entry| version(&entry.artifact)).transpose()?;
        let right = found == expected;
        if right {
            return Ok(());
        }
        Err(Failure(format!("{found:?} was found, not {expected:?}")))
    };
    let work = |thread: u64| {
        for n in 0..ROUNDS {
            let key = key(thread * ROUNDS + n % 20);
            drop(store.put(&key, versioned(n))?);
            expect(&key, Some(n))?;
            if n % 3 == 0 {
                store.remove(&key)?;
                expect(&key, None)?;
            }
        }
        Ok(())
    };
    let jobs = (0..THREADS).map(|thread| -> Job { Box::new(move || work(thread)) });
    run(subject, jobs.collect());
    let kept = (ROUNDS - 20..ROUNDS).filter(|n| n % 3 != 0).count() as u64;
    subject.counts(kept * THREADS);
}

fn budgets_hold(subject: &Subject) {
    let store = &*subject.store;
    let unit = subject.suite.unit;
    let put = |thread: u64| {
        for n in 0..ROUNDS / 2 {
            let n = thread * ROUNDS + n;
            drop(store.put(&key(n), entry(n, unit))?);
        }
        Ok(())
    };
    let jobs = (0..THREADS).map(|thread| -> Job { Box::new(move || put(thread)) });
    run(subject, jobs.collect());
    subject.within_budget();
    subject.flush();
    let numbers = (0..THREADS * ROUNDS).filter(|n| {
        let found = subject.get(&key(*n));
        found.is_some_and(|found| {
            subject.same(&key(*n), &found, &entry(*n, unit));
            true
        })
    });
    let kept = numbers.count() as u64;
    let over = subject
        .config
        .entry_budget
        .is_some_and(|budget| kept > budget);
    subject.require(kept > 0, "nothing is kept");
    subject.require(!over, format_args!("{kept} entries are kept"));
    subject.counts(kept);
}
