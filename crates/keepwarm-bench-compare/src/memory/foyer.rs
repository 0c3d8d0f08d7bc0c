//! `foyer::Cache`, its cache in memory, with its default policy (w-TinyLFU) and four shards for each
//! core, which its documentation leaves to the user. foyer counts references to entries itself, so
//! that values need no `Arc` inside; one is there all the same, so that one value can be put many
//! times, as with every other contender.

use super::{Limit, MemoryCache, shards};
use crate::content::Key;
use foyer::{Cache, CacheBuilder, CacheEntry};
use rustc_hash::FxBuildHasher;
use std::sync::Arc;

pub(crate) struct Foyer(Cache<Key, Arc<[u8]>, FxBuildHasher>);

/// A hit holds the entry itself.
pub(crate) struct Hit(CacheEntry<Key, Arc<[u8]>, FxBuildHasher>);

impl AsRef<[u8]> for Hit {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

impl MemoryCache for Foyer {
    type Value = Arc<[u8]>;
    type Hit = Hit;

    fn new(limit: Limit) -> Self {
        let capacity = usize::try_from(limit.capacity()).unwrap_or(usize::MAX);
        let weight = move |_: &Key, value: &Arc<[u8]>| {
            usize::try_from(limit.weight(value.len())).unwrap_or(usize::MAX)
        };
        let builder = CacheBuilder::new(capacity)
            .with_shards(shards())
            .with_hash_builder(FxBuildHasher)
            .with_weighter(weight);
        Self(builder.build())
    }

    fn value(bytes: &[u8]) -> Arc<[u8]> {
        Arc::from(bytes)
    }

    fn get(&self, key: &Key) -> Option<Hit> {
        self.0.get(key).map(Hit)
    }

    fn put(&self, key: &Key, value: Arc<[u8]>) {
        drop(self.0.insert(*key, value));
    }
}
