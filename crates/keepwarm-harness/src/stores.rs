//! The store under test, and stores that are broken on purpose: a harness that does not catch them
//! catches nothing.

use clap::ValueEnum;
use keepwarm::{
    DiskStore, Entry, Error, Fingerprint, Mapping, MemoryStore, PutOutcome, PutStatus, Result,
    Store, StoreStats, Tiered,
};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// keepwarm's disk tier.
    Disk,
    /// keepwarm's disk tier with `Mapping::Never`.
    Unmapped,
    /// keepwarm's memory over disk.
    Tiered,
    /// A file an entry, done right: must hold.
    Sound,
    /// Its check does not cover the key: must serve another key's bytes.
    NoKey,
    /// It renames without a check and without a sync: must serve wrong bytes.
    NoCheck,
    /// Its flush does nothing: must lose after a power cut.
    NoSync,
}

/// An open store.
#[derive(Debug)]
pub(crate) enum Opened {
    Disk(DiskStore),
    Tiered(Box<Tiered<MemoryStore, DiskStore>>),
    Control(FileStore),
}

impl Kind {
    /// Opens it with a byte budget for its directory.
    pub(crate) fn open(self, dir: &Path, budget: u64) -> Result<Opened> {
        let disk = DiskStore::builder().byte_budget(budget);
        Ok(match self {
            Self::Disk => Opened::Disk(disk.open(dir)?),
            Self::Unmapped => Opened::Disk(disk.mapping(Mapping::Never).open(dir)?),
            Self::Tiered => {
                let memory = MemoryStore::builder().byte_budget(1 << 20).build()?;
                Opened::Tiered(Box::new(Tiered::builder(memory, disk.open(dir)?).build()))
            }
            Self::Sound | Self::NoKey | Self::NoCheck | Self::NoSync => {
                Opened::Control(FileStore::open(dir, self)?)
            }
        })
    }

    /// As `--store` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Unmapped => "unmapped",
            Self::Tiered => "tiered",
            Self::Sound => "sound",
            Self::NoKey => "no-key",
            Self::NoCheck => "no-check",
            Self::NoSync => "no-sync",
        }
    }
}

impl Opened {
    pub(crate) fn store(&self) -> &dyn Store {
        match self {
            Self::Disk(store) => store,
            Self::Tiered(store) => store,
            Self::Control(store) => store,
        }
    }

    /// Waits for a lost index to be rebuilt; tells whether it was.
    pub(crate) fn wait_for_index(&self, bound: Duration) -> bool {
        let disk = match self {
            Self::Disk(disk) => disk,
            Self::Tiered(tiered) => tiered.lower(),
            Self::Control(_) => return true,
        };
        let start = Instant::now();
        while disk.is_rebuilding() && start.elapsed() < bound {
            std::thread::sleep(Duration::from_millis(1));
        }
        !disk.is_rebuilding()
    }
}

/// One file an entry: a check of 32 bytes, the bytes.
#[derive(Debug)]
pub(crate) struct FileStore {
    dir: PathBuf,
    kind: Kind,
}

impl FileStore {
    fn open(dir: &Path, kind: Kind) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io("create the control", dir, e))?;
        Ok(Self {
            dir: dir.to_owned(),
            kind,
        })
    }

    fn path(&self, key: &Fingerprint) -> PathBuf {
        self.dir.join(key.to_string())
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
        let temp = path.with_extension(format!("tmp{}", std::process::id()));
        let mut file = File::create(&temp)?;
        if self.kind != Kind::NoCheck {
            file.write_all(&self.check(key, bytes))?;
        }
        file.write_all(bytes)?;
        if !matches!(self.kind, Kind::NoSync | Kind::NoCheck) {
            // Before the rename, or it replaces what was flushed by what is not there.
            file.sync_all()?;
        }
        fs::rename(&temp, &path)
    }

    fn sync(&self) -> io::Result<()> {
        if matches!(self.kind, Kind::NoSync | Kind::NoCheck) {
            return Ok(());
        }
        File::open(&self.dir)?.sync_all()?;
        // The directory's own name.
        let parent = self.dir.parent().unwrap_or(&self.dir);
        File::open(parent)?.sync_all()
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for FileStore {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let mut bytes = match fs::read(self.path(key)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("read", self.path(key), e)),
        };
        if self.kind == Kind::NoCheck {
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
        self.write(key, &entry.artifact)
            .map_err(|e| Error::io("write", self.path(key), e))?;
        Ok(PutOutcome::new(PutStatus::Stored))
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        Ok(fs::remove_file(self.path(key)).is_ok())
    }

    fn touch(&self, _: &[Fingerprint]) -> Result<()> {
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        let io = |e| Error::io("clear", &self.dir, e);
        for file in fs::read_dir(&self.dir).map_err(io)? {
            fs::remove_file(file.map_err(io)?.path()).ok();
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.sync().map_err(|e| Error::io("sync", &self.dir, e))
    }

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}
