//! A fingerprint with the fold of its bytes, from which its shard and its place there come.

use crate::fingerprint::Fingerprint;
use crate::fold::fold;

/// A key, folded once for both the choice of the shard and the shard's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    fold: u64,
    fingerprint: Fingerprint,
}

impl Key {
    pub(super) fn new(fingerprint: &Fingerprint) -> Self {
        Self {
            fold: fold(fingerprint.as_bytes()),
            fingerprint: *fingerprint,
        }
    }

    /// Its low bits choose the shard.
    pub(super) fn fold(&self) -> u64 {
        self.fold
    }

    /// What the shard's table knows of the key: the upper half of the fold, which has no say in the
    /// choice of the shard.
    pub(super) fn tag(&self) -> u32 {
        (self.fold >> 32) as u32
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}
