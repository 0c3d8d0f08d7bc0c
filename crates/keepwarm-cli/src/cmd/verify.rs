//! `keepwarm verify [--repair]`: looks at everything, and puts right what is not.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::{self, Output, Table};
use crate::progress;
use crate::units;
use clap::Args;
use keepwarm::{Fault, Finding, VerificationReport};
use serde::Serialize;
use std::ops::ControlFlow;

/// Look at every entry, artifact and file, and tell what is damaged, missing or in excess
///
/// Others may go on using the cache. What is wrong is told of with exit code 1, unless all of it was
/// repaired. A damaged artifact is never served, verified or not.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Put right what is wrong: damaged entries become misses, what nobody needs is removed
    #[arg(long)]
    repair: bool,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    sound: bool,
    entries: u64,
    bytes: u64,
    found: u64,
    repaired: u64,
    packs_of_others: u64,
    index_changed: bool,
    counts: Vec<Count>,
    findings: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Count {
    fault: &'static str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Item {
    fault: &'static str,
    key: Option<String>,
    path: String,
    repaired: bool,
}

/// Every fault, with its name and what it means.
const FAULTS: [(Fault, &str, &str); 9] = [
    (
        Fault::Damaged,
        "damaged",
        "artifacts whose bytes are not those that were put",
    ),
    (
        Fault::Missing,
        "missing",
        "keys whose artifact is not there",
    ),
    (
        Fault::Unindexed,
        "unindexed",
        "entries that the index does not lead to",
    ),
    (
        Fault::Dangling,
        "dangling",
        "places of the index that lead to nothing",
    ),
    (Fault::Orphan, "orphan", "large artifacts that no key needs"),
    (
        Fault::NoPack,
        "no-pack",
        "files that are called like packs, and are none",
    ),
    (
        Fault::Foreign,
        "foreign",
        "files that keepwarm did not make, and leaves alone",
    ),
    (Fault::Totals, "totals", "totals that are wrong"),
    (
        Fault::Unreadable,
        "unreadable",
        "files that could not be read",
    ),
];

fn name(fault: Fault) -> &'static str {
    let found = FAULTS.iter().find(|(other, ..)| *other == fault);
    found.map_or("other", |(_, name, _)| name)
}

impl Verify {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = if self.repair {
            context.change()?
        } else {
            context.look()?
        };
        let bar = progress::bytes(0, "verifying");
        let verification = store
            .verification()
            .repair(self.repair)
            .on_progress(|seen| {
                bar.set_length(seen.bytes_total.max(seen.bytes));
                bar.set_position(seen.bytes);
                ControlFlow::Continue(())
            });
        let seen = verification.run();
        bar.finish_and_clear();
        let seen = seen?;
        let report = Report::new(&seen);
        out.report(&report, |report| text(report, self.repair))?;
        if seen.index_changed {
            output::note("the index was replaced meanwhile: run it again to see all");
        }
        let is_well = report.found == report.repaired && !seen.index_changed;
        Ok(if is_well {
            Outcome::Done
        } else {
            Outcome::Finding
        })
    }
}

impl Report {
    fn new(seen: &VerificationReport) -> Self {
        let counts = FAULTS.iter().map(|(fault, name, _)| Count {
            fault: name,
            count: seen.count(*fault),
        });
        let counts: Vec<Count> = counts.filter(|count| count.count > 0).collect();
        let item = |finding: &Finding| Item {
            fault: name(finding.fault),
            key: finding.key.map(|key| key.to_string()),
            path: finding.path.display().to_string(),
            repaired: finding.repaired,
        };
        Self {
            sound: seen.is_sound(),
            entries: seen.entries,
            bytes: seen.bytes,
            found: counts
                .iter()
                .map(|count| count.count)
                .fold(0, u64::saturating_add),
            repaired: seen.repaired,
            packs_of_others: seen.packs_of_others,
            index_changed: seen.index_changed,
            counts,
            findings: seen.findings.iter().map(item).collect(),
        }
    }
}

fn text(report: &Report, repair: bool) -> String {
    let (entries, bytes) = (units::entries(report.entries), units::size(report.bytes));
    let mut text = format!("{entries}; {bytes} read and verified\n");
    if report.packs_of_others > 0 {
        let packs = units::count(report.packs_of_others);
        text = format!("{text}{packs} packs of processes with a secret were not looked at\n");
    }
    if report.found == 0 {
        return text + "nothing is wrong\n";
    }
    for finding in &report.findings {
        let what = finding.key.clone().unwrap_or_default();
        let state = if finding.repaired { " (repaired)" } else { "" };
        let (fault, path) = (
            output::warning(finding.fault),
            units::printable(&finding.path),
        );
        text = format!(
            "{text}{fault} {what}{}{path}{state}\n",
            if what.is_empty() { "" } else { " " }
        );
    }
    let listed = report.findings.len() as u64;
    if report.found > listed {
        text = format!("{text}and {} more\n", units::count(report.found - listed));
    }
    let mut table = Table::facts();
    for count in &report.counts {
        let found = FAULTS.iter().find(|(_, name, _)| *name == count.fault);
        let meaning = found.map_or("", |(.., meaning)| meaning);
        table.row([
            units::count(count.count),
            count.fault.to_owned(),
            meaning.to_owned(),
        ]);
    }
    text += &table.render();
    let repaired = units::count(report.repaired);
    let foreign = |count: &&Count| count.fault == name(Fault::Foreign);
    let foreign = report.counts.iter().find(foreign);
    let foreign = foreign.map_or(0, |count| count.count);
    if repair {
        text = format!(
            "{text}{repaired} of {} repaired\n",
            units::count(report.found)
        );
    }
    if foreign > 0 && foreign == report.found.saturating_sub(report.repaired) {
        text + "what is foreign can only be removed by hand\n"
    } else if repair {
        text
    } else {
        text + "`keepwarm verify --repair` puts right what can be\n"
    }
}
