//! The suite that every store must pass, over every implementation and composition; and over
//! stores that break one promise each, which it must catch.
//!
//! A further implementation is one more test of one `Suite`.
#![allow(clippy::unwrap_used)] // helpers of tests are not seen as tests

use keepwarm::StoreStats;
use keepwarm::conformance::{Config, Suite};
use keepwarm::{Artifact, Displaced, Entry, Error, ErrorKind, Fingerprint, MemoryStore};
use keepwarm::{MemoryStoreBuilder, NamespaceId, PutOutcome, PutStatus, Rejection, Result, Store};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

fn memory(config: Config) -> MemoryStoreBuilder {
    MemoryStore::builder()
        .byte_budget(config.byte_budget.unwrap_or(u64::MAX))
        .entry_budget(config.entry_budget.unwrap_or(u64::MAX))
}

#[test]
fn a_memory_store_conforms() {
    Suite::new(|config| memory(config).build().unwrap()).run();
}

#[test]
fn a_memory_store_of_one_shard_keeps_the_exact_order() {
    let suite = Suite::new(|config| memory(config).shards(1).build().unwrap());
    suite.exact_lru().run();
}

#[test]
fn a_memory_store_of_very_many_shards_conforms() {
    Suite::new(|config| memory(config).shards(1024).build().unwrap()).run();
}

#[test]
fn pointers_to_a_store_conform() {
    Suite::new(|config| Arc::new(memory(config).build().unwrap())).run();
    Suite::new(|config| Box::new(memory(config).build().unwrap())).run();
    Suite::new(|config| -> Arc<dyn Store> { Arc::new(memory(config).build().unwrap()) }).run();
    Suite::new(|config| -> &'static MemoryStore {
        Box::leak(Box::new(memory(config).build().unwrap()))
    })
    .run();
}

/// What a broken store does wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    ConfusesKeysOfOnePrefix,
    RemembersAfterRemove,
    RemembersAfterClear,
    DeniesRemove,
    ContainsIsALookup,
    ContainsRefreshes,
    ContainsDenies,
    CutsTheNamespace,
    CapsTheBuildCost,
    ReplacesNothing,
    CutsLargeArtifacts,
    LosesEmptyArtifacts,
    HandsBackWhatItReplaced,
    RefusesWhatFits,
    KeepsTheOldOfARefusedPut,
    SwallowsTheRefused,
    ExceedsItsBudget,
    LosesTheNewest,
    RefusesAtZeroBudget,
    TouchInserts,
    TouchDoesNothing,
    FlushFails,
    FlushForgets,
    CountsTooManyEntries,
    RaceShowsAnOlderEntry,
    RaceRevivesARemoved,
    RaceMixesBytes,
}

impl Fault {
    /// Whether a put has to know what it replaces; it looks it up, which spoils the counters.
    fn concerns_older_entries(self) -> bool {
        matches!(
            self,
            Self::ReplacesNothing | Self::KeepsTheOldOfARefusedPut | Self::HandsBackWhatItReplaced
        )
    }
}

/// Every fault, and words of the promise that it breaks.
const FAULTS: [(Fault, &str); 27] = [
    (Fault::ConfusesKeysOfOnePrefix, "differ in one bit"),
    (Fault::RemembersAfterRemove, "remove unbinds"),
    (Fault::RemembersAfterClear, "clear unbinds"),
    (Fault::DeniesRemove, "remove unbinds"),
    (Fault::ContainsIsALookup, "nothing else is"),
    (Fault::ContainsDenies, "a get returns"),
    (Fault::CutsTheNamespace, "namespace and build cost"),
    (Fault::CapsTheBuildCost, "namespace and build cost"),
    (Fault::ReplacesNothing, "replaces an earlier"),
    (Fault::CutsLargeArtifacts, "of any length"),
    (Fault::LosesEmptyArtifacts, "of any length"),
    (Fault::HandsBackWhatItReplaced, "replaces an earlier"),
    (Fault::RefusesWhatFits, "fits the whole budget"),
    (Fault::KeepsTheOldOfARefusedPut, "leaves its key absent"),
    (Fault::SwallowsTheRefused, "leaves its key absent"),
    (Fault::ExceedsItsBudget, "entry budget holds"),
    (Fault::LosesTheNewest, "the newest entry stays"),
    (Fault::RefusesAtZeroBudget, "accepts puts and keeps nothing"),
    (Fault::TouchInserts, "skips absent keys"),
    (Fault::TouchDoesNothing, "touch refreshes"),
    (Fault::ContainsRefreshes, "contains leaves recency"),
    (Fault::FlushFails, "flush succeeds"),
    (Fault::FlushForgets, "flush"),
    (Fault::CountsTooManyEntries, "replaces an earlier"),
    (Fault::RaceShowsAnOlderEntry, "no older entry"),
    (Fault::RaceRevivesARemoved, "no older entry"),
    (Fault::RaceMixesBytes, "no older entry"),
];

/// A good store that breaks one promise.
#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    fault: Fault,
    config: Config,
    maker: ThreadId,
    /// What was put under the key last put, newest last.
    puts: Mutex<(Option<Fingerprint>, Vec<Entry>)>,
}

impl Broken {
    fn new(fault: Fault, config: Config) -> Self {
        let mut inner = config;
        if matches!(fault, Fault::ExceedsItsBudget) {
            inner.entry_budget = config.entry_budget.map(|n| if n == 0 { 0 } else { n + 1 });
        }
        Self {
            inner: memory(inner).shards(1).build().unwrap(),
            fault,
            config,
            maker: thread::current().id(),
            puts: Mutex::default(),
        }
    }

    /// Whether the call comes from one of several threads.
    fn racing(&self) -> bool {
        thread::current().id() != self.maker
    }

    fn key(&self, key: &Fingerprint) -> Fingerprint {
        let mut bytes = *key.as_bytes();
        if matches!(self.fault, Fault::ConfusesKeysOfOnePrefix) {
            bytes[31] = 0;
        }
        Fingerprint::from_bytes(bytes)
    }

    fn changed(&self, entry: Entry) -> Entry {
        let mut kept = entry;
        match self.fault {
            Fault::CutsTheNamespace => {
                kept.namespace = NamespaceId::from_u64(kept.namespace.as_u64() & 0xffff);
            }
            Fault::CapsTheBuildCost => {
                kept.build_cost = kept.build_cost.min(Duration::from_secs(86_400));
            }
            Fault::CutsLargeArtifacts if kept.artifact.len() > 1 << 20 => {
                kept.artifact = Artifact::from(&kept.artifact[..1 << 20]);
            }
            Fault::RaceMixesBytes if self.racing() => {
                let (before, after) = kept.artifact.split_at(16);
                let mixed = [before, &vec![0; after.len()]].concat();
                kept.artifact = Artifact::from(mixed);
            }
            _ => {}
        }
        kept
    }

    /// What was put under `key` before its newest entry.
    fn older(&self, key: &Fingerprint, back: usize) -> Option<Entry> {
        let puts = self.puts.lock().unwrap();
        let same = puts.0 == Some(*key) && puts.1.len() > back;
        same.then(|| puts.1[puts.1.len() - 1 - back].clone())
    }
}

impl Store for Broken {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let found = self.inner.get(&self.key(key))?;
        Ok(match (self.fault, &found) {
            (Fault::LosesEmptyArtifacts, Some(entry)) if entry.artifact.is_empty() => None,
            (Fault::RaceShowsAnOlderEntry, Some(_)) if self.racing() => self.older(key, 3),
            (Fault::RaceRevivesARemoved, None) if self.racing() => self.older(key, 0),
            _ => found,
        })
    }

    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        match self.fault {
            Fault::ContainsDenies => return Ok(false),
            Fault::ContainsIsALookup => drop(self.inner.get(key)?),
            Fault::ContainsRefreshes => self.inner.touch(&[*key])?,
            _ => {}
        }
        self.inner.contains(&self.key(key))
    }

    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        let key = &self.key(key);
        let mut puts = self.puts.lock().unwrap();
        if puts.0.is_none() || (puts.0 != Some(*key) && !self.racing()) {
            *puts = (Some(*key), Vec::new());
        }
        if puts.0 == Some(*key) {
            puts.1.push(entry.clone());
        }
        drop(puts);
        let old = if self.fault.concerns_older_entries() {
            self.inner.get(key)?
        } else {
            None
        };
        let whole = self.config.byte_budget == Some(entry.artifact.len() as u64);
        match self.fault {
            Fault::ReplacesNothing if old.is_some() => {
                return Ok(PutOutcome::new(PutStatus::AlreadyStored));
            }
            Fault::RefusesWhatFits if whole => {
                return Ok(PutOutcome::new(PutStatus::Rejected(Rejection::TooLarge)));
            }
            Fault::RefusesAtZeroBudget if self.config.byte_budget == Some(0) => {
                return Ok(PutOutcome::new(PutStatus::Rejected(Rejection::TooLarge)));
            }
            _ => {}
        }
        let mut outcome = self.inner.put(key, self.changed(entry))?;
        match (self.fault, old) {
            (Fault::KeepsTheOldOfARefusedPut, Some(old)) if outcome.is_rejected() => {
                drop(self.inner.put(key, old)?);
            }
            (Fault::HandsBackWhatItReplaced, Some(old)) => {
                outcome.displaced.push(Displaced::new(*key, old));
            }
            (Fault::SwallowsTheRefused, _) if outcome.is_rejected() => outcome.displaced.clear(),
            (Fault::LosesTheNewest, _) if !outcome.displaced.is_empty() => {
                self.inner.remove(key)?;
            }
            _ => {}
        }
        Ok(outcome)
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        match self.fault {
            Fault::RemembersAfterRemove => self.contains(key),
            Fault::DeniesRemove => self.inner.remove(key).and(Ok(false)),
            _ => self.inner.remove(&self.key(key)),
        }
    }

    fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
        match self.fault {
            Fault::TouchDoesNothing => Ok(()),
            Fault::TouchInserts => {
                for key in keys {
                    if !self.inner.contains(key)? {
                        drop(self.inner.put(key, Entry::from(vec![]))?);
                    }
                }
                Ok(())
            }
            _ => self.inner.touch(keys),
        }
    }

    fn clear(&self) -> Result<()> {
        let kept = self.puts.lock().unwrap().clone();
        self.inner.clear()?;
        if let (Fault::RemembersAfterClear, (Some(key), entries)) = (self.fault, kept) {
            drop(self.inner.put(&key, entries[0].clone())?);
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        match self.fault {
            Fault::FlushFails => Err(Error::new(ErrorKind::WriteFailed, "flush at all")),
            Fault::FlushForgets => self.inner.clear(),
            _ => self.inner.flush(),
        }
    }

    fn stats(&self) -> StoreStats {
        let mut stats = self.inner.stats();
        if matches!(self.fault, Fault::CountsTooManyEntries) {
            stats.entries = stats.puts;
        }
        stats
    }
}

/// The message of the suite's panic, if it panics.
fn verdict(suite: &Suite) -> Option<String> {
    let panic = panic::catch_unwind(AssertUnwindSafe(|| suite.run())).err()?;
    Some(panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn the_suite_passes_a_store_that_is_only_wrapped() {
    Suite::new(|config| Broken::new(Fault::None, config))
        .exact_lru()
        .run();
}

#[test]
fn the_suite_catches_every_store_that_breaks_a_promise() {
    for (fault, promise) in FAULTS {
        let mut suite = Suite::new(move |config| Broken::new(fault, config)).exact_lru();
        if fault.concerns_older_entries() {
            suite = suite.without_counters();
        }
        let message = verdict(&suite).unwrap_or_else(|| panic!("{fault:?} was not caught"));
        assert!(
            message.contains(promise),
            "{fault:?} was caught by chance: {message}"
        );
    }
}
