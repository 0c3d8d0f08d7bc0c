//! A writer that forks again and again while it holds a handle. The forked children may only read.

use super::Common;
use crate::content::{Rng, check, fingerprint};
use crate::log::{Log, Op};
use clap::Args;
use fork::{Fork, fork};
use keepwarm::{ErrorKind, Store};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) common: Common,
    #[arg(long)]
    pub(crate) log: PathBuf,
    /// What the forked children say.
    #[arg(long)]
    pub(crate) children: PathBuf,
    #[arg(long)]
    pub(crate) forks: u32,
}

/// A forked child must be done by then.
const BOUND: Duration = Duration::from_secs(10);

pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let common = &settings.common;
    let mut log = Log::open(&settings.log)?;
    let opened = common.open()?;
    opened.wait_for_index(Duration::from_secs(20));
    let store = opened.store();
    let mut rng = Rng::new(common.seed);
    let mut generation = 0;
    for _ in 0..settings.forks {
        generation += 1;
        for key in 0..common.keys {
            if rng.below(3) == 0 || generation == 1 {
                put(&mut log, store, common, (key, generation))?;
            }
        }
        match fork().map_err(|code| format!("fork: {code}"))? {
            Fork::Child => {
                let done = child(&settings.children, store, common);
                // It goes as it would if the program were written so, with the handle dropped.
                drop(opened);
                std::process::exit(i32::from(done.is_err()));
            }
            Fork::Parent(id) => wait(&mut log, id)?,
        }
        // The parent's locks and temporary folder are still its own.
        for key in 0..4 {
            put(&mut log, store, common, (key, generation))?;
        }
    }
    log.say(Op::FlushStart, 0, 0)?;
    let flushed = store.flush();
    if let Err(error) = &flushed {
        eprintln!("flush: {error:?}");
        log.say(Op::Error, 0, 0)?;
    }
    Ok(log.say(Op::Done, 0, 0)?)
}

fn put(
    log: &mut Log,
    store: &dyn Store,
    common: &Common,
    (key, generation): (u32, u64),
) -> Result<(), Box<dyn Error>> {
    log.say(Op::PutStart, key, generation)?;
    let bytes = common.bytes(key, generation);
    let said = match store.put(&fingerprint(key), bytes.into()) {
        Ok(_) => Op::PutOk,
        Err(error) => {
            eprintln!("put: {error:?}");
            log.say(Op::Error, key, 0)?;
            Op::PutErr
        }
    };
    log.say(said, key, generation)?;
    let got = store.get(&fingerprint(key))?;
    let said = match got.map(|entry| check(key, &entry.artifact)) {
        Some(Some(seen)) if seen == generation => Op::Got,
        Some(Some(_)) => Op::Stale,
        Some(None) => Op::Wrong,
        None => Op::Lost,
    };
    Ok(log.say(said, key, generation)?)
}

/// Waits for a forked child, with a bound.
fn wait(log: &mut Log, id: i32) -> Result<(), Box<dyn Error>> {
    let id = Pid::from_raw(id).ok_or("no such process")?;
    let start = Instant::now();
    loop {
        if let Some((_, status)) = waitpid(Some(id), WaitOptions::NOHANG)? {
            if status.exit_status() != Some(0) {
                eprintln!("a forked child ended with {status:?}");
                log.say(Op::Error, 0, 0)?;
            }
            return Ok(());
        }
        if start.elapsed() > BOUND {
            eprintln!("a forked child hangs");
            log.say(Op::Slow, 0, 0)?;
            kill_process(id, Signal::KILL)?;
            waitpid(Some(id), WaitOptions::empty())?;
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Reads what the parent put, and tries to write.
fn child(path: &Path, store: &dyn Store, common: &Common) -> Result<(), Box<dyn Error>> {
    let mut log = Log::open(path)?;
    for key in 0..common.keys {
        let said = match store.get(&fingerprint(key)) {
            Ok(Some(entry)) if check(key, &entry.artifact).is_some() => Op::Got,
            Ok(Some(_)) => Op::Wrong,
            Ok(None) => Op::Lost,
            Err(error) => {
                eprintln!("get in a forked child: {error:?}");
                Op::Error
            }
        };
        log.say(said, key, 0)?;
    }
    let key = fingerprint(0);
    let writes = [
        store.put(&key, vec![1; 100].into()).map(drop),
        store.put(&key, vec![2; 300_000].into()).map(drop),
        store.remove(&key).map(drop),
        store.clear(),
        store.flush(),
    ];
    for (number, write) in writes.into_iter().enumerate() {
        let closed = write.is_err_and(|error| error.kind() == ErrorKind::Closed);
        if !closed {
            eprintln!("write {number} of a forked child was not refused");
            log.say(Op::Error, 0, 0)?;
        }
    }
    Ok(())
}
