//! `keepwarm import FILE|-`: brings in the entries of an archive.

use crate::archive::{self, Broken, Record, Sink};
use crate::arrival::{Arrivals, Gate};
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::output::{self, Output};
use crate::progress;
use crate::units;
use clap::Args;
use keepwarm::{Artifact, NamespaceId, Store as _};
use serde::Serialize;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// So many damaged members are told one by one.
const TOLD: usize = 100;

/// Bring in the entries of an archive that `keepwarm export` made
///
/// Every artifact is hashed before it is stored. Where a key is there already, the newer entry stays.
/// Of a damaged archive what verifies is brought in, and the rest told of with exit code 1. What an
/// archive binds to a key is what its maker says: import only from whom you would run a program.
#[derive(Args, Debug)]
pub(crate) struct Import {
    /// The archive; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Only entries of this namespace; may be given several times
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,

    /// Let entries of the archive replace newer ones too
    #[arg(long)]
    overwrite: bool,

    /// Stop at an archive that unpacks to more than this [default: $KEEPWARM_MAX_SIZE, else 5G]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_size: Option<u64>,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    complete: bool,
    problem: Option<String>,
    entries: u64,
    #[serde(flatten)]
    arrivals: Arrivals,
    left_out: u64,
    damaged: u64,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    member: String,
    problem: &'static str,
}

/// Takes what is found in the archive.
struct Incoming<'a> {
    gate: Gate<'a>,
    namespaces: HashSet<NamespaceId>,
    entries: u64,
    left_out: u64,
    damaged: u64,
    findings: Vec<Finding>,
}

impl Sink for Incoming<'_> {
    fn entry(&mut self, record: Record, content: &Artifact) -> Result<()> {
        self.entries += 1;
        if !self.namespaces.is_empty() && !self.namespaces.contains(&record.namespace) {
            self.left_out += 1;
            return Ok(());
        }
        self.gate.enter(&record, content)
    }

    fn damaged(&mut self, member: String, problem: &'static str) {
        self.damaged += 1;
        if self.findings.len() < TOLD {
            self.findings.push(Finding { member, problem });
        }
    }
}

impl Import {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        // No directory is made for what is not there.
        let (from, length) = self.open()?;
        let store = context.create()?;
        let mut incoming = Incoming {
            gate: Gate::new(&store, self.overwrite),
            namespaces: self.namespace.iter().map(|n| NamespaceId::of(n)).collect(),
            entries: 0,
            left_out: 0,
            damaged: 0,
            findings: Vec::new(),
        };
        let most = self.max_size.unwrap_or(context.settings().max_size);
        let bar = match length {
            Some(length) => progress::bytes(length, "importing"),
            None => progress::spinner("importing"),
        };
        let read = archive::read(from, most, |n| bar.set_position(n), &mut incoming);
        bar.finish_and_clear();
        // What came before a failure is there, and stays.
        store.flush()?;
        let failure = match read {
            Ok(()) => None,
            Err(broken) if incoming.entries == 0 && incoming.damaged == 0 => {
                return Err(self.explain(broken, most));
            }
            Err(broken) => Some(self.explain(broken, most)),
        };
        let report = Report {
            complete: failure.is_none(),
            problem: failure.as_ref().map(|failure| failure.what().to_owned()),
            entries: incoming.entries,
            arrivals: incoming.gate.arrivals,
            left_out: incoming.left_out,
            damaged: incoming.damaged,
            findings: incoming.findings,
        };
        out.report(&report, text)?;
        tell(&report);
        match failure {
            Some(failure) => Err(failure),
            None if report.damaged + report.arrivals.too_large > 0 => Ok(Outcome::Finding),
            None => Ok(Outcome::Done),
        }
    }

    /// The bytes of the archive, and how many there are, if that is known.
    fn open(&self) -> Result<(Box<dyn Read>, Option<u64>)> {
        if self.file == Path::new("-") {
            return Ok((Box::new(io::stdin().lock()), None));
        }
        let failed = |e: io::Error| Failure::io("read", &self.file, &e);
        let file = File::open(&self.file).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        let length = meta.is_file().then_some(meta.len());
        Ok((Box::new(file), length))
    }

    fn explain(&self, broken: Broken, most: u64) -> Failure {
        let file = match self.file.as_path() {
            path if path == Path::new("-") => "standard input".to_owned(),
            path => units::printable(&path.display().to_string()),
        };
        match broken {
            Broken::Sink(failure) => failure,
            Broken::NoArchive(why) => {
                Failure::failed(format!("{file} is no archive of keepwarm's: {why}"))
                    .advise("`keepwarm export FILE` makes one.")
            }
            Broken::Version(version) => {
                let what =
                    format!("{file} is an archive of version {version}, which is not known here");
                Failure::failed(what).advise(
                    "Use a newer keepwarm, or export with this one. Nothing was brought in.",
                )
            }
            Broken::Damaged(why) => Failure::failed(format!("{file} is damaged: {why}"))
                .advise("What came before was brought in. Export it anew, or copy it again."),
            Broken::Refused(why) => {
                Failure::failed(format!("{file} was not made by keepwarm: {why}"))
                    .advise("What came before was brought in. Import only from whom you trust.")
            }
            Broken::TooLarge => {
                let most = units::size(most);
                Failure::failed(format!("{file} unpacks to more than {most}")).advise(
                    "What came before was brought in. Export less with --recent SIZE; or, if it is meant \
                     to be so large, give --max-size SIZE, and KEEPWARM_MAX_SIZE to keep it all.",
                )
            }
        }
    }
}

/// Tells people of what is missing.
fn tell(report: &Report) {
    for Finding { member, problem } in &report.findings {
        output::note(&format!("{member}: {problem}"));
    }
    let told = report.findings.len() as u64;
    if report.damaged > told {
        output::note(&format!("and {} more", units::count(report.damaged - told)));
    }
    if report.arrivals.too_large > 0 {
        output::note("Set KEEPWARM_MAX_SIZE to more for artifacts that are too large.");
    }
}

fn text(report: &Report) -> String {
    let mut text = report.arrivals.text();
    for (count, what) in [
        (report.left_out, "of other namespaces left out"),
        (report.damaged, "damaged, and not brought in"),
    ] {
        if count > 0 {
            text = format!("{text}{} {what}\n", units::count(count));
        }
    }
    text
}
