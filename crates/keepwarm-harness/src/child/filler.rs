//! Puts until the disk is full, goes on, frees, goes on.

use super::Common;
use crate::content::{Rng, bytes, check, fingerprint};
use crate::log::{Log, Op};
use clap::{Args, ValueEnum};
use keepwarm::Store;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

/// How room is made once the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Freeing {
    /// Somebody deletes other files.
    Ballast,
    /// The store is cleared.
    Clear,
}

impl Freeing {
    /// As `--freeing` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ballast => "ballast",
            Self::Clear => "clear",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(long)]
    pub(crate) log: PathBuf,
    /// The folder of files that are not the store's.
    #[arg(long)]
    pub(crate) ballast: PathBuf,
    #[arg(long, value_enum)]
    pub(crate) freeing: Freeing,
    #[arg(long, default_value_t = 0)]
    pub(crate) above: u64,
}

struct Filler {
    log: Log,
    generation: u64,
    evicted: bool,
}

pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let common = &settings.common;
    let mut filler = Filler {
        log: Log::open(&settings.log)?,
        generation: settings.above,
        evicted: false,
    };
    let opened = common.open()?;
    opened.wait_for_index(Duration::from_secs(20));
    let store = opened.store();
    let mut rng = Rng::new(common.seed);
    let (mut failures, mut steps) = (0, 0);
    // On past the first failures: what is refused now must not be what is served later.
    while failures < 60 && steps < 20_000 {
        steps += 1;
        let key = rng.key(common.keys);
        failures += u32::from(!filler.put(store, key)?);
        if rng.below(40) == 0 {
            filler.flush(store)?;
        }
    }
    // What had failed is told by this one.
    filler.flush(store)?;
    filler.flush(store)?;
    free(store, settings, &mut filler)?;
    // A flush that tells of a failure may still be owed; one of two must work.
    filler.flush(store)?;
    for key in 0..8 {
        if !filler.put(store, key)? {
            filler.log.say(Op::Stuck, key, 0)?;
        }
    }
    if !filler.flush(store)? && !filler.flush(store)? {
        eprintln!("flush keeps failing");
        filler.log.say(Op::Stuck, 0, 0)?;
    }
    Ok(filler.log.say(Op::Done, 0, 0)?)
}

fn free(store: &dyn Store, settings: &Settings, filler: &mut Filler) -> Result<(), Box<dyn Error>> {
    if settings.freeing == Freeing::Ballast {
        for file in std::fs::read_dir(&settings.ballast)? {
            std::fs::remove_file(file?.path())?;
        }
        return Ok(());
    }
    for key in 0..settings.common.keys {
        filler.log.say(Op::RemoveStart, key, 0)?;
    }
    if let Err(error) = store.clear() {
        eprintln!("clear: {error:?}");
        return Ok(filler.log.say(Op::Stuck, 0, 0)?);
    }
    for key in 0..settings.common.keys {
        filler.log.say(Op::RemoveOk, key, 0)?;
    }
    Ok(())
}

impl Filler {
    /// Whether the put was told to be done.
    fn put(&mut self, store: &dyn Store, key: u32) -> Result<bool, Box<dyn Error>> {
        self.generation += 1;
        let generation = self.generation;
        self.log.say(Op::PutStart, key, generation)?;
        match store.put(&fingerprint(key), bytes(key, generation).into()) {
            Ok(outcome) => {
                if !outcome.evictions.is_empty() && !self.evicted {
                    self.evicted = true;
                    self.log.say(Op::Evicted, 0, 0)?;
                }
                self.log.say(Op::PutOk, key, generation)?;
            }
            Err(error) => {
                if !full(&error) {
                    eprintln!("put: {error:?}");
                }
                self.log.say(Op::PutErr, key, generation)?;
                return Ok(false);
            }
        }
        let said = match store.get(&fingerprint(key)) {
            Ok(Some(entry)) => match check(key, &entry.artifact) {
                Some(seen) if seen == generation => Op::Got,
                Some(_) => Op::Stale,
                None => Op::Wrong,
            },
            Ok(None) => Op::Dropped,
            Err(error) => {
                eprintln!("get: {error:?}");
                Op::Error
            }
        };
        self.log.say(said, key, generation)?;
        Ok(true)
    }

    fn flush(&mut self, store: &dyn Store) -> Result<bool, Box<dyn Error>> {
        self.log.say(Op::FlushStart, 0, 0)?;
        let done = store.flush();
        let said = if done.is_ok() {
            Op::FlushOk
        } else {
            Op::FlushErr
        };
        self.log.say(said, 0, 0)?;
        Ok(done.is_ok())
    }
}

fn full(error: &keepwarm::Error) -> bool {
    error.kind() == keepwarm::ErrorKind::StorageFull
}
