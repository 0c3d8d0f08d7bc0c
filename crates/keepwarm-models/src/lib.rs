//! keepwarm under a model checker.
//!
//! The files of the library are compiled here a second time, beside a [`sync`] module whose locks,
//! atomics and threads are those of [shuttle], and beside a [`sys`] module whose files are
//! simulated. So the checker drives the real code, under random and adversarial schedules (PCT). A
//! failing schedule is printed and can be replayed.
//!
//! | models | what runs | what is checked |
//! |---|---|---|
//! | [`flight_models`] | `flight.rs` | one build a key; failures and panics hand over; rings and re-entrance end |
//! | [`tiered_models`] | `tiered/` over two plain stores | put, remove, clear, promotion, demotion and flush of one key |
//! | [`memory_models`] | `memory/`, all of it | budgets, counters and what is handed back; locks |
//! | [`disk_models`] | `disk/`, all of it, on simulated files | what gets see while others put, remove, flush, clear, move |
//!
//! # What the checker can see
//!
//! Shuttle runs one thread at a time and switches at every operation of [`sync`], so everything
//! that is ordered by locks or sequentially consistent atomics is covered; its atomics know no
//! weaker order. That is enough for `flight`, `tiered` and `memory`, where a mutex orders whatever
//! matters. Time does not pass: a wait with a bound that nobody ends is a deadlock, which is
//! reported.
//!
//! The index is different: it is read without any lock while other processes write it. So its
//! words ([`sync::IndexWord`]) remember every value they ever had, and a load may return any of
//! them that is not older than what the thread has seen of this word, or than a store that happened
//! before the load. That is what the memory model grants to relaxed loads, for each word by
//! itself; a simulated `pwrite` stores its words in any order and now and then in parts. See
//! [`sys`].
//!
//! # What it caught
//!
//! Each of these changes of the library, made by hand, fails a model:
//!
//! MUTATIONS

#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_imports,
    unexpected_cfgs,
    clippy::pedantic,
    rustdoc::broken_intra_doc_links,
    rustdoc::private_intra_doc_links,
    reason = "what is compiled here a second time is linted where it belongs"
)]

#[path = "../../../src/artifact.rs"]
mod artifact;
#[path = "../../../src/digest.rs"]
mod digest;
#[path = "../../../src/disk/mod.rs"]
mod disk;
pub mod disk_models;
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/events.rs"]
mod events;
#[path = "../../../src/fingerprint.rs"]
mod fingerprint;
#[path = "../../../src/flight.rs"]
mod flight;
pub mod flight_models;
#[path = "../../../src/fold.rs"]
mod fold;
#[path = "../../../src/hex.rs"]
mod hex;
#[path = "../../../src/memory/mod.rs"]
mod memory;
pub mod memory_models;
#[path = "../../../src/namespace.rs"]
mod namespace;
#[path = "../../../src/stats.rs"]
mod stats;
#[path = "../../../src/store.rs"]
mod store;
mod sync;
mod sys;
#[path = "../../../src/tiered/mod.rs"]
mod tiered;
pub mod tiered_models;

// Where the library expects its own names.
use artifact::Artifact;
use digest::Digest;
use disk::{DiskStore, Mapping};
use error::{Error, ErrorKind, Result};
use fingerprint::{Fingerprint, FingerprintBuilder, ParseHexError};
use memory::MemoryStore;
use namespace::NamespaceId;
use stats::{Durability, Eviction, EvictionReason, StoreStats, Tier};
use store::{Displaced, Entry, PutOutcome, PutStatus, Rejection, Store, StoreExt};
use tiered::{TierEvent, Tiered, WritePolicy};

type Thread = Box<dyn FnOnce() + Send>;

/// Runs all at once, then lets `last` look at what is left.
fn at_once(threads: Vec<Thread>, last: impl FnOnce()) {
    let threads: Vec<_> = threads.into_iter().map(shuttle::thread::spawn).collect();
    for thread in threads {
        assert!(thread.join().is_ok(), "a thread of the model panicked");
    }
    last();
}
