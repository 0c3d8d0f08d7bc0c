//! `moka::sync::Cache` with its default policy, `TinyLFU`. As its documentation advises, it has an
//! initial capacity and a faster hash than its default, and values are behind an `Arc`.
//!
//! moka evicts in batches some time after an insert, so that it may hold more than its capacity for
//! a moment; and its policy does not take in every new key once it is full.

use super::{Limit, MemoryCache};
use crate::content::Key;
use moka::sync::Cache;
use rustc_hash::FxBuildHasher;
use std::sync::Arc;

pub(crate) struct Moka(Cache<Key, Arc<[u8]>, FxBuildHasher>);

impl MemoryCache for Moka {
    type Value = Arc<[u8]>;
    type Hit = Arc<[u8]>;

    fn new(limit: Limit) -> Self {
        let builder = Cache::builder()
            .max_capacity(limit.capacity())
            .initial_capacity(limit.about());
        let builder = match limit {
            Limit::Entries(_) => builder,
            Limit::Bytes { .. } => builder.weigher(|_: &Key, value: &Arc<[u8]>| {
                u32::try_from(value.len()).unwrap_or(u32::MAX)
            }),
        };
        Self(builder.build_with_hasher(FxBuildHasher))
    }

    fn value(bytes: &[u8]) -> Arc<[u8]> {
        Arc::from(bytes)
    }

    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        self.0.get(key)
    }

    fn put(&self, key: &Key, value: Arc<[u8]>) {
        self.0.insert(*key, value);
    }

    fn settle(&mut self) {
        self.0.run_pending_tasks();
    }
}
