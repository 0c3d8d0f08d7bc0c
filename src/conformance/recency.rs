//! The order of eviction, for stores that say they keep it exactly.

use super::subject::{Subject, entry, key};
use super::{Case, Check, Config};

const ENTRIES: u64 = 8;

const fn case(promise: &'static str, check: Check) -> Case {
    Case {
        applies: |suite| suite.entry_budget && suite.exact_lru,
        config: |_| Config {
            entry_budget: Some(ENTRIES),
            byte_budget: None,
        },
        promise,
        check,
    }
}

pub(super) const CASES: &[Case] = &[
    case("the least recently used entry goes first", |subject| {
        fill(subject);
        goes(subject, 0..ENTRIES);
    }),
    case("a get refreshes recency", |subject| {
        fill(subject);
        subject.get(&key(0));
        goes(subject, (1..ENTRIES).chain([0]));
    }),
    case("a touch refreshes recency", |subject| {
        fill(subject);
        subject.touch(&[key(1), key(0)]);
        goes(subject, (2..ENTRIES).chain([1, 0]));
    }),
    case("a replacement refreshes recency", |subject| {
        fill(subject);
        let _ = subject.put_kept(&key(2), entry(50, 20));
        goes(subject, [0, 1].into_iter().chain(3..ENTRIES).chain([2]));
    }),
    case("contains leaves recency alone", |subject| {
        fill(subject);
        for n in [0, 3, 99] {
            subject.contains(&key(n));
        }
        goes(subject, 0..ENTRIES);
    }),
];

fn fill(subject: &Subject) {
    for n in 0..ENTRIES {
        let _ = subject.put_kept(&key(n), entry(n, 20));
    }
}

/// Puts one new entry after the other and requires that the old ones go in this order.
fn goes(subject: &Subject, order: impl Iterator<Item = u64>) {
    for (n, oldest) in (100..).zip(order) {
        let _ = subject.put_kept(&key(n), entry(n, 20));
        let there = subject.contains(&key(oldest));
        subject.require(!there, format_args!("entry {oldest} outlived a newer one"));
    }
}
