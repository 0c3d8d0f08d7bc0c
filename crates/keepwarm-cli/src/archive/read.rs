//! Reading an archive that anybody may have made.

use super::limits::{Count, Counted, read_exactly};
use super::{FORMAT, Head, Name, Record, Totals, VERSION};
use crate::failure::Failure;
use crate::units;
use keepwarm::{Artifact, Digest};
use std::io::{self, Read};
use tar::{Archive, Entry, EntryType};
use zstd::stream::read::Decoder;

/// How far back the compressed bytes may refer, as a power of two: 8 MiB of memory. What is written
/// needs 2 MiB.
const WINDOW_LOG: u32 = 23;
/// A member that is no content has no more bytes than this.
const LONGEST: u64 = 64 << 10;
/// Every sound member but the first and the last brings a hash that was not there before, which no
/// compression makes smaller than its 32 bytes. So many members may come in fewer bytes each.
const FREE_MEMBERS: u64 = 1 << 16;
const MEMBER_COST: u64 = 16;
/// A tar file may be filled up with so many zeros.
const PADDING: u64 = 1 << 20;

/// Where what was found in an archive goes.
pub(crate) trait Sink {
    /// A record whose content was verified.
    fn entry(&mut self, record: Record, content: &Artifact) -> Result<(), Failure>;
    /// Something was found damaged and is passed over; `what` is a member, `why` a sentence.
    fn damaged(&mut self, what: String, why: &'static str);
}

/// Why reading ended before the end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It is none of ours; nothing was read from it.
    NoArchive(String),
    /// It is of a later version; nothing was read from it.
    Version(u64),
    /// It breaks off, or cannot be decoded any further.
    Damaged(String),
    /// It has something that no archive has.
    Refused(String),
    /// Its contents together have more bytes than allowed.
    TooLarge,
    /// What takes the entries failed.
    Sink(Failure),
}

/// The content that the next entries have.
enum Content {
    None,
    Sound(Digest, Artifact),
    Damaged,
}

struct Reading<'a, S> {
    sink: &'a mut S,
    /// Bytes of contents that may still come.
    left: u64,
    compressed: Count,
    members: u64,
    totals: Totals,
    content: Content,
    has_end: bool,
}

/// Reads an archive whose contents have no more than `most` bytes together, and tells `progress`
/// how many bytes of it were read.
pub(crate) fn read(
    from: impl Read,
    most: u64,
    progress: impl FnMut(u64),
    sink: &mut impl Sink,
) -> Result<(), Broken> {
    let (counted, compressed) = Counted::new(from, progress);
    let no_archive = |e: io::Error| Broken::NoArchive(e.to_string());
    let mut decoder = Decoder::new(counted).map_err(no_archive)?;
    decoder.window_log_max(WINDOW_LOG).map_err(no_archive)?;
    let mut reading = Reading {
        sink,
        left: most,
        compressed,
        members: 0,
        totals: Totals::default(),
        content: Content::None,
        has_end: false,
    };
    let mut archive = Archive::new(decoder);
    // Raw: no member changes the name, the size or the kind of another.
    let members = archive.entries().map_err(no_archive)?.raw(true);
    for member in members {
        let begun = reading.members > 0;
        let mut member = member.map_err(|e| {
            if begun {
                Broken::Damaged(e.to_string())
            } else {
                no_archive(e)
            }
        })?;
        reading.member(&mut member)?;
    }
    if !reading.has_end {
        return Err(match reading.members {
            0 => Broken::NoArchive("it is empty".to_owned()),
            _ => Broken::Damaged("it ends too early".to_owned()),
        });
    }
    only_zeros_follow(archive.into_inner())
}

/// Reads to the very end, where the checksum of all that came stands.
fn only_zeros_follow(from: impl Read) -> Result<(), Broken> {
    let damaged = |e: io::Error| Broken::Damaged(e.to_string());
    let mut rest = Vec::new();
    let read = from.take(PADDING + 1).read_to_end(&mut rest);
    let n = read.map_err(damaged)? as u64;
    if n > PADDING || rest.iter().any(|b| *b != 0) {
        return Err(Broken::Refused("something follows its end".to_owned()));
    }
    Ok(())
}

impl<S: Sink> Reading<'_, S> {
    fn member(&mut self, member: &mut Entry<'_, impl Read>) -> Result<(), Broken> {
        let shown = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let shown = units::printable(&shown);
        let refused = |why: &str| Broken::Refused(format!("{shown} {why}"));
        let name = Name::parse(&member.path_bytes());
        let is_file = member.header().entry_type() == EntryType::Regular;
        if self.members == 0 {
            return match name {
                Some(Name::Head) if is_file => self.head(member),
                _ => Err(Broken::NoArchive(format!("it begins with {shown}"))),
            };
        }
        if !is_file {
            return Err(refused("is no regular file"));
        }
        if self.has_end {
            return Err(refused("follows its end"));
        }
        self.members += 1;
        let paid_for = self.compressed.get() / MEMBER_COST;
        if self.members > paid_for.saturating_add(FREE_MEMBERS) {
            let what = "it has far more members than bytes that could tell them apart";
            return Err(Broken::Refused(what.to_owned()));
        }
        match name {
            None => Err(refused("is nothing that such an archive has")),
            Some(Name::Head) => Err(refused("is there twice")),
            Some(Name::Content(digest)) => self.content(digest, member),
            Some(Name::Entry(key)) => {
                self.totals.entries += 1;
                let record = Record::decode(&small(member)?);
                // The name is another place where the key stands.
                self.entry(record.filter(|record| record.key == key), shown)
            }
            Some(Name::End) => self.end(member, shown),
        }
    }

    fn head(&mut self, member: &mut Entry<'_, impl Read>) -> Result<(), Broken> {
        self.members = 1;
        let head: Result<Head, _> = serde_json::from_slice(&small(member)?);
        let head = head.map_err(|e| Broken::NoArchive(e.to_string()))?;
        if head.format != FORMAT {
            let what = format!("it calls itself {}", units::printable(&head.format));
            return Err(Broken::NoArchive(what));
        }
        if head.version != VERSION {
            return Err(Broken::Version(head.version));
        }
        Ok(())
    }

    fn content(&mut self, digest: Digest, member: &mut Entry<'_, impl Read>) -> Result<(), Broken> {
        self.totals.contents += 1;
        // Before the next one comes: one at a time is held.
        self.content = Content::None;
        let left = self.left.checked_sub(member.size());
        self.left = left.ok_or(Broken::TooLarge)?;
        let artifact = Artifact::from(bytes(member)?);
        self.content = if artifact.digest() == digest {
            Content::Sound(digest, artifact)
        } else {
            let why = "its bytes are not those that it is named by";
            self.sink.damaged(Name::Content(digest).text(), why);
            Content::Damaged
        };
        Ok(())
    }

    fn entry(&mut self, record: Option<Record>, shown: String) -> Result<(), Broken> {
        let Some(record) = record else {
            self.sink.damaged(shown, "it is not what was written");
            return Ok(());
        };
        match &self.content {
            Content::Sound(digest, content)
                if *digest == record.digest && content.len() as u64 == record.length =>
            {
                self.sink.entry(record, content).map_err(Broken::Sink)
            }
            Content::Damaged => {
                self.sink.damaged(shown, "its content is damaged");
                Ok(())
            }
            Content::None | Content::Sound(..) => {
                self.sink.damaged(shown, "its content is not before it");
                Ok(())
            }
        }
    }

    fn end(&mut self, member: &mut Entry<'_, impl Read>, shown: String) -> Result<(), Broken> {
        self.has_end = true;
        self.content = Content::None;
        let totals: Option<Totals> = serde_json::from_slice(&small(member)?).ok();
        if totals != Some(self.totals) {
            self.sink
                .damaged(shown, "it tells of other numbers than there are");
        }
        Ok(())
    }
}

/// The bytes of a member that is no content.
fn small(member: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, Broken> {
    if member.size() > LONGEST {
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let name = units::printable(&name);
        return Err(Broken::Refused(format!("{name} is too long")));
    }
    bytes(member)
}

fn bytes(member: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, Broken> {
    let size = member.size();
    read_exactly(member, size).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Broken::Damaged("it ends too early".to_owned()),
        _ => Broken::Damaged(e.to_string()),
    })
}
