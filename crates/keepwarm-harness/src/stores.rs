//! The store under test, in its configurations, and the controls.

use crate::controls::FileStore;
use clap::ValueEnum;
use keepwarm::{DiskStore, Mapping, MemoryStore, Result, Store, StoreStats, Tiered};
use std::path::Path;
use std::time::{Duration, Instant};

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// keepwarm's disk tier.
    Disk,
    /// keepwarm's disk tier with `Mapping::IndexOnly`.
    IndexOnly,
    /// keepwarm's disk tier with `Mapping::Never`.
    Unmapped,
    /// keepwarm's memory over disk.
    Tiered,
    /// A file an entry, done right, but without a budget: must hold.
    Sound,
    /// Its check does not cover the key: must serve another key's bytes.
    NoKey,
    /// It renames without a check and without a sync: must serve wrong bytes.
    NoCheck,
    /// Its flush does nothing: must lose after a power cut.
    NoSync,
    /// It writes files in place, without a check: must serve halves.
    InPlace,
    /// It says that a put is done and writes at a flush: must lose when it is killed.
    Lazy,
    /// It hears no error: must drop puts, and its flush must lie.
    Deaf,
    /// Of two of a key it calls the newer what the clock does: must serve what was replaced.
    ByClock,
    /// It waits for a lock without a bound: must stand still beside a process that is stopped.
    Waiting,
    /// It never looks whether its directory still has its name: must lose what it put.
    Clinging,
}

/// An open store.
#[derive(Debug)]
pub(crate) enum Opened {
    Disk(DiskStore),
    Tiered(Box<Tiered<MemoryStore, DiskStore>>),
    Control(FileStore),
}

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Bytes of its directory.
    pub(crate) budget: u64,
    pub(crate) lock_wait: Duration,
}

impl Kind {
    pub(crate) fn open(self, dir: &Path, settings: Settings) -> Result<Opened> {
        let disk = DiskStore::builder()
            .byte_budget(settings.budget)
            .lock_wait(settings.lock_wait);
        Ok(match self {
            Self::Disk => Opened::Disk(disk.open(dir)?),
            Self::IndexOnly => Opened::Disk(disk.mapping(Mapping::IndexOnly).open(dir)?),
            Self::Unmapped => Opened::Disk(disk.mapping(Mapping::Never).open(dir)?),
            Self::Tiered => {
                let memory = MemoryStore::builder().byte_budget(1 << 20).build()?;
                Opened::Tiered(Box::new(Tiered::builder(memory, disk.open(dir)?).build()))
            }
            _ => Opened::Control(FileStore::open(dir, self)?),
        })
    }

    /// As `--store` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::IndexOnly => "index-only",
            Self::Unmapped => "unmapped",
            Self::Tiered => "tiered",
            Self::Sound => "sound",
            Self::NoKey => "no-key",
            Self::NoCheck => "no-check",
            Self::NoSync => "no-sync",
            Self::InPlace => "in-place",
            Self::Lazy => "lazy",
            Self::Deaf => "deaf",
            Self::ByClock => "by-clock",
            Self::Waiting => "waiting",
            Self::Clinging => "clinging",
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

    /// What the directory's own tier tells.
    pub(crate) fn directory_stats(&self) -> StoreStats {
        match self {
            Self::Disk(store) => store.stats(),
            Self::Tiered(store) => store.lower().stats(),
            Self::Control(store) => store.stats(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_has_the_name_that_its_argument_has() {
        for kind in Kind::value_variants() {
            let value = kind.to_possible_value().unwrap();
            assert_eq!(value.get_name(), kind.name());
        }
    }
}
