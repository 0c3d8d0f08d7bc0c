//! keepwarm keeps compiled artifacts warm.

mod artifact;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
mod error;
mod fingerprint;
mod fold;
mod hex;
mod memory;
mod namespace;
mod stats;
mod store;
mod sys;

pub use artifact::Artifact;
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use fingerprint::{Fingerprint, FingerprintBuilder, ParseHexError};
pub use memory::{MemoryStore, MemoryStoreBuilder};
pub use namespace::NamespaceId;
pub use stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
pub use store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store, StoreExt};
