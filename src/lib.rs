//! keepwarm keeps compiled artifacts warm.

mod artifact;
mod cache;
mod digest;
mod error;
mod fingerprint;
mod flight;
mod hex;
mod namespace;
mod stats;
mod store;
mod sync;
mod sys;

pub use artifact::Artifact;
pub use cache::{Cache, CacheBuilder, EvictionReport, Namespace, Stats, default_path};
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use fingerprint::{Fingerprint, FingerprintBuilder, ParseHexError};
pub use namespace::NamespaceId;
pub use stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
pub use store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store, StoreExt};
