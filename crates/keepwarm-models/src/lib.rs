//! The concurrent parts of keepwarm, compiled against [shuttle]'s threads and locks, and models
//! that run them under random and adversarial schedules. A failing schedule is printed and can be
//! replayed.

#[path = "../../../src/flight.rs"]
mod flight;
pub mod flight_models;
mod sync;
