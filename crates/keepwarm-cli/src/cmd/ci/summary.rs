//! `keepwarm ci summary`: what the cache did for a job, in Markdown.

use crate::context::Context;
use crate::counters::{self, Counters};
use crate::failure::{Failure, Outcome, Result};
use crate::output::{Format, Output};
use crate::settings::Mode;
use crate::units;
use clap::Args;
use keepwarm::{DiskStore, Mark};
use serde::Serialize;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The variable in which GitHub Actions names the file of a job's summary.
const VARIABLE: &str = "GITHUB_STEP_SUMMARY";

/// Tell in Markdown what the cache did
///
/// The table is appended to the file that $GITHUB_STEP_SUMMARY names, or else printed. Where there is
/// no cache yet, it says so, and that is no failure.
#[derive(Args, Debug)]
pub(crate) struct Summary {
    /// Since a mark, made with `keepwarm mark NAME` when the job began
    #[arg(long, value_name = "MARK")]
    since: Option<String>,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    directory: String,
    exists: bool,
    since: Option<String>,
    max_size: u64,
    disk_bytes: u64,
    entries: u64,
    added: Option<Added>,
    /// `null` where nothing is counted: in a cache that is only read.
    counters: Option<Counters>,
}

/// What was put since the mark, and is there.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Added {
    entries: u64,
    bytes: u64,
}

impl Added {
    fn since(store: &DiskStore, mark: Mark) -> Result<Self> {
        let mut added = Self::default();
        for info in store.entries() {
            let info = info?;
            if info.put_at > mark.time() {
                added.entries += 1;
                added.bytes = added.bytes.saturating_add(info.length);
            }
        }
        Ok(added)
    }
}

impl Summary {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let report = self.report(context)?;
        if out.format() == Format::Json {
            out.json(&report)?;
            return Ok(Outcome::Done);
        }
        let text = text(&report);
        match std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => append(&PathBuf::from(path), &text)?,
            None => out.text(&text)?,
        }
        Ok(Outcome::Done)
    }

    fn report(&self, context: &Context) -> Result<Report> {
        let mut report = Report {
            directory: context.directory()?.display().to_string(),
            exists: false,
            since: None,
            max_size: context.settings().max_size,
            disk_bytes: 0,
            entries: 0,
            added: None,
            counters: None,
        };
        let Some(store) = context.look_if_there()? else {
            return Ok(report);
        };
        report.directory = store.path().display().to_string();
        report.exists = true;
        let life = store.directory_stats()?;
        report.disk_bytes = life.cached_bytes;
        report.entries = life.entries;
        if context.settings().mode == Mode::ReadOnly {
            return Ok(report);
        }
        let counted = counters::counted(&store, &life, self.since.as_deref())?;
        report.since = counted.since;
        report.counters = Some(counted.counters);
        if let Some(mark) = counted.mark {
            report.added = Some(Added::since(&store, mark)?);
        }
        Ok(report)
    }
}

/// In one write, so that what several append does not mix.
fn append(path: &Path, text: &str) -> Result<()> {
    let opened = File::options().append(true).create(true).open(path);
    let done = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    done.map_err(|e| {
        Failure::io("append to", path, &e)
            .advise(format!("Unset {VARIABLE} to have it on standard output."))
    })
}

fn text(report: &Report) -> String {
    let directory = code(&report.directory);
    if !report.exists {
        return format!("### keepwarm\n\nThere is no cache in {directory}.\n\n");
    }
    let mut text = format!("### keepwarm\n\n{directory}, ");
    if report.counters.is_some() {
        let since = report.since.as_deref();
        text = format!("{text}counted since {}", since.unwrap_or("it was made"));
    } else {
        text += "only read: what was found in it was not counted";
    }
    text += "\n\n| what | |\n|---|---:|\n";
    let mut row = |name: &str, value: String| text = format!("{text}| {name} | {value} |\n");
    for (name, value) in report.counters.iter().flat_map(Counters::lines) {
        row(name, value);
    }
    if let Some(added) = report.added {
        let bytes = units::size(added.bytes);
        row(
            "added",
            format!("{}, {bytes}", units::entries(added.entries)),
        );
    }
    row("entries", units::count(report.entries));
    let (size, max) = (units::size(report.disk_bytes), units::size(report.max_size));
    let part = units::part(report.disk_bytes, report.max_size);
    row("on disk", format!("{size} of {max}{part}"));
    text + "\n"
}

/// A path as Markdown shows it, whatever is in it.
fn code(path: &str) -> String {
    let path = units::printable(path);
    let longest = path.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if longest > 0 { " " } else { "" };
    format!("{fence}{pad}{path}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_within_its_quotes() {
        assert_eq!(code("/a/b"), "`/a/b`");
        assert_eq!(code("/a`b``c"), "``` /a`b``c ```");
        assert_eq!(code("/a\nb"), "`/a\\nb`");
    }
}
