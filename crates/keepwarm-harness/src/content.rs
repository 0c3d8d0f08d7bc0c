//! What is put: bytes that say whose they are, so that one wrong byte is seen by whoever gets them.
//!
//! The bytes follow from a key's number and a generation; some keys form classes whose members have
//! equal bytes in equal generations, so that deduplication is under test as well.

use keepwarm::Fingerprint;

/// Class, generation and length, 8 bytes each.
const HEADER: usize = 24;

/// The numbers of keys that no workload uses, for probes of whether a store still works.
pub(crate) const PROBE: u32 = 1 << 24;

/// A small generator of numbers that look random (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 if that is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    pub(crate) fn key(&mut self, keys: u32) -> u32 {
        u32::try_from(self.below(u64::from(keys))).unwrap_or(0)
    }

    /// An element's index.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

/// The key of a number.
pub(crate) fn fingerprint(key: u32) -> Fingerprint {
    Fingerprint::builder("harness")
        .field("key", key.to_le_bytes())
        .finish()
}

/// Half of the keys share their bytes with five others, next to them.
fn class(key: u32) -> u64 {
    if key % 4 < 2 {
        u64::from(key)
    } else {
        u64::from(u32::MAX) + u64::from(key / 12)
    }
}

/// The bytes of a key in a generation.
pub(crate) fn bytes(key: u32, generation: u64) -> Vec<u8> {
    let class = class(key);
    let mut rng = Rng::new(class.rotate_left(40) ^ generation);
    let len = match rng.below(20) {
        0..=11 => rng.below(2_000),
        12..=16 => rng.below(60_000),
        17..=18 => 60_000 + rng.below(200_000),
        _ => 300_000 + rng.below(400_000),
    };
    make(class, generation, HEADER as u64 + len)
}

/// The same, but few.
pub(crate) fn tiny(key: u32, generation: u64) -> Vec<u8> {
    let len = HEADER as u64 + (u64::from(key) + generation) % 40;
    make(class(key), generation, len)
}

fn make(class: u64, generation: u64, len: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [class, generation, len] {
        bytes.extend(word.to_le_bytes());
    }
    let mut output = blake3::Hasher::new().update(&bytes).finalize_xof();
    let from = bytes.len();
    bytes.resize(usize::try_from(len).unwrap_or(from).max(from), 0);
    output.fill(&mut bytes[from..]);
    bytes
}

/// The generation of what was got under a key; `None` if it is not what was ever put under it.
pub(crate) fn check(key: u32, got: &[u8]) -> Option<u64> {
    let word = |at: usize| {
        let bytes = got.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let generation = word(8)?;
    let is_ours = word(0)? == class(key) && word(16)? == got.len() as u64;
    (is_ours && make(class(key), generation, got.len() as u64) == got).then_some(generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_and_every_other_key_is_seen() {
        let bytes = bytes(8, 3);
        assert_eq!(check(8, &bytes), Some(3));
        assert_eq!(check(9, &bytes), None);
        assert_eq!(check(8, &bytes[..bytes.len() - 1]), None);
        for at in 0..bytes.len().min(200) {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(check(8, &other), None, "{at}");
        }
    }

    #[test]
    fn members_of_a_class_share_bytes() {
        assert_eq!(bytes(14, 9), bytes(15, 9));
        assert_ne!(bytes(12, 9), bytes(13, 9));
    }
}
