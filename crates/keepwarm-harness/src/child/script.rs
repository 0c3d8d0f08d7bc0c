//! One kind of operation, or every one, for faults at the n-th system call.

use super::Common;
use crate::content::{check, fingerprint};
use crate::log::{Log, Op};
use clap::{Args, ValueEnum};
use keepwarm::Store;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(long)]
    pub(crate) log: PathBuf,
    #[arg(long, value_enum)]
    pub(crate) act: Act,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Act {
    /// Puts every key in generation 1, and flushes.
    Prepare,
    /// Puts keys until the index grows, and says how many that were.
    Measure,
    /// Opens what is not there.
    Open,
    Get,
    /// Puts small and large artifacts, new ones, known ones, and such as replace others.
    Put,
    Remove,
    Flush,
    /// Puts more than the budget has room for.
    Evict,
    /// Puts keys beyond those that were prepared, so many that the index grows.
    Grow,
    Clear,
    /// Opens a directory whose index is gone.
    Rebuild,
    /// Everything, twice.
    All,
}

impl Act {
    /// As `--act` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Measure => "measure",
            Self::Open => "open",
            Self::Get => "get",
            Self::Put => "put",
            Self::Remove => "remove",
            Self::Flush => "flush",
            Self::Evict => "evict",
            Self::Grow => "grow",
            Self::Clear => "clear",
            Self::Rebuild => "rebuild",
            Self::All => "all",
        }
    }
}

/// Keys put by [`Act::Grow`].
pub(crate) const GROWTH: u32 = 6;

struct Script<'a> {
    common: &'a Common,
    log: Log,
    store: &'a dyn Store,
    /// Generations are above this.
    above: u64,
}

type Done = Result<(), Box<dyn Error>>;

pub(crate) fn run(settings: &Settings) -> Done {
    let common = &settings.common;
    let mut log = Log::open(&settings.log)?;
    let opened = match common.open() {
        Ok(opened) => opened,
        Err(error) => {
            // What a fault may do.
            eprintln!("open: {error:?}");
            return Ok(log.say(Op::Error, 0, 0)?);
        }
    };
    if settings.act != Act::Open {
        opened.wait_for_index(Duration::from_secs(5));
    }
    let mut script = Script {
        common,
        log,
        store: opened.store(),
        above: 0,
    };
    script.act(settings.act)?;
    Ok(script.log.say(Op::Done, 0, 0)?)
}

impl Script<'_> {
    fn act(&mut self, act: Act) -> Done {
        let keys = self.common.keys;
        match act {
            Act::Prepare => {
                self.puts(0..keys, 1)?;
                self.flush()
            }
            Act::Measure => self.measure(),
            Act::Open | Act::Rebuild => {
                self.gets(0..keys)?;
                self.puts(0..3, 2)?;
                self.flush()
            }
            Act::Get => {
                self.gets(0..keys)?;
                self.gets(0..keys)
            }
            Act::Put => {
                self.puts(0..8, 2)?;
                self.puts(2..10, 2)?;
                // Three times: then the put itself flushes.
                (3..6).try_for_each(|generation| self.puts(0..3, generation))?;
                self.gets(0..keys)
            }
            Act::Remove => {
                self.puts(0..3, 2)?;
                self.removes(0..6)?;
                self.gets(0..keys)
            }
            Act::Flush => {
                self.puts(0..8, 2)?;
                self.flush()?;
                self.puts(0..4, 3)?;
                self.removes(4..6)?;
                self.flush()
            }
            Act::Evict => {
                self.puts(0..10, 2)?;
                self.flush()?;
                self.gets(0..keys)
            }
            Act::Grow => {
                self.puts(keys..keys + GROWTH, 2)?;
                self.flush()
            }
            Act::Clear => {
                self.clear()?;
                self.puts(0..4, 2)?;
                self.flush()
            }
            Act::All => {
                let acts = [Act::Prepare, Act::Put, Act::Remove, Act::Flush, Act::Clear];
                for act in acts {
                    self.act(act)?;
                    self.above += 10;
                }
                self.puts(0..keys, 1)?;
                self.flush()?;
                self.gets(0..keys)
            }
        }
    }

    fn measure(&mut self) -> Done {
        let index = self.common.dir.join("v1/index");
        let before = std::fs::metadata(&index)?.len();
        for key in 0.. {
            let bytes = self.common.bytes(key, 1);
            drop(self.store.put(&fingerprint(key), bytes.into())?);
            if std::fs::metadata(&index)?.len() != before {
                println!("{key}");
                return Ok(());
            }
        }
        Ok(())
    }

    fn puts(&mut self, keys: std::ops::Range<u32>, generation: u64) -> Done {
        let generation = self.above + generation;
        for key in keys {
            self.log.say(Op::PutStart, key, generation)?;
            let bytes = self.common.bytes(key, generation);
            let said = match self.store.put(&fingerprint(key), bytes.into()) {
                Ok(outcome) => {
                    if !outcome.evictions.is_empty() {
                        self.log.say(Op::Evicted, 0, 0)?;
                    }
                    Op::PutOk
                }
                Err(_) => Op::PutErr,
            };
            self.log.say(said, key, generation)?;
        }
        Ok(())
    }

    fn removes(&mut self, keys: std::ops::Range<u32>) -> Done {
        for key in keys {
            self.log.say(Op::RemoveStart, key, 0)?;
            let said = match self.store.remove(&fingerprint(key)) {
                Ok(_) => Op::RemoveOk,
                Err(_) => Op::RemoveErr,
            };
            self.log.say(said, key, 0)?;
        }
        Ok(())
    }

    fn clear(&mut self) -> Done {
        for key in 0..self.common.keys {
            self.log.say(Op::RemoveStart, key, 0)?;
        }
        let said = match self.store.clear() {
            Ok(()) => Op::RemoveOk,
            Err(_) => Op::RemoveErr,
        };
        for key in 0..self.common.keys {
            self.log.say(said, key, 0)?;
        }
        Ok(())
    }

    fn gets(&mut self, keys: std::ops::Range<u32>) -> Done {
        for key in keys {
            if let Ok(Some(entry)) = self.store.get(&fingerprint(key)) {
                let said = match check(key, &entry.artifact) {
                    Some(_) => Op::Got,
                    None => Op::Wrong,
                };
                self.log.say(said, key, 0)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Done {
        self.log.say(Op::FlushStart, 0, 0)?;
        let said = match self.store.flush() {
            Ok(()) => Op::FlushOk,
            Err(_) => Op::FlushErr,
        };
        Ok(self.log.say(said, 0, 0)?)
    }
}
