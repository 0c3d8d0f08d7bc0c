//! The slots of the index: pure functions between 28 bytes and their meaning.
//!
//! A slot is a hint. Nothing in it is believed: it says where to look, and what is found there
//! must carry the full key. See `docs/format.md` for the table.

use super::envelope::{ALIGN, MAX_PACK};
use super::hits::Hits;
use super::layout::PackNumber;
use crate::fold::seeded_fold;

/// Bits of a hash that a slot keeps: enough to place it in a table of any size without asking the
/// envelope, so that growing reads no pack.
const HASH_BITS: u32 = 47;

/// What a slot is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotKind {
    /// A binding of a key.
    Key,
    /// Content that is stored once for all its keys.
    Content,
}

/// The seeded 47-bit hash of a key or a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SlotHash(pub(super) u64);

impl SlotHash {
    /// A fold of all 32 bytes, so that keys which differ in any place spread.
    pub(super) fn new(name: &[u8; 32], seed: u64) -> Self {
        let hash = mix(seeded_fold(name, seed)) >> (64 - HASH_BITS);
        // The part that becomes the tag is never zero: that marks an empty slot.
        Self(if hash >> 16 == 0 {
            hash | 1 << 16
        } else {
            hash
        })
    }

    /// The two buckets it may be in, of `buckets`.
    pub(super) fn buckets(self, buckets: u64) -> [u64; 2] {
        let range = |hash: u64| {
            let scaled = (u128::from(hash) * u128::from(buckets)) >> HASH_BITS;
            u64::try_from(scaled).unwrap_or(0)
        };
        let first = range(self.0);
        let second = range(mix(self.0) >> (64 - HASH_BITS));
        if first == second {
            [first, (first + 1) % buckets.max(1)]
        } else {
            [first, second]
        }
    }

    /// The 32 bits that are compared first; never zero, which marks an empty slot.
    pub(super) fn tag(self, kind: SlotKind) -> u32 {
        let top = u32::try_from(self.0 >> 16).unwrap_or(1);
        match kind {
            SlotKind::Key => top,
            SlotKind::Content => top | 1 << 31,
        }
    }

    /// The 16 bits behind the tag.
    pub(super) fn rest(self) -> u64 {
        self.0 & 0xffff
    }
}

/// The finaliser of `MurmurHash3` by Austin Appleby: every input bit flips each output bit half of
/// the time.
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// Where an envelope is: 36 bits of a pack's number, 20 bits of an offset in units of 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place(pub(super) u64);

impl Place {
    const OFFSET_BITS: u32 = 20;
    /// Of both; what is above them in a slot's word is another thing.
    const BITS: u32 = Self::OFFSET_BITS + PackNumber::BITS;

    /// `offset` is aligned and below [`MAX_PACK`].
    pub(super) fn new(pack: PackNumber, offset: u64) -> Self {
        debug_assert!(offset < MAX_PACK && offset % ALIGN == 0);
        Self((pack.0 << Self::OFFSET_BITS) | (offset / ALIGN))
    }

    pub(super) fn pack(self) -> PackNumber {
        PackNumber(self.0 >> Self::OFFSET_BITS)
    }

    pub(super) fn offset(self) -> u64 {
        (self.0 & ((1 << Self::OFFSET_BITS) - 1)) * ALIGN
    }
}

/// An allocated length as 16 bits: exact (in units of 64 bytes) below 128 KiB, from there on rounded
/// up by less than 0.1 %.
/// What is added to a total is what is taken from it again, so totals do not drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocated(u16);

impl Allocated {
    const MANTISSA: u32 = 11;

    /// Rounds `bytes` up to what can be said.
    pub(super) fn of(bytes: u64) -> Self {
        let units = bytes.div_ceil(ALIGN);
        let mut exponent = 0_u32;
        while exponent < 31 && units.div_ceil(1 << exponent) >= 1 << Self::MANTISSA {
            exponent += 1;
        }
        let mantissa = units.div_ceil(1 << exponent).min((1 << Self::MANTISSA) - 1);
        Self(u16::try_from(u64::from(exponent) << Self::MANTISSA | mantissa).unwrap_or(u16::MAX))
    }

    /// In bytes.
    pub(super) fn bytes(self) -> u64 {
        let mantissa = u64::from(self.0) & ((1 << Self::MANTISSA) - 1);
        (mantissa << (self.0 >> Self::MANTISSA)) * ALIGN
    }
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) kind: SlotKind,
    /// Of the key, or of the digest.
    pub(super) hash: SlotHash,
    /// Where the envelope is. For the content of an object: of one that names it.
    pub(super) place: Place,
    /// A key's envelope, or a content's payload or object.
    pub(super) allocated: Allocated,
    /// For a key: the tag of its content's slot. For content: 1 if it is an object.
    pub(super) content: u32,
    /// When it was last used, in nanoseconds since 1970 (never running backwards).
    pub(super) last_use: u64,
    /// For a key: how often it was used.
    pub(super) hits: Hits,
}

impl Slot {
    /// The tag and the three words of its body.
    pub(super) fn encode(&self) -> (u32, [u64; 3]) {
        let second =
            u64::from(self.content) << 32 | self.hash.rest() << 16 | u64::from(self.allocated.0);
        (
            self.hash.tag(self.kind),
            [
                u64::from(self.hits.code()) << Place::BITS | self.place.0,
                second,
                self.last_use,
            ],
        )
    }

    /// The inverse; `None` for an empty slot.
    pub(super) fn decode(tag: u32, body: [u64; 3]) -> Option<Self> {
        if tag == 0 {
            return None;
        }
        let kind = if tag >> 31 == 1 {
            SlotKind::Content
        } else {
            SlotKind::Key
        };
        let top = u64::from(tag & (u32::MAX >> 1));
        Some(Self {
            kind,
            hash: SlotHash(top << 16 | (body[1] >> 16 & 0xffff)),
            place: Place(body[0] & ((1 << Place::BITS) - 1)),
            allocated: Allocated((body[1] & 0xffff) as u16),
            content: (body[1] >> 32) as u32,
            last_use: body[2],
            hits: Hits::from_code((body[0] >> Place::BITS) as u8),
        })
    }

    /// Whether it may be the slot of `hash`.
    pub(super) fn matches(&self, kind: SlotKind, hash: SlotHash) -> bool {
        self.kind == kind
            && self.hash.tag(kind) == hash.tag(kind)
            && self.hash.rest() == hash.rest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_read_back() {
        for (kind, seed) in [(SlotKind::Key, 1), (SlotKind::Content, u64::MAX)] {
            let slot = Slot {
                kind,
                hash: SlotHash::new(&[3; 32], seed),
                place: Place::new(PackNumber((1 << PackNumber::BITS) - 1), MAX_PACK - 64),
                allocated: Allocated::of(12_345),
                content: 0xdead_beef,
                last_use: u64::MAX - 1,
                hits: Hits::from_code(0xa5),
            };
            let (tag, body) = slot.encode();
            assert_eq!(Slot::decode(tag, body), Some(slot));
            assert_eq!(slot.place.offset(), MAX_PACK - 64);
        }
        assert_eq!(Slot::decode(0, [1, 2, 3]), None);
    }

    #[test]
    fn an_allocated_length_is_never_too_small_and_hardly_too_large() {
        for bytes in (0..200_000)
            .step_by(61)
            .chain((10..43).map(|n| (1 << n) + 1))
        {
            let said = Allocated::of(bytes).bytes();
            assert!(said >= bytes, "{bytes} -> {said}");
            assert!(said <= bytes + 64 + bytes / 1000, "{bytes} -> {said}");
        }
        assert!(Allocated::of(u64::MAX).bytes() > 1 << 46);
    }

    #[test]
    fn zero_padded_counters_spread_over_all_buckets() {
        let mut used = std::collections::HashSet::new();
        for i in 0_u32..4096 {
            let mut key = [0; 32];
            key[28..].copy_from_slice(&i.to_be_bytes());
            used.insert(SlotHash::new(&key, 42).buckets(512)[0]);
        }
        assert_eq!(used.len(), 512);
    }
}
