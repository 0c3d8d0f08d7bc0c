//! Writing an archive.

use super::{FORMAT, Head, Name, Record, Totals, VERSION};
use keepwarm::Digest;
use serde::Serialize;
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

/// How hard it is compressed: what costs little time. Part of what makes equal bytes equal.
const LEVEL: i32 = 3;

/// An archive being written to `W`, member by member.
pub(crate) struct Writer<W: Write> {
    tar: Builder<Encoder<'static, W>>,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub(crate) fn new(to: W) -> io::Result<Self> {
        let mut zstd = Encoder::new(to, LEVEL)?;
        zstd.include_checksum(true)?;
        let mut writer = Self {
            tar: Builder::new(zstd),
            totals: Totals::default(),
        };
        let head = Head {
            format: FORMAT.to_owned(),
            version: VERSION,
        };
        writer.json(&Name::Head, &head)?;
        Ok(writer)
    }

    /// Adds the bytes of an artifact; the entries that have them follow.
    pub(crate) fn content(&mut self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        self.totals.contents += 1;
        self.member(&Name::Content(digest), bytes)
    }

    /// Adds an entry of the content that came last.
    pub(crate) fn entry(&mut self, record: &Record) -> io::Result<()> {
        self.totals.entries += 1;
        self.member(&Name::Entry(record.key), &record.encode()?)
    }

    /// Ends it, and gives back what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let totals = self.totals;
        self.json(&Name::End, &totals)?;
        let mut to = self.tar.into_inner()?.finish()?;
        to.flush()?;
        Ok(to)
    }

    fn json(&mut self, name: &Name, value: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(value)?;
        bytes.push(b'\n');
        self.member(name, &bytes)
    }

    fn member(&mut self, name: &Name, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_path(name.text())?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.tar.append(&header, bytes)
    }
}
