//! Looks at a directory after a fault. Whatever goes wrong here goes wrong in a process that may
//! die of it.

use super::{Common, extras};
use crate::content::{PROBE, bytes, check, fingerprint};
use clap::Args;
use keepwarm::Store;
use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

#[derive(Clone, Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of a command line"
)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Put every key anew in this generation, and tell which cannot be got afterwards.
    #[arg(long)]
    pub(crate) heal: Option<u64>,
    /// Only look.
    #[arg(long)]
    pub(crate) no_probe: bool,
    /// Make the store count what it has: remove something that is worth a pass.
    #[arg(long)]
    pub(crate) settle: bool,
    /// Use everything else that a directory keeps, once.
    #[arg(long)]
    pub(crate) extras: bool,
    /// Clear it at the end.
    #[arg(long)]
    pub(crate) clear: bool,
}

/// Prints `key K G`, `miss K`, `wrong K`, `error WHAT`, `sick K`, `entries N`, `bytes N`,
/// `peak N` and at last `done`.
pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let common = &settings.common;
    let mut out = io::stdout().lock();
    let opened = common.open()?;
    if !opened.wait_for_index(Duration::from_secs(20)) {
        writeln!(out, "error the index is still being rebuilt")?;
    }
    let store = opened.store();
    for key in 0..common.keys {
        match store.get(&fingerprint(key)) {
            Ok(None) => writeln!(out, "miss {key}")?,
            Err(error) => writeln!(out, "error get {key}: {error:?}")?,
            Ok(Some(entry)) => match check(key, &entry.artifact) {
                Some(generation) => writeln!(out, "key {key} {generation}")?,
                None => writeln!(out, "wrong {key}")?,
            },
        }
    }
    if !settings.no_probe {
        probe(store, common.seed, &mut out)?;
    }
    if let Some(generation) = settings.heal {
        heal(store, common, generation, &mut out)?;
    }
    if settings.extras {
        extras::run(common, &mut out)?;
    }
    if settings.clear {
        if let Err(error) = store.clear() {
            writeln!(out, "error clear: {error:?}")?;
        }
    }
    if settings.settle {
        settle(store, common.budget, &mut out)?;
    }
    let stats = opened.directory_stats();
    writeln!(out, "entries {}", stats.entries)?;
    writeln!(out, "bytes {}", stats.cached_bytes)?;
    drop(opened);
    writeln!(out, "peak {}", peak()?)?;
    Ok(writeln!(out, "done")?)
}

/// Whether the store still takes and gives.
fn probe(store: &dyn Store, seed: u64, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for key in PROBE..PROBE + 4 {
        if let Err(error) = store.put(&fingerprint(key), bytes(key, seed).into()) {
            writeln!(out, "error put: {error:?}")?;
        }
    }
    if let Err(error) = store.flush() {
        writeln!(out, "error flush: {error:?}")?;
    }
    for key in PROBE..PROBE + 4 {
        match store.get(&fingerprint(key)) {
            Ok(Some(entry)) if check(key, &entry.artifact) == Some(seed) => {}
            Ok(Some(_)) => writeln!(out, "wrong {key}")?,
            Ok(None) => writeln!(out, "error what was put is missing")?,
            Err(error) => writeln!(out, "error get after put: {error:?}")?,
        }
        if let Err(error) = store.remove(&fingerprint(key)) {
            writeln!(out, "error remove: {error:?}")?;
        }
    }
    Ok(())
}

/// Removals run a pass, which counts, once they left an eighth of the budget behind.
fn settle(store: &dyn Store, budget: u64, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let key = fingerprint(PROBE + 8);
    let bytes = vec![7; usize::try_from(budget / 8 + (64 << 10))?];
    let done = store
        .put(&key, bytes.into())
        .and_then(|_| store.flush())
        .and_then(|()| store.remove(&key));
    if let Err(error) = done {
        writeln!(out, "error settle: {error:?}")?;
    }
    Ok(())
}

fn heal(
    store: &dyn Store,
    common: &Common,
    generation: u64,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let keys = common.keys;
    let evicted = store.stats().evictions;
    for key in 0..keys {
        let bytes = common.bytes(key, generation);
        if let Err(error) = store.put(&fingerprint(key), bytes.into()) {
            writeln!(out, "error heal: {error:?}")?;
        }
    }
    if let Err(error) = store.flush() {
        writeln!(out, "error flush of what heals: {error:?}")?;
    }
    // What was replaced counts until the flush: of what was put as many may be missing as were evicted.
    let mut evicted = store.stats().evictions.saturating_sub(evicted);
    for key in 0..keys {
        let got = store.get(&fingerprint(key));
        if evicted > 0 && matches!(got, Ok(None)) {
            evicted -= 1;
            continue;
        }
        let healed = got.as_ref().is_ok_and(|got| {
            got.as_ref()
                .is_some_and(|entry| check(key, &entry.artifact) == Some(generation))
        });
        if !healed {
            writeln!(out, "sick {key}")?;
        }
    }
    Ok(())
}

/// The most memory this process had, in KiB.
fn peak() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| {
        let value = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        value.trim().parse().ok()
    });
    Ok(peak.unwrap_or(0))
}
