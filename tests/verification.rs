//! `DiskStore::verification` and `DiskStore::rebuild`: everything that is wrong is found and named,
//! repaired on request, and nothing sound is touched, also beside live writers.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Fault, Finding, Store, VerificationReport, Verify};
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use support::{bytes, files_in, get, key, open, put};

const FAULTS: [Fault; 9] = [
    Fault::Damaged,
    Fault::Missing,
    Fault::Unindexed,
    Fault::Dangling,
    Fault::Orphan,
    Fault::NoPack,
    Fault::Foreign,
    Fault::Totals,
    Fault::Unreadable,
];

/// (number, length): empty, inline, shared by 3 and 4, an object shared by 6 and 7.
const SET: &[(u64, usize)] = &[
    (0, 0),
    (1, 1),
    (2, 100),
    (3, 5000),
    (4, 5000),
    (5, 60_000),
    (6, 270_000),
    (7, 270_000),
    (8, 300_000),
];

fn content(n: u64, len: usize) -> Vec<u8> {
    let n = match n {
        4 => 3,
        7 => 6,
        n => n,
    };
    bytes(n, len)
}

fn populated() -> (tempfile::TempDir, DiskStore) {
    let dir = support::fast_dir();
    let store = open(dir.path());
    for (n, len) in SET {
        put(&store, *n, content(*n, *len));
    }
    store.flush().unwrap();
    (dir, store)
}

fn verify(store: &DiskStore, repair: bool) -> VerificationReport {
    store.verification().repair(repair).run().unwrap()
}

/// Exactly these faults, so often.
fn expect(report: &VerificationReport, faults: &[(Fault, u64)]) {
    for fault in FAULTS {
        let wanted = faults.iter().find(|(f, _)| *f == fault).map_or(0, |f| f.1);
        assert_eq!(report.count(fault), wanted, "{fault:?} in {report:?}");
    }
    assert_eq!(report.is_sound(), faults.is_empty());
}

fn keys_of(report: &VerificationReport, fault: Fault) -> Vec<keepwarm::Fingerprint> {
    let with = report.findings.iter().filter(|f| f.fault == fault);
    let mut keys: Vec<_> = with.filter_map(|f| f.key).collect();
    keys.sort_unstable();
    keys
}

fn sorted(numbers: &[u64]) -> Vec<keepwarm::Fingerprint> {
    let mut keys: Vec<_> = numbers.iter().map(|n| key(*n)).collect();
    keys.sort_unstable();
    keys
}

/// Repairs, sees that it then is sound and stays so, that `lost` are misses and the rest is right,
/// and that puts heal.
fn repair_and_check(dir: &Path, store: DiskStore, lost: &[u64]) {
    verify(&store, true);
    expect(&verify(&store, false), &[]);
    for (n, len) in SET {
        let wanted = (!lost.contains(n)).then(|| content(*n, *len));
        assert!(get(&store, *n) == wanted, "{n}");
    }
    for (n, len) in SET {
        put(&store, *n, content(*n, *len));
    }
    store.flush().unwrap();
    expect(&verify(&store, false), &[]);
    drop(store);
    let store = open(dir);
    for (n, len) in SET {
        assert!(get(&store, *n) == Some(content(*n, *len)), "{n}");
    }
    // What was lost is not brought back by a rebuild either, and nothing else is lost by it.
    store.rebuild().unwrap();
    expect(&verify(&store, false), &[]);
    assert_eq!(store.stats().entries, SET.len() as u64);
}

/// The only file that holds `needle`, and where in it.
fn find(dir: &Path, folder: &str, needle: &[u8]) -> (PathBuf, usize) {
    for path in files_in(dir, folder) {
        let content = fs::read(&path).unwrap();
        if let Some(at) = content.windows(needle.len()).position(|w| w == needle) {
            return (path, at);
        }
    }
    panic!("not on disk");
}

/// Writes into a file, aside and back by a rename.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    let aside = path.with_extension("aside");
    fs::write(&aside, content).unwrap();
    fs::rename(&aside, path).unwrap();
}

fn make_old(path: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    File::open(path).unwrap().set_modified(hour_ago).unwrap();
}

#[test]
fn a_healthy_directory_is_sound_and_all_of_it_is_seen() {
    let (_dir, store) = populated();
    let report = verify(&store, false);
    expect(&report, &[]);
    assert_eq!(report.entries, SET.len() as u64);
    let stored: usize = SET.iter().map(|(_, len)| len).sum();
    let shared = 5000 + 270_000;
    assert_eq!(report.bytes, (stored - shared) as u64);
    assert_eq!(report.packs_of_others, 0);
}

#[test]
fn a_lost_index_is_waited_for() {
    let (dir, store) = populated();
    drop(store);
    fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = DiskStore::open(dir.path()).unwrap();
    let report = verify(&store, false);
    expect(&report, &[]);
    assert_eq!(report.entries, SET.len() as u64);
}

#[test]
fn a_directory_that_is_only_read_is_verified_and_left_alone() {
    for lost in [false, true] {
        let (dir, store) = populated();
        drop(store);
        if lost {
            fs::remove_file(dir.path().join("v1/index")).unwrap();
        }
        let read_only = || {
            let builder = DiskStore::builder()
                .read_only(true)
                .verify(Verify::OncePerBoot);
            builder.open(dir.path()).unwrap()
        };
        let report = verify(&read_only(), false);
        expect(&report, &[]);
        assert_eq!(report.entries, SET.len() as u64);
        let (pack, at) = find(dir.path(), "packs", &content(3, 5000)[..64]);
        edit(&pack, |bytes| bytes[at + 4000] ^= 1);
        let (object, _) = find(dir.path(), "objects", &content(8, 300_000)[..64]);
        edit(&object, |bytes| bytes[5] ^= 1);
        let everything = || -> Vec<(PathBuf, Vec<u8>)> {
            let all = support::files(dir.path()).into_iter();
            all.map(|path| (path.clone(), fs::read(path).unwrap()))
                .collect()
        };
        let before = everything();
        let store = read_only();
        let report = verify(&store, false);
        expect(&report, &[(Fault::Damaged, 3)]);
        assert_eq!(keys_of(&report, Fault::Damaged), sorted(&[3, 4, 8]));
        // What cannot be repaired is an error, or said not to be.
        if let Ok(report) = store.verification().repair(true).run() {
            assert_eq!(report.repaired, 0);
        }
        assert!(store.rebuild().is_err());
        assert!(everything() == before);
    }
}

#[test]
fn replaced_removed_and_evicted_entries_leave_a_sound_directory() {
    let dir = support::fast_dir();
    let store = DiskStore::builder()
        .byte_budget(1 << 20)
        .open(dir.path())
        .unwrap();
    let store = support::wait(store);
    for round in 0..4_u64 {
        for n in 0..120 {
            let len = if n % 10 == 0 { 280_000 } else { 700 };
            put(&store, n, bytes(n / 2 + round, len));
            if n % 7 == 0 {
                store.remove(&key(n / 2)).unwrap();
            }
        }
        if round % 2 == 0 {
            store.flush().unwrap();
        }
        expect(&verify(&store, false), &[]);
    }
    assert!(store.stats().evictions > 0);
    expect(&verify(&store, true), &[]);
}

#[test]
fn a_damaged_small_artifact_is_found_with_all_its_keys_and_repaired() {
    let (dir, store) = populated();
    let (pack, at) = find(dir.path(), "packs", &content(3, 5000)[..64]);
    edit(&pack, |bytes| bytes[at + 4000] ^= 1);
    let report = verify(&store, false);
    expect(&report, &[(Fault::Damaged, 2)]);
    assert_eq!(keys_of(&report, Fault::Damaged), sorted(&[3, 4]));
    assert!(
        report
            .findings
            .iter()
            .all(|f| f.path.ends_with(pack.strip_prefix(dir.path()).unwrap()) && !f.repaired)
    );
    let report = verify(&store, true);
    assert!(report.findings.iter().all(|f| f.repaired), "{report:?}");
    assert_eq!(report.repaired, 2);
    repair_and_check(dir.path(), store, &[3, 4]);
}

#[test]
fn a_damaged_large_artifact_is_found_with_all_its_keys_and_repaired() {
    for change in [0, 1, 2] {
        let (dir, store) = populated();
        let (object, _) = find(dir.path(), "objects", &content(6, 270_000)[..64]);
        edit(&object, |bytes| match change {
            0 => bytes[269_999] ^= 0x80,
            1 => bytes.truncate(100),
            _ => bytes.push(0),
        });
        let report = verify(&store, false);
        expect(&report, &[(Fault::Damaged, 2)]);
        assert_eq!(keys_of(&report, Fault::Damaged), sorted(&[6, 7]));
        repair_and_check(dir.path(), store, &[6, 7]);
    }
}

#[test]
fn damage_is_found_and_repaired_under_every_policy() {
    for policy in [
        Verify::OnLoad,
        Verify::OncePerProcess,
        Verify::OncePerBoot,
        Verify::Never,
    ] {
        let (dir, store) = populated();
        drop(store);
        let store = DiskStore::builder()
            .verify(policy)
            .open(dir.path())
            .unwrap();
        for (n, len) in SET {
            assert!(get(&store, *n) == Some(content(*n, *len)));
        }
        let (pack, at) = find(dir.path(), "packs", &content(5, 60_000)[..64]);
        let (object, _) = find(dir.path(), "objects", &content(8, 300_000)[..64]);
        // In place, so that handles and what is remembered of them stay.
        let file = File::options().write(true).open(&pack).unwrap();
        support::write_at(&file, b"damaged", at as u64 + 100);
        edit(&object, |bytes| bytes[5] ^= 1);
        let report = verify(&store, true);
        expect(&report, &[(Fault::Damaged, 2)]);
        assert_eq!(
            keys_of(&report, Fault::Damaged),
            sorted(&[5, 8]),
            "{policy:?}"
        );
        repair_and_check(dir.path(), store, &[5, 8]);
    }
}

#[test]
fn a_damaged_name_of_a_namespace_is_found_and_repaired() {
    let (dir, store) = populated();
    let id = store.register_namespace("a driver of some kind").unwrap();
    store.flush().unwrap();
    expect(&verify(&store, false), &[]);
    let (pack, at) = find(dir.path(), "packs", b"a driver of some kind");
    edit(&pack, |bytes| bytes[at] ^= 1);
    expect(&verify(&store, false), &[(Fault::Damaged, 1)]);
    expect(&verify(&store, true), &[(Fault::Damaged, 1)]);
    assert_eq!(store.namespace_name(id).unwrap(), None);
    store.register_namespace("a driver of some kind").unwrap();
    assert!(store.namespace_name(id).unwrap().is_some());
    repair_and_check(dir.path(), store, &[]);
}

#[test]
fn a_lost_object_is_missing_for_each_of_its_keys() {
    let (dir, store) = populated();
    let (object, _) = find(dir.path(), "objects", &content(6, 270_000)[..64]);
    fs::remove_file(object).unwrap();
    let report = verify(&store, false);
    expect(&report, &[(Fault::Missing, 2)]);
    assert_eq!(keys_of(&report, Fault::Missing), sorted(&[6, 7]));
    repair_and_check(dir.path(), store, &[6, 7]);
}

#[test]
fn a_lost_pack_leaves_slots_that_lead_nowhere() {
    let (dir, store) = populated();
    drop(store);
    for pack in files_in(dir.path(), "packs") {
        fs::remove_file(pack).unwrap();
    }
    let store = open(dir.path());
    let report = verify(&store, false);
    // A slot for each key, and for each content.
    assert_eq!(report.count(Fault::Dangling), 9 + 7);
    assert_eq!((report.entries, report.count(Fault::Damaged)), (0, 0));
    repair_and_check(dir.path(), store, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn records_that_lost_their_slots_are_found_and_indexed_again() {
    for which in 0..3 {
        lose_slots(which);
    }
}

fn lose_slots(which: usize) {
    let (dir, store) = populated();
    // The content that 3 and 4 share is alive under 4 alone.
    store.remove(&key(3)).unwrap();
    put(&store, 3, content(3, 5000));
    // Every slot of the table, of every second bucket, or of contents alone.
    let path = dir.path().join("v1/index");
    let index = File::options().write(true).open(&path).unwrap();
    let table = fs::read(&path).unwrap();
    for bucket in 0..128 {
        for slot in 0..16 {
            let at = 4096 + bucket * 448 + slot * 4;
            let is_content = u32::from_ne_bytes(table[at..at + 4].try_into().unwrap()) >> 31 == 1;
            if [true, bucket % 2 == 0, is_content][which] {
                support::write_at(&index, &[0; 4], at as u64);
            }
        }
    }
    for object in files_in(dir.path(), "objects") {
        make_old(&object);
    }
    let report = verify(&store, false);
    let seen = report.count(Fault::Unindexed) + report.count(Fault::Missing);
    assert!(seen > 0, "{report:?}");
    assert_eq!(report.count(Fault::Totals), 1);
    repair_and_check(dir.path(), store, &[]);
}

#[test]
fn a_record_without_a_slot_does_not_come_back_over_a_newer_one() {
    let (dir, store) = populated();
    let index = dir.path().join("v1/index");
    let before = fs::read(&index).unwrap();
    // As a power cut may leave it: the record is there, its slot is not.
    put(&store, 2, bytes(1002, 100));
    put(&store, 50, bytes(50, 100));
    let file = File::options().write(true).open(&index).unwrap();
    support::write_at(&file, &before[4096..], 4096);
    assert_eq!(get(&store, 2), Some(content(2, 100)));
    put(&store, 2, bytes(2002, 100));
    store.flush().unwrap();
    assert_eq!(verify(&store, false).count(Fault::Unindexed), 2);
    let report = verify(&store, true);
    assert_eq!(
        report.count(Fault::Unindexed),
        1,
        "one rebuild sees to both: {report:?}"
    );
    assert_eq!(get(&store, 2), Some(bytes(2002, 100)));
    assert_eq!(get(&store, 50), Some(bytes(50, 100)));
    expect(&verify(&store, false), &[]);
    fs::remove_file(&index).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(get(&store, 2), Some(bytes(2002, 100)));
    assert_eq!(get(&store, 50), Some(bytes(50, 100)));
}

#[test]
fn old_orphans_are_unlinked_and_young_ones_are_left_alone() {
    let (dir, store) = populated();
    let orphan = |n: u64| {
        let content = bytes(n, 270_000);
        let name = keepwarm::Digest::of(&content).to_string();
        let folder = dir.path().join("v1/objects").join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(&name[2..]);
        fs::write(&path, content).unwrap();
        path
    };
    let (young, old) = (orphan(100), orphan(101));
    make_old(&old);
    let report = verify(&store, false);
    expect(&report, &[(Fault::Orphan, 1)]);
    assert!(
        report.findings[0]
            .path
            .ends_with(old.strip_prefix(dir.path()).unwrap())
    );
    expect(&verify(&store, true), &[(Fault::Orphan, 1)]);
    assert!(young.exists() && !old.exists());
    expect(&verify(&store, false), &[]);
}

#[test]
fn foreign_files_are_named_and_left_alone() {
    let (dir, store) = populated();
    let places = [
        "v1/letters",
        "v1/packs/README",
        "v1/objects/x",
        "v1/objects/ab/file",
    ];
    for place in places {
        let path = dir.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"mine").unwrap();
    }
    expect(&verify(&store, true), &[(Fault::Foreign, 4)]);
    for place in places {
        assert!(dir.path().join(place).exists(), "{place}");
    }
}

#[test]
fn a_pack_without_a_header_is_found_and_unlinked() {
    let (dir, store) = populated();
    let path = dir.path().join("v1/packs/000000abc");
    fs::write(&path, vec![7; 5000]).unwrap();
    expect(&verify(&store, false), &[(Fault::NoPack, 1)]);
    assert!(path.exists());
    expect(&verify(&store, true), &[(Fault::NoPack, 1)]);
    assert!(!path.exists());
    expect(&verify(&store, false), &[]);
}

#[test]
fn totals_that_lie_are_found_and_corrected() {
    let (dir, store) = populated();
    let index = File::options()
        .write(true)
        .open(dir.path().join("v1/index"))
        .unwrap();
    for word in [9_u64, 10, 11] {
        let before = store.stats();
        support::write_at(&index, &(1_u64 << 40).to_ne_bytes(), word * 8);
        expect(&verify(&store, false), &[(Fault::Totals, 1)]);
        expect(&verify(&store, true), &[(Fault::Totals, 1)]);
        expect(&verify(&store, false), &[]);
        assert_eq!(store.stats().entries, before.entries);
    }
}

#[test]
fn the_callback_hears_of_everything_and_can_put_an_end_to_it() {
    let (_dir, store) = populated();
    let mut last = keepwarm::VerificationProgress::default();
    let all = store
        .verification()
        .on_progress(|seen| {
            assert!(seen.bytes >= last.bytes && seen.entries >= last.entries);
            last = *seen;
            ControlFlow::Continue(())
        })
        .run()
        .unwrap();
    assert!(!all.cancelled);
    assert_eq!((last.entries, last.entries_total), (9, 9));
    assert!(
        last.bytes >= 370_000 && last.bytes_total >= 370_000,
        "{last:?}"
    );
    let mut calls = 0;
    let cut = store
        .verification()
        .on_progress(|_| {
            calls += 1;
            ControlFlow::Break(())
        })
        .run()
        .unwrap();
    assert!(cut.cancelled && !cut.is_sound());
    assert_eq!(calls, 1);
    assert!(cut.bytes < all.bytes);
}

#[test]
fn more_findings_than_a_report_lists_are_counted() {
    let dir = support::fast_dir();
    let store = open(dir.path());
    let folder = dir.path().join("v1/packs");
    for n in 0..1200 {
        fs::write(folder.join(format!("foreign {n}")), b"").unwrap();
    }
    let report = verify(&store, false);
    assert_eq!(
        (report.count(Fault::Foreign), report.findings.len()),
        (1200, 1000)
    );
}

#[test]
fn live_writers_are_not_reported_as_damage() {
    let dir = support::fast_dir();
    let stop = AtomicBool::new(false);
    let stop = &stop;
    std::thread::scope(|scope| {
        for writer in 0..3_u64 {
            let dir = dir.path();
            scope.spawn(move || {
                let store = DiskStore::builder().byte_budget(3 << 20).open(dir).unwrap();
                let mut round = writer;
                while !stop.load(Ordering::Relaxed) {
                    round += 3;
                    let n = round % 97;
                    let len = if n % 9 == 0 { 266_000 } else { 900 };
                    let _ = store.put(&key(n), bytes(round % 31, len).into()).unwrap();
                    match round % 41 {
                        0 => drop(store.remove(&key(round % 89)).unwrap()),
                        1 => store.flush().unwrap(),
                        _ => {}
                    }
                }
            });
        }
        // No assertion inside: a panic would leave the writers running.
        let seen = (|| {
            let store = DiskStore::builder().byte_budget(3 << 20).open(dir.path())?;
            let mut seen: Vec<Finding> = Vec::new();
            for i in 0..25 {
                seen.extend(store.verification().repair(i % 2 == 1).run()?.findings);
            }
            Ok::<_, keepwarm::Error>(seen)
        })();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(seen.unwrap(), []);
    });
    let store = open(dir.path());
    expect(&verify(&store, false), &[]);
    for n in 0..97 {
        if let Some(found) = get(&store, n) {
            let len = if n % 9 == 0 { 266_000 } else { 900 };
            assert!((0..31).any(|version| bytes(version, len) == found), "{n}");
        }
    }
}

#[cfg(unix)]
#[test]
fn what_may_not_be_read_is_reported_and_left_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, store) = populated();
    let (object, _) = find(dir.path(), "objects", &content(8, 300_000)[..64]);
    fs::set_permissions(&object, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&object).is_ok() {
        println!("!!! SKIPPED: this user may read everything");
        return;
    }
    expect(&verify(&store, true), &[(Fault::Unreadable, 1)]);
    fs::set_permissions(&object, fs::Permissions::from_mode(0o444)).unwrap();
    assert!(get(&store, 8) == Some(content(8, 300_000)));
}

#[test]
fn a_rebuild_on_request_keeps_everything_and_forgets_what_is_gone() {
    let (dir, store) = populated();
    for n in 0..500 {
        put(&store, 1000 + n, bytes(n, 50));
    }
    for n in 0..500 {
        if n % 2 == 0 {
            store.remove(&key(1000 + n)).unwrap();
        } else if n % 3 == 0 {
            put(&store, 1000 + n, bytes(n + 7000, 60));
        }
    }
    let entries = store.stats().entries;
    let other = open(dir.path());
    store.rebuild().unwrap();
    assert!(!store.is_rebuilding() && !other.is_rebuilding());
    for store in [&store, &other] {
        for n in 0..500 {
            let wanted = match n {
                n if n % 2 == 0 => None,
                n if n % 3 == 0 => Some(bytes(n + 7000, 60)),
                n => Some(bytes(n, 50)),
            };
            assert_eq!(get(store, 1000 + n), wanted, "{n}");
        }
        assert_eq!(store.stats().entries, entries);
    }
    expect(&verify(&other, false), &[]);
}

/// What was put under a small budget is a file of its own, and the same bytes may be in a pack as well.
#[test]
fn a_damaged_object_costs_nothing_that_has_the_same_bytes_inline() {
    for repair in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let large = open(dir.path());
        let small = DiskStore::builder()
            .byte_budget(1 << 20)
            .open(dir.path())
            .unwrap();
        let content = || bytes(1, 100_000);
        put(&large, 1, content());
        put(&small, 2, content());
        put(&large, 3, content());
        let objects = files_in(dir.path(), "objects");
        assert_eq!(objects.len(), 1, "one of them is an object");
        let mut damaged = fs::read(&objects[0]).unwrap();
        damaged[50_000] ^= 1;
        fs::remove_file(&objects[0]).unwrap();
        fs::write(&objects[0], damaged).unwrap();
        if repair {
            let report = large.verification().repair(true).run().unwrap();
            assert_eq!(report.count(Fault::Damaged), 1, "{report:?}");
        }
        assert_eq!(get(&large, 2), None);
        assert_eq!(get(&large, 1), Some(content()), "{repair}");
        assert_eq!(get(&large, 3), Some(content()), "{repair}");
        assert!(large.verification().run().unwrap().is_sound());
    }
}
