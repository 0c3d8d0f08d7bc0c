//! Settings, good and bad, and what `open_or_memory` makes of a bad place.

use keepwarm::{Cache, CacheBuilder, DiskStore, ErrorKind, Fingerprint, StoreExt, WritePolicy};
use std::time::Duration;

const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);

fn settings_out_of_range() -> [(CacheBuilder, &'static str); 3] {
    [
        (
            Cache::builder().queue_bytes(0),
            "`queue_bytes` of 0: it must be at least 1",
        ),
        (
            Cache::builder().build_wait(Duration::MAX),
            "it may be 0 to 24 hours",
        ),
        (
            Cache::builder().build_wait(Duration::from_secs(24 * 60 * 60 + 1)),
            "`build_wait` of 86401s",
        ),
    ]
}

#[test]
fn a_setting_out_of_its_range_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    for (builder, text) in settings_out_of_range() {
        for error in [
            builder.clone().open(dir.path()).unwrap_err(),
            builder.clone().memory_only().unwrap_err(),
            builder.enabled(false).open(dir.path()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}

#[test]
fn open_or_memory_uses_the_nearest_setting_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for (builder, text) in settings_out_of_range() {
        let cache = builder.open_or_memory(dir.path());
        let stats = cache.stats();
        assert!(stats.disk.is_some());
        assert!(stats.degraded.unwrap().contains(text));
    }
}

#[test]
fn an_empty_path_is_refused_as_such() {
    let error = Cache::builder().open("").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("path is empty"), "{error}");
    let degraded = Cache::builder().open_or_memory("").stats().degraded;
    assert!(degraded.unwrap().contains("path is empty"));
}

#[test]
fn the_longest_of_waits_is_a_wait() {
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::builder().lock_wait(Duration::MAX);
    let store = store.open(dir.path()).unwrap();
    let key = Fingerprint::from_bytes([1; 32]);
    assert!(store.put_bytes(&key, [1]).unwrap());
}

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "precious").unwrap();

    let error = Cache::builder().open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotADirectory);
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn open_or_memory_over_a_file_is_a_memory_cache_that_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, "precious").unwrap();

    let cache = Cache::builder().open_or_memory(&path);
    let built = cache.get_or_insert_with(&KEY, || Ok::<_, ()>(vec![1]));
    assert_eq!(built.unwrap().as_slice(), [1]);
    assert_eq!(cache.get(&KEY).unwrap().as_slice(), [1]);
    cache.flush().unwrap();

    let stats = cache.stats();
    assert!(stats.enabled && stats.disk.is_none());
    let why = stats.degraded.clone().unwrap();
    assert!(why.contains(path.to_str().unwrap()), "{why}");
    assert!(
        stats.to_string().contains(&format!("disk: none ({why})")),
        "{stats}"
    );
    cache.close().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn open_or_memory_over_a_good_directory_is_not_degraded() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::builder().open_or_memory(dir.path().join("a/b"));
    let stats = cache.stats();
    assert_eq!(stats.degraded, None);
    assert!(stats.disk.is_some());
}

#[test]
fn a_budget_of_zero_keeps_nothing_in_its_tier() {
    type Set = fn(CacheBuilder) -> CacheBuilder;
    let memory: [Set; 2] = [|b| b.memory_budget(0), |b| b.memory_entries(0)];
    let disk: [Set; 2] = [|b| b.disk_budget(0), |b| b.disk_entries(0)];
    let get_after_flush = |builder: CacheBuilder| {
        let dir = tempfile::tempdir().unwrap();
        let cache = builder.open(dir.path()).unwrap();
        cache.put(&KEY, vec![1]);
        cache.flush().unwrap();
        (cache.get(&KEY).is_some(), cache.stats())
    };
    for set in memory {
        let (found, stats) = get_after_flush(set(Cache::builder()));
        assert!(found, "the disk has it");
        assert_eq!(stats.memory.entries, 0);
    }
    for set in disk {
        let (found, stats) = get_after_flush(set(Cache::builder()));
        assert!(found, "memory has it");
        assert_eq!(stats.disk.unwrap().entries, 0);
    }
    for (memory, disk) in memory.into_iter().zip(disk) {
        let (found, stats) = get_after_flush(disk(memory(Cache::builder())));
        assert!(!found);
        assert_eq!(stats.faults, 0, "{:?}", stats.last_fault);
    }
}

#[test]
fn absurd_budgets_are_budgets() {
    let dir = tempfile::tempdir().unwrap();
    for budget in [1, u64::MAX - 1, u64::MAX] {
        for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
            let cache = Cache::builder()
                .memory_budget(budget)
                .memory_entries(budget)
                .disk_budget(budget)
                .disk_entries(budget)
                .queue_bytes(budget)
                .write_policy(policy)
                .open(dir.path())
                .unwrap();
            for n in 0..10 {
                cache.put(&Fingerprint::from_bytes([n; 32]), vec![n; 2]);
            }
            cache.flush().unwrap();
            let found = (0..10).filter(|n| cache.contains(&Fingerprint::from_bytes([*n; 32])));
            assert!(budget == 1 || found.count() == 10);
            cache.clear().unwrap();
            cache.close().unwrap();
        }
    }
}

#[test]
fn a_cache_that_is_off_is_never_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let off = || Cache::builder().enabled(false);
    for cache in [
        off().open(&path).unwrap(),
        off().open_or_memory(&path),
        off().memory_only().unwrap(),
    ] {
        let namespace = cache.namespace("x");
        for _ in 0..2 {
            let built = cache.get_or_insert_with(&KEY, || Ok::<_, ()>(vec![1]));
            assert_eq!(built.unwrap().as_slice(), [1]);
            namespace.put(&KEY, vec![1]);
        }
        let failed = cache.get_or_insert_with(&KEY, || Err::<Vec<u8>, _>("no"));
        assert_eq!(failed, Err("no"));
        assert!(cache.get(&KEY).is_none() && namespace.get(&KEY).is_none());
        assert!(!cache.contains(&KEY) && !cache.remove(&KEY).unwrap());
        cache.clear().unwrap();
        cache.flush().unwrap();

        let stats = cache.stats();
        assert!(!stats.enabled);
        assert_eq!((stats.lookups, stats.hits, stats.puts), (5, 0, 0));
        assert_eq!((stats.builds, stats.failed_builds), (2, 1));
        assert!(stats.to_string().ends_with("the cache is off"), "{stats}");
        cache.close().unwrap();
    }
    assert!(!path.exists());
}

#[test]
fn builds_of_a_cache_that_is_off_are_not_shared() {
    let cache = Cache::builder().enabled(false).memory_only().unwrap();
    let got = cache.get_or_insert_with(&KEY, || {
        let other = std::thread::scope(|scope| {
            let ask = || cache.get_or_insert_with(&KEY, || Ok::<_, ()>(vec![2]));
            scope.spawn(ask).join().unwrap()
        });
        assert_eq!(other?.as_slice(), [2]);
        Ok::<_, ()>(vec![1])
    });
    assert_eq!(got.unwrap().as_slice(), [1]);
}
