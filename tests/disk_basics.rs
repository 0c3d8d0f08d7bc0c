//! Put and get, in one process and the next; packs and objects.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Digest, DiskStore, Entry, Fingerprint, NamespaceId, PutStatus, Store};
use std::time::Duration;
use support::{bytes, child, files_in, get, join, key, open, put, role};

#[test]
fn an_artifact_put_is_got_back_and_another_key_is_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (n, len) in [
        (0, 0),
        (1, 1),
        (2, 63),
        (3, 64),
        (4, 4096),
        (5, 262_144),
        (6, 262_145),
    ] {
        put(&store, n, bytes(n, len));
    }
    for (n, len) in [
        (0, 0),
        (1, 1),
        (2, 63),
        (3, 64),
        (4, 4096),
        (5, 262_144),
        (6, 262_145),
    ] {
        assert_eq!(get(&store, n), Some(bytes(n, len)), "{len} bytes");
        assert!(store.contains(&key(n)).unwrap());
    }
    assert_eq!(get(&store, 99), None);
    assert!(!store.contains(&key(99)).unwrap());
    let stats = store.stats();
    assert_eq!(
        (stats.lookups, stats.hits, stats.misses, stats.entries),
        (8, 7, 1, 7)
    );
}

#[test]
fn what_is_kept_beside_an_artifact_comes_back_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for len in [10, 300_000] {
        let mut entry = Entry::from(bytes(1, len));
        entry.namespace = NamespaceId::of("driver");
        entry.build_cost = Duration::from_nanos(123_456_789);
        let _ = store.put(&key(len as u64), entry.clone()).unwrap();
        assert_eq!(store.get(&key(len as u64)).unwrap(), Some(entry));
    }
}

#[test]
fn replace_and_remove_are_seen_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for round in 0..10 {
        put(&store, 1, bytes(round, 1000));
        assert_eq!(get(&store, 1), Some(bytes(round, 1000)));
        assert_eq!(store.stats().entries, 1, "round {round}");
    }
    assert!(store.remove(&key(1)).unwrap());
    assert!(!store.remove(&key(1)).unwrap());
    assert_eq!(get(&store, 1), None);
    assert_eq!(store.stats().entries, 0);
}

#[test]
fn the_next_process_finds_what_was_put_flushed_or_not() {
    const NAME: &str = "the_next_process_finds_what_was_put_flushed_or_not";
    if let Some((role, dir)) = role() {
        let store = open(&dir);
        for n in 0..200 {
            put(&store, n, bytes(n, 500 * usize::try_from(n).unwrap()));
        }
        match role.as_str() {
            "flush" => store.flush().unwrap(),
            "drop" => drop(store),
            _ => std::process::abort(),
        }
        return;
    }
    for role in ["flush", "drop", "abort"] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = child(NAME, role, dir.path());
        assert_eq!(child.wait().unwrap().success(), role != "abort");
        let store = open(dir.path());
        for n in 0..200 {
            let expected = bytes(n, 500 * usize::try_from(n).unwrap());
            assert_eq!(get(&store, n), Some(expected), "{role} {n}");
        }
        assert_eq!(store.stats().entries, 200);
    }
}

#[test]
fn small_artifacts_share_pack_files_and_large_ones_are_files_named_by_their_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..100 {
        put(&store, n, bytes(n, 2000));
    }
    assert_eq!(files_in(dir.path(), "packs").len(), 1);
    assert_eq!(files_in(dir.path(), "objects").len(), 0);
    let large = bytes(7, 1 << 20);
    put(&store, 1000, large.clone());
    let objects = files_in(dir.path(), "objects");
    assert_eq!(objects.len(), 1);
    let name: String = objects[0]
        .components()
        .rev()
        .take(2)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .map(|c| c.as_os_str().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(name, Digest::of(&large).to_string());
    assert_eq!(std::fs::read(&objects[0]).unwrap(), large);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            objects[0].metadata().unwrap().permissions().mode() & 0o777,
            0o444
        );
    }
    let got = store.get(&key(1000)).unwrap().unwrap().artifact;
    assert!(got.is_mapped());
    assert_eq!(
        got.path(),
        Some(objects[0].canonicalize().unwrap().as_path())
    );
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut got.open().unwrap(), &mut read).unwrap();
    assert_eq!(read, large);
}

#[test]
fn equal_bytes_are_stored_once_and_survive_until_the_last_key_goes() {
    for len in [3000, 300_000] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let content = bytes(1, len);
        for n in 0..50 {
            put(&store, n, content.clone());
        }
        let stats = store.stats();
        assert_eq!(stats.deduplicated_bytes, 49 * len as u64);
        assert!(
            stats.cached_bytes < len as u64 + 50 * 128 + 8192,
            "{}",
            stats.cached_bytes
        );
        for n in 0..49 {
            assert!(store.remove(&key(n)).unwrap());
            assert_eq!(get(&store, 49).as_ref(), Some(&content), "{n}");
        }
        assert!(store.remove(&key(49)).unwrap());
        put(&store, 1, content.clone());
        assert_eq!(get(&store, 1), Some(content));
    }
}

#[test]
fn a_put_of_what_is_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let status = |n| store.put(&key(1), bytes(n, 10).into()).unwrap().status;
    assert_eq!(status(1), PutStatus::Stored);
    assert_eq!(status(1), PutStatus::AlreadyStored);
    assert_eq!(status(2), PutStatus::Stored);
    assert_eq!(status(1), PutStatus::Stored);
    assert_eq!(get(&store, 1), Some(bytes(1, 10)));
}

#[test]
fn two_handles_see_each_others_puts_removes_and_clears() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (open(dir.path()), open(dir.path()));
    for n in 0..20 {
        put(&a, n, bytes(n, 30_000 * usize::try_from(n % 4).unwrap()));
        assert_eq!(get(&b, n), get(&a, n), "{n}");
    }
    assert!(b.remove(&key(3)).unwrap());
    assert_eq!(get(&a, 3), None);
    put(&b, 4, bytes(400, 10));
    assert_eq!(get(&a, 4), Some(bytes(400, 10)));
    a.clear().unwrap();
    for n in 0..20 {
        assert_eq!(get(&b, n), None, "{n}");
    }
    put(&b, 1, bytes(1, 100));
    put(&a, 2, bytes(2, 100));
    assert_eq!(
        (get(&a, 1), get(&b, 2)),
        (Some(bytes(1, 100)), Some(bytes(2, 100)))
    );
    assert_eq!((a.stats().entries, b.stats().entries), (2, 2));
}

#[test]
fn two_processes_see_each_others_puts() {
    const NAME: &str = "two_processes_see_each_others_puts";
    if let Some((role, dir)) = role() {
        let store = open(&dir);
        let base = role.parse::<u64>().unwrap() * 1000;
        for n in base..base + 300 {
            put(
                &store,
                n,
                bytes(n, 100 + usize::try_from(n % 70).unwrap() * 1500),
            );
        }
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let watcher = open(dir.path());
    let children: Vec<_> = (1..4)
        .map(|n| child(NAME, &n.to_string(), dir.path()))
        .collect();
    children.into_iter().for_each(join);
    for n in (1..4).flat_map(|base| base * 1000..base * 1000 + 300) {
        let expected = bytes(n, 100 + usize::try_from(n % 70).unwrap() * 1500);
        assert_eq!(get(&watcher, n), Some(expected), "{n}");
    }
    assert_eq!(watcher.stats().entries, 900);
}

#[test]
fn an_artifact_that_is_held_stays_intact_whatever_happens_to_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let expected = [bytes(1, 5000), bytes(2, 500_000)];
    let hold = || -> Vec<_> {
        put(&store, 1, expected[0].clone());
        put(&store, 2, expected[1].clone());
        (1..3)
            .map(|n| store.get(&key(n)).unwrap().unwrap().artifact)
            .collect()
    };
    let first = hold();
    put(&store, 1, bytes(3, 10));
    put(&store, 2, bytes(3, 10));
    let second = hold();
    store.remove(&key(1)).unwrap();
    store.remove(&key(2)).unwrap();
    let third = hold();
    store.clear().unwrap();
    let fourth = hold();
    std::fs::remove_dir_all(dir.path()).unwrap();
    let fifth = hold();
    for held in [first, second, third, fourth, fifth] {
        assert_eq!(held[0].as_slice(), expected[0]);
        assert_eq!(held[1].as_slice(), expected[1]);
    }
}

#[test]
fn a_deleted_directory_is_made_anew_by_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("cache");
    let (a, b) = (open(&root), open(&root));
    for round in 0..3 {
        put(&a, round, bytes(round, 100));
        put(&a, 100 + round, bytes(round, 300_000));
        std::fs::remove_dir_all(&root).unwrap();
        put(&a, round + 10, bytes(round, 200));
        put(&b, round + 20, bytes(round, 400_000));
        assert_eq!(get(&a, round + 10), Some(bytes(round, 200)));
        assert_eq!(get(&a, round + 20), Some(bytes(round, 400_000)));
        assert_eq!(get(&b, round + 10), Some(bytes(round, 200)));
        a.flush().unwrap();
        b.flush().unwrap();
        let fresh = support::wait(DiskStore::open(&root).unwrap());
        assert_eq!(get(&fresh, round + 10), Some(bytes(round, 200)));
    }
}

#[test]
fn names_of_namespaces_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = "é".repeat(4000);
    for name in ["", "driver 1", "a/b\0\n", "..", &long] {
        let id = store.register_namespace(name).unwrap();
        assert_eq!(id, NamespaceId::of(name));
        assert_eq!(store.register_namespace(name).unwrap(), id);
        let kept = store.namespace_name(id).unwrap().unwrap();
        assert!(
            name.starts_with(&kept) && (kept == name || kept.len() == 4096),
            "{kept:?}"
        );
    }
    assert_eq!(store.stats().entries, 0);
    drop(store);
    let store = open(dir.path());
    let id = NamespaceId::of("driver 1");
    assert_eq!(
        store.namespace_name(id).unwrap().as_deref(),
        Some("driver 1")
    );
}

#[test]
fn keys_of_low_entropy_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let low = |i: u16, at: usize| {
        let mut bytes = [0; 32];
        bytes[at..at + 2].copy_from_slice(&i.to_be_bytes());
        Fingerprint::from_bytes(bytes)
    };
    for at in [0, 15, 30] {
        for i in 1..1000 {
            let _ = store.put(
                &low(i, at),
                bytes(u64::from(i) + at as u64 * 7919, 20).into(),
            );
        }
    }
    for at in [0, 15, 30] {
        for i in 1..1000 {
            let got = store.get(&low(i, at)).unwrap().unwrap().artifact;
            assert_eq!(
                got.as_slice(),
                bytes(u64::from(i) + at as u64 * 7919, 20),
                "{i} {at}"
            );
        }
    }
}
