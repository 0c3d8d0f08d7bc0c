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
//! A bug of the library: a get could miss a key that was there all the while, because a rebinding
//! and a flush moved it from the bucket that the look-up had yet to come to into the one where it
//! had been (see `moving_bindings` in `disk/lookup.rs`).
//!
//! Each of these changes of the library, made by hand, fails a model:
//!
//! | change | caught by |
//! |---|---|
//! | `Budget::claim` takes an entry off although no limit is exceeded any more | memory: evicted more than was needed |
//! | a shard does not count a new entry | memory: miscounted |
//! | `Flights::join` looks no further than its own thread for a cycle | flight: a deadlock |
//! | a promotion does not ask whether the key changed | tiered: came back, an older value |
//! | `Tiered::clear` keeps what is unwritten | tiered: came back |
//! | what was not found is not looked for again, or only at first (`moving_bindings`) | disk: a miss after a hit |
//! | bindings are taken as they are found (`settled_bindings`) | disk: an older value |
//! | a binding that is not live is served | disk: came back |
//! | `unbind` does not mark bindings dead, or only the newest | disk: came back, an older value |
//! | a flush buries the newest binding as well | disk: a miss |
//! | `bind` does not ask whether the pack still has its name | disk: lost after the clear |
//! | `bind` does not ask whether the content is still there | disk: lost |
//! | a replaced table is not marked *retiring* | disk: an older value |
//!
//! Not caught, so argued only: the order of the steps of `Tiered::remove`; the second of the two
//! fences of `moving_bindings`; the comparison of the full key with a slot's (settling hides it); the
//! last look before a pack is unlinked.

#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_imports,
    unexpected_cfgs,
    clippy::all,
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
#[path = "../../../src/few.rs"]
mod few;
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
#[path = "../../../src/panics.rs"]
mod panics;
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

/// Runs a model under random schedules, then under adversarial ones with up to `depth` switches
/// where they hurt (PCT): `KEEPWARM_MODEL_RUNS` of each, or `runs` where that is not set.
pub fn check(model: fn(), runs: usize, depth: usize) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    let wanted = std::env::var("KEEPWARM_MODEL_RUNS").ok();
    let runs = wanted.and_then(|runs| runs.parse().ok()).unwrap_or(runs);
    let config = || {
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        // Of weaker orders it knows nothing: see above for what does.
        config.silence_warnings = true;
        config
    };
    shuttle::Runner::new(RandomScheduler::new(runs), config()).run(model);
    shuttle::Runner::new(PctScheduler::new(depth, runs), config()).run(model);
}
