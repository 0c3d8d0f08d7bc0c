//! `keepwarm stats`: what is in the directory, and what all processes did with it.

use crate::context::Context;
use crate::counters::{self, Counters};
use crate::failure::{Failure, Outcome, Result};
use crate::metrics;
use crate::output::{self, Format, Output, Table};
use crate::units;
use clap::Args;
use keepwarm::{DiskStore, StoredAs};
use serde::Serialize;

/// Show how large the cache is, what it was asked for and what it saved
///
/// What a running process did last shows about a second later. Counters are those of all processes
/// since the directory was made, since --zero, or since a mark.
#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Count from a mark on, made with `keepwarm mark NAME`
    #[arg(long, value_name = "MARK")]
    since: Option<String>,

    /// Set the counters to zero, once they are shown
    #[arg(long, conflicts_with = "since")]
    zero: bool,

    /// Also look at every entry: what takes the space
    #[arg(long)]
    detail: bool,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    directory: String,
    mode: &'static str,
    rebuilding: bool,
    pub(crate) max_size: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) entries: u64,
    since: Option<String>,
    pub(crate) counters: Counters,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Detail>,
}

/// What takes the space, from a look at every entry.
#[derive(Debug, Default, Serialize)]
struct Detail {
    entries: u64,
    artifact_bytes: u64,
    inline: Part,
    objects: Part,
    shared: Part,
    dead_bytes: u64,
    build_nanos: u64,
}

/// Entries that are stored in one way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Part {
    entries: u64,
    bytes: u64,
}

impl Detail {
    fn new(store: &DiskStore) -> Result<Self> {
        let mut detail = Self::default();
        let mut live = 0_u64;
        for info in store.entries() {
            let info = info?;
            let part = match info.stored_as {
                StoredAs::Inline => &mut detail.inline,
                StoredAs::Object => &mut detail.objects,
                _ => &mut detail.shared,
            };
            part.entries += 1;
            part.bytes = part.bytes.saturating_add(info.length);
            detail.entries += 1;
            detail.artifact_bytes = detail.artifact_bytes.saturating_add(info.length);
            let cost = units::nanos(info.build_cost);
            detail.build_nanos = detail.build_nanos.saturating_add(cost);
            live = live.saturating_add(info.disk_bytes);
        }
        detail.dead_bytes = store.directory_stats()?.cached_bytes.saturating_sub(live);
        Ok(detail)
    }
}

impl Stats {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if self.since.is_some() && out.format() == Format::Openmetrics {
            return Err(Failure::usage(
                "--since has no part in the format openmetrics, whose counters never go back",
            ));
        }
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = if self.zero {
            context.change()?
        } else {
            context.look()?
        };
        let life = store.directory_stats()?;
        let counted = counters::counted(&store, &life, self.since.as_deref())?;
        let report = Report {
            directory: store.path().display().to_string(),
            mode: context.settings().mode.name(),
            rebuilding: store.is_rebuilding(),
            max_size: context.settings().max_size,
            disk_bytes: life.cached_bytes,
            entries: life.entries,
            since: counted.since,
            counters: counted.counters,
            detail: self.detail.then(|| Detail::new(&store)).transpose()?,
        };
        match out.format() {
            Format::Json => out.json(&report)?,
            Format::Openmetrics => out.text(&metrics::text(&report)?)?,
            Format::Text => out.text(&text(&report))?,
        }
        if self.zero {
            store.zero_directory_stats()?;
            output::note("the counters are zero now");
        }
        Ok(Outcome::Done)
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::facts();
    let mut fact = |name: &str, value: String| table.row([name.to_owned(), value]);
    fact("directory", units::printable(&report.directory));
    let (size, max) = (units::size(report.disk_bytes), units::size(report.max_size));
    let part = units::part(report.disk_bytes, report.max_size);
    fact("on disk", format!("{size} of {max}{part}"));
    fact("entries", units::count(report.entries));
    if let Some(detail) = &report.detail {
        for (name, value) in detail.lines() {
            fact(name, value);
        }
    }
    if report.rebuilding {
        let state = "being rebuilt: some entries are not counted yet";
        fact("index", output::warning(state));
    }
    let since = report.since.as_deref();
    fact(
        "counted since",
        since.unwrap_or("the directory was made").to_owned(),
    );
    for (name, value) in report.counters.lines() {
        let value = match (name, report.counters.corrupt) {
            ("found damaged", 1..) => output::warning(&value),
            _ => value,
        };
        fact(name, value);
    }
    table.render()
}

impl Detail {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let part = |part: Part| {
            let size = units::size(part.bytes);
            format!("{}, {size}", units::entries(part.entries))
        };
        let cost = std::time::Duration::from_nanos(self.build_nanos);
        vec![
            ("artifacts", units::size(self.artifact_bytes)),
            ("  in packs", part(self.inline)),
            ("  in files", part(self.objects)),
            ("  stored already", part(self.shared)),
            ("dead space", units::size(self.dead_bytes)),
            ("took to build", units::duration(cost)),
        ]
    }
}
