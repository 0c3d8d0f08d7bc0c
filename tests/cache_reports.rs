//! What a cache tells: counters, evictions, faults.

use keepwarm::{Cache, Entry, Eviction, EvictionReason, Fingerprint, Tier};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn key(n: u8) -> Fingerprint {
    Fingerprint::builder("reports").field("n", [n]).finish()
}

#[test]
fn every_hit_saves_the_time_of_its_build() {
    let dir = tempfile::tempdir().unwrap();
    for cache in [
        Cache::builder().memory_only().unwrap(),
        Cache::builder().open(dir.path()).unwrap(),
    ] {
        let mut entry = Entry::from(vec![1]);
        entry.build_cost = Duration::from_millis(40);
        cache.put_entry(&key(1), entry);
        cache.put(&key(2), vec![2]);
        assert!(cache.get(&key(1)).is_some());
        assert!(cache.get(&key(2)).is_some(), "of unknown cost");
        cache
            .get_or_insert_with(&key(1), || Err::<Vec<u8>, _>("built"))
            .unwrap();
        assert!(cache.get(&key(3)).is_none());

        let stats = cache.stats();
        assert_eq!(stats.build_time_saved, Duration::from_millis(80));
        assert_eq!((stats.lookups, stats.hits, stats.misses), (4, 3, 1));
        assert_eq!(stats.hit_rate_ppm(), Some(750_000));
        assert_eq!((stats.builds, stats.build_time), (0, Duration::ZERO));
    }
}

#[test]
fn time_saved_survives_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut entry = Entry::from(vec![1]);
    entry.build_cost = Duration::from_millis(40);
    let cache = Cache::builder().open(dir.path()).unwrap();
    cache.put_entry(&key(1), entry);
    cache.close().unwrap();

    let cache = Cache::builder().open(dir.path()).unwrap();
    assert!(cache.get(&key(1)).is_some());
    assert_eq!(cache.stats().build_time_saved, Duration::from_millis(40));
    assert_eq!(cache.stats().promotions, 1);
}

#[test]
fn a_cost_beyond_all_measure_saturates() {
    let cache = Cache::builder().memory_only().unwrap();
    let mut entry = Entry::from(vec![1]);
    entry.build_cost = Duration::MAX;
    cache.put_entry(&key(1), entry);
    for _ in 0..3 {
        assert!(cache.get(&key(1)).is_some());
    }
    assert_eq!(
        cache.stats().build_time_saved,
        Duration::from_nanos(u64::MAX)
    );
}

#[test]
fn builds_are_counted_with_their_time_also_when_they_fail() {
    let cache = Cache::builder().memory_only().unwrap();
    cache
        .get_or_insert_with(&key(1), || Ok::<_, ()>(vec![1]))
        .unwrap();
    cache
        .get_or_insert_with(&key(2), || Err::<Vec<u8>, _>(()))
        .unwrap_err();
    let stats = cache.stats();
    assert_eq!((stats.builds, stats.failed_builds), (1, 1));
    assert_eq!((stats.lookups, stats.misses), (2, 2));
    assert_eq!(stats.puts, 1);
    assert!(stats.build_time >= cache.get_entry(&key(1)).unwrap().build_cost);
}

#[test]
fn the_listener_hears_of_evictions_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(Mutex::new(Vec::<Eviction>::new()));
    let listener = Arc::clone(&heard);
    let cache = Cache::builder()
        .memory_entries(2)
        .disk_entries(4)
        .on_eviction(move |eviction| listener.lock().unwrap().push(*eviction))
        .open(dir.path())
        .unwrap();
    // Until the index of a new directory is made nothing is evicted, and nobody is told of what goes
    // when it is.
    while cache.disk().unwrap().is_rebuilding() {
        std::thread::yield_now();
    }
    for n in 0..20 {
        cache.put(&key(n), vec![n; 10]);
    }
    cache.flush().unwrap();
    let stats = cache.stats();
    let reports = cache.eviction_reports();
    cache.close().unwrap();

    let heard = heard.lock().unwrap();
    let entries = |tier| {
        let of_tier = heard.iter().filter(|e| e.tier == tier);
        of_tier.map(|e| e.entries).sum::<u64>()
    };
    assert_eq!(entries(Tier::Memory), 18);
    assert_eq!(stats.memory.evictions, 18);
    assert!(entries(Tier::Disk) >= 16);
    let sane = |e: &Eviction| {
        e.reason == EvictionReason::EntryLimit && e.bytes >= 10 && !e.oldest_age.is_zero()
    };
    assert!(heard.iter().all(sane), "{heard:?}");
    assert!(
        reports
            .iter()
            .all(|report| heard.contains(&report.eviction))
    );
}

#[test]
fn reports_of_a_memory_cache_are_kept_in_order() {
    let cache = Cache::builder().memory_entries(1).memory_only().unwrap();
    for n in 0..5 {
        cache.put(&key(n), vec![n]);
    }
    let reports = cache.eviction_reports();
    assert_eq!(
        reports.iter().map(|r| r.sequence).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
    assert!(reports.iter().all(|r| r.eviction.tier == Tier::Memory));
    assert_eq!(
        cache.eviction_reports(),
        reports,
        "a look takes nothing away"
    );
}

#[test]
fn a_panicking_listener_is_contained_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    for path in [None, Some(dir.path())] {
        let builder = Cache::builder()
            .memory_entries(1)
            .on_eviction(|_| std::panic::resume_unwind(Box::new("broken listener")));
        let cache = match path {
            None => builder.memory_only(),
            Some(path) => builder.open(path),
        }
        .unwrap();
        for n in 0..3 {
            cache.put(&key(n), vec![n]);
            assert!(cache.get(&key(n)).is_some());
        }
        cache.flush().unwrap();
        assert!(cache.stats().listener_panics >= 2);
        assert!(cache.eviction_reports().len() >= 2);
        cache.close().unwrap();
    }
}

#[test]
fn a_listener_may_use_another_cache_and_the_one_it_listens_to() {
    let heard = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&heard);
    let other = Cache::builder()
        .memory_entries(1)
        .on_eviction(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        })
        .memory_only()
        .unwrap();
    let slot = Arc::new(Mutex::new(None::<Cache>));
    let seen = Arc::clone(&slot);
    let cache = Cache::builder()
        .memory_entries(2)
        .on_eviction(move |_| {
            other.put(&key(1), vec![1]);
            other.put(&key(2), vec![2]);
            let cache = seen.lock().unwrap().clone();
            if let Some(cache) = cache {
                cache.put(&key(100), vec![100]);
            }
        })
        .memory_only()
        .unwrap();
    *slot.lock().unwrap() = Some(cache.clone());
    for n in 0..4 {
        cache.put(&key(n), vec![n]);
    }
    assert!(cache.contains(&key(100)));
    assert_eq!(cache.stats().memory.entries, 2);
    assert!(
        heard.load(Ordering::Relaxed) > 0,
        "the other cache has a listener of its own"
    );
    *slot.lock().unwrap() = None;
}

/// The directory's place is taken by a file while the cache is open: nothing can be stored there
/// any more.
#[test]
fn a_failing_disk_is_counted_and_never_fails_a_build() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let cache = Cache::builder().memory_entries(4).open(&path).unwrap();
    cache.put(&key(0), vec![0]);
    cache.flush().unwrap();

    fs::rename(&path, dir.path().join("elsewhere")).unwrap();
    fs::write(&path, "in the way").unwrap();

    let namespace = cache.namespace("new");
    for n in 1..50 {
        let built = cache.get_or_insert_with(&key(n), || Ok::<_, ()>(vec![n; 100]));
        assert_eq!(built.unwrap().as_slice(), [n; 100]);
        cache.put(&key(n), vec![n; 100]);
        namespace.put(&key(n), vec![n; 100]);
        if let Some(artifact) = cache.get(&key(n)) {
            assert_eq!(artifact.as_slice(), [n; 100]);
        }
    }
    assert!(cache.flush().is_err(), "nothing of it can be on disk");

    let stats = cache.stats();
    assert!(stats.faults > 0);
    assert!(stats.last_fault.is_some());
    assert!(stats.to_string().contains("faults: "), "{stats}");
    assert_eq!(stats.failed_builds, 0);
    drop((namespace, cache));
    assert_eq!(fs::read(&path).unwrap(), b"in the way");
}
