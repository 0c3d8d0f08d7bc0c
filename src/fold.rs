//! 64 well mixed bits out of a 32-byte key that may be anything, such as a zero-padded counter.

use crate::hex;

/// Folds all 32 bytes into 64 well mixed bits with three widening multiplications.
///
/// Multiplying and rotating word by word, as `FxHasher` does, would not do: a big-endian counter
/// sits in the top byte of its word, and a truncating multiplication never carries that into the
/// low bits, so that hundreds of such keys share a place.
#[inline]
pub(crate) fn fold(bytes: &[u8; 32]) -> u64 {
    seeded_fold(bytes, 0)
}

/// The same, different for every seed. The disk's format depends on it: it is the same on every
/// machine, and changing it makes every index cold.
#[inline]
pub(crate) fn seeded_fold(bytes: &[u8; 32], seed: u64) -> u64 {
    // Digits of pi; any odd numbers with mixed bits would do.
    const PI: [u64; 5] = [
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7345,
        0xa409_3822_299f_31d1,
        0x082e_fa98_ec4e_6c89,
        0x4528_21e6_38d0_1377,
    ];
    let words = hex::words(bytes);
    let front = widening_mix(words[0] ^ PI[0] ^ seed, words[1] ^ PI[1]);
    let back = widening_mix(words[2] ^ PI[2], words[3] ^ PI[3] ^ seed);
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
    use crate::fingerprint::Fingerprint;
    use rustc_hash::FxBuildHasher;
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
    fn a_seeded_fold_is_the_same_on_every_machine() {
        let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(seeded_fold(&bytes, 0), fold(&bytes));
        assert_eq!(seeded_fold(&bytes, 42), 16_156_530_051_455_073_005);
    }

    #[test]
    #[cfg_attr(
        miri,
        ignore = "arithmetic on many keys: hours, and nothing for Miri to see"
    )]
    fn keys_of_low_entropy_spread_over_shards_and_maps() {
        for (name, keys) in families() {
            for bits in [3, 8] {
                let mut shards = vec![0u64; 1 << bits];
                for key in &keys {
                    let shard = fold(key.as_bytes()) & ((1 << bits) - 1);
                    shards[usize::try_from(shard).unwrap()] += 1;
                }
                let fair = COUNT >> bits;
                let most = *shards.iter().max().unwrap();
                assert!(most < fair * 2, "{name}: {most} in one of 2^{bits} shards");
            }
            // As the memory tier's table cuts it, and as std's map cuts the hash made of it: low
            // bits choose the bucket, the top seven are the tag. Of n balls in n bins 63 % of the
            // bins are hit.
            let distinct = |cut: fn(&Fingerprint) -> u64| {
                let cuts = keys.iter().map(cut);
                cuts.collect::<HashSet<_>>().len()
            };
            let cells = distinct(|key| fold(key.as_bytes()) >> (64 - COUNT.ilog2()));
            assert!(cells > 9_000, "{name}: {cells} cells");
            let buckets = distinct(|key| FxBuildHasher.hash_one(key) & (COUNT - 1));
            assert!(buckets > 9_000, "{name}: {buckets} buckets");
            assert_eq!(
                distinct(|key| FxBuildHasher.hash_one(key) >> 57),
                128,
                "{name}"
            );
        }
    }
}
