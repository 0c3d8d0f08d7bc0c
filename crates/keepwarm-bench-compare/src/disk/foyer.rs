//! `foyer::HybridCache`: its block engine in files, as in its README, on a tokio runtime of its own.
//!
//! `WriteOnInsertion`, since what is put must be there after a restart, and the tombstone log, which
//! its documentation asks for where keys may be removed. The memory tier has 256 MiB, as keepwarm's
//! `Cache` has by default. Blocks are 16 MiB, its default, or as large as the largest artifact asks.
//!
//! foyer drops what its queue has no room for, and what overflows its buffer: so the buffers are
//! four times its default, and a put waits for the flushers whenever half a buffer was put since it
//! last did.

use super::{DiskStore, Setup};
use crate::Fault;
use crate::content::Key;
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder as _, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, PsyncIoEngineConfig,
};
use rustc_hash::FxHasher;
use std::hash::BuildHasherDefault;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::{Builder, Runtime};

/// foyer keeps small entries at some distance from one another.
const ALIGNMENT: u64 = 4096;

impl Code for Key {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.0).map_err(foyer::Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut bytes = [0; 32];
        reader
            .read_exact(&mut bytes)
            .map_err(foyer::Error::io_error)?;
        Ok(Self(bytes))
    }

    fn estimated_size(&self) -> usize {
        32
    }
}

type Hybrid = HybridCache<Key, Vec<u8>, BuildHasherDefault<FxHasher>>;

struct Foyer {
    runtime: Runtime,
    cache: Hybrid,
    /// Put since the flushers were waited for.
    unwritten: AtomicU64,
    /// How much that may be.
    bound: u64,
}

pub(super) fn open(dir: &Path, setup: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let block = (setup.largest * 2)
        .next_multiple_of(ALIGNMENT)
        .max(16 << 20);
    let buffer = (block * 4).max(64 << 20);
    let capacity = (setup.bytes * 4).max(1 << 30).max(block * 16);
    let cache = runtime.block_on(build(dir, [capacity, block, buffer]))?;
    // The pool is split in two halves that take turns.
    let (unwritten, bound) = (AtomicU64::new(0), buffer / 4);
    Ok(Box::new(Foyer {
        runtime,
        cache,
        unwritten,
        bound,
    }))
}

async fn build(dir: &Path, sizes: [u64; 3]) -> Result<Hybrid, Fault> {
    let [capacity, block, buffer] = sizes.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    let device = FsDeviceBuilder::new(dir.join("foyer"))
        .with_capacity(capacity)
        .build()?;
    let engine = BlockEngineConfig::new(device)
        .with_block_size(block)
        .with_buffer_pool_size(buffer)
        .with_submit_queue_size_threshold(buffer)
        .with_tombstone_log(true);
    let cache = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .memory(256 << 20)
        .with_hash_builder(BuildHasherDefault::<FxHasher>::default())
        .with_weighter(|_: &Key, value: &Vec<u8>| value.len())
        .storage()
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .build()
        .await?;
    Ok(cache)
}

impl DiskStore for Foyer {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        let takes = (artifact.len() as u64 + 64).next_multiple_of(ALIGNMENT);
        if self.unwritten.fetch_add(takes, Ordering::Relaxed) + takes > self.bound {
            self.settle()?;
            self.unwritten.store(takes, Ordering::Relaxed);
        }
        drop(self.cache.insert(*key, artifact));
        Ok(())
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let found = match self.cache.get(key).try_unwrap() {
            Ok(entry) => Some(entry),
            Err(future) => self.runtime.block_on(future)?,
        };
        Ok(found.is_some_and(|entry| {
            read(entry.value());
            true
        }))
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        self.cache.remove(key);
        Ok(())
    }

    fn settle(&self) -> Result<(), Fault> {
        self.runtime.block_on(self.cache.storage().wait());
        Ok(())
    }

    /// It has nothing that makes what was put durable.
    fn flush(&self) -> Result<bool, Fault> {
        self.settle()?;
        Ok(false)
    }

    fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(self.runtime.block_on(self.cache.close())?)
    }
}
