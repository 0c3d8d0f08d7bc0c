//! A writer among others.

use super::Common;
use crate::content::{Rng, check, fingerprint};
use crate::log::{Log, Op};
use crate::stores::Opened;
use clap::Args;
use keepwarm::{Artifact, PutOutcome, Store};
use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(long)]
    pub(crate) log: PathBuf,
    /// Which of the writers this is.
    #[arg(long, default_value_t = 0)]
    pub(crate) writer: u32,
    #[arg(long, default_value_t = 1)]
    pub(crate) writers: u32,
    /// Generations are above this.
    #[arg(long, default_value_t = 0)]
    pub(crate) above: u64,
    /// Keys below this are somebody else's.
    #[arg(long, default_value_t = 0)]
    pub(crate) base: u32,
    /// Everybody writes every key, and clears: only wrong bytes and errors are seen.
    #[arg(long)]
    pub(crate) storm: bool,
    /// In a storm, nobody clears.
    #[arg(long)]
    pub(crate) no_clear: bool,
    /// Of a hundred calls so many are removals, at most five.
    #[arg(long, default_value_t = 5)]
    pub(crate) removes: u64,
    /// Somebody else takes away what this one put: misses are fair.
    #[arg(long)]
    pub(crate) robbed: bool,
    /// Stop after so many milliseconds.
    #[arg(long, default_value_t = 600_000)]
    pub(crate) millis: u64,
    /// A call may take so many milliseconds.
    #[arg(long, default_value_t = 45_000)]
    pub(crate) patience: u64,
    /// Sleep for so many microseconds after each call.
    #[arg(long, default_value_t = 0)]
    pub(crate) rest: u64,
}

/// Artifacts that a worker holds on to.
const HELD: usize = 24;

struct Worker<'a> {
    settings: &'a Settings,
    store: &'a dyn Store,
    log: Log,
    rng: Rng,
    /// What this worker put under its keys.
    mine: BTreeMap<u32, u64>,
    generation: u64,
    evicted: bool,
    /// Must stay what they were, whatever happens to the files.
    held: Vec<(u32, u64, Artifact)>,
}

pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let common = &settings.common;
    let mut log = Log::open(&settings.log)?;
    let opened: Opened = common.open()?;
    opened.wait_for_index(Duration::from_secs(20));
    log.say(Op::Opened, 0, 0)?;
    let mut worker = Worker {
        settings,
        store: opened.store(),
        log,
        rng: Rng::new(common.seed ^ u64::from(settings.writer).rotate_left(32)),
        mine: BTreeMap::new(),
        generation: settings.above,
        evicted: false,
        held: Vec::new(),
    };
    let start = Instant::now();
    // Not longer than the harness, however that ends.
    let parent = parent_id();
    while start.elapsed() < Duration::from_millis(settings.millis) && parent_id() == parent {
        let began = Instant::now();
        worker.step()?;
        worker.look_at_time(began.elapsed())?;
        if settings.rest > 0 {
            std::thread::sleep(Duration::from_micros(settings.rest));
        }
    }
    worker.look_at_held()?;
    worker.flush()?;
    Ok(worker.log.say(Op::Done, 0, 0)?)
}

type Done = Result<(), Box<dyn Error>>;

impl Worker<'_> {
    fn step(&mut self) -> Done {
        match self.rng.below(100) {
            0..=44 => self.put(),
            n @ 45..=49 if n < 45 + self.settings.removes => self.remove(),
            45..=72 => {
                let key = self.own_key();
                self.get(key)
            }
            73..=95 => {
                let key = self.rng.key(self.settings.common.keys);
                self.get(key)
            }
            96..=98 => self.flush(),
            _ if self.settings.storm && !self.settings.no_clear && self.rng.below(4) == 0 => {
                let done = self.store.clear();
                self.report("clear", done.err())
            }
            _ => {
                let key = fingerprint(self.rng.key(self.settings.common.keys));
                let done = self.store.contains(&key);
                self.report("contains", done.err())
            }
        }
    }

    fn look_at_time(&mut self, took: Duration) -> Done {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if millis > self.settings.patience {
            eprintln!("a call took {millis} ms");
            self.log.say(Op::Slow, 0, millis)?;
        }
        Ok(())
    }

    /// Keeps an artifact, and looks again at one that was kept.
    fn hold(&mut self, key: u32, generation: u64, artifact: &Artifact) -> Done {
        if self.held.len() == HELD {
            let old = self.rng.index(HELD);
            self.look_again(old)?;
            self.held.swap_remove(old);
        }
        self.held.push((key, generation, artifact.clone()));
        Ok(())
    }

    fn look_again(&mut self, held: usize) -> Done {
        let (key, generation, artifact) = &self.held[held];
        if check(*key, artifact) != Some(*generation) {
            eprintln!("key {key}: what was held has changed");
            self.log.say(Op::Wrong, *key, *generation)?;
        }
        Ok(())
    }

    fn look_at_held(&mut self) -> Done {
        (0..self.held.len()).try_for_each(|held| self.look_again(held))
    }

    fn own_key(&mut self) -> u32 {
        let key = self.rng.key(self.settings.common.keys);
        if self.settings.storm {
            return key;
        }
        let key = key - key % self.settings.writers + self.settings.writer;
        key.max(
            self.settings.base / self.settings.writers * self.settings.writers
                + self.settings.writer,
        )
    }

    fn report(&mut self, action: &str, error: Option<keepwarm::Error>) -> Done {
        if let Some(error) = error {
            eprintln!("{action}: {error:?}");
            self.log.say(Op::Error, 0, 0)?;
        }
        Ok(())
    }

    fn put(&mut self) -> Done {
        let key = self.own_key();
        self.generation += 1;
        // In a storm old generations come back, so that the same bytes are put by many.
        let generation = if self.settings.storm {
            self.rng.below(8)
        } else {
            self.generation
        };
        self.log.say(Op::PutStart, key, generation)?;
        let bytes = self.settings.common.bytes(key, generation);
        let done = self.store.put(&fingerprint(key), bytes.into());
        match done {
            Ok(outcome) => {
                self.note_evictions(&outcome)?;
                self.mine.insert(key, generation);
                Ok(self.log.say(Op::PutOk, key, generation)?)
            }
            Err(error) => {
                self.mine.remove(&key);
                self.log.say(Op::PutErr, key, generation)?;
                self.report("put", Some(error))
            }
        }
    }

    fn note_evictions(&mut self, outcome: &PutOutcome) -> Done {
        let disk = |eviction: &keepwarm::Eviction| eviction.tier == keepwarm::Tier::Disk;
        if outcome.evictions.iter().any(disk) && !self.evicted {
            self.evicted = true;
            self.log.say(Op::Evicted, 0, 0)?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Done {
        let key = self.own_key();
        self.log.say(Op::RemoveStart, key, 0)?;
        let done = self.store.remove(&fingerprint(key));
        let said = if done.is_ok() {
            Op::RemoveOk
        } else {
            Op::RemoveErr
        };
        self.log.say(said, key, 0)?;
        self.mine.remove(&key);
        self.report("remove", done.err())
    }

    fn flush(&mut self) -> Done {
        self.log.say(Op::FlushStart, 0, 0)?;
        let done = self.store.flush();
        let said = if done.is_ok() {
            Op::FlushOk
        } else {
            Op::FlushErr
        };
        self.log.say(said, 0, 0)?;
        self.report("flush", done.err())
    }

    fn get(&mut self, key: u32) -> Done {
        let mine = (key % self.settings.writers == self.settings.writer && !self.settings.storm)
            .then(|| self.mine.get(&key).copied())
            .flatten();
        let got = match self.store.get(&fingerprint(key)) {
            Ok(got) => got,
            Err(error) => return self.report("get", Some(error)),
        };
        let fair = self.evicted || self.settings.robbed;
        let said = match (&got, mine) {
            (None, Some(_)) if !fair => Op::Lost,
            (None, _) => return Ok(()),
            (Some(entry), mine) => match check(key, &entry.artifact) {
                None => Op::Wrong,
                Some(seen) if mine.is_some_and(|mine| seen != mine) && !self.settings.robbed => {
                    Op::Stale
                }
                Some(seen) => {
                    self.hold(key, seen, &entry.artifact)?;
                    Op::Got
                }
            },
        };
        if said != Op::Got {
            eprintln!("get of key {key}: {said:?}, expected generation {mine:?}");
        }
        Ok(self.log.say(said, key, mine.unwrap_or(0))?)
    }
}
