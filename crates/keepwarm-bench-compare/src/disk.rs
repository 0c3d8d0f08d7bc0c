//! Stores in a directory, behind one small trait.

mod bound;
mod cacache;
mod files;
mod fjall;
mod foyer;
mod keepwarm;
mod lmdb;
mod redb;
mod sqlite;

use crate::Fault;
use crate::content::Key;
use std::path::Path;

/// What a user would tell a store beforehand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Bytes that will be stored at most; a store with a budget gets several times as much, so
    /// that none evicts.
    pub(crate) bytes: u64,
    /// Of the largest artifact.
    pub(crate) largest: u64,
}

/// A store in a directory, open.
///
/// A put is not durable by itself, for any contender: what it wrote is in the hands of the
/// operating system and survives the process. `flush` makes all of it durable.
pub(crate) trait DiskStore: Send + Sync {
    /// The artifact is the caller's and given away, as a compiler's output is.
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault>;

    /// Gives the artifact to `read` for as long as it runs, without a copy where the store can;
    /// tells whether there is one. A store that verifies does so before.
    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault>;

    /// An artifact that the caller keeps.
    fn load(&self, key: &Key) -> Result<Option<Box<dyn AsRef<[u8]>>>, Fault> {
        let mut kept = None;
        self.get(key, &mut |bytes| kept = Some(bytes.to_vec()))?;
        Ok(kept.map(|bytes| Box::new(bytes) as Box<dyn AsRef<[u8]>>))
    }

    fn remove(&self, key: &Key) -> Result<(), Fault>;

    /// Puts many at once, in whatever way is fastest; never measured.
    fn fill(&self, artifacts: &mut dyn Iterator<Item = (Key, Vec<u8>)>) -> Result<(), Fault> {
        for (key, artifact) in artifacts {
            self.put(&key, artifact)?;
        }
        Ok(())
    }

    /// Returns when nothing that was put is in this process's memory only.
    fn settle(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Returns when what was put survives a power cut; tells whether the store has such a thing.
    fn flush(&self) -> Result<bool, Fault>;

    /// Closes it as its documentation advises, before it is dropped.
    fn close(self: Box<Self>) -> Result<(), Fault> {
        Ok(())
    }
}

type Open = fn(&Path, &Setup) -> Result<Box<dyn DiskStore>, Fault>;

/// A contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Whose directory it can read: the name of the contender that fills the fixture.
    pub(crate) family: &'static str,
    /// Whether all bytes that come from disk are checked against a digest or a checksum that was
    /// made when they were put, so that bytes that rotted are never served.
    pub(crate) verifies: bool,
    /// Whether several processes may use a directory at once.
    pub(crate) shared: bool,
    pub(crate) role: Role,
    pub(crate) open: Open,
}

/// What a contender is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Keepwarm,
    /// What a user would pick instead.
    Peer,
    /// What nobody would use as a cache, but what tells what the machine can do.
    Bound,
}

const fn peer(name: &'static str, about: &'static str, open: Open) -> Contender {
    let role = Role::Peer;
    Contender {
        name,
        about,
        family: name,
        verifies: false,
        shared: false,
        role,
        open,
    }
}

/// All of them, keepwarm first and the bounds last.
pub(crate) const CONTENDERS: &[Contender] = &[
    Contender {
        verifies: true,
        shared: true,
        role: Role::Keepwarm,
        ..peer(
            "keepwarm-disk",
            "keepwarm's DiskStore, every hit verified",
            keepwarm::disk,
        )
    },
    Contender {
        family: "keepwarm-disk",
        verifies: true,
        shared: true,
        role: Role::Keepwarm,
        ..peer(
            "keepwarm-cache",
            "keepwarm's Cache: memory over disk",
            keepwarm::cache,
        )
    },
    Contender {
        family: "keepwarm-disk",
        shared: true,
        role: Role::Keepwarm,
        ..peer(
            "keepwarm-disk-once-per-boot",
            "keepwarm's DiskStore, Verify::OncePerBoot",
            keepwarm::once_per_boot,
        )
    },
    Contender {
        family: "keepwarm-disk",
        shared: true,
        role: Role::Keepwarm,
        ..peer(
            "keepwarm-disk-never",
            "keepwarm's DiskStore, Verify::Never",
            keepwarm::never,
        )
    },
    Contender {
        verifies: true,
        ..peer(
            "foyer-hybrid",
            "foyer::HybridCache: memory over disk",
            foyer::open,
        )
    },
    Contender {
        verifies: true,
        shared: true,
        ..peer(
            "cacache",
            "cacache, with its integrity check (SHA-256)",
            cacache::open,
        )
    },
    Contender {
        shared: true,
        ..peer("lmdb", "LMDB through heed", lmdb::plain)
    },
    Contender {
        verifies: true,
        shared: true,
        ..peer(
            "lmdb-blake3",
            "LMDB through heed, BLAKE3 over the value",
            lmdb::verified,
        )
    },
    peer("redb", "redb", redb::open),
    Contender {
        shared: true,
        ..peer(
            REDB_SHARED,
            "redb, shared: each put synced",
            redb::open_shared,
        )
    },
    Contender {
        shared: true,
        ..peer("sqlite", "SQLite through rusqlite, WAL", sqlite::open)
    },
    Contender {
        verifies: true,
        ..peer("fjall", "fjall, key-value separation on", fjall::open)
    },
    Contender {
        shared: true,
        ..peer("files", "a file each: temp + rename, read", files::plain)
    },
    Contender {
        verifies: true,
        shared: true,
        ..peer(
            "files-blake3",
            "a file each, BLAKE3 over the content",
            files::verified,
        )
    },
    Contender {
        family: "files",
        shared: true,
        role: Role::Bound,
        ..peer(
            "bound-map-file",
            "bound: a file each, open + mmap + close",
            files::mapped,
        )
    },
    Contender {
        family: "files-blake3",
        verifies: true,
        shared: true,
        role: Role::Bound,
        ..peer(
            "bound-map-file-blake3",
            "bound: open + mmap + BLAKE3 + close",
            files::mapped_verified,
        )
    },
    Contender {
        role: Role::Bound,
        ..peer(
            "bound-log",
            "bound: one mapped log, index in memory",
            bound::open,
        )
    },
];

/// The way in which several processes share redb; for that only.
pub(crate) const REDB_SHARED: &str = "redb-shared";

pub(crate) fn find(name: &str) -> Result<&'static Contender, Fault> {
    let found = CONTENDERS.iter().find(|contender| contender.name == name);
    found.ok_or_else(|| format!("there is no store named {name}").into())
}

/// The length of the digest that goes before a value where the store itself does not verify.
const DIGEST: usize = blake3::OUT_LEN;

/// Puts the digest before the bytes.
fn sealed(artifact: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(DIGEST + artifact.len());
    value.extend_from_slice(blake3::hash(artifact).as_bytes());
    value.extend_from_slice(artifact);
    value
}

/// The bytes behind a digest that fits them.
fn unsealed(value: &[u8]) -> Result<&[u8], Fault> {
    let (digest, artifact) = value
        .split_first_chunk::<DIGEST>()
        .ok_or("a value is cut off")?;
    if blake3::hash(artifact) != *digest {
        return Err("a value does not have its digest".into());
    }
    Ok(artifact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Dataset;

    const DATA: Dataset = Dataset {
        name: "test",
        seed: 3,
        count: 60,
        least: 1,
        most: 300_000,
        contents: 40,
    };
    const SETUP: Setup = Setup {
        bytes: 64 << 20,
        largest: 300_000,
    };

    fn check(store: &dyn DiskStore, contender: &Contender) {
        for n in 0..DATA.count {
            let mut bytes = Vec::new();
            let found = store.get(&DATA.key(n), &mut |got| bytes = got.to_vec());
            assert!(
                found.expect(contender.name),
                "{}: {n} is lost",
                contender.name
            );
            assert!(bytes == DATA.bytes(n), "{}: {n} is altered", contender.name);
            let loaded = store
                .load(&DATA.key(n))
                .expect(contender.name)
                .expect("it is there");
            assert!(
                (*loaded).as_ref() == DATA.bytes(n),
                "{}: {n} is altered",
                contender.name
            );
        }
        let absent = store.get(&DATA.absent(1), &mut |_| panic!("nothing was put"));
        assert!(!absent.expect(contender.name));
    }

    #[test]
    fn every_contender_gives_what_was_put_before_and_after_a_restart() {
        for contender in CONTENDERS {
            let dir = tempfile::tempdir().unwrap();
            let store = (contender.open)(dir.path(), &SETUP).expect(contender.name);
            for n in 0..DATA.count / 2 {
                store
                    .put(&DATA.key(n), DATA.bytes(n))
                    .expect(contender.name);
            }
            let mut rest = (DATA.count / 2..DATA.count).map(|n| (DATA.key(n), DATA.bytes(n)));
            store.fill(&mut rest).expect(contender.name);
            store.settle().expect(contender.name);
            check(&*store, contender);
            store.flush().expect(contender.name);
            store.close().expect(contender.name);
            let store = (contender.open)(dir.path(), &SETUP).expect(contender.name);
            check(&*store, contender);
            store.remove(&DATA.key(3)).expect(contender.name);
            assert!(!store.get(&DATA.key(3), &mut |_| ()).expect(contender.name));
            store.close().expect(contender.name);
        }
    }

    #[test]
    fn members_of_a_family_read_what_its_head_wrote() {
        for contender in CONTENDERS
            .iter()
            .filter(|contender| contender.family != contender.name)
        {
            let dir = tempfile::tempdir().unwrap();
            let head = find(contender.family).unwrap();
            let store = (head.open)(dir.path(), &SETUP).expect(head.name);
            store
                .fill(&mut (0..DATA.count).map(|n| (DATA.key(n), DATA.bytes(n))))
                .unwrap();
            store.close().expect(head.name);
            check(
                &*(contender.open)(dir.path(), &SETUP).expect(contender.name),
                contender,
            );
        }
    }

    #[test]
    fn a_value_with_a_flipped_bit_is_not_unsealed() {
        let mut value = sealed(b"artifact");
        assert_eq!(unsealed(&value).unwrap(), b"artifact");
        for at in 0..value.len() {
            value[at] ^= 1;
            assert!(unsealed(&value).is_err());
            value[at] ^= 1;
        }
        assert!(unsealed(&value[..DIGEST - 1]).is_err());
    }
}
