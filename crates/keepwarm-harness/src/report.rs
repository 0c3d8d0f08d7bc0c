//! Where the counters go: lines of JSON, and the table of a document.

use crate::scenario::Context;
use crate::tally::Tally;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Rows of the table of figures stand between these.
const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

/// What is done with every finished run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// A line of JSON is appended here.
    pub(crate) json: Option<PathBuf>,
    /// The row of the run is filled in here.
    pub(crate) fill: Option<PathBuf>,
}

impl Report {
    pub(crate) fn tell(
        &self,
        context: &Context,
        scenario: &str,
        tallies: &[Tally],
    ) -> Result<(), Box<dyn Error>> {
        for tally in tallies {
            if let Some(path) = &self.json {
                let mut file = OpenOptions::new().create(true).append(true).open(path)?;
                writeln!(file, "{}", json(context, scenario, tally))?;
            }
            if let Some(path) = &self.fill {
                fill(path, tally.name(), &row(context, tally))?;
            }
        }
        Ok(())
    }
}

/// One object; names and values are ours and need no escapes.
fn json(context: &Context, scenario: &str, tally: &Tally) -> String {
    let pairs = |pairs: &mut dyn Iterator<Item = (&'static str, u64)>| {
        let texts: Vec<String> = pairs.map(|(name, n)| format!("\"{name}\":{n}")).collect();
        texts.join(",")
    };
    let mut text = format!(
        "{{\"scenario\":\"{scenario}\",\"run\":\"{}\",\"form\":\"{}\",\"seed\":{}",
        tally.name(),
        context.form.name(),
        context.seed
    );
    let control = tally.control().map_or("null".into(), |fault| {
        let name = fault.name();
        format!("\"{name}\"")
    });
    let _ = write!(
        text,
        ",\"expected\":{control},\"ok\":{},\"must_be_zero\":{{{}}},\"facts\":{{{}}}}}",
        tally.is_as_expected(),
        pairs(&mut tally.watched()),
        pairs(&mut tally.facts().iter().copied())
    );
    text
}

/// A row of the table.
fn row(context: &Context, tally: &Tally) -> String {
    let texts = |pairs: &mut dyn Iterator<Item = (&'static str, u64)>| {
        let texts: Vec<String> = pairs.map(|(name, n)| format!("{name} {n}")).collect();
        texts.join(", ")
    };
    let facts = texts(&mut tally.facts().iter().copied());
    let counted = match tally.control() {
        Some(fault) => {
            let mut caught = tally.watched().filter(|(name, _)| *name == fault.name());
            format!("must be caught: {}", texts(&mut caught))
        }
        None if tally.is_as_expected() => {
            let names: Vec<_> = tally.watched().map(|(name, _)| name).collect();
            format!("0: {}", names.join(", "))
        }
        None => texts(&mut tally.watched()),
    };
    let (name, form, verdict) = (tally.name(), context.form.name(), tally.verdict());
    format!("| {name} | {form} | {facts} | {counted} | {verdict} |")
}

/// Puts the row where the run's old one is, or at the end of the table.
fn fill(path: &Path, name: &str, row: &str) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let filled = filled(&text, name, row)
        .ok_or_else(|| format!("{} has no lines {BEGIN} and {END}", path.display()))?;
    Ok(fs::write(path, filled)?)
}

fn filled(text: &str, name: &str, row: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().position(|line| *line == BEGIN)?;
    let end = lines.iter().position(|line| *line == END)?;
    let prefix = format!("| {name} |");
    let table = lines.get(begin..end)?;
    match table.iter().position(|line| line.starts_with(&prefix)) {
        Some(old) => lines[begin + old] = row,
        None => lines.insert(end, row),
    }
    Some(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_replaces_that_of_its_run_and_no_other() {
        let text = format!("a\n{BEGIN}\n| run |\n|---|\n| x | 1 |\n| xy | 2 |\n{END}\nb\n");
        let once = filled(&text, "x", "| x | 3 |").unwrap();
        assert_eq!(once, text.replace("| x | 1 |", "| x | 3 |"));
        let more = filled(&once, "z", "| z | 4 |").unwrap();
        assert_eq!(more, once.replace(END, &format!("| z | 4 |\n{END}")));
        assert_eq!(filled("no table", "x", ""), None);
    }
}
