//! The hash table of the index as plain words: 448-byte buckets of 16 slots, two candidates a
//! hash, the less loaded one taken.
//!
//! A bucket is 8 words of tags (two a word) and 16 bodies of 3 words. The table works on any slice
//! of atomics, mapped or on the heap; loads are relaxed and a torn slot is a slot that leads to an
//! envelope which does not match. Nothing here writes: the index writes through its file.

use super::slot::{Slot, SlotHash, SlotKind};
use crate::sync::{IndexWord, Ordering};
use std::ops::Range;

/// Slots of a bucket.
pub(super) const SLOTS: usize = 16;
/// Words of tags at the front of a bucket: one cache line.
const TAG_WORDS: usize = SLOTS / 2;
const BODY_WORDS: usize = 3;
/// Words of a bucket.
pub(super) const BUCKET_WORDS: usize = TAG_WORDS + SLOTS * BODY_WORDS;
/// Bytes of a bucket.
pub(super) const BUCKET_BYTES: u64 = BUCKET_WORDS as u64 * 8;

/// A table is written in pieces of so many bytes. Linux caches what one write made as one piece, and
/// later writes into a piece of 1 MiB take three times as long as into one of 64 KiB.
pub(super) const PIECE: usize = 64 << 10;

/// Where a slot is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) bucket: u64,
    pub(super) slot: usize,
}

impl Position {
    /// The bytes of its body in the table.
    pub(super) fn body(self) -> Range<u64> {
        let word = (TAG_WORDS + self.slot * BODY_WORDS) as u64;
        let start = self.bucket * BUCKET_BYTES + word * 8;
        start..start + BODY_WORDS as u64 * 8
    }
}

/// One bucket, wherever its words are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<'a>(pub(super) &'a [IndexWord]);

impl Bucket<'_> {
    fn word(&self, i: usize) -> u64 {
        self.0.get(i).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The two tags of a word in the order of memory, on either byte order.
    fn tag(&self, slot: usize) -> u32 {
        let bytes = self.word(slot / 2).to_ne_bytes();
        let at = slot % 2 * 4;
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// What is in `slot`.
    pub(super) fn get(&self, slot: usize) -> Option<Slot> {
        let tag = self.tag(slot);
        if tag == 0 {
            return None;
        }
        let at = TAG_WORDS + slot * BODY_WORDS;
        Slot::decode(tag, [self.word(at), self.word(at + 1), self.word(at + 2)])
    }

    /// The slots that may be those of `hash`.
    pub(super) fn matches(
        &self,
        kind: SlotKind,
        hash: SlotHash,
    ) -> impl Iterator<Item = (usize, Slot)> + '_ {
        self.tagged(hash.tag(kind))
            .filter_map(|slot| Some((slot, self.get(slot)?)))
            .filter(move |(_, slot)| slot.matches(kind, hash))
    }

    /// The slots with a tag: first all tags are compared, without a branch, because a look-up of
    /// an absent key is nothing else.
    fn tagged(&self, tag: u32) -> impl Iterator<Item = usize> + use<> {
        let mut found = 0_u32;
        for (i, word) in self.0.iter().take(TAG_WORDS).enumerate() {
            let bytes = word.load(Ordering::Relaxed).to_ne_bytes();
            let [a, b, c, d, e, f, g, h] = bytes;
            let first = u32::from_ne_bytes([a, b, c, d]) == tag;
            let second = u32::from_ne_bytes([e, f, g, h]) == tag;
            found |= (u32::from(first) | u32::from(second) << 1) << (2 * i);
        }
        // Bit by bit, the lowest first: nothing to do for the usual zero.
        std::iter::from_fn(move || {
            let slot = found.trailing_zeros() as usize;
            found &= found.wrapping_sub(1);
            (slot < SLOTS).then_some(slot)
        })
    }

    /// Whether a slot has a tag: less than finding it.
    pub(super) fn has_tag(&self, tag: u32) -> bool {
        const LOW: u64 = 0x0000_0001_0000_0001;
        let both = u64::from(tag) | u64::from(tag) << 32;
        let Some(words) = self.0.first_chunk::<TAG_WORDS>() else {
            return false;
        };
        // A half that is zero borrows from its top bit; one that is not only where the one below is.
        let zeros = words.iter().fold(0, |zeros, word| {
            let differs = word.load(Ordering::Relaxed) ^ both;
            zeros | (differs.wrapping_sub(LOW) & !differs)
        });
        zeros & (LOW << 31) != 0
    }

    /// The first empty slot and the number of empty ones.
    pub(super) fn room(&self) -> (Option<usize>, usize) {
        let empty = (0..SLOTS).filter(|&slot| self.tag(slot) == 0);
        (empty.clone().next(), empty.count())
    }

    /// All of it.
    pub(super) fn bytes(&self) -> [u8; BUCKET_WORDS * 8] {
        let mut bytes = [0; BUCKET_WORDS * 8];
        for (i, out) in bytes.chunks_exact_mut(8).enumerate() {
            out.copy_from_slice(&self.word(i).to_ne_bytes());
        }
        bytes
    }

    /// The bytes of the bucket with `content` in `slot`, and which of them have to be written.
    pub(super) fn with_slot(
        &self,
        slot: usize,
        content: &Slot,
    ) -> ([u8; BUCKET_WORDS * 8], Range<usize>) {
        let (tag, body) = content.encode();
        self.with(slot, tag, body)
    }

    /// The same with nothing in `slot`, its body included: a later write of which a power cut keeps the
    /// tag alone must not lead to where the slot led before.
    pub(super) fn without_slot(&self, slot: usize) -> ([u8; BUCKET_WORDS * 8], Range<usize>) {
        self.with(slot, 0, [0; BODY_WORDS])
    }

    fn with(
        &self,
        slot: usize,
        tag: u32,
        body: [u64; BODY_WORDS],
    ) -> ([u8; BUCKET_WORDS * 8], Range<usize>) {
        let mut bytes = self.bytes();
        let (start, at) = (slot * 4, (TAG_WORDS + slot * BODY_WORDS) * 8);
        bytes[start..start + 4].copy_from_slice(&tag.to_ne_bytes());
        let end = at + BODY_WORDS * 8;
        for (out, word) in bytes[at..end].chunks_exact_mut(8).zip(body) {
            out.copy_from_slice(&word.to_ne_bytes());
        }
        (bytes, start..end)
    }

    /// All slots in use.
    pub(super) fn slots(&self) -> impl Iterator<Item = (usize, Slot)> + '_ {
        (0..SLOTS).filter_map(|slot| Some((slot, self.get(slot)?)))
    }
}

/// A table under construction on the heap, for growing, or for an index that nobody else sees.
#[derive(Debug)]
pub(super) struct HeapTable {
    words: Vec<IndexWord>,
    buckets: u64,
}

impl HeapTable {
    /// An empty table; `None` if there is no memory for it.
    pub(super) fn new(buckets: u64) -> Option<Self> {
        let len = usize::try_from(buckets).ok()?.checked_mul(BUCKET_WORDS)?;
        let mut words = Vec::new();
        words.try_reserve_exact(len).ok()?;
        words.resize_with(len, IndexWord::default);
        Some(Self { words, buckets })
    }

    pub(super) fn buckets(&self) -> u64 {
        self.buckets
    }

    /// All words, to be read as any other table's.
    pub(super) fn into_words(self) -> Vec<IndexWord> {
        self.words
    }

    /// One bucket, to be read.
    pub(super) fn bucket(&self, bucket: u64) -> Bucket<'_> {
        Bucket(self.words.get(Self::base(bucket)..).unwrap_or_default())
    }

    fn base(bucket: u64) -> usize {
        usize::try_from(bucket).unwrap_or(usize::MAX / BUCKET_WORDS) * BUCKET_WORDS
    }

    /// Inserts without looking for duplicates; `false` if both buckets are full.
    pub(super) fn insert(&mut self, slot: &Slot) -> bool {
        let [a, b] = slot.hash.buckets(self.buckets);
        let (first, second) = (self.bucket(a).room(), self.bucket(b).room());
        let (bucket, (empty, _)) = if first.1 >= second.1 {
            (a, first)
        } else {
            (b, second)
        };
        let Some(empty) = empty else {
            return false;
        };
        self.write(bucket, empty, slot);
        true
    }

    /// Inserts in place of the key that was used longest ago, if that is longer ago: for slots that
    /// find no room in any table.
    pub(super) fn insert_over_older(&mut self, slot: &Slot) {
        let mut oldest: Option<(u64, usize, u64)> = None;
        for bucket in slot.hash.buckets(self.buckets) {
            for (at, old) in self.bucket(bucket).slots() {
                let is_older = oldest.is_none_or(|(_, _, last_use)| old.last_use < last_use);
                if old.kind == SlotKind::Key && is_older {
                    oldest = Some((bucket, at, old.last_use));
                }
            }
        }
        if let Some((bucket, at, last_use)) = oldest {
            if last_use < slot.last_use {
                self.write(bucket, at, slot);
            }
        }
    }

    fn write(&mut self, bucket: u64, empty: usize, slot: &Slot) {
        let base = Self::base(bucket);
        let (tag, body) = slot.encode();
        let word = self.words[base + empty / 2].get_mut();
        let mut bytes = word.to_ne_bytes();
        bytes[empty % 2 * 4..][..4].copy_from_slice(&tag.to_ne_bytes());
        *word = u64::from_ne_bytes(bytes);
        let at = base + TAG_WORDS + empty * BODY_WORDS;
        for (word, value) in self.words[at..at + BODY_WORDS].iter_mut().zip(body) {
            *word.get_mut() = value;
        }
    }

    /// The table in pieces of at most [`PIECE`] bytes.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.words.chunks(PIECE / 8).map(|words| {
            let values = words.iter().map(|word| word.load(Ordering::Relaxed));
            values.flat_map(u64::to_ne_bytes).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The two ways to look for a tag agree, wherever it is and whatever stands beside it: tags that
        /// differ by one or by the top bit are what a subtraction could take for it.
        #[test]
        fn a_tag_is_seen_where_it_is_found(
            tag in 1_u32..,
            filled in prop::collection::vec((0..SLOTS, 0_u32..7), 0..SLOTS),
        ) {
            let mut tags = [0; SLOTS];
            for (slot, like) in filled {
                let near = [tag, tag ^ 1, tag.wrapping_add(1), tag.wrapping_sub(1), tag ^ 1 << 31, 1, u32::MAX];
                tags[slot] = near[like as usize];
            }
            let words: Vec<IndexWord> = (0..BUCKET_WORDS)
                .map(|word| {
                    let mut bytes = [0; 8];
                    for (half, out) in bytes.chunks_exact_mut(4).enumerate() {
                        let tag = tags.get(2 * word + half).unwrap_or(&tag);
                        out.copy_from_slice(&tag.to_ne_bytes());
                    }
                    IndexWord::new(u64::from_ne_bytes(bytes))
                })
                .collect();
            let bucket = Bucket(&words);
            prop_assert_eq!(bucket.has_tag(tag), tags.contains(&tag));
            let found: Vec<usize> = bucket.tagged(tag).collect();
            let there: Vec<usize> = (0..SLOTS).filter(|slot| tags[*slot] == tag).collect();
            prop_assert_eq!(found, there);
        }
    }
}
