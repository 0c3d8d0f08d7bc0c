//! Reading the artifact of an entry that was listed, beside others who put and remove.

use crate::failure::Result;
use keepwarm::{Artifact, DiskStore, EntryInfo, StoreExt as _};

/// A look-up that finds nothing under a key that is bound may have come between a removal and a
/// put: that is not damage, and does not happen again and again.
const LOOKS: usize = 3;

/// What is under the key of an entry now.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The artifact that was listed, verified.
    Artifact(Artifact),
    /// Nothing, or another artifact.
    Gone,
    /// It is bound, and not whole.
    Damaged,
}

/// The artifact of an entry.
pub(crate) fn fetch(store: &DiskStore, info: &EntryInfo) -> Result<Fetched> {
    for _ in 0..LOOKS {
        match store.get_artifact(&info.key)? {
            Some(artifact) if artifact.digest() == info.digest => {
                return Ok(Fetched::Artifact(artifact));
            }
            Some(_) => return Ok(Fetched::Gone),
            None => {}
        }
        let now = store.info(&info.key)?;
        if now.is_none_or(|now| now.digest != info.digest) {
            return Ok(Fetched::Gone);
        }
    }
    Ok(Fetched::Damaged)
}
