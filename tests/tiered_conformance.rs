//! A composition keeps the contract that its parts keep.
#![cfg(feature = "conformance")]

use keepwarm::conformance::Suite;
use keepwarm::{MemoryStore, Store, Tiered, WritePolicy};

fn memory(bytes: Option<u64>, entries: Option<u64>) -> MemoryStore {
    let builder = MemoryStore::builder().byte_budget(bytes.unwrap_or(1 << 30));
    let builder = builder.entry_budget(entries.unwrap_or(u64::MAX));
    builder.build().expect("valid budgets")
}

#[test]
fn a_composition_keeps_the_contract_under_either_policy() {
    for policy in [WritePolicy::OnInsert, WritePolicy::OnEviction] {
        for above in [0, 1000, 1 << 30] {
            Suite::new(move |config| {
                let upper = memory(Some(above), None);
                let lower = memory(config.byte_budget, config.entry_budget);
                Tiered::builder(upper, lower).write_policy(policy).build()
            })
            .without_byte_budget()
            .without_entry_budget()
            .writes_behind()
            .without_gauges()
            .run();
        }
    }
}

#[test]
fn a_composition_above_nothing_else_keeps_the_budgets_of_the_lower_tier() {
    Suite::new(|config| {
        let lower = memory(config.byte_budget, config.entry_budget);
        Tiered::builder(memory(Some(0), None), lower).build()
    })
    .writes_behind()
    .without_gauges()
    .run();
}

#[test]
fn nested_compositions_keep_the_contract() {
    Suite::new(|_| {
        let below = Tiered::builder(memory(Some(3000), None), memory(None, None)).build();
        let below: Box<dyn Store> = Box::new(below);
        Tiered::builder(memory(Some(500), None), below)
            .write_policy(WritePolicy::OnEviction)
            .build()
    })
    .without_byte_budget()
    .without_entry_budget()
    .writes_behind()
    .without_gauges()
    .run();
}
