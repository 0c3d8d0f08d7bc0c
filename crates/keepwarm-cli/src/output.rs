//! What is printed: text for people, JSON for programs.
//!
//! Standard output carries the result alone, standard error everything else. Colour is used on a
//! terminal only, and `NO_COLOR` is obeyed: `anstream` sees to both.

use crate::failure::{Failure, Outcome, Result};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table as Grid, presets};
use serde::Serialize;
use std::io::{self, BufWriter, Write};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs: one JSON document, whose members stay
    Json,
    /// For monitoring: OpenMetrics text, of `stats` only
    Openmetrics,
}

/// Standard output, buffered.
pub(crate) struct Output {
    format: Format,
    stdout: BufWriter<anstream::AutoStream<io::Stdout>>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Output {
    /// Standard output in this format.
    pub(crate) fn new(format: Format) -> Self {
        let stdout = BufWriter::with_capacity(1 << 16, anstream::stdout());
        Self { format, stdout }
    }

    /// What was asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Prints text, whose colours show where there is colour.
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        self.stdout
            .write_all(text.as_bytes())
            .map_err(Failure::output)
    }

    /// Prints bytes as they are, on a terminal too.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.flush().map_err(Failure::output)?;
        // Past what takes colours out of text.
        let mut stdout = io::stdout().lock();
        let done = stdout.write_all(bytes).and_then(|()| stdout.flush());
        done.map_err(Failure::output)
    }

    /// Prints a JSON document.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer_pretty(&mut self.stdout, value)
            .map_err(|e| Failure::output(e.into()))?;
        self.text("\n")
    }

    /// Prints a report in the format asked for: what a program reads, or lines for people.
    pub(crate) fn report<T: Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        match self.format {
            Format::Json => self.json(value),
            Format::Text | Format::Openmetrics => self.text(&text(value)),
        }
    }

    /// Tells programs that there is nothing to tell, since the cache is off.
    pub(crate) fn nothing(&mut self, outcome: Outcome) -> Result<Outcome> {
        match self.format {
            Format::Json => self.json(&())?,
            Format::Openmetrics => self.text("# EOF\n")?,
            Format::Text => {}
        }
        Ok(outcome)
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }
}

/// Tells people something beside the result, on standard error.
pub(crate) fn note(text: &str) {
    // Where standard error is closed there is nobody to tell.
    drop(writeln!(anstream::stderr(), "{text}"));
}

/// A bold text, where there is colour.
pub(crate) fn bold(text: &str) -> String {
    let bold = Style::new().bold();
    format!("{bold}{text}{bold:#}")
}

/// A text that warns, where there is colour.
pub(crate) fn warning(text: &str) -> String {
    let yellow = Style::new().fg_color(Some(AnsiColor::Yellow.into()));
    format!("{yellow}{text}{yellow:#}")
}

/// Rows of which the columns are aligned.
#[derive(Debug)]
pub(crate) struct Table {
    grid: Grid,
    has_header: bool,
}

impl Table {
    /// One without a header: names on the left, values on the right of them.
    pub(crate) fn facts() -> Self {
        let mut grid = Grid::new();
        grid.load_style(presets::NOTHING);
        Self {
            grid,
            has_header: false,
        }
    }

    /// One with a header; a column whose name begins with `>` is aligned to the right.
    pub(crate) fn with_header(names: &[&str]) -> Self {
        let mut table = Self::facts();
        table.has_header = true;
        let plain = names.iter().map(|name| name.trim_start_matches('>'));
        table.grid.set_header(plain);
        for (i, name) in names.iter().enumerate() {
            if let (true, Some(column)) = (name.starts_with('>'), table.grid.column_mut(i)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.grid.add_row(cells);
    }

    /// The lines, each with its end.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let all = self.grid.trim_fmt();
        for (i, line) in all.lines().enumerate() {
            // Nothing separates columns but the padding, which is not wanted at the left.
            let line = line.strip_prefix(' ').unwrap_or(line);
            if i == 0 && self.has_header {
                text.push_str(&bold(line));
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        text
    }
}
