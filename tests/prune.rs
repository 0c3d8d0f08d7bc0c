//! Pruning: what goes by which rule, through a store, a cache, and several processes.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{
    Cache, DiskStore, Entry, ErrorKind, EvictionReason, Fingerprint, Mark, NamespaceId, Prune,
    PruneReason, PruneReport, Store, WritePolicy,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use support::{bytes, child, fast_dir, files_in, get, join, key, open, put, role, wait};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// An entry of a namespace that was put so many hours ago.
fn entry(n: u64, namespace: &str, hours: u32) -> Entry {
    let mut entry = Entry::from(bytes(n, 100)).with_put_at(SystemTime::now() - HOUR * hours);
    if !namespace.is_empty() {
        entry.namespace = NamespaceId::of(namespace);
    }
    entry
}

fn put_entry(store: &dyn Store, n: u64, namespace: &str, hours: u32) {
    let _ = store.put(&key(n), entry(n, namespace, hours)).unwrap();
}

/// Which of the first hundred keys a store has.
fn left(store: &dyn Store) -> Vec<u64> {
    let has = |n: &u64| store.contains(&key(*n)).unwrap();
    (0..100).filter(has).collect()
}

/// Prunes, after asking what would go; both must say the same.
fn prune(store: &DiskStore, rules: &Prune) -> PruneReport {
    let ask = |rules: &Prune| {
        let mut keys = BTreeSet::new();
        let report = store
            .prune_with(rules, |key, reason| {
                assert!(keys.insert((*key, reason)), "told twice");
            })
            .unwrap();
        (report, keys)
    };
    let before = left(store);
    let (asked, would) = ask(&rules.clone().dry_run(true));
    assert!(asked.dry_run && asked.evictions.is_empty());
    assert_eq!(left(store), before, "a dry run removes nothing");
    let (done, went) = ask(rules);
    assert_eq!(would, went);
    assert_eq!(asked.by_reason, done.by_reason);
    assert_eq!((done.entries, done.dry_run), (went.len() as u64, false));
    let sum = done.by_reason.iter().map(|p| (p.entries, p.bytes));
    let sum = sum.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    assert_eq!(sum, (done.entries, done.bytes));
    for (key, _) in &went {
        assert!(!store.contains(key).unwrap());
        assert!(store.get(key).unwrap().is_none());
    }
    done
}

#[test]
fn without_a_rule_nothing_goes() {
    let dir = fast_dir();
    let store = open(dir.path());
    put_entry(&store, 1, "", 10_000);
    let report = prune(&store, &Prune::new());
    assert_eq!((report.entries, report.by_reason), (0, vec![]));
    assert_eq!(left(&store), [1]);
}

#[test]
fn what_was_put_too_long_ago_goes_however_it_is_used() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..10 {
        put_entry(&store, n, "", u32::try_from(n).unwrap());
        get(&store, n);
    }
    let rules = Prune::new().older_than(HOUR * 6 + HOUR / 2);
    let report = prune(&store, &rules);
    assert_eq!(left(&store), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!((report.entries, report.bytes), (3, 300));
    assert_eq!(report.by_reason[0].reason, PruneReason::OlderThan);
    let eviction = report.evictions[0];
    assert_eq!(
        (eviction.reason, eviction.entries, eviction.bytes),
        (EvictionReason::Expired, 3, 300)
    );
    let stats = store.stats();
    assert_eq!(
        (stats.evictions, stats.evicted_bytes, stats.entries),
        (3, 300, 7)
    );
    assert_eq!(store.directory_stats().unwrap().evictions, 3);
}

#[test]
fn what_was_not_used_since_a_mark_goes_and_what_was_put_or_got_stays() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..10 {
        put(&store, n, bytes(n, 100));
        get(&store, n);
    }
    let mark = store.mark().unwrap();
    get(&store, 3);
    put(&store, 4, bytes(4, 100)); // equal: adopted
    put(&store, 5, bytes(50, 100)); // replaced
    put(&store, 10, bytes(10, 100));
    store.contains(&key(6)).unwrap();
    store.info(&key(6)).unwrap();
    store.touch(&[key(7)]).unwrap();
    let report = prune(&store, &Prune::new().unused_since(mark));
    assert_eq!(left(&store), [3, 4, 5, 7, 10]);
    assert_eq!(report.by_reason[0].reason, PruneReason::UnusedSince);
    assert_eq!(prune(&store, &Prune::new().unused_since(mark)).entries, 0);
}

#[test]
fn marks_grow_and_survive_being_printed() {
    let dir = fast_dir();
    let (one, two) = (open(dir.path()), open(dir.path()));
    let mut last = one.mark().unwrap();
    for n in 0..50 {
        put(&one, n, bytes(n, 10));
        for store in [&two, &one] {
            let mark = store.mark().unwrap();
            assert!(mark > last, "{mark} after {last}");
            assert_eq!(mark.to_string().parse::<Mark>().unwrap(), mark);
            last = mark;
        }
    }
    for wrong in [
        "",
        "x",
        "+000000000000001",
        "00000000000000001",
        "000000000000000g",
    ] {
        assert_eq!(
            wrong.parse::<Mark>().unwrap_err().kind(),
            ErrorKind::InvalidConfig
        );
    }
}

#[test]
fn namespaces_go_whole_or_narrow_the_other_rules() {
    let dir = fast_dir();
    let store = open(dir.path());
    let put_all = || {
        for n in 0..9 {
            let namespace = match n % 3 {
                0 => "a",
                1 => "b",
                _ => "",
            };
            put_entry(&store, n, namespace, if n / 3 == 1 { 5 } else { 1 });
        }
    };
    put_all();
    let a = NamespaceId::of("a");
    // Hours: 0,1,2 -> 1; 3,4,5 -> 5; 6,7,8 -> 1. Namespace a: 0, 3, 6.
    prune(&store, &Prune::new().namespace(a).older_than(HOUR * 2));
    assert_eq!(left(&store), [0, 1, 2, 4, 5, 6, 7, 8]);
    let report = store.remove_namespace(a).unwrap();
    assert_eq!(left(&store), [1, 2, 4, 5, 7, 8]);
    assert_eq!(report.by_reason[0].reason, PruneReason::Namespace);
    assert_eq!(report.evictions[0].reason, EvictionReason::Removed);
    put_all();
    let rules = Prune::new().namespace(a).namespace(NamespaceId::of("b"));
    prune(&store, &rules);
    assert_eq!(left(&store), [2, 5, 8]);
    prune(&store, &Prune::new().namespace(NamespaceId::NONE));
    assert_eq!(left(&store), [] as [u64; 0]);
}

#[test]
fn a_namespace_in_which_nothing_was_used_goes_and_a_busy_one_stays_whole() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..5 {
        put_entry(&store, n, "idle", 0);
        put_entry(&store, n + 10, "busy", 0);
    }
    let idle = Duration::from_secs(2);
    std::thread::sleep(idle + idle / 2);
    get(&store, 12).unwrap();
    let report = prune(&store, &Prune::new().idle_namespaces(idle));
    assert_eq!(left(&store), [10, 11, 12, 13, 14]);
    assert_eq!(report.by_reason[0].reason, PruneReason::IdleNamespace);
    // Nearly everything there was not used for so long: the busy namespace does not protect it.
    let report = prune(&store, &Prune::new().unused_for(idle));
    assert_eq!((left(&store), report.entries), (vec![12], 4));
}

#[test]
fn entries_go_down_to_a_number_those_used_longest_ago_first() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..20 {
        put(&store, n, bytes(n, 100));
    }
    for n in (0..20).step_by(3) {
        get(&store, n);
    }
    let report = prune(&store, &Prune::new().down_to_entries(9));
    assert_eq!(left(&store), [0, 3, 6, 9, 12, 15, 17, 18, 19]);
    assert_eq!(report.by_reason[0].reason, PruneReason::Size);
    prune(&store, &Prune::new().down_to_entries(0));
    assert_eq!(left(&store), [] as [u64; 0]);
}

#[test]
fn bytes_go_down_to_a_number_and_the_space_is_freed() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..60 {
        put(
            &store,
            n,
            bytes(n, if n % 10 == 0 { 300_000 } else { 3000 }),
        );
    }
    for target in [900_000, 300_000, 10_000, 0] {
        let before = left(&store);
        let report = prune(&store, &Prune::new().down_to_bytes(target));
        let after = left(&store);
        assert!(report.disk_bytes_after <= target, "{report:?}");
        assert_eq!(report.disk_bytes_after, store.stats().cached_bytes);
        // Those used longest ago, which are the first put.
        let kept = before.len() - after.len();
        assert_eq!(after, before[kept..], "down to {target}");
        assert!(target < 100_000 || !after.is_empty());
        for n in &after {
            assert!(get(&store, *n).is_some());
        }
        // The order of use stays as it was.
        for n in after {
            get(&store, n);
        }
    }
    assert_eq!(
        files_in(dir.path(), "objects"),
        [] as [std::path::PathBuf; 0]
    );
    assert_eq!(files_in(dir.path(), "packs"), [] as [std::path::PathBuf; 0]);
}

#[test]
fn rules_add_up_and_each_entry_is_counted_by_the_first_that_takes_it() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..10 {
        put_entry(&store, n, "", if n < 2 { 9 } else { 0 });
    }
    let mark = store.mark().unwrap();
    for n in [0, 4, 5, 6, 7, 8, 9] {
        get(&store, n);
    }
    let rules = Prune::new()
        .older_than(HOUR)
        .unused_since(mark)
        .down_to_entries(4);
    let report = prune(&store, &rules);
    let counted: Vec<_> = report
        .by_reason
        .iter()
        .map(|p| (p.reason, p.entries))
        .collect();
    assert_eq!(
        counted,
        [
            (PruneReason::OlderThan, 2),
            (PruneReason::UnusedSince, 2),
            (PruneReason::Size, 2)
        ]
    );
    assert_eq!(left(&store), [6, 7, 8, 9]);
}

#[test]
fn content_that_others_share_outlives_the_entry_that_brought_it() {
    let dir = fast_dir();
    let store = open(dir.path());
    for len in [100, 300_000] {
        put(&store, 1, bytes(7, len));
        let mark = store.mark().unwrap();
        put(&store, 2, bytes(7, len));
        prune(&store, &Prune::new().unused_since(mark));
        assert_eq!(left(&store), [2]);
        assert_eq!(get(&store, 2), Some(bytes(7, len)));
        store.flush().unwrap();
        assert_eq!(get(&open(dir.path()), 2), Some(bytes(7, len)));
    }
}

#[test]
fn what_was_pruned_does_not_come_back_by_a_rebuild() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..30 {
        put(&store, n, bytes(n, 100));
        put(&store, n, bytes(n + 100, 100));
    }
    store.prune(&Prune::new().down_to_entries(10)).unwrap();
    store.flush().unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path());
    assert_eq!(left(&store), (20..30).collect::<Vec<_>>());
    assert_eq!(get(&store, 25), Some(bytes(125, 100)));
}

#[test]
fn names_of_namespaces_are_nobodys_entries() {
    let dir = fast_dir();
    let store = open(dir.path());
    let id = store.register_namespace("driver").unwrap();
    put_entry(&store, 1, "driver", 0);
    let report = prune(&store, &Prune::new().down_to_entries(0).older_than(HOUR));
    assert_eq!(report.entries, 1);
    assert_eq!(store.namespace_name(id).unwrap().as_deref(), Some("driver"));
    assert_eq!(store.namespaces().unwrap(), []);
}

#[test]
fn what_memory_served_since_a_mark_stays_however_often_it_was_served_before() {
    let dir = fast_dir();
    let cache = Cache::builder().open(dir.path()).unwrap();
    // More than is told below in one batch.
    let many = 6000;
    for n in 0..many {
        cache.put(&key(n), bytes(n, 16));
    }
    cache.flush().unwrap();
    let hit_all = |step| {
        for n in (0..many).step_by(step) {
            assert!(cache.get(&key(n)).is_some());
        }
    };
    hit_all(1);
    let mark = cache.mark().unwrap();
    hit_all(2);
    let report = cache.prune(&Prune::new().unused_since(mark)).unwrap();
    assert_eq!(report.entries, many / 2);
    for n in 0..many {
        let is_there = n % 2 == 0;
        assert_eq!(cache.contains(&key(n)), is_there, "{n}");
        assert_eq!(cache.get(&key(n)).is_some(), is_there, "{n}");
    }
    let stats = cache.stats();
    assert_eq!(
        stats.disk.unwrap().lookups,
        many / 2,
        "memory served the others"
    );
    assert_eq!(stats.memory.entries, many / 2, "what went left memory");
    // The same keys again, in the interval in which they were told.
    let mark = cache.mark().unwrap();
    hit_all(4);
    let report = cache.prune(&Prune::new().unused_since(mark)).unwrap();
    assert_eq!(report.entries, many / 4);
}

#[test]
fn a_cache_prunes_what_was_not_written_yet() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let dir = fast_dir();
        let cache = Cache::builder()
            .write_policy(policy)
            .open(dir.path())
            .unwrap();
        for n in 0..10 {
            cache.put_entry(&key(n), entry(n, "", if n < 5 { 9 } else { 0 }));
        }
        let rules = Prune::new().older_than(HOUR);
        let would = cache.prune(&rules.clone().dry_run(true)).unwrap();
        assert_eq!((would.entries, cache.contains(&key(0))), (5, true));
        let report = cache.prune(&rules).unwrap();
        assert_eq!(report.entries, 5);
        for n in 0..10 {
            assert_eq!(cache.get(&key(n)).is_some(), n >= 5);
        }
        let reports = cache.eviction_reports();
        assert_eq!(reports.len(), 1);
        assert_eq!(reports[0].eviction, report.evictions[0]);
    }
}

#[test]
fn clearing_a_namespace_reaches_memory_what_is_unwritten_and_the_disk() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        let dir = fast_dir();
        let cache = Cache::builder()
            .write_policy(policy)
            .open(dir.path())
            .unwrap();
        let (old, new) = (cache.namespace("old"), cache.namespace("new"));
        for n in 0..50 {
            old.put(&key(n), bytes(n, 100));
            new.put(&key(n), bytes(n, 100));
            if n == 25 {
                cache.flush().unwrap();
            }
        }
        old.clear().unwrap();
        cache.flush().unwrap();
        for n in 0..50 {
            assert!(!old.contains(&key(n)) && old.get(&key(n)).is_none());
            assert_eq!(new.get(&key(n)).unwrap(), bytes(n, 100)[..]);
        }
        assert_eq!(old.info().unwrap(), None);
        assert_eq!(new.info().unwrap().unwrap().entries, 50);
        old.put(&key(1), bytes(1, 10));
        assert!(old.contains(&key(1)));
    }
}

#[test]
fn a_cache_in_memory_obeys_ages_and_namespaces() {
    let cache = Cache::builder().memory_only().unwrap();
    for n in 0..4 {
        cache.put_entry(&key(n), entry(n, "", 3));
        cache.namespace("x").put(&key(n), bytes(n, 10));
    }
    let rules = Prune::new().older_than(HOUR);
    assert_eq!(
        cache.prune(&rules.clone().dry_run(true)).unwrap().entries,
        4
    );
    let report = cache.prune(&rules).unwrap();
    assert_eq!((report.entries, report.bytes), (4, 400));
    assert_eq!(report.evictions[0].reason, EvictionReason::Expired);
    let rules = Prune::new().namespace(NamespaceId::of("x"));
    let report = cache.prune(&rules).unwrap();
    assert_eq!((report.entries, report.bytes), (4, 40));
    assert_eq!(cache.stats().memory.entries, 0);
    assert!(cache.mark().unwrap() < cache.mark().unwrap());
}

#[test]
fn pruning_beside_puts_and_gets_takes_nothing_that_was_put_or_used_since() {
    let dir = fast_dir();
    let store = open(dir.path());
    for n in 0..2000 {
        put(&store, n, bytes(n, 200));
    }
    let mark = store.mark().unwrap();
    let passes = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let (store, passes) = (&store, &passes);
        let users: Vec<_> = (0..2)
            .map(|t| {
                scope.spawn(move || {
                    for n in (t..2000).step_by(4) {
                        if get(store, n).is_none() {
                            put(store, n, bytes(n, 200));
                        }
                        put(store, 10_000 + n, bytes(n + 1, 300));
                    }
                    // A get beside the removal of its key does not stop that, so a few may be gone;
                    // from the next pass on none is taken any more.
                    let begun = passes.load(Ordering::Acquire);
                    while passes.load(Ordering::Acquire) < begun + 2 {
                        std::thread::yield_now();
                    }
                    let mut gone = 0;
                    for n in (t..2000).step_by(4) {
                        if get(store, n).is_none() {
                            put(store, n, bytes(n, 200));
                            gone += 1;
                        }
                    }
                    gone
                })
            })
            .collect();
        while !users.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            store.prune(&Prune::new().unused_since(mark)).unwrap();
            passes.fetch_add(1, Ordering::Release);
        }
        let gone: u32 = users.into_iter().map(|user| user.join().unwrap()).sum();
        assert!(gone < 20, "{gone} of 1000 that were used are gone");
    });
    store.prune(&Prune::new().unused_since(mark)).unwrap();
    for n in 0..2000 {
        let used = n % 4 < 2;
        let found = get(&store, n);
        assert_eq!(found, used.then(|| bytes(n, 200)), "{n}");
        let found = get(&store, 10_000 + n);
        assert_eq!(found, used.then(|| bytes(n + 1, 300)), "{n}");
    }
}

#[test]
fn one_process_marks_another_uses_and_a_third_prunes() {
    const NAME: &str = "one_process_marks_another_uses_and_a_third_prunes";
    let note = |dir: &Path| dir.join("mark");
    match role() {
        Some((role, dir)) if role == "mark" => {
            let cache = Cache::builder().open(&dir).unwrap();
            let mark = cache.mark().unwrap();
            std::fs::write(note(&dir), mark.to_string()).unwrap();
            return;
        }
        Some((role, dir)) if role == "use" => {
            let cache = Cache::builder().open(&dir).unwrap();
            // From disk, then from memory; told at the end at the latest.
            for n in (0..50).filter(|n| n % 5 == 0) {
                assert!(cache.get(&key(n)).is_some());
                assert!(cache.get(&key(n)).is_some());
            }
            return;
        }
        Some((role, dir)) if role == "prune" => {
            let cache = Cache::builder().open(&dir).unwrap();
            let mark: Mark = std::fs::read_to_string(note(&dir))
                .unwrap()
                .parse()
                .unwrap();
            let report = cache.prune(&Prune::new().unused_since(mark)).unwrap();
            assert_eq!(report.entries, 40);
            return;
        }
        _ => {}
    }
    let dir = fast_dir();
    let watcher = open(dir.path());
    for n in 0..50 {
        put(&watcher, n, bytes(n, 100));
    }
    for role in ["mark", "use", "prune"] {
        join(child(NAME, role, dir.path()));
    }
    let expected: Vec<u64> = (0..50).filter(|n| n % 5 == 0).collect();
    assert_eq!(left(&watcher), expected);
    let gone: Vec<Fingerprint> = (0..50).filter(|n| n % 5 != 0).map(key).collect();
    assert!(gone.iter().all(|key| watcher.get(key).unwrap().is_none()));
}

#[test]
fn a_budget_and_a_prune_of_one_directory_take_turns() {
    let dir = fast_dir();
    let store = wait(
        DiskStore::builder()
            .entry_budget(200)
            .open(dir.path())
            .unwrap(),
    );
    std::thread::scope(|scope| {
        let store = &store;
        let writer = scope.spawn(move || {
            for n in 0..3000 {
                put(store, n, bytes(n, 100));
            }
        });
        while !writer.is_finished() {
            store.prune(&Prune::new().down_to_entries(100)).unwrap();
        }
    });
    store.prune(&Prune::new().down_to_entries(50)).unwrap();
    let stats = store.stats();
    assert_eq!(stats.entries, 50);
    assert_eq!(store.entries().count(), 50);
}

#[test]
fn processes_prune_one_directory_at_the_same_time() {
    const NAME: &str = "processes_prune_one_directory_at_the_same_time";
    if let Some((_, dir)) = role() {
        let store = open(&dir);
        for _ in 0..20 {
            store.prune(&Prune::new().down_to_entries(60)).unwrap();
            for info in store.entries() {
                let info = info.unwrap();
                let found = store.get(&info.key).unwrap();
                assert!(found.is_none_or(|entry| entry.artifact.len() as u64 == info.length));
            }
        }
        return;
    }
    let dir = fast_dir();
    let store = open(dir.path());
    let pruners: Vec<_> = (0..2).map(|_| child(NAME, "prune", dir.path())).collect();
    for n in 0..1500 {
        put(
            &store,
            n,
            bytes(n, 100 + usize::try_from(n % 7).unwrap() * 300),
        );
        let found = get(&store, n);
        assert!(found.is_none_or(|found| found.len() >= 100));
    }
    pruners.into_iter().for_each(join);
    store.prune(&Prune::new().down_to_entries(60)).unwrap();
    let left: Vec<_> = (0..1500).filter(|n| get(&store, *n).is_some()).collect();
    assert_eq!((left.len(), store.stats().entries), (60, 60));
    assert!(left.iter().all(|n| get(&store, *n).unwrap().len() >= 100));
}

/// It is called when nothing is held any more.
#[test]
fn the_callback_may_use_the_store_and_panic() {
    let dir = fast_dir();
    let store = DiskStore::builder()
        .byte_budget(64 << 10)
        .open(dir.path())
        .unwrap();
    for n in 0..40 {
        put(&store, n, bytes(n, 1000));
    }
    let rules = Prune::new().down_to_entries(20);
    let mut more = 100;
    let report = store.prune_with(&rules, |_, _| {
        more += 1;
        put(&store, more, bytes(more, 1000));
    });
    assert_eq!(report.unwrap().entries, 20);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.prune_with(&rules, |_, _| panic!("on purpose"))
    }));
    assert!(caught.is_err());
    for n in 200..400 {
        put(&store, n, bytes(n, 1000));
    }
    assert!(store.stats().cached_bytes <= 64 << 10, "others evict");
    let _ = store.prune(&Prune::new().down_to_entries(1)).unwrap();
}
