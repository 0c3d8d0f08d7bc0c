//! `quick_cache::sync::Cache` with its default features (`parking_lot` locks) and its default policy,
//! a modified Clock-PRO. As its documentation asks, it is told about how many entries there will
//! be, and values are behind an `Arc`, since a hit clones them.

use super::{Limit, MemoryCache};
use crate::content::Key;
use quick_cache::sync::{Cache, DefaultLifecycle};
use rustc_hash::FxBuildHasher;
use std::sync::Arc;

#[derive(Clone)]
struct Weighter(Limit);

impl quick_cache::Weighter<Key, Arc<[u8]>> for Weighter {
    fn weight(&self, _: &Key, value: &Arc<[u8]>) -> u64 {
        self.0.weight(value.len())
    }
}

pub(crate) struct QuickCache(Cache<Key, Arc<[u8]>, Weighter, FxBuildHasher>);

impl MemoryCache for QuickCache {
    type Value = Arc<[u8]>;
    type Hit = Arc<[u8]>;

    fn new(limit: Limit) -> Self {
        let lifecycle = DefaultLifecycle::default();
        let (about, capacity) = (limit.about(), limit.capacity());
        Self(Cache::with(
            about,
            capacity,
            Weighter(limit),
            FxBuildHasher,
            lifecycle,
        ))
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
}
