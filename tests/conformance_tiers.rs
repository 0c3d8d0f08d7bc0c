//! The suite that every store must pass, over the directory and over compositions of tiers.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

mod support;

use keepwarm::conformance::{Config, Suite};
use keepwarm::{DiskStore, Mapping, MemoryStore, Store, Tiered, WritePolicy};
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::wait;
use tempfile::TempDir;

/// The directories of one suite, which go with it.
#[derive(Clone, Default)]
struct Directories(Arc<Mutex<Vec<TempDir>>>);

impl Directories {
    fn disk(&self, mapping: Mapping, config: Config) -> DiskStore {
        let dir = support::fast_dir();
        let store = disk(dir.path(), mapping, config);
        self.0.lock().unwrap().push(dir);
        store
    }
}

fn disk(dir: &Path, mapping: Mapping, config: Config) -> DiskStore {
    let builder = DiskStore::builder()
        .byte_budget(config.byte_budget.unwrap_or(u64::MAX))
        .entry_budget(config.entry_budget.unwrap_or(u64::MAX))
        .mapping(mapping);
    wait(builder.open(dir).unwrap())
}

/// A memory tier that holds little of what the suite puts, so that both tiers are at work, and a
/// small part of the budget, so that the composition keeps no more than its lower tier does.
fn small_memory(config: Config) -> MemoryStore {
    let bytes = config.byte_budget.map_or(60_000, |bytes| bytes / 8);
    let entries = config.entry_budget.map_or(12, |entries| entries / 8);
    let builder = MemoryStore::builder().byte_budget(bytes);
    builder.entry_budget(entries).build().unwrap()
}

/// A suite for what counts the bytes it allocates: an artifact's blocks or its place in a pack.
/// Artifacts around 20 kB are inline or objects, as chance has it.
fn suite<S: Store + 'static>(make: impl Fn(Config) -> S + 'static) -> Suite {
    Suite::new(make).byte_overhead(12_000, 20_000)
}

/// A suite for a memory tier in front of that: the same entry may be in both.
fn tiers<S: Store + 'static>(make: impl Fn(Config) -> S + 'static) -> Suite {
    suite(make).without_gauges().writes_behind()
}

const POLICIES: [WritePolicy; 2] = [WritePolicy::OnInsert, WritePolicy::OnEviction];

fn run_over(mapping: Mapping) {
    let directories = Directories::default();
    suite(move |config| directories.disk(mapping, config)).run();
}

#[test]
fn a_disk_store_conforms() {
    run_over(Mapping::Large);
}

#[test]
fn a_disk_store_that_copies_artifacts_conforms() {
    run_over(Mapping::IndexOnly);
}

#[test]
fn a_disk_store_that_maps_nothing_conforms() {
    run_over(Mapping::Never);
}

fn over<L: Store>(config: Config, lower: L, policy: WritePolicy) -> Tiered<MemoryStore, L> {
    let builder = Tiered::builder(small_memory(config), lower);
    builder.write_policy(policy).build()
}

#[test]
fn memory_over_a_disk_store_conforms_under_both_policies() {
    for policy in POLICIES {
        let directories = Directories::default();
        tiers(move |config| over(config, directories.disk(Mapping::Large, config), policy)).run();
    }
}

#[test]
fn memory_over_memory_over_a_disk_store_conforms_under_both_policies() {
    for policy in POLICIES {
        let directories = Directories::default();
        tiers(move |config| {
            let disk = directories.disk(Mapping::IndexOnly, config);
            let entries = config.entry_budget.map_or(3, |entries| entries / 16);
            let bytes = config.byte_budget.map_or(u64::MAX, |bytes| bytes / 16);
            let memory = MemoryStore::builder().entry_budget(entries);
            let memory = memory.byte_budget(bytes).build().unwrap();
            let builder = Tiered::builder(memory, over(config, disk, policy));
            builder.write_policy(policy).build()
        })
        .run();
    }
}

#[test]
fn pointers_to_a_disk_store_and_to_a_composition_conform() {
    let directories = Directories::default();
    suite(move |config| -> Arc<dyn Store> { Arc::new(directories.disk(Mapping::Large, config)) })
        .run();
    let directories = Directories::default();
    // A leaked store, behind a plain reference, would make its directory anew when that is gone.
    suite(move |config| Box::new(directories.disk(Mapping::Large, config))).run();
    let directories = Directories::default();
    tiers(move |config| -> Box<dyn Store> {
        let disk: Box<dyn Store> = Box::new(directories.disk(Mapping::Large, config));
        Box::new(over(config, disk, WritePolicy::OnInsert))
    })
    .run();
}
