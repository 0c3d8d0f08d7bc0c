//! An authenticated directory: whoever can write to it but lacks the secret cannot make a get return
//! anything that was not put with the secret, and processes with different secrets are safe beside
//! each other.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{
    Cache, DiskStore, ErrorKind, Fault, Fingerprint, Mapping, NamespaceId, Store, Verify,
};
use std::fs;
use std::path::{Path, PathBuf};
use support::{bytes, files_in, get, key, put, wait};

const SECRET: &str = "the victim's secret";
const OTHER: &str = "the forger's own secret";

/// (number, length): inline, shared by 3 and 4, objects, shared by 6 and 7.
const SET: &[(u64, usize)] = &[
    (1, 1),
    (2, 100),
    (3, 5000),
    (4, 5000),
    (5, 60_000),
    (6, 270_000),
    (7, 270_000),
    (8, 300_000),
];

/// What the victim puts under `n`; `version` 1 is newer.
fn content(n: u64, version: u64, len: usize) -> Vec<u8> {
    let n = match n {
        4 => 3,
        7 => 6,
        n => n,
    };
    bytes(n + 100 * version, len)
}

/// What a forger would like to be served: another thing of the same length.
fn forged(n: u64, len: usize) -> Vec<u8> {
    bytes(n + 900, len)
}

fn victim(dir: &Path) -> DiskStore {
    wait(DiskStore::builder().authenticate(SECRET).open(dir).unwrap())
}

/// The forger's handles: with another secret, and with none.
fn forger(dir: &Path, secret: Option<&str>) -> DiskStore {
    let builder = DiskStore::builder();
    let builder = match secret {
        Some(secret) => builder.authenticate(secret),
        None => builder,
    };
    wait(builder.open(dir).unwrap())
}

const FORGERS: [Option<&str>; 2] = [None, Some(OTHER)];

fn populate(store: &DiskStore) {
    for version in 0..2 {
        for (n, len) in SET {
            put(store, *n, content(*n, version, *len));
        }
        store.flush().unwrap();
    }
}

fn populate_forged(store: &DiskStore) {
    for (n, len) in SET {
        put(store, *n, forged(*n, *len));
    }
    store.flush().unwrap();
}

/// A directory of the forger's own. Made after the victim's, so that what is in it is newer.
fn forgery(secret: Option<&str>) -> tempfile::TempDir {
    let dir = support::fast_dir();
    populate_forged(&forger(dir.path(), secret));
    dir
}

/// Every get gives what the victim put under that key at some time, or nothing. Tells how many were
/// served at all, and how many of the newest version.
fn check(store: &DiskStore, what: &str) -> (usize, usize) {
    let (mut served, mut newest) = (0, 0);
    for (n, len) in SET {
        if let Some(found) = get(store, *n) {
            let is_new = found == content(*n, 1, *len);
            assert!(
                is_new || found == content(*n, 0, *len),
                "{what}: {n} was forged"
            );
            served += 1;
            newest += usize::from(is_new);
        }
        assert!(get(store, 50 + n).is_none(), "{what}: {n}");
    }
    (served, newest)
}

/// The victim's next puts make everything right again.
fn heal(store: &DiskStore, what: &str) {
    for (n, len) in SET {
        put(store, *n, content(*n, 1, *len));
    }
    assert_eq!(
        check(store, what),
        (SET.len(), SET.len()),
        "{what}: not healed"
    );
    store.flush().unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    for path in support::files(from) {
        let to = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::remove_file(&to).ok();
        fs::copy(path, to).unwrap();
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::remove_file(path).ok();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The offsets of everything in a pack that looks like an envelope.
fn envelopes(pack: &[u8]) -> Vec<usize> {
    (64..pack.len().saturating_sub(127))
        .step_by(64)
        .filter(|at| pack[*at..].starts_with(b"KWe1"))
        .collect()
}

fn digest_of(envelope: &[u8]) -> &[u8] {
    &envelope[48..80]
}

#[test]
fn what_is_put_with_a_secret_is_found_with_it_alone() {
    let dir = support::fast_dir();
    populate(&victim(dir.path()));
    let store = victim(dir.path());
    assert_eq!(check(&store, "reopened"), (SET.len(), SET.len()));
    for secret in FORGERS {
        let other = forger(dir.path(), secret);
        for (n, _) in SET {
            assert!(get(&other, *n).is_none());
            assert!(!other.contains(&key(*n)).unwrap());
            assert!(!other.remove(&key(*n)).unwrap());
        }
    }
    assert_eq!(check(&store, "looked at by others"), (SET.len(), SET.len()));
}

#[test]
fn a_forger_with_this_very_library_in_the_same_directory_forges_nothing() {
    for secret in FORGERS {
        for forger_first in [false, true] {
            let dir = support::fast_dir();
            if forger_first {
                populate_forged(&forger(dir.path(), secret));
            }
            let store = victim(dir.path());
            populate(&store);
            let other = forger(dir.path(), secret);
            populate_forged(&other);
            assert_eq!(check(&store, "beside a forger"), (SET.len(), SET.len()));
            for (n, len) in SET {
                assert_eq!(get(&other, *n), Some(forged(*n, *len)), "the other's own");
            }
            drop(other);
            drop(store);
            let store = victim(dir.path());
            assert_eq!(check(&store, "reopened"), (SET.len(), SET.len()));
            // Everything the library can do to others.
            let other = forger(dir.path(), secret);
            other.rebuild().unwrap();
            assert_eq!(check(&store, "rebuilt"), (SET.len(), SET.len()));
            let report = other.verification().repair(true).run().unwrap();
            assert!(
                report.is_sound() && report.packs_of_others > 0,
                "{report:?}"
            );
            assert_eq!(check(&store, "repaired"), (SET.len(), SET.len()));
            other.clear().unwrap();
            populate_forged(&other);
            assert_eq!(check(&store, "cleared").0, 0);
            heal(&store, "cleared");
        }
    }
}

#[test]
fn an_index_lost_and_rebuilt_by_a_process_without_the_secret_loses_nothing() {
    for secret in FORGERS {
        let dir = support::fast_dir();
        let store = victim(dir.path());
        populate(&store);
        store.remove(&key(2)).unwrap();
        drop(store);
        fs::remove_file(dir.path().join("v1/index")).unwrap();
        let other = forger(dir.path(), secret);
        populate_forged(&other);
        let store = victim(dir.path());
        assert_eq!(get(&store, 2), None, "it was removed");
        assert_eq!(check(&store, "rebuilt"), (SET.len() - 1, SET.len() - 1));
        heal(&store, "rebuilt");
        let report = store.verification().run().unwrap();
        assert!(report.is_sound(), "{report:?}");
    }
}

#[test]
fn transplanted_files_forge_nothing() {
    for secret in FORGERS {
        let parts: [&[&str]; 7] = [
            &["packs"],
            &["objects"],
            &["index"],
            &["packs", "index"],
            &["packs", "objects"],
            &["objects", "index"],
            &["packs", "objects", "index"],
        ];
        let cases = parts.iter().flat_map(|part| [(part, false), (part, true)]);
        let cases: Vec<_> = cases
            .map(|case| {
                let dir = support::fast_dir();
                populate(&victim(dir.path()));
                (dir, case)
            })
            .collect();
        let forgery = forgery(secret);
        for (dir, (part, keep)) in cases {
            for name in *part {
                let [from, to] = [&forgery, &dir].map(|dir| dir.path().join("v1").join(name));
                if from.is_file() {
                    write(&to, &fs::read(from).unwrap());
                    continue;
                }
                if !keep {
                    fs::remove_dir_all(&to).unwrap();
                    fs::create_dir(&to).unwrap();
                }
                copy_tree(&from, &to);
            }
            let what = format!("{part:?} of {secret:?}, kept {keep}");
            let store = victim(dir.path());
            check(&store, &what);
            heal(&store, &what);
        }
    }
}

#[test]
fn without_a_secret_the_same_transplant_is_served() {
    // The control: it is the secret that keeps the forger out, not this test.
    let dir = support::fast_dir();
    populate(&forger(dir.path(), None));
    let forgery = forgery(None);
    for folder in ["packs", "objects"] {
        copy_tree(
            &forgery.path().join("v1").join(folder),
            &dir.path().join("v1").join(folder),
        );
    }
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = forger(dir.path(), None);
    for (n, len) in SET {
        assert_eq!(get(&store, *n), Some(forged(*n, *len)), "{n}");
    }
}

/// The header of a pack with the key id of another one, as everybody can make it.
fn with_key_of(pack: &[u8], other: &[u8]) -> Vec<u8> {
    let mut pack = pack.to_vec();
    pack[32..48].copy_from_slice(&other[32..48]);
    let mut message = [0; 128];
    message[..48].copy_from_slice(&pack[..48]);
    message[104..120].copy_from_slice(&pack[16..32]);
    let public = blake3::derive_key("keepwarm 2026-11 envelope check v1", b"");
    let check = blake3::keyed_hash(&public, &message);
    pack[48..64].copy_from_slice(&check.as_bytes()[..16]);
    pack
}

#[test]
fn a_pack_that_claims_to_be_the_victims_is_believed_in_nothing() {
    for secret in FORGERS {
        let dir = support::fast_dir();
        populate(&victim(dir.path()));
        let forgery = forgery(secret);
        let own = fs::read(&files_in(dir.path(), "packs")[0]).unwrap();
        for path in files_in(forgery.path(), "packs") {
            let pack = with_key_of(&fs::read(&path).unwrap(), &own);
            write(
                &dir.path().join("v1/packs").join(path.file_name().unwrap()),
                &pack,
            );
        }
        copy_tree(
            &forgery.path().join("v1/objects"),
            &dir.path().join("v1/objects"),
        );
        // Found by a rebuild, and by the forger's own slots.
        for index in [None, Some(forgery.path().join("v1/index"))] {
            match index {
                None => fs::remove_file(dir.path().join("v1/index")).unwrap(),
                Some(index) => write(&dir.path().join("v1/index"), &fs::read(index).unwrap()),
            }
            let store = victim(dir.path());
            assert_eq!(check(&store, "a claim"), (SET.len(), SET.len()));
            heal(&store, "a claim");
        }
        // The victim may append to such a pack, and finds what it appended.
        let store = victim(dir.path());
        for n in 0..200 {
            put(&store, 1000 + n, bytes(n, 500));
        }
        for n in 0..200 {
            assert_eq!(get(&store, 1000 + n), Some(bytes(n, 500)));
        }
    }
}

/// Every pack of the victim, changed by `change`, then its index rebuilt, and once with the old one.
fn tamper(what: &str, change: &dyn Fn(&mut Vec<u8>)) {
    let original = support::fast_dir();
    populate(&victim(original.path()));
    for lose_index in [false, true] {
        let dir = support::fast_dir();
        copy_tree(original.path(), dir.path());
        for path in files_in(dir.path(), "packs") {
            let mut pack = fs::read(&path).unwrap();
            change(&mut pack);
            write(&path, &pack);
        }
        if lose_index {
            fs::remove_file(dir.path().join("v1/index")).unwrap();
        }
        let what = format!("{what}, index lost: {lose_index}");
        let store = victim(dir.path());
        check(&store, &what);
        heal(&store, &what);
    }
}

#[test]
fn single_envelopes_and_payloads_of_others_forge_nothing() {
    for secret in FORGERS {
        let forgery = forgery(secret);
        let forged: Vec<Vec<u8>> = files_in(forgery.path(), "packs")
            .iter()
            .map(|path| fs::read(path).unwrap())
            .collect();
        tamper("envelopes over the victim's", &|pack| {
            let mut theirs = forged.iter().flat_map(|pack| {
                envelopes(pack)
                    .into_iter()
                    .map(move |at| &pack[at..at + 128])
            });
            for at in envelopes(pack) {
                if let Some(envelope) = theirs.next() {
                    pack[at..at + 120].copy_from_slice(&envelope[..120]);
                }
            }
        });
        tamper("envelopes but for the check", &|pack| {
            let theirs = &forged[0];
            for (at, other) in envelopes(pack).into_iter().zip(envelopes(theirs)) {
                pack[at..at + 104].copy_from_slice(&theirs[other..other + 104]);
            }
        });
        tamper("payloads", &|pack| {
            let theirs = &forged[0];
            for (at, other) in envelopes(pack).into_iter().zip(envelopes(theirs)) {
                let n = (pack.len() - at - 128)
                    .min(theirs.len() - other - 128)
                    .min(4096);
                pack[at + 128..at + 128 + n].copy_from_slice(&theirs[other + 128..other + 128 + n]);
            }
        });
    }
}

#[test]
fn the_victims_own_envelopes_prove_nothing_anywhere_else() {
    tamper("each over the one before", &|pack| {
        let all = envelopes(pack);
        let first = pack[all[0]..all[0] + 128].to_vec();
        for pair in all.windows(2) {
            pack.copy_within(pair[1]..pair[1] + 128, pair[0]);
        }
        let last = *all.last().unwrap();
        pack[last..last + 128].copy_from_slice(&first);
    });
    tamper("another digest, generation or key", &|pack| {
        let all = envelopes(pack);
        for (i, at) in all.iter().enumerate() {
            let other = all[(i + 1) % all.len()];
            match i % 3 {
                0 => pack.copy_within(other + 48..other + 88, at + 48),
                1 => pack[at + 15] ^= 1,
                _ => pack.copy_within(other + 16..other + 48, at + 16),
            }
        }
    });
}

#[test]
fn flipped_life_words_bring_back_what_the_victim_put_and_nothing_else() {
    tamper("all alive", &|pack| {
        for at in envelopes(pack) {
            pack[at + 120..at + 128].copy_from_slice(b"LIVElive");
        }
    });
    tamper("all dead", &|pack| {
        for at in envelopes(pack) {
            pack[at + 120..at + 128].copy_from_slice(b"DEADdead");
        }
    });
    // What is documented: an older entry of the victim's own can be replayed, unless a dead one ends it.
    for (word, is_replayed) in [(b"PENDpend", true), (b"DEADdead", false)] {
        let dir = support::fast_dir();
        let store = victim(dir.path());
        populate(&store);
        drop(store);
        for path in files_in(dir.path(), "packs") {
            let mut pack = fs::read(&path).unwrap();
            for at in envelopes(&pack) {
                let is_new = SET.iter().any(|(n, len)| {
                    let digest = keepwarm::Digest::of(&content(*n, 1, *len));
                    digest_of(&pack[at..]) == digest.as_bytes()
                });
                let word = if is_new { word } else { b"LIVElive" };
                pack[at + 120..at + 128].copy_from_slice(word);
            }
            write(&path, &pack);
        }
        fs::remove_file(dir.path().join("v1/index")).unwrap();
        let store = victim(dir.path());
        let (served, newest) = check(&store, "replayed");
        assert_eq!((served > 0, newest), (is_replayed, 0), "{served}");
    }
}

#[test]
fn a_forged_object_is_a_miss() {
    let dir = support::fast_dir();
    let store = victim(dir.path());
    populate(&store);
    for path in files_in(dir.path(), "objects") {
        let len = usize::try_from(path.metadata().unwrap().len()).unwrap();
        write(&path, &forged(8, len));
    }
    let (served, _) = check(&store, "objects");
    assert_eq!(served, SET.len() - 3);
    assert!(store.stats().corrupt > 0);
    heal(&store, "objects");
}

#[test]
fn names_of_namespaces_are_authenticated() {
    for secret in FORGERS {
        let dir = support::fast_dir();
        let id = NamespaceId::of("driver 1");
        {
            let other = forger(dir.path(), secret);
            // Its id under another name cannot be made by this library; its own name can.
            other.register_namespace("driver 1").unwrap();
            assert!(other.namespace_name(id).unwrap().is_some());
        }
        let store = victim(dir.path());
        assert_eq!(store.namespace_name(id).unwrap(), None);
        assert_eq!(store.register_namespace("driver 1").unwrap(), id);
        assert_eq!(
            store.namespace_name(id).unwrap().as_deref(),
            Some("driver 1")
        );
        drop(store);
        // The bytes of the name on disk, changed in the victim's own record.
        for path in files_in(dir.path(), "packs") {
            let mut pack = fs::read(&path).unwrap();
            for at in 0..pack.len() - 8 {
                if pack[at..].starts_with(b"driver 1") {
                    pack[at..at + 8].copy_from_slice(b"driver 9");
                }
            }
            write(&path, &pack);
        }
        let store = victim(dir.path());
        assert_eq!(store.namespace_name(id).unwrap(), None);
    }
}

#[test]
fn artifacts_are_copied_and_verified_on_every_load_whatever_else_is_set() {
    let dir = support::fast_dir();
    populate(&victim(dir.path()));
    let store = DiskStore::builder()
        .authenticate(SECRET)
        .mapping(Mapping::Large)
        .verify(Verify::Never)
        .open(dir.path())
        .unwrap();
    for (n, _) in SET {
        let artifact = store.get(&key(*n)).unwrap().unwrap().artifact;
        assert!(!artifact.is_mapped());
        assert_eq!(artifact.path(), None);
        assert!(artifact.open().is_err());
    }
    for path in files_in(dir.path(), "objects") {
        let mut object = fs::read(&path).unwrap();
        object[77] ^= 1;
        write(&path, &object);
    }
    assert_eq!(check(&store, "damaged").0, SET.len() - 3);
    assert!(!dir.path().join("v1/verified").exists());
}

#[test]
fn the_secret_is_shown_nowhere_and_stored_nowhere() {
    let dir = support::fast_dir();
    let builder = DiskStore::builder().authenticate("hunter2hunter2");
    let cache = Cache::builder().authenticate("hunter2hunter2");
    assert!(!format!("{builder:?} {builder:#?} {cache:?}").contains("hunter2"));
    let store = builder.open(dir.path()).unwrap();
    put(&store, 1, bytes(1, 100));
    store.flush().unwrap();
    let derived = blake3::derive_key(
        "keepwarm 2026-11 envelope check from a secret v1",
        b"hunter2hunter2",
    );
    let shown = format!("{store:?} {store:#?}");
    assert!(!shown.contains("hunter2"));
    assert!(!shown.contains(&format!("{:?}", &derived[..8]).replace(['[', ']'], "")));
    for path in support::files(dir.path()) {
        let content = fs::read(path).unwrap();
        assert!(!content.windows(7).any(|part| part == b"hunter2"));
        assert!(
            !content
                .windows(16)
                .any(|part| part == &derived[..16] || part == &derived[16..])
        );
    }
}

#[test]
fn an_empty_secret_is_refused() {
    let dir = support::fast_dir();
    let path = dir.path().join("cache");
    let error = DiskStore::builder()
        .authenticate("")
        .open(&path)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let error = Cache::builder().authenticate([]).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(!path.exists());
    let cache = Cache::builder().authenticate("").open_or_memory(&path);
    assert!(cache.disk().is_none() && cache.stats().degraded.is_some());
}

#[test]
fn a_cache_takes_the_secret_to_its_directory() {
    let dir = support::fast_dir();
    let open = |secret: &str| {
        Cache::builder()
            .authenticate(secret)
            .open(dir.path())
            .unwrap()
    };
    let fingerprint = Fingerprint::from_bytes([7; 32]);
    let cache = open(SECRET);
    cache.put(&fingerprint, bytes(1, 1000));
    cache.close().unwrap();
    assert!(
        Cache::builder()
            .open(dir.path())
            .unwrap()
            .get(&fingerprint)
            .is_none()
    );
    assert!(open(OTHER).get(&fingerprint).is_none());
    assert_eq!(
        open(SECRET).get(&fingerprint).unwrap().to_vec(),
        bytes(1, 1000)
    );
}

#[test]
fn an_object_that_two_secrets_share_stays_as_long_as_one_needs_it() {
    let dir = support::fast_dir();
    let large = bytes(1, 400_000);
    let (one, two) = (victim(dir.path()), forger(dir.path(), None));
    put(&one, 1, large.clone());
    put(&two, 1, large.clone());
    assert_eq!(files_in(dir.path(), "objects").len(), 1);
    for (gone, left) in [(&one, &two), (&two, &one)] {
        gone.remove(&key(1)).unwrap();
        // More garbage than it takes for a pass to be worth it.
        for n in 0..40 {
            put(gone, 100 + n, bytes(n, 300_000));
            gone.remove(&key(100 + n)).unwrap();
        }
        assert_eq!(get(left, 1), Some(large.clone()));
        assert_eq!(get(gone, 1), None);
        put(gone, 1, large.clone());
    }
    for store in [&one, &two] {
        store.remove(&key(1)).unwrap();
    }
    for n in 0..40 {
        put(&two, 100 + n, bytes(n, 300_000));
        two.remove(&key(100 + n)).unwrap();
    }
    let left: Vec<PathBuf> = files_in(dir.path(), "objects")
        .into_iter()
        .filter(|path| fs::read(path).unwrap() == large)
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn a_rotated_secrets_entries_age_out_within_the_one_budget() {
    for (old, new) in [
        (Some(SECRET), Some(OTHER)),
        (None, Some(SECRET)),
        (Some(SECRET), None),
    ] {
        let dir = support::fast_dir();
        let open = |secret: Option<&str>| {
            let builder = DiskStore::builder().byte_budget(2 << 20);
            let builder = match secret {
                Some(secret) => builder.authenticate(secret),
                None => builder,
            };
            wait(builder.open(dir.path()).unwrap())
        };
        let before = open(old);
        for n in 0..60 {
            let len = if n % 6 == 0 { 100_000 } else { 3000 };
            put(&before, n, bytes(n, len));
        }
        before.flush().unwrap();
        drop(before);
        let packs_before = files_in(dir.path(), "packs");
        let after = open(new);
        for n in 0..400 {
            let len = if n % 6 == 0 { 100_000 } else { 3000 };
            put(&after, n, bytes(n + 5000, len));
            assert_eq!(get(&after, n), Some(bytes(n + 5000, len)), "{n}");
        }
        after.flush().unwrap();
        let files = |folder| {
            files_in(dir.path(), folder)
                .iter()
                .map(|p| p.metadata().unwrap().len())
                .sum::<u64>()
        };
        let used = files("packs") + files("objects");
        assert!(used <= (2 << 20) + 200_000, "{used} bytes");
        for pack in packs_before {
            assert!(!pack.exists(), "{} did not age out", pack.display());
        }
        let report = after.verification().run().unwrap();
        assert!(report.is_sound(), "{report:?}");
        let before = open(old);
        for n in 0..60 {
            assert_eq!(get(&before, n), None);
        }
    }
}

#[test]
fn an_evicted_entry_of_another_secret_does_not_come_back_as_an_older_one() {
    let dir = support::fast_dir();
    let small = |secret: &str| {
        let builder = DiskStore::builder()
            .byte_budget(1 << 20)
            .authenticate(secret);
        wait(builder.open(dir.path()).unwrap())
    };
    let one = small(SECRET);
    // Bound twice without a flush: the older record is still live.
    put(&one, 1, bytes(1, 2000));
    put(&one, 1, bytes(2, 2000));
    let two = small(OTHER);
    for n in 0..500 {
        put(&two, n, bytes(n, 5000));
    }
    assert_eq!(get(&one, 1), None);
    drop(one);
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    assert_eq!(get(&small(SECRET), 1), None);
}

#[test]
fn two_secrets_and_none_at_once_each_find_their_own() {
    let dir = support::fast_dir();
    let secrets = [None, Some(SECRET), Some(OTHER)];
    std::thread::scope(|scope| {
        for (i, secret) in secrets.into_iter().enumerate() {
            let dir = dir.path();
            scope.spawn(move || {
                let mine = 10_000 * (i as u64 + 1);
                let builder = DiskStore::builder().byte_budget(4 << 20);
                let builder = match secret {
                    Some(secret) => builder.authenticate(secret),
                    None => builder,
                };
                let store = builder.open(dir).unwrap();
                for round in 0..1500_u64 {
                    let n = round * 7 % 101;
                    let len = if n % 10 == 0 { 70_000 } else { 1200 };
                    match round % 23 {
                        3 => drop(store.remove(&key(n)).unwrap()),
                        5 if round % 5 == 0 => store.flush().unwrap(),
                        7 if round % 7 == 0 => store.rebuild().unwrap(),
                        _ if round % 2 == 0 => put(&store, n, bytes(mine + n, len)),
                        _ => {
                            if let Some(found) = get(&store, n) {
                                assert!(found == bytes(mine + n, len), "{secret:?} {n}");
                            }
                        }
                    }
                }
                store.flush().unwrap();
            });
        }
    });
    for secret in secrets {
        let store = forger(dir.path(), secret);
        let report = store.verification().run().unwrap();
        assert_eq!(
            report.count(Fault::Damaged) + report.count(Fault::Missing),
            0,
            "{report:?}"
        );
        assert!(report.is_sound(), "{report:?}");
    }
}

#[test]
fn space_that_only_another_secret_can_free_counts_in_the_budget() {
    let dir = support::fast_dir();
    // A roomy budget: nothing is emptied for what is removed.
    let one = victim(dir.path());
    for n in 0..170 {
        put(&one, n, bytes(n, 3000));
    }
    let kept: Vec<Fingerprint> = (0..170).step_by(4).map(key).collect();
    for n in (0..170).filter(|n| n % 4 != 0) {
        one.remove(&key(n)).unwrap();
    }
    one.flush().unwrap();
    let budget = 1 << 20;
    let two = wait(
        DiskStore::builder()
            .byte_budget(budget)
            .open(dir.path())
            .unwrap(),
    );
    for n in 0..600 {
        // What is left of it is used all the time, so it is not what goes.
        if n % 5 == 0 {
            one.touch(&kept).unwrap();
        }
        put(&two, n, bytes(n + 5000, 3000));
        let lengths = files_in(dir.path(), "packs")
            .into_iter()
            .map(|path| path.metadata().unwrap().len());
        let used: u64 = lengths.sum();
        assert!(used <= budget + (64 << 10), "{used} bytes after {n}");
    }
    for n in (0..170).step_by(4) {
        assert_eq!(get(&one, n), Some(bytes(n, 3000)), "{n}");
    }
}

#[test]
fn a_secret_also_opens_a_directory_that_is_only_read() {
    let dir = support::fast_dir();
    populate(&victim(dir.path()));
    populate_forged(&forger(dir.path(), None));
    for lost in [false, true] {
        if lost {
            fs::remove_file(dir.path().join("v1/index")).unwrap();
        }
        let open =
            |builder: keepwarm::DiskStoreBuilder| builder.read_only(true).open(dir.path()).unwrap();
        let ours = open(DiskStore::builder().authenticate(SECRET));
        assert_eq!(check(&ours, "read only"), (SET.len(), SET.len()), "{lost}");
        let report = ours.verification().run().unwrap();
        assert!(
            report.is_sound() && report.packs_of_others > 0,
            "{lost}: {report:?}"
        );
        let theirs = open(DiskStore::builder());
        for (n, len) in SET {
            assert_eq!(get(&theirs, *n), Some(forged(*n, *len)), "{lost}: {n}");
        }
        let other = open(DiskStore::builder().authenticate(OTHER));
        assert_eq!(check(&other, "another secret").0, 0, "{lost}");
    }
}
