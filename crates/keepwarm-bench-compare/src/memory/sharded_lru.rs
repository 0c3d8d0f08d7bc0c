//! The cache that many programs write themselves: `lru::LruCache`, four shards for each core, each
//! behind a `std` mutex, values behind an `Arc`. Each shard has its share of the budget.

use super::{Limit, MemoryCache, shards};
use crate::content::Key;
use lru::LruCache;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

struct Shard {
    entries: LruCache<Key, Arc<[u8]>, FxBuildHasher>,
    weight: u64,
}

/// A shard to a cache line, so that locks do not meet in one.
#[repr(align(128))]
struct Aligned(Mutex<Shard>);

pub(crate) struct ShardedLru {
    shards: Box<[Aligned]>,
    limit: Limit,
    /// Of one shard.
    capacity: u64,
}

impl ShardedLru {
    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        // Not the bits that the map inside goes by: those at the bottom and the seven at the top.
        let hash = FxBuildHasher.hash_one(key) >> 32;
        let at = usize::try_from(hash).unwrap_or(0) & (self.shards.len() - 1);
        &self.shards[at].0
    }
}

impl MemoryCache for ShardedLru {
    type Value = Arc<[u8]>;
    type Hit = Arc<[u8]>;

    fn new(limit: Limit) -> Self {
        let shards = shards();
        // Evicted by weight, below; the map's own bound would also allocate all of it at once.
        let entries = || LruCache::unbounded_with_hasher(FxBuildHasher);
        let shard = || {
            Aligned(Mutex::new(Shard {
                entries: entries(),
                weight: 0,
            }))
        };
        Self {
            capacity: limit.capacity().div_ceil(shards as u64),
            shards: std::iter::repeat_with(shard).take(shards).collect(),
            limit,
        }
    }

    fn value(bytes: &[u8]) -> Arc<[u8]> {
        Arc::from(bytes)
    }

    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        let mut shard = self
            .shard(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shard.entries.get(key).cloned()
    }

    fn put(&self, key: &Key, value: Arc<[u8]>) {
        let weight = self.limit.weight(value.len());
        let mut shard = self
            .shard(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Freed after the lock is given up.
        let replaced = shard.entries.put(*key, value);
        let freed = replaced
            .as_ref()
            .map_or(0, |old| self.limit.weight(old.len()));
        shard.weight = shard.weight + weight - freed;
        let mut evicted = Vec::new();
        while shard.weight > self.capacity {
            let Some((_, old)) = shard.entries.pop_lru() else {
                break;
            };
            shard.weight -= self.limit.weight(old.len());
            evicted.push(old);
        }
        drop(shard);
        drop((replaced, evicted));
    }
}
