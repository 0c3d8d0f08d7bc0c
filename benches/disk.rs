//! What the disk tier costs: `cargo bench --bench disk`.
//!
//! Directories are made below the system's folder for temporary files (`TMPDIR`), and everything
//! is read from a warm page cache: these are the costs of keepwarm and of the kernel, not of the
//! medium, but for the flushes.

mod common;

use common::{Case, any, in_threads, key, measure, nanoseconds, per_call, precise, scaled};
use keepwarm::{DiskStore, Entry, Store};
use std::cell::RefCell;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

/// Sizes in bytes, their names, and how many of them are put or got in a round.
const SIZES: [(usize, &str, u64); 4] = [
    (512, "512 B", 4000),
    (4 << 10, "4 KiB", 2000),
    (64 << 10, "64 KiB", 250),
    (1 << 20, "1 MiB", 25),
];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

fn open(path: &Path) -> DiskStore {
    let builder = DiskStore::builder().byte_budget(64 << 30);
    builder.open(path).expect("the directory can be opened")
}

/// An artifact that no other number has.
fn entry(n: u64, size: usize) -> Entry {
    let mut bytes = vec![7; size];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes.into()
}

fn put(store: &DiskStore, n: u64, entry: Entry) {
    drop(black_box(store.put(&key(n), entry)).expect("the directory can be written"));
}

fn hit(store: &DiskStore, n: u64) {
    let found = store.get(&key(n)).expect("the directory can be read");
    assert!(black_box(found).is_some());
}

/// A directory with so many artifacts, all different.
fn filled(count: u64, size: usize) -> TempDir {
    let folder = folder();
    let store = open(folder.path());
    for n in 0..count {
        put(&store, n, entry(n, size));
    }
    drop(store);
    folder
}

/// New keys and new bytes into a new directory each round; the artifacts are made beforehand,
/// their digests by the put.
fn puts() {
    let mut cases = Vec::new();
    for threads in [1, 2] {
        for (size, name, calls) in SIZES {
            let (calls, title) = (scaled(calls), format!("put, {name}"));
            let title = if threads == 1 {
                title
            } else {
                format!("{title}, {threads} threads")
            };
            cases.push(Case::new(title, move |_| {
                let folder = folder();
                let store = open(folder.path());
                let entries: Vec<Vec<Entry>> = (0..threads)
                    .map(|t| (0..calls).map(|n| entry(t * calls + n, size)).collect())
                    .collect();
                in_threads(threads, |thread| {
                    let entries = &entries[usize::try_from(thread).unwrap_or(0)];
                    let start = Instant::now();
                    for (n, entry) in (thread * calls..).zip(entries) {
                        put(&store, n, entry.clone());
                    }
                    nanoseconds(start) / precise(calls)
                })
            }));
        }
    }
    measure(cases);
}

/// The same bytes under the same key again, and under another one.
fn puts_again() {
    let count = scaled(4000);
    let folder = filled(count, 4 << 10);
    let store = open(folder.path());
    let entries: Vec<Entry> = (0..count).map(|n| entry(n, 4 << 10)).collect();
    let entry = |n: u64| entries[usize::try_from(n % count).unwrap_or(0)].clone();
    measure(vec![
        Case::calls("put what is stored, 4 KiB", 1, count, |n| {
            put(&store, n % count, entry(n));
        }),
        Case::calls("put stored bytes under a new key, 4 KiB", 1, count, |n| {
            put(&store, 1 << 40 | n, entry(n));
        }),
    ]);
}

/// Waits for the medium.
fn flushes() {
    let folder = folder();
    let store = open(folder.path());
    let flush_after = |puts: u64| {
        let store = &store;
        move |round: u64| {
            for n in 0..puts {
                let n = (puts << 32) + round * puts + n;
                put(store, n, entry(n, 4 << 10));
            }
            let start = Instant::now();
            store.flush().expect("the directory can be synced");
            nanoseconds(start)
        }
    };
    measure(vec![
        Case::new("flush after 1 put of 4 KiB", flush_after(1)),
        Case::new("flush after 1000 puts of 4 KiB", flush_after(scaled(1000))),
    ]);
}

/// First: by a handle that was just opened, each key once. Repeat: by one that has seen them all.
fn hits() {
    let directories: Vec<(TempDir, DiskStore)> = SIZES
        .iter()
        .map(|&(size, _, calls)| {
            let folder = filled(scaled(calls), size);
            let store = open(folder.path());
            (folder, store)
        })
        .collect();
    let mut cases = Vec::new();
    for ((_, name, calls), (folder, store)) in SIZES.into_iter().zip(&directories) {
        let count = scaled(calls);
        cases.push(Case::new(format!("first hit, {name}"), move |round| {
            let store = open(folder.path());
            per_call(0..count, |n| hit(&store, (n + round) % count))
        }));
        for threads in [1, 2] {
            let title = format!("repeat hit, {name}");
            // Enough calls for threads to meet.
            cases.push(Case::calls(title, threads, count * 10, move |n| {
                hit(store, any(n, count));
            }));
        }
    }
    measure(cases);
}

fn misses() {
    let directories: Vec<(u64, TempDir, DiskStore)> = [4_000, 500_000]
        .into_iter()
        .map(|count| {
            let folder = filled(scaled(count), 8);
            let store = open(folder.path());
            (count, folder, store)
        })
        .collect();
    let mut cases = Vec::new();
    for (count, _, store) in &directories {
        for threads in [1, 2] {
            let title = format!("miss, {count} entries");
            cases.push(Case::calls(title, threads, scaled(200_000), move |n| {
                let found = store.get(&key(1 << 40 | n));
                assert!(matches!(black_box(found), Ok(None)));
            }));
        }
    }
    measure(cases);
}

/// Must not grow with the number of entries.
fn opens() {
    let directories: Vec<(u64, TempDir)> = [1_000, 100_000, 1_000_000]
        .into_iter()
        .map(|count| {
            let start = Instant::now();
            let folder = filled(scaled(count), 8);
            let name = format!("building {count} entries of 8 B, a put");
            common::print_time(&name, nanoseconds(start) / precise(scaled(count)), None);
            (count, folder)
        })
        .collect();
    let times = scaled(100);
    let mut cases = Vec::new();
    for (count, folder) in &directories {
        let stores = RefCell::new(Vec::new());
        cases.push(Case::new(format!("open, {count} entries"), move |_| {
            // Closing is not measured.
            stores.borrow_mut().clear();
            per_call(0..times, |_| stores.borrow_mut().push(open(folder.path())))
        }));
        let stores = RefCell::new(Vec::new());
        let name = format!("open and first hit, {count} entries");
        cases.push(Case::new(name, move |round| {
            stores.borrow_mut().clear();
            per_call(0..times, |n| {
                let store = open(folder.path());
                hit(&store, any(round * times + n, scaled(*count)));
                stores.borrow_mut().push(store);
            })
        }));
    }
    measure(cases);
}

fn main() {
    let groups: [(&str, fn()); 6] = [
        ("put", puts),
        ("put what is stored", puts_again),
        ("flush", flushes),
        ("hit", hits),
        ("miss", misses),
        ("open", opens),
    ];
    for (name, group) in groups {
        if common::is_group_wanted(name) {
            group();
        }
    }
}
