//! Whose files are used: modes and owners of the directory, links, groups that share one, and
//! directories that are swapped while a process runs.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;
#[path = "support/users.rs"]
mod users;

use keepwarm::{Cache, DiskStore, DiskStoreBuilder, Error, ErrorKind, Sharing, Store};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{bytes, get, key, put};
use users::{NOBODY, STRANGER, User, chmod, chown, chown_all, everything, open_dir, snapshot};

const LARGE: usize = 300_000;
const FOLDERS: [&str; 6] = ["", "v1", "v1/packs", "v1/objects", "v1/tmp", "v1/builds"];
/// A group, and two users in it: by their primary group, and by a further one.
const TEAM: u32 = 54_321;
const ANN: User = (54_001, TEAM, TEAM);
const BOB: User = (54_002, 54_002, TEAM);

fn content(n: u64) -> Vec<u8> {
    bytes(n, if n % 4 == 0 { LARGE } else { 500 })
}

/// Keys 0 to 19, flushed.
fn fill(root: &Path) {
    let store = support::open(root);
    for n in 0..20 {
        put(&store, n, content(n));
    }
    store.flush().unwrap();
}

fn with(sharing: Sharing) -> DiskStoreBuilder {
    DiskStore::builder().sharing(sharing)
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

fn is_root() -> bool {
    tempfile::tempdir()
        .unwrap()
        .path()
        .metadata()
        .unwrap()
        .uid()
        == 0
}

/// What is served is right; tells how much that was.
fn hits(store: &dyn Store) -> usize {
    let found = (0..20).filter_map(|n| Some((n, get(store, n)?)));
    found
        .inspect(|(n, found)| assert!(*found == content(*n), "{n}"))
        .count()
}

/// The error says what to do.
fn expect_untrusted(error: &Error, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Untrusted, "{what}: {error:?}");
    let text = error.to_string();
    for advice in ["chmod", "Sharing::Group", "Sharing::Unchecked"] {
        assert!(text.contains(advice), "{what}: {text}");
    }
}

#[test]
fn a_new_directory_is_for_its_user_alone_whatever_the_umask() {
    let test = "a_new_directory_is_for_its_user_alone_whatever_the_umask";
    if let Some((_, dir)) = support::role() {
        return fill(&dir.join("parent/root"));
    }
    for umask in ["000", "022", "077"] {
        let dir = tempfile::tempdir().unwrap();
        users::run_with(umask, (test, "fill", dir.path()));
        for path in everything(&dir.path().join("parent")) {
            let others = mode(&path) & 0o077;
            let is_object =
                path.is_file() && path.starts_with(dir.path().join("parent/root/v1/objects"));
            // 0444: in folders that nobody else gets into.
            let allowed = if is_object { 0o044 } else { 0 };
            assert_eq!(
                others & !allowed,
                0,
                "{umask}: {}: {others:o}",
                path.display()
            );
            if path.is_dir() {
                assert_eq!(mode(&path), 0o700, "{umask}: {}", path.display());
            }
        }
        assert_eq!(hits(&support::open(&dir.path().join("parent/root"))), 20);
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_refused_with_advice_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    for folder in FOLDERS {
        let path = dir.path().join(folder);
        for bad in [0o770, 0o707, 0o702, 0o777, 0o1777, 0o2770] {
            let what = format!("{folder} {bad:o}");
            chmod(&path, bad);
            let before = snapshot(dir.path());
            expect_untrusted(&DiskStore::open(dir.path()).unwrap_err(), &what);
            let reader = DiskStore::builder().read_only(true);
            expect_untrusted(&reader.open(dir.path()).unwrap_err(), &what);
            let cache = Cache::builder().open_or_memory(dir.path());
            assert!(cache.stats().disk.is_none() && cache.stats().degraded.is_some());
            assert!(snapshot(dir.path()) == before, "{what}");
            let unchecked = Cache::builder().sharing(Sharing::Unchecked).read_only(true);
            let cache = unchecked.open(dir.path()).unwrap();
            assert!(cache.get(&key(1)).is_some(), "{what}");
        }
        chmod(&path, 0o755);
        assert_eq!(hits(&DiskStore::open(dir.path()).unwrap()), 20, "{folder}");
    }
    // Unchecked, it is written to as well.
    chmod(dir.path(), 0o777);
    put(
        &with(Sharing::Unchecked).open(dir.path()).unwrap(),
        30,
        content(30),
    );
}

#[test]
fn a_file_that_others_may_write_to_is_not_used_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let objects = support::files_in(dir.path(), "objects");
    assert!(objects.len() >= 5);
    for path in &objects {
        chmod(path, 0o664);
    }
    let store = DiskStore::open(dir.path()).unwrap();
    assert_eq!(hits(&store), 15);
    assert!(store.stats().corrupt > 0);
    for n in 0..20 {
        put(&store, n, content(n));
    }
    assert_eq!(hits(&store), 20);
    assert!(objects.iter().all(|path| mode(path) & 0o022 == 0));
    drop(store);
    chmod(&dir.path().join("v1/index"), 0o620);
    // A new index is made from the packs.
    let store = support::open(dir.path());
    assert_eq!(hits(&store), 20);
    assert_eq!(mode(&dir.path().join("v1/index")), 0o600);
    drop(store);
    for pack in support::files_in(dir.path(), "packs") {
        chmod(&pack, 0o602);
    }
    let store = support::open(dir.path());
    assert_eq!(hits(&store), 0);
    for n in 0..20 {
        put(&store, n, content(n));
    }
    assert_eq!(hits(&store), 20);
}

#[test]
fn another_users_directory_is_refused_and_the_superuser_is_no_exception() {
    let test = "another_users_directory_is_refused_and_the_superuser_is_no_exception";
    if let Some((_, root)) = support::role() {
        expect_untrusted(&DiskStore::open(&root).unwrap_err(), "as another user");
        return;
    }
    if !users::can_be_others(test) {
        return;
    }
    let dir = open_dir();
    let root = dir.path().join("root");
    fill(&root);
    chmod(&root, 0o755);
    users::run_as(STRANGER, "022", (test, "stranger", &root));
    for folder in FOLDERS {
        let path = root.join(folder);
        chown(&path, NOBODY, NOBODY);
        let before = snapshot(&root);
        expect_untrusted(&DiskStore::open(&root).unwrap_err(), folder);
        assert!(snapshot(&root) == before, "{folder}");
        chown(&path, 0, 0);
    }
    chown_all(&root, NOBODY, NOBODY);
    expect_untrusted(&DiskStore::open(&root).unwrap_err(), "all");
    // Read only, its owner is trusted, and nobody else.
    let reader = || DiskStore::builder().read_only(true).open(&root).unwrap();
    assert_eq!(hits(&reader()), 20);
    for path in support::files_in(&root, "objects") {
        chown(&path, 0, 0);
    }
    assert_eq!(hits(&reader()), 15);
    let unchecked = with(Sharing::Unchecked).open(&root).unwrap();
    assert_eq!(hits(&unchecked), 20);
}

#[test]
fn planted_files_of_another_user_are_never_served_and_make_room() {
    let test = "planted_files_of_another_user_are_never_served_and_make_room";
    if !is_root() {
        return users::skip(test, "files can be given away by root only");
    }
    for folder in ["v1/index", "v1/packs", "v1/objects", "v1/builds", ""] {
        for reopen in [false, true] {
            let what = format!("{folder} {reopen}");
            let dir = tempfile::tempdir().unwrap();
            fill(dir.path());
            let mut store = support::open(dir.path());
            let planted: Vec<PathBuf> = everything(&dir.path().join(folder))
                .into_iter()
                .filter(|path| path.is_file())
                .collect();
            // The very bytes that were there, in files of a stranger.
            for path in &planted {
                let (content, mode) = (fs::read(path).unwrap(), mode(path));
                fs::remove_file(path).unwrap();
                fs::write(path, content).unwrap();
                chmod(path, mode);
                chown(path, NOBODY, NOBODY);
            }
            if reopen {
                drop(store);
                store = support::open(dir.path());
            }
            let expected = match folder {
                "v1/index" | "v1/builds" => Some(20),
                "v1/objects" => Some(15),
                _ if reopen => Some(0),
                // Packs that are open are the ones that were verified.
                _ => None,
            };
            let found = hits(&store);
            assert!(expected.is_none_or(|n| n == found), "{what}: {found}");
            for n in 0..20 {
                put(&store, n, content(n));
            }
            store.flush().unwrap();
            // A lost index is made anew meanwhile.
            let store = support::wait(store);
            assert_eq!(hits(&store), 20, "{what}");
            drop(store);
            let store = support::open(dir.path());
            assert_eq!(hits(&store), 20, "{what}");
            // What was served is this user's.
            for path in support::files_in(dir.path(), "objects") {
                assert_eq!(path.metadata().unwrap().uid(), 0, "{what}");
            }
        }
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_strangers_is_neither_believed_nor_written_to() {
    let test = "a_directory_that_is_swapped_for_a_strangers_is_neither_believed_nor_written_to";
    if !is_root() {
        return users::skip(test, "directories can be given away by root only");
    }
    for level in ["", "v1"] {
        let dir = tempfile::tempdir().unwrap();
        let (root, forged) = (dir.path().join("root"), dir.path().join("forged"));
        fill(&root);
        let evil = support::open(&forged);
        for n in 0..20 {
            put(&evil, n, bytes(n + 900, content(n).len()));
        }
        drop(evil);
        chown_all(&forged, NOBODY, NOBODY);
        let store = support::open(&root);
        assert_eq!(hits(&store), 20);
        fs::rename(root.join(level), dir.path().join("aside")).unwrap();
        fs::rename(forged.join(level), root.join(level)).unwrap();
        let before = snapshot(&root.join(level));
        for round in 0..3 {
            hits(&store);
            let kind = |e: Error| e.kind();
            let done = store.put(&key(50), content(50).into()).map(drop);
            assert_eq!(
                done.map_err(kind),
                Err(ErrorKind::Untrusted),
                "{level} {round}"
            );
            let done = store.remove(&key(1)).map(drop).map_err(kind);
            assert_eq!(done, Err(ErrorKind::Untrusted), "{level} {round}");
            let done = store.clear().map_err(kind);
            assert_eq!(done, Err(ErrorKind::Untrusted), "{level} {round}");
            store.flush().ok();
        }
        expect_untrusted(&DiskStore::open(&root).unwrap_err(), level);
        drop(store);
        assert!(snapshot(&root.join(level)) == before, "{level}");
    }
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    for folder in [
        "v1",
        "v1/packs",
        "v1/objects",
        "v1/tmp",
        "v1/builds",
        "v1/objects/xx",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fill(&root);
        let path = if folder.ends_with("xx") {
            let object = support::files_in(&root, "objects").pop().unwrap();
            object.parent().unwrap().to_path_buf()
        } else {
            root.join(folder)
        };
        // What is outside looks like what belongs there.
        fs::rename(&path, &outside).unwrap();
        symlink(&outside, &path).unwrap();
        fs::create_dir_all(outside.join("left over/by a process")).unwrap();
        fs::write(outside.join("left over/file"), b"not ours").unwrap();
        let before = snapshot(&outside);
        let builder = || DiskStore::builder().byte_budget(1 << 20);
        if let Ok(store) = builder().open(&root) {
            hits(&store);
            for n in 0..60 {
                let _ = store.put(&key(n), content(n).into()).map(drop);
            }
            store.remove(&key(3)).ok();
            store.flush().ok();
            store.clear().ok();
            put_if_possible(&store);
        }
        let reader = builder().read_only(true).open(&root);
        reader.map(|store| hits(&store)).ok();
        assert!(snapshot(&outside) == before, "{folder}");
        assert!(
            DiskStore::open(outside.join("left over")).is_ok(),
            "{folder}"
        );
    }
}

fn put_if_possible(store: &DiskStore) {
    let _ = store.put(&key(1), content(1).into()).map(drop);
}

#[test]
fn a_root_that_is_reached_by_a_link_is_the_users_own_decision() {
    let dir = tempfile::tempdir().unwrap();
    let (root, link) = (dir.path().join("root"), dir.path().join("link"));
    fill(&root);
    symlink(&root, &link).unwrap();
    let store = DiskStore::open(&link).unwrap();
    assert_eq!(store.path(), root.canonicalize().unwrap());
    assert_eq!(hits(&store), 20);
}

/// The group's files are what they should be, and nothing else is there.
fn expect_shared(root: &Path) {
    for path in everything(root) {
        let meta = path.metadata().unwrap();
        let expected: &[u32] = if meta.is_dir() {
            &[0o2770]
        } else {
            &[0o660, 0o440]
        };
        assert!(
            expected.contains(&mode(&path)),
            "{} {:o}",
            path.display(),
            mode(&path)
        );
        assert_eq!(meta.gid(), TEAM, "{}", path.display());
    }
}

fn share(root: &Path) -> DiskStore {
    let builder = with(Sharing::Group).byte_budget(12 << 20);
    support::wait(builder.open(root).unwrap())
}

/// One of the group, in several rounds.
fn member(role: &str, root: &Path) {
    let store = share(root);
    let range = |from: u64| from..from + 40;
    match role {
        "first" => {
            for n in range(100) {
                put(&store, n, content(n));
            }
        }
        "second" => {
            for n in range(100) {
                assert!(get(&store, n) == Some(content(n)), "{n}");
            }
            assert!(store.remove(&key(101)).unwrap());
            put(&store, 102, bytes(7, LARGE));
            for n in range(200) {
                put(&store, n, content(n));
            }
        }
        "third" => {
            for n in range(200) {
                assert!(get(&store, n) == Some(content(n)), "{n}");
            }
            assert!(get(&store, 101).is_none());
            assert!(get(&store, 102) == Some(bytes(7, LARGE)));
            store.clear().unwrap();
            put(&store, 300, content(300));
        }
        "lost index" => {
            assert!(get(&store, 300) == Some(content(300)));
        }
        "stranger" => unreachable!(),
        storm => {
            let seed = u64::from(storm == "storm 1");
            for n in 0..400 {
                let n = (n * 7 + seed * 3) % 150;
                put(&store, n, content(n));
                let n = (n * 5) % 150;
                assert!(
                    get(&store, n).is_none_or(|found| found == content(n)),
                    "{n}"
                );
                if n % 50 == 0 {
                    store.remove(&key(n)).unwrap();
                    store.flush().unwrap();
                }
            }
        }
    }
    store.flush().unwrap();
    assert_eq!(store.stats().maintenance_errors, 0);
}

#[test]
fn a_group_shares_a_directory_whatever_their_umasks() {
    let test = "a_group_shares_a_directory_whatever_their_umasks";
    if let Some((role, root)) = support::role() {
        if role == "stranger" {
            let error = with(Sharing::Group).open(&root).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            return;
        }
        return member(&role, &root);
    }
    if !users::can_be_others(test) {
        return;
    }
    let dir = open_dir();
    chmod(dir.path(), 0o1777);
    let root = dir.path().join("parent/root");
    // The first makes it: for the group, whatever the umask.
    fs::create_dir(dir.path().join("parent")).unwrap();
    chown(&dir.path().join("parent"), ANN.0, TEAM);
    let run = |user, role| users::run_as(user, "077", (test, role, &root));
    run(ANN, "first");
    expect_shared(&root);
    run(BOB, "second");
    expect_shared(&root);
    run(ANN, "third");
    expect_shared(&root);
    fs::remove_file(root.join("v1/index")).unwrap();
    run(BOB, "lost index");
    run(STRANGER, "stranger");
    expect_shared(&root);
    let storms = [
        (ANN, "storm 1"),
        (BOB, "storm 2"),
        (ANN, "storm 2"),
        (BOB, "storm 1"),
    ];
    let storms = storms.map(|(user, role)| users::child_as(user, "077", (test, role, &root)));
    storms.into_iter().for_each(support::join);
    expect_shared(&root);
}

#[test]
fn a_group_does_not_use_what_is_not_the_groups() {
    let test = "a_group_does_not_use_what_is_not_the_groups";
    if !is_root() {
        return users::skip(test, "files can be given away by root only");
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let store = share(&root);
    for n in 0..20 {
        put(&store, n, content(n));
    }
    drop(store);
    for path in support::files_in(&root, "objects") {
        chown(&path, 0, NOBODY);
    }
    assert_eq!(hits(&share(&root)), 15);
    // Of whom in the group a file is does not matter.
    for path in everything(&root) {
        chown(&path, NOBODY, 0);
    }
    let store = share(&root);
    assert!(hits(&store) >= 15);
    drop(store);
    for folder in FOLDERS {
        let path = root.join(folder);
        chmod(&path, 0o2772);
        expect_untrusted(&with(Sharing::Group).open(&root).unwrap_err(), folder);
        chmod(&path, 0o2770);
        if !folder.is_empty() {
            chown(&path, NOBODY, NOBODY);
            expect_untrusted(&with(Sharing::Group).open(&root).unwrap_err(), folder);
            chown(&path, NOBODY, 0);
        }
    }
    assert!(hits(&share(&root)) >= 15);
}

#[test]
fn a_file_of_a_group_that_has_a_second_name_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let store = share(&root);
    for n in 0..20 {
        put(&store, n, content(n));
    }
    drop(store);
    let mut linked = Vec::new();
    for (i, path) in support::files(&root.join("v1")).into_iter().enumerate() {
        let second = dir.path().join(i.to_string());
        fs::hard_link(path, &second).unwrap();
        linked.push((fs::read(&second).unwrap(), second));
    }
    let store = share(&root);
    for n in 0..60 {
        put(&store, n, content(n));
    }
    assert!(store.remove(&key(1)).unwrap());
    store.flush().unwrap();
    drop(store);
    for (content, path) in linked {
        assert!(fs::read(&path).unwrap() == content, "{}", path.display());
    }
    assert_eq!(get(&share(&root), 2), Some(content(2)));
}

#[test]
fn a_private_directory_opened_by_its_group_and_the_other_way_round_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (private, shared) = (dir.path().join("private"), dir.path().join("shared"));
    fill(&private);
    drop(share(&shared));
    assert_eq!(mode(&shared), 0o2770);
    expect_untrusted(&DiskStore::open(&shared).unwrap_err(), "shared");
    // Its owner may: nobody else can have written to it.
    assert_eq!(hits(&share(&private)), 20);
    // A cache says so by the same setting.
    let cache = Cache::builder()
        .sharing(Sharing::Group)
        .open(&shared)
        .unwrap();
    cache.put(&key(1), content(1));
    cache.close().unwrap();
    assert_eq!(hits(&share(&shared)), 1);
}

#[test]
fn no_system_call_of_a_reader_writes_locks_or_creates() {
    let test = "no_system_call_of_a_reader_writes_locks_or_creates";
    if let Some((_, dir)) = support::role() {
        let builder = DiskStore::builder().read_only(true);
        assert_eq!(hits(&builder.open(dir.join("root")).unwrap()), 20);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fill(&root);
    let log = dir.path().join("log");
    let status = Command::new("strace")
        .args(["-f", "-y", "-o"])
        .arg(&log)
        .args(["-e", "trace=file,desc"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1"])
        .env("KEEPWARM_TEST_ROLE", "reader")
        .env("KEEPWARM_TEST_DIR", dir.path())
        .output();
    let Some(output) = status.ok().filter(|output| output.status.success()) else {
        return users::skip(test, "strace cannot be used here");
    };
    drop(output);
    let log = fs::read_to_string(&log).unwrap();
    let name = root.canonicalize().unwrap().display().to_string();
    let calls: Vec<&str> = log.lines().filter(|line| line.contains(&name)).collect();
    assert!(calls.iter().any(|call| call.contains("/v1/index")), "{log}");
    for call in calls {
        for bad in [
            "O_RDWR",
            "O_WRONLY",
            "O_CREAT",
            "PROT_WRITE",
            "flock(",
            "F_SETLK",
            "F_OFD",
            "write",
            "sync",
            "rename",
            "unlink",
            "mkdir",
            "chmod",
            "chown",
            "utime",
            "truncate",
        ] {
            // What `pread64` read may contain anything.
            let is_read = call.contains("pread64(") || call.contains("read(");
            assert!(!call.contains(bad) || is_read, "{call}");
        }
    }
}
