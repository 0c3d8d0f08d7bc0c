//! What the cache costs, memory in front of a directory: `cargo bench --bench cache`.

mod common;

use common::{Case, any, key, measure, nanoseconds, per_call, precise, scaled};
use keepwarm::{Artifact, Cache};
use std::convert::Infallible;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

const SIZE: usize = 4 << 10;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

fn open(path: &Path) -> Cache {
    let builder = Cache::builder().memory_budget(1 << 30).disk_budget(8 << 30);
    builder.open(path).expect("the directory can be opened")
}

/// An artifact that no other number has.
fn artifact(n: u64) -> Artifact {
    let mut bytes = vec![7; SIZE];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    bytes.into()
}

fn close(cache: Cache) {
    cache.close().expect("everything can be written");
}

fn filled(count: u64) -> TempDir {
    let folder = folder();
    let cache = open(folder.path());
    (0..count).for_each(|n| cache.put(&key(n), artifact(n)));
    close(cache);
    folder
}

fn hits() {
    let count = scaled(4000);
    let folder = filled(count);
    let cache = open(folder.path());
    (0..count).for_each(|n| drop(cache.get(&key(n))));
    let mut cases = Vec::new();
    for threads in [1, 2] {
        let cache = &cache;
        let calls = scaled(100_000);
        cases.push(Case::calls("hit in memory", threads, calls, move |n| {
            assert!(black_box(cache.get(&key(any(n, count)))).is_some());
        }));
        let title = "get_or_insert_with, in memory";
        cases.push(Case::calls(title, threads, calls, move |n| {
            let build = || Ok::<_, Infallible>(vec![7; SIZE]);
            drop(black_box(
                cache.get_or_insert_with(&key(any(n, count)), build),
            ));
        }));
    }
    let (path, calls) = (folder.path(), count);
    cases.push(Case::new("hit on disk, promoted, 4 KiB", move |_| {
        let cache = open(path);
        per_call(0..calls, |n| {
            assert!(black_box(cache.get(&key(n))).is_some());
        })
    }));
    let cache = &cache;
    let calls = scaled(20_000);
    cases.push(Case::calls("miss in both tiers", 1, calls, move |n| {
        assert!(black_box(cache.get(&key(1 << 40 | n))).is_none());
    }));
    measure(cases);
}

/// A put is in memory when it returns; until the close has returned, it is on disk as well.
fn puts() {
    let count = scaled(4000);
    let run = |closed: bool| {
        move |_| {
            let folder = folder();
            let cache = open(folder.path());
            let artifacts: Vec<Artifact> = (0..count).map(artifact).collect();
            let start = Instant::now();
            for (n, artifact) in (0..).zip(&artifacts) {
                cache.put(&key(n), artifact.clone());
            }
            let put = nanoseconds(start);
            close(cache);
            let all = nanoseconds(start);
            (if closed { all } else { put }) / precise(count)
        }
    };
    measure(vec![
        Case::new("put, 4 KiB", run(false)),
        Case::new("put and written by the close, 4 KiB", run(true)),
    ]);
}

fn main() {
    hits();
    puts();
}
