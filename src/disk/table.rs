//! The hash table of the index as plain words: 448-byte buckets of 16 slots, two candidates a
//! hash, the less loaded one taken.
//!
//! A bucket is 8 words of tags (two a word) and 16 bodies of 3 words. The table works on any slice
//! of atomics, mapped or on the heap; loads are relaxed and a torn slot is a slot that leads to an
//! envelope which does not match. Nothing here writes: the index writes through its file.

use super::slot::{Slot, SlotHash, SlotKind};
use crate::sync::{IndexWord, Ordering};

/// Slots of a bucket.
pub(super) const SLOTS: usize = 16;
/// Words of tags at the front of a bucket: one cache line.
const TAG_WORDS: usize = SLOTS / 2;
const BODY_WORDS: usize = 3;
/// Words of a bucket.
pub(super) const BUCKET_WORDS: usize = TAG_WORDS + SLOTS * BODY_WORDS;
/// Bytes of a bucket.
pub(super) const BUCKET_BYTES: u64 = BUCKET_WORDS as u64 * 8;

/// Where a slot is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) bucket: u64,
    pub(super) slot: usize,
}

impl Position {
    /// The byte offset of its tag in the table.
    pub(super) fn tag_offset(self) -> u64 {
        self.bucket * BUCKET_BYTES + self.slot as u64 * 4
    }

    /// The byte offset of its body in the table.
    pub(super) fn body_offset(self) -> u64 {
        self.bucket * BUCKET_BYTES + (TAG_WORDS + self.slot * BODY_WORDS) as u64 * 8
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

    /// The first empty slot and the number of empty ones.
    pub(super) fn room(&self) -> (Option<usize>, usize) {
        let empty = (0..SLOTS).filter(|&slot| self.tag(slot) == 0);
        (empty.clone().next(), empty.count())
    }

    /// All slots in use.
    pub(super) fn slots(&self) -> impl Iterator<Item = (usize, Slot)> + '_ {
        (0..SLOTS).filter_map(|slot| Some((slot, self.get(slot)?)))
    }
}

/// A table under construction on the heap, for growing.
#[derive(Debug)]
pub(super) struct HeapTable {
    words: Vec<u64>,
    buckets: u64,
}

impl HeapTable {
    /// An empty table; `None` if there is no memory for it.
    pub(super) fn new(buckets: u64) -> Option<Self> {
        let len = usize::try_from(buckets).ok()?.checked_mul(BUCKET_WORDS)?;
        let mut words = Vec::new();
        words.try_reserve_exact(len).ok()?;
        words.resize(len, 0);
        Some(Self { words, buckets })
    }

    fn tags_used(&self, bucket: u64) -> usize {
        (0..SLOTS)
            .filter(|&slot| self.tag(bucket, slot) != 0)
            .count()
    }

    fn base(bucket: u64) -> usize {
        usize::try_from(bucket).unwrap_or(usize::MAX / BUCKET_WORDS) * BUCKET_WORDS
    }

    fn tag(&self, bucket: u64, slot: usize) -> u32 {
        let bytes = self.words[Self::base(bucket) + slot / 2].to_ne_bytes();
        let at = slot % 2 * 4;
        u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    /// Inserts without looking for duplicates; `false` if both buckets are full.
    pub(super) fn insert(&mut self, slot: &Slot) -> bool {
        let [a, b] = slot.hash.buckets(self.buckets);
        let bucket = if self.tags_used(a) <= self.tags_used(b) {
            a
        } else {
            b
        };
        let Some(empty) = (0..SLOTS).find(|&i| self.tag(bucket, i) == 0) else {
            return false;
        };
        let base = Self::base(bucket);
        let (tag, body) = slot.encode();
        let word = &mut self.words[base + empty / 2];
        let mut bytes = word.to_ne_bytes();
        bytes[empty % 2 * 4..][..4].copy_from_slice(&tag.to_ne_bytes());
        *word = u64::from_ne_bytes(bytes);
        let at = base + TAG_WORDS + empty * BODY_WORDS;
        self.words[at..at + BODY_WORDS].copy_from_slice(&body);
        true
    }

    /// The table in pieces of at most 1 MiB, as bytes.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.words
            .chunks(1 << 17)
            .map(|words| words.iter().flat_map(|word| word.to_ne_bytes()).collect())
    }
}
