//! keepwarm with the defaults that a user gets; only the budget is set.
//!
//! `DiskStore` alone verifies an artifact each time it is read (`Verify::OnLoad`). `Cache` has the
//! default 256 MiB of memory above the same directory: an artifact is verified when it is read from
//! disk, and a hit in memory is that very artifact.

use super::{DiskStore, Setup};
use crate::Fault;
use crate::content::Key;
use keepwarm::{Artifact, Cache, Fingerprint, Store as _, Verify};
use std::path::Path;
use std::thread;
use std::time::Duration;

fn fingerprint(key: &Key) -> Fingerprint {
    Fingerprint::from_bytes(key.0)
}

fn budget(setup: &Setup) -> u64 {
    (setup.bytes * 4).max(1 << 30)
}

fn boxed(artifact: Option<Artifact>) -> Option<Box<dyn AsRef<[u8]>>> {
    artifact.map(|artifact| Box::new(artifact) as Box<dyn AsRef<[u8]>>)
}

pub(super) fn disk(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(dir, setup, Verify::OnLoad)
}

/// An artifact is hashed once by each process, large ones once between two starts of the machine.
pub(super) fn once_per_boot(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(dir, setup, Verify::OncePerBoot)
}

/// Only envelopes are checked.
pub(super) fn never(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(dir, setup, Verify::Never)
}

fn open(dir: &Path, setup: &Setup, verify: Verify) -> Result<Box<dyn DiskStore>, Fault> {
    let builder = keepwarm::DiskStore::builder().byte_budget(budget(setup));
    Ok(Box::new(Disk(builder.verify(verify).open(dir)?)))
}

struct Disk(keepwarm::DiskStore);

impl DiskStore for Disk {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        let outcome = self.0.put(&fingerprint(key), artifact.into())?;
        if outcome.is_rejected() {
            return Err("the put was refused".into());
        }
        Ok(())
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let entry = self.0.get(&fingerprint(key))?;
        Ok(entry.is_some_and(|entry| {
            read(&entry.artifact);
            true
        }))
    }

    fn load(&self, key: &Key) -> Result<Option<Box<dyn AsRef<[u8]>>>, Fault> {
        let entry = self.0.get(&fingerprint(key))?;
        Ok(boxed(entry.map(|entry| entry.artifact)))
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        self.0.remove(&fingerprint(key))?;
        Ok(())
    }

    fn flush(&self) -> Result<bool, Fault> {
        self.0.flush()?;
        Ok(true)
    }
}

pub(super) fn cache(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    let builder = Cache::builder().disk_budget(budget(setup));
    Ok(Box::new(Tiers(builder.open(dir)?)))
}

struct Tiers(Cache);

impl DiskStore for Tiers {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        self.0.put(&fingerprint(key), artifact);
        Ok(())
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let artifact = self.0.get(&fingerprint(key));
        Ok(artifact.is_some_and(|artifact| {
            read(&artifact);
            true
        }))
    }

    fn load(&self, key: &Key) -> Result<Option<Box<dyn AsRef<[u8]>>>, Fault> {
        Ok(boxed(self.0.get(&fingerprint(key))))
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        self.0.remove(&fingerprint(key))?;
        Ok(())
    }

    /// The background writer has written all of it.
    fn settle(&self) -> Result<(), Fault> {
        loop {
            let durability = self.0.durability();
            if durability.failed_writes > 0 {
                return Err("a write in the background failed".into());
            }
            if durability.unwritten_entries == 0 {
                return Ok(());
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    fn flush(&self) -> Result<bool, Fault> {
        self.0.flush()?;
        Ok(true)
    }

    fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(self.0.close()?)
    }
}
