//! What an archive says of an entry.

use keepwarm::{Digest, EntryInfo, Fingerprint, NamespaceId};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Names of namespaces are kept up to this length; of longer ones the directory has only a part.
const LONGEST_NAME: usize = 4096;

/// An entry: what is kept of it beside the bytes of its artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Fingerprint,
    pub(crate) digest: Digest,
    pub(crate) length: u64,
    pub(crate) namespace: NamespaceId,
    /// Where it is known; its id is `namespace`.
    pub(crate) name: Option<String>,
    pub(crate) build_cost: Duration,
    /// In whole seconds, as it is kept.
    pub(crate) put_at: SystemTime,
    pub(crate) last_used: Option<SystemTime>,
}

/// The same as it is written; what is added later must be optional.
#[derive(Debug, Deserialize, Serialize)]
struct Written {
    key: String,
    content: String,
    length: u64,
    namespace: Option<String>,
    namespace_id: String,
    build_nanos: u64,
    /// Seconds since 1970.
    put_at: u64,
    /// Nanoseconds since 1970.
    last_used: Option<u64>,
    /// Over all of it: a flipped bit must not bind an artifact to another key.
    check: String,
}

impl Record {
    /// Of an entry in a directory.
    pub(crate) fn new(info: &EntryInfo, name: Option<String>) -> Self {
        // A name that was cut is not the one that the id stands for.
        let name = name.filter(|name| NamespaceId::of(name) == info.namespace);
        Self {
            key: info.key,
            digest: info.digest,
            length: info.length,
            namespace: info.namespace,
            name,
            build_cost: info.build_cost,
            put_at: UNIX_EPOCH + Duration::from_secs(since_1970(info.put_at).as_secs()),
            last_used: Some(info.last_used),
        }
    }

    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        let written = Written {
            key: self.key.to_string(),
            content: self.digest.to_string(),
            length: self.length,
            namespace: self.name.clone(),
            namespace_id: format!("{:016x}", self.namespace.as_u64()),
            build_nanos: nanos(self.build_cost),
            put_at: since_1970(self.put_at).as_secs(),
            last_used: self.last_used.map(|at| nanos(since_1970(at))),
            check: self.check().to_string(),
        };
        let mut bytes = serde_json::to_vec_pretty(&written)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// `None` for what no [`encode`](Self::encode) can have written.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(bytes).ok()?;
        let id = &written.namespace_id;
        let is_hex = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let id = u64::from_str_radix(id, 16).ok().filter(|_| is_hex)?;
        let at = |since: Duration| UNIX_EPOCH.checked_add(since);
        let last_used = match written.last_used {
            Some(nanos) => Some(at(Duration::from_nanos(nanos))?),
            None => None,
        };
        let record = Self {
            key: written.key.parse().ok()?,
            digest: written.content.parse().ok()?,
            length: written.length,
            namespace: NamespaceId::from_u64(id),
            name: written.namespace,
            build_cost: Duration::from_nanos(written.build_nanos),
            put_at: at(Duration::from_secs(written.put_at))?,
            last_used,
        };
        let is_named_so =
            |name: &String| name.len() <= LONGEST_NAME && NamespaceId::of(name) == record.namespace;
        let is_sound = record.name.as_ref().is_none_or(is_named_so)
            && written.check == record.check().to_string();
        is_sound.then_some(record)
    }

    fn check(&self) -> Fingerprint {
        let number = u64::to_le_bytes;
        let mut check = Fingerprint::builder("keepwarm archive entry")
            .field("key", self.key.as_bytes())
            .field("content", self.digest.as_bytes())
            .field("length", number(self.length))
            .field("namespace", number(self.namespace.as_u64()))
            .field("build", number(nanos(self.build_cost)))
            .field("put", number(since_1970(self.put_at).as_secs()));
        if let Some(at) = self.last_used {
            check = check.field("used", number(nanos(since_1970(at))));
        }
        if let Some(name) = &self.name {
            check = check.field("name", name);
        }
        check.finish()
    }
}

fn since_1970(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn nanos(time: Duration) -> u64 {
    crate::units::nanos(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            key: Fingerprint::from_bytes([1; 32]),
            digest: Digest::of(b"x"),
            length: 1,
            namespace: NamespaceId::of("driver"),
            name: Some("driver".to_owned()),
            build_cost: Duration::from_nanos(12_345),
            put_at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            last_used: Some(UNIX_EPOCH + Duration::new(1_700_000_001, 5)),
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let whole = record();
        let mut bare = record();
        (bare.name, bare.last_used) = (None, None);
        for record in [whole, bare] {
            assert_eq!(Record::decode(&record.encode().unwrap()), Some(record));
        }
    }

    #[test]
    fn no_changed_byte_makes_another_record() {
        let bytes = record().encode().unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                // White space and the case of digits say the same.
                let read = Record::decode(&changed);
                assert!(read.is_none_or(|read| read == record()), "{at}, {bit}");
            }
        }
    }

    #[test]
    fn a_name_that_is_not_that_of_its_id_is_refused() {
        let mut wrong = record();
        wrong.name = Some("other".to_owned());
        assert_eq!(Record::decode(&wrong.encode().unwrap()), None);
        let mut long = record();
        long.name = Some("n".repeat(LONGEST_NAME + 1));
        long.namespace = NamespaceId::of(&"n".repeat(LONGEST_NAME + 1));
        assert_eq!(Record::decode(&long.encode().unwrap()), None);
        for nonsense in [&b""[..], b"{}", b"null", b"[1]", b"\xff"] {
            assert_eq!(Record::decode(nonsense), None);
        }
    }
}
