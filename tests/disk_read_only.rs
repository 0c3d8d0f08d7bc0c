//! A directory that is only read: on a read-only mount, of another user, in a layer, beside a
//! writer. It is served, and not a byte of it changes.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;
#[path = "support/users.rs"]
mod users;

use keepwarm::{
    Cache, DiskStore, DiskStoreBuilder, ErrorKind, Mapping, NamespaceId, Prune, PutStatus,
    Rejection, Store,
};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use support::{bytes, get, key, put};
use users::{Mounted, STRANGER, chmod, open_dir, snapshot};

const LARGE: usize = 300_000;

fn length(n: u64) -> usize {
    match n % 5 {
        0 => LARGE,
        1 => 270_000,
        2 => 0,
        _ => usize::try_from(n).unwrap() * 37,
    }
}

fn content(n: u64) -> Vec<u8> {
    bytes(n % 50, length(n % 50))
}

/// A flushed directory of inline, empty, large and shared artifacts, some of them replaced, some
/// removed: keys 0 to 99 without 90 to 94.
fn fill(root: &Path) {
    let store = support::open(root);
    for n in 0..100 {
        put(&store, n, bytes(n + 1000, 500));
    }
    store.flush().unwrap();
    for n in 0..100 {
        put(&store, n, content(n));
    }
    for n in 90..95 {
        assert!(store.remove(&key(n)).unwrap());
    }
    store.register_namespace("known").unwrap();
    store.flush().unwrap();
}

fn reader() -> DiskStoreBuilder {
    DiskStore::builder().read_only(true)
}

fn expect_all(store: &dyn Store, what: &str) {
    for n in 0..100 {
        let expected = (!(90..95).contains(&n)).then(|| content(n));
        assert!(get(store, n) == expected, "{what}: {n}");
        let contains = store.contains(&key(n)).unwrap();
        assert_eq!(contains, expected.is_some(), "{what}: {n}");
    }
    assert!(get(store, 12_345).is_none(), "{what}");
}

/// Everything that a store can be asked to do.
fn expect_refusals(store: &DiskStore) {
    let before = store.stats();
    for n in [1, 500] {
        let outcome = store.put(&key(n), vec![9; 10].into()).unwrap();
        assert_eq!(outcome.status, PutStatus::Rejected(Rejection::ReadOnly));
        assert_eq!(outcome.displaced[0].entry.artifact.as_slice(), [9; 10]);
    }
    assert!(get(store, 500).is_none() && get(store, 1) == Some(content(1)));
    let kind = |e: keepwarm::Error| e.kind();
    assert_eq!(
        store.remove(&key(1)).map_err(kind),
        Err(ErrorKind::ReadOnly)
    );
    assert_eq!(store.remove(&key(500)).map_err(kind), Ok(false));
    assert_eq!(store.clear().map_err(kind), Err(ErrorKind::ReadOnly));
    let known = NamespaceId::of("known");
    assert_eq!(store.register_namespace("known").map_err(kind), Ok(known));
    let unknown = store.register_namespace("unknown").map_err(kind);
    assert_eq!(unknown, Err(ErrorKind::ReadOnly));
    let refused = Err(ErrorKind::ReadOnly);
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    let old = Prune::new().older_than(week);
    assert_eq!(store.prune(&old).map(drop).map_err(kind), refused);
    assert_eq!(
        store.remove_namespace(known).map(drop).map_err(kind),
        refused
    );
    assert_eq!(store.mark().map(drop).map_err(kind), refused);
    assert_eq!(store.zero_directory_stats().map_err(kind), refused);
    assert_eq!(store.directory_stats().unwrap().entries, 95);
    let listed = store.entries().flatten().count();
    assert_eq!(listed, 95);
    assert!(store.info(&key(1)).unwrap().is_some());
    store.touch(&[key(1), key(500)]).unwrap();
    store.flush().unwrap();
    let stats = store.stats();
    assert!(stats.read_only && stats.entries == 95);
    assert_eq!(
        (stats.rejected_puts, stats.puts),
        (before.rejected_puts + 2, 0)
    );
    assert_eq!((stats.failed_puts, stats.maintenance_errors), (0, 0));
    assert!(store.durability().survives_a_power_cut());
}

#[test]
fn everything_is_served_under_every_mapping_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = snapshot(dir.path());
    for mapping in [Mapping::Large, Mapping::IndexOnly, Mapping::Never] {
        let store = reader().mapping(mapping).open(dir.path()).unwrap();
        expect_all(&store, &format!("{mapping:?}"));
        expect_refusals(&store);
        drop(store);
        assert!(snapshot(dir.path()) == before, "{mapping:?}");
    }
}

#[test]
fn a_directory_that_is_not_there_is_a_clear_error_and_not_created() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::create_dir(dir.path().join("file")).unwrap();
    fs::write(dir.path().join("file/v1"), b"").unwrap();
    let before = snapshot(dir.path());
    for name in ["missing", "missing/too", "empty", "file", "file/v1"] {
        let path = dir.path().join(name);
        let error = reader().open(&path).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        if name != "file/v1" {
            assert!(error.to_string().contains("for reading only"), "{error}");
        }
        let cache = Cache::builder().read_only(true).open_or_memory(&path);
        cache.put(&key(1), vec![1]);
        assert!(cache.get(&key(1)).is_some());
        assert!(cache.stats().degraded.unwrap().contains(name));
    }
    assert!(snapshot(dir.path()) == before);
}

#[test]
fn a_directory_that_must_exist_is_not_created_and_is_written_where_it_is() {
    use std::error::Error as _;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::create_dir(dir.path().join("file")).unwrap();
    fs::write(dir.path().join("file/v1"), b"").unwrap();
    let before = snapshot(dir.path());
    let builder = || DiskStore::builder().must_exist(true);
    for name in ["missing", "missing/too", "empty", "file", "file/v1"] {
        let error = builder().open(dir.path().join(name)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        let cause = error
            .source()
            .and_then(|e| e.downcast_ref::<std::io::Error>());
        let is_missing = cause.is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound);
        assert_eq!(is_missing, !name.starts_with("file"), "{error:?}");
    }
    assert!(snapshot(dir.path()) == before);
    let there = dir.path().join("there");
    drop(DiskStore::open(&there).unwrap());
    let store = builder().open(&there).unwrap();
    let _ = store.put(&key(1), vec![1].into()).unwrap();
    assert!(store.get(&key(1)).unwrap().is_some());
}

#[test]
fn without_a_whole_index_the_packs_are_walked() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let index = dir.path().join("v1/index");
    let whole = fs::read(&index).unwrap();
    for state in ["flagged", "foreign", "short", "a folder", "a link", "gone"] {
        fs::remove_file(&index).ok();
        fs::remove_dir(&index).ok();
        let mut damaged = whole.clone();
        match state {
            "flagged" => damaged[64] |= 2,
            "foreign" => damaged[3] ^= 1,
            _ => damaged.truncate(100),
        }
        match state {
            "a folder" => fs::create_dir(&index).unwrap(),
            "a link" => std::os::unix::fs::symlink("/dev/zero", &index).unwrap(),
            "gone" => {}
            _ => fs::write(&index, &damaged).unwrap(),
        }
        chmod_if_file(&index);
        let before = snapshot(dir.path());
        for mapping in [Mapping::Large, Mapping::Never] {
            let store = reader().mapping(mapping).open(dir.path()).unwrap();
            expect_all(&store, state);
            expect_refusals(&store);
        }
        assert!(snapshot(dir.path()) == before, "{state}");
    }
    // A writer makes it whole again.
    expect_all(&support::open(dir.path()), "rebuilt");
}

fn chmod_if_file(path: &Path) {
    if path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        chmod(path, 0o600);
    }
}

#[test]
fn an_index_that_stays_behind_a_clear_or_an_older_one_gives_no_wrong_byte() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let index = dir.path().join("v1/index");
    let old = fs::read(&index).unwrap();
    let store = support::open(dir.path());
    for n in 0..50 {
        put(&store, n, bytes(n + 7000, 900));
    }
    store.flush().unwrap();
    drop(store);
    fs::write(&index, &old).unwrap();
    let store = reader().open(dir.path()).unwrap();
    for n in 0..90 {
        let found = get(&store, n);
        let allowed = if n < 50 {
            bytes(n + 7000, 900)
        } else {
            content(n)
        };
        assert!(found.is_none_or(|found| found == allowed), "{n}");
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let index = dir.path().join("v1/index");
    let mut bytes = fs::read(&index).unwrap();
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let check = blake3::hash(&bytes[..40]);
    bytes[40..48].copy_from_slice(&check.as_bytes()[..8]);
    fs::write(&index, &bytes).unwrap();
    let before = snapshot(dir.path());
    let error = reader().open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat, "{error}");
    assert!(snapshot(dir.path()) == before);
}

#[test]
fn what_is_damaged_is_counted_and_neither_served_nor_repaired() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    // One byte of each large object and of each pack's every page.
    for path in support::files(&dir.path().join("v1")) {
        if path.ends_with("index") {
            continue;
        }
        chmod(&path, 0o600);
        let file = fs::File::options().write(true).open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        for at in (2000..len).step_by(4096) {
            file.write_all_at(&[0xa5], at).unwrap();
        }
    }
    let before = snapshot(dir.path());
    let store = reader().open(dir.path()).unwrap();
    let mut hits = 0;
    for round in 0..2 {
        for n in 0..100 {
            let found = get(&store, n);
            hits += usize::from(found.is_some());
            assert!(
                found.is_none_or(|found| found == content(n)),
                "{round}: {n}"
            );
        }
    }
    assert!(hits > 0 && hits < 190, "{hits}");
    assert!(store.stats().corrupt > 0);
    assert_eq!(store.stats().maintenance_errors, 0);
    drop(store);
    assert!(snapshot(dir.path()) == before);
}

#[test]
fn beneath_a_damaged_newer_entry_the_flushed_one_is_found_as_a_writer_would() {
    let dir = tempfile::tempdir().unwrap();
    let store = support::open(dir.path());
    put(&store, 1, bytes(1, LARGE));
    store.flush().unwrap();
    put(&store, 1, bytes(2, LARGE));
    drop(store);
    let name = blake3::hash(&bytes(2, LARGE)).to_hex();
    let object = dir
        .path()
        .join("v1/objects")
        .join(&name[..2])
        .join(&name[2..]);
    for damage in [Some(vec![0; LARGE]), None] {
        fs::remove_file(&object).ok();
        if let Some(damage) = damage {
            fs::write(&object, damage).unwrap();
        }
        let store = reader().open(dir.path()).unwrap();
        assert!(get(&store, 1) == Some(bytes(1, LARGE)));
    }
}

#[test]
fn a_copied_directory_is_served_by_the_index_it_came_with() {
    let dir = tempfile::tempdir().unwrap();
    let (root, copy) = (dir.path().join("root"), dir.path().join("copy"));
    fill(&root);
    let status = Command::new("cp").arg("-a").arg(&root).arg(&copy).status();
    assert!(status.unwrap().success());
    let before = snapshot(&copy);
    let store = reader().open(&copy).unwrap();
    expect_all(&store, "copy");
    expect_refusals(&store);
    drop(store);
    assert!(snapshot(&copy) == before);
}

#[test]
fn a_read_only_mount_is_served() {
    let test = "a_read_only_mount_is_served";
    let dir = tempfile::tempdir().unwrap();
    let (root, mount) = (dir.path().join("root"), dir.path().join("mount"));
    fill(&root);
    fs::create_dir(&mount).unwrap();
    let bind = ["--bind", "-o", "ro", root.to_str().unwrap()];
    let Some(_mounted) = Mounted::new(test, &bind, &mount) else {
        return;
    };
    let written = fs::write(mount.join("x"), b"x").unwrap_err();
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let store = reader().open(&mount).unwrap();
    expect_all(&store, "mount");
    expect_refusals(&store);
    let error = DiskStore::open(mount.join("new")).unwrap_err();
    assert!(error.to_string().contains("read_only"), "{error}");
    // A writer beside the mount is followed.
    let writer = support::open(&root);
    put(&writer, 700, bytes(700, LARGE));
    assert!(get(&store, 700) == Some(bytes(700, LARGE)));
}

#[test]
fn a_layer_of_a_container_is_served_from_below_and_from_a_copied_up_index() {
    let test = "a_layer_of_a_container_is_served_from_below_and_from_a_copied_up_index";
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for name in ["image", "upper", "work", "merged", "tmpfs"] {
        fs::create_dir(path(name)).unwrap();
    }
    // The upper layer of an overlay must not be an overlay itself.
    let Some(_tmpfs) = Mounted::new(test, &["-t", "tmpfs", "tmpfs"], &path("tmpfs")) else {
        return;
    };
    for name in ["upper", "work"] {
        fs::create_dir(path("tmpfs").join(name)).unwrap();
    }
    fill(&path("image/cache"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        path("image").display(),
        path("tmpfs/upper").display(),
        path("tmpfs/work").display()
    );
    let arguments = ["-t", "overlay", "-o", &options, "overlay"];
    let Some(_overlay) = Mounted::new(test, &arguments, &path("merged")) else {
        return;
    };
    let root = path("merged/cache");
    let store = reader().open(&root).unwrap();
    expect_all(&store, "below");
    drop(store);
    assert_eq!(fs::read_dir(path("tmpfs/upper")).unwrap().count(), 0);
    // Touched in the container: the files are copied up.
    for file in support::files(&root.join("v1")) {
        let file = fs::File::options().append(true).open(file);
        file.map(|file| file.set_len(file.metadata().unwrap().len()))
            .ok();
    }
    let status = Command::new("touch").arg(root.join("v1/index")).status();
    assert!(status.unwrap().success());
    let before = snapshot(&path("tmpfs"));
    let store = reader().open(&root).unwrap();
    expect_all(&store, "copied up");
    expect_refusals(&store);
    drop(store);
    assert!(snapshot(&path("tmpfs")) == before);
}

#[test]
fn another_users_directory_is_served_to_whom_may_read_it() {
    let test = "another_users_directory_is_served_to_whom_may_read_it";
    if let Some((role, root)) = support::role() {
        match role.as_str() {
            "reader" => {
                let store = reader().open(&root).unwrap();
                expect_all(&store, "reader");
                expect_refusals(&store);
            }
            "cache" => read_through_a_cache(&root),
            _ => {
                let error = reader().open(&root).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
                let kind = DiskStore::open(&root).unwrap_err().kind();
                assert!([ErrorKind::PermissionDenied, ErrorKind::Untrusted].contains(&kind));
            }
        }
        return;
    }
    if !users::can_be_others(test) {
        return;
    }
    let dir = open_dir();
    let root = dir.path().join("root");
    fill(&root);
    // As it is: 0700.
    users::run_as(STRANGER, "022", (test, "denied", &root));
    for path in users::everything(&root) {
        let mode = if path.is_dir() { 0o755 } else { 0o444 };
        chmod(&path, mode);
    }
    for role in ["reader", "cache"] {
        let before = snapshot(&root);
        users::run_as(STRANGER, "022", (test, role, &root));
        assert!(snapshot(&root) == before, "{role}");
    }
    // A file that this one may not read is an error of the look-ups that need it, no crash.
    chmod(&root.join("v1/index"), 0o000);
    users::run_as(STRANGER, "022", (test, "denied", &root));
    // Without a writable bit anywhere, its owner reads it as well.
    for path in users::everything(&root) {
        chmod(&path, if path.is_dir() { 0o555 } else { 0o444 });
    }
    expect_all(&reader().open(&root).unwrap(), "owner");
}

/// Memory in front works as ever, nothing is a fault.
fn read_through_a_cache(root: &Path) {
    let cache = Cache::builder().read_only(true).open(root).unwrap();
    for n in 0..90 {
        assert!(cache.get(&key(n)).unwrap().as_slice() == content(n), "{n}");
    }
    let built = cache.get_or_insert_with(&key(500), || Ok::<_, ()>(vec![5; 10]));
    assert_eq!(built.unwrap().as_slice(), [5; 10]);
    assert_eq!(cache.get(&key(500)).unwrap().as_slice(), [5; 10]);
    let found = cache.get_or_insert_with(&key(500), || Err::<Vec<u8>, _>("built twice"));
    assert!(found.is_ok());
    let found = cache.get_or_insert_with(&key(3), || Err::<Vec<u8>, _>("built"));
    assert!(found.is_ok());
    cache.namespace("unknown").put(&key(501), vec![6]);
    assert!(cache.namespace("unknown").get(&key(501)).is_some());
    assert!(cache.durability().survives_a_power_cut());
    cache.flush().unwrap();
    assert_eq!(
        cache.remove(&key(1)).unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    assert!(cache.remove(&key(500)).unwrap() && cache.get(&key(500)).is_none());
    assert_eq!(cache.clear().unwrap_err().kind(), ErrorKind::ReadOnly);
    let stats = cache.stats();
    assert_eq!((stats.faults, stats.degraded.clone()), (0, None), "{stats}");
    assert!(stats.to_string().contains("disk (read-only): "), "{stats}");
    let disk = stats.disk.unwrap();
    assert!(disk.read_only && disk.rejected_puts == 0 && disk.failed_puts == 0);
    assert!(stats.promotions >= 90);
    cache.close().unwrap();
}

#[test]
fn a_cache_over_a_directory_that_is_only_read_keeps_what_is_put_in_memory() {
    use keepwarm::WritePolicy;
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = snapshot(dir.path());
    read_through_a_cache(dir.path());
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        // A memory that evicts: what was only there is gone, what the directory has is not.
        let cache = Cache::builder()
            .memory_entries(10)
            .write_policy(policy)
            .read_only(true)
            .open(dir.path())
            .unwrap();
        for n in 200..300 {
            cache.put(&key(n), bytes(n, 1000));
        }
        assert!(cache.get(&key(299)).is_some() && cache.get(&key(200)).is_none());
        // What was put over an entry of the directory lasts as long as memory keeps it.
        cache.put(&key(4), vec![1]);
        assert_eq!(cache.get(&key(4)).unwrap().as_slice(), [1]);
        for n in 300..320 {
            cache.put(&key(n), vec![2]);
        }
        assert!(cache.get(&key(4)).unwrap().as_slice() == content(4));
        assert_eq!(cache.durability(), keepwarm::Durability::default());
        cache.flush().unwrap();
        assert_eq!(cache.stats().faults, 0, "{policy:?}");
        drop(cache);
        assert!(snapshot(dir.path()) == before, "{policy:?}");
    }
}

#[test]
fn a_reader_follows_a_writer_that_grows_evicts_and_clears() {
    const KEYS: u64 = 4000;
    let test = "a_reader_follows_a_writer_that_grows_evicts_and_clears";
    let of = |n: u64| {
        let len = if n % 40 == 0 { 280_000 } else { 700 };
        bytes(n, len)
    };
    if let Some((_, root)) = support::role() {
        let builder = DiskStore::builder().byte_budget(3 << 20);
        let store = support::wait(builder.open(&root).unwrap());
        for n in 0..KEYS {
            put(&store, n, of(n));
            if n == KEYS / 2 {
                store.clear().unwrap();
            }
        }
        store.flush().unwrap();
        return;
    }
    for state in ["whole", "lost"] {
        let dir = tempfile::tempdir().unwrap();
        let builder = DiskStore::builder().byte_budget(3 << 20);
        put(&support::wait(builder.open(dir.path()).unwrap()), 0, of(0));
        if state == "lost" {
            fs::remove_file(dir.path().join("v1/index")).unwrap();
        }
        let store = reader().open(dir.path()).unwrap();
        assert!(get(&store, 0) == Some(of(0)));
        let mut writer = support::child(test, "writer", dir.path());
        let (mut rounds, mut hits) = (0, 0_u64);
        while writer.try_wait().unwrap().is_none() {
            for n in (rounds % 7..KEYS).step_by(7) {
                let found = store.get(&key(n)).unwrap();
                hits += u64::from(found.is_some());
                let right = found.is_none_or(|found| found.artifact.as_slice() == of(n));
                assert!(right, "{state}: {n}");
            }
            rounds += 1;
        }
        support::join(writer);
        assert!(hits > 0, "{state}");
        // One that only misses looks about itself once a second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let fresh = support::open(dir.path());
        assert!(store.get(&key(KEYS + 1)).unwrap().is_none());
        let mut kept = 0;
        for n in 0..KEYS {
            let expected = get(&fresh, n);
            kept += u64::from(expected.is_some());
            assert!(get(&store, n) == expected, "{state}: {n}");
        }
        assert!(kept > 100 && kept < KEYS, "{state}: {kept}");
    }
}

#[test]
fn a_reader_sees_a_directory_that_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fill(&root);
    let store = reader().open(&root).unwrap();
    expect_all(&store, "first");
    fs::rename(&root, dir.path().join("old")).unwrap();
    assert!(get(&store, 777).is_none());
    put(&support::open(&root), 777, bytes(777, LARGE));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert!(get(&store, 777) == Some(bytes(777, LARGE)));
    assert!(get(&store, 1).is_none());
}

#[test]
fn a_reader_without_an_index_sees_packs_that_were_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (root, next) = (dir.path().join("root"), dir.path().join("next"));
    fill(&root);
    put(&support::open(&next), 888, bytes(888, LARGE));
    for root in [&root, &next] {
        fs::remove_file(root.join("v1/index")).unwrap();
    }
    let store = reader().open(&root).unwrap();
    expect_all(&store, "first");
    for folder in ["packs", "objects"] {
        fs::rename(root.join("v1").join(folder), dir.path().join(folder)).unwrap();
        fs::rename(next.join("v1").join(folder), root.join("v1").join(folder)).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(get(&store, 888) == Some(bytes(888, LARGE)));
    assert_eq!(store.stats().entries, 1);
}

#[test]
fn what_is_too_old_is_a_miss_to_a_reader_as_well() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let before = snapshot(dir.path());
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let store = reader().max_age(std::time::Duration::from_secs(1));
    let store = store.open(dir.path()).unwrap();
    assert!((0..100).all(|n| get(&store, n).is_none() && !store.contains(&key(n)).unwrap()));
    assert_eq!(store.stats().corrupt, 0);
    let store = reader().max_age(std::time::Duration::from_secs(3600));
    expect_all(&store.open(dir.path()).unwrap(), "young enough");
    assert!(snapshot(dir.path()) == before);
}
