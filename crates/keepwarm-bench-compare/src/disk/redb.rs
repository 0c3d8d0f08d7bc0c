//! `redb` with its defaults (a cache of 1 GiB): one table, a transaction a put, values read where
//! redb's own cache has them.
//!
//! Puts are committed with `Durability::None`, which redb keeps in its own memory until the next
//! durable commit: alone among the contenders, its puts die with the process, and `flush` is what
//! writes them. `redb-shared` is for several processes (`ConcurrencyMode::MultiWriter`), where redb
//! takes durable commits only: each of its puts is synced.

use super::{DiskStore, Setup};
use crate::Fault;
use crate::content::Key;
use redb::{ConcurrencyMode, Database, Durability, ReadableDatabase as _, TableDefinition};
use std::path::Path;

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("artifacts");

struct Redb {
    database: Database,
    durability: Durability,
}

pub(super) fn open(dir: &Path, _: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open_with(dir, ConcurrencyMode::ExclusiveWriter, Durability::None)
}

pub(super) fn open_shared(dir: &Path, _: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open_with(dir, ConcurrencyMode::MultiWriter, Durability::Immediate)
}

fn open_with(
    dir: &Path,
    mode: ConcurrencyMode,
    durability: Durability,
) -> Result<Box<dyn DiskStore>, Fault> {
    let path = dir.join("artifacts.redb");
    let is_new = !path.exists();
    let database = Database::builder()
        .set_concurrency_mode(mode)
        .create(path)?;
    if is_new {
        let transaction = database.begin_write()?;
        transaction.open_table(TABLE)?;
        transaction.commit()?;
    }
    Ok(Box::new(Redb {
        database,
        durability,
    }))
}

impl DiskStore for Redb {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        self.fill(&mut std::iter::once((*key, artifact)))
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        let Some(value) = table.get(&key.0[..])? else {
            return Ok(false);
        };
        read(value.value());
        Ok(true)
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        transaction.open_table(TABLE)?.remove(&key.0[..])?;
        Ok(transaction.commit()?)
    }

    /// One transaction for all.
    fn fill(&self, artifacts: &mut dyn Iterator<Item = (Key, Vec<u8>)>) -> Result<(), Fault> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, artifact) in artifacts {
            table.insert(&key.0[..], &artifact[..])?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    /// An empty commit that is durable makes all before it durable.
    fn flush(&self) -> Result<bool, Fault> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.commit()?;
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<(), Fault> {
        // What was not durable is dropped with the database otherwise.
        self.flush()?;
        Ok(self.database.close()?)
    }
}
