//! A fingerprint with the fold of its bytes, from which shard and map slot come.

use crate::fingerprint::Fingerprint;
use crate::hex;
use std::hash::{Hash, Hasher};

/// A key, folded once for both the choice of the shard and the shard's map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    fold: u64,
    fingerprint: Fingerprint,
}

impl Key {
    pub(super) fn new(fingerprint: &Fingerprint) -> Self {
        Self {
            fold: fold(fingerprint),
            fingerprint: *fingerprint,
        }
    }

    pub(super) fn fold(&self) -> u64 {
        self.fold
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fold);
    }
}

/// Folds all 32 bytes into 64 well mixed bits with three widening multiplications.
///
/// Feeding the words to `FxHasher` one by one would not do: a big-endian counter sits in the top
/// byte of its word, and a truncating multiplication never carries that into the low bits, so
/// that hundreds of such keys share one slot of the map.
fn fold(fingerprint: &Fingerprint) -> u64 {
    // Digits of pi; any odd numbers with mixed bits would do.
    const PI: [u64; 5] = [
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7345,
        0xa409_3822_299f_31d1,
        0x082e_fa98_ec4e_6c89,
        0x4528_21e6_38d0_1377,
    ];
    let words = hex::words(fingerprint.as_bytes());
    let front = widening_mix(words[0] ^ PI[0], words[1] ^ PI[1]);
    let back = widening_mix(words[2] ^ PI[2], words[3] ^ PI[3]);
    widening_mix(front ^ PI[4], back ^ PI[0])
}

fn widening_mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let bytes = product.to_le_bytes();
    let half = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    half(0) ^ half(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    const COUNT: u64 = 1 << 14;

    /// Keys of low entropy, each family by name.
    fn families() -> Vec<(&'static str, Vec<Fingerprint>)> {
        let at = |range: std::ops::Range<usize>, big_endian: bool, filler: u8| {
            (0..COUNT)
                .map(|n| {
                    let word = if big_endian {
                        n.to_be_bytes()
                    } else {
                        n.to_le_bytes()
                    };
                    let mut bytes = [filler; 32];
                    bytes[range.clone()].copy_from_slice(&word);
                    Fingerprint::from_bytes(bytes)
                })
                .collect()
        };
        vec![
            ("little-endian counter in front", at(0..8, false, 0)),
            ("big-endian counter in front", at(0..8, true, 0)),
            ("little-endian counter at the end", at(24..32, false, 0)),
            ("big-endian counter at the end", at(24..32, true, 0)),
            ("counter across two words", at(12..20, true, 0)),
            ("counter after a prefix of ones", at(24..32, true, 255)),
            (
                "text digits",
                (0..COUNT)
                    .map(|n| {
                        let text = format!("{n:032}");
                        Fingerprint::from_bytes(text.as_bytes().try_into().unwrap())
                    })
                    .collect(),
            ),
        ]
    }

    #[test]
    fn keys_of_low_entropy_spread_over_shards_and_map_slots() {
        let hasher = rustc_hash::FxBuildHasher;
        for (name, keys) in families() {
            for bits in [3, 8] {
                let mut shards = vec![0u64; 1 << bits];
                for key in &keys {
                    let shard = Key::new(key).fold() & ((1 << bits) - 1);
                    shards[usize::try_from(shard).unwrap()] += 1;
                }
                let fair = COUNT >> bits;
                let most = *shards.iter().max().unwrap();
                assert!(most < fair * 2, "{name}: {most} in one of 2^{bits} shards");
            }
            // As std's map cuts a hash: low bits choose the slot, the top seven are the tag.
            let slots = |cut: fn(u64) -> u64| {
                let cuts = keys.iter().map(|key| cut(hasher.hash_one(Key::new(key))));
                cuts.collect::<HashSet<_>>().len()
            };
            // Of n balls in n bins 63 % of the bins are hit.
            assert!(slots(|hash| hash & (COUNT - 1)) > 9_000, "{name}: slots");
            assert_eq!(slots(|hash| hash >> 57), 128, "{name}: tags");
        }
    }
}
