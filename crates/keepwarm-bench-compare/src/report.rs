//! JSON lines as numbers come in; at the end a page of Markdown, and a plot a workload.

use crate::Fault;
use crate::disk::{self, Contender, Role};
use crate::measure::{Basis, Reading, Unit};
use crate::memory;
use crate::plot;
use crate::results::{Calls, Results};
use crate::stats::{Summary, text};
use crate::system;
use crate::targets::{Goal, TARGETS, Target};
use crate::workload::Workload;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) struct Report {
    out: PathBuf,
    lines: BufWriter<File>,
    head: String,
    times: Vec<(String, Duration)>,
}

/// How the reason begins where a contender could not be measured.
pub(crate) const NOT_MEASURED: &str = "was not measured";

/// keepwarm's contenders: whose ratios are told.
const OURS: [&str; 5] = [
    "keepwarm-memory",
    "keepwarm-disk",
    "keepwarm-cache",
    "keepwarm-disk-once-per-boot",
    "keepwarm-disk-never",
];

impl Report {
    pub(crate) fn new(out: &Path, dir: &Path, quick: bool, seed: u64) -> Result<Self, Fault> {
        fs::create_dir_all(out)?;
        let lines = BufWriter::new(File::create(out.join("results.jsonl"))?);
        let (machine, versions) = (system::machine(dir), system::versions());
        let mut head = String::new();
        if quick {
            head.push_str(
                "**A quick run: it shows that everything works, its numbers mean nothing.**\n\n",
            );
        }
        for (name, value) in &machine {
            writeln!(head, "- {name}: {value}")?;
        }
        let peers: Vec<String> = versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        writeln!(head, "- peers: {}", peers.join(", "))?;
        writeln!(head, "- seed: {seed}")?;
        let mut report = Self {
            out: out.into(),
            lines,
            head,
            times: Vec::new(),
        };
        let pairs = |pairs: Vec<(&str, String)>| {
            Value::Object(
                pairs
                    .into_iter()
                    .map(|(k, v)| (k.into(), v.into()))
                    .collect(),
            )
        };
        report.line(&json!({
            "type": "run", "quick": quick, "seed": seed,
            "machine": pairs(machine), "peers": pairs(versions),
        }))?;
        Ok(report)
    }

    /// Each line is written at once: what was measured stays, whatever ends the run.
    fn line(&mut self, value: &Value) -> Result<(), Fault> {
        writeln!(self.lines, "{value}")?;
        Ok(self.lines.flush()?)
    }

    pub(crate) fn reading(
        &mut self,
        workload: &str,
        contender: &str,
        round: u64,
        reading: &Reading,
    ) -> Result<(), Fault> {
        self.line(&json!({
            "type": "reading", "workload": workload, "contender": contender, "round": round,
            "metric": reading.metric, "unit": reading.unit, "basis": reading.basis,
            "wall": reading.wall, "cpu": reading.cpu,
        }))
    }

    pub(crate) fn failed(&mut self, w: &str, contender: &str, why: &str) -> Result<(), Fault> {
        self.line(&json!({"type": "failure", "workload": w, "contender": contender, "why": why}))
    }

    pub(crate) fn calls(&mut self, w: &str, contender: &str, calls: &Calls) -> Result<(), Fault> {
        let names: serde_json::Map<String, Value> = calls
            .names
            .iter()
            .map(|(name, each)| (name.clone(), json!(each)))
            .collect();
        self.line(&json!({
            "type": "system calls", "workload": w, "contender": contender,
            "each": calls.each, "names": names,
        }))
    }

    pub(crate) fn instructions(&mut self, w: &str, name: &str, each: f64) -> Result<(), Fault> {
        self.line(&json!({
            "type": "instructions", "workload": w, "contender": name, "each": each,
        }))
    }

    pub(crate) fn took(&mut self, workload: &str, time: Duration) -> Result<(), Fault> {
        self.times.push((workload.into(), time));
        let seconds = time.as_secs_f64();
        self.line(&json!({"type": "time", "workload": workload, "seconds": seconds}))
    }

    /// Writes the page and the plots, and prints the page; tells whether keepwarm never failed.
    pub(crate) fn finish(
        mut self,
        results: &Results,
        workloads: &[&Workload],
    ) -> Result<bool, Fault> {
        let mut page = format!("# keepwarm beside its peers\n\n{}\n", self.head);
        page.push_str(&targets(results));
        page.push_str(&contenders(workloads));
        let mut is_good = true;
        for workload in workloads {
            page.push_str(&section(results, workload));
            fs::write(
                self.out.join(format!("{}.svg", workload.name)),
                plot::svg(results, workload),
            )?;
            for name in workload.contenders() {
                let failure = results.failure(workload.name, name);
                is_good &= failure.is_none() || !OURS.contains(&name);
                for metric in results.metrics(workload.name) {
                    if let Some(summary) = results.summary(workload.name, name, &metric) {
                        self.summary(workload.name, name, &metric, &summary)?;
                    }
                }
            }
        }
        page.push_str("## Time\n\n");
        for (workload, time) in &self.times {
            writeln!(page, "- {workload}: {:.0} s", time.as_secs_f64())?;
        }
        let all: Duration = self.times.iter().map(|(_, time)| *time).sum();
        writeln!(page, "- all: {:.0} s", all.as_secs_f64())?;
        fs::write(self.out.join("report.md"), &page)?;
        println!("{page}");
        println!(
            "Written to {}: report.md, results.jsonl, plots",
            self.out.display()
        );
        Ok(is_good)
    }

    fn summary(&mut self, w: &str, name: &str, metric: &str, s: &Summary) -> Result<(), Fault> {
        self.line(&json!({
            "type": "summary", "workload": w, "contender": name, "metric": metric,
            "unit": s.unit, "basis": s.basis, "wall": s.wall, "cpu": s.cpu,
            "least": s.least, "most": s.most, "rounds": s.rounds,
        }))
    }
}

/// What was to be reached, and what was.
fn targets(results: &Results) -> String {
    let mut lines = String::from(
        "## Targets\n\n| workload | metric | keepwarm | of | reached | target | |\n|---|---|---|---|---|---|---|\n",
    );
    let mut any = false;
    for target in TARGETS {
        let Some(outcome) = target.outcome(results) else {
            continue;
        };
        any = true;
        let Target {
            workload,
            metric,
            ours,
            goal,
        } = target;
        let met = if outcome.is_met { "met" } else { "**missed**" };
        let unit = results
            .summary(workload, ours, metric)
            .map_or(Unit::Times, |s| s.unit);
        let (peer, reached, most) = match goal {
            Goal::Ratio(most, _) => {
                let peer = outcome.peer.unwrap_or("?");
                (
                    peer,
                    format!("{:.2}", outcome.reached),
                    format!("<= {most:.2}"),
                )
            }
            Goal::Value(most) => (
                "",
                text(outcome.reached, unit),
                format!("<= {}", text(*most, unit)),
            ),
            Goal::Calls(most) => (
                "system calls",
                format!("{:.2}", outcome.reached),
                format!("<= {most:.0}"),
            ),
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            lines,
            "| {workload} | {metric} | {ours} | {peer} | {reached} | {most} | {met} |"
        );
    }
    if any { lines + "\n" } else { String::new() }
}

/// Who took part, and what each of them promises.
fn contenders(workloads: &[&Workload]) -> String {
    let is_there = |name: &str| workloads.iter().any(|w| w.contenders().contains(&name));
    let mut lines = String::from(
        "## Contenders\n\n| name | what | verifies what it reads | several processes |\n|---|---|---|---|\n",
    );
    let yes = |is: bool| if is { "yes" } else { "" };
    for contender in memory::CONTENDERS
        .iter()
        .filter(|contender| is_there(contender.name))
    {
        let _ = writeln!(lines, "| {} | {} | | |", contender.name, contender.about);
    }
    for contender in disk::CONTENDERS
        .iter()
        .filter(|contender| is_there(contender.name))
    {
        let (verifies, shared) = (yes(contender.verifies), yes(contender.shared));
        let Contender { name, about, .. } = contender;
        let _ = writeln!(lines, "| {name} | {about} | {verifies} | {shared} |");
    }
    lines + "\n"
}

fn section(results: &Results, workload: &Workload) -> String {
    let mut page = format!("## {}\n\n{}\n\n", workload.name, workload.about);
    let _ = writeln!(page, "![{0}]({0}.svg)\n", workload.name);
    for metric in results.metrics(workload.name) {
        page.push_str(&table(results, workload, &metric));
    }
    for name in workload.contenders() {
        if let Some(failure) = results.failure(workload.name, name) {
            let _ = if failure.starts_with(NOT_MEASURED) {
                writeln!(page, "- {name} {failure}")
            } else {
                writeln!(page, "- **{name} failed**: {failure}")
            };
        }
    }
    if let Some(metric) = workload.traced {
        page.push_str(&calls(results, workload, metric));
    }
    page.push('\n');
    page
}

/// One metric: contenders in their order, and how many times each one's number keepwarm's is.
fn table(results: &Results, workload: &Workload, metric: &str) -> String {
    let names = workload.contenders();
    let summary = |name: &str| results.summary(workload.name, name, metric);
    let Some(first) = names.iter().find_map(|name| summary(name)) else {
        return String::new();
    };
    // A hit ratio is better the higher it is: no ratio of it is told.
    let ours: Vec<&str> = OURS
        .into_iter()
        .filter(|ours| first.unit != Unit::Percent && summary(ours).is_some())
        .collect();
    let has_time = first.cpu.is_some();
    let basis = match (first.cpu, first.basis) {
        (None, _) => "",
        (_, Basis::Cpu) => ", of processor time",
        (_, Basis::Wall) => ", of time that passes",
    };
    let mut head = format!("| {metric} | median{basis} | least .. most |");
    let mut rule = String::from("|---|---|---|");
    if has_time {
        let _ = write!(head, " wall | processor |");
        rule.push_str("---|---|");
    }
    for ours in &ours {
        let _ = write!(head, " {ours} / it |");
        rule.push_str("---|");
    }
    let mut lines = format!("{head}\n{rule}\n");
    for name in names {
        let Some(s) = summary(name) else { continue };
        let unit = s.unit;
        let (least, most) = (text(s.least, unit), text(s.most, unit));
        let _ = write!(
            lines,
            "| {name} | {} | {least} .. {most} |",
            text(s.value(), unit)
        );
        if has_time {
            let cpu = s.cpu.map_or(String::new(), |cpu| text(cpu, unit));
            let _ = write!(lines, " {} | {cpu} |", text(s.wall, unit));
        }
        for ours in &ours {
            let ratio = results.ratio(workload.name, metric, ours, name);
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let _ = write!(lines, " {ratio} |");
        }
        lines.push('\n');
    }
    lines + "\n"
}

/// What was counted from outside.
fn calls(results: &Results, workload: &Workload, metric: &str) -> String {
    let mut lines = String::new();
    for name in workload.contenders() {
        let calls = results.calls(workload.name, name);
        let instructions = results.instructions(workload.name, name);
        if calls.is_none() && instructions.is_none() {
            continue;
        }
        let total = calls.map_or(String::new(), |calls| format!("{:.2}", calls.each));
        let parts: Vec<String> = calls
            .iter()
            .flat_map(|calls| &calls.names)
            .filter(|(_, each)| *each >= 0.05)
            .map(|(call, each)| format!("{call} {each:.1}"))
            .collect();
        let instructions = instructions.map_or(String::new(), |each| format!("{each:.0}"));
        let _ = writeln!(
            lines,
            "| {name} | {total} | {} | {instructions} |",
            parts.join(", ")
        );
    }
    if lines.is_empty() {
        return lines;
    }
    format!("| {metric} | system calls each | which | instructions |\n|---|---|---|---|\n{lines}")
}

/// What a contender is there for; caches in memory have one bound.
pub(crate) fn role(name: &str) -> Role {
    match disk::find(name) {
        Ok(contender) => contender.role,
        Err(_) if OURS.contains(&name) => Role::Keepwarm,
        Err(_) if name == memory::BOUND => Role::Bound,
        Err(_) => Role::Peer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::number;
    use crate::workload;

    fn results() -> Results {
        let mut results = Results::default();
        for (name, value) in [
            ("keepwarm-memory", 50.0),
            ("quick_cache", 100.0),
            ("moka", 25.0),
        ] {
            results.add("memory-hit", name, vec![number("1 thread", value)]);
        }
        results.fail("memory-hit", "moka", "lost entry 1".into());
        results
    }

    #[test]
    fn a_table_has_ratios_of_keepwarm_to_each_peer_and_names_who_failed() {
        let results = results();
        let workload = workload::find("memory-hit").unwrap();
        let page = section(&results, workload);
        let line = page
            .lines()
            .find(|line| line.starts_with("| quick_cache"))
            .unwrap();
        assert!(line.ends_with("| 0.50 |"), "{line}");
        assert!(page.contains("| keepwarm-memory / it |"));
        assert!(page.contains("**moka failed**: lost entry 1"));
        assert!(!page.contains("| moka |"));
    }

    #[test]
    fn a_target_that_is_missed_is_written_in_bold() {
        let mut results = results();
        let page = targets(&results);
        assert!(page.contains("| 0.50 | <= 1.00 | met |"), "{page}");
        results.add(
            "memory-hit",
            "keepwarm-memory",
            vec![number("1 thread", 5000.0); 3],
        );
        assert!(targets(&results).contains("**missed**"));
        assert_eq!(targets(&Results::default()), "");
    }
}
