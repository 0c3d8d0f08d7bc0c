//! The first 4 KiB of the index: what the table is, and running totals.
//!
//! The constant part carries a check. Totals and counters carry none: they are hints that the
//! next pass over the directory corrects.

use super::slot::SlotHash;
use crate::sync::{IndexWord, Ordering};
use std::ops::Range;

/// The length of the header, in bytes; the table follows.
pub(super) const SIZE: usize = 4096;

const MAGIC: u64 = u64::from_ne_bytes(*b"KWindex\n");
const FORMAT: u32 = 1;
/// Reads differently on a machine of the other byte order, where the table is foreign.
const BYTE_ORDER: u32 = 0x0102_0304;
const CONSTANT_WORDS: usize = 5;

/// A counter or total in the header; the number is its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// See [`RETIRING`] and [`REBUILDING`].
    Flags = 8,
    /// Keys bound.
    Entries = 9,
    /// Slots in use.
    Used = 10,
    /// Bytes of packs and objects, dead space included.
    DiskBytes = 11,
    /// Not below any generation given out; see [`sealed`].
    Generation = 12,
    /// Bumped when a pack or object is unlinked.
    Epoch = 13,
    /// Bytes of content that lost a key since the last pass: what a pass may free.
    Garbage = 14,
    /// Bytes written since the last sweep.
    SinceSweep = 15,
    /// Life-time counters of all processes.
    Puts = 16,
    Evictions = 17,
    Corrupt = 18,
    Lookups = 19,
    Hits = 20,
    /// Hits of tiers above, which the directory was not asked for.
    HitsAbove = 21,
    Promotions = 22,
    Builds = 23,
    /// In nanoseconds, as the next.
    BuildTime = 24,
    BuildTimeSaved = 25,
    EvictedBytes = 26,
    DeduplicatedBytes = 27,
    /// When the life-time counters were zeroed, in nanoseconds since 1970; 0 if never.
    CountedSince = 28,
    /// When the history was last written, in nanoseconds since 1970: at first, when the index was
    /// made. Not a total.
    Sampled = 29,
    /// Odd where a binding was ended since somebody last began to make such marks durable; even, and one
    /// more, from then until the next. Not a total, as all that follow.
    Ends = 30,
    /// What [`Ends`](Self::Ends) was when all marks became durable: if it still is, they are.
    EndsSettled = 31,
    /// Packs that rebuilds have looked through: it tells others that one goes on.
    Walked = 32,
    /// Which start of the machine this is, as far as anybody said who bound a key; 0 if nobody did.
    Boot = 33,
    /// Not below the generation of any binding from before that.
    BootFloor = 34,
}

/// The first of the words that keep the newest binding which was ended, see
/// [`Index::newest_end`](super::index::Index::newest_end).
const FIRST_END: usize = 64;
/// How many words that are; a power of two.
const ENDS: usize = 64;

/// The word for keys with this hash.
pub(super) fn end_word(hash: SlotHash) -> usize {
    FIRST_END + usize::try_from(hash.rest()).unwrap_or(0) % ENDS
}

impl Field {
    /// Its place among the totals; beyond their end for the flags.
    pub(super) const fn total(self) -> usize {
        (self as usize).wrapping_sub(FIRST_TOTAL)
    }

    /// The byte offset in the file.
    pub(super) const fn offset(self) -> u64 {
        self as u64 * 8
    }
}

/// The words that a new table takes over from the old one.
pub(super) const CARRIED: [Range<usize>; 3] = [
    FIRST_TOTAL..FIRST_TOTAL + TOTALS,
    Field::Ends as usize..Field::BootFloor as usize + 1,
    FIRST_END..FIRST_END + ENDS,
];

/// The first of the totals.
const FIRST_TOTAL: usize = Field::Entries as usize;
/// How many words of totals there are.
pub(super) const TOTALS: usize = Field::CountedSince as usize + 1 - FIRST_TOTAL;
/// The byte offset of the totals in the file.
pub(super) const TOTALS_AT: u64 = FIRST_TOTAL as u64 * 8;

/// The low bits of [`Field::Generation`] that are a check.
const SEAL_BITS: u32 = 10;

/// A generation as the header has it: the least number not below it that carries its own check.
///
/// Numbers that damage made up must not be believed: everything put after them would count as newer
/// than what is put once the index was rebuilt. Of two sealed numbers the greater one is that of the
/// greater generation, or they are equal.
pub(super) fn sealed(generation: u64) -> u64 {
    let high = (generation >> SEAL_BITS)
        .saturating_add(1)
        .min(u64::MAX >> SEAL_BITS);
    high << SEAL_BITS | seal(high)
}

/// No generation given out is above this; 0 for a number that [`sealed`] did not make.
pub(super) fn unsealed(word: u64) -> u64 {
    let high = word >> SEAL_BITS;
    if high << SEAL_BITS | seal(high) == word {
        word
    } else {
        0
    }
}

fn seal(high: u64) -> u64 {
    // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    high.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SEAL_BITS)
}

/// Changes of totals that one hold of the lock makes, gathered so that they are written together:
/// every write is a system call.
#[derive(Debug, Default)]
pub(super) struct Changes([Change; TOTALS]);

#[derive(Clone, Copy, Debug, Default)]
struct Change {
    more: u64,
    less: u64,
    least: u64,
}

impl Changes {
    /// `field` is a total, so not the flags.
    fn at(&mut self, field: Field) -> Option<&mut Change> {
        self.0.get_mut(field.total())
    }

    /// Adds to a total.
    pub(super) fn add(&mut self, field: Field, value: u64) {
        if let Some(change) = self.at(field) {
            change.more = change.more.saturating_add(value);
        }
    }

    /// Takes from a total.
    pub(super) fn subtract(&mut self, field: Field, value: u64) {
        if let Some(change) = self.at(field) {
            change.less = change.less.saturating_add(value);
        }
    }

    /// Makes a total at least `value`.
    pub(super) fn raise(&mut self, field: Field, value: u64) {
        if let Some(change) = self.at(field) {
            change.least = change.least.max(value);
        }
    }

    /// What the totals become: never below zero, never beyond what fits. A generation that damage
    /// made up is none.
    pub(super) fn apply(&self, mut totals: [u64; TOTALS]) -> [u64; TOTALS] {
        if let Some(generation) = totals.get_mut(Field::Generation.total()) {
            *generation = unsealed(*generation);
        }
        for (total, change) in totals.iter_mut().zip(&self.0) {
            *total = total
                .saturating_add(change.more)
                .saturating_sub(change.less)
                .max(change.least);
        }
        totals
    }
}

/// Another table is at the path by now: look there again.
pub(super) const RETIRING: u64 = 1;
/// Not every binding is in the table yet.
pub(super) const REBUILDING: u64 = 2;

/// The constant part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Constants {
    pub(super) seed: u64,
    pub(super) buckets: u64,
    /// Of the index file itself: in a copied directory it is another one.
    pub(super) inode: u64,
}

/// Why a header is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// Damaged or foreign: build another.
    Damaged,
    /// Written by a newer version: leave it alone.
    Newer,
}

impl Constants {
    /// The header of a table whose totals are zero but for `flags` and these.
    pub(super) fn encode(&self, flags: u64, totals: &[(Field, u64)]) -> Vec<u8> {
        let mut words = vec![0_u64; SIZE / 8];
        words[..CONSTANT_WORDS].copy_from_slice(&self.words());
        words[CONSTANT_WORDS] = check(&self.words());
        words[Field::Flags as usize] = flags;
        for (field, value) in totals {
            words[*field as usize] = *value;
        }
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn words(&self) -> [u64; CONSTANT_WORDS] {
        // The format number is little-endian on every machine: a newer one is known as such.
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[4..].copy_from_slice(&BYTE_ORDER.to_ne_bytes());
        [
            MAGIC,
            u64::from_ne_bytes(bytes),
            self.seed,
            self.buckets,
            self.inode,
        ]
    }

    /// Reads the first words of a file of `len` bytes.
    pub(super) fn decode(words: &[IndexWord], len: u64) -> Result<Self, BadHeader> {
        let word = |i: usize| words.get(i).map_or(0, |w| w.load(Ordering::Relaxed));
        let found: [u64; CONSTANT_WORDS] = std::array::from_fn(word);
        if found[0] != MAGIC || check(&found) != word(CONSTANT_WORDS) {
            return Err(BadHeader::Damaged);
        }
        let [a, b, c, d, order @ ..] = found[1].to_ne_bytes();
        let format = u32::from_le_bytes([a, b, c, d]);
        if format > FORMAT {
            return Err(BadHeader::Newer);
        }
        if order != BYTE_ORDER.to_ne_bytes() {
            return Err(BadHeader::Damaged);
        }
        let constants = Self {
            seed: found[2],
            buckets: found[3],
            inode: found[4],
        };
        let table = constants.buckets.checked_mul(super::table::BUCKET_BYTES);
        let expected = table.and_then(|bytes| bytes.checked_add(SIZE as u64));
        if format != FORMAT || constants.buckets < 2 || expected != Some(len) {
            return Err(BadHeader::Damaged);
        }
        Ok(constants)
    }
}

fn check(words: &[u64; CONSTANT_WORDS]) -> u64 {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    crate::hex::words(blake3::hash(&bytes).as_bytes())[0].to_le()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_generation_is_above_it_and_keeps_the_order_and_damage_is_seen() {
        let mut last = 0;
        for generation in [
            0,
            1,
            1023,
            1024,
            1 << 40,
            1 << 60,
            (1 << 60) + 7,
            u64::MAX / 2,
        ] {
            let word = sealed(generation);
            assert!(word > generation && word >= last);
            assert_eq!(unsealed(word), word);
            assert!(sealed(word) > word);
            last = word;
            for bit in 0..64 {
                assert_eq!(unsealed(word ^ 1 << bit), 0, "{word:x}, bit {bit}");
            }
        }
        assert_eq!(unsealed(0), 0);
    }

    fn words(bytes: &[u8]) -> Vec<IndexWord> {
        bytes
            .chunks_exact(8)
            .map(|c| IndexWord::new(u64::from_ne_bytes(c.try_into().unwrap())))
            .collect()
    }

    #[test]
    fn changes_of_totals_saturate_and_leave_the_others_alone() {
        let mut changes = Changes::default();
        changes.add(Field::Entries, 1);
        changes.add(Field::Entries, 2);
        changes.subtract(Field::Used, 9);
        changes.add(Field::DiskBytes, u64::MAX);
        changes.raise(Field::Generation, 50);
        changes.raise(Field::Generation, 40);
        changes.subtract(Field::Corrupt, 1);
        let mut totals = [7; TOTALS];
        totals = changes.apply(totals);
        assert_eq!(totals[..5], [10, 0, u64::MAX, 50, 7]);
        assert_eq!(totals[Field::Evictions.total()..][..3], [7, 6, 7]);
    }

    #[test]
    fn a_generation_is_raised_from_what_it_was_and_not_from_what_damage_made_of_it() {
        let raised_from = |word| {
            let mut totals = [0; TOTALS];
            totals[Field::Generation.total()] = word;
            let mut changes = Changes::default();
            changes.raise(Field::Generation, sealed(5000));
            changes.apply(totals)[Field::Generation.total()]
        };
        assert_eq!(raised_from(sealed(10)), sealed(5000));
        assert_eq!(raised_from(sealed(900_000)), sealed(900_000));
        assert_eq!(raised_from(sealed(10) | 1 << 62), sealed(5000), "damaged");
    }

    #[test]
    fn a_header_is_read_back_and_a_damaged_one_is_not() {
        let constants = Constants {
            seed: 5,
            buckets: 4,
            inode: 77,
        };
        let len = SIZE as u64 + 4 * super::super::table::BUCKET_BYTES;
        let bytes = constants.encode(REBUILDING, &[]);
        assert_eq!(Constants::decode(&words(&bytes), len), Ok(constants));
        assert_eq!(
            Constants::decode(&words(&bytes), len + 1),
            Err(BadHeader::Damaged)
        );
        for bit in 0..48 * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                Constants::decode(&words(&damaged), len),
                Err(BadHeader::Damaged),
                "{bit}"
            );
        }
    }
}
