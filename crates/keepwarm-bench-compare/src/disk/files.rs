//! A file an artifact, as many build tools do it: written under a temporary name, then renamed;
//! read as a whole. 256 folders, named by the key's first byte, keep folders small; they are made
//! when the directory is new. With BLAKE3, its digest stands before the content.
//!
//! Two bounds read the same files: opened, mapped and closed again, with and without BLAKE3.

use super::{DIGEST, DiskStore, Setup, sealed, unsealed};
use crate::Fault;
use crate::content::Key;
use memmap2::Mmap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

#[derive(Clone, Copy)]
struct How {
    verify: bool,
    map: bool,
}

struct Files {
    root: PathBuf,
    how: How,
    /// Makes temporary names differ within the process.
    next: AtomicU64,
    /// Written since the last flush.
    unsynced: Mutex<Vec<PathBuf>>,
}

pub(super) fn plain(dir: &Path, _: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(
        dir,
        How {
            verify: false,
            map: false,
        },
    )
}

pub(super) fn verified(dir: &Path, _: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(
        dir,
        How {
            verify: true,
            map: false,
        },
    )
}

pub(super) fn mapped(dir: &Path, _: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(
        dir,
        How {
            verify: false,
            map: true,
        },
    )
}

pub(super) fn mapped_verified(dir: &Path, _: &Setup) -> Result<Box<dyn DiskStore>, Fault> {
    open(
        dir,
        How {
            verify: true,
            map: true,
        },
    )
}

fn open(dir: &Path, how: How) -> Result<Box<dyn DiskStore>, Fault> {
    let root = dir.join("files");
    if !root.exists() {
        for first in 0..=255_u8 {
            fs::create_dir_all(root.join(format!("{first:02x}")))?;
        }
    }
    let (next, unsynced) = (AtomicU64::new(0), Mutex::default());
    Ok(Box::new(Files {
        root,
        how,
        next,
        unsynced,
    }))
}

/// A file's content, read or mapped.
enum Content {
    Read(Vec<u8>),
    Mapped(Mmap),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// A content that a caller keeps, without the digest before it.
struct Kept(Content, usize);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes()[self.1..]
    }
}

impl Files {
    fn path(&self, key: &Key) -> PathBuf {
        let mut name = String::with_capacity(65);
        for (at, byte) in key.0.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(name, "{byte:02x}");
            if at == 0 {
                name.push('/');
            }
        }
        self.root.join(name)
    }

    #[expect(unsafe_code, reason = "the bound is a mapped file")]
    fn content(&self, path: &Path) -> io::Result<Option<Content>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.how.map {
            // SAFETY: files of this directory are renamed into place and never written again, and
            // the directory is a benchmark's own.
            let map = unsafe { Mmap::map(&file) }?;
            return Ok(Some(Content::Mapped(map)));
        }
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(len);
        file.read_to_end(&mut bytes)?;
        Ok(Some(Content::Read(bytes)))
    }
}

impl DiskStore for Files {
    fn put(&self, key: &Key, artifact: Vec<u8>) -> Result<(), Fault> {
        let path = self.path(key);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temp = path.with_extension(format!("{}-{number}", std::process::id()));
        if self.how.verify {
            fs::write(&temp, sealed(&artifact))?;
        } else {
            fs::write(&temp, artifact)?;
        }
        fs::rename(&temp, &path)?;
        self.unsynced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path);
        Ok(())
    }

    fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
        let Some(content) = self.content(&self.path(key))? else {
            return Ok(false);
        };
        let bytes = content.bytes();
        read(if self.how.verify {
            unsealed(bytes)?
        } else {
            bytes
        });
        Ok(true)
    }

    fn load(&self, key: &Key) -> Result<Option<Box<dyn AsRef<[u8]>>>, Fault> {
        let Some(content) = self.content(&self.path(key))? else {
            return Ok(None);
        };
        if self.how.verify {
            unsealed(content.bytes())?;
            return Ok(Some(Box::new(Kept(content, DIGEST))));
        }
        Ok(Some(Box::new(Kept(content, 0))))
    }

    fn remove(&self, key: &Key) -> Result<(), Fault> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn flush(&self) -> Result<bool, Fault> {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folders: Vec<&Path> = Vec::new();
        for path in &*unsynced {
            File::open(path)?.sync_data()?;
            folders.extend(path.parent());
        }
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            File::open(folder)?.sync_all()?;
        }
        unsynced.clear();
        Ok(true)
    }
}
