//! What every store must do, one call after the other and with room for everything.

use super::subject::{Subject, entry, key};
use super::{Case, Check, Config};
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::store::{Entry, PutStatus};
use std::time::Duration;

const fn case(promise: &'static str, check: Check) -> Case {
    Case {
        applies: |_| true,
        config: |_| Config {
            entry_budget: None,
            byte_budget: None,
        },
        promise,
        check,
    }
}

const fn counted(promise: &'static str, check: Check) -> Case {
    Case {
        applies: |suite| suite.counters,
        ..case(promise, check)
    }
}

pub(super) const CASES: &[Case] = &[
    case("an absent key is a miss", absent),
    case("a get returns what was put", put_get),
    case("namespace and build cost are kept", kept_beside),
    case("a later put replaces an earlier one", replace),
    case("a put of what is there changes nothing", put_again),
    case("remove unbinds a key, and only that", remove),
    case("clear unbinds every key", clear),
    case(
        "a flush succeeds while nothing failed, and changes nothing",
        flush,
    ),
    case(
        "artifacts of any length are kept, empty and large ones too",
        lengths,
    ),
    case(
        "keys that differ in one bit are different keys",
        low_entropy,
    ),
    case(
        "equal bytes under several keys are independent",
        equal_bytes,
    ),
    case("a touch changes no entry and skips absent keys", touch),
    case("an artifact stays intact as long as it is held", held),
    counted(
        "gets, hits, misses and puts are counted, nothing else is",
        counters,
    ),
    Case {
        applies: |suite| suite.gauges,
        ..case("the number of entries is right at any time", gauges)
    },
];

fn absent(subject: &Subject) {
    for n in 0..3 {
        subject.misses(&key(n));
        let removed = subject.remove(&key(n));
        subject.require(!removed, "an absent key was removed");
    }
    subject.counts(0);
}

fn put_get(subject: &Subject) {
    for n in 0..100 {
        let outcome = subject.put_kept(&key(n), entry(n, 10 + n));
        let stored = outcome.status == PutStatus::Stored;
        subject.require(stored, "a first put is not reported as stored");
        // What one tier of a composition evicts into the next is reported, not displaced.
        let reported = !outcome.evictions.is_empty() && !subject.suite.writes_behind;
        let displaced = reported || !outcome.displaced.is_empty();
        subject.require(
            !displaced,
            "a put displaced something, though there is room",
        );
        subject.finds(&key(n), &entry(n, 10 + n));
    }
    for n in 0..100 {
        subject.finds(&key(n), &entry(n, 10 + n));
    }
    subject.misses(&key(100));
}

fn kept_beside(subject: &Subject) {
    let day = Duration::from_secs(24 * 60 * 60);
    let costs = [Duration::ZERO, Duration::from_nanos(1), day * 365];
    let namespaces = [
        NamespaceId::NONE,
        NamespaceId::of(""),
        NamespaceId::from_u64(u64::MAX),
    ];
    for (n, (cost, namespace)) in (0..).zip(costs.into_iter().zip(namespaces)) {
        let mut entry = Entry::from(vec![1, 2, 3]);
        (entry.build_cost, entry.namespace) = (cost, namespace);
        let _ = subject.put_kept(&key(n), entry.clone());
        subject.finds(&key(n), &entry);
    }
}

fn replace(subject: &Subject) {
    let _ = subject.put_kept(&key(1), entry(1, 30));
    for (n, len) in (10..).zip([30, 7, 400_000, 1, 50]) {
        let outcome = subject.put_kept(&key(0), entry(n, len));
        let none = outcome.displaced.is_empty();
        subject.require(
            none,
            "what was replaced was handed back, from where it could return",
        );
        subject.finds(&key(0), &entry(n, len));
    }
    subject.finds(&key(1), &entry(1, 30));
    subject.counts(2);
}

fn put_again(subject: &Subject) {
    for _ in 0..3 {
        let _ = subject.put_kept(&key(0), entry(0, 50));
        let found = subject.get(&key(0));
        let _ = subject.put_kept(&key(0), found.unwrap_or_else(|| entry(9, 9)));
        subject.finds(&key(0), &entry(0, 50));
    }
    subject.counts(1);
}

fn remove(subject: &Subject) {
    for n in 0..3 {
        let _ = subject.put_kept(&key(n), entry(n, 20));
    }
    subject.require(
        subject.remove(&key(1)),
        "remove denies a key that was bound",
    );
    subject.misses(&key(1));
    let again = subject.remove(&key(1));
    subject.require(!again, "remove asserts a key that it had removed");
    subject.finds(&key(0), &entry(0, 20));
    subject.finds(&key(2), &entry(2, 20));
    subject.counts(2);
    let _ = subject.put_kept(&key(1), entry(7, 20));
    subject.finds(&key(1), &entry(7, 20));
}

fn clear(subject: &Subject) {
    subject.clear();
    for n in 0..50 {
        let _ = subject.put_kept(&key(n), entry(n, 20));
    }
    subject.clear();
    for n in 0..50 {
        subject.misses(&key(n));
    }
    subject.counts(0);
    let _ = subject.put_kept(&key(1), entry(2, 20));
    subject.finds(&key(1), &entry(2, 20));
    subject.counts(1);
}

fn lengths(subject: &Subject) {
    const MIB: u64 = 1 << 20;
    let near = [64, 4096, 16 << 10, 64 << 10, 256 << 10, MIB];
    let mut lengths = vec![0, 1, 5 * MIB + 3];
    lengths.extend(near.iter().flat_map(|len| [len - 1, *len, len + 1]));
    let numbered = (0..).zip(lengths);
    let all: Vec<_> = numbered.map(|(n, len)| (key(n), entry(n, len))).collect();
    for (key, entry) in &all {
        let _ = subject.put_kept(key, entry.clone());
        subject.finds(key, entry);
    }
    subject.flush();
    for (key, entry) in &all {
        subject.finds(key, entry);
    }
}

fn low_entropy(subject: &Subject) {
    let mut keys = vec![[0; 32], [0xff; 32]];
    for at in 0..32 {
        for bit in 0..8 {
            let mut key = [0; 32];
            key[at] = 1 << bit;
            keys.push(key);
        }
    }
    for n in 1..=255 {
        // Counters behind a shared prefix, and before a shared rest.
        let (mut back, mut front) = ([0xaa; 32], [0xaa; 32]);
        (back[31], front[0]) = (n, n);
        if n != 0xaa {
            keys.extend([back, front]);
        }
    }
    for (n, bytes) in (0..).zip(&keys) {
        let _ = subject.put_kept(&Fingerprint::from_bytes(*bytes), entry(n, 16));
    }
    for (n, bytes) in (0..).zip(&keys) {
        subject.finds(&Fingerprint::from_bytes(*bytes), &entry(n, 16));
    }
    subject.counts(keys.len() as u64);
}

fn equal_bytes(subject: &Subject) {
    for len in [40, 300_000] {
        for n in 0..3 {
            let _ = subject.put_kept(&key(n), entry(1, len));
        }
        let removed = subject.remove(&key(0));
        subject.require(removed, "remove denies a key that was bound");
        let _ = subject.put_kept(&key(1), entry(2, len));
        subject.misses(&key(0));
        subject.finds(&key(1), &entry(2, len));
        subject.finds(&key(2), &entry(1, len));
    }
}

fn touch(subject: &Subject) {
    let _ = subject.put_kept(&key(0), entry(0, 20));
    subject.touch(&[]);
    subject.touch(&[key(1), key(0), key(2), key(0)]);
    subject.finds(&key(0), &entry(0, 20));
    subject.misses(&key(1));
    subject.counts(1);
}

fn flush(subject: &Subject) {
    subject.flush();
    for n in 0..10 {
        let _ = subject.put_kept(&key(n), entry(n, 20 + n * 40_000));
    }
    let _ = subject.put_kept(&key(3), entry(33, 20));
    subject.require(
        subject.remove(&key(4)),
        "remove denies a key that was bound",
    );
    subject.flush();
    subject.flush();
    for n in (0..10).filter(|n| ![3, 4].contains(n)) {
        subject.finds(&key(n), &entry(n, 20 + n * 40_000));
    }
    subject.finds(&key(3), &entry(33, 20));
    subject.misses(&key(4));
    subject.clear();
    subject.flush();
    subject.misses(&key(5));
}

fn held(subject: &Subject) {
    for len in [100, 1 << 20] {
        let hold = |n| {
            let _ = subject.put_kept(&key(n), entry(n, len));
            subject.flush();
            let found = subject.get(&key(n));
            found.unwrap_or_else(|| subject.broken("a put entry is a miss"))
        };
        let entries = [0, 1, 2].map(|n| (n, hold(n)));
        let _ = subject.put_kept(&key(0), entry(9, len));
        subject.remove(&key(1));
        subject.clear();
        subject.flush();
        for n in 0..3 {
            let _ = subject.put_kept(&key(n), entry(20 + n, len));
        }
        for (n, held) in &entries {
            subject.same(&key(*n), held, &entry(*n, len));
        }
    }
}

fn counters(subject: &Subject) {
    let before = subject.stats();
    for n in 0..5 {
        let _ = subject.put_kept(&key(n), entry(n, 20));
    }
    for n in 3..10 {
        subject.get(&key(n));
    }
    // None of these is a lookup.
    subject.contains(&key(0));
    subject.contains(&key(9));
    subject.touch(&[key(0), key(9)]);
    subject.remove(&key(0));
    subject.flush();
    let after = subject.stats();
    let counts = [
        ("lookups", before.lookups, after.lookups, 7),
        ("hits", before.hits, after.hits, 2),
        ("misses", before.misses, after.misses, 5),
        ("puts", before.puts, after.puts, 5),
        (
            "rejected puts",
            before.rejected_puts,
            after.rejected_puts,
            0,
        ),
        ("evictions", before.evictions, after.evictions, 0),
    ];
    for (name, before, after, expected) in counts {
        let counted = after.saturating_sub(before);
        subject.require(
            counted == expected,
            format_args!("{counted} {name} were counted where there were {expected}"),
        );
    }
}

fn gauges(subject: &Subject) {
    for n in 0..20 {
        let _ = subject.put_kept(&key(n), entry(n, 20));
        subject.counts(n + 1);
    }
    let _ = subject.put_kept(&key(0), entry(50, 500));
    subject.counts(20);
    subject.remove(&key(0));
    subject.remove(&key(99));
    subject.counts(19);
    subject.clear();
    subject.counts(0);
}
