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
