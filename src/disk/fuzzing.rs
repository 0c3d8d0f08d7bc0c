//! What the fuzzers check of the byte layouts: each takes any bytes, and panics if a promise is
//! broken. Compiled for fuzzers and tests only.

use super::envelope::{self, CheckKey, Envelope, LifeWord, MAX_PACK, PACK_HEADER};
use super::header::{self, Constants};
use super::layout::{Layout, PackNumber};
use super::samples::{Decoded, Samples};
use super::slot::{Allocated, Slot, SlotHash, SlotKind};
use super::table::{BUCKET_WORDS, Bucket, HeapTable};
use std::sync::atomic::AtomicU64;

/// Takes numbers off the front of a fuzzer's input; zeros once it is used up.
#[derive(Debug)]
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// All of an input.
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Whether everything was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.0.len().min(N);
        out[..taken].copy_from_slice(&self.0[..taken]);
        self.0 = &self.0[taken..];
        out
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next eight bytes.
    pub(super) fn word(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// At most `len` of the bytes that are left.
    pub(super) fn some(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Decodes any bytes as whatever the first of them says.
pub(crate) fn decode(input: &[u8]) {
    let mut bytes = Bytes::new(input);
    let kind = bytes.byte();
    if kind >= 252 {
        return history(bytes.some(usize::MAX));
    }
    match kind % 7 {
        0 => any_envelope(&mut bytes),
        1 => sealed_envelope(&mut bytes),
        2 => pack_header(&mut bytes),
        3 => index_header(&mut bytes),
        4 => slot(&mut bytes),
        5 => table(&mut bytes),
        _ => names(&mut bytes),
    }
}

/// Bytes as they are: what is no envelope is refused, what is one says nothing but its bytes.
fn any_envelope(bytes: &mut Bytes<'_>) {
    let (id, offset, found) = (bytes.array(), bytes.word(), bytes.array());
    let _ = envelope::may_start(&found);
    check_envelope(&found, &id, offset);
}

/// The same with a check that holds, as whoever can write to the directory may make one: all that
/// lies behind the check is reached.
fn sealed_envelope(bytes: &mut Bytes<'_>) {
    let (id, offset) = (bytes.array(), bytes.word());
    let mut found: [u8; envelope::SIZE] = bytes.array();
    if bytes.byte() % 2 == 0 {
        found[..8].copy_from_slice(&[b'K', b'W', b'e', b'1', 1, 0, bytes.byte() % 5, 0]);
    }
    envelope::seal(&mut found, &CheckKey::public(), &id, offset);
    check_envelope(&found, &id, offset);
}

fn check_envelope(found: &[u8; envelope::SIZE], id: &[u8; 16], offset: u64) {
    let key = CheckKey::public();
    let Some((envelope, life)) = Envelope::decode(found, &key, id, offset) else {
        return;
    };
    let again = envelope.encode(&key, id, offset);
    assert_eq!(
        again[..120],
        found[..120],
        "an envelope says more or less than its bytes"
    );
    assert_eq!(life == LifeWord::Live, found[120..] == envelope::LIVE);
    assert_eq!(life == LifeWord::Dead, found[120..] == envelope::DEAD);
    assert!(envelope::may_start(found));
    let end = envelope::record_len(envelope.kind, envelope.length)
        .and_then(|len| offset.checked_add(len));
    let end = end.expect("the end of a record can be said");
    assert!(!envelope.kind.carries_payload() || end <= MAX_PACK);
    // Believed nowhere else.
    assert!(Envelope::decode(found, &key, id, offset ^ 64).is_none());
    let mut other = *id;
    other[0] ^= 1;
    assert!(Envelope::decode(found, &key, &other, offset).is_none());
}

fn pack_header(bytes: &mut Bytes<'_>) {
    let key = CheckKey::public();
    let number = PackNumber(bytes.word() >> (64 - PackNumber::BITS));
    let found: [u8; PACK_HEADER] = bytes.array();
    if let Some((id, _)) = envelope::decode_pack_header(&found, number) {
        assert_eq!(PackNumber::of(&id), number);
    }
    let id = bytes.array();
    let number = PackNumber::of(&id);
    let made = envelope::encode_pack_header(key.id(), &id);
    assert_eq!(
        envelope::decode_pack_header(&made, number),
        Some((id, key.id()))
    );
    let mut damaged = made;
    let at = usize::from(bytes.byte()) % PACK_HEADER;
    damaged[at] ^= bytes.byte();
    let decoded = envelope::decode_pack_header(&damaged, number);
    // Every byte is looked at.
    assert_eq!(decoded.is_some(), damaged == made);
}

/// The body of a history, below a check that holds.
pub(super) fn history(body: &[u8]) {
    let Decoded::Samples(read) = Samples::decode(&super::samples::sealed(body)) else {
        return;
    };
    let mut last = std::time::UNIX_EPOCH;
    for sample in read.kept() {
        assert!(sample.time() >= last, "time runs backwards");
        last = sample.time();
    }
    let again = Samples::decode(&read.encode());
    assert_eq!(again, Decoded::Samples(read), "a history is not read back");
}

fn index_header(bytes: &mut Bytes<'_>) {
    let flags = bytes.word();
    let constants = Constants {
        seed: bytes.word(),
        buckets: bytes.word() >> (bytes.byte() % 64),
        inode: bytes.word(),
    };
    let len = header::SIZE as u64;
    let exact = constants
        .buckets
        .wrapping_mul(BUCKET_WORDS as u64 * 8)
        .wrapping_add(len);
    let made = constants.encode(flags, &[]);
    if let Ok(read) = Constants::decode(&words(&made), exact) {
        assert_eq!(read, constants);
        // A table as long as the file says, and no other.
        let table = u128::from(constants.buckets) * BUCKET_WORDS as u128 * 8;
        assert_eq!(table + u128::from(len), u128::from(exact));
        assert!(constants.buckets >= 2);
        assert!(Constants::decode(&words(&made), exact.wrapping_add(1)).is_err());
    }
    let len = bytes.word();
    let any = bytes.some(header::SIZE);
    if let Ok(read) = Constants::decode(&words(any), len) {
        assert_eq!(read.encode(flags, &[])[..48], any[..48]);
    }
}

/// A prefix of whole words, in native order.
fn words(bytes: &[u8]) -> Vec<AtomicU64> {
    let word = |c: &[u8]| u64::from_ne_bytes(std::array::from_fn(|i| c[i]));
    bytes
        .chunks_exact(8)
        .map(|c| AtomicU64::new(word(c)))
        .collect()
}

fn any_slot(bytes: &mut Bytes<'_>) -> Option<Slot> {
    let tag = u32::from_le_bytes(bytes.array());
    let body = std::array::from_fn(|_| bytes.word());
    let slot = Slot::decode(tag, body);
    assert_eq!(slot.is_none(), tag == 0);
    if let Some(slot) = slot {
        assert_eq!(
            slot.encode(),
            (tag, body),
            "a slot says more or less than its bits"
        );
    }
    slot
}

fn slot(bytes: &mut Bytes<'_>) {
    let Some(slot) = any_slot(bytes) else {
        return;
    };
    assert!(slot.place.offset() < MAX_PACK);
    assert!(slot.place.pack().0 < 1 << PackNumber::BITS);
    assert_eq!(
        super::slot::Place::new(slot.place.pack(), slot.place.offset()),
        slot.place
    );
    assert!(slot.matches(slot.kind, slot.hash));
    let said = slot.allocated.bytes();
    assert_eq!(Allocated::of(said).bytes(), said, "totals drift");
    let length = bytes.word() >> 20;
    assert!(Allocated::of(length).bytes() >= length);
    let buckets = bytes.word().max(2);
    let [a, b] = slot.hash.buckets(buckets);
    assert!(a < buckets && b < buckets && a != b);
}

/// A table that is filled from any slots gives each of them back, and no other.
fn table(bytes: &mut Bytes<'_>) {
    let buckets = u64::from(bytes.byte() % 6) + 2;
    let seed = bytes.word();
    let mut table = HeapTable::new(buckets).expect("a few kilobytes");
    let mut model = Vec::new();
    for _ in 0..128 {
        if bytes.is_empty() {
            break;
        }
        let slot = if bytes.byte() % 2 == 0 {
            any_slot(bytes)
        } else {
            // Names that are nearly equal.
            let name = [bytes.byte(); 32];
            let kind = if bytes.byte() % 2 == 0 {
                SlotKind::Key
            } else {
                SlotKind::Content
            };
            let (tag, body) = (
                SlotHash::new(&name, seed).tag(kind),
                std::array::from_fn(|_| bytes.word()),
            );
            Slot::decode(tag, body)
        };
        if let Some(slot) = slot.filter(|slot| table.insert(slot)) {
            model.push(slot);
        }
    }
    let whole: Vec<u8> = table.pieces().flatten().collect();
    let words = words(&whole);
    let all: Vec<Bucket<'_>> = words.chunks(BUCKET_WORDS).map(Bucket).collect();
    assert_eq!(all.len() as u64, buckets);
    let mut found: Vec<Slot> = all
        .iter()
        .flat_map(|b| b.slots().map(|(_, slot)| slot))
        .collect();
    assert_eq!(found.len(), model.len());
    for slot in &model {
        let candidates = slot
            .hash
            .buckets(buckets)
            .map(|i| all[usize::try_from(i).unwrap_or(0)]);
        let seen = candidates
            .iter()
            .any(|b| b.matches(slot.kind, slot.hash).any(|(_, s)| s == *slot));
        assert!(seen, "{slot:?} is not where it is looked for");
        let at = found
            .iter()
            .position(|s| s == slot)
            .expect("what was inserted is there");
        found.swap_remove(at);
    }
    for bucket in &all {
        let (first, empty) = bucket.room();
        assert_eq!(first.is_some(), empty > 0);
        assert_eq!(bucket.slots().count() + empty, super::table::SLOTS);
    }
}

/// Whatever a folder has for names: only those that keepwarm gives are taken for its own.
fn names(bytes: &mut Bytes<'_>) {
    let (dir, rest) = (bytes.some(2), bytes.some(80));
    let Ok(name) = std::str::from_utf8(rest) else {
        return;
    };
    if let Some(number) = PackNumber::parse(name.as_ref()) {
        assert_eq!(number.file_name(), name);
        assert!(
            number.0 < 1 << PackNumber::BITS,
            "{name}: a number that no place can name"
        );
    }
    let Ok(dir) = std::str::from_utf8(dir) else {
        return;
    };
    if let Some(digest) = Layout::object_digest(dir.as_ref(), name.as_ref()) {
        let path = Layout::new("/root".into()).object(&digest);
        assert!(path.ends_with(std::path::Path::new(dir).join(name)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "hundreds of hashes: hours")]
        fn any_bytes_decode_to_what_they_say_or_to_nothing(input in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::decode(&input);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "hundreds of hashes: hours")]
    fn every_seed_of_the_fuzzer_passes() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/decode");
        // Not in the published package.
        for seed in std::fs::read_dir(seeds).into_iter().flatten() {
            super::decode(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
