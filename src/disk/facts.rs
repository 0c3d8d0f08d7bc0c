//! What a pass knows of each key once it has read its envelopes: for rules that slots cannot tell.

use super::counters::Counters;
use super::inner::{Inner, now};
use super::slot::{Place, Slot, SlotHash};
use super::survey::Survey;
use super::table::Position;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::store::is_past;
use rustc_hash::{FxHashMap, FxHashSet};
use std::io;
use std::time::Duration;

/// A key with what its newest binding says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fact {
    pub(super) key: Fingerprint,
    pub(super) hash: SlotHash,
    pub(super) namespace: NamespaceId,
    /// In nanoseconds since 1970, as the next.
    pub(super) put_at: u64,
    /// The latest of all its bindings.
    pub(super) last_use: u64,
    /// Of the artifact, in bytes.
    pub(super) length: u64,
    generation: u64,
}

/// The keys of a survey, and which of them each slot is of.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) all: Vec<Fact>,
    of: FxHashMap<Place, usize>,
}

impl Facts {
    /// The key that a slot binds, by its place in `all`.
    pub(super) fn of(&self, slot: &Slot) -> Option<usize> {
        self.of.get(&slot.place).copied()
    }

    fn add(&mut self, known: &mut FxHashMap<Fingerprint, usize>, place: Place, fact: Fact) {
        let i = *known.entry(fact.key).or_insert_with(|| {
            self.all.push(fact);
            self.all.len() - 1
        });
        let kept = &mut self.all[i];
        let last_use = kept.last_use.max(fact.last_use);
        if fact.generation > kept.generation {
            *kept = fact;
        }
        kept.last_use = last_use;
        self.of.insert(place, i);
    }

    /// Namespaces in which nothing was used for longer than `idle`.
    pub(super) fn idle_namespaces(&self, idle: Duration, now: u64) -> FxHashSet<NamespaceId> {
        let mut used: FxHashMap<NamespaceId, u64> = FxHashMap::default();
        for fact in &self.all {
            let last = used.entry(fact.namespace).or_default();
            *last = fact.last_use.max(*last);
        }
        used.retain(|_, last| is_past(*last, idle, now));
        used.into_keys().collect()
    }
}

/// The rank of each key where some go before others: what is too old, then idle namespaces.
#[derive(Debug)]
pub(super) struct Classes {
    of: FxHashMap<SlotHash, u8>,
}

/// Ranks in which entries are evicted.
pub(super) const EXPIRED: u8 = 0;
const IDLE: u8 = 1;
const OTHERS: u8 = 2;

impl Classes {
    pub(super) fn of(&self, hash: SlotHash) -> u8 {
        self.of.get(&hash).copied().unwrap_or(OTHERS)
    }
}

impl Inner {
    /// Reads the envelopes if some entries go before others: only where that was asked for.
    pub(super) fn classes(&self, survey: &Survey) -> io::Result<Classes> {
        let (age, idle) = (self.limits.max_age, self.limits.idle_namespaces);
        let mut of = FxHashMap::default();
        if age.is_none() && idle.is_none() {
            return Ok(Classes { of });
        }
        let facts = self.facts(&survey.keys)?;
        let now = now();
        let idle = idle.map(|time| facts.idle_namespaces(time, now));
        let idle = idle.unwrap_or_default();
        for fact in &facts.all {
            if age.is_some_and(|age| is_past(fact.put_at, age, now)) {
                of.insert(fact.hash, EXPIRED);
            } else if idle.contains(&fact.namespace) {
                of.insert(fact.hash, IDLE);
            }
        }
        Ok(Classes { of })
    }

    /// Reads the envelopes of the bindings of keys. What a slot leads to that is no live binding of
    /// its key has no fact.
    pub(super) fn facts(&self, keys: &[(Position, Slot)]) -> io::Result<Facts> {
        let index = self.index();
        let mut slots: Vec<&Slot> = keys
            .iter()
            .map(|(_, slot)| slot)
            .filter(|slot| slot.content != 0)
            .collect();
        // In the order in which they were written: each pack is opened once.
        slots.sort_unstable_by_key(|slot| slot.place);
        let mut facts = Facts::default();
        let mut known = FxHashMap::default();
        for slot in slots {
            let found = match self.envelope(slot.place) {
                // In a pack that another member of the group keeps for itself.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    Counters::add(&self.counters.maintenance_errors, 1);
                    continue;
                }
                found => found?,
            };
            let Some((_, envelope, true)) = found else {
                continue;
            };
            if index.hash(envelope.key.as_bytes()) != slot.hash {
                continue;
            }
            let fact = Fact {
                key: envelope.key,
                hash: slot.hash,
                namespace: envelope.namespace,
                put_at: envelope.put_at(),
                last_use: slot.last_use,
                length: envelope.length,
                generation: envelope.generation,
            };
            facts.add(&mut known, slot.place, fact);
        }
        Ok(facts)
    }
}
