//! keepwarm's `MemoryStore` with its defaults: only the budget is set, shards are its own choice.

use super::{Limit, MemoryCache};
use crate::content::Key;
use keepwarm::{Artifact, Entry, Fingerprint, MemoryStore, Store as _};

pub(crate) struct Keepwarm(MemoryStore);

impl MemoryCache for Keepwarm {
    type Value = Artifact;
    type Hit = Artifact;

    fn new(limit: Limit) -> Self {
        let builder = match limit {
            Limit::Entries(entries) => MemoryStore::builder()
                .entry_budget(entries)
                .byte_budget(u64::MAX),
            Limit::Bytes { bytes, .. } => MemoryStore::builder().byte_budget(bytes),
        };
        Self(builder.build().expect("the settings are in range"))
    }

    fn value(bytes: &[u8]) -> Artifact {
        Artifact::from(bytes)
    }

    fn get(&self, key: &Key) -> Option<Artifact> {
        let entry = self.0.get(&Fingerprint::from_bytes(key.0)).ok().flatten();
        entry.map(|entry| entry.artifact)
    }

    fn put(&self, key: &Key, value: Artifact) {
        let outcome = self
            .0
            .put(&Fingerprint::from_bytes(key.0), Entry::from(value));
        // What it displaced is dropped here, as a user of memory alone does.
        drop(outcome.expect("a memory store does not fail"));
    }
}
