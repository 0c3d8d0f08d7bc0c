//! A writer that forks while it holds a handle: again and again, or once, to be killed while its
//! child lives on. The forked children may only read.

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
    #[arg(long, default_value_t = 1)]
    pub(crate) forks: u32,
    /// Fork once and write on for ever; the child reads until there is such a file.
    #[arg(long)]
    pub(crate) until: Option<PathBuf>,
}

/// A forked child must be done by then.
const BOUND: Duration = Duration::from_secs(10);
/// One that lives on ends by then, whatever became of the harness.
const LONGEST_LIFE: Duration = Duration::from_secs(60);

pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let common = &settings.common;
    let mut log = Log::open(&settings.log)?;
    let opened = common.open()?;
    opened.wait_for_index(Duration::from_secs(20));
    let store = opened.store();
    let mut rng = Rng::new(common.seed);
    if let Some(until) = &settings.until {
        // The handles are open by now, that of the lock included, so that the child shares them.
        for key in 0..common.keys {
            put(&mut log, store, common, (key, 1))?;
        }
        if let Fork::Child = fork().map_err(|code| format!("fork: {code}"))? {
            let done = live_on(settings, store, until);
            drop(opened);
            std::process::exit(i32::from(done.is_err()));
        }
        return write_on(&mut log, store, common, &mut rng);
    }
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
                let mut log = Log::open(&settings.children)?;
                let done = child(&mut log, store, common);
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

/// What the parent of a child that lives on does, until it is killed.
fn write_on(
    log: &mut Log,
    store: &dyn Store,
    common: &Common,
    rng: &mut Rng,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    for key in 0..common.keys {
        put(log, store, common, (key, 2))?;
    }
    for generation in 3.. {
        // Half of the keys stay as they are, so that it is seen if something is done to them.
        let key = rng.key(common.keys) / 2 * 2;
        put(log, store, common, (key, generation))?;
        if start.elapsed() > LONGEST_LIFE {
            break;
        }
    }
    Err("nobody killed this process".into())
}

/// What a child does that outlives its parent: reads go on, whatever locks it shares.
fn live_on(settings: &Settings, store: &dyn Store, until: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut log = Log::open(&settings.children)?;
    log.say(Op::Opened, 0, 0)?;
    while !until.exists() && start.elapsed() < LONGEST_LIFE {
        // Not at once: what it tries to write must harm nothing that its parent wrote since the fork.
        std::thread::sleep(Duration::from_millis(20));
        child(&mut log, store, &settings.common)?;
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

/// What a forked child tries to put that is an object, a file of its own.
pub(crate) fn large() -> Vec<u8> {
    vec![2; 300_000]
}

/// Reads what the parent put, and tries to write.
fn child(log: &mut Log, store: &dyn Store, common: &Common) -> Result<(), Box<dyn Error>> {
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
        store.put(&key, large().into()).map(drop),
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
