//! The 128-byte envelope before every record in a pack, and the 64-byte header of a pack.
//!
//! Pure functions over bytes; the tables are in `docs/format.md`. An envelope is believed only
//! where it was written: its check covers the pack's random id and its own offset, so bytes that
//! were copied, swapped or stored as somebody's artifact never bind anything.

use super::layout::PackNumber;
use crate::digest::Digest;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use std::time::Duration;

/// Records start at multiples of this, in bytes.
pub(super) const ALIGN: u64 = 64;
/// The length of an envelope, in bytes.
pub(super) const SIZE: usize = 128;
/// The length of a pack's header, in bytes.
pub(super) const PACK_HEADER: usize = 64;
/// Packs never grow beyond this, in bytes: a slot has 20 bits for an offset in units of 64.
pub(super) const MAX_PACK: u64 = 64 << 20;

/// The longest artifact that an envelope can speak of, in bytes: 1 TiB.
pub(super) const LONGEST: u64 = (1 << LENGTH_BITS) - 1;
/// The longest lag that it can, in seconds: 194 days.
const LONGEST_LAG: u64 = (1 << (64 - LENGTH_BITS)) - 1;
/// The bits of a length; the others of its word are the lag.
const LENGTH_BITS: u32 = 40;

const MAGIC: [u8; 4] = *b"KWe1";
const PACK_MAGIC: [u8; 8] = *b"KWpack\r\n";
const FORMAT: u16 = 1;
/// Where the checked part ends, and the check begins.
const CHECKED: usize = 104;
/// Where the word is that says whether the binding is live.
pub(super) const LIFE_WORD: u64 = 120;
/// There from the append until the index knows the record: what a writer leaves that is killed in
/// between never comes back, not even by a rebuild.
const PENDING: [u8; 8] = *b"PENDpend";
/// There once the index knows the record. Anything else is not live, zeros above all: where a writer
/// was killed that had written all but the life word, the next record leaves a hole.
pub(super) const LIVE: [u8; 8] = *b"LIVElive";
/// There once the binding was removed, replaced or evicted. It ends older bindings of its key as well:
/// see [`Ended`](super::ended::Ended).
pub(super) const DEAD: [u8; 8] = *b"DEADdead";
/// There once the content was found damaged or missing, or the binding moved: nothing is bound here any
/// more. It says nothing of other bindings of the key, which stay.
pub(super) const GONE: [u8; 8] = *b"GONEgone";

/// What the life word of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LifeWord {
    Live,
    Dead,
    /// It is gone from here: as if it were not there.
    Gone,
    /// It never lived.
    None,
}

impl LifeWord {
    fn of(word: &[u8]) -> Self {
        if word == LIVE {
            Self::Live
        } else if word == DEAD {
            Self::Dead
        } else if word == GONE {
            Self::Gone
        } else {
            Self::None
        }
    }
}

/// Where the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Right behind the envelope.
    Inline,
    /// In `objects/`, under their digest.
    Object,
    /// Behind the inline envelope that the index knows for their digest.
    Shared,
    /// Right behind the envelope; they are the name of a namespace.
    Namespace,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Inline, Self::Object, Self::Shared, Self::Namespace]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Inline => 1,
            Self::Object => 2,
            Self::Shared => 3,
            Self::Namespace => 4,
        }
    }

    /// Whether the payload follows the envelope.
    pub(super) const fn carries_payload(self) -> bool {
        matches!(self, Self::Inline | Self::Namespace)
    }
}

/// The binding of a key to content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) generation: u64,
    pub(super) key: Fingerprint,
    pub(super) digest: Digest,
    /// Of the artifact, in bytes; at most [`LONGEST`].
    pub(super) length: u64,
    /// How many seconds before the generation was given out the entry was put; see
    /// [`Envelope::put_at`].
    pub(super) lag: u32,
    pub(super) namespace: NamespaceId,
    pub(super) build_cost: Duration,
}

/// Which check key a pack was written under. It is no secret: every pack's header carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyId([u8; 16]);

impl KeyId {
    /// Of the key that everybody has.
    pub(super) const PUBLIC: Self = Self([0; 16]);

    /// What the names in the index are hashed with in addition to its seed, so that the slots of
    /// different keys never meet.
    pub(super) fn salt(self) -> u64 {
        u64::from_le_bytes(array(&self.0, 0))
    }
}

/// The key of the checks of envelopes.
#[derive(Clone)]
pub(super) struct CheckKey {
    key: [u8; 32],
    id: KeyId,
}

impl std::fmt::Debug for CheckKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckKey(..)")
    }
}

/// `BLAKE3 derive key("keepwarm 2026-11 envelope check v1", "")`, written down because every process
/// would derive it several times before its first hit.
const PUBLIC_KEY: [u8; 32] = [
    0x91, 0xea, 0xda, 0xbf, 0xfb, 0xf3, 0xfd, 0xa9, 0x5e, 0x1b, 0x18, 0xaf, 0xeb, 0x33, 0xd2, 0x5d,
    0xfe, 0xf0, 0xc2, 0x8e, 0x57, 0x33, 0x57, 0x81, 0xe0, 0xe3, 0xdf, 0x2f, 0xd6, 0xcd, 0xf7, 0xe0,
];

impl CheckKey {
    /// The key everybody has: the check tells integrity, not authenticity.
    pub(super) fn public() -> Self {
        Self {
            key: PUBLIC_KEY,
            id: KeyId::PUBLIC,
        }
    }

    /// The key that only who knows `secret` has.
    pub(super) fn from_secret(secret: &[u8]) -> Self {
        let key = blake3::derive_key("keepwarm 2026-11 envelope check from a secret v1", secret);
        let id = blake3::derive_key("keepwarm 2026-11 id of an envelope check key v1", &key);
        let id = KeyId(array(&id, 0));
        Self { key, id }
    }

    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Whether it was made from a secret.
    pub(super) fn is_secret(&self) -> bool {
        self.id != KeyId::PUBLIC
    }

    /// The key of the stamps of verified objects.
    pub(super) fn stamp_key(&self) -> [u8; 32] {
        blake3::derive_key("keepwarm 2026-11 stamp of a verified object v1", &self.key)
    }

    fn check(&self, checked: &[u8], id: &[u8; 16], offset: u64) -> [u8; 16] {
        let mut message = [0; CHECKED + 24];
        let (head, tail) = message.split_at_mut(CHECKED);
        head[..checked.len()].copy_from_slice(checked);
        tail[..16].copy_from_slice(id);
        tail[16..].copy_from_slice(&offset.to_le_bytes());
        let hash = blake3::keyed_hash(&self.key, &message);
        array(hash.as_bytes(), 0)
    }
}

/// The length of a record on disk: envelope, payload if it follows, padding. `None` on overflow.
pub(super) fn record_len(kind: Kind, length: u64) -> Option<u64> {
    let payload = if kind.carries_payload() { length } else { 0 };
    payload
        .checked_add(SIZE as u64)?
        .checked_next_multiple_of(ALIGN)
}

/// By how many bytes a record of `record` bytes at `offset` made its pack longer: with the first one
/// comes the header.
pub(super) fn growth(offset: u64, record: u64) -> u64 {
    let header = PACK_HEADER as u64;
    record.saturating_add(if offset == header { header } else { 0 })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl Envelope {
    /// The lag of an entry that was put at `put_at` and is bound with `generation`, both in
    /// nanoseconds since 1970: whole seconds, and no more than there is room for.
    pub(super) fn lag_of(generation: u64, put_at: u64) -> u32 {
        let seconds = generation.saturating_sub(put_at) / 1_000_000_000;
        u32::try_from(seconds.min(LONGEST_LAG)).unwrap_or(u32::MAX)
    }

    /// When the entry was put, in nanoseconds since 1970: before the generation if it waited in a
    /// tier above, came from another store, or the clock was behind the generations.
    pub(super) fn put_at(&self) -> u64 {
        self.generation
            .saturating_sub(u64::from(self.lag).saturating_mul(1_000_000_000))
    }

    /// The bytes to write at `offset` of the pack `id`; pending.
    pub(super) fn encode(&self, key: &CheckKey, id: &[u8; 16], offset: u64) -> [u8; SIZE] {
        let cost = u64::try_from(self.build_cost.as_nanos()).unwrap_or(u64::MAX);
        let mut out = [0; SIZE];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..6].copy_from_slice(&FORMAT.to_le_bytes());
        out[6] = self.kind.byte();
        out[8..16].copy_from_slice(&self.generation.to_le_bytes());
        out[16..48].copy_from_slice(self.key.as_bytes());
        out[48..80].copy_from_slice(self.digest.as_bytes());
        let length = self.length & LONGEST | u64::from(self.lag) << LENGTH_BITS;
        out[80..88].copy_from_slice(&length.to_le_bytes());
        out[88..96].copy_from_slice(&self.namespace.as_u64().to_le_bytes());
        out[96..104].copy_from_slice(&cost.to_le_bytes());
        let check = key.check(&out[..CHECKED], id, offset);
        out[CHECKED..CHECKED + 16].copy_from_slice(&check);
        out[120..128].copy_from_slice(&PENDING);
        out
    }

    /// The envelope in `bytes`, read at `offset` of the pack `id`, and whether it lives.
    /// `None` unless it was written there.
    pub(super) fn decode(
        bytes: &[u8; SIZE],
        key: &CheckKey,
        id: &[u8; 16],
        offset: u64,
    ) -> Option<(Self, LifeWord)> {
        let parsed = Self::parse(bytes, offset)?;
        let valid = bytes[CHECKED..CHECKED + 16] == key.check(&bytes[..CHECKED], id, offset);
        valid.then_some(parsed)
    }

    /// What the bytes at `offset` say, whether or not they were written there: a hint at what is in
    /// the pack of a key that is not ours, never an answer.
    pub(super) fn parse(bytes: &[u8; SIZE], offset: u64) -> Option<(Self, LifeWord)> {
        if bytes[0..4] != MAGIC || bytes[4..6] != FORMAT.to_le_bytes() || bytes[7] != 0 {
            return None;
        }
        let kind = Kind::from_byte(bytes[6])?;
        let word = |at| u64::from_le_bytes(array(bytes, at));
        let envelope = Self {
            kind,
            generation: word(8),
            key: Fingerprint::from_bytes(array(bytes, 16)),
            digest: Digest::from_bytes(array(bytes, 48)),
            length: word(80) & LONGEST,
            lag: u32::try_from(word(80) >> LENGTH_BITS).unwrap_or(u32::MAX),
            namespace: NamespaceId::from_u64(word(88)),
            build_cost: Duration::from_nanos(word(96)),
        };
        let end = offset.checked_add(record_len(kind, envelope.length)?)?;
        let fits = !kind.carries_payload() || end <= MAX_PACK;
        fits.then_some((envelope, LifeWord::of(&bytes[120..128])))
    }
}

/// Puts the check into 128 bytes, as whoever has the key can.
#[cfg(any(test, fuzzing))]
pub(super) fn seal(bytes: &mut [u8; SIZE], key: &CheckKey, id: &[u8; 16], offset: u64) {
    let check = key.check(&bytes[..CHECKED], id, offset);
    bytes[CHECKED..CHECKED + 16].copy_from_slice(&check);
}

/// Whether an envelope may start with these bytes: the cheap test of a scan.
pub(super) fn may_start(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The header of a pack for envelopes under the key `key`.
///
/// The header itself is checked with the key that everybody has, so that a pack is known as one,
/// and as whose, by processes that cannot read what is in it.
pub(super) fn encode_pack_header(key: KeyId, id: &[u8; 16]) -> [u8; PACK_HEADER] {
    let mut out = [0; PACK_HEADER];
    out[0..8].copy_from_slice(&PACK_MAGIC);
    out[8..10].copy_from_slice(&FORMAT.to_le_bytes());
    out[16..32].copy_from_slice(id);
    out[32..48].copy_from_slice(&key.0);
    let check = CheckKey::public().check(&out[..48], id, 0);
    out[48..64].copy_from_slice(&check);
    out
}

/// The id of the pack called `number`, and under which key its envelopes are; `None` for anything
/// but such a pack.
pub(super) fn decode_pack_header(
    bytes: &[u8; PACK_HEADER],
    number: PackNumber,
) -> Option<([u8; 16], KeyId)> {
    let id: [u8; 16] = array(bytes, 16);
    let valid = bytes[0..8] == PACK_MAGIC
        && bytes[8..10] == FORMAT.to_le_bytes()
        && PackNumber::of(&id) == number
        && bytes[48..64] == CheckKey::public().check(&bytes[..48], &id, 0);
    valid.then_some((id, KeyId(array(bytes, 32))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Envelope {
        Envelope {
            kind: Kind::Inline,
            generation: 7,
            key: Fingerprint::from_bytes([1; 32]),
            digest: Digest::of(b"x"),
            length: 1,
            lag: 3,
            namespace: NamespaceId::of("n"),
            build_cost: Duration::from_nanos(99),
        }
    }

    #[test]
    fn the_public_key_is_the_one_that_its_context_gives() {
        let derived = blake3::derive_key("keepwarm 2026-11 envelope check v1", b"");
        assert_eq!(CheckKey::public().key, derived);
    }

    #[test]
    fn an_envelope_is_read_back_only_where_it_was_written() {
        let (key, id) = (CheckKey::public(), [9; 16]);
        let mut bytes = sample().encode(&key, &id, 64);
        assert_eq!(
            Envelope::decode(&bytes, &key, &id, 64),
            Some((sample(), LifeWord::None))
        );
        for (word, life) in [
            (LIVE, LifeWord::Live),
            (DEAD, LifeWord::Dead),
            (GONE, LifeWord::Gone),
            (PENDING, LifeWord::None),
        ] {
            bytes[120..].copy_from_slice(&word);
            assert_eq!(
                Envelope::decode(&bytes, &key, &id, 64),
                Some((sample(), life))
            );
        }
        assert_eq!(Envelope::decode(&bytes, &key, &id, 128), None);
        assert_eq!(Envelope::decode(&bytes, &key, &[8; 16], 64), None);
    }

    /// As a hole in the file, behind a record that was cut short, or a lost sector would make it.
    #[test]
    fn a_life_word_of_zeros_is_none_that_lives() {
        let (key, id) = (CheckKey::public(), [9; 16]);
        let mut bytes = sample().encode(&key, &id, 64);
        bytes[120..].fill(0);
        let found = Envelope::decode(&bytes, &key, &id, 64);
        assert_eq!(found, Some((sample(), LifeWord::None)));
    }

    #[test]
    #[cfg_attr(miri, ignore = "a thousand hashes: hours")]
    fn every_flipped_bit_is_refused_or_ends_the_binding() {
        let (key, id) = (CheckKey::public(), [9; 16]);
        let mut bytes = sample().encode(&key, &id, 64);
        bytes[120..].copy_from_slice(&LIVE);
        for bit in 0..SIZE * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            match Envelope::decode(&damaged, &key, &id, 64) {
                None => assert!(bit / 8 < 120, "bit {bit}"),
                Some((_, life)) => assert!(life == LifeWord::None && bit / 8 >= 120, "bit {bit}"),
            }
        }
    }

    #[test]
    fn a_length_that_overflows_is_refused() {
        let (key, id) = (CheckKey::public(), [9; 16]);
        for length in [LONGEST, LONGEST - 127, MAX_PACK] {
            let bytes = Envelope { length, ..sample() }.encode(&key, &id, 64);
            assert_eq!(Envelope::decode(&bytes, &key, &id, 64), None);
        }
    }

    #[test]
    fn the_time_of_a_put_is_kept_to_the_second_and_never_later_than_the_generation() {
        let second = 1_000_000_000;
        for (generation, put_at, kept) in [
            (100 * second, 100 * second, 100 * second),
            (100 * second + 7, 99 * second, 99 * second + 7),
            (100 * second, 200 * second, 100 * second),
            (u64::MAX, 0, u64::MAX - LONGEST_LAG * second),
            (5, u64::MAX, 5),
        ] {
            let lag = Envelope::lag_of(generation, put_at);
            let envelope = Envelope {
                generation,
                lag,
                kind: Kind::Object,
                length: LONGEST,
                ..sample()
            };
            assert_eq!(envelope.put_at(), kept);
            let (key, id) = (CheckKey::public(), [9; 16]);
            let bytes = envelope.encode(&key, &id, 64);
            let decoded = Envelope::decode(&bytes, &key, &id, 64);
            assert_eq!(decoded, Some((envelope, LifeWord::None)));
        }
    }

    #[test]
    fn a_pack_header_belongs_to_its_name() {
        let key = CheckKey::from_secret(b"secret").id();
        let id = [0x12; 16];
        let bytes = encode_pack_header(key, &id);
        let number = PackNumber::of(&id);
        assert_eq!(decode_pack_header(&bytes, number), Some((id, key)));
        let other = PackNumber(number.0 ^ 1);
        assert_eq!(decode_pack_header(&bytes, other), None);
        assert_eq!(PackNumber::parse(number.file_name().as_ref()), Some(number));
        let no_place_names_it = PackNumber(1 << PackNumber::BITS).file_name();
        assert_eq!(PackNumber::parse(no_place_names_it.as_ref()), None);
        for bit in (0..10 * 8).chain(16 * 8..PACK_HEADER * 8) {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_pack_header(&damaged, number), None, "bit {bit}");
        }
    }

    #[test]
    fn an_envelope_under_one_secret_is_none_under_another() {
        let keys = [
            CheckKey::public(),
            CheckKey::from_secret(b"a"),
            CheckKey::from_secret(b"b"),
        ];
        for (i, writer) in keys.iter().enumerate() {
            let bytes = sample().encode(writer, &[9; 16], 64);
            for (j, reader) in keys.iter().enumerate() {
                let found = Envelope::decode(&bytes, reader, &[9; 16], 64);
                assert_eq!(found.is_some(), i == j);
                assert_eq!(writer.id() == reader.id(), i == j);
            }
            assert_eq!(format!("{writer:?}"), "CheckKey(..)");
        }
    }
}
