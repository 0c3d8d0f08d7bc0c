//! One of several processes that want the same artifacts, each of which takes a while to build.

use super::Common;
use crate::content::{Rng, bytes, check, fingerprint};
use clap::Args;
use keepwarm::{Cache, WritePolicy};
use std::error::Error;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Where to say what is built; see [`Said`].
    #[arg(long)]
    pub(crate) log: PathBuf,
    /// Write when memory evicts, not when something is put.
    #[arg(long)]
    pub(crate) on_eviction: bool,
    /// Wait for nobody's build: the control.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// What a line of the log says; a key follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Its builder runs.
    Builds,
    /// It was built here and is on disk.
    Kept,
    /// What was got is not what belongs there.
    Wrong,
    /// All was got, and the cache is closed.
    Done,
}

const WORDS: [(Said, &str); 4] = [
    (Said::Builds, "builds"),
    (Said::Kept, "kept"),
    (Said::Wrong, "wrong"),
    (Said::Done, "done"),
];

impl Said {
    /// Reads a log; a line that a kill cut short is left out.
    pub(crate) fn read(log: &str) -> Vec<(Self, u32)> {
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let parse = |line: &str| {
            let (word, key) = line.split_once(' ')?;
            let (said, _) = WORDS.iter().find(|(_, known)| *known == word)?;
            Some((*said, key.parse().ok()?))
        };
        whole.lines().filter_map(parse).collect()
    }
}

/// Appends a line by one write, so that threads do not mix theirs.
fn say(mut log: &File, said: Said, key: u32) -> io::Result<()> {
    let word = WORDS.iter().find(|(known, _)| *known == said);
    let line = format!("{} {key}\n", word.map_or("?", |(_, word)| word));
    log.write_all(line.as_bytes())
}

type Failed = Box<dyn Error + Send + Sync>;

pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let common = &settings.common;
    let log = File::options().append(true).open(&settings.log)?;
    let mut cache = Cache::builder()
        // Much less than there is, so that much is looked for on disk.
        .memory_budget(1 << 20)
        .disk_budget(common.budget);
    if settings.on_eviction {
        cache = cache.write_policy(WritePolicy::OnEviction);
    }
    if settings.no_wait {
        cache = cache.build_wait(Duration::ZERO);
    }
    let cache = cache.open(&common.dir)?;
    std::thread::scope(|scope| {
        let ask = |thread| ask_for_all(common, &cache, &log, thread);
        let threads = [1, 2].map(|thread| scope.spawn(move || ask(thread)));
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok::<_, Failed>(())
    })
    .map_err(|e| e.to_string())?;
    let stats = cache.stats();
    cache.close()?;
    if stats.faults > 0 {
        return Err(stats.last_fault.unwrap_or_default().into());
    }
    println!(
        "waits {} shared {}",
        stats.process_waits, stats.process_shared_builds
    );
    Ok(say(&log, Said::Done, 0)?)
}

/// All keys, beginning at a random one.
fn ask_for_all(common: &Common, cache: &Cache, log: &File, thread: u64) -> Result<(), Failed> {
    let mut rng = Rng::new(common.seed.rotate_left(8) ^ thread);
    let first = rng.key(common.keys);
    let parent = parent_id();
    let mut built = Vec::new();
    for i in 0..common.keys {
        let key = (first + i) % common.keys;
        let pause = Duration::from_micros(rng.below(16_000));
        let artifact = cache.get_or_insert_with(&fingerprint(key), || {
            say(log, Said::Builds, key)?;
            std::thread::sleep(pause);
            built.push(key);
            Ok::<_, Failed>(bytes(key, 0))
        })?;
        if check(key, &artifact) != Some(0) {
            say(log, Said::Wrong, key)?;
        }
        // Of what this thread put before, nothing waits any more.
        if cache.durability().unwritten_entries == 0 {
            for key in built.drain(..) {
                say(log, Said::Kept, key)?;
            }
        }
        // Not longer than the harness, however that ends.
        if parent_id() != parent {
            return Err("the harness is gone".into());
        }
    }
    Ok(())
}
