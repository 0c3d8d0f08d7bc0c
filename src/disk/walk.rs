//! Walking through a pack, record by record.

use super::envelope::{self, ALIGN, CheckKey, Envelope, MAX_PACK, PACK_HEADER, SIZE};
use super::pack::Pack;
use std::io;

/// A record of a pack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) offset: u64,
    pub(super) envelope: Envelope,
    pub(super) live: bool,
    /// Where the next one may begin.
    pub(super) next: u64,
}

/// How an envelope is read: believed, or as a hint.
type Read<'a> = &'a dyn Fn(u64) -> io::Result<Option<(Envelope, bool)>>;

impl Pack {
    /// Every valid envelope with its offset and whether it is live, resynchronising after torn ones;
    /// none in a pack under another key.
    pub(super) fn walk(
        &self,
        check: &CheckKey,
        each: impl FnMut(u64, Envelope, bool),
    ) -> io::Result<()> {
        self.walk_by(&|offset| self.envelope(check, offset), each)
    }

    /// The same of a pack under another key: every [hint](Self::hint).
    pub(super) fn walk_hints(&self, each: impl FnMut(u64, Envelope, bool)) -> io::Result<()> {
        self.walk_by(&|offset| self.hint(offset), each)
    }

    fn walk_by(&self, read: Read<'_>, mut each: impl FnMut(u64, Envelope, bool)) -> io::Result<()> {
        let (mut from, len) = (0, self.len()?);
        while let Some(record) = self.next_by(read, from, len)? {
            each(record.offset, record.envelope, record.live);
            from = record.next;
        }
        Ok(())
    }

    /// The first record at or after `from` in the first `len` bytes; as [`walk`](Self::walk) finds it.
    pub(super) fn next_record(
        &self,
        check: &CheckKey,
        from: u64,
        len: u64,
    ) -> io::Result<Option<Record>> {
        self.next_by(&|offset| self.envelope(check, offset), from, len)
    }

    fn next_by(&self, read: Read<'_>, from: u64, len: u64) -> io::Result<Option<Record>> {
        let len = len.min(MAX_PACK);
        let mut offset = from.max(PACK_HEADER as u64);
        while offset + SIZE as u64 <= len {
            let found = if self.may_start(offset)? {
                read(offset)?
            } else {
                None
            };
            let Some((envelope, live)) = found else {
                offset += ALIGN;
                continue;
            };
            let next =
                offset + envelope::record_len(envelope.kind, envelope.length).unwrap_or(ALIGN);
            // The padding of the last record may be missing, its payload may not.
            let payload = if envelope.kind.carries_payload() {
                envelope.length
            } else {
                0
            };
            if offset + SIZE as u64 + payload <= len {
                return Ok(Some(Record {
                    offset,
                    envelope,
                    live,
                    next,
                }));
            }
            offset = next;
        }
        Ok(None)
    }
}
