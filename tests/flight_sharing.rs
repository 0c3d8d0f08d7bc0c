//! Threads that miss the same artifact at the same time build it once.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are no tests to the lint"
)]

use keepwarm::{Artifact, Cache, Fingerprint};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};
use std::thread;

const THREADS: usize = 8;

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

fn memory() -> Cache {
    Cache::builder().memory_only().unwrap()
}

/// Runs `ask` on many threads at once and gives back what each of them got.
fn at_once<R: Send>(ask: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let barrier = Barrier::new(THREADS);
    let run = |n| {
        barrier.wait();
        ask(n)
    };
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || run(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    })
}

#[test]
fn threads_asking_for_one_missing_key_build_once() {
    let dir = tempfile::tempdir().unwrap();
    for cache in [memory(), Cache::builder().open(dir.path()).unwrap()] {
        for round in 0..20 {
            let builds = AtomicUsize::new(0);
            let got = at_once(|_| {
                cache.get_or_insert_with(&key(round), || {
                    builds.fetch_add(1, SeqCst);
                    thread::yield_now();
                    Ok::<_, ()>(vec![round; 10])
                })
            });
            assert_eq!(builds.load(SeqCst), 1);
            assert!(
                got.iter()
                    .all(|a| a.as_ref().unwrap().as_slice() == [round; 10])
            );
        }
        let stats = cache.stats();
        assert_eq!((stats.builds, stats.failed_builds), (20, 0));
        assert_eq!(stats.lookups, 20 * THREADS as u64);
        assert_eq!(stats.misses, stats.builds + stats.shared_builds);
        assert_eq!(stats.waits, stats.shared_builds);
    }
}

#[test]
fn a_cache_that_keeps_nothing_still_shares_builds_under_way() {
    let cache = Cache::builder().memory_budget(0).memory_only().unwrap();
    let running = AtomicUsize::new(0);
    let got = at_once(|_| {
        cache.get_or_insert_with(&key(1), || {
            assert_eq!(running.fetch_add(1, SeqCst), 0, "two builds at once");
            thread::yield_now();
            running.fetch_sub(1, SeqCst);
            Ok::<_, ()>(vec![1])
        })
    });
    assert!(got.iter().all(Result::is_ok));
    let stats = cache.stats();
    assert_eq!(stats.builds + stats.shared_builds, THREADS as u64);
}

#[test]
fn a_failing_builder_hands_over_and_its_error_reaches_only_its_caller() {
    // Errors that cannot be cloned.
    #[derive(Debug, PartialEq)]
    struct Failed(usize);

    let cache = memory();
    let (tries, running) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let got: Vec<Result<Artifact, Failed>> = at_once(|_| {
        cache.get_or_insert_with(&key(1), || {
            assert_eq!(running.fetch_add(1, SeqCst), 0, "two builds at once");
            let n = tries.fetch_add(1, SeqCst);
            thread::yield_now();
            running.fetch_sub(1, SeqCst);
            if n < 3 { Err(Failed(n)) } else { Ok(vec![9]) }
        })
    });
    let mut errors: Vec<_> = got.iter().filter_map(|r| r.as_ref().err()).collect();
    errors.sort_by_key(|e| e.0);
    assert_eq!(errors, [&Failed(0), &Failed(1), &Failed(2)]);
    assert_eq!(got.iter().flatten().count(), THREADS - 3);
    assert!(got.iter().flatten().all(|a| a.as_slice() == [9]));
    assert_eq!(tries.load(SeqCst), 4);
    assert_eq!((cache.stats().builds, cache.stats().failed_builds), (1, 3));
}

#[test]
fn a_panicking_builder_hands_over_and_the_panic_reaches_its_caller() {
    let cache = memory();
    let tries = AtomicUsize::new(0);
    let got = at_once(|_| {
        catch_unwind(AssertUnwindSafe(|| {
            cache.get_or_insert_with(&key(1), || {
                let n = tries.fetch_add(1, SeqCst);
                thread::yield_now();
                assert!(n >= 2, "broken builder {n}");
                Ok::<_, ()>(vec![9])
            })
        }))
    });
    let mut panics: Vec<_> = got
        .iter()
        .filter_map(|r| r.as_ref().err()?.downcast_ref::<String>())
        .collect();
    panics.sort();
    assert_eq!(panics, ["broken builder 0", "broken builder 1"]);
    assert_eq!(got.iter().flatten().flatten().count(), THREADS - 2);
    assert_eq!((cache.stats().builds, cache.stats().failed_builds), (1, 2));
}

#[test]
fn a_failed_build_is_tried_again_by_the_next_call() {
    let cache = memory();
    let failed = cache.get_or_insert_with(&key(1), || Err::<Vec<u8>, _>("no"));
    assert_eq!(failed, Err("no"));
    assert!(!cache.contains(&key(1)));
    let built = cache.get_or_insert_with(&key(1), || Ok::<_, &str>(vec![1]));
    assert_eq!(built.unwrap().as_slice(), [1]);
}

#[test]
fn followers_are_given_the_very_artifact_that_was_built() {
    // A budget of zero: nobody can have found a copy in the cache.
    let cache = Cache::builder().memory_budget(0).memory_only().unwrap();
    let built = Mutex::new(Vec::new());
    let got = at_once(|_| {
        cache
            .get_or_insert_with(&key(1), || {
                let artifact = Artifact::from(vec![1; 100]);
                built.lock().unwrap().push(artifact.as_ptr() as usize);
                thread::yield_now();
                Ok::<_, ()>(artifact)
            })
            .unwrap()
    });
    let built = built.into_inner().unwrap();
    assert!(got.iter().all(|a| built.contains(&(a.as_ptr() as usize))));
}

#[test]
fn what_is_put_while_a_build_is_under_way_is_replaced_when_it_ends() {
    let cache = memory();
    let got = cache.get_or_insert_with(&key(1), || {
        cache.put(&key(1), *b"put");
        assert_eq!(cache.get(&key(1)).unwrap().as_slice(), b"put");
        Ok::<_, ()>(*b"built")
    });
    assert_eq!(got.unwrap().as_slice(), b"built");
    assert_eq!(cache.get(&key(1)).unwrap().as_slice(), b"built");
}

#[test]
fn namespaces_do_not_share_builds() {
    let cache = memory();
    let (one, two) = (cache.namespace("1"), cache.namespace("2"));
    let outer = one.get_or_insert_with(&key(1), || {
        let inner = two.get_or_insert_with(&key(1), || Ok::<_, ()>(vec![2]))?;
        assert_eq!(inner.as_slice(), [2]);
        Ok::<_, ()>(vec![1])
    });
    assert_eq!(outer.unwrap().as_slice(), [1]);
    assert_eq!(cache.stats().lone_builds, 0);
}

/// What was removed after it was seen is not given to who asks for it then, though the thread that
/// built it is not done with putting it yet.
#[test]
fn what_was_removed_does_not_come_back_from_a_build_that_has_put_it() {
    let (entered, enters) = std::sync::mpsc::channel();
    let gate = std::sync::Arc::new(Mutex::new(()));
    let closed = std::sync::Arc::clone(&gate);
    let cache = Cache::builder()
        .memory_entries(1)
        .on_eviction(move |_| {
            entered.send(()).ok();
            drop(closed.lock().unwrap());
        })
        .memory_only()
        .unwrap();
    cache.put(&key(0), vec![0]);
    let closed = gate.lock().unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| cache.get_or_insert_with(&key(1), || Ok::<_, ()>(vec![1])));
        enters.recv().unwrap();
        assert_eq!(cache.get(&key(1)).unwrap().as_slice(), [1], "it is put");
        assert!(cache.remove(&key(1)).unwrap());
        let second = scope.spawn(|| cache.get_or_insert_with(&key(1), || Ok::<_, ()>(vec![2])));
        thread::sleep(std::time::Duration::from_millis(200));
        drop(closed);
        assert_eq!(first.join().unwrap().unwrap().as_slice(), [1]);
        assert_eq!(second.join().unwrap().unwrap().as_slice(), [2]);
        assert_eq!(cache.get(&key(1)).unwrap().as_slice(), [2]);
    });
}
