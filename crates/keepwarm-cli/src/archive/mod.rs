//! Archives of entries: a tar file, compressed with zstd, which `tar` lists and takes apart.
//!
//! | member | what |
//! |---|---|
//! | `keepwarm-archive.json` | the name and the version of the form; always the first |
//! | `content/<digest>` | the bytes of an artifact, each distinct one once, named by their BLAKE3 |
//! | `entry/<key>.json` | a [`Record`] that binds a key to the content before it; one or several follow each content |
//! | `end.json` | how many there were of both; always the last, so that what was cut off shows |
//!
//! Contents are in the order of their digests, the entries of one in the order of their keys; times,
//! modes and owners of members are always the same. So equal records give equal bytes, from the same
//! version of zstd.
//!
//! Reading trusts nothing ([`read`]): no name in an archive is ever a path, members have to be exactly those
//! above, contents are hashed and records checked before anybody sees them, and what is read and held is bounded.

mod limits;
mod read;
mod record;
mod write;

pub(crate) use read::{Broken, Sink, read};
pub(crate) use record::Record;
pub(crate) use write::Writer;

use keepwarm::{Digest, Fingerprint};
use serde::{Deserialize, Serialize};

/// The version of the form. A reader refuses later ones.
const VERSION: u64 = 1;
/// What the first member calls the form.
const FORMAT: &str = "keepwarm-archive";
const HEAD: &str = "keepwarm-archive.json";
const END: &str = "end.json";
const CONTENT: &str = "content/";
const ENTRY: &str = "entry/";
const JSON: &str = ".json";

/// What the first member says. What is added later must be optional, or raise the version.
#[derive(Debug, Deserialize, Serialize)]
struct Head {
    format: String,
    version: u64,
}

/// What the last member says.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
struct Totals {
    contents: u64,
    entries: u64,
}

/// What a member is called.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Head,
    Content(Digest),
    Entry(Fingerprint),
    End,
}

impl Name {
    /// Exactly the names that [`Writer`] gives, in lower case; nothing else is one.
    fn parse(name: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(name).ok()?;
        let lower = |text: &str| !text.bytes().any(|b| b.is_ascii_uppercase());
        match name {
            HEAD => return Some(Self::Head),
            END => return Some(Self::End),
            _ => {}
        }
        if let Some(digest) = name.strip_prefix(CONTENT).filter(|text| lower(text)) {
            return digest.parse().ok().map(Self::Content);
        }
        let key = name.strip_prefix(ENTRY)?.strip_suffix(JSON)?;
        key.parse().ok().filter(|_| lower(key)).map(Self::Entry)
    }

    fn text(&self) -> String {
        match self {
            Self::Head => HEAD.to_owned(),
            Self::Content(digest) => format!("{CONTENT}{digest}"),
            Self::Entry(key) => format!("{ENTRY}{key}{JSON}"),
            Self::End => END.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use keepwarm::{Artifact, NamespaceId};
    use std::time::{Duration, UNIX_EPOCH};

    /// What was brought out of an archive, which has to be what was put into it.
    struct Checked {
        sound: Vec<(Record, Vec<u8>)>,
        entries: u64,
        damaged: u64,
    }

    impl Sink for Checked {
        fn entry(&mut self, record: Record, content: &Artifact) -> Result<(), Failure> {
            let is_sound = |(r, bytes): &(Record, Vec<u8>)| *r == record && **bytes == **content;
            assert!(self.sound.iter().any(is_sound), "{record:?}");
            self.entries += 1;
            Ok(())
        }

        fn damaged(&mut self, _: String, _: &'static str) {
            self.damaged += 1;
        }
    }

    fn sound() -> Vec<(Record, Vec<u8>)> {
        let record = |n: u8| {
            // Two have the same content; one is what compression can do nothing about.
            let mut bytes = vec![n / 2; usize::from(n) / 2 * 300];
            if n == 7 {
                bytes = (0..3000_u32)
                    .flat_map(|i| (i * i * 77).to_le_bytes())
                    .collect();
            }
            let record = Record {
                key: Fingerprint::from_bytes([n; 32]),
                digest: Digest::of(&bytes),
                length: bytes.len() as u64,
                namespace: NamespaceId::of("driver"),
                name: Some("driver".to_owned()),
                build_cost: Duration::from_nanos(n.into()),
                put_at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
                last_used: (n % 3 > 0).then_some(UNIX_EPOCH + Duration::from_nanos(n.into())),
            };
            (record, bytes)
        };
        (0..8).map(record).collect()
    }

    fn archive(sound: &[(Record, Vec<u8>)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for group in sound.chunk_by(|a, b| a.0.digest == b.0.digest) {
            writer.content(group[0].0.digest, &group[0].1).unwrap();
            for (record, _) in group {
                writer.entry(record).unwrap();
            }
        }
        writer.finish().unwrap()
    }

    fn check(bytes: &[u8], most: u64) -> (Checked, Result<(), Broken>) {
        let mut sink = Checked {
            sound: sound(),
            entries: 0,
            damaged: 0,
        };
        let done = read(bytes, most, |_| {}, &mut sink);
        (sink, done)
    }

    #[test]
    fn what_is_written_is_read() {
        let (sink, done) = check(&archive(&sound()), 1 << 20);
        done.unwrap();
        assert_eq!((sink.entries, sink.damaged), (8, 0));
    }

    #[test]
    fn whatever_is_done_to_the_bytes_nothing_else_is_read() {
        let whole = archive(&sound());
        let tar = zstd::decode_all(&whole[..]).unwrap();
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        let (mut told, mut read) = (0, 0);
        for round in 0..4000 {
            // Every other time below the compression, whose checksum would find everything.
            let mut bytes = if round % 2 == 0 {
                tar.clone()
            } else {
                whole.clone()
            };
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(5) {
                    0 => bytes[at] ^= 1 << random(8),
                    1 => bytes[at] = u8::try_from(random(256)).unwrap(),
                    2 => bytes.truncate(at.max(1)),
                    3 => {
                        // Something moved, or twice there.
                        let from = random(bytes.len());
                        let n = random(2000).min(bytes.len() - at.max(from));
                        bytes.copy_within(from..from + n, at);
                    }
                    _ => {
                        let n = (random(4) * 512).min(bytes.len() - at);
                        bytes.drain(at..at + n);
                    }
                }
                if bytes.is_empty() {
                    break;
                }
            }
            if round % 2 == 0 {
                bytes = zstd::encode_all(&bytes[..], 1).unwrap();
            }
            let (sink, done) = check(&bytes, 1 << 20);
            told += u64::from(done.is_err() || sink.damaged > 0);
            read += sink.entries;
        }
        // Most changes are told of, and much is read all the same.
        assert!(told > 3500 && read > 3000, "{told}, {read}");
    }

    #[test]
    fn no_more_is_read_than_allowed() {
        let sound = sound();
        let groups = sound.chunk_by(|a, b| a.0.digest == b.0.digest);
        let total: u64 = groups.map(|group| group[0].0.length).sum();
        let bytes = archive(&sound);
        check(&bytes, total).1.unwrap();
        let (sink, done) = check(&bytes, total - 1);
        assert!(matches!(done, Err(Broken::TooLarge)), "{done:?}");
        assert!(sink.entries < 8);
    }

    #[test]
    fn a_name_is_read_as_it_is_written_and_nothing_else_is_one() {
        let (digest, key) = (Digest::of(b"x"), Fingerprint::from_bytes([171; 32]));
        for name in [
            Name::Head,
            Name::Content(digest),
            Name::Entry(key),
            Name::End,
        ] {
            assert_eq!(Name::parse(name.text().as_bytes()), Some(name));
        }
        for bad in [
            String::new(),
            "/end.json".to_owned(),
            "./end.json".to_owned(),
            "END.JSON".to_owned(),
            format!("content/../{digest}"),
            format!("/content/{digest}"),
            format!("content/{digest}/"),
            format!("content/{digest}\0"),
            format!("content/{}", &digest.to_string()[1..]),
            format!("content/{}", digest.to_string().to_uppercase()),
            format!("entry/{key}"),
            format!("entry/{key}.json.json"),
            format!("entry/{}.json", key.to_string().to_uppercase()),
            format!("../entry/{key}.json"),
        ] {
            assert_eq!(Name::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Name::parse(b"content/\xff"), None);
    }
}
