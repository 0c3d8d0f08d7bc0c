//! `SQLite` through `rusqlite`, its bundled version: one table with a unique key. It has a rowid, since
//! `SQLite`'s documentation advises against `WITHOUT ROWID` where values are large.
//!
//! Set up as `SQLite`'s documentation advises for many small transactions: WAL, `synchronous =
//! NORMAL` (no sync at a commit; the database stays sound after a power cut), a mapping of the
//! database as large as what is stored, prepared statements kept. A put is a transaction. `flush`
//! copies the log into the database, which syncs both.

use super::{DiskStore, Setup};
use crate::Fault;
use crate::content::Key;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A connection belongs to one thread at a time; no workload shares a store between threads.
struct Sqlite(Mutex<Connection>);

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    let connection = Connection::open(dir.join("artifacts.sqlite"))?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let mapped = i64::try_from(setup.bytes * 2)?;
    connection.pragma_update(None, "mmap_size", mapped)?;
    connection.execute(
        "CREATE TABLE IF NOT EXISTS artifacts (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL)",
        [],
    )?;
    Ok(Box::new(Sqlite(Mutex::new(connection))))
}

impl Sqlite {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PUT: &str = "INSERT OR REPLACE INTO artifacts (key, value) VALUES (?1, ?2)";

impl DiskStore for Sqlite {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        self.connection()
            .prepare_cached(PUT)?
            .execute(params![&key.0[..], artifact])?;
        Ok(())
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let connection = self.connection();
        let mut select = connection.prepare_cached("SELECT value FROM artifacts WHERE key = ?1")?;
        let found = select.query_row([&key.0[..]], |row| {
            read(row.get_ref(0)?.as_blob()?);
            Ok(())
        });
        Ok(found.optional()?.is_some())
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        let connection = self.connection();
        let mut delete = connection.prepare_cached("DELETE FROM artifacts WHERE key = ?1")?;
        delete.execute([&key.0[..]])?;
        Ok(())
    }

    /// One transaction for all.
    fn fill(&self, artifacts: &mut dyn Iterator<Item = (Key, Vec<u8>)>) -> Result<(), Fault> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        for (key, artifact) in artifacts {
            transaction
                .prepare_cached(PUT)?
                .execute(params![&key.0[..], artifact])?;
        }
        Ok(transaction.commit()?)
    }

    fn flush(&self) -> Result<bool, Fault> {
        let connection = self.connection();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<(), Fault> {
        let connection = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        connection.close().map_err(|(_, error)| error.into())
    }
}
