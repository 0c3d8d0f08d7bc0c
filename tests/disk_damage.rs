//! Damage: whatever happened to the files, a get gives the right bytes or a miss, and the next put
//! heals.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Mapping, Store};
use std::fs;
use std::path::Path;
use support::{bytes, files, files_in, get, key, open, put, wait};

/// (number, length) of what a populated directory holds: shared, inline, objects, empty.
const SET: &[(u64, usize)] = &[
    (0, 0),
    (1, 1),
    (2, 100),
    (3, 5000),
    (4, 5000),
    (5, 60_000),
    (6, 270_000),
    (7, 300_000),
];

fn content(n: u64, len: usize) -> Vec<u8> {
    // 3 and 4 have equal bytes.
    bytes(if n == 4 { 3 } else { n }, len)
}

fn populate(dir: &Path) {
    let store = open(dir);
    for (n, len) in SET {
        put(&store, *n, content(*n, *len));
    }
    store.flush().unwrap();
}

/// Expects right bytes or misses from `store`, then puts everything and expects it back.
fn check_and_heal(store: &DiskStore, what: &str) -> usize {
    let mut hits = 0;
    for (n, len) in SET {
        if let Some(found) = get(store, *n) {
            assert!(found == content(*n, *len), "{what}: wrong bytes for {n}");
            hits += 1;
        }
        assert_eq!(get(store, 1000 + n), None, "{what}");
    }
    for (n, len) in SET {
        put(store, *n, content(*n, *len));
    }
    for (n, len) in SET {
        assert!(
            get(store, *n) == Some(content(*n, *len)),
            "{what}: {n} did not heal"
        );
    }
    store
        .flush()
        .unwrap_or_else(|e| panic!("{what}: flush says {e:?}"));
    hits
}

/// Damages every file of a populated directory in turn, with the store closed.
fn damage_each(what: &str, damage: &dyn Fn(&Path)) {
    let probe = support::fast_dir();
    populate(probe.path());
    for i in 0..files(probe.path()).len() {
        for mapping in [Mapping::Large, Mapping::Never] {
            let dir = support::fast_dir();
            populate(dir.path());
            let victim = files(dir.path())[i].clone();
            damage(&victim);
            let what = format!("{what} {} {mapping:?}", victim.display());
            let open = || {
                wait(
                    DiskStore::builder()
                        .mapping(mapping)
                        .open(dir.path())
                        .unwrap(),
                )
            };
            let store = open();
            check_and_heal(&store, &what);
            drop(store);
            assert_eq!(
                check_and_heal(&open(), &what),
                SET.len(),
                "{what}: a second open"
            );
        }
    }
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    replace(path, &content);
}

/// Puts another file in the place: nothing is changed under anybody's mapping.
fn replace(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn a_truncated_file_is_a_miss_or_right() {
    for part in [0, 1, 2, 7] {
        damage_each(&format!("truncated to {part}/8"), &|path| {
            rewrite(path, |content| content.truncate(content.len() * part / 8));
        });
    }
}

#[test]
fn an_extended_file_is_a_miss_or_right() {
    damage_each("extended", &|path| {
        rewrite(path, |content| content.extend([0x5a; 5000]));
    });
}

#[test]
fn a_zeroed_file_is_a_miss_or_right() {
    damage_each("zeroed", &|path| rewrite(path, |content| content.fill(0)));
    damage_each("half zeroed", &|path| {
        rewrite(path, |content| {
            let half = content.len() / 2;
            content[half..].fill(0);
        });
    });
}

#[test]
fn a_deleted_file_is_a_miss_or_right() {
    damage_each("deleted", &|path| fs::remove_file(path).unwrap());
}

#[test]
fn a_directory_in_the_place_of_a_file_is_a_miss_or_right() {
    damage_each("a directory", &|path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("in it"), b"x").unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_symlink_in_the_place_of_a_file_is_not_followed() {
    let outside = support::fast_dir();
    let victim = outside.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    damage_each("a symlink", &|path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(&victim, path).unwrap();
    });
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert_eq!(files(outside.path()).len(), 1);
}

#[cfg(unix)]
#[test]
fn a_symlink_in_the_place_of_a_folder_is_not_followed() {
    for folder in ["packs", "objects", "tmp", "builds", ""] {
        let dir = support::fast_dir();
        populate(dir.path());
        let outside = support::fast_dir();
        let path = dir.path().join("v1").join(folder);
        fs::remove_dir_all(&path).unwrap();
        std::os::unix::fs::symlink(outside.path(), path.to_str().unwrap().trim_end_matches('/'))
            .unwrap();
        // A clear error or a working cache, and nothing outside in either case.
        if let Ok(store) = DiskStore::open(dir.path()) {
            for (n, len) in SET {
                let _ = store.put(&key(*n), content(*n, *len).into());
                if let Ok(Some(found)) = store.get(&key(*n)) {
                    assert_eq!(found.artifact.as_slice(), content(*n, *len), "{folder}");
                }
            }
            let _ = store.flush();
            let _ = store.clear();
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{folder}");
    }
}

#[cfg(unix)]
#[test]
fn a_fifo_in_the_place_of_a_file_does_not_hang() {
    damage_each("a FIFO", &|path| {
        fs::remove_file(path).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(path)
            .status()
            .unwrap();
        assert!(made.success());
    });
}

#[test]
fn swapped_files_never_serve_each_others_bytes() {
    let probe = support::fast_dir();
    populate(probe.path());
    let count = files(probe.path()).len();
    for i in 0..count {
        for j in 0..i {
            let dir = support::fast_dir();
            populate(dir.path());
            let all = files(dir.path());
            let (a, b) = (fs::read(&all[i]).unwrap(), fs::read(&all[j]).unwrap());
            replace(&all[i], &b);
            replace(&all[j], &a);
            check_and_heal(
                &open(dir.path()),
                &format!("swapped {:?} {:?}", all[i], all[j]),
            );
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_a_miss_or_right() {
    let dir = support::fast_dir();
    populate(dir.path());
    let all = files(dir.path());
    let originals: Vec<_> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, original) in all.iter().zip(&originals) {
        // About 60 places a file, at the front more densely: headers, envelopes, slots.
        let mut at = 0_usize;
        while at < original.len() {
            let mut damaged = original.clone();
            damaged[at] ^= 1 << (at % 8);
            replace(path, &damaged);
            let store = open(dir.path());
            for (n, len) in SET {
                if let Some(found) = get(&store, *n) {
                    assert!(
                        found == content(*n, *len),
                        "{} byte {at}: {n}",
                        path.display()
                    );
                }
            }
            drop(store);
            // Back to how it was, whatever the store did about it.
            fs::remove_dir_all(dir.path().join("v1")).unwrap();
            for (path, original) in all.iter().zip(&originals) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, original).unwrap();
            }
            at += 1 + at / 12 + original.len() / 200;
        }
    }
}

#[cfg(unix)]
#[test]
fn a_flipped_bit_anywhere_in_the_table_of_the_index_is_a_miss_or_right() {
    let dir = support::fast_dir();
    populate(dir.path());
    let store = open(dir.path());
    let index = dir.path().join("v1/index");
    let original = fs::read(&index).unwrap();
    let file = fs::File::options().write(true).open(&index).unwrap();
    // In place, under the live store: a slot may be torn or stale at any time. Only places in use.
    let used = (4096..original.len()).filter(|at| original[*at] != 0);
    for at in used {
        for bit in [0, 3, 7] {
            let flipped = original[at] ^ 1 << bit;
            std::os::unix::fs::FileExt::write_all_at(&file, &[flipped], at as u64).unwrap();
            for (n, len) in SET {
                if let Some(found) = get(&store, *n) {
                    assert!(found == content(*n, *len), "byte {at} bit {bit}: {n}");
                }
            }
        }
        std::os::unix::fs::FileExt::write_all_at(&file, &original, 0).unwrap();
    }
    check_and_heal(&store, "flipped bits");
}

#[test]
fn foreign_files_in_every_folder_do_no_harm() {
    let dir = support::fast_dir();
    populate(dir.path());
    for folder in [
        "",
        "v1",
        "v1/packs",
        "v1/objects",
        "v1/objects/ab",
        "v1/tmp",
        "v1/builds",
    ] {
        let folder = dir.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        for name in [
            "README",
            "000000000",
            "ffffffffffff",
            ".hidden",
            "évil",
            "0",
            "index.bak",
        ] {
            fs::write(folder.join(name), b"foreign").unwrap();
        }
        fs::create_dir_all(folder.join("sub/dir")).unwrap();
    }
    let store = open(dir.path());
    assert_eq!(check_and_heal(&store, "foreign files"), SET.len());
    store.clear().unwrap();
    assert_eq!(check_and_heal(&store, "foreign files, cleared"), 0);
}

#[test]
fn a_lost_index_is_rebuilt_with_every_binding_and_none_that_is_gone() {
    let dir = support::fast_dir();
    let store = open(dir.path());
    for n in 0..2000 {
        put(&store, n, bytes(n % 500, 200));
    }
    for n in 0..50 {
        put(&store, 5000 + n, bytes(n % 10, 300_000));
    }
    for n in (0..2000).step_by(3) {
        store.remove(&key(n)).unwrap();
    }
    for n in (1..2000).step_by(3) {
        put(&store, n, bytes(n + 10_000, 100));
    }
    store.flush().unwrap();
    let check = |store: &DiskStore, what: &str| {
        for n in 0..2000 {
            let expected = match n % 3 {
                0 => None,
                1 => Some(bytes(n + 10_000, 100)),
                _ => Some(bytes(n % 500, 200)),
            };
            assert_eq!(get(store, n), expected, "{what}: {n}");
        }
        for n in 0..50 {
            assert_eq!(
                get(store, 5000 + n),
                Some(bytes(n % 10, 300_000)),
                "{what}: {n}"
            );
        }
    };
    check(&store, "before");
    let before = store.stats();
    drop(store);
    let index = dir.path().join("v1/index");
    fs::remove_file(&index).unwrap();
    let store = open(dir.path());
    check(&store, "deleted");
    assert_eq!(store.stats().entries, before.entries);
    // While it is in use: the next write notices.
    fs::remove_file(&index).unwrap();
    put(&store, 9999, bytes(1, 1));
    let store = wait(store);
    check(&store, "deleted in use");
    assert_eq!(get(&store, 9999), Some(bytes(1, 1)));
    drop(store);
    fs::write(&index, b"something else").unwrap();
    let store = open(dir.path());
    check(&store, "foreign");
    assert_eq!(store.stats().entries, before.entries + 1);
}

#[test]
fn a_removal_during_a_rebuild_stays_removed() {
    let dir = support::fast_dir();
    let store = open(dir.path());
    for n in 0..3000 {
        put(&store, n, bytes(n, 10));
    }
    drop(store);
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = DiskStore::open(dir.path()).unwrap();
    for n in 0..3000 {
        if n % 10 == 0 {
            assert!(store.remove(&key(n)).unwrap(), "{n}");
        } else if n % 10 == 1 {
            put(&store, n, bytes(n + 1, 11));
        }
    }
    let store = wait(store);
    for n in 0..3000 {
        let expected = match n % 10 {
            0 => None,
            1 => Some(bytes(n + 1, 11)),
            _ => Some(bytes(n, 10)),
        };
        assert_eq!(get(&store, n), expected, "{n}");
    }
}

#[test]
fn an_artifact_that_is_a_pack_or_an_index_binds_nothing() {
    let dir = support::fast_dir();
    let store = open(dir.path());
    for n in 0..20 {
        put(&store, n, bytes(n, 100));
    }
    store.flush().unwrap();
    let pack = fs::read(&files_in(dir.path(), "packs")[0]).unwrap();
    let index = fs::read(dir.path().join("v1/index")).unwrap();
    put(&store, 100, pack.clone());
    put(&store, 101, index.clone());
    for n in 0..20 {
        put(&store, n, bytes(n + 50, 100));
    }
    for n in 0..10 {
        store.remove(&key(n)).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path());
    assert_eq!(
        (get(&store, 100), get(&store, 101)),
        (Some(pack), Some(index))
    );
    for n in 0..20 {
        assert_eq!(get(&store, n), (n >= 10).then(|| bytes(n + 50, 100)), "{n}");
    }
}

#[test]
fn a_copied_directory_serves_what_arrived() {
    let dir = support::fast_dir();
    populate(dir.path());
    let copy = support::fast_dir();
    for path in files(dir.path()) {
        let to = copy.path().join(path.strip_prefix(dir.path()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&path, to).unwrap();
    }
    let store = open(copy.path());
    assert_eq!(check_and_heal(&store, "copied"), SET.len());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = support::fast_dir();
    populate(dir.path());
    let index = dir.path().join("v1/index");
    let mut content = fs::read(&index).unwrap();
    content[8] = 2;
    // The check covers the format; this is what a newer version would write.
    let check = blake3::hash(&content[..40]);
    content[40..48].copy_from_slice(&check.as_bytes()[..8]);
    replace(&index, &content);
    let error = DiskStore::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), keepwarm::ErrorKind::UnsupportedFormat);
    assert!(error.to_string().contains("newer"), "{error}");
    assert_eq!(fs::read(&index).unwrap(), content);
}
