//! Archives made by hand, as no `keepwarm export` makes them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses what it needs, and fails by panicking"
)]

use keepwarm::{Digest, Fingerprint, NamespaceId};
use serde_json::json;
use std::io::{Read as _, Write as _};
use tar::{EntryType, Header};

/// A member: its name, what kind of file it says it is, its bytes, and how many it claims to have.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: Vec<u8>,
    pub kind: EntryType,
    pub bytes: Vec<u8>,
    pub size: u64,
}

/// A regular file.
pub fn member(name: &str, bytes: &[u8]) -> Member {
    Member {
        name: name.into(),
        kind: EntryType::Regular,
        bytes: bytes.to_vec(),
        size: bytes.len() as u64,
    }
}

pub fn head() -> Member {
    head_of(1)
}

pub fn head_of(version: u64) -> Member {
    let bytes = json!({ "format": "keepwarm-archive", "version": version }).to_string();
    member("keepwarm-archive.json", bytes.as_bytes())
}

pub fn content(bytes: &[u8]) -> Member {
    member(&format!("content/{}", Digest::of(bytes)), bytes)
}

/// An entry outside every namespace, put and used at `put_at`, in seconds since 1970.
pub fn entry(key: &Fingerprint, bytes: &[u8], put_at: u64) -> Member {
    entry_of(key, &Digest::of(bytes), bytes.len() as u64, put_at)
}

pub fn entry_of(key: &Fingerprint, digest: &Digest, length: u64, put_at: u64) -> Member {
    let record = Record {
        length,
        put_at,
        ..Record::new(key, digest)
    };
    member(&format!("entry/{key}.json"), &record.encode())
}

pub fn end(contents: u64, entries: u64) -> Member {
    let bytes = json!({ "contents": contents, "entries": entries }).to_string();
    member("end.json", bytes.as_bytes())
}

/// What an entry says, with a check that is right.
pub struct Record {
    pub key: Fingerprint,
    pub digest: Digest,
    pub length: u64,
    pub namespace: NamespaceId,
    pub name: Option<String>,
    pub put_at: u64,
    pub last_used: Option<u64>,
}

impl Record {
    pub fn new(key: &Fingerprint, digest: &Digest) -> Self {
        Self {
            key: *key,
            digest: *digest,
            length: 0,
            namespace: NamespaceId::NONE,
            name: None,
            put_at: 1_700_000_000,
            last_used: None,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut check = Fingerprint::builder("keepwarm archive entry")
            .field("key", self.key.as_bytes())
            .field("content", self.digest.as_bytes())
            .field("length", self.length.to_le_bytes())
            .field("namespace", self.namespace.as_u64().to_le_bytes())
            .field("build", 0_u64.to_le_bytes())
            .field("put", self.put_at.to_le_bytes());
        if let Some(at) = self.last_used {
            check = check.field("used", at.to_le_bytes());
        }
        if let Some(name) = &self.name {
            check = check.field("name", name);
        }
        let value = json!({
            "key": self.key.to_string(),
            "content": self.digest.to_string(),
            "length": self.length,
            "namespace": self.name,
            "namespace_id": format!("{:016x}", self.namespace.as_u64()),
            "build_nanos": 0,
            "put_at": self.put_at,
            "last_used": self.last_used,
            "check": check.finish().to_string(),
        });
        value.to_string().into_bytes()
    }
}

/// The members as a tar file, with the blocks of zeros that end one.
pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut tar = Vec::new();
    for member in members {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..member.name.len()].copy_from_slice(&member.name);
        header.set_entry_type(member.kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(member.size);
        header.set_cksum();
        tar.extend(header.as_bytes());
        tar.extend(&member.bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// The same, compressed.
pub fn archive(members: &[Member]) -> Vec<u8> {
    compress(&tar(members))
}

pub fn compress(tar: &[u8]) -> Vec<u8> {
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(tar).unwrap();
    zstd.finish().unwrap()
}

pub fn decompress(archive: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    let mut zstd = zstd::Decoder::new(archive).unwrap();
    zstd.read_to_end(&mut tar).unwrap();
    tar
}

/// The names of the members of an archive, and their bytes.
pub fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tar = decompress(archive);
    let mut archive = tar::Archive::new(&tar[..]);
    let members = archive.entries().unwrap().map(|member| {
        let mut member = member.unwrap();
        let name = String::from_utf8(member.path_bytes().into_owned()).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    members.collect()
}
