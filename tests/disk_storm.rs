//! Many processes and threads at once on one small directory, with kills: whatever is found under
//! a key is something that was put under this key, and what was acknowledged stays in order.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Store};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use support::{bytes, child, files_in, get, join, key, open, role, wait};

const KEYS: u64 = 60;
const BUDGET: u64 = 1 << 20;
const THREADS: u64 = 3;

/// The content of a key in a version: which of both it is can be read back. Some are equal for
/// two neighbouring keys but for nothing.
fn content(n: u64, version: u64) -> Vec<u8> {
    let len = match n % 6 {
        0 => 290_000,
        1 => 17,
        _ => 700 + usize::try_from(version % 5).unwrap() * 1000,
    };
    // Pairs of keys share their content.
    let mut out = bytes(n / 2 * 1000 + version % 7, len.max(16));
    out[..8].copy_from_slice(&(n / 2).to_le_bytes());
    out
}

fn check(n: u64, found: &[u8]) {
    let right = (0..35).any(|version| content(n, version) == found);
    assert!(right, "key {n}: {} foreign bytes", found.len());
}

fn store(dir: &Path) -> DiskStore {
    DiskStore::builder().byte_budget(BUDGET).open(dir).unwrap()
}

/// Random operations until `stop`.
fn storm(store: &DiskStore, seed: u64, stop: &AtomicBool, clears: bool) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 8) % below
    };
    while !stop.load(Ordering::Relaxed) {
        let n = random(KEYS);
        match random(100) {
            0..35 => {
                drop(store.put(&key(n), content(n, random(35)).into()).unwrap());
            }
            35..75 => {
                if let Some(entry) = store.get(&key(n)).unwrap() {
                    check(n, &entry.artifact);
                }
            }
            75..85 => drop(store.remove(&key(n)).unwrap()),
            85..90 => store.flush().unwrap(),
            90..98 => store.touch(&[key(n)]).unwrap(),
            98 if clears => store.clear().unwrap(),
            _ => drop(store.contains(&key(n)).unwrap()),
        }
    }
}

fn storm_for(dir: &Path, seed: u64, time: Duration, clears: bool) {
    let stop = AtomicBool::new(false);
    let (a, b) = (store(dir), store(dir));
    std::thread::scope(|scope| {
        for i in 0..THREADS {
            let handle = if i % 2 == 0 { &a } else { &b };
            let stop = &stop;
            scope.spawn(move || storm(handle, seed * 100 + i, stop, clears));
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
}

fn run_role() -> bool {
    let Some((role, dir)) = role() else {
        return false;
    };
    let mut words = role.split(' ');
    let mut next = || words.next().unwrap().parse::<u64>().unwrap();
    let (seed, millis, clears) = (next(), next(), next());
    storm_for(&dir, seed, Duration::from_millis(millis), clears == 1);
    true
}

/// Everything is in order once it is quiet: totals are what is there, and the budget holds.
fn check_at_rest(dir: &Path) {
    // An object that a killed process had published and not bound yet is removed by a sweep, once it
    // is so old that no process can be about to bind it.
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    // Who was killed in a clear, or before anything, leaves no folder.
    let is_there = dir.join("v1/objects").is_dir();
    let objects = is_there.then(|| files_in(dir, "objects"));
    for path in objects.into_iter().flatten() {
        let file = fs::File::open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let store = wait(store(dir));
    for n in 0..KEYS {
        if let Some(found) = get(&store, n) {
            check(n, &found);
        }
    }
    for n in 0..KEYS {
        drop(store.put(&key(n), content(n, n).into()).unwrap());
        assert!(get(&store, n) == Some(content(n, n)), "key {n}");
    }
    store.flush().unwrap();
    assert!(store.durability().survives_a_power_cut());
    let used: u64 = ["packs", "objects"]
        .iter()
        .flat_map(|folder| files_in(dir, folder))
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(used <= BUDGET * 5 / 4, "{used} bytes");
    let found: Vec<_> = (0..KEYS).map(|n| get(&store, n)).collect();
    drop(store);
    // The packs say the same as the index.
    fs::remove_file(dir.join("v1/index")).unwrap();
    let rebuilt = open(dir);
    for n in 0..KEYS {
        let before = &found[usize::try_from(n).unwrap()];
        assert!(get(&rebuilt, n) == *before, "key {n} after a rebuild");
    }
    let bound = (0..KEYS).filter(|n| get(&rebuilt, *n).is_some()).count() as u64;
    assert_eq!(rebuilt.stats().entries, bound);
}

fn millis() -> u64 {
    let given = std::env::var("KEEPWARM_STORM_MILLIS").ok();
    given.and_then(|millis| millis.parse().ok()).unwrap_or(700)
}

#[test]
fn many_processes_and_threads_at_once_never_see_foreign_bytes() {
    if run_role() {
        return;
    }
    let name = "many_processes_and_threads_at_once_never_see_foreign_bytes";
    for clears in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let children: Vec<_> = (1..4)
            .map(|seed| child(name, &format!("{seed} {} {clears}", millis()), dir.path()))
            .collect();
        children.into_iter().for_each(join);
        check_at_rest(dir.path());
    }
}

#[test]
fn killed_processes_leave_a_directory_that_serves() {
    if run_role() {
        return;
    }
    let name = "killed_processes_leave_a_directory_that_serves";
    let dir = tempfile::tempdir().unwrap();
    let end = Instant::now() + Duration::from_millis(millis());
    let mut seed = 1;
    while Instant::now() < end {
        let mut children: Vec<_> = (0..2)
            .map(|i| {
                child(
                    name,
                    &format!("{} 60000 {}", seed + i, seed % 2),
                    dir.path(),
                )
            })
            .collect();
        std::thread::sleep(Duration::from_millis(40 + seed * 37 % 110));
        for child in &mut children {
            child.kill().unwrap();
        }
        for mut child in children {
            child.wait().unwrap();
        }
        seed += 2;
    }
    check_at_rest(dir.path());
}

#[test]
fn an_index_that_is_deleted_under_load_loses_nothing_that_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let keep = |n: u64| bytes(n + 5000, 3000);
    {
        let store = open(dir.path());
        for n in 0..40 {
            drop(store.put(&key(n + 5000), keep(n).into()).unwrap());
        }
        store.flush().unwrap();
    }
    let stop = AtomicBool::new(false);
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (store, stop) = (&store, &stop);
            scope.spawn(move || storm(store, seed + 9, stop, false));
        }
        let end = Instant::now() + Duration::from_millis(millis());
        while Instant::now() < end {
            fs::remove_file(dir.path().join("v1/index")).ok();
            std::thread::sleep(Duration::from_millis(23));
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(store);
    let store = open(dir.path());
    for n in 0..40 {
        assert!(get(&store, n + 5000) == Some(keep(n)), "key {n} was lost");
    }
}
