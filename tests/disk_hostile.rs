//! What somebody else does to a directory that is in use: folders that go, leases that are no
//! files, totals that lie.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Store};
use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use support::{bytes, files_in, get, key, open, put, wait};

const LARGE: usize = 300_000;

/// Overwrites a part of a file in place.
fn scribble(path: &Path, at: u64, content: &[u8]) {
    let mut file = fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(content).unwrap();
}

fn disk_usage(dir: &Path) -> u64 {
    ["packs", "objects"]
        .iter()
        .flat_map(|folder| files_in(dir, folder))
        .map(|path| path.metadata().unwrap().len())
        .sum()
}

fn small_budget(dir: &Path) -> DiskStore {
    wait(DiskStore::builder().byte_budget(1 << 20).open(dir).unwrap())
}

#[test]
fn a_folder_that_is_deleted_under_a_live_handle_is_made_again() {
    for folder in ["packs", "objects", "tmp", "builds"] {
        let dir = tempfile::tempdir().unwrap();
        let store = small_budget(dir.path());
        put(&store, 1, bytes(1, 500));
        put(&store, 2, bytes(2, LARGE));
        fs::remove_dir_all(dir.path().join("v1").join(folder)).unwrap();
        put(&store, 3, bytes(3, 500));
        put(&store, 4, bytes(4, LARGE));
        assert_eq!(get(&store, 3), Some(bytes(3, 500)), "{folder}");
        assert_eq!(get(&store, 4), Some(bytes(4, LARGE)), "{folder}");
        for n in 10..60 {
            put(&store, n, bytes(n, LARGE));
        }
        let used = disk_usage(dir.path());
        assert!(used <= 1 << 20, "{folder}: {used} bytes");
        store.flush().unwrap();
    }
}

#[test]
fn a_lease_that_is_no_file_does_not_end_eviction_or_rebuilding() {
    let dir = tempfile::tempdir().unwrap();
    let store = small_budget(dir.path());
    for lease in ["evict.lock", "rebuild.lock"] {
        let path = dir.path().join("v1/builds").join(lease);
        fs::remove_file(&path).ok();
        fs::create_dir_all(path.join("x")).unwrap();
    }
    for n in 0..50 {
        put(&store, n, bytes(n, LARGE));
    }
    let used = disk_usage(dir.path());
    assert!(used <= 1 << 20, "{used} bytes");
    drop(store);
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path());
    assert_eq!(get(&store, 49), Some(bytes(49, LARGE)));
}

#[test]
fn a_file_in_packs_that_is_no_pack_does_not_take_the_budget_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = small_budget(dir.path());
        for n in 0..20 {
            put(&store, n, bytes(n, 10_000));
        }
    }
    for pack in files_in(dir.path(), "packs") {
        scribble(&pack, 0, b"no pack");
    }
    fs::write(dir.path().join("v1/packs/012345678"), vec![7; 600 << 10]).unwrap();
    let store = small_budget(dir.path());
    for n in 100..210 {
        put(&store, n, bytes(n, 10_000));
    }
    let used = disk_usage(dir.path());
    assert!(used <= 1 << 20, "{used} bytes");
    let kept = (100..210).filter(|n| get(&store, *n).is_some()).count();
    assert!(kept >= 80, "{kept} of about 95 entries that fit were kept");
}

#[test]
fn a_count_of_slots_that_lies_does_not_grow_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, 0, bytes(0, 100));
    scribble(
        &dir.path().join("v1/index"),
        10 * 8,
        &(1_u64 << 60).to_ne_bytes(),
    );
    for n in 1..12 {
        put(&store, n, bytes(n, 100));
    }
    let len = fs::metadata(dir.path().join("v1/index")).unwrap().len();
    assert!(len < 1 << 20, "{len} bytes");
    for n in 0..12 {
        assert_eq!(get(&store, n), Some(bytes(n, 100)));
    }
}

#[test]
fn a_table_full_of_one_slot_does_not_grow_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, 0, bytes(0, 100));
    let index = dir.path().join("v1/index");
    let table = fs::metadata(&index).unwrap().len() - 4096;
    scribble(&index, 4096, &vec![0x41; usize::try_from(table).unwrap()]);
    for n in 1..12 {
        put(&store, n, bytes(n, 100));
        assert_eq!(get(&store, n), Some(bytes(n, 100)));
    }
    let len = fs::metadata(&index).unwrap().len();
    assert!(len < 1 << 20, "{len} bytes");
}

/// What a power cut leaves of a key that was flushed and then replaced without a flush: the
/// binding of the replacement, but not its bytes.
fn with_a_torn_replacement(dir: &Path) {
    let store = open(dir);
    put(&store, 1, bytes(1, 500));
    store.flush().unwrap();
    put(&store, 1, bytes(2, LARGE));
    drop(store);
    let object = files_in(dir, "objects").pop().unwrap();
    fs::remove_file(&object).unwrap();
    fs::write(&object, b"").unwrap();
}

#[test]
fn what_was_flushed_is_found_beside_a_replacement_that_a_power_cut_tore() {
    let dir = tempfile::tempdir().unwrap();
    with_a_torn_replacement(dir.path());
    let store = open(dir.path());
    assert_eq!(get(&store, 1), Some(bytes(1, 500)));
    assert_eq!(store.stats().entries, 1);
}

#[test]
fn a_rebuild_keeps_what_was_flushed_beside_a_replacement_that_a_power_cut_tore() {
    let dir = tempfile::tempdir().unwrap();
    with_a_torn_replacement(dir.path());
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path());
    assert_eq!(get(&store, 1), Some(bytes(1, 500)));
    assert_eq!(store.stats().entries, 1);
}

#[test]
fn a_clear_whose_temporary_folder_was_deleted_still_clears() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        put(&store, 1, bytes(1, 500));
        put(&store, 2, bytes(2, LARGE));
        fs::remove_dir_all(dir.path().join("v1/tmp")).unwrap();
        store.clear().unwrap();
        assert_eq!(disk_usage(dir.path()), 0);
    }
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path());
    assert_eq!((get(&store, 1), get(&store, 2)), (None, None));
}

#[test]
fn an_entry_that_is_used_is_not_evicted_because_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let builder = DiskStore::builder().entry_budget(50);
    let store = wait(builder.open(dir.path()).unwrap());
    put(&store, 0, bytes(0, 100));
    for n in 1..50 {
        put(&store, n, bytes(n, 100));
    }
    // The older binding stays until the newer one is flushed.
    put(&store, 0, bytes(1000, 100));
    put(&store, 50, bytes(50, 100));
    assert!(!store.contains(&key(1)).unwrap());
    assert_eq!(get(&store, 0), Some(bytes(1000, 100)));
}

#[test]
fn quarantining_content_leaves_an_equal_healthy_copy_alone() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = open(dir.path());
        put(&store, 1, bytes(1, 500));
        put(&store, 2, bytes(1, 500));
        put(&store, 3, bytes(3, 500));
    }
    let store = open(dir.path());
    let pack = files_in(dir.path(), "packs").pop().unwrap();
    // The payload of the first record.
    scribble(&pack, 64 + 128, b"damaged");
    assert_eq!(get(&store, 1), None);
    put(&store, 1, bytes(1, 500));
    assert_eq!(get(&store, 1), Some(bytes(1, 500)));
    assert_eq!(get(&store, 2), Some(bytes(1, 500)));
    assert_eq!(get(&store, 3), Some(bytes(3, 500)));
}
