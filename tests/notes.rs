//! Notes that tools keep beside what is cached.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, ErrorKind, Store};
use std::fs;
use support::{bytes, get, key, open, put};

#[test]
fn a_note_is_there_for_the_next_process_and_after_a_clear() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(store.notes().unwrap().is_empty());
    put(&store, 1, bytes(1, 100));
    store.set_note("tool.b", b"one").unwrap();
    store.set_note("tool.a", b"").unwrap();
    store.set_note("tool.b", b"two").unwrap();
    store.clear().unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.notes().unwrap(), ["tool.a", "tool.b"]);
    assert_eq!(store.note("tool.b").unwrap().unwrap(), b"two");
    assert_eq!(store.note("tool.a").unwrap().unwrap(), b"");
    assert!(store.verification().run().unwrap().is_sound());
    assert!(store.remove_note("tool.b").unwrap());
    assert!(!store.remove_note("tool.b").unwrap());
    assert_eq!(store.note("tool.b").unwrap(), None);
}

#[test]
fn what_is_no_name_of_a_note_is_refused_and_read_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = "x".repeat(101);
    for name in [
        "", ".", "..", ".a", "../index", "a/b", "a\\b", "a\0", "ä", &long,
    ] {
        let error = store.set_note(name, b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name:?}");
        assert!(store.remove_note(name).is_err(), "{name:?}");
        assert_eq!(store.note(name).unwrap(), None, "{name:?}");
    }
    assert!(store.set_note(&long[1..], &vec![0; 1 << 20]).is_ok());
    assert!(store.set_note("x", &vec![0; (1 << 20) + 1]).is_err());
}

#[test]
fn a_read_only_store_reads_notes_and_writes_none() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).set_note("tool", b"one").unwrap();
    let store = DiskStore::builder()
        .read_only(true)
        .open(dir.path())
        .unwrap();
    assert_eq!(store.note("tool").unwrap().unwrap(), b"one");
    assert_eq!(store.notes().unwrap(), ["tool"]);
    assert_eq!(
        store.set_note("tool", b"").unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    assert_eq!(
        store.remove_note("tool").unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
}

#[test]
#[cfg(unix)]
fn what_has_the_place_of_a_note_is_not_followed_and_makes_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.set_note("whole", b"whole").unwrap();
    let notes = dir.path().join("v1/notes");
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, b"secret").unwrap();
    std::os::unix::fs::symlink(&elsewhere, notes.join("link")).unwrap();
    fs::create_dir(notes.join("folder")).unwrap();
    let huge = fs::File::create(notes.join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    for name in ["link", "folder", "huge"] {
        assert_eq!(store.note(name).unwrap(), None, "{name}");
    }
    for name in ["link", "huge"] {
        store.set_note(name, b"new").unwrap();
        assert_eq!(store.note(name).unwrap().unwrap(), b"new", "{name}");
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), b"secret");
    // And where the folder leads elsewhere nothing is read or written there.
    fs::rename(&notes, dir.path().join("moved")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("moved"), &notes).unwrap();
    assert!(!matches!(store.note("whole"), Ok(Some(_))));
    assert!(store.set_note("new", b"x").is_err());
    assert!(!dir.path().join("moved/new").exists());
}

#[test]
fn notes_written_by_many_are_always_whole() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    open(root).set_note("tool", &[0; 1000]).unwrap();
    std::thread::scope(|scope| {
        for n in 1..=3 {
            scope.spawn(move || {
                let store = open(root);
                for _ in 0..50 {
                    store.set_note("tool", &[n; 1000]).unwrap();
                }
            });
        }
        let store = open(root);
        for _ in 0..200 {
            let note = store.note("tool").unwrap().unwrap();
            assert!(note.len() == 1000 && note.iter().all(|byte| *byte == note[0]));
        }
    });
}

#[test]
fn collecting_enforces_the_budget_of_who_asks_and_frees_what_nobody_needs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..40 {
        // Files of their own, and packs.
        let length = if n % 2 == 0 { 300_000 } else { 30_000 };
        put(&store, n, bytes(n, length));
    }
    for n in 0..20 {
        assert!(store.remove(&key(n)).unwrap());
    }
    let before = store.stats().cached_bytes;
    assert!(store.collect().unwrap().is_empty());
    let after = store.stats().cached_bytes;
    // What is left is what is live, its records and little else.
    let live = 10 * (300_000 + 30_000);
    assert!(
        after < before && (live..live + live / 20).contains(&after),
        "{before} {after}"
    );
    for n in 20..40 {
        assert!(get(&store, n).is_some(), "{n}");
    }
    drop(store);
    let small = DiskStore::builder()
        .byte_budget(1_000_000)
        .open(dir.path())
        .unwrap();
    let evicted = small.collect().unwrap();
    assert!(evicted.iter().map(|report| report.entries).sum::<u64>() > 5);
    assert!(small.stats().cached_bytes <= 1_000_000);
    assert!(get(&small, 39).is_some(), "what was used last stays");
    assert!(small.verification().run().unwrap().is_sound());
    let reader = DiskStore::builder()
        .read_only(true)
        .open(dir.path())
        .unwrap();
    assert_eq!(reader.collect().unwrap_err().kind(), ErrorKind::ReadOnly);
}
