//! keepwarm keeps compiled artifacts warm: GPU pipelines, shader binaries, AOT modules, any bytes
//! that cost time to make.
//!
//! A sharded in-memory LRU stands in front of a content-addressed directory, which survives
//! restarts and is shared by every process on the machine. Whatever happened to that directory, a
//! look-up gives the exact bytes that were put under the key, or nothing.
//!
//! ```
//! use keepwarm::{Artifact, Cache, Fingerprint};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let cache = Cache::builder()
//!     .memory_budget(256 << 20) // bytes
//!     .disk_budget(5 << 30)
//!     .open(path)?;
//!
//! let source = "@compute @workgroup_size(1) fn main() {}";
//! let key = Fingerprint::builder("wgsl-to-spirv") // separates one use from every other
//!     .field("compiler", "1.0") // everything the output depends on
//!     .field("source", source)
//!     .finish();
//!
//! let compile = || Ok::<_, std::io::Error>(source.to_uppercase().into_bytes());
//! let artifact: Artifact = cache.get_or_insert_with(&key, compile)?;
//! assert!(artifact.starts_with(b"@COMPUTE"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to read on
//!
//! | you want to | see |
//! |---|---|
//! | cache what a program compiles | [`Cache`], [`CacheBuilder`], [`Fingerprint`] |
//! | keep artifacts of several drivers or tenants apart | [`Cache::namespace`] |
//! | know what is safe from a kill or a power cut | [`Cache::durability`], [`Cache::flush`] |
//! | know what the cache did | [`Cache::stats`], [`Cache::eviction_reports`] |
//! | use one tier alone, or put a store of your own behind another | [`Store`], [`MemoryStore`], [`DiskStore`], [`Tiered`] |
//! | keep whoever may write to the directory from forging what you execute | [`CacheBuilder::authenticate`] |
//! | hash less often, or look at everything at once | [`Verify`], [`DiskStore::verification`] |
//! | read a directory that may not be changed, or share one | [`DiskStoreBuilder::read_only`], [`Sharing`] |
//! | know what can go wrong with mapped files | [`Artifact`], [`Mapping`] |
//!
//! `docs/` in the repository has the design and its invariants (`design.md`), every byte on disk
//! (`format.md`), the proof of each `unsafe` and the threat model (`safety.md`).
//!
//! # Features
//!
//! | feature | what |
//! |---|---|
//! | `conformance` | the test suite that every [`Store`] must pass, for stores of your own |
//! | `tracing` | evictions, promotions, demotions, corruption and failed writes as `tracing` events |
//!
//! None is on by default.

mod artifact;
mod cache;
#[cfg(feature = "conformance")]
pub mod conformance;
mod digest;
mod disk;
mod error;
mod events;
mod few;
mod fingerprint;
mod flight;
mod fold;
mod hex;
mod memory;
mod namespace;
mod panics;
mod stats;
mod store;
mod sync;
mod sys;
mod tiered;

pub use artifact::Artifact;
pub use cache::{
    Cache, CacheBuilder, EvictionReport, Namespace, Stats, WarmUpEnd, WarmUpProgress, WarmUpReport,
    default_path,
};
pub use digest::Digest;
pub use disk::{
    DirectoryStats, DiskStore, DiskStoreBuilder, Entries, EntryInfo, Fault, Finding, HistorySample,
    Mapping, Mark, NamespaceInfo, Prune, PruneReason, PruneReport, Pruned, Sharing, StoredAs,
    Verification, VerificationProgress, VerificationReport, Verify,
};
pub use error::{Error, ErrorKind, Result};
pub use few::Few;
pub use fingerprint::{Fingerprint, FingerprintBuilder, ParseHexError};
pub use memory::{MemoryStore, MemoryStoreBuilder};
pub use namespace::NamespaceId;
pub use stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
pub use store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store, StoreExt};
pub use tiered::{TierEvent, Tiered, TieredBuilder, WritePolicy};

/// What the fuzzers in `fuzz/` reach beyond the public interface; exists for them only.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    /// Decodes any bytes as whatever the first of them says.
    pub fn decode(input: &[u8]) {
        crate::disk::fuzzing::decode(input);
    }

    /// Runs operations with failing calls and power cuts against a model.
    ///
    /// # Panics
    ///
    /// If a promise was broken.
    pub fn weather(input: &[u8]) {
        if let Err(e) = crate::disk::trial::fuzz(input) {
            panic!("{e}");
        }
    }
}

/// Runs the examples of the README as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
