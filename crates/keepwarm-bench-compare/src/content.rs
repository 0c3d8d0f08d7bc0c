//! What is stored: keys, sizes and bytes that follow from a seed and a number, so that any process
//! can tell what must be under a key without having been told.

use std::hash::Hash;

/// What a contender is asked with: as uniform as a digest, as every user of a cache of artifacts
/// has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) [u8; 32]);

/// The finish of `SplitMix64`.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Random numbers that anybody can repeat.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(mixed(seed) ^ mixed(stream.wrapping_add(0x5851_f42d)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// From 0 to less than 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below `count`, which is small against 2^64.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        self.next() % count.max(1)
    }
}

/// The key of a number; made without touching memory, so that making it costs every contender the
/// same few nanoseconds.
pub(crate) fn key(seed: u64, n: u64) -> Key {
    let mut bytes = [0; 32];
    let base = mixed(seed) ^ n;
    for (at, chunk) in (1..).zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&mixed(base.wrapping_add(mixed(at))).to_le_bytes());
    }
    Key(bytes)
}

/// Artifacts by number: how many, how large, how many different ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dataset {
    /// Names its fixture.
    pub(crate) name: &'static str,
    pub(crate) seed: u64,
    pub(crate) count: u64,
    /// Bytes; sizes are log-uniform between them, both included.
    pub(crate) least: u64,
    pub(crate) most: u64,
    /// Different contents; as many as there are keys unless fewer.
    pub(crate) contents: u64,
}

impl Dataset {
    pub(crate) fn key(&self, n: u64) -> Key {
        key(self.seed, n)
    }

    /// A key that was never put.
    pub(crate) fn absent(&self, n: u64) -> Key {
        key(self.seed ^ 0xab5e_0001, n)
    }

    /// The same artifacts under other keys and with other bytes.
    pub(crate) fn stream(&self, stream: u64) -> Self {
        let seed = self.seed ^ mixed(stream.wrapping_add(1));
        Self { seed, ..*self }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are positive and far below 2^53"
    )]
    pub(crate) fn len(&self, n: u64) -> usize {
        let unit = Random::new(self.seed, (n % self.contents) << 1).unit();
        let (least, most) = (self.least as f64, self.most as f64);
        let len = (least * (most / least).powf(unit)).round() as u64;
        usize::try_from(len.clamp(self.least, self.most)).unwrap_or(usize::MAX)
    }

    /// Bytes that no compressor makes smaller.
    pub(crate) fn bytes(&self, n: u64) -> Vec<u8> {
        let mut random = Random::new(self.seed, (n % self.contents) << 1 | 1);
        let mut bytes = vec![0; self.len(n)];
        let mut chunks = bytes.chunks_exact_mut(8);
        for chunk in &mut chunks {
            chunk.copy_from_slice(&random.next().to_le_bytes());
        }
        let rest = chunks.into_remainder();
        let last = random.next().to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
        bytes
    }

    /// The bytes of all different contents together.
    pub(crate) fn unique_bytes(&self) -> u64 {
        let contents = self.contents.min(self.count);
        (0..contents).map(|n| self.len(n) as u64).sum()
    }
}

/// Reads every byte: what stands for a user who does something with an artifact. Fast enough to be
/// a small part of what is measured, and different bytes give another sum.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let chunks = bytes.chunks_exact(8);
    let mut rest = [0; 8];
    rest[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    let words = chunks.map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    words.fold(u64::from_le_bytes(rest), u64::wrapping_add)
}

/// Which of `count` things is used next, by Zipf's law: the `r`-th most used has a share of
/// `1 / r^theta`. Made before anything is measured.
pub(crate) fn zipf(random: &mut Random, count: u64, theta: f64, draws: usize) -> Vec<u32> {
    let mut total = 0.0;
    let shares: Vec<f64> = (1..=u32::try_from(count).unwrap_or(u32::MAX))
        .map(|rank| {
            total += f64::from(rank).powf(-theta);
            total
        })
        .collect();
    let draw = || {
        let point = random.unit() * total;
        let rank = shares.partition_point(|share| *share <= point);
        u32::try_from(rank.min(shares.len().saturating_sub(1))).unwrap_or(0)
    };
    std::iter::repeat_with(draw).take(draws).collect()
}

/// Every number below `count` once, in an order that no prefetcher follows.
pub(crate) fn shuffled(random: &mut Random, count: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    for at in (1..order.len()).rev() {
        let other = random.below(at as u64 + 1);
        order.swap(at, usize::try_from(other).unwrap_or(0));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Dataset = Dataset {
        name: "test",
        seed: 7,
        count: 1000,
        least: 100,
        most: 10_000,
        contents: 10,
    };

    #[test]
    fn a_number_always_gives_the_same_key_size_and_bytes() {
        assert_eq!(DATA.key(5), DATA.key(5));
        assert_eq!(DATA.bytes(5), DATA.bytes(5));
        assert_eq!(
            DATA.bytes(5),
            DATA.bytes(15),
            "ten contents under a thousand keys"
        );
        assert_ne!(DATA.bytes(5), DATA.bytes(6));
        assert_ne!(DATA.key(5), DATA.absent(5));
        assert_ne!(DATA.key(5), DATA.stream(1).key(5));
    }

    #[test]
    fn sizes_are_log_uniform_between_their_bounds() {
        let data = Dataset {
            contents: 10_000,
            ..DATA
        };
        let lens: Vec<usize> = (0..10_000).map(|n| data.len(n)).collect();
        assert!(lens.iter().all(|len| (100..=10_000).contains(len)));
        let below = lens.iter().filter(|len| **len < 1000).count();
        assert!(
            (4500..5500).contains(&below),
            "{below} of 10,000 below the middle"
        );
    }

    #[test]
    fn a_sum_changes_with_any_byte_and_reads_the_last_ones() {
        let mut bytes = DATA.bytes(1);
        bytes.resize(1003, 9);
        let before = sum(&bytes);
        for at in [0, 500, 1002] {
            bytes[at] ^= 1;
            assert_ne!(sum(&bytes), before);
            bytes[at] ^= 1;
        }
        assert_eq!(sum(&bytes), before);
    }

    #[test]
    fn the_most_used_thing_has_its_share_of_zipf() {
        let draws = zipf(&mut Random::new(1, 1), 1000, 0.99, 100_000);
        let first = draws.iter().filter(|rank| **rank == 0).count();
        let total: f64 = (1..=1000_u32).map(|rank| f64::from(rank).powf(-0.99)).sum();
        let expected = 100_000.0 / total;
        assert!((f64::from(u32::try_from(first).unwrap()) / expected - 1.0).abs() < 0.05);
        assert!(draws.iter().all(|rank| *rank < 1000));
    }

    #[test]
    fn a_shuffle_keeps_everything() {
        let mut order = shuffled(&mut Random::new(1, 2), 500);
        assert_ne!(order[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        order.sort_unstable();
        assert!(order.into_iter().eq(0..500));
    }
}
