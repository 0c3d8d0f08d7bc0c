//! `keepwarm stats`: what is in the directory, and what all processes did with it.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::{Output, Table};
use crate::units;
use clap::Args;
use keepwarm::DirectoryStats;
use serde::Serialize;
use std::time::Duration;

/// Show what is in the cache, and what it saved
#[derive(Args, Debug)]
pub(crate) struct Stats {}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    directory: String,
    mode: &'static str,
    max_size: u64,
    disk_bytes: u64,
    entries: u64,
    counters: Counters,
}

/// What all processes did since `since`, or since the directory was made.
#[derive(Debug, Serialize)]
struct Counters {
    since: Option<String>,
    memory_hits: u64,
    disk_hits: u64,
    misses: u64,
    hit_rate_ppm: Option<u32>,
    puts: u64,
    promotions: u64,
    evictions: u64,
    evicted_bytes: u64,
    deduplicated_bytes: u64,
    corrupt: u64,
    builds: u64,
    build_nanos: u64,
    build_nanos_saved: u64,
}

impl Counters {
    fn new(life: &DirectoryStats) -> Self {
        let asked = life.lookups.saturating_add(life.hits_above);
        let hits = life.hits.saturating_add(life.hits_above);
        let rate = u128::from(hits) * 1_000_000;
        let rate = rate.checked_div(u128::from(asked));
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            since: life.since.map(units::timestamp),
            memory_hits: life.hits_above,
            disk_hits: life.hits,
            misses: life.lookups.saturating_sub(life.hits),
            hit_rate_ppm: rate.and_then(|ppm| u32::try_from(ppm.min(1_000_000)).ok()),
            puts: life.puts,
            promotions: life.promotions,
            evictions: life.evictions,
            evicted_bytes: life.evicted_bytes,
            deduplicated_bytes: life.deduplicated_bytes,
            corrupt: life.corrupt,
            builds: life.builds,
            build_nanos: nanos(life.build_time),
            build_nanos_saved: nanos(life.build_time_saved),
        }
    }
}

impl Stats {
    #[allow(clippy::unused_self, reason = "its flags are still to come")]
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return Ok(Outcome::Done);
        }
        let store = context.look()?;
        let life = store.directory_stats()?;
        let report = Report {
            directory: store.path().display().to_string(),
            mode: context.settings().mode.name(),
            max_size: context.settings().max_size,
            disk_bytes: life.cached_bytes,
            entries: life.entries,
            counters: Counters::new(&life),
        };
        out.report(&report, text)?;
        Ok(Outcome::Done)
    }
}

fn text(report: &Report) -> String {
    let Report { counters, .. } = report;
    let mut table = Table::facts();
    let mut fact = |name: &str, value: String| table.row([name.to_owned(), value]);
    fact("directory", units::printable(&report.directory));
    let (size, max) = (units::size(report.disk_bytes), units::size(report.max_size));
    fact("on disk", format!("{size} of {max}"));
    fact("entries", units::count(report.entries));
    fact("hits in memory", units::count(counters.memory_hits));
    fact("hits on disk", units::count(counters.disk_hits));
    fact("misses", units::count(counters.misses));
    if let Some(ppm) = counters.hit_rate_ppm {
        fact("hit rate", units::percent(ppm));
    }
    let saved = Duration::from_nanos(counters.build_nanos_saved);
    fact("build time saved", units::duration(saved));
    table.render()
}
