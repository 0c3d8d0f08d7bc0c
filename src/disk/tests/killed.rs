//! Processes that are killed at any call, again and again in one directory, without losing what the
//! system has: a handle all of whose calls fail from one on is dead to the directory.
//!
//! `KEEPWARM_KILLS=10000` kills so many.

use crate::disk::DiskStore;
use crate::disk::envelope::Envelope;
use crate::disk::pack::list;
use crate::disk::trial::fast_dir;
use crate::store::Store;
use crate::sys::crash::Rng;
use crate::sys::fault::{ANY, Fault, FaultFs, Plan, When};
use crate::{Artifact, Fingerprint};
use std::path::Path;
use std::sync::Arc;

const KEYS: usize = 40;
const PROCESSES: usize = 3;
const EIO: i32 = 5;

fn key(n: usize) -> Fingerprint {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    Fingerprint::from_bytes(bytes)
}

/// Half of the keys share their bytes in equal generations.
fn bytes(n: usize, generation: u64) -> Vec<u8> {
    let class = if n % 4 < 2 { n } else { 1000 + n / 8 };
    let mut rng = Rng(generation.wrapping_mul(1_000_003) ^ (class as u64) << 40);
    let len = match rng.below(10) {
        0..=5 => 40 + rng.below(2_000),
        6..=8 => 40 + rng.below(30_000),
        _ => 66_000 + rng.below(100_000),
    };
    let mut bytes = vec![0; len];
    bytes[..8].copy_from_slice(&generation.to_le_bytes());
    bytes[8..16].copy_from_slice(&class.to_le_bytes());
    bytes
}

fn generation_of(n: usize, found: Option<&Artifact>) -> Option<u64> {
    let found = found?.as_slice();
    let generation = u64::from_le_bytes(found[..8].try_into().unwrap());
    assert!(found == bytes(n, generation), "key {n}: wrong bytes");
    Some(generation)
}

/// What is known of a key: what must not be older, whether it must be there, what may be.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    floor: u64,
    must_exist: bool,
    highest: u64,
}

struct Process {
    store: DiskStore,
    plan: Arc<Plan>,
    is_dead: bool,
}

fn open(root: &Path) -> Process {
    let plan = Arc::new(Plan::default());
    let builder = DiskStore::builder().byte_budget(4 << 20);
    let store = builder.open_with(root.to_path_buf(), Arc::new(FaultFs::real(&plan)));
    let (store, is_dead) = (store.unwrap(), false);
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    Process {
        store,
        plan,
        is_dead,
    }
}

fn step(process: &mut Process, id: usize, known: &mut [Known], (rng, next): (&mut Rng, &mut u64)) {
    let own = rng.below(KEYS / PROCESSES) * PROCESSES + id;
    match rng.below(20) {
        0..=9 => {
            *next += 1;
            known[own].highest = *next;
            let is_put = process
                .store
                .put(&key(own), bytes(own, *next).into())
                .is_ok();
            if is_put {
                known[own].floor = *next;
            }
            known[own].must_exist = is_put;
            process.is_dead |= !is_put;
        }
        10 => {
            known[own].must_exist = false;
            match process.store.remove(&key(own)) {
                Ok(_) => known[own].floor = known[own].highest + 1,
                Err(_) => process.is_dead = true,
            }
        }
        11 => process.is_dead |= process.store.flush().is_err(),
        12..=13 => {
            let found = process.store.inner.index();
            let mut packs = Vec::new();
            let each = found.for_each(|_, slot| packs.push(slot.place.pack()));
            if each.is_ok() && !packs.is_empty() {
                let pack = packs[rng.below(packs.len())];
                process.is_dead |= process.store.inner.empty_pack(pack).is_err();
            }
            process.is_dead |= process.store.inner.remove_dead_contents().is_err();
        }
        _ => {
            let n = rng.below(KEYS);
            process.is_dead |= process.store.get(&key(n)).is_err();
        }
    }
}

/// Every record of a key: its pack and offset, its number, and its life word.
fn records(store: &DiskStore, n: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (number, _) in list(&store.inner.files).unwrap() {
        let pack = store.inner.pack(number).unwrap().unwrap();
        let each = |offset, envelope: Envelope, life| {
            if envelope.key == key(n) {
                let number = envelope.generation;
                let kind = envelope.kind;
                found.push(format!(
                    "{number} in {:?} at {offset}: {kind:?}, {life:?}",
                    pack.number
                ));
            }
        };
        pack.walk(store.inner.check(), each).unwrap();
    }
    found.sort();
    found.push(format!("{:?}", store.stats()));
    found
}

fn check(root: &Path, known: &mut [Known], context: &str) {
    let process = open(root);
    for (n, known) in known.iter_mut().enumerate() {
        let found = process.store.get(&key(n)).unwrap();
        let found = generation_of(n, found.as_ref().map(|entry| &entry.artifact));
        match found {
            None => assert!(
                !known.must_exist,
                "{context}: key {n} lost: {known:?}, {:#?}",
                records(&process.store, n)
            ),
            Some(seen) => {
                assert!(
                    seen >= known.floor,
                    "{context}: key {n} stale: {seen} {known:?}"
                );
                assert!(
                    seen <= known.highest,
                    "{context}: key {n}: {seen} {known:?}"
                );
            }
        }
        known.floor = found.unwrap_or(known.highest + 1);
        known.must_exist = found.is_some();
    }
}

#[test]
fn killed_again_and_again_nothing_is_lost_and_nothing_older_comes_back() {
    let kills = std::env::var("KEEPWARM_KILLS").map_or(300, |n| n.parse().unwrap());
    let first = std::env::var("KEEPWARM_CRASH_SEED").map_or(1, |n| n.parse().unwrap());
    let mut killed = 0;
    for seed in first.. {
        let mut rng = Rng(seed);
        let dir = fast_dir();
        let root = dir.path().canonicalize().unwrap();
        let mut known = vec![Known::default(); KEYS];
        let mut next = 0;
        for round in 0..20 {
            if rng.below(4) == 0 {
                // A rebuild must find the same, whatever it finds it among.
                std::fs::remove_file(root.join("v1/index")).ok();
            }
            let mut processes: Vec<_> = (0..PROCESSES).map(|_| open(&root)).collect();
            for process in &processes {
                process.plan.start(Fault {
                    when: When::From(1 + rng.below(600) as u64),
                    errno: EIO,
                    calls: ANY,
                    short: rng.below(2) == 0,
                });
            }
            while processes.iter().any(|process| !process.is_dead) {
                let id = rng.below(PROCESSES);
                if !processes[id].is_dead {
                    step(&mut processes[id], id, &mut known, (&mut rng, &mut next));
                }
            }
            killed += PROCESSES;
            drop(processes);
            check(&root, &mut known, &format!("seed {seed}, round {round}"));
        }
        if killed >= kills {
            break;
        }
    }
}
