//! Rounds: contenders in turn, each measurement in a process of its own.

use crate::measure::ChildReport;
use crate::plan::Plan;
use crate::report::{NOT_MEASURED, Report};
use crate::results::Results;
use crate::system;
use crate::workload::{Kind, WORKLOADS, Workload};
use crate::{Args, Fault, child_arguments, disk, memory};
use std::collections::BTreeSet;
use std::fs;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

/// Operations of a traced run.
const TRACED: u64 = 100;
/// The same below callgrind, where nothing but the operations themselves counts.
const COUNTED: u64 = 2000;

struct Runner<'a> {
    args: &'a Args,
    temp: TempDir,
    results: Results,
    report: Report,
    /// Fixtures that are there.
    filled: BTreeSet<PathBuf>,
    has_strace: bool,
    has_valgrind: bool,
}

/// Tells whether keepwarm lost nothing.
pub(crate) fn run(args: &Args) -> Result<bool, Fault> {
    let chosen = chosen(args)?;
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut builder = tempfile::Builder::new();
    let temp = builder
        .prefix("keepwarm-bench-compare-")
        .tempdir_in(parent)?;
    let (has_strace, has_valgrind) = (system::has_strace(), system::has_valgrind());
    if !has_strace && !args.no_strace {
        eprintln!("!!! SKIPPED system calls: strace is not installed");
    }
    if !has_valgrind && args.instructions {
        eprintln!("!!! SKIPPED instructions: valgrind is not installed");
    }
    let report = Report::new(
        &args.out,
        &temp.path().canonicalize()?,
        args.quick,
        args.seed,
    )?;
    let mut runner = Runner {
        args,
        temp,
        results: Results::default(),
        report,
        filled: BTreeSet::new(),
        has_strace: has_strace && !args.no_strace,
        has_valgrind: has_valgrind && args.instructions,
    };
    for (at, workload) in chosen.iter().enumerate() {
        let start = Instant::now();
        runner.workload(workload)?;
        runner.drop_fixtures(&chosen[at + 1..])?;
        runner.report.took(workload.name, start.elapsed())?;
    }
    progress("");
    let Runner {
        temp,
        report,
        results,
        ..
    } = runner;
    let is_good = report.finish(&results, &chosen)?;
    // A million files are not gone at once.
    progress("removing what was measured");
    temp.close()?;
    progress("");
    Ok(is_good)
}

fn chosen(args: &Args) -> Result<Vec<&'static Workload>, Fault> {
    for name in &args.only {
        if !WORKLOADS
            .iter()
            .any(|workload| is_meant(name, workload.name))
        {
            return Err(format!("there is no workload named {name}; --list names all").into());
        }
    }
    for name in &args.contender {
        let mut names = memory::CONTENDERS.iter().map(|contender| contender.name);
        if names.all(|known| known != name) {
            disk::find(name)?;
        }
    }
    let all = WORKLOADS.iter();
    Ok(all
        .filter(|w| args.only.is_empty() || args.only.iter().any(|o| is_meant(o, w.name)))
        .collect())
}

/// A name means itself and all of its variants: `open` is `open-1k` and the others.
fn is_meant(asked: &str, name: &str) -> bool {
    name.strip_prefix(asked)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// A line that the next one replaces; on a terminal only.
fn progress(line: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        // Where nobody can see it, nobody misses it.
        let _ = write!(stderr, "\r\x1b[K{line}");
        let _ = stderr.flush();
    }
}

impl Runner<'_> {
    fn workload(&mut self, workload: &Workload) -> Result<(), Fault> {
        let mut contenders = workload.contenders();
        let wanted = &self.args.contender;
        contenders.retain(|name| wanted.is_empty() || wanted.iter().any(|w| w == name));
        let rounds = self
            .args
            .rounds
            .unwrap_or(if self.args.quick { 2 } else { 5 });
        if let Kind::Disk {
            fixture: true,
            data,
            ..
        } = workload.kind
        {
            for name in &contenders {
                progress(&format!("{}: filling for {name}", workload.name));
                self.fill(workload, name, data(self.args.quick).name)?;
            }
            self.settle()?;
        }
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                // Another one begins each round.
                let at = (turn + usize::try_from(round)?) % contenders.len();
                let name = contenders[at];
                progress(&format!(
                    "{}: round {} of {rounds}, {name}",
                    workload.name,
                    round + 1
                ));
                self.measure(workload, name, round)?;
            }
            self.discard_fresh()?;
        }
        for name in contenders {
            progress(&format!("{}: counting for {name}", workload.name));
            self.count(workload, name)?;
            self.discard_fresh()?;
        }
        Ok(())
    }

    fn trash(&self) -> PathBuf {
        self.temp.path().join("trash")
    }

    /// What was measured in new directories.
    fn discard_fresh(&self) -> Result<(), Fault> {
        let fresh = self.temp.path().join("fresh");
        if fresh.exists() {
            for dir in fs::read_dir(fresh)? {
                system::discard(&dir?.path(), &self.trash())?;
            }
        }
        Ok(())
    }

    /// In a quick run, whose numbers mean nothing, nobody waits for the medium.
    fn settle(&self) -> Result<(), Fault> {
        if self.args.quick {
            return Ok(());
        }
        system::settle(self.temp.path())
    }

    /// Where a measurement finds its directory: the fixture, or a new one.
    fn dir(&self, workload: &Workload, name: &str, round: &str) -> Result<PathBuf, Fault> {
        let dir = match workload.kind {
            Kind::Disk {
                fixture: true,
                data,
                ..
            } => self.fixture(data(self.args.quick).name, disk::find(name)?.family),
            _ => self
                .temp
                .path()
                .join("fresh")
                .join(format!("{name}-{round}")),
        };
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn fixture(&self, data: &str, family: &str) -> PathBuf {
        self.temp.path().join("fixtures").join(data).join(family)
    }

    fn plan(&self, dir: PathBuf, round: u64, traced: Option<u64>) -> Plan {
        let Args { quick, seed, .. } = *self.args;
        Plan {
            seed,
            round,
            quick,
            dir,
            traced,
        }
    }

    fn log(&self) -> PathBuf {
        self.temp.path().join("log")
    }

    fn fill(&mut self, workload: &Workload, name: &str, data: &str) -> Result<(), Fault> {
        let family = disk::find(name)?.family;
        let dir = self.fixture(data, family);
        if self.filled.contains(&dir) {
            return Ok(());
        }
        fs::create_dir_all(&dir)?;
        let arguments = child_arguments(workload.name, family, &self.plan(dir.clone(), 0, None));
        let report = system::child(&[], &system::with("fill", arguments), &self.log())?;
        match report.failure {
            None => drop(self.filled.insert(dir)),
            Some(why) => {
                system::discard(&dir, &self.trash())?;
                let why = format!("{NOT_MEASURED}: {why}");
                self.report.failed(workload.name, name, &why)?;
                self.results.fail(workload.name, name, why);
            }
        }
        Ok(())
    }

    fn measure(&mut self, workload: &Workload, name: &str, round: u64) -> Result<(), Fault> {
        if self.results.failure(workload.name, name).is_some() {
            return Ok(());
        }
        let dir = self.dir(workload, name, &round.to_string())?;
        if let Kind::Disk { .. } = workload.kind {
            self.settle()?;
        }
        let arguments = child_arguments(workload.name, name, &self.plan(dir, round, None));
        let report = system::child(&[], &system::with("child", arguments), &self.log())?;
        let ChildReport { readings, failure } = report;
        if let Some(why) = failure {
            self.report.failed(workload.name, name, &why)?;
            self.results.fail(workload.name, name, why);
            return Ok(());
        }
        for reading in &readings {
            self.report.reading(workload.name, name, round, reading)?;
        }
        self.results.add(workload.name, name, readings);
        Ok(())
    }

    /// System calls, and instructions where asked for: of a run with operations, less those of one
    /// without.
    fn count(&mut self, workload: &Workload, name: &str) -> Result<(), Fault> {
        if workload.traced.is_none() || self.results.failure(workload.name, name).is_some() {
            return Ok(());
        }
        if self.has_strace {
            let without = self.strace(workload, name, 0)?;
            let with = self.strace(workload, name, TRACED)?;
            if let (Some(without), Some(with)) = (without, with) {
                let calls = system::calls_each(&without, &with, TRACED);
                self.report.calls(workload.name, name, &calls)?;
                self.results.set_calls(workload.name, name, calls);
            }
        }
        // Processors that valgrind does not know well give other code to a hash than the real one.
        let is_memory = matches!(workload.kind, Kind::Memory { .. });
        if self.has_valgrind && is_memory {
            let without = self.callgrind(workload, name, 0)?;
            let with = self.callgrind(workload, name, COUNTED)?;
            if let (Some(without), Some(with)) = (without, with) {
                let added = crate::measure::precise(with.saturating_sub(without));
                let each = added / crate::measure::precise(COUNTED);
                self.report.instructions(workload.name, name, each)?;
                self.results.set_instructions(workload.name, name, each);
            }
        }
        Ok(())
    }

    fn strace(
        &self,
        workload: &Workload,
        name: &str,
        operations: u64,
    ) -> Result<Option<std::collections::BTreeMap<String, u64>>, Fault> {
        let table = self.temp.path().join("strace");
        let is_done = self.traced(workload, name, operations, &system::strace(&table))?;
        if !is_done {
            return Ok(None);
        }
        Ok(Some(system::parse_strace(&fs::read_to_string(table)?)))
    }

    fn callgrind(&self, workload: &Workload, name: &str, count: u64) -> Result<Option<u64>, Fault> {
        if !self.traced(workload, name, count, &system::callgrind())? {
            return Ok(None);
        }
        Ok(system::parse_callgrind(&fs::read_to_string(self.log())?))
    }

    fn traced(
        &self,
        workload: &Workload,
        name: &str,
        operations: u64,
        tracer: &[std::ffi::OsString],
    ) -> Result<bool, Fault> {
        let dir = self.dir(workload, name, &format!("traced-{operations}"))?;
        let plan = self.plan(dir, 0, Some(operations));
        let arguments = system::with("child", child_arguments(workload.name, name, &plan));
        let report = system::child(tracer, &arguments, &self.log())?;
        Ok(report.failure.is_none())
    }

    /// Those that nothing later reads.
    fn drop_fixtures(&mut self, later: &[&'static Workload]) -> Result<(), Fault> {
        let is_needed = |dir: &Path| {
            later.iter().any(|workload| match workload.kind {
                Kind::Disk {
                    fixture: true,
                    data,
                    ..
                } => dir.starts_with(self.fixture(data(self.args.quick).name, "")),
                _ => false,
            })
        };
        let unneeded: Vec<PathBuf> = self
            .filled
            .iter()
            .filter(|dir| !is_needed(dir))
            .cloned()
            .collect();
        for dir in unneeded {
            system::discard(&dir, &self.trash())?;
            self.filled.remove(&dir);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_itself_and_its_variants_and_no_other() {
        assert!(is_meant("open", "open-1k") && is_meant("open-1k", "open-1k"));
        assert!(!is_meant("ope", "open-1k") && !is_meant("open-1k", "open-1m"));
    }
}
