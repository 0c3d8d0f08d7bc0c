//! LMDB through `heed`: one unnamed database, a write transaction a put and a read transaction a get,
//! values read where they are mapped.
//!
//! `NO_SYNC`, since a cache need not survive a power cut with its last puts: a commit then costs no
//! sync, and `flush` is `force_sync`. This is the fastest that LMDB has without a writable map; its
//! documentation warns that a power cut may damage the database then, where keepwarm must not be
//! damaged. `NO_READ_AHEAD` is left off, as advised for what fits into memory. With BLAKE3, its
//! digest stands before the value and is checked at each get.

use super::{DiskStore, Setup, unsealed};
use crate::Fault;
use crate::content::Key;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};
use std::path::Path;

struct Lmdb {
    env: Env,
    database: Database<'static, Bytes, Bytes>,
    verify: bool,
}

pub(super) fn plain(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(dir, setup, false)
}

pub(super) fn verified(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(dir, setup, true)
}

#[expect(unsafe_code, reason = "heed maps a file")]
fn open(dir: &Path, setup: &Setup, verify: bool) -> Result<Box<dyn DiskStore>, Fault> {
    let mut options = EnvOpenOptions::new();
    // A file with holes: only addresses are reserved. A multiple of every page size.
    let size = (setup.bytes * 4).max(4 << 30).next_multiple_of(1 << 20);
    options.map_size(usize::try_from(size)?);
    // SAFETY: the directory is a benchmark's own, on a local disk, written through LMDB only, and
    // opened once in a process. Without syncs only a crash of the machine could damage it.
    let env = unsafe { options.flags(EnvFlags::NO_SYNC).open(dir)? };
    // The unnamed database is always there.
    let database = env
        .open_databases_and_commit(env.read_txn()?, |opener, transaction| {
            let database = opener.open_database(transaction, None);
            database.map(CommitOrAbort::<_, ()>::Commit)
        })?
        .unwrap_commit()
        .ok_or("there is no unnamed database")?;
    Ok(Box::new(Lmdb {
        env,
        database,
        verify,
    }))
}

impl DiskStore for Lmdb {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        self.fill(&mut std::iter::once((*key, artifact)))
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let transaction = self.env.read_txn()?;
        let Some(value) = self.database.get(&transaction, &key.0)? else {
            return Ok(false);
        };
        read(if self.verify { unsealed(value)? } else { value });
        Ok(true)
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        let mut transaction = self.env.write_txn()?;
        self.database.delete(&mut transaction, &key.0)?;
        Ok(transaction.commit()?)
    }

    /// One transaction for all.
    fn fill(&self, artifacts: &mut dyn Iterator<Item = (Key, Vec<u8>)>) -> Result<(), Fault> {
        let mut transaction = self.env.write_txn()?;
        for (key, artifact) in artifacts {
            if self.verify {
                // Space in the map itself, so that value and digest are not put together first.
                let len = super::DIGEST + artifact.len();
                let digest = blake3::hash(&artifact);
                self.database
                    .put_reserved(&mut transaction, &key.0, len, |space| {
                        use std::io::Write as _;
                        space.write_all(digest.as_bytes())?;
                        space.write_all(&artifact)
                    })?;
            } else {
                self.database.put(&mut transaction, &key.0, &artifact)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn flush(&self) -> Result<bool, Fault> {
        self.env.force_sync()?;
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<(), Fault> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}
