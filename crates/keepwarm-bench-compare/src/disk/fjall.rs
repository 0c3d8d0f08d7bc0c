//! `fjall`, a log-structured tree, with key-value separation, which its documentation advises for
//! large values, and without compression, since what is stored cannot be compressed. Its block cache
//! is as large as what is stored: "more if the data set fully fits into memory". A put goes to the
//! operating system at once (its default), `flush` is `persist(SyncAll)`.
//!
//! What is still in its journal (up to 64 MiB of the latest puts) is read into memory when it is
//! opened: a first hit of it is a hit in memory, and the price is in `open` and `restart`.

use super::{DiskStore, Setup};
use crate::Fault;
use crate::content::Key;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use std::path::Path;

struct Fjall {
    database: Database,
    artifacts: Keyspace,
}

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    let cache = (setup.bytes * 2).max(32 << 20);
    let database = Database::builder(dir.join("fjall"))
        .cache_size(cache)
        .open()?;
    let options = || {
        KeyspaceCreateOptions::default().with_kv_separation(Some(KvSeparationOptions::default()))
    };
    let artifacts = database.keyspace("artifacts", options)?;
    Ok(Box::new(Fjall {
        database,
        artifacts,
    }))
}

impl DiskStore for Fjall {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        Ok(self.artifacts.insert(key.0, artifact)?)
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let value = self.artifacts.get(key.0)?;
        Ok(value.is_some_and(|value| {
            read(&value);
            true
        }))
    }

    fn load(&self, key: &Key) -> Result<Option<Box<dyn AsRef<[u8]>>>, Fault> {
        let value = self.artifacts.get(key.0)?;
        Ok(value.map(|value| Box::new(value) as Box<dyn AsRef<[u8]>>))
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        Ok(self.artifacts.remove(key.0)?)
    }

    fn flush(&self) -> Result<bool, Fault> {
        self.database.persist(PersistMode::SyncAll)?;
        Ok(true)
    }
}
