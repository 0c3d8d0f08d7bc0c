//! The concurrent parts of keepwarm, compiled against [shuttle]'s threads and locks, and models
//! that run them under random and adversarial schedules. A failing schedule is printed and can be
//! replayed.

#[path = "../../../src/flight.rs"]
mod flight;
pub mod flight_models;
mod sync;
pub mod tiered_models;

// What the tiers are made of does not synchronise anything.
pub use keepwarm::{Durability, TierEvent};
mod error {
    pub(crate) use keepwarm::{Error, ErrorKind, Result};
}
mod fingerprint {
    pub(crate) use keepwarm::Fingerprint;
}
mod stats {
    pub(crate) use keepwarm::{Durability, Eviction, StoreStats, Tier};
}
mod store {
    pub(crate) use keepwarm::{Displaced, Entry, PutOutcome, PutStatus, Store};
}
mod events {
    //! Nobody listens.
    use keepwarm::Fingerprint;

    pub(crate) fn promoted(_: &Fingerprint, _: u64) {}
    pub(crate) fn demoted(_: &Fingerprint, _: u64) {}
    pub(crate) fn write_failed(_: &Fingerprint, _: &str) {}
}

#[path = "../../../src/tiered/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::pedantic,
    rustdoc::broken_intra_doc_links
)]
mod tiered;
