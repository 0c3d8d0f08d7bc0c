//! A directory of any files with the names that keepwarm gives, then operations on it, against a map:
//! no panic, no bytes that nobody put, and what is put is found.

#![no_main]

use arbitrary::Arbitrary;
use keepwarm::{Digest, DiskStore, ErrorKind, Fingerprint, Mapping, Store};
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Arbitrary, Debug)]
enum Place {
    Index,
    Pack(u8),
    /// Under the digest of what is in it.
    Object,
    /// Under another one.
    ForeignObject(u8),
    Temporary(u8),
    Lease(bool),
    Lock,
    Named {
        folder: u8,
        name: String,
    },
}

#[derive(Arbitrary, Debug)]
struct File {
    place: Place,
    content: Content,
    is_folder: bool,
}

#[derive(Arbitrary, Debug)]
enum Content {
    Bytes(Vec<u8>),
    /// Of a file that a store wrote, with some bytes changed.
    Written {
        file: u8,
        changes: Vec<(u16, u8)>,
    },
    Zeros(u16),
}

#[derive(Arbitrary, Debug)]
enum Operation {
    Get(u8),
    Put { key: u8, len: u16, fill: u8 },
    Remove(u8),
    Flush,
    Reopen,
}

#[derive(Arbitrary, Debug)]
struct Case {
    files: Vec<File>,
    operations: Vec<Operation>,
    map: bool,
}

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n % 8; 32])
}

fn path(base: &Path, place: &Place, content: &[u8]) -> Option<PathBuf> {
    let object = |digest: Digest| {
        let text = digest.to_string();
        base.join("objects").join(&text[..2]).join(&text[2..])
    };
    Some(match place {
        Place::Index => base.join("index"),
        Place::Pack(n) => base.join(format!("packs/{:09x}", u64::from(*n) << 28)),
        Place::Object => object(Digest::of(content)),
        Place::ForeignObject(n) => object(Digest::of(&[*n])),
        Place::Temporary(n) => base.join(format!("tmp/{n:024x}/alive")),
        Place::Lease(true) => base.join("builds/rebuild.lock"),
        Place::Lease(false) => base.join("builds/evict.lock"),
        Place::Lock => base.join("lock"),
        Place::Named { folder, name } => {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let name: String = name.chars().filter(|c| plain(*c)).take(70).collect();
            let folder = ["", "packs", "objects", "tmp", "builds"][usize::from(folder % 5)];
            if name.is_empty() {
                return None;
            }
            base.join(folder).join(name)
        }
    })
}

/// What a store wrote: some of everything.
fn written(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let store = DiskStore::open(dir).expect("an empty directory");
    for n in 8..12 {
        let _ = store.put(&key(n), vec![n; 200].into()).expect("a put");
    }
    let _ = store.put(&key(12), vec![5; 70_000].into()).expect("a put");
    drop(store);
    let mut found = Vec::new();
    let mut left = vec![dir.join("v1")];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).expect("a folder").flatten() {
            if entry.path().is_dir() {
                left.push(entry.path());
            } else {
                found.push((entry.path(), fs::read(entry.path()).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

fn open(dir: &Path, map: bool) -> Option<DiskStore> {
    let mapping = if map { Mapping::Large } else { Mapping::Never };
    let opened = DiskStore::builder()
        .byte_budget(1 << 22)
        .mapping(mapping)
        .open(dir);
    match opened {
        Ok(store) => Some(store),
        // An index of a higher format, or a file where a folder should be.
        Err(e) => {
            let kind = e.kind();
            let refused = matches!(
                kind,
                ErrorKind::UnsupportedFormat | ErrorKind::NotADirectory | ErrorKind::Io
            );
            assert!(refused, "{e:?}");
            None
        }
    }
}

fuzz_target!(|case: Case| {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() {
        base.into()
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::tempdir_in(base).expect("a temporary directory");
    let originals = written(dir.path());
    let v1 = dir.path().join("v1");
    for File {
        place,
        content,
        is_folder,
    } in case.files.iter().take(16)
    {
        let bytes = match content {
            Content::Bytes(bytes) => bytes.clone(),
            Content::Zeros(n) => vec![0; usize::from(*n)],
            Content::Written { file, changes } => {
                let mut bytes = originals[usize::from(*file) % originals.len()].1.clone();
                for (at, byte) in changes {
                    let at = usize::from(*at) % bytes.len().max(1);
                    bytes.get_mut(at).into_iter().for_each(|old| *old = *byte);
                }
                bytes
            }
        };
        let own = match content {
            // At its own path, where it is believed furthest.
            Content::Written { file, .. } if !is_folder => {
                Some(originals[usize::from(*file) % originals.len()].0.clone())
            }
            _ => path(&v1, place, &bytes),
        };
        let Some(path) = own else { continue };
        let _ = fs::remove_file(&path);
        let _ = fs::create_dir_all(path.parent().expect("a folder"));
        let _ = if *is_folder {
            fs::create_dir_all(&path)
        } else {
            fs::write(&path, &bytes)
        };
    }
    let Some(mut store) = open(dir.path(), case.map) else {
        return;
    };
    // What the directory may have had before: the contents that were written, under their keys.
    let mut before: HashMap<u8, Vec<u8>> = (8..12).map(|n| (n % 8, vec![n; 200])).collect();
    before.insert(12 % 8, vec![5; 70_000]);
    let mut put: HashMap<u8, Option<Vec<u8>>> = HashMap::new();
    for operation in case.operations.iter().take(32) {
        match operation {
            Operation::Get(n) => {
                let Ok(found) = store.get(&key(*n)) else {
                    continue;
                };
                let found = found.map(|entry| entry.artifact.to_vec());
                let last = put.get(&(n % 8)).cloned().flatten();
                let known =
                    found.is_none() || found == last || found.as_ref() == before.get(&(n % 8));
                assert!(known, "{n} has bytes that nobody put");
            }
            Operation::Put { key: n, len, fill } => {
                let bytes = vec![*fill; usize::from(*len)];
                if store.put(&key(*n), bytes.clone().into()).is_ok() {
                    put.insert(n % 8, Some(bytes.clone()));
                    if let Ok(Some(found)) = store.get(&key(*n)) {
                        let found = found.artifact.as_slice();
                        let (first, others) = (found.first(), found.len());
                        assert!(
                            found == bytes,
                            "{n}: {others} bytes of {first:?}, not {len} of {fill}, in {case:?}"
                        );
                    }
                }
            }
            Operation::Remove(n) => {
                if store.remove(&key(*n)).is_ok() {
                    put.insert(n % 8, None);
                }
            }
            Operation::Flush => drop(store.flush()),
            Operation::Reopen => {
                drop(store);
                let Some(again) = open(dir.path(), case.map) else {
                    return;
                };
                store = again;
            }
        }
    }
});
