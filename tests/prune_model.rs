//! The choice of a prune against a model, over random histories and rules.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Entry, Mark, NamespaceId, Prune, PruneReason, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use support::{bytes, fast_dir, key, open};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[derive(Clone, Debug)]
enum Step {
    /// Of a namespace, so many hours old.
    Put(u64, u64, u32),
    Get(u64),
    Remove(u64),
    Mark,
    Flush,
}

#[derive(Clone, Debug)]
struct Rules {
    /// Hours and a half, so that no clock decides.
    older_than: Option<u32>,
    /// Which mark, counted from the last.
    unused_since: Option<usize>,
    namespaces: Vec<u64>,
    entries: Option<u64>,
}

#[derive(Clone, Debug)]
struct Known {
    namespace: u64,
    hours: u32,
    /// Steps count up: when it was last used.
    used: usize,
}

fn namespace(n: u64) -> NamespaceId {
    if n == 0 {
        NamespaceId::NONE
    } else {
        NamespaceId::from_u64(n)
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..25u64, 0..4u64, 0..6u32).prop_map(|(n, s, h)| Step::Put(n, s, h)),
        5 => (0..25u64).prop_map(Step::Get),
        1 => (0..25u64).prop_map(Step::Remove),
        1 => Just(Step::Mark),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..80)
}

fn rules() -> impl Strategy<Value = Rules> {
    (
        prop::option::of(0..6u32),
        prop::option::of(0..4usize),
        prop::collection::vec(0..4u64, 0..3),
        prop::option::of(0..20u64),
    )
        .prop_map(|(older_than, unused_since, namespaces, entries)| Rules {
            older_than,
            unused_since,
            namespaces,
            entries,
        })
}

/// Runs a history; what is there then, and the marks with the steps at which they were taken.
fn run(store: &DiskStore, steps: &[Step]) -> (BTreeMap<u64, Known>, Vec<(Mark, usize)>) {
    let mut model: BTreeMap<u64, Known> = BTreeMap::new();
    let mut marks = vec![(store.mark().unwrap(), 0)];
    for (at, step) in steps.iter().enumerate() {
        let used = at + 1;
        match *step {
            Step::Put(n, in_namespace, hours) => {
                // Other bytes each time, so that every put is one.
                let put_at = SystemTime::now() - HOUR * hours;
                let mut entry = Entry::from(bytes(n + 100 * used as u64, 60)).with_put_at(put_at);
                entry.namespace = namespace(in_namespace);
                let _ = store.put(&key(n), entry).unwrap();
                let namespace = in_namespace;
                model.insert(
                    n,
                    Known {
                        namespace,
                        hours,
                        used,
                    },
                );
            }
            Step::Get(n) => {
                assert_eq!(
                    store.get(&key(n)).unwrap().is_some(),
                    model.contains_key(&n)
                );
                if let Some(known) = model.get_mut(&n) {
                    known.used = used;
                }
            }
            Step::Remove(n) => {
                assert_eq!(store.remove(&key(n)).unwrap(), model.remove(&n).is_some());
            }
            Step::Mark => marks.push((store.mark().unwrap(), used)),
            Step::Flush => store.flush().unwrap(),
        }
    }
    (model, marks)
}

/// What the model says goes, and why.
fn choose(
    model: &BTreeMap<u64, Known>,
    rules: &Rules,
    mark: Option<usize>,
) -> BTreeMap<u64, PruneReason> {
    let mut goes = BTreeMap::new();
    let is_about =
        |known: &Known| rules.namespaces.is_empty() || rules.namespaces.contains(&known.namespace);
    let only_namespaces = rules.older_than.is_none() && mark.is_none() && rules.entries.is_none();
    for (n, known) in model.iter().filter(|(_, known)| is_about(known)) {
        if rules.older_than.is_some_and(|hours| known.hours > hours) {
            goes.insert(*n, PruneReason::OlderThan);
        } else if mark.is_some_and(|mark| known.used <= mark) {
            goes.insert(*n, PruneReason::UnusedSince);
        } else if only_namespaces && !rules.namespaces.is_empty() {
            goes.insert(*n, PruneReason::Namespace);
        }
    }
    if let Some(entries) = rules.entries {
        let mut rest: Vec<_> = model
            .iter()
            .filter(|(n, _)| !goes.contains_key(n))
            .collect();
        let mut left = rest.len() as u64;
        rest.sort_by_key(|(_, known)| known.used);
        for (n, _) in rest.into_iter().filter(|(_, known)| is_about(known)) {
            if left <= entries {
                break;
            }
            goes.insert(*n, PruneReason::Size);
            left -= 1;
        }
    }
    goes
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_prune_takes_what_the_model_says_and_nothing_else(
        steps in steps(),
        all_rules in prop::collection::vec(rules(), 1..4),
    ) {
        let dir = fast_dir();
        let store = open(dir.path());
        let (mut model, marks) = run(&store, &steps);
        for rules in &all_rules {
            let mark = rules.unused_since.map(|back| marks[marks.len().saturating_sub(1 + back)]);
            let mut prune = Prune::new();
            if let Some(hours) = rules.older_than {
                prune = prune.older_than(HOUR * hours + HOUR / 2);
            }
            if let Some((mark, _)) = mark {
                prune = prune.unused_since(mark);
            }
            for n in &rules.namespaces {
                prune = prune.namespace(namespace(*n));
            }
            if let Some(entries) = rules.entries {
                prune = prune.down_to_entries(entries);
            }
            let goes = choose(&model, rules, mark.map(|(_, at)| at));
            let expected: BTreeMap<_, _> = goes.iter().map(|(n, why)| (key(*n), *why)).collect();
            for dry_run in [true, false] {
                let mut went = BTreeMap::new();
                let rules = prune.clone().dry_run(dry_run);
                let report = store
                    .prune_with(&rules, |key, why| {
                        assert!(went.insert(*key, why).is_none(), "told twice");
                    })
                    .unwrap();
                prop_assert_eq!(&went, &expected);
                prop_assert_eq!(report.entries, goes.len() as u64);
            }
            model.retain(|n, _| !goes.contains_key(n));
            let left: Vec<_> = (0..25).filter(|n| store.contains(&key(*n)).unwrap()).collect();
            prop_assert_eq!(left, model.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(store.stats().entries, model.len() as u64);
        }
    }
}
