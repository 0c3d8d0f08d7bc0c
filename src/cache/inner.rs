//! What all handles of a cache share, and how a store's errors become misses.

use super::counters::Counters;
use super::reports::Reports;
use super::{Namespace, Stats};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::flight::Flights;
use crate::namespace::NamespaceId;
use crate::stats::{StoreStats, Tier};
use crate::store::{Entry, Store};
use crate::tiered::Hold;
use crate::{DiskStore, MemoryStore, Tiered};
use rustc_hash::FxHashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) struct Inner {
    pub(super) backend: Backend,
    pub(super) flights: Flights<Fingerprint, Entry>,
    pub(super) counters: Arc<Counters>,
    pub(super) reports: Arc<Reports>,
    pub(super) build_wait: Duration,
    pub(super) degraded: Option<String>,
    /// Namespaces whose names were given to the disk, or should have been.
    pub(super) named: Mutex<FxHashSet<NamespaceId>>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "there is one for a cache, and hits go through it"
)]
pub(super) enum Backend {
    Off,
    Memory(MemoryStore),
    Tiers(Tiered<MemoryStore, DiskStore>),
}

impl Inner {
    pub(super) fn new(backend: Backend, reports: Arc<Reports>, build_wait: Duration) -> Self {
        let counters = Arc::new(Counters::default());
        if let Backend::Tiers(tiers) = &backend {
            // Asked when it writes its counters, so that a hit here tells nobody anything.
            let (counters, reports) = (Arc::clone(&counters), Arc::clone(&reports));
            tiers
                .lower()
                .count_above(move || counters.above(reports.promotions()));
        }
        Self {
            backend,
            flights: Flights::new(),
            counters,
            reports,
            build_wait,
            degraded: None,
            named: Mutex::default(),
        }
    }

    pub(super) fn store(&self) -> Option<&dyn Store> {
        match &self.backend {
            Backend::Off => None,
            Backend::Memory(memory) => Some(memory),
            Backend::Tiers(tiers) => Some(tiers),
        }
    }

    /// What a store said, or nothing and a fault.
    pub(super) fn or_fault<T>(&self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.reports.fault(&error)).ok()
    }

    /// A look that the façade does not count.
    pub(super) fn look(&self, key: &Fingerprint) -> Option<Entry> {
        self.or_fault(self.store()?.get(key)).flatten()
    }

    pub(super) fn get(&self, key: &Fingerprint) -> Option<Entry> {
        let found = self.look(key);
        match &found {
            Some(entry) => self.counters.hit(entry.build_cost),
            None => self.counters.miss(),
        }
        found
    }

    pub(super) fn contains(&self, key: &Fingerprint) -> bool {
        let store = self.store();
        let found = store.and_then(|store| self.or_fault(store.contains(key)));
        found.unwrap_or(false)
    }

    /// `hold` is dropped when the entry is on disk, or will not be.
    pub(super) fn put(
        &self,
        key: &Fingerprint,
        within: Option<&Namespace>,
        mut entry: Entry,
        hold: Option<Hold>,
    ) {
        let Some(store) = self.store() else { return };
        self.counters.puts.add(1);
        if let Some(namespace) = within {
            entry.namespace = namespace.id();
            self.name_on_disk(namespace);
        }
        // So that both tiers count its age from the same moment.
        let entry = entry.stamped_now();
        let done = match &self.backend {
            Backend::Tiers(tiers) => tiers.put_holding(key, entry, hold),
            Backend::Off | Backend::Memory(_) => store.put(key, entry),
        };
        let Some(outcome) = self.or_fault(done) else {
            return;
        };
        // The tiers report theirs as events.
        if matches!(self.backend, Backend::Memory(_)) {
            for eviction in &outcome.evictions {
                self.reports.evicted(eviction);
            }
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let hot = self.counters.hot();
        let counters = &self.counters;
        let (faults, last_fault) = self.reports.faults();
        let (all, memory, disk) = self.store_stats();
        Stats {
            enabled: !matches!(self.backend, Backend::Off),
            degraded: self.degraded.clone(),
            lookups: hot.hits.saturating_add(hot.misses),
            hits: hot.hits,
            misses: hot.misses,
            puts: counters.puts.get(),
            builds: counters.builds.get(),
            failed_builds: counters.failed_builds.get(),
            build_time: counters.build_nanos.time(),
            build_time_saved: Duration::from_nanos(hot.saved_nanos),
            waits: counters.waits.get(),
            wait_time: counters.wait_nanos.time(),
            shared_builds: counters.shared_builds.get(),
            build_time_shared: counters.shared_nanos.time(),
            lone_builds: counters.lone_builds.get(),
            process_waits: counters.process_waits.get(),
            process_wait_time: counters.process_wait_nanos.time(),
            process_shared_builds: counters.process_shared_builds.get(),
            process_build_time_shared: counters.process_shared_nanos.time(),
            faults,
            last_fault,
            listener_panics: self.reports.listener_panics(),
            promotions: all.promotions,
            promoted_bytes: all.promoted_bytes,
            demotions: all.demotions,
            demoted_bytes: all.demoted_bytes,
            flushes: all.flushes,
            flush_errors: all.flush_errors,
            memory,
            disk,
        }
    }

    /// The stats of the whole, of memory, and of the disk.
    fn store_stats(&self) -> (StoreStats, StoreStats, Option<StoreStats>) {
        match &self.backend {
            Backend::Off => {
                let memory = StoreStats {
                    tier: Tier::Memory,
                    ..StoreStats::default()
                };
                (StoreStats::default(), memory, None)
            }
            Backend::Memory(memory) => {
                let memory = memory.stats();
                (memory.clone(), memory, None)
            }
            Backend::Tiers(tiers) => {
                let disk = tiers.lower().stats();
                (tiers.stats(), tiers.upper().stats(), Some(disk))
            }
        }
    }
}
