//! keepwarm keeps compiled artifacts warm.

mod artifact;
mod cache;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
mod disk;
mod error;
mod events;
mod fingerprint;
mod flight;
mod fold;
mod hex;
mod memory;
mod namespace;
mod stats;
mod store;
mod sync;
mod sys;
mod tiered;

pub use artifact::Artifact;
pub use cache::{Cache, CacheBuilder, EvictionReport, Namespace, Stats, default_path};
pub use digest::Digest;
pub use disk::{DiskStore, DiskStoreBuilder, Mapping};
pub use error::{Error, ErrorKind, Result};
pub use fingerprint::{Fingerprint, FingerprintBuilder, ParseHexError};
pub use memory::{MemoryStore, MemoryStoreBuilder};
pub use namespace::NamespaceId;
pub use stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
pub use store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store, StoreExt};
pub use tiered::{TierEvent, Tiered, TieredBuilder, WritePolicy};

/// Runs the examples of the README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
