//! The disk tier over file systems that fail or forget, and over damage.

mod adopting;
mod child;
mod crashes;
mod ended;
mod faults;
mod honest;
mod killed;
mod moved;
mod numbers;
mod pruning;
mod relying;
mod stopped;
mod verifying;

use super::DiskStore;
use std::path::Path;

/// A store whose index is complete.
fn open(dir: &Path) -> DiskStore {
    let store = DiskStore::open(dir).unwrap();
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    store
}

/// How many files are somewhere below a folder.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files(&path) } else { 1 })
        .sum()
}
