//! What was written, or relied on, since the last flush.

use super::layout::PackNumber;
use super::pack::Pack;
use crate::digest::Digest;
use crate::fingerprint::Fingerprint;
use crate::sync::Arc;
use rustc_hash::{FxHashMap, FxHashSet};

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Packs with appends, life words or adopted bindings that were not synced.
    pub(super) packs: FxHashMap<PackNumber, Arc<Pack>>,
    pub(super) objects: FxHashSet<Digest>,
    /// Objects of which a sync failed: they are written anew or taken back, whatever a later sync
    /// says.
    pub(super) suspect: FxHashSet<Digest>,
    /// Keys whose older bindings go once the newest one is durable.
    pub(super) rebound: FxHashSet<Fingerprint>,
    /// Whether slots of the index were written.
    pub(super) index: bool,
    /// Whether names in `v1` changed (a new directory, a clear).
    pub(super) names: bool,
    /// Writes that failed.
    pub(super) failed: u64,
}

impl Pending {
    pub(super) fn add_pack(&mut self, pack: &Arc<Pack>) {
        self.packs
            .entry(pack.number)
            .or_insert_with(|| Arc::clone(pack));
        self.index = true;
    }

    /// How many files are not synced.
    pub(super) fn files(&self) -> u64 {
        self.packs.len() as u64
            + self.objects.len() as u64
            + u64::from(self.index)
            + u64::from(self.names)
    }

    /// Takes back what could not be synced.
    pub(super) fn merge(&mut self, other: Self) {
        self.packs.extend(other.packs);
        self.objects.extend(other.objects);
        self.suspect.extend(other.suspect);
        self.rebound.extend(other.rebound);
        self.index |= other.index;
        self.names |= other.names;
        self.failed += other.failed;
    }
}
