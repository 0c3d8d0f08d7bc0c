//! keepwarm keeps compiled artifacts warm.

mod artifact;
mod digest;
mod error;
mod fingerprint;
mod hex;
mod namespace;
mod stats;
mod store;
mod sys;

pub use artifact::Artifact;
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use fingerprint::{Fingerprint, FingerprintBuilder, ParseHexError};
pub use namespace::NamespaceId;
pub use stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
pub use store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store, StoreExt};

/// Runs the examples of the README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
