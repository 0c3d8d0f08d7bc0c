//! Any sequence of operations on a directory through two handles, with reopening, a lost index and
//! damage to any file in between, against a map from key to content.
//!
//! What is found must be what was put last under that key; a miss is always allowed after damage,
//! and otherwise only for what was removed. After damage an older content of the key may come back
//! only if the file that had the newer one was damaged, so then any content ever put there is
//! accepted; content of another key never is.

#![no_main]

use arbitrary::Arbitrary;
use keepwarm::{DiskStore, Fingerprint, Mapping, Store};
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Arbitrary, Debug)]
enum Operation {
    Get {
        key: u8,
        second: bool,
    },
    Put {
        key: u8,
        version: u8,
        len: u16,
        second: bool,
    },
    Remove {
        key: u8,
        second: bool,
    },
    Flush {
        second: bool,
    },
    Clear,
    Reopen,
    LoseIndex,
    Flip {
        file: u8,
        at: u32,
        bit: u8,
    },
    Truncate {
        file: u8,
        len: u32,
    },
    Overwrite {
        file: u8,
        with: Vec<u8>,
    },
    Swap {
        file: u8,
        other: u8,
    },
    Delete {
        file: u8,
    },
}

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n % 16; 32])
}

/// Content that names its key and version, so that another key's is told apart.
fn content(key: u8, version: u8, len: u16) -> Vec<u8> {
    let mut bytes = vec![version; usize::from(len)];
    for (byte, label) in bytes.iter_mut().zip([key % 16, version]) {
        *byte = label;
    }
    bytes
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn open(dir: &Path) -> DiskStore {
    let store = DiskStore::builder()
        .byte_budget(1 << 20)
        .mapping(Mapping::Never)
        .open(dir)
        .expect("a damaged directory opens");
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    store
}

/// Puts another file in the place, as damage at rest does.
fn replace(path: &Path, content: &[u8]) {
    let _ = fs::remove_file(path);
    let _ = fs::write(path, content);
}

#[derive(Default)]
struct Model {
    newest: HashMap<u8, Option<Vec<u8>>>,
    ever: HashMap<u8, Vec<Vec<u8>>>,
    damaged: bool,
}

impl Model {
    fn check(&self, key: u8, found: Option<&[u8]>) {
        let key = key % 16;
        let newest = self.newest.get(&key).cloned().flatten();
        match found {
            None => assert!(self.damaged || newest.is_none(), "{key} was lost"),
            Some(bytes) if self.damaged => {
                let ever = self.ever.get(&key);
                let known = ever.is_some_and(|all| all.iter().any(|old| old == bytes));
                assert!(known, "{key} has bytes that were never put there");
            }
            Some(bytes) => assert_eq!(newest.as_deref(), Some(bytes), "{key}"),
        }
    }
}

fn damage(dir: &Path, operation: &Operation) {
    let all = files(dir);
    let pick = |n: u8| all.get(usize::from(n) % all.len().max(1));
    match operation {
        Operation::LoseIndex => drop(fs::remove_file(dir.join("v1/index"))),
        Operation::Flip { file, at, bit } => {
            let Some(path) = pick(*file) else { return };
            let Ok(mut bytes) = fs::read(path) else {
                return;
            };
            let len = bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(*at as usize % len) {
                *byte ^= 1 << (bit % 8);
            }
            replace(path, &bytes);
        }
        Operation::Truncate { file, len } => {
            let Some(path) = pick(*file) else { return };
            let Ok(mut bytes) = fs::read(path) else {
                return;
            };
            bytes.truncate(*len as usize % (bytes.len() + 1));
            replace(path, &bytes);
        }
        Operation::Overwrite { file, with } => {
            if let Some(path) = pick(*file) {
                replace(path, with);
            }
        }
        Operation::Swap { file, other } => {
            let (Some(a), Some(b)) = (pick(*file), pick(*other)) else {
                return;
            };
            if let (Ok(x), Ok(y)) = (fs::read(a), fs::read(b)) {
                replace(a, &y);
                replace(b, &x);
            }
        }
        Operation::Delete { file } => {
            if let Some(path) = pick(*file) {
                let _ = fs::remove_file(path);
            }
        }
        _ => {}
    }
}

fuzz_target!(|operations: Vec<Operation>| {
    let base = if Path::new("/dev/shm").is_dir() {
        "/dev/shm".into()
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::tempdir_in(base).expect("a temporary directory");
    let mut stores = [open(dir.path()), open(dir.path())];
    let mut model = Model::default();
    for operation in operations.iter().take(64) {
        match operation {
            Operation::Get { key: n, second } => {
                let found = stores[usize::from(*second)]
                    .get(&key(*n))
                    .expect("a readable disk");
                model.check(*n, found.as_ref().map(|entry| entry.artifact.as_slice()));
            }
            Operation::Put {
                key: n,
                version,
                len,
                second,
            } => {
                let bytes = content(*n, *version, *len);
                let store = &stores[usize::from(*second)];
                let outcome = store
                    .put(&key(*n), bytes.clone().into())
                    .expect("a writable disk");
                assert!(!outcome.is_rejected() && outcome.evictions.is_empty());
                let found = store.get(&key(*n)).expect("a readable disk");
                let found = found.map(|entry| entry.artifact.to_vec());
                assert_eq!(found.as_ref(), Some(&bytes), "a put heals");
                model.ever.entry(*n % 16).or_default().push(bytes.clone());
                model.newest.insert(*n % 16, Some(bytes));
            }
            Operation::Remove { key: n, second } => {
                stores[usize::from(*second)]
                    .remove(&key(*n))
                    .expect("a writable disk");
                model.newest.insert(*n % 16, None);
            }
            Operation::Flush { second } => {
                // It tells once of what damage took from it.
                let flushed = stores[usize::from(*second)].flush();
                assert!(flushed.is_ok() || model.damaged, "{flushed:?}");
            }
            Operation::Clear => {
                stores[0].clear().expect("a writable disk");
                model.newest.clear();
                if !model.damaged {
                    model.ever.clear();
                }
            }
            Operation::Reopen => stores = [open(dir.path()), open(dir.path())],
            other => {
                // Damage at rest: nobody has the directory open. A lost index is no damage.
                model.damaged |= !matches!(other, Operation::LoseIndex);
                let [a, b] = stores;
                drop((a, b));
                damage(dir.path(), other);
                stores = [open(dir.path()), open(dir.path())];
            }
        }
    }
    for n in 0..16 {
        for store in &stores {
            let found = store.get(&key(n)).expect("a readable disk");
            model.check(n, found.as_ref().map(|entry| entry.artifact.as_slice()));
        }
    }
});
