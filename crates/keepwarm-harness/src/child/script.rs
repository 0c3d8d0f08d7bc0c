//! Every kind of operation, in one order, for faults at the n-th system call.

use super::Common;
use crate::content::{bytes, check, fingerprint};
use crate::log::{Log, Op};
use clap::Args;
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
    /// Generations are above this.
    #[arg(long, default_value_t = 0)]
    pub(crate) above: u64,
    /// Also so many tiny entries, which makes the index grow.
    #[arg(long, default_value_t = 0)]
    pub(crate) tiny: u32,
    /// Delete the index half-way.
    #[arg(long)]
    pub(crate) lose_index: bool,
}

/// Keys of the tiny entries.
const TINY: u32 = 1 << 20;

struct Script {
    log: Log,
    keys: u32,
}

pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let common = &settings.common;
    let mut script = Script {
        log: Log::open(&settings.log)?,
        keys: common.keys,
    };
    for half in 0..2 {
        // A failure to open is what a fault may do; what follows must not be made of it.
        let opened = match common.store.open(&common.dir, common.budget) {
            Ok(opened) => {
                opened.wait_for_index(Duration::from_secs(5));
                opened
            }
            Err(error) => {
                eprintln!("open: {error:?}");
                script.log.say(Op::Error, 0, 0)?;
                continue;
            }
        };
        script.half(opened.store(), settings.above + 4 * half)?;
        if half == 0 {
            for key in TINY..TINY + settings.tiny {
                let _ = opened.store().put(&fingerprint(key), vec![0; 8].into());
            }
            script.flush(opened.store())?;
        } else {
            script.clear(opened.store())?;
            script.half(opened.store(), settings.above + 12)?;
        }
        drop(opened);
        if half == 0 && settings.lose_index {
            // What is opened next must be rebuilt.
            std::fs::remove_file(common.dir.join("v1/index")).ok();
        }
    }
    Ok(script.log.say(Op::Done, 0, 0)?)
}

impl Script {
    fn half(&mut self, store: &dyn Store, above: u64) -> Result<(), Box<dyn Error>> {
        for key in 0..self.keys {
            self.put(store, key, above + 1)?;
        }
        self.flush(store)?;
        for key in 0..self.keys / 2 {
            self.put(store, key, above + 2)?;
        }
        for key in (0..self.keys).step_by(5) {
            self.log.say(Op::RemoveStart, key, 0)?;
            let said = match store.remove(&fingerprint(key)) {
                Ok(_) => Op::RemoveOk,
                Err(_) => Op::RemoveErr,
            };
            self.log.say(said, key, 0)?;
        }
        for key in 0..self.keys {
            self.get(store, key)?;
        }
        self.flush(store)?;
        for key in (0..self.keys).step_by(3) {
            self.put(store, key, above + 3)?;
        }
        Ok(())
    }

    fn put(&mut self, store: &dyn Store, key: u32, generation: u64) -> Result<(), Box<dyn Error>> {
        self.log.say(Op::PutStart, key, generation)?;
        let said = match store.put(&fingerprint(key), bytes(key, generation).into()) {
            Ok(outcome) => {
                if !outcome.evictions.is_empty() {
                    self.log.say(Op::Evicted, 0, 0)?;
                }
                Op::PutOk
            }
            Err(_) => Op::PutErr,
        };
        Ok(self.log.say(said, key, generation)?)
    }

    fn clear(&mut self, store: &dyn Store) -> Result<(), Box<dyn Error>> {
        for key in 0..self.keys {
            self.log.say(Op::RemoveStart, key, 0)?;
        }
        let said = match store.clear() {
            Ok(()) => Op::RemoveOk,
            Err(_) => Op::RemoveErr,
        };
        for key in 0..self.keys {
            self.log.say(said, key, 0)?;
        }
        Ok(())
    }

    fn get(&mut self, store: &dyn Store, key: u32) -> Result<(), Box<dyn Error>> {
        if let Ok(Some(entry)) = store.get(&fingerprint(key)) {
            let said = match check(key, &entry.artifact) {
                Some(_) => Op::Got,
                None => Op::Wrong,
            };
            self.log.say(said, key, 0)?;
        }
        Ok(())
    }

    fn flush(&mut self, store: &dyn Store) -> Result<(), Box<dyn Error>> {
        self.log.say(Op::FlushStart, 0, 0)?;
        let said = match store.flush() {
            Ok(()) => Op::FlushOk,
            Err(_) => Op::FlushErr,
        };
        Ok(self.log.say(said, 0, 0)?)
    }
}
