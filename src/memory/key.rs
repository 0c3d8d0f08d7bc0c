//! A fingerprint with the fold of its bytes, from which its shard and its place there come.

use crate::fingerprint::Fingerprint;
use crate::hex;

/// A key, folded once for both the choice of the shard and the shard's table.
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

    /// Its low bits choose the shard.
    pub(super) fn fold(&self) -> u64 {
        self.fold
    }

    /// What the shard's table knows of the key.
    pub(super) fn tag(&self) -> u32 {
        Self::tag_of(self.fold)
    }

    /// The upper half of a fold, which has no say in the choice of the shard.
    pub(super) fn tag_of(fold: u64) -> u32 {
        (fold >> 32) as u32
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// Folds all 32 bytes into 64 well mixed bits with three widening multiplications.
///
/// Multiplying and rotating word by word, as `FxHasher` does, would not do: a big-endian counter
/// sits in the top byte of its word, and a truncating multiplication never carries that into the
/// low bits, so that hundreds of such keys share a place.
pub(super) fn fold(fingerprint: &Fingerprint) -> u64 {
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
    fn keys_of_low_entropy_spread_over_shards_and_tables() {
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
            // As the table cuts a tag: its upper bits choose the cell. Of n balls in n bins 63 %
            // of the bins are hit.
            let cells = keys
                .iter()
                .map(|key| (u64::from(Key::new(key).tag()) * COUNT) >> 32);
            let cells = cells.collect::<HashSet<_>>().len();
            assert!(cells > 9_000, "{name}: {cells} cells");
        }
    }
}
