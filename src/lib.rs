//! keepwarm keeps compiled artifacts warm.

mod artifact;
mod digest;
mod error;
mod events;
mod fingerprint;
mod hex;
mod namespace;
mod stats;
mod store;
mod sync;
mod sys;
mod tiered;

pub use artifact::Artifact;
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use fingerprint::{Fingerprint, FingerprintBuilder, ParseHexError};
pub use namespace::NamespaceId;
pub use stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
pub use store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store, StoreExt};
pub use tiered::{TierEvent, Tiered, TieredBuilder, WritePolicy};
