//! `cacache`, through its synchronous functions, with its default algorithm (SHA-256) and its `mmap`
//! feature, which is on by default. `read_sync` checks the integrity of what it gives. Keys are
//! strings, so they are written in hexadecimal.
//!
//! It has nothing that makes what was put durable, so no flush is measured.

use super::{DiskStore, Setup};
use crate::Fault;
use crate::content::Key;
use std::path::{Path, PathBuf};

struct Cacache(PathBuf);

#[expect(clippy::unnecessary_wraps, reason = "all contenders are opened alike")]
pub(super) fn open(dir: &Path, _: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    Ok(Box::new(Cacache(dir.join("cacache"))))
}

fn name(key: &Key) -> String {
    blake3::Hash::from_bytes(key.0).to_hex().to_string()
}

impl DiskStore for Cacache {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        cacache::write_sync(&self.0, name(key), artifact)?;
        Ok(())
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        match cacache::read_sync(&self.0, name(key)) {
            Ok(bytes) => {
                read(&bytes);
                Ok(true)
            }
            Err(cacache::Error::EntryNotFound(..)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn load(&self, key: &Key) -> Result<Option<Box<dyn AsRef<[u8]>>>, Fault> {
        match cacache::read_sync(&self.0, name(key)) {
            Ok(bytes) => Ok(Some(Box::new(bytes))),
            Err(cacache::Error::EntryNotFound(..)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        // The binding alone would leave the content for ever.
        if let Some(metadata) = cacache::metadata_sync(&self.0, name(key))? {
            cacache::remove_sync(&self.0, name(key))?;
            cacache::remove_hash_sync(&self.0, &metadata.integrity)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<bool, Fault> {
        Ok(false)
    }
}
