//! Stores that are broken on purpose, each in one way, and one that is not: a harness that does not
//! catch them catches nothing.

use crate::stores::Kind;
use keepwarm::{Entry, Error, Fingerprint, PutOutcome, PutStatus, Result, Store, StoreStats};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// One file an entry: a check of 32 bytes, the bytes.
#[derive(Debug)]
pub(crate) struct FileStore {
    dir: PathBuf,
    kind: Kind,
    /// What it locks, or holds on to.
    held: Option<File>,
    /// What was put and is not written yet.
    waiting: Mutex<BTreeMap<Fingerprint, Vec<u8>>>,
    /// Of [`Kind::Sound`]: files that were replaced, until that is durable. With `data=writeback` ext4
    /// gives the blocks of a file that nobody has open to others before its end is committed: a power
    /// cut would bring its name back, with their bytes.
    replaced: Mutex<Vec<File>>,
}

impl FileStore {
    pub(crate) fn open(dir: &Path, kind: Kind) -> Result<Self> {
        let io = |e| Error::io("create the control", dir, e);
        fs::create_dir_all(dir).map_err(io)?;
        let held = matches!(kind, Kind::Waiting | Kind::Clinging)
            .then(|| File::open(dir))
            .transpose()
            .map_err(io)?;
        let dir = match &held {
            // The directory itself, whatever becomes of its name.
            Some(held) if kind == Kind::Clinging => {
                PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
            }
            _ => dir.to_owned(),
        };
        Ok(Self {
            dir,
            kind,
            held,
            waiting: Mutex::default(),
            replaced: Mutex::default(),
        })
    }

    fn path(&self, key: &Fingerprint) -> PathBuf {
        self.dir.join(key.to_string())
    }

    fn has_check(&self) -> bool {
        !matches!(self.kind, Kind::NoCheck | Kind::InPlace)
    }

    fn check(&self, key: &Fingerprint, bytes: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        if self.kind != Kind::NoKey {
            hasher.update(key.as_bytes());
        }
        *hasher.update(bytes).finalize().as_bytes()
    }

    fn write(&self, key: &Fingerprint, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        if self.kind == Kind::InPlace {
            let mut file = File::create(&path)?;
            return bytes.chunks(4096).try_for_each(|part| file.write_all(part));
        }
        // Whoever waits for a process that is stopped waits as long as that is.
        if let (Kind::Waiting, Some(held)) = (self.kind, &self.held) {
            flock(held, FlockOperation::LockExclusive)?;
        }
        let temp = path.with_extension(format!("tmp{}", std::process::id()));
        let mut file = File::create(&temp)?;
        if self.has_check() {
            file.write_all(&self.check(key, bytes))?;
        }
        file.write_all(bytes)?;
        if !matches!(self.kind, Kind::NoSync | Kind::NoCheck) {
            // Before the rename, or it replaces what was flushed by what is not there.
            file.sync_all()?;
        }
        if let (Kind::Sound, Ok(old)) = (self.kind, File::open(&path)) {
            self.replaced().push(old);
        }
        let done = match self.kind {
            Kind::ByClock => self.rename_by_clock(&temp, &path),
            _ => fs::rename(&temp, &path),
        };
        if let (Kind::Waiting, Some(held)) = (self.kind, &self.held) {
            flock(held, FlockOperation::Unlock)?;
        }
        done
    }

    /// Of several of a key the one counts that the clock calls the newest.
    fn rename_by_clock(&self, temp: &Path, path: &Path) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        match self.newest(path)? {
            Some((stamp, _)) if stamp > now => fs::remove_file(temp),
            newest => {
                fs::rename(temp, path.with_extension(now.to_string()))?;
                match newest {
                    Some((stamp, old)) if stamp != now => fs::remove_file(old),
                    _ => Ok(()),
                }
            }
        }
    }

    fn newest(&self, path: &Path) -> io::Result<Option<(u128, PathBuf)>> {
        let mut newest = None;
        for file in fs::read_dir(&self.dir)? {
            let file = file?.path();
            if file.file_stem() == path.file_name() {
                let stamp = file
                    .extension()
                    .and_then(|stamp| stamp.to_str()?.parse().ok());
                newest = newest.max(stamp.map(|stamp| (stamp, file)));
            }
        }
        Ok(newest)
    }

    fn read(&self, key: &Fingerprint) -> io::Result<Vec<u8>> {
        let mut path = self.path(key);
        if self.kind == Kind::ByClock {
            let newest = self.newest(&path)?.ok_or(io::ErrorKind::NotFound)?;
            path = newest.1;
        }
        fs::read(path)
    }

    fn sync(&self) -> io::Result<()> {
        if matches!(self.kind, Kind::NoSync | Kind::NoCheck | Kind::InPlace) {
            return Ok(());
        }
        for (key, bytes) in std::mem::take(&mut *self.waiting()) {
            self.write(&key, &bytes)?;
        }
        let replaced = std::mem::take(&mut *self.replaced());
        File::open(&self.dir)?.sync_all()?;
        drop(replaced);
        // The directory's own name.
        let parent = self.dir.parent().unwrap_or(&self.dir);
        File::open(parent)?.sync_all()
    }

    fn replaced(&self) -> std::sync::MutexGuard<'_, Vec<File>> {
        self.replaced.lock().expect("nobody panics under it")
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<Fingerprint, Vec<u8>>> {
        self.waiting.lock().expect("nobody panics under it")
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for FileStore {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        if let Some(bytes) = self.waiting().get(key) {
            return Ok(Some(bytes.clone().into()));
        }
        let mut bytes = match self.read(key) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", self.path(key), e)),
        };
        if !self.has_check() {
            return Ok(Some(bytes.into()));
        }
        if bytes.len() < 32 {
            return Ok(None);
        }
        let rest = bytes.split_off(32);
        Ok((self.check(key, &rest)[..] == bytes[..]).then(|| rest.into()))
    }

    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }

    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        match self.kind {
            Kind::Lazy => drop(self.waiting().insert(*key, entry.artifact.to_vec())),
            Kind::Deaf => drop(self.write(key, &entry.artifact)),
            _ => self
                .write(key, &entry.artifact)
                .map_err(|e| Error::io("write", self.path(key), e))?,
        }
        Ok(PutOutcome::new(PutStatus::Stored))
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        let waited = self.waiting().remove(key).is_some();
        let mut path = self.path(key);
        if self.kind == Kind::ByClock {
            if let Ok(Some((_, newest))) = self.newest(&path) {
                path = newest;
            }
        }
        Ok(fs::remove_file(path).is_ok() || waited)
    }

    fn touch(&self, _: &[Fingerprint]) -> Result<()> {
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        self.waiting().clear();
        let io = |e| Error::io("clear", &self.dir, e);
        for file in fs::read_dir(&self.dir).map_err(io)? {
            fs::remove_file(file.map_err(io)?.path()).ok();
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        match self.kind {
            Kind::Deaf => drop(self.sync()),
            _ => self.sync().map_err(|e| Error::io("sync", &self.dir, e))?,
        }
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}
