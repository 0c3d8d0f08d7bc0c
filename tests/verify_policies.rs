//! How often artifacts are verified: what every policy finds, what it no longer looks at, and that
//! what was found damaged is not served again and heals with the next put.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Artifact, Cache, Digest, DiskStore, Mapping, Store, Verify};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use support::{bytes, files_in, get, key, put, wait};

const POLICIES: [Verify; 4] = [
    Verify::OnLoad,
    Verify::OncePerProcess,
    Verify::OncePerBoot,
    Verify::Never,
];

/// An inline artifact, two keys that share one, a read object and a mapped one.
const SET: &[(u64, usize)] = &[(1, 3000), (2, 5000), (3, 5000), (4, 270_000), (5, 400_000)];

fn content(n: u64, len: usize) -> Vec<u8> {
    bytes(if n == 3 { 2 } else { n }, len)
}

fn open(dir: &Path, verify: Verify) -> DiskStore {
    wait(DiskStore::builder().verify(verify).open(dir).unwrap())
}

fn populated() -> tempfile::TempDir {
    let dir = support::fast_dir();
    let store = open(dir.path(), Verify::OnLoad);
    for (n, len) in SET {
        put(&store, *n, content(*n, *len));
    }
    store.flush().unwrap();
    dir
}

fn expect_all(store: &DiskStore, what: &str) {
    for (n, len) in SET {
        assert!(get(store, *n) == Some(content(*n, *len)), "{what}: {n}");
    }
}

fn heal(store: &DiskStore, what: &str) {
    for (n, len) in SET {
        put(store, *n, content(*n, *len));
    }
    expect_all(store, what);
    expect_all(store, what);
    store.flush().unwrap();
}

/// The file that holds an artifact, and where in it.
fn place(dir: &Path, n: u64, len: usize) -> (PathBuf, u64) {
    let needle = &content(n, len)[..64];
    for path in files_in(dir, "packs")
        .into_iter()
        .chain(files_in(dir, "objects"))
    {
        let content = fs::read(&path).unwrap();
        if let Some(at) = content.windows(64).position(|part| part == needle) {
            return (path, at as u64);
        }
    }
    panic!("{n} is not on disk");
}

/// Changes one byte of an artifact in its file, in place.
fn damage(dir: &Path, n: u64, len: usize) {
    let (path, at) = place(dir, n, len);
    let byte = content(n, len)[len - 1] ^ 1;
    in_place(&path, |file| {
        support::write_at(file, &[byte], at + len as u64 - 1);
    });
}

/// Opens a file for writing whatever its mode.
fn in_place(path: &Path, change: impl FnOnce(&File)) {
    let before = fs::metadata(path).unwrap().permissions();
    let mut writable = before.clone();
    #[cfg(unix)]
    std::os::unix::fs::PermissionsExt::set_mode(&mut writable, 0o600);
    fs::set_permissions(path, writable).unwrap();
    change(&File::options().write(true).open(path).unwrap());
    fs::set_permissions(path, before).unwrap();
}

/// Makes the times of all files so old that a change would show.
fn wait_until_settled() {
    std::thread::sleep(Duration::from_millis(2200));
}

#[test]
fn damage_is_not_served_and_heals_under_every_policy_that_looks() {
    for policy in POLICIES {
        for (n, len) in SET {
            let dir = populated();
            damage(dir.path(), *n, *len);
            let store = open(dir.path(), policy);
            let what = format!("{policy:?}, {n}");
            let hurt = |m: u64| content(m, 5000) == content(*n, 5000) || m == *n;
            for _ in 0..2 {
                for (m, len) in SET {
                    let found = get(&store, *m);
                    if policy == Verify::Never {
                        assert_eq!(found.unwrap().len(), *len, "{what}: {m}");
                    } else {
                        let wanted = (!hurt(*m)).then(|| content(*m, *len));
                        assert!(found == wanted, "{what}: {m}");
                    }
                }
            }
            let stats = store.stats();
            assert_eq!(stats.corrupt > 0, policy != Verify::Never, "{what}");
            heal(&store, &what);
            drop(store);
            expect_all(&open(dir.path(), Verify::OnLoad), &what);
        }
    }
}

#[test]
fn a_wrong_length_is_found_under_every_policy() {
    for policy in POLICIES {
        for change in [-1, 1] {
            let dir = populated();
            for (n, len) in [(4, 270_000_u64), (5, 400_000)] {
                let (path, _) = place(dir.path(), n, usize::try_from(len).unwrap());
                in_place(&path, |file| {
                    file.set_len(len.saturating_add_signed(change)).unwrap();
                });
            }
            let store = open(dir.path(), policy);
            assert_eq!(get(&store, 4), None, "{policy:?}");
            assert_eq!(get(&store, 5), None, "{policy:?}");
            assert!(store.stats().corrupt > 0);
            heal(&store, &format!("{policy:?}"));
        }
    }
}

#[test]
fn damaged_envelopes_are_no_answer_under_any_policy() {
    for policy in POLICIES {
        let dir = populated();
        for path in files_in(dir.path(), "packs") {
            let pack = fs::read(&path).unwrap();
            let envelopes = (64..pack.len())
                .step_by(64)
                .filter(|at| pack[*at..].starts_with(b"KWe1"));
            // Key, digest, length, check.
            for (i, at) in envelopes.enumerate() {
                let offset = at + [20, 60, 81, 110][i % 4];
                in_place(&path, |file| {
                    support::write_at(file, &[pack[offset] ^ 1], offset as u64);
                });
            }
        }
        let store = open(dir.path(), policy);
        for (n, _) in SET {
            assert_eq!(get(&store, *n), None, "{policy:?}: {n}");
        }
        heal(&store, &format!("{policy:?}"));
    }
}

#[test]
fn what_is_known_to_be_whole_is_not_hashed_again() {
    // A small artifact that is damaged in place after it was loaded shows who still looks. This is
    // what the policies say they give up.
    for policy in POLICIES {
        let dir = populated();
        let store = open(dir.path(), policy);
        expect_all(&store, "before");
        damage(dir.path(), 1, 3000);
        let is_found = policy == Verify::OnLoad;
        assert_eq!(get(&store, 1).is_none(), is_found, "{policy:?}");
        // Another store has seen nothing yet.
        let other = open(dir.path(), policy);
        assert_eq!(
            get(&other, 1).is_none(),
            policy != Verify::Never,
            "{policy:?}"
        );
        // It ended the binding; whoever put it again finds it whole, at another place.
        if policy != Verify::Never {
            assert_eq!(get(&store, 1), None, "{policy:?}");
        }
        heal(&store, &format!("{policy:?}"));
        expect_all(&other, "after");
    }
}

#[cfg(unix)]
#[test]
fn a_large_artifact_that_was_changed_after_it_was_verified_is_hashed_again() {
    let dirs: Vec<_> = (0..6).map(|_| populated()).collect();
    wait_until_settled();
    for (i, dir) in dirs.iter().enumerate() {
        let policy = [Verify::OncePerProcess, Verify::OncePerBoot][i % 2];
        let store = open(dir.path(), policy);
        expect_all(&store, "before");
        expect_all(&store, "again");
        let (path, _) = place(dir.path(), 5, 400_000);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        match i / 2 {
            // In place; even with its time put back.
            0 => damage(dir.path(), 5, 400_000),
            1 => {
                damage(dir.path(), 5, 400_000);
                File::open(&path).unwrap().set_modified(modified).unwrap();
            }
            // Another file in its place, as old as the first.
            _ => {
                let mut content = fs::read(&path).unwrap();
                content[9] ^= 1;
                fs::remove_file(&path).unwrap();
                fs::write(&path, content).unwrap();
                File::open(&path).unwrap().set_modified(modified).unwrap();
            }
        }
        assert_eq!(get(&store, 5), None, "{policy:?}, {i}");
        assert_eq!(store.stats().corrupt, 1);
        heal(&store, &format!("{policy:?}, {i}"));
    }
}

/// A stamp as `docs/format.md` has it, without this library.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn stamp(path: &Path, digest: &Digest) -> [u8; 16] {
    use std::os::unix::fs::MetadataExt as _;
    let check = blake3::derive_key("keepwarm 2026-11 envelope check v1", b"");
    let key = blake3::derive_key("keepwarm 2026-11 stamp of a verified object v1", &check);
    let meta = fs::metadata(path).unwrap();
    let mut hasher = blake3::Hasher::new_keyed(&key);
    for number in [meta.dev(), meta.ino(), meta.size()] {
        hasher.update(&number.to_le_bytes());
    }
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    hasher.update(&nanos(meta.mtime(), meta.mtime_nsec()).to_le_bytes());
    hasher.update(&nanos(meta.ctime(), meta.ctime_nsec()).to_le_bytes());
    hasher.update(digest.as_bytes());
    hasher.update(&fs::read("/proc/sys/kernel/random/boot_id").unwrap());
    hasher.finalize().as_bytes()[..16].try_into().unwrap()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn has_stamp(dir: &Path, stamp: [u8; 16]) -> bool {
    let stamps = fs::read(dir.join("v1/verified")).unwrap_or_default();
    let at = usize::from(u16::from_le_bytes([stamp[0], stamp[1]])) * 16;
    stamps.get(at..at + 16) == Some(&stamp)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn stamps_outlive_the_store_and_are_written_only_by_the_policy_that_uses_them() {
    let dir = populated();
    let (path, _) = place(dir.path(), 5, 400_000);
    let digest = Digest::of(&content(5, 400_000));
    wait_until_settled();
    for policy in [Verify::OnLoad, Verify::OncePerProcess, Verify::Never] {
        expect_all(&open(dir.path(), policy), "others");
        assert!(!dir.path().join("v1/verified").exists(), "{policy:?}");
    }
    let stamp = stamp(&path, &digest);
    expect_all(&open(dir.path(), Verify::OncePerBoot), "first");
    assert!(has_stamp(dir.path(), stamp));
    assert!(dir.path().join("v1/verified").metadata().unwrap().len() <= 1 << 20);
    expect_all(&open(dir.path(), Verify::OncePerBoot), "second");
    let report = open(dir.path(), Verify::OncePerBoot)
        .verification()
        .run()
        .unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn a_stamp_saves_the_hash_of_exactly_the_file_it_is_of() {
    // Who can write to the directory can vouch for a damaged file, which shows that the stamp is
    // what decides; one of another file, digest or time does not.
    let dir = populated();
    damage(dir.path(), 5, 400_000);
    let other = place(dir.path(), 4, 270_000).0;
    let path = files_in(dir.path(), "objects")
        .into_iter()
        .find(|path| *path != other)
        .unwrap();
    let digest = Digest::of(&content(5, 400_000));
    let right = stamp(&path, &digest);
    let write = |stamp: [u8; 16]| {
        let at = usize::from(u16::from_le_bytes([stamp[0], stamp[1]])) * 16;
        let mut stamps = vec![0; 1 << 20];
        stamps[at..at + 16].copy_from_slice(&stamp);
        fs::write(dir.path().join("v1/verified"), stamps).unwrap();
    };
    write(right);
    let artifact = |verify| -> Option<Artifact> {
        let found = open(dir.path(), verify).get(&key(5)).unwrap();
        found.map(|entry| entry.artifact)
    };
    let served = artifact(Verify::OncePerBoot).unwrap();
    assert!(served.as_slice() != content(5, 400_000));
    // It says of itself what it is, so nothing damaged takes another's name.
    assert_ne!(served.digest(), digest);
    let mut torn = right;
    torn[15] ^= 1;
    for wrong in [
        stamp(&other, &digest),
        stamp(&path, &Digest::of(b"other")),
        torn,
    ] {
        write(wrong);
        assert!(artifact(Verify::OncePerBoot).is_none());
        let store = open(dir.path(), Verify::OnLoad);
        put(&store, 5, content(5, 400_000));
        damage(dir.path(), 5, 400_000);
    }
}

#[test]
fn whatever_is_in_the_file_of_stamps_only_costs_a_hash() {
    let hostile: [&dyn Fn(&Path); 6] = [
        &|path| fs::write(path, b"").unwrap(),
        &|path| fs::write(path, vec![0xff; 1 << 20]).unwrap(),
        &|path| fs::write(path, bytes(1, 777)).unwrap(),
        &|path| File::create(path).unwrap().set_len(1 << 40).unwrap(),
        &|path| fs::create_dir(path).unwrap(),
        &|path| {
            #[cfg(unix)]
            std::os::unix::fs::symlink("/dev/zero", path).unwrap();
            #[cfg(not(unix))]
            fs::write(path, b"x").unwrap();
        },
    ];
    for (i, make) in hostile.iter().enumerate() {
        let dir = populated();
        damage(dir.path(), 4, 270_000);
        make(&dir.path().join("v1/verified"));
        let store = open(dir.path(), Verify::OncePerBoot);
        assert_eq!(get(&store, 4), None, "{i}");
        assert!(get(&store, 5) == Some(content(5, 400_000)), "{i}");
        heal(&store, &format!("stamps {i}"));
    }
}

#[test]
fn a_file_that_may_still_change_unseen_gets_no_stamp() {
    let dir = populated();
    // As young as can be, whatever time this test takes.
    for path in files_in(dir.path(), "objects") {
        let soon = SystemTime::now() + Duration::from_secs(3600);
        File::open(path).unwrap().set_modified(soon).unwrap();
    }
    for policy in [Verify::OncePerBoot, Verify::OncePerProcess] {
        expect_all(&open(dir.path(), policy), "young");
        let stamps = fs::read(dir.path().join("v1/verified")).unwrap_or_default();
        assert!(stamps.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn never_serves_what_is_there_and_says_what_it_is() {
    let dir = populated();
    for (n, len) in [(1, 3000), (4, 270_000), (5, 400_000)] {
        damage(dir.path(), n, len);
    }
    for mapping in [Mapping::Large, Mapping::IndexOnly, Mapping::Never] {
        let store = DiskStore::builder()
            .verify(Verify::Never)
            .mapping(mapping)
            .open(dir.path())
            .unwrap();
        for (n, len) in [(1, 3000), (4, 270_000), (5, 400_000)] {
            let artifact = store.get(&key(n)).unwrap().unwrap().artifact;
            let mut wanted = content(n, len);
            wanted[len - 1] ^= 1;
            assert!(artifact.as_slice() == wanted, "{mapping:?}: {n}");
            assert_eq!(artifact.digest(), Digest::of(&wanted));
        }
        assert_eq!(store.stats().corrupt, 0);
    }
}

#[test]
fn a_cache_takes_the_policy_to_its_directory() {
    let dir = populated();
    damage(dir.path(), 4, 270_000);
    let get = |verify| {
        let cache = Cache::builder().verify(verify).open(dir.path()).unwrap();
        cache.get(&key(4)).map(|artifact| artifact.len())
    };
    assert_eq!(get(Verify::Never), Some(270_000));
    assert_eq!(get(Verify::OnLoad), None);
}
