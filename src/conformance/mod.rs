//! The test suite that every [`Store`] must pass.
//!
//! Describe the store with a [`Suite`] and run it in a test. It asks for a fresh store for each
//! promise of the contract, and panics with a message that names the promise that was broken.
//!
//! ```
//! use keepwarm::MemoryStore;
//! use keepwarm::conformance::Suite;
//!
//! Suite::new(|config| {
//!     let builder = MemoryStore::builder();
//!     builder
//!         .byte_budget(config.byte_budget.unwrap_or(1 << 30))
//!         .entry_budget(config.entry_budget.unwrap_or(u64::MAX))
//!         .build()
//!         .unwrap()
//! })
//! .run();
//! ```
//!
//! A store need not have budgets or counters, see the settings of [`Suite`]; everything else is
//! asked of each.

mod basics;
mod budgets;
mod recency;
mod subject;
mod threads;

use crate::store::Store;
use std::fmt;
use subject::Subject;

/// The budgets of the store that a check asks for; a store that has no such budget, as the suite
/// was told, is never asked for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The most entries it may keep; `None` if it must keep some thousands.
    pub entry_budget: Option<u64>,
    /// The most bytes it may keep; `None` if it must keep at least 64 MiB.
    pub byte_budget: Option<u64>,
}

/// What is to be known of a store before it can be checked.
///
/// Without further settings a store is taken to have both budgets, to count an artifact as its
/// length, to count what it does, and to decide a put before it returns.
///
/// ```
/// # use keepwarm::MemoryStore;
/// # use keepwarm::conformance::Suite;
/// // What a store without limits and statistics would say.
/// Suite::new(|_| MemoryStore::builder().build().unwrap())
///     .without_entry_budget()
///     .without_byte_budget()
///     .without_counters()
///     .run();
/// ```
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent answers about a store"
)]
#[must_use = "a suite does nothing until `run`"]
pub struct Suite {
    make: Box<dyn Fn(Config) -> Box<dyn Store>>,
    entry_budget: bool,
    byte_budget: bool,
    overhead: u64,
    unit: u64,
    counters: bool,
    gauges: bool,
    writes_behind: bool,
    exact_lru: bool,
}

type Check = fn(&Subject);

/// When a check applies, what it asks for, its promise, and itself.
struct Case {
    applies: fn(&Suite) -> bool,
    config: fn(&Suite) -> Config,
    promise: &'static str,
    check: Check,
}

impl Suite {
    /// A suite over the stores that `make` makes. Each must be empty, and share nothing with those
    /// made before.
    pub fn new<S: Store + 'static>(make: impl Fn(Config) -> S + 'static) -> Self {
        Self {
            make: Box::new(move |config| Box::new(make(config))),
            entry_budget: true,
            byte_budget: true,
            overhead: 0,
            unit: 100,
            counters: true,
            gauges: true,
            writes_behind: false,
            exact_lru: false,
        }
    }

    /// The store does not limit its number of entries.
    pub fn without_entry_budget(mut self) -> Self {
        self.entry_budget = false;
        self
    }

    /// The store does not limit its bytes, so it refuses nothing.
    pub fn without_byte_budget(mut self) -> Self {
        self.byte_budget = false;
        self
    }

    /// The store counts up to `overhead` bytes more than its length for an artifact (a disk counts
    /// what it allocates). The budgets that the suite asks for are in proportion to the artifacts
    /// it puts, which are `unit` bytes long; choose it well above the overhead.
    pub fn byte_overhead(mut self, overhead: u64, unit: u64) -> Self {
        self.overhead = overhead;
        self.unit = unit;
        self
    }

    /// The store's [`stats`](Store::stats) are not checked at all.
    pub fn without_counters(mut self) -> Self {
        self.counters = false;
        self.gauges = false;
        self
    }

    /// The numbers of entries and bytes in the store's [`stats`](Store::stats) are not checked, as
    /// in a composition whose parts hold the same entry.
    pub fn without_gauges(mut self) -> Self {
        self.gauges = false;
        self
    }

    /// The store hands what it accepts to the background, so that a refusal or an eviction there
    /// is not in the outcome of the put that led to it. It is looked for after a `flush`. The
    /// outcome may report what left its front for its back, though there is room for everything.
    pub fn writes_behind(mut self) -> Self {
        self.writes_behind = true;
        self
    }

    /// The store evicts exactly the least recently used entry, over all keys.
    pub fn exact_lru(mut self) -> Self {
        self.exact_lru = true;
        self
    }

    /// Checks every promise.
    ///
    /// # Panics
    ///
    /// If the store breaks one; the message names it.
    pub fn run(&self) {
        let all = basics::CASES
            .iter()
            .chain(budgets::CASES)
            .chain(recency::CASES)
            .chain(threads::CASES);
        for case in all.filter(|case| (case.applies)(self)) {
            (case.check)(&Subject::new(self, case));
        }
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite")
            .field("entry_budget", &self.entry_budget)
            .field("byte_budget", &self.byte_budget)
            .field("overhead", &self.overhead)
            .field("unit", &self.unit)
            .field("counters", &self.counters)
            .field("gauges", &self.gauges)
            .field("writes_behind", &self.writes_behind)
            .field("exact_lru", &self.exact_lru)
            .finish_non_exhaustive()
    }
}
