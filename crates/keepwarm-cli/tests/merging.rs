//! `merge`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Entry, Store as _};
use predicates::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use support::{Place, content, key};

const HOUR: Duration = Duration::from_secs(3600);

/// Puts artifacts under keys, so many hours ago: (key, artifact, hours).
fn fill(dir: &Path, entries: &[(u64, u64, u32)]) {
    let store = DiskStore::open(dir).unwrap();
    let id = store.register_namespace("jobs").unwrap();
    for (n, bytes, hours) in entries {
        let at = SystemTime::now() - HOUR * *hours;
        let mut entry = Entry::from(content(*bytes)).with_put_at(at);
        entry.namespace = id;
        entry.build_cost = Duration::from_secs(*n);
        let outcome = store.put_used_at(&key(*n), entry, at).unwrap();
        assert!(!outcome.is_rejected());
    }
}

/// Every file below `dir`, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    all
}

#[test]
fn the_union_of_several_caches_has_the_newest_of_each_key() {
    let place = Place::empty();
    fill(&place.cache_dir(), &[(0, 0, 20), (1, 1, 20), (2, 2, 1)]);
    // One has something new, something newer, something older; the other newer still, and what is
    // there but was used later.
    fill(&place.path("a"), &[(1, 11, 10), (2, 22, 5), (3, 3, 7)]);
    fill(&place.path("b"), &[(1, 12, 3), (3, 3, 2), (4, 4, 9)]);
    let (a, b) = (files(&place.path("a")), files(&place.path("b")));
    let report = place.json(&["merge", "a", "b"]);
    let of = |n: usize| {
        let source = &report["sources"][n];
        ["entries", "added", "replaced", "already_there", "older"]
            .map(|m| source[m].as_u64().unwrap())
    };
    assert_eq!(of(0), [3, 1, 1, 0, 1]);
    assert_eq!(of(1), [3, 1, 1, 1, 0]);
    assert_eq!(files(&place.path("a")), a, "it is only read");
    assert_eq!(files(&place.path("b")), b);
    let cache = place.cache();
    for (n, expected) in [(0, 0), (1, 12), (2, 2), (3, 3), (4, 4)] {
        let entry = cache.disk().unwrap().get(&key(n)).unwrap().unwrap();
        assert_eq!(entry.artifact[..], content(expected), "{n}");
        assert_eq!(entry.build_cost, Duration::from_secs(n));
    }
    drop(cache);
    assert_eq!(place.json(&["namespaces"])[0]["name"], "jobs");
    assert_eq!(place.json(&["verify"])["sound"], true);
    // In another order it is the same, and once more nothing comes.
    let other = Place::empty();
    fill(&other.cache_dir(), &[(2, 2, 1), (1, 1, 20), (0, 0, 20)]);
    let sources = ["b", "a"].map(|name| place.path(name).display().to_string());
    let text = other.text(&["merge", &sources[0], &sources[1]]);
    assert!(text.contains("FROM") && text.contains("on disk "), "{text}");
    assert_eq!(other.text(&["ci", "key"]), place.text(&["ci", "key"]));
    let report = place.json(&["merge", "a", "b"]);
    assert_eq!(
        (
            &report["sources"][0]["added"],
            &report["sources"][0]["bytes"]
        ),
        (&0.into(), &0.into())
    );
}

#[test]
fn last_uses_come_along_and_the_later_one_stays() {
    let place = Place::empty();
    fill(&place.cache_dir(), &[(0, 0, 9), (1, 1, 3)]);
    fill(&place.path("a"), &[(0, 0, 5), (1, 1, 6), (2, 2, 4)]);
    place.text(&["mark", "job"]);
    place.text(&["merge", "a"]);
    let store = DiskStore::open(place.cache_dir()).unwrap();
    for (n, hours) in [(0, 5), (1, 3), (2, 4)] {
        let used = store.info(&key(n)).unwrap().unwrap().last_used;
        let ago = used.elapsed().unwrap();
        let expected = HOUR * hours..HOUR * (hours + 1);
        assert!(expected.contains(&ago), "{n}: {ago:?}");
    }
    drop(store);
    let unused = place.json(&["prune", "--unused-since", "job", "--dry-run"]);
    assert_eq!(unused["entries"], 3, "a merge is no use");
}

#[test]
fn a_merge_may_be_narrowed_or_made_to_overwrite() {
    let place = Place::empty();
    fill(&place.cache_dir(), &[(0, 0, 1)]);
    fill(&place.path("a"), &[(0, 10, 5), (1, 1, 5)]);
    let report = place.json(&["merge", "a", "--namespace", "other"]);
    assert_eq!(report["sources"][0]["entries"], 0);
    let report = place.json(&["merge", "a", "--namespace", "jobs", "--overwrite"]);
    assert_eq!(report["sources"][0]["replaced"], 1);
    assert_eq!(place.cache().get(&key(0)).unwrap()[..], content(10));
}

#[test]
fn a_merge_makes_the_cache_and_keeps_its_budget() {
    let place = Place::empty();
    fill(&place.path("a"), &[(0, 0, 1)]);
    place.text(&["merge", "a"]);
    assert_eq!(
        place.text(&["ci", "key"]),
        place.text(&["ci", "key", "-C", "a"])
    );
    let (small, large) = (Place::empty(), place.path("large"));
    let store = DiskStore::open(&large).unwrap();
    for n in 0..40_u8 {
        let at = SystemTime::now() - HOUR * u32::from(n + 1);
        let outcome = store.put_used_at(&key(n.into()), vec![n; 100_000].into(), at);
        assert!(!outcome.unwrap().is_rejected());
    }
    drop(store);
    let mut command = small.keepwarm(&["merge"]);
    command.arg(&large).env("KEEPWARM_MAX_SIZE", "2M");
    command.assert().success();
    let there: Vec<_> = (0..40)
        .filter(|n| small.cache().get(&key(*n)).is_some())
        .collect();
    let newest: Vec<_> = (0..there.len() as u64).collect();
    assert!(there.len() >= 10 && there == newest, "{there:?}");
    let mut command = small.keepwarm(&["merge", "--format", "json"]);
    let too_large = predicate::str::contains("Set KEEPWARM_MAX_SIZE to more");
    command.arg(&large).env("KEEPWARM_MAX_SIZE", "50K");
    command.assert().code(1).stderr(too_large);
}

#[test]
fn what_cannot_be_merged_says_why_and_changes_nothing() {
    let place = Place::empty();
    fill(&place.path("a"), &[(0, 0, 1)]);
    let said = place.error(1, &["merge", "a", "absent"]);
    assert!(said.contains("there is no cache in absent"), "{said}");
    assert!(!place.cache_dir().exists());
    let said = place.error(2, &["merge"]);
    assert!(said.contains("<DIR>..."), "{said}");
    fill(&place.cache_dir(), &[(1, 1, 1)]);
    let before = place.text(&["ci", "key"]);
    for itself in ["cache", "a/../cache"] {
        let said = place.error(2, &["merge", "a", itself]);
        assert!(said.contains("is the cache itself"), "{said}");
    }
    assert_eq!(place.text(&["ci", "key"]), before);
}

#[test]
fn what_is_damaged_in_a_source_is_told_and_the_rest_comes() {
    let place = Place::empty();
    fill(&place.path("a"), &[(1, 1, 1)]);
    let store = DiskStore::open(place.path("a")).unwrap();
    let outcome = store.put(&key(0), vec![7; 400_000].into()).unwrap();
    assert!(!outcome.is_rejected());
    drop(store);
    assert_eq!(support::damage(&place.path("a"), "objects"), 1);
    let mut command = place.keepwarm(&["merge", "a", "--format", "json"]);
    let done = command.assert().code(1);
    let report: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    let source = &report["sources"][0];
    assert_eq!(
        (&source["added"], &source["damaged"][0]),
        (&1.into(), &key(0).to_string().into())
    );
    let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(said.contains("is damaged in "), "{said}");
    assert_eq!(place.cache().get(&key(1)).unwrap()[..], content(1));
}
