//! Budgets, refusals, and what is handed back.

use super::subject::{Subject, entry, key};
use super::{Case, Check, Config, Suite};
use crate::stats::EvictionReason;
use crate::store::{PutStatus, Rejection};
use std::collections::HashMap;

/// Budgets have room for so many entries of one unit.
const ROOM: u64 = 32;

const fn case(promise: &'static str, config: fn(&Suite) -> Config, check: Check) -> Case {
    Case {
        // A check with a budget applies if the store has that budget.
        applies: |suite| suite.entry_budget && suite.byte_budget,
        config,
        promise,
        check,
    }
}

const fn entries(promise: &'static str, config: fn(&Suite) -> Config, check: Check) -> Case {
    Case {
        applies: |suite| suite.entry_budget,
        ..case(promise, config, check)
    }
}

const fn bytes(promise: &'static str, config: fn(&Suite) -> Config, check: Check) -> Case {
    Case {
        applies: |suite| suite.byte_budget,
        ..case(promise, config, check)
    }
}

pub(super) const CASES: &[Case] = &[
    entries(
        "the entry budget holds and the newest entry stays",
        few_entries,
        hold,
    ),
    entries(
        "an entry budget of one keeps the newest entry",
        one_entry,
        hold,
    ),
    bytes(
        "the byte budget holds and the newest entry stays",
        few_bytes,
        hold,
    ),
    case(
        "both budgets hold and the newest entry stays",
        few_of_both,
        hold,
    ),
    bytes(
        "an entry that fits the whole budget is not refused",
        few_bytes,
        whole_budget,
    ),
    bytes("a refused put leaves its key absent", few_bytes, too_large),
    entries(
        "a budget of no entries accepts puts and keeps nothing",
        no_entries,
        nothing,
    ),
    bytes(
        "a budget of no bytes accepts puts and keeps nothing",
        no_bytes,
        nothing,
    ),
    entries(
        "an artifact stays intact when it is evicted",
        one_entry,
        held,
    ),
];

fn config(entries: Option<u64>, bytes: Option<u64>) -> Config {
    Config {
        entry_budget: entries,
        byte_budget: bytes,
    }
}

pub(super) fn few_entries(_: &Suite) -> Config {
    config(Some(ROOM), None)
}

fn one_entry(_: &Suite) -> Config {
    config(Some(1), None)
}

pub(super) fn few_bytes(suite: &Suite) -> Config {
    config(None, Some(ROOM * (suite.unit + suite.overhead)))
}

pub(super) fn few_of_both(suite: &Suite) -> Config {
    config(Some(ROOM / 2), few_bytes(suite).byte_budget)
}

fn no_entries(_: &Suite) -> Config {
    config(Some(0), None)
}

fn no_bytes(_: &Suite) -> Config {
    config(None, Some(0))
}

impl Subject<'_> {
    /// Requires that no more is kept than the budgets allow.
    #[track_caller]
    pub(super) fn within_budget(&self) {
        let stats = self.stats();
        if !self.suite.gauges {
            return;
        }
        let Config {
            entry_budget,
            byte_budget,
        } = self.config;
        let entries = entry_budget.is_none_or(|budget| stats.entries <= budget);
        self.require(entries, format_args!("stats say {} entries", stats.entries));
        let bytes = byte_budget.is_none_or(|budget| stats.cached_bytes <= budget);
        self.require(
            bytes,
            format_args!("stats say {} bytes", stats.cached_bytes),
        );
    }
}

/// Four times as much is put as there is room for, in sizes up to two units.
fn hold(subject: &Subject) {
    let unit = subject.suite.unit;
    let mut newest = HashMap::new();
    for n in 0..ROOM * 4 {
        let (key, entry) = (
            key(n % (ROOM * 3)),
            entry(n, unit / 2 + n * 37 % (unit * 3 / 2)),
        );
        if newest.insert(key, entry.clone()).is_some() && subject.suite.writes_behind {
            // It may take the place of its older entry in the order of writes, and be evicted for
            // what was put before it: not while nothing waits.
            subject.flush();
        }
        let outcome = subject.put_kept(&key, entry.clone());
        subject.within_budget();
        for displaced in &outcome.displaced {
            let Some(put) = newest.get(&displaced.key) else {
                subject.broken("a key was handed back that was never put");
            };
            subject.same(&displaced.key, &displaced.entry, put);
            if !subject.suite.writes_behind {
                subject.misses(&displaced.key);
            }
        }
        for report in &outcome.evictions {
            let sane = report.entries > 0 && !report.oldest_age.is_zero();
            subject.require(sane, format_args!("an empty report: {report:?}"));
        }
        subject.finds(&key, &entry);
    }
    subject.flush();
    let (mut entries, mut bytes) = (0, 0);
    for (key, entry) in &newest {
        if let Some(found) = subject.get(key) {
            subject.same(key, &found, entry);
            entries += 1;
            bytes += entry.artifact.len() as u64;
        }
    }
    let Config {
        entry_budget,
        byte_budget,
    } = subject.config;
    let over = entry_budget.is_some_and(|budget| entries > budget);
    subject.require(!over, format_args!("{entries} entries are kept"));
    // A store may keep equal or compressible bytes once, these are neither.
    let over = byte_budget.is_some_and(|budget| bytes > budget);
    subject.require(!over, format_args!("{bytes} bytes are kept"));
    subject.counts(entries);
}

fn whole_budget(subject: &Subject) {
    let whole = subject.config.byte_budget.unwrap_or(0) - subject.suite.overhead;
    for n in 0..ROOM {
        let _ = subject.put_kept(&key(n), entry(n, subject.suite.unit));
    }
    for n in [100, 101] {
        let _ = subject.put_kept(&key(n), entry(n, whole));
        subject.within_budget();
        subject.finds(&key(n), &entry(n, whole));
    }
    let _ = subject.put_kept(&key(0), entry(7, subject.suite.unit));
    subject.within_budget();
    subject.finds(&key(0), &entry(7, subject.suite.unit));
}

fn too_large(subject: &Subject) {
    let too_large = subject.config.byte_budget.unwrap_or(0) + 1;
    let unit = subject.suite.unit;
    let behind = subject.suite.writes_behind;
    let _ = subject.put_kept(&key(0), entry(0, unit));
    let _ = subject.put_kept(&key(1), entry(1, unit));
    for n in [0, 5] {
        let outcome = subject.put(&key(n), entry(9, too_large));
        let rejected = outcome.status == PutStatus::Rejected(Rejection::TooLarge);
        subject.require(
            rejected || behind,
            "a put larger than the budget is not refused",
        );
        let [back] = &outcome.displaced[..] else {
            subject.require(behind, "the refused entry alone is to be handed back");
            continue;
        };
        let itself = back.key == key(n);
        subject.require(itself, "another key than the refused one was handed back");
        subject.same(&back.key, &back.entry, &entry(9, too_large));
        let reported = outcome
            .evictions
            .iter()
            .map(|report| (report.reason, report.entries));
        let expected = (n == 0).then_some((EvictionReason::RejectedPut, 1));
        let right = reported.eq(expected);
        subject.require(
            right || behind,
            "only the older entry of a refused put is reported",
        );
    }
    subject.flush();
    subject.misses(&key(0));
    subject.misses(&key(5));
    subject.finds(&key(1), &entry(1, unit));
    subject.counts(1);
    let counted = subject.stats().rejected_puts;
    let right = counted == 2 || !subject.suite.counters || behind;
    subject.require(
        right,
        format_args!("{counted} refused puts were counted, not 2"),
    );
    let _ = subject.put_kept(&key(0), entry(2, unit));
    subject.finds(&key(0), &entry(2, unit));
}

fn nothing(subject: &Subject) {
    for len in [0, 1, subject.suite.unit, subject.suite.unit * 100] {
        let outcome = subject.put(&key(len), entry(1, len));
        let accepted = outcome.status == PutStatus::Stored;
        subject.require(accepted, "a put is not accepted");
        match &outcome.displaced[..] {
            [back] if back.key == key(len) => {
                subject.same(&back.key, &back.entry, &entry(1, len));
            }
            _ => {
                let behind = subject.suite.writes_behind;
                subject.require(behind, "the entry is not handed back");
            }
        }
        subject.flush();
        subject.misses(&key(len));
        subject.counts(0);
        subject.within_budget();
    }
}

fn held(subject: &Subject) {
    for len in [100, 1 << 20] {
        let _ = subject.put_kept(&key(0), entry(0, len));
        subject.flush();
        let Some(held) = subject.get(&key(0)) else {
            subject.broken("a put entry is a miss");
        };
        for n in 1..10 {
            let _ = subject.put_kept(&key(n), entry(n, len));
        }
        subject.flush();
        subject.same(&key(0), &held, &entry(0, len));
    }
}
