//! What no store can be much faster than: one file that is appended to and mapped, with the place of
//! every key in memory. Nothing is verified, nothing can be removed from the file, and opening it
//! walks over it.
//!
//! A record is the key, the length and the bytes, padded to 8.

use super::{DiskStore, Setup};
use crate::Fault;
use crate::content::Key;
use memmap2::{Mmap, MmapOptions};
use rustc_hash::FxHashMap;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const HEAD: usize = 40;

struct Index {
    places: FxHashMap<Key, (usize, usize)>,
    end: usize,
}

struct Log {
    file: File,
    map: Mmap,
    index: Mutex<Index>,
}

#[expect(unsafe_code, reason = "the bound is a mapped file")]
pub(super) fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("log"))?;
    // A hole that appends fill, so that what is mapped always is in the file.
    let len = file.metadata()?.len().max((setup.bytes * 4).max(1 << 30));
    file.set_len(len)?;
    // SAFETY: the directory is a benchmark's own; the file is never shortened, and records are read
    // only after they were written whole.
    let map = unsafe { MmapOptions::new().len(usize::try_from(len)?).map(&file) }?;
    let index = Mutex::new(walk(&map));
    Ok(Box::new(Log { file, map, index }))
}

/// Finds the records: the first length of zero ends them.
fn walk(map: &[u8]) -> Index {
    let mut index = Index {
        places: FxHashMap::default(),
        end: 0,
    };
    while let Some(head) = map.get(index.end..index.end + HEAD) {
        let (key, len) = head.split_at(32);
        let len = u64::from_le_bytes(len.try_into().unwrap_or_default());
        let (Ok(key), Ok(len @ 1..)) = (key.try_into(), usize::try_from(len)) else {
            break;
        };
        let start = index.end + HEAD;
        index.places.insert(Key(key), (start, len));
        index.end = start + len.next_multiple_of(8);
    }
    index
}

impl Log {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskStore for Log {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        let len = artifact.len();
        let mut record = Vec::with_capacity(HEAD + len.next_multiple_of(8));
        record.extend_from_slice(&key.0);
        record.extend_from_slice(&(len as u64).to_le_bytes());
        record.extend_from_slice(&artifact);
        record.resize(HEAD + len.next_multiple_of(8), 0);
        let mut index = self.index();
        if index.end + record.len() > self.map.len() {
            return Err("the log is full".into());
        }
        write_at(&self.file, &record, index.end as u64)?;
        let start = index.end + HEAD;
        index.places.insert(*key, (start, len));
        index.end += record.len();
        Ok(())
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let place = self.index().places.get(key).copied();
        Ok(place.is_some_and(|(start, len)| {
            read(&self.map[start..start + len]);
            true
        }))
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        self.index().places.remove(key);
        Ok(())
    }

    fn flush(&self) -> Result<bool, Fault> {
        self.file.sync_data()?;
        Ok(true)
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}
