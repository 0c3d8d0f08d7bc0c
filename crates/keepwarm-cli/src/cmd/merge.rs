//! `keepwarm merge DIR...`: the union of several caches.

use crate::archive::Record;
use crate::arrival::{Arrivals, Gate, Verdict};
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::fetch::{Fetched, fetch};
use crate::item::Names;
use crate::output::{self, Output, Table};
use crate::progress;
use crate::units;
use clap::Args;
use keepwarm::{DiskStore, EntryInfo, Fingerprint, NamespaceId, Store as _};
use serde::Serialize;
use std::collections::HashSet;
use std::path::PathBuf;
use std::time::SystemTime;

/// Uses that are told to the cache at once.
const BATCH: usize = 1024;

/// Bring the entries of other cache directories into this one
///
/// The others are only read, and may be in use. Where a key is there already, the newer entry stays.
/// What is found damaged is passed over, and told of with exit code 1.
#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// The cache directories to read
    #[arg(value_name = "DIR", required = true)]
    dirs: Vec<PathBuf>,

    /// Only entries of this namespace; may be given several times
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,

    /// Let entries of the others replace newer ones too
    #[arg(long)]
    overwrite: bool,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    sources: Vec<Source>,
    disk_bytes_before: u64,
    disk_bytes_after: u64,
}

#[derive(Debug, Serialize)]
struct Source {
    directory: String,
    entries: u64,
    #[serde(flatten)]
    arrivals: Arrivals,
    gone: u64,
    damaged: Vec<String>,
}

impl Merge {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        // All of them are there, or nothing is changed.
        let sources = self.dirs.iter().map(|dir| context.look_at(dir));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let store = context.create()?;
        if let Some(same) = sources.iter().find(|source| source.path() == store.path()) {
            let what = format!("{} is the cache itself", same.path().display());
            return Err(Failure::usage(what)
                .advise("Name the others; what they are brought into is given with -C DIR."));
        }
        let disk_bytes_before = store.directory_stats()?.cached_bytes;
        let mut done = Vec::new();
        for source in &sources {
            done.push(self.bring(source, &store)?);
        }
        store.flush()?;
        let report = Report {
            sources: done,
            disk_bytes_before,
            disk_bytes_after: store.directory_stats()?.cached_bytes,
        };
        out.report(&report, text)?;
        let mut outcome = Outcome::Done;
        for source in &report.sources {
            for key in &source.damaged {
                output::note(&format!("{key} is damaged in {}", source.directory));
                outcome = Outcome::Finding;
            }
            if source.arrivals.too_large > 0 {
                output::note("Set KEEPWARM_MAX_SIZE to more for artifacts that are too large.");
                outcome = Outcome::Finding;
            }
        }
        Ok(outcome)
    }

    /// Brings in what one directory has.
    fn bring(&self, source: &DiskStore, store: &DiskStore) -> Result<Source> {
        let entries = self.choose(source)?;
        let mut names = Names::new(source);
        let mut gate = Gate::new(store, self.overwrite);
        let mut found = Source {
            directory: source.path().display().to_string(),
            entries: entries.len() as u64,
            arrivals: Arrivals::default(),
            gone: 0,
            damaged: Vec::new(),
        };
        let total = entries.iter().map(|info| info.length);
        let bar = progress::bytes(total.fold(0, u64::saturating_add), "merging");
        let mut uses: Vec<(Fingerprint, SystemTime)> = Vec::new();
        for info in &entries {
            bar.inc(info.length);
            let record = Record::new(info, names.get(info.namespace)?);
            match gate.judge(&record)? {
                // Most often so, after jobs that began with the same: its bytes are not read.
                Verdict::Same => {
                    gate.arrivals.already_there += 1;
                    uses.push((info.key, info.last_used));
                    if uses.len() == BATCH {
                        store.touch_at(&uses)?;
                        uses.clear();
                    }
                }
                Verdict::Keep => gate.arrivals.older += 1,
                Verdict::Add | Verdict::Replace => match fetch(source, info)? {
                    Fetched::Artifact(artifact) => gate.enter(&record, &artifact)?,
                    Fetched::Gone => found.gone += 1,
                    Fetched::Damaged => found.damaged.push(info.key.to_string()),
                },
            }
        }
        store.touch_at(&uses)?;
        bar.finish_and_clear();
        found.arrivals = gate.arrivals;
        Ok(found)
    }

    /// The entries that are asked for, those used longest ago first: if there is not room for all,
    /// the others stay.
    fn choose(&self, source: &DiskStore) -> Result<Vec<EntryInfo>> {
        let ids: HashSet<_> = self.namespace.iter().map(|n| NamespaceId::of(n)).collect();
        let mut entries = Vec::new();
        for info in source.entries() {
            let info = info?;
            if ids.is_empty() || ids.contains(&info.namespace) {
                entries.push(info);
            }
        }
        entries.sort_by_key(|info| (info.last_used, info.key));
        Ok(entries)
    }
}

fn text(report: &Report) -> String {
    let columns = [
        "FROM", ">ENTRIES", ">NEW", ">NEWER", ">THERE", ">OLDER", ">SIZE",
    ];
    let mut table = Table::with_header(&columns);
    for source in &report.sources {
        let Arrivals {
            added,
            replaced,
            already_there,
            older,
            bytes,
            ..
        } = source.arrivals;
        table.row([
            units::printable(&source.directory),
            units::count(source.entries),
            units::count(added),
            units::count(replaced),
            units::count(already_there),
            units::count(older),
            units::size(bytes),
        ]);
    }
    let change = units::change(report.disk_bytes_before, report.disk_bytes_after);
    format!("{}{change}\n", table.render())
}
