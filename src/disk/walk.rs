//! Walking through a pack, record by record.

use super::envelope::{self, ALIGN, CheckKey, Envelope, LifeWord, MAX_PACK, PACK_HEADER, SIZE};
use super::pack::Pack;
use std::io;

/// A place where a record may start, in bytes.
const ALIGN_BYTES: usize = 64;
/// So much of a pack is looked through at a time.
const CHUNK: usize = 4096;

/// A record of a pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) envelope: Envelope,
    pub(super) life: LifeWord,
    /// Where the next one may begin.
    pub(super) next: u64,
}

/// How an envelope is read: believed, or as a hint.
type Read<'a> = &'a dyn Fn(u64) -> io::Result<Option<(Envelope, LifeWord)>>;

impl Pack {
    /// Every valid envelope with its offset and whether it lives, resynchronising after torn ones;
    /// none in a pack under another key.
    pub(super) fn walk(
        &self,
        check: &CheckKey,
        each: impl FnMut(u64, Envelope, LifeWord),
    ) -> io::Result<()> {
        self.walk_by(
            (&|offset| self.envelope_and_life(check, offset), false),
            each,
        )
    }

    /// The same of a pack under another key: every [hint](Self::hint), but for those in a payload that is
    /// whole: nobody could tell them from a record there. What is not whole may be what an append left
    /// that was torn, and others were appended where its payload would have been; of what is found there
    /// only what seems to live counts, for it may be a payload's after all, and ends nothing.
    pub(super) fn walk_hints(&self, each: impl FnMut(u64, Envelope, LifeWord)) -> io::Result<()> {
        self.walk_by((&|offset| self.hint_and_life(offset), true), each)
    }

    /// Every record, believed in a pack under the key, as a hint in another one.
    pub(super) fn walk_or_hints(
        &self,
        check: &CheckKey,
        each: impl FnMut(u64, Envelope, LifeWord),
    ) -> io::Result<()> {
        if self.key_id == check.id() {
            self.walk(check, each)
        } else {
            self.walk_hints(each)
        }
    }

    fn walk_by(
        &self,
        (read, skips): (Read<'_>, bool),
        mut each: impl FnMut(u64, Envelope, LifeWord),
    ) -> io::Result<()> {
        let (mut from, len) = (0, self.len()?);
        // Who made records up to contain one another must not have all of them hashed.
        let mut to_hash = len.saturating_mul(4);
        let mut doubtful = 0;
        while let Some(record) = self.next_by(read, from, len)? {
            let Record { envelope, .. } = record;
            if record.offset >= doubtful || record.life == LifeWord::Live {
                each(record.offset, envelope, record.life);
            }
            from = record.next;
            if skips && envelope.kind.carries_payload() {
                let (length, digest) = (envelope.length, &envelope.digest);
                let whole = envelope::record_len(envelope.kind, length).unwrap_or(ALIGN);
                let end = record.offset.saturating_add(whole);
                if length <= to_hash && self.is_whole(record.offset, length, digest)? {
                    from = end;
                } else {
                    doubtful = end.max(doubtful);
                }
                to_hash = to_hash.saturating_sub(length);
            }
        }
        Ok(())
    }

    /// The first record at or after `from` in the first `len` bytes; as [`walk`](Self::walk) finds it.
    ///
    /// Looks at every place where one may be, also behind an envelope that says how long it is: of
    /// an append that was torn the envelope may be whole, and others were appended where its
    /// payload would have been.
    pub(super) fn next_record(
        &self,
        check: &CheckKey,
        from: u64,
        len: u64,
    ) -> io::Result<Option<Record>> {
        self.next_by(&|offset| self.envelope_and_life(check, offset), from, len)
    }

    fn next_by(&self, read: Read<'_>, from: u64, len: u64) -> io::Result<Option<Record>> {
        let len = len.min(MAX_PACK);
        let mut base = from.max(PACK_HEADER as u64);
        let mut chunk = [0; CHUNK];
        while base.saturating_add(SIZE as u64) <= len {
            let part = usize::try_from(len - base).unwrap_or(CHUNK).min(CHUNK);
            self.copy(base, &mut chunk[..part])?;
            for (i, place) in chunk[..part].chunks(ALIGN_BYTES).enumerate() {
                let offset = base + i as u64 * ALIGN;
                if !envelope::may_start(place) {
                    continue;
                }
                let Some((envelope, life)) = read(offset)? else {
                    continue;
                };
                // The padding of the last record may be missing, its payload may not.
                let payload = if envelope.kind.carries_payload() {
                    envelope.length
                } else {
                    0
                };
                let end = (offset + SIZE as u64).saturating_add(payload);
                if end <= len {
                    return Ok(Some(Record {
                        offset,
                        envelope,
                        life,
                        next: offset + ALIGN,
                    }));
                }
            }
            base += CHUNK as u64;
        }
        Ok(None)
    }
}
