//! A fingerprint with the fold of its bytes, from which its shard and its place there come.

use crate::fingerprint::Fingerprint;
use crate::fold::fold;

/// A key, folded once for both the choice of the shard and the shard's table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    fold: u64,
    fingerprint: &'a Fingerprint,
}

impl<'a> Key<'a> {
    pub(super) fn new(fingerprint: &'a Fingerprint) -> Self {
        Self {
            fold: fold(fingerprint.as_bytes()),
            fingerprint,
        }
    }

    /// Its low bits choose the shard; its upper half, and some bits below, the place there.
    pub(super) fn fold(&self) -> u64 {
        self.fold
    }

    pub(super) fn fingerprint(&self) -> &'a Fingerprint {
        self.fingerprint
    }
}
