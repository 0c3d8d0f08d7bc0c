//! Namespace and build cost of an entry in one word, so that an entry takes one cache line.
//!
//! A word is the number of a namespace that was seen before, in the upper byte, and a cost below
//! 2^56 ns (two years). What cannot be said so, for there are more namespaces than numbers or
//! somebody claims such a cost, stands in a map beside.

use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use rustc_hash::FxHashMap;

const COST_BITS: u32 = 56;
/// The word of an entry whose facts are in the map.
const ODD: u64 = u64::MAX;
/// Numbers 1 to 254 are given; 0 is for entries outside every namespace.
const MOST_NAMES: usize = 254;

/// The namespaces of one shard's entries, by number, and the facts that fit into no word.
#[derive(Debug, Default)]
pub(super) struct Facts {
    names: Vec<NamespaceId>,
    odd: FxHashMap<Fingerprint, (NamespaceId, u64)>,
}

impl Facts {
    /// The word for the entry under `key`, to be [forgotten](Self::forget) when that goes.
    #[inline]
    pub(super) fn word(&mut self, key: &Fingerprint, namespace: NamespaceId, cost: u64) -> u64 {
        match self.number(namespace) {
            Some(number) if cost >> COST_BITS == 0 => number << COST_BITS | cost,
            _ => {
                self.odd.insert(*key, (namespace, cost));
                ODD
            }
        }
    }

    /// What `word` says of the entry under `key`: its namespace, and its cost in nanoseconds.
    #[inline]
    pub(super) fn read(&self, key: &Fingerprint, word: u64) -> (NamespaceId, u64) {
        let number = usize::from((word >> COST_BITS) as u8);
        let cost = word & ((1 << COST_BITS) - 1);
        match number.checked_sub(1) {
            None => (NamespaceId::NONE, cost),
            Some(place) => match self.names.get(place) {
                Some(name) => (*name, cost),
                None => self.read_odd(key),
            },
        }
    }

    #[inline]
    pub(super) fn forget(&mut self, key: &Fingerprint, word: u64) {
        if word == ODD {
            self.odd.remove(key);
        }
    }

    #[cold]
    fn read_odd(&self, key: &Fingerprint) -> (NamespaceId, u64) {
        let odd = self.odd.get(key).copied();
        odd.unwrap_or((NamespaceId::NONE, 0))
    }

    fn number(&mut self, namespace: NamespaceId) -> Option<u64> {
        if namespace == NamespaceId::NONE {
            return Some(0);
        }
        let known = self.names.iter().position(|name| *name == namespace);
        let place = match known {
            Some(place) => place,
            None if self.names.len() < MOST_NAMES => {
                self.names.push(namespace);
                self.names.len() - 1
            }
            None => return None,
        };
        Some(place as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_come_back_whether_they_fit_into_a_word_or_not() {
        let mut facts = Facts::default();
        let costs = [0, 1, (1 << COST_BITS) - 1, 1 << COST_BITS, u64::MAX];
        let all: Vec<_> = (0..400)
            .flat_map(|name| costs.map(|cost| (NamespaceId::from_u64(name), cost)))
            .collect();
        let key = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Fingerprint::from_bytes(bytes)
        };
        let each = || all.iter().enumerate();
        let words: Vec<u64> = each()
            .map(|(n, (name, cost))| facts.word(&key(n), *name, *cost))
            .collect();
        for ((n, expected), word) in each().zip(&words) {
            assert_eq!(facts.read(&key(n), *word), *expected);
        }
        let odd = words.iter().filter(|word| **word == ODD).count();
        assert_eq!(odd, facts.odd.len());
        assert_eq!(odd, 2 * 255 + 5 * 145, "numbers and small costs are used");
        for (n, word) in words.iter().enumerate() {
            facts.forget(&key(n), *word);
        }
        assert!(facts.odd.is_empty());
    }
}
