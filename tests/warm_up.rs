//! Warming memory up: what comes in, in which order, and what it must leave alone.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Cache, CacheBuilder, Store, StoreStats, WarmUpEnd, WritePolicy};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use support::{bytes, fast_dir, files_in, key};

/// A directory with so many entries, put in order, then used in reverse if `n` is a multiple of 10.
fn directory(dir: &Path, entries: u64, len: usize) {
    let cache = Cache::builder().memory_entries(0).open(dir).unwrap();
    for n in 0..entries {
        cache.put(&key(n), bytes(n, len));
    }
    cache.flush().unwrap();
    for n in (0..entries).rev().filter(|n| n % 10 == 0) {
        assert!(cache.get(&key(n)).is_some());
    }
    cache.close().unwrap();
}

fn open(builder: CacheBuilder, dir: &Path) -> Cache {
    let cache = builder.open(dir).unwrap();
    while cache.disk().unwrap().is_rebuilding() {
        std::thread::yield_now();
    }
    cache
}

/// Whether memory serves a key, found out without a look at the disk's counters changing.
fn in_memory(cache: &Cache, n: u64) -> bool {
    let disk = |cache: &Cache| cache.stats().disk.unwrap().lookups;
    let before = disk(cache);
    let found = cache.get(&key(n)).is_some();
    found && disk(cache) == before
}

#[test]
fn everything_comes_into_memory_where_there_is_room_and_is_served_from_there() {
    let dir = fast_dir();
    directory(dir.path(), 200, 1000);
    let cache = open(Cache::builder(), dir.path());
    let report = cache.warm_up(u64::MAX);
    assert_eq!(report.end, WarmUpEnd::Complete);
    let progress = report.progress;
    assert_eq!((progress.artifacts, progress.bytes), (200, 200_000));
    assert_eq!(
        (progress.candidates, progress.skipped, progress.damaged),
        (200, 0, 0)
    );
    for n in 0..200 {
        assert!(in_memory(&cache, n), "{n}");
        assert_eq!(cache.get(&key(n)).unwrap(), bytes(n, 1000)[..]);
    }
    let again = cache.warm_up(u64::MAX);
    assert_eq!((again.progress.artifacts, again.progress.skipped), (0, 200));
}

#[test]
fn the_most_recently_used_come_first_and_the_limit_is_kept() {
    let dir = fast_dir();
    directory(dir.path(), 200, 1000);
    let cache = open(Cache::builder(), dir.path());
    // Used last: 0, 10, 20, ...; then put last: 199, 198, ...
    let report = cache.warm_up(25_500);
    assert_eq!(report.end, WarmUpEnd::Limit);
    assert_eq!(
        (report.progress.artifacts, report.progress.bytes),
        (25, 25_000)
    );
    let expected: Vec<u64> = (0..20).map(|n| n * 10).chain(195..200).collect();
    let mut expected: Vec<u64> = expected.into_iter().collect();
    expected.sort_unstable();
    assert_eq!(cache.stats().memory.entries, 25);
    let warm: Vec<u64> = (0..200)
        .filter(|n| expected.contains(n) && in_memory(&cache, *n))
        .collect();
    assert_eq!(warm, expected);
}

#[test]
fn nothing_that_memory_holds_makes_room() {
    let dir = fast_dir();
    directory(dir.path(), 100, 1000);
    let full = WarmUpEnd::MemoryFull;
    for (builder, room, end) in [
        (Cache::builder().memory_budget(20_000), 20, full),
        (Cache::builder().memory_entries(30), 30, full),
        // Every artifact is larger than that memory.
        (Cache::builder().memory_budget(0), 0, WarmUpEnd::Complete),
        (Cache::builder().memory_entries(0), 0, full),
    ] {
        let cache = open(builder, dir.path());
        let held: Vec<u64> = (1..8).filter(|_| room > 0).collect();
        for n in &held {
            assert!(cache.get(&key(*n)).is_some());
        }
        let report = cache.warm_up(u64::MAX);
        assert_eq!(report.end, end);
        assert_eq!(report.progress.artifacts, room - held.len() as u64);
        let memory = cache.stats().memory;
        assert_eq!((memory.entries, memory.evictions), (room, 0));
        for n in held {
            assert!(in_memory(&cache, n), "{n}");
        }
    }
}

#[test]
fn what_is_larger_than_memory_or_limit_is_left_and_the_rest_comes() {
    let dir = fast_dir();
    let cache = open(Cache::builder().memory_entries(0), dir.path());
    for n in 0..10 {
        cache.put(&key(n), bytes(n, 1000));
    }
    cache.put(&key(10), bytes(10, 300_000));
    cache.close().unwrap();
    let cache = open(Cache::builder().memory_budget(100_000), dir.path());
    let report = cache.warm_up(u64::MAX);
    assert_eq!(report.end, WarmUpEnd::Complete);
    assert_eq!(
        (report.progress.artifacts, report.progress.skipped),
        (10, 1)
    );
    let cache = open(Cache::builder(), dir.path());
    let report = cache.warm_up(200_000);
    assert_eq!(
        (report.progress.artifacts, report.progress.skipped),
        (10, 1)
    );
}

#[test]
fn memory_then_lets_go_of_the_least_recently_used_first() {
    let dir = fast_dir();
    directory(dir.path(), 60, 100);
    let cache = open(Cache::builder().memory_entries(60), dir.path());
    assert_eq!(cache.warm_up(u64::MAX).progress.artifacts, 60);
    // Memory has several shards, so which one goes is close to exact, not exact.
    for n in 1000..1030 {
        cache.put(&key(n), bytes(n, 100));
    }
    cache.flush().unwrap();
    let used: Vec<u64> = (0..60).filter(|n| n % 10 == 0).collect();
    let kept = used.iter().filter(|n| in_memory(&cache, **n)).count();
    assert!(kept >= 4, "{kept} of {} used last", used.len());
    for n in 1000..1030 {
        assert!(in_memory(&cache, n), "{n} was put after the warm-up");
    }
}

#[test]
fn it_counts_as_no_lookup_and_as_no_use() {
    let dir = fast_dir();
    directory(dir.path(), 50, 100);
    let facts = |cache: &Cache| {
        let mut all: Vec<_> = cache
            .disk()
            .unwrap()
            .entries()
            .map(Result::unwrap)
            .collect();
        all.sort_by_key(|info| info.key);
        all
    };
    let cache = open(Cache::builder(), dir.path());
    let before = facts(&cache);
    let mark = cache.mark().unwrap();
    cache.warm_up(u64::MAX);
    let stats = cache.stats();
    assert_eq!((stats.lookups, stats.hits, stats.promotions), (0, 0, 0));
    let counts = |stats: &StoreStats| (stats.lookups, stats.hits);
    assert_eq!(counts(&stats.memory), (0, 0));
    assert_eq!(counts(&stats.disk.unwrap()), (0, 0));
    cache.flush().unwrap();
    assert_eq!(facts(&cache), before);
    let report = cache
        .prune(&keepwarm::Prune::new().unused_since(mark))
        .unwrap();
    assert_eq!(report.entries, 50, "warming up is no use");
    assert_eq!(cache.stats().memory.entries, 0);
}

#[test]
fn the_callback_hears_of_each_artifact_on_its_own_thread_and_can_end_it() {
    let dir = fast_dir();
    directory(dir.path(), 100, 1000);
    let cache = open(Cache::builder(), dir.path());
    let me = std::thread::current().id();
    let mut last = 0;
    let report = cache.warm_up_with(u64::MAX, |progress| {
        assert_eq!(std::thread::current().id(), me);
        assert_eq!(progress.artifacts, last + 1);
        assert_eq!(progress.candidates, 100);
        last = progress.artifacts;
        ControlFlow::Continue(())
    });
    assert_eq!((last, report.progress.artifacts), (100, 100));

    let cache = open(Cache::builder(), dir.path());
    let mut calls = 0;
    let report = cache.warm_up_with(u64::MAX, |_| {
        calls += 1;
        ControlFlow::Break(())
    });
    assert_eq!((calls, report.end), (1, WarmUpEnd::Cancelled));
    assert!(report.progress.artifacts >= 1);
    assert_eq!(cache.stats().memory.entries, report.progress.artifacts);
}

#[test]
fn a_panic_of_the_callback_reaches_the_caller_and_leaves_a_working_cache() {
    let dir = fast_dir();
    directory(dir.path(), 300, 100);
    let cache = open(Cache::builder(), dir.path());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.warm_up_with(u64::MAX, |_| panic!("on purpose"))
    }));
    assert!(caught.is_err());
    assert_eq!(cache.warm_up(u64::MAX).end, WarmUpEnd::Complete);
    assert!((0..300).all(|n| in_memory(&cache, n)));
}

/// What is smaller is loaded sooner.
#[test]
fn what_was_used_longer_ago_takes_no_room_of_what_is_still_being_loaded() {
    let dir = fast_dir();
    let cache = Cache::builder().memory_entries(0).open(dir.path()).unwrap();
    for (n, len) in [(3, 1 << 20), (2, 16 << 20), (1, 32 << 20)] {
        cache.put(&key(n), bytes(n, len));
        cache.flush().unwrap();
    }
    cache.close().unwrap();
    for _ in 0..4 {
        let cache = open(Cache::builder().memory_budget(40 << 20), dir.path());
        let report = cache.warm_up(u64::MAX);
        assert_eq!(report.end, WarmUpEnd::MemoryFull);
        assert_eq!(report.progress.bytes, 32 << 20);
        assert!(in_memory(&cache, 1));
        let cache = open(Cache::builder(), dir.path());
        let report = cache.warm_up(40 << 20);
        assert_eq!(report.end, WarmUpEnd::Limit);
        assert_eq!(report.progress.bytes, 32 << 20);
    }
}

#[test]
fn without_a_directory_it_says_so() {
    for cache in [
        Cache::builder().memory_only().unwrap(),
        Cache::builder().enabled(false).memory_only().unwrap(),
    ] {
        let report = cache.warm_up(u64::MAX);
        assert_eq!(
            (report.end, report.progress.artifacts),
            (WarmUpEnd::NoDirectory, 0)
        );
    }
    let dir = fast_dir();
    let empty = open(Cache::builder(), dir.path());
    assert_eq!(empty.warm_up(1).end, WarmUpEnd::Complete);
}

#[test]
fn what_is_damaged_is_counted_and_not_served() {
    let dir = fast_dir();
    directory(dir.path(), 20, 5000);
    for pack in files_in(dir.path(), "packs") {
        let mut content = std::fs::read(&pack).unwrap();
        let payload = bytes(7, 5000);
        let at = content.windows(64).position(|w| w == &payload[..64]);
        if let Some(at) = at {
            content[at + 100] ^= 1;
        }
        std::fs::remove_file(&pack).unwrap();
        std::fs::write(&pack, content).unwrap();
    }
    let cache = open(Cache::builder(), dir.path());
    let report = cache.warm_up(u64::MAX);
    assert_eq!(report.end, WarmUpEnd::Complete);
    assert_eq!(
        (report.progress.artifacts, report.progress.damaged),
        (19, 1)
    );
    assert_eq!(cache.stats().disk.unwrap().corrupt, 1);
    for n in 0..20 {
        let found = cache.get(&key(n)).map(|a| a.to_vec());
        assert_eq!(found, (n != 7).then(|| bytes(n, 5000)));
    }
    cache.put(&key(7), bytes(7, 5000));
    assert_eq!(cache.get(&key(7)).unwrap(), bytes(7, 5000)[..]);
}

#[test]
fn what_is_too_old_stays_below() {
    let dir = fast_dir();
    let hour = Duration::from_secs(3600);
    let cache = open(Cache::builder(), dir.path());
    for n in 0..10 {
        let at = SystemTime::now() - hour * u32::try_from(n).unwrap();
        cache.put_entry(&key(n), keepwarm::Entry::from(bytes(n, 10)).with_put_at(at));
    }
    cache.close().unwrap();
    let cache = open(Cache::builder().max_age(hour * 4 + hour / 2), dir.path());
    let report = cache.warm_up(u64::MAX);
    assert_eq!((report.progress.artifacts, report.progress.skipped), (5, 5));
}

/// Versions of a key: what is put under it tells which.
fn version(n: u64, version: u64) -> Vec<u8> {
    let mut content = bytes(n * 1_000_000 + version, 200);
    content[..8].copy_from_slice(&version.to_le_bytes());
    content
}

#[test]
fn a_warm_up_brings_back_nothing_that_was_replaced_or_removed_meanwhile() {
    const KEYS: u64 = 40;
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let dir = fast_dir();
        let builder = Cache::builder()
            .write_policy(policy)
            .memory_entries(KEYS / 2);
        let cache = open(builder, dir.path());
        let done = AtomicBool::new(false);
        let rounds = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let (cache, done, rounds) = (&cache, &done, &rounds);
            let writers: Vec<_> = (0..2)
                .map(|t| {
                    scope.spawn(move || {
                        for round in 1..=150 {
                            for n in (t..KEYS).step_by(2) {
                                if (n + round) % 5 == 0 {
                                    cache.remove(&key(n)).unwrap();
                                    assert!(cache.get(&key(n)).is_none(), "{n} came back");
                                } else {
                                    cache.put(&key(n), version(n, round));
                                    let found = cache.get(&key(n));
                                    assert_eq!(found.unwrap(), version(n, round)[..]);
                                }
                            }
                        }
                    })
                })
                .collect();
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    cache.warm_up(u64::MAX);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
            for writer in writers {
                let joined = writer.join();
                if joined.is_err() {
                    done.store(true, Ordering::Relaxed);
                }
                joined.unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(rounds.load(Ordering::Relaxed) > 0);
        for look in 0..2 {
            for n in 0..KEYS {
                let expected = ((n + 150) % 5 != 0).then(|| version(n, 150));
                let found = cache.get(&key(n)).map(|a| a.to_vec());
                assert_eq!(found, expected, "{n}, look {look}");
            }
            cache.flush().unwrap();
            cache.warm_up(u64::MAX);
        }
        let memory = cache.stats().memory;
        assert!(memory.entries <= KEYS / 2);
    }
}

#[test]
fn large_artifacts_come_up_mapped() {
    let dir = fast_dir();
    let cache = open(Cache::builder(), dir.path());
    cache.put(&key(1), bytes(1, 400_000));
    cache.close().unwrap();
    let cache = open(Cache::builder(), dir.path());
    assert_eq!(cache.warm_up(1 << 20).progress.bytes, 400_000);
    assert!(in_memory(&cache, 1));
    let artifact = cache.get(&key(1)).unwrap();
    assert_eq!(artifact, bytes(1, 400_000)[..]);
    assert!(artifact.is_mapped() || !cfg!(unix));
    assert!(cache.disk().unwrap().contains(&key(1)).unwrap());
}
