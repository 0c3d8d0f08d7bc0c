//! The store under test, as the checks see it: every failure names the promise.

use super::{Case, Config, Suite};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::StoreStats;
use crate::store::{Entry, PutOutcome, Store};
use std::fmt::Display;
use std::time::Duration;

pub(super) struct Subject<'a> {
    pub(super) store: Box<dyn Store>,
    pub(super) suite: &'a Suite,
    pub(super) config: Config,
    promise: &'static str,
}

impl<'a> Subject<'a> {
    pub(super) fn new(suite: &'a Suite, case: &Case) -> Self {
        let config = (case.config)(suite);
        Self {
            store: (suite.make)(config),
            suite,
            config,
            promise: case.promise,
        }
    }

    /// Panics unless `kept`.
    #[track_caller]
    pub(super) fn require(&self, kept: bool, otherwise: impl Display) {
        if !kept {
            self.broken(otherwise);
        }
    }

    #[track_caller]
    pub(super) fn broken(&self, how: impl Display) -> ! {
        panic!("the store breaks the promise that {}: {how}", self.promise)
    }

    #[track_caller]
    pub(super) fn succeeded<T>(&self, call: &str, result: Result<T>) -> T {
        result.unwrap_or_else(|error| self.broken(format_args!("{call} failed: {error}")))
    }

    #[track_caller]
    pub(super) fn get(&self, key: &Fingerprint) -> Option<Entry> {
        self.succeeded("get", self.store.get(key))
    }

    #[track_caller]
    pub(super) fn contains(&self, key: &Fingerprint) -> bool {
        self.succeeded("contains", self.store.contains(key))
    }

    #[track_caller]
    pub(super) fn put(&self, key: &Fingerprint, entry: impl Into<Entry>) -> PutOutcome {
        self.succeeded("put", self.store.put(key, entry.into()))
    }

    /// Puts an entry that must be accepted.
    #[track_caller]
    pub(super) fn put_kept(&self, key: &Fingerprint, entry: impl Into<Entry>) -> PutOutcome {
        let outcome = self.put(key, entry);
        let refused = "a put of an entry that fits was refused";
        self.require(!outcome.is_rejected(), refused);
        let itself = outcome.displaced.iter().any(|d| d.key == *key);
        self.require(
            !itself,
            "a put handed back its own key, though its entry fits",
        );
        outcome
    }

    #[track_caller]
    pub(super) fn remove(&self, key: &Fingerprint) -> bool {
        self.succeeded("remove", self.store.remove(key))
    }

    #[track_caller]
    pub(super) fn touch(&self, keys: &[Fingerprint]) {
        self.succeeded("touch", self.store.touch(keys));
    }

    #[track_caller]
    pub(super) fn clear(&self) {
        self.succeeded("clear", self.store.clear());
    }

    #[track_caller]
    pub(super) fn flush(&self) {
        self.succeeded("flush", self.store.flush());
    }

    pub(super) fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Requires that a get of `key` finds exactly `entry`.
    #[track_caller]
    pub(super) fn finds(&self, key: &Fingerprint, entry: &Entry) {
        match self.get(key) {
            None => self.broken(format_args!("{key} is a miss, though it was put")),
            Some(found) => {
                self.same(key, &found, entry);
                self.require(self.contains(key), format_args!("contains denies {key}"));
            }
        }
    }

    /// Requires that `found` is `entry`.
    #[track_caller]
    pub(super) fn same(&self, key: &Fingerprint, found: &Entry, entry: &Entry) {
        let lengths = (found.artifact.len(), entry.artifact.len());
        let bytes = found.artifact == entry.artifact;
        self.require(
            bytes,
            format_args!("{key} has other bytes (lengths found and expected: {lengths:?})"),
        );
        let namespace = found.namespace == entry.namespace;
        self.require(namespace, format_args!("{key} has another namespace"));
        let cost = found.build_cost == entry.build_cost;
        self.require(cost, format_args!("{key} has another build cost"));
    }

    /// Requires that there is nothing under `key`.
    #[track_caller]
    pub(super) fn misses(&self, key: &Fingerprint) {
        let found = self.get(key);
        self.require(found.is_none(), format_args!("{key} is found"));
        self.require(!self.contains(key), format_args!("contains asserts {key}"));
    }

    /// Requires that the store counts so many entries, if it counts at all.
    #[track_caller]
    pub(super) fn counts(&self, entries: u64) {
        let counted = self.stats().entries;
        self.require(
            !self.suite.gauges || counted == entries,
            format_args!("stats say {counted} entries where there are {entries}"),
        );
    }
}

/// A key that no other number has.
pub(super) fn key(n: u64) -> Fingerprint {
    Fingerprint::builder("keepwarm conformance")
        .field("n", n.to_le_bytes())
        .finish()
}

/// An entry that no other pair of number and length has, with everything kept beside it.
pub(super) fn entry(n: u64, len: u64) -> Entry {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let mut state = n ^ 0x9e37_79b9_7f4a_7c15;
    let mut random = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (state >> 8).to_le_bytes()
    };
    let block: Vec<u8> = (0..len.min(4096).div_ceil(8))
        .flat_map(|_| random())
        .collect();
    let mut bytes = Vec::with_capacity(len + block.len());
    while bytes.len() < len {
        // Each block begins otherwise, so that a mix-up of blocks shows.
        let block_start = bytes.len();
        bytes.extend_from_slice(&block);
        bytes[block_start..block_start + 8].copy_from_slice(&random());
    }
    bytes.truncate(len);
    let mut entry = Entry::from(bytes);
    entry.namespace = NamespaceId::from_u64(n);
    entry.build_cost = Duration::new(n, 123_456_789);
    entry
}
