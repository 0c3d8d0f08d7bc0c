//! Builds that ask for one another never wait for ever.

use keepwarm::{Artifact, Cache, Fingerprint};
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

#[test]
fn a_builder_that_asks_for_its_own_key_builds_it_beside() {
    let cache = Cache::builder().memory_only().unwrap();
    let got = cache.get_or_insert_with(&key(1), || {
        let inner = cache.get_or_insert_with(&key(1), || Ok::<_, ()>(vec![1]))?;
        assert_eq!(inner.as_slice(), [1]);
        Ok::<_, ()>(vec![2])
    });
    assert_eq!(got.unwrap().as_slice(), [2]);
    assert_eq!(cache.get(&key(1)).unwrap().as_slice(), [2]);
    let stats = cache.stats();
    assert_eq!((stats.builds, stats.lone_builds, stats.waits), (2, 1, 0));
}

#[test]
fn threads_whose_builders_ask_for_one_another_finish() {
    const THREADS: u8 = 3;
    let cache = Cache::builder().memory_only().unwrap();
    let all_lead = Barrier::new(THREADS.into());
    let ask = |n: u8| {
        let next = (n + 1) % THREADS;
        cache.get_or_insert_with(&key(n), || {
            all_lead.wait();
            let part = cache.get_or_insert_with(&key(next), || Ok::<_, Infallible>(vec![next]))?;
            Ok::<_, Infallible>(vec![n, part[0]])
        })
    };
    let ask = &ask;
    thread::scope(|scope| {
        for n in 0..THREADS {
            scope.spawn(move || {
                let Ok(artifact) = ask(n);
                assert_eq!(artifact.as_slice(), [n, (n + 1) % THREADS]);
            });
        }
    });
    assert_eq!(cache.stats().lone_builds, 1, "one of them breaks the cycle");
}

#[test]
fn a_wait_past_its_bound_builds_anyway() {
    let cache = Cache::builder()
        .build_wait(Duration::from_millis(5))
        .memory_only()
        .unwrap();
    let (led, is_led) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    thread::scope(|scope| {
        let stuck = scope.spawn(|| {
            cache.get_or_insert_with(&key(1), move || {
                led.send(()).unwrap();
                ended.recv().unwrap();
                Ok::<_, ()>(vec![1])
            })
        });
        is_led.recv().unwrap();
        let got = cache.get_or_insert_with(&key(1), || Ok::<_, ()>(vec![2]));
        assert_eq!(got.unwrap().as_slice(), [2]);
        end.send(()).unwrap();
        assert_eq!(stuck.join().unwrap().unwrap().as_slice(), [1]);
    });
    let stats = cache.stats();
    assert_eq!(
        (stats.waits, stats.shared_builds, stats.lone_builds),
        (1, 0, 1)
    );
    assert_eq!(
        cache.get(&key(1)).unwrap().as_slice(),
        [1],
        "it was put last"
    );
}

#[test]
fn no_bound_at_all_never_waits() {
    let cache = Cache::builder()
        .build_wait(Duration::ZERO)
        .memory_only()
        .unwrap();
    let got = cache.get_or_insert_with(&key(1), || {
        let other = thread::scope(|scope| {
            let ask = || cache.get_or_insert_with(&key(1), || Ok::<_, ()>(vec![2]));
            scope.spawn(ask).join().unwrap()
        });
        assert_eq!(other?.as_slice(), [2]);
        Ok::<_, ()>(vec![1])
    });
    assert_eq!(got.unwrap().as_slice(), [1]);
    assert_eq!(cache.stats().waits, 0);
}

/// Threads ask for few keys in random order; builders ask for further ones, fail and panic.
#[test]
fn any_tangle_of_builds_comes_to_an_end() {
    const KEYS: u64 = 5;

    struct Failed;

    fn ask(cache: &Cache, random: u64, depth: u32) -> Result<Artifact, Failed> {
        let n = u8::try_from(random % KEYS).unwrap();
        let build = || {
            let mut random = random / KEYS;
            for _ in 0..random % 3 {
                random = step(random);
                if depth < 4 {
                    let _ = ask(cache, random, depth + 1);
                }
            }
            if random % 7 == 0 {
                resume_unwind(Box::new("a panic without a message on the terminal"));
            }
            if random % 5 == 0 {
                Err(Failed)
            } else {
                Ok(vec![n; 3])
            }
        };
        let got = cache.get_or_insert_with(&key(n), build)?;
        assert_eq!(got.as_slice(), [n; 3]);
        if random % 3 == 0 {
            cache.remove(&key(n)).unwrap();
        }
        Ok(got)
    }

    let cache = Cache::builder().memory_only().unwrap();
    thread::scope(|scope| {
        for thread in 1..=4 {
            let cache = &cache;
            scope.spawn(move || {
                let mut random = thread;
                for _ in 0..300 {
                    random = step(random);
                    let _ = catch_unwind(AssertUnwindSafe(|| ask(cache, random, 0)));
                }
            });
        }
    });
    let stats = cache.stats();
    assert!(stats.failed_builds > 0 && stats.builds > 0);
    let built = stats.builds + stats.failed_builds + stats.shared_builds;
    assert_eq!(stats.misses, built, "every miss was built or shared");
}

/// A step of a small generator (`SplitMix64`).
fn step(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
