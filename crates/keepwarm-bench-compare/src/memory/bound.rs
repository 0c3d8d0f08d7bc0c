//! What no cache can be faster than: a sharded map that is only read, without locks and without any
//! order of use. It is filled before it is shared.

use super::{Limit, MemoryCache, shards};
use crate::content::Key;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};

type Map = FxHashMap<Key, Arc<[u8]>>;

pub(crate) struct Bound {
    shards: Box<[Map]>,
    /// What was put since it settled.
    put: Mutex<Vec<(Key, Arc<[u8]>)>>,
}

impl Bound {
    fn at(&self, key: &Key) -> usize {
        let hash = FxBuildHasher.hash_one(key) >> 32;
        usize::try_from(hash).unwrap_or(0) & (self.shards.len() - 1)
    }
}

impl MemoryCache for Bound {
    type Value = Arc<[u8]>;
    type Hit = Arc<[u8]>;

    fn new(_: Limit) -> Self {
        let shards = std::iter::repeat_with(Map::default)
            .take(shards())
            .collect();
        Self {
            shards,
            put: Mutex::default(),
        }
    }

    fn value(bytes: &[u8]) -> Arc<[u8]> {
        Arc::from(bytes)
    }

    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        self.shards[self.at(key)].get(key).cloned()
    }

    fn put(&self, key: &Key, value: Arc<[u8]>) {
        self.put
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((*key, value));
    }

    fn settle(&mut self) {
        let put = std::mem::take(self.put.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (key, value) in put {
            let at = self.at(&key);
            self.shards[at].insert(key, value);
        }
    }
}
