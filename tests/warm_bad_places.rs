//! Places where nothing can be stored: full, read-only, forbidden. The cache misses and counts,
//! never fails a build, and heals.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Cache, DiskStore, ErrorKind, Store};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{bytes, get, key, put, wait};
use tempfile::TempDir;

/// A small file system of its own; `None` where this process may not mount one.
struct Mount(TempDir);

impl Mount {
    fn new(test: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = cfg!(target_os = "linux")
            && mount(
                &["-t", "tmpfs", "-o", "size=3m", "keepwarm-test"],
                dir.path(),
            );
        if !mounted {
            skip(test, "no file system can be mounted here, which needs root");
            return None;
        }
        Some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro"], self.path()));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Detached at once, even where something is still open.
        let status = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}

/// Says what was not tested, past the harness, which shows nothing of tests that pass.
#[allow(clippy::explicit_write, reason = "the harness catches `eprintln!`")]
fn skip(test: &str, why: &str) {
    writeln!(std::io::stderr(), "!!! SKIPPED {test}: {why}").unwrap();
}

fn mount(arguments: &[&str], on: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(on).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn builds(cache: &Cache, range: std::ops::Range<u64>) {
    for n in range {
        let built = cache.get_or_insert_with(&key(n), || Ok::<_, ()>(bytes(n, 50_000)));
        assert!(built.unwrap().as_slice() == bytes(n, 50_000), "{n}");
    }
}

#[test]
fn a_full_disk_fails_no_build_and_heals_when_there_is_room() {
    let Some(disk) = Mount::new("a_full_disk_fails_no_build_and_heals_when_there_is_room") else {
        return;
    };
    let ballast = disk.path().join("ballast");
    let builder = Cache::builder().memory_entries(3);
    let cache = builder.open(disk.path().join("cache")).unwrap();
    builds(&cache, 0..10);
    cache.flush().unwrap();
    // All that is left.
    let filled = std::fs::write(&ballast, vec![1; 4 << 20]);
    assert!(filled.is_err());

    builds(&cache, 10..40);
    for n in 0..40 {
        let found = cache.get(&key(n));
        assert!(
            found.is_none_or(|found| found.as_slice() == bytes(n, 50_000)),
            "{n}"
        );
    }
    assert!(cache.flush().is_err());
    let stats = cache.stats();
    assert!(stats.faults > 0 && stats.failed_builds == 0, "{stats}");
    assert_eq!(stats.disk.unwrap().corrupt, 0);

    std::fs::remove_file(&ballast).unwrap();
    // What failed before is told once at most.
    cache.flush().ok();
    builds(&cache, 100..110);
    cache.flush().unwrap();
    assert!(cache.durability().survives_a_power_cut());
    cache.close().unwrap();
    let store = wait(DiskStore::open(disk.path().join("cache")).unwrap());
    assert!((100..110).all(|n| get(&store, n) == Some(bytes(n, 50_000))));
    assert!((0..10).all(|n| get(&store, n) == Some(bytes(n, 50_000))));
}

#[test]
fn a_directory_that_cannot_be_written_is_a_clear_error_and_a_memory_cache() {
    let Some(disk) =
        Mount::new("a_directory_that_cannot_be_written_is_a_clear_error_and_a_memory_cache")
    else {
        return;
    };
    let old = disk.path().join("old");
    put(&support::open(&old), 1, bytes(1, 100));
    disk.make_read_only();
    for path in [disk.path().join("new"), old] {
        let error = DiskStore::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        assert!(error.to_string().contains("writable"), "{error}");
        let cache = Cache::builder().open_or_memory(&path);
        builds(&cache, 5..7);
        let stats = cache.stats();
        assert!(stats.disk.is_none() && stats.degraded.is_some(), "{stats}");
        assert!(cache.get(&key(6)).is_some());
    }
}

#[test]
fn an_artifact_of_more_than_4_gib_is_served_whole() {
    if std::env::var_os("KEEPWARM_LARGE").is_none() {
        skip(
            "an_artifact_of_more_than_4_gib_is_served_whole",
            "set KEEPWARM_LARGE=1, with 9 GiB of memory and 5 GiB of disk free",
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = DiskStore::builder().byte_budget(6 << 30).open(dir.path());
    let store = wait(store.unwrap());
    let mut large = vec![0; (4 << 30) + 1];
    (large[0], large[4 << 30]) = (1, 2);
    put(&store, 1, large);
    let found = store.get(&key(1)).unwrap().unwrap().artifact;
    assert_eq!(found.len(), (4 << 30) + 1);
    assert_eq!((found[0], found[1], found[4 << 30]), (1, 0, 2));
}
