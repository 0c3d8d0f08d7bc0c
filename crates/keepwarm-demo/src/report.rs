//! What the user sees: the table, the totals, the counters.

use crate::parent::{Reference, Run};
use crate::protocol::{Counters, Got, Source};
use comfy_table::{CellAlignment, Table, presets};
use std::io::{self, Write};
use std::path::Path;

/// What the report is about.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) reference: &'a [Reference],
    pub(crate) first: &'a Run,
    pub(crate) second: &'a Run,
    pub(crate) disk: DiskUse,
}

/// What the directory takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskUse {
    pub(crate) files: u64,
    /// Allocated, not apparent, where the platform tells.
    pub(crate) bytes: u64,
}

/// How one counter is written.
type Reading = fn(&Counters) -> String;

impl Report<'_> {
    /// Writes the whole report.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\n{}\n", self.shader_table())?;
        self.write_ratios(out)?;
        writeln!(out, "\n{}\n", self.counter_table())?;
        writeln!(
            out,
            "on disk: {} in {} files, for {} of SPIR-V",
            bytes(self.disk.bytes),
            self.disk.files,
            bytes(self.reference.iter().map(|r| r.bytes).sum())
        )
    }

    /// The three columns of times: what they are called, whose round they are, and where the
    /// shaders should have come from.
    fn columns(&self) -> [(&'static str, &Run, usize, Source); 3] {
        [
            ("cold", self.first, 0, Source::Compiled),
            ("warm from disk", self.second, 0, Source::Disk),
            ("warm from memory", self.second, 1, Source::Memory),
        ]
    }

    fn shader_table(&self) -> Table {
        let columns = self.columns();
        let mut table = new_table(&["shader", "bytes", columns[0].0, columns[1].0, columns[2].0]);
        for wanted in self.reference {
            let mut row = vec![wanted.shader.to_owned(), wanted.bytes.to_string()];
            row.extend(columns.map(|(_, run, round, from)| {
                run.of(round, wanted.shader)
                    .map_or_else(|| "-".to_owned(), |got| cell(got, from))
            }));
            table.add_row(row);
        }
        let total: u64 = self.reference.iter().map(|r| r.bytes).sum();
        let mut row = vec!["total".to_owned(), total.to_string()];
        row.extend(columns.map(|(_, run, round, from)| {
            let sum = time(run.round(round).map(|got| got.nanos).sum());
            if run.count(round, from) == run.round(round).count() {
                sum
            } else {
                format!("(mixed) {sum}")
            }
        }));
        table.add_row(row);
        table
    }

    /// How much came warm from where, and how many times faster than compiling just that.
    fn write_ratios(&self, out: &mut impl Write) -> io::Result<()> {
        let shaders = self.reference.len();
        let compiled = self.first.count(0, Source::Compiled);
        if compiled < shaders {
            writeln!(
                out,
                "the directory was warm already: the first process compiled {compiled} of {shaders}"
            )?;
        }
        for (name, run, round, from) in &self.columns()[1..] {
            let warm: Vec<_> = run.round(*round).filter(|got| got.from == *from).collect();
            let nanos = warm.iter().map(|got| got.nanos).sum();
            let count = warm.len();
            write!(
                out,
                "{name}: {count} of {shaders} shaders in {}",
                time(nanos)
            )?;
            if compiled == shaders && count > 0 {
                let cold = warm.iter().filter_map(|got| self.first.of(0, &got.shader));
                let times = ratio(cold.map(|got| got.nanos).sum(), nanos);
                write!(out, ", {times} times faster than compiling them")?;
            }
            writeln!(out)?;
        }
        let (first, second) = (&self.first.summary, &self.second.summary);
        writeln!(
            out,
            "not in these times: open {} and {}, fingerprints {} and {}, flush and close {} and {}",
            time(self.first.open_ns),
            time(self.second.open_ns),
            time(first.fingerprint_ns),
            time(second.fingerprint_ns),
            time(first.close_ns),
            time(second.close_ns)
        )
    }

    fn counter_table(&self) -> Table {
        let mut table = new_table(&["counter", "first process", "second process"]);
        let processes = [self.first, self.second].map(|run| run.summary.counters);
        let rows: [(&str, Reading); 10] = [
            ("shaders compiled", |c| c.builds.to_string()),
            ("hits in memory", |c| c.memory_hits.to_string()),
            ("hits on disk", |c| c.disk_hits.to_string()),
            ("promoted to memory", |c| c.promotions.to_string()),
            ("evicted from memory", |c| c.memory_evictions.to_string()),
            ("demoted to disk", |c| c.demotions.to_string()),
            ("too large for memory", |c| c.memory_rejected.to_string()),
            ("artifacts on disk", |c| c.disk_entries.to_string()),
            ("build time spent", |c| time(c.build_ns)),
            ("build time saved", |c| time(c.build_saved_ns)),
        ];
        for (name, value) in rows {
            let [first, second] = processes.each_ref().map(value);
            table.add_row([name.to_owned(), first, second]);
        }
        table
    }
}

/// A time, and where the shader really came from if that is not what the column says.
fn cell(got: &Got, expected: Source) -> String {
    if got.from == expected {
        time(got.nanos)
    } else {
        format!("({}) {}", got.from.name(), time(got.nanos))
    }
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// `slow / fast` with one decimal below ten; whole numbers need no more.
fn ratio(slow: u64, fast: u64) -> String {
    let tenths = slow.saturating_mul(10) / fast.max(1);
    if tenths < 100 {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        (tenths / 10).to_string()
    }
}

/// A time with three digits or so, in integers.
pub(crate) fn time(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{}.{:02} µs", nanos / 1_000, nanos % 1_000 / 10),
        10_000..1_000_000 => format!("{} µs", nanos / 1_000),
        1_000_000..1_000_000_000 => {
            format!("{}.{:02} ms", nanos / 1_000_000, nanos % 1_000_000 / 10_000)
        }
        _ => format!(
            "{}.{:02} s",
            nanos / 1_000_000_000,
            nanos % 1_000_000_000 / 10_000_000
        ),
    }
}

/// An amount of bytes, in KiB from there on.
pub(crate) fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        format!("{bytes} bytes")
    } else {
        format!("{} KiB", bytes / 1024)
    }
}

/// What the files below `dir` take.
pub(crate) fn disk_use(dir: &Path) -> io::Result<DiskUse> {
    let mut found = DiskUse::default();
    for entry in dir.read_dir()? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let below = disk_use(&entry.path())?;
            found.files += below.files;
            found.bytes += below.bytes;
        } else {
            found.files += 1;
            found.bytes += allocated(&metadata);
        }
    }
    Ok(found)
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_at_every_size() {
        for (nanos, text) in [
            (0, "0.00 µs"),
            (1_234, "1.23 µs"),
            (45_678, "45 µs"),
            (1_230_000, "1.23 ms"),
            (61_500_000_000, "61.50 s"),
        ] {
            assert_eq!(time(nanos), text);
        }
    }

    #[test]
    fn a_ratio_has_a_decimal_only_where_it_matters() {
        assert_eq!(ratio(15, 10), "1.5");
        assert_eq!(ratio(1_000, 10), "100");
        assert_eq!(ratio(1, 0), "1.0");
    }

    #[test]
    fn the_disk_use_counts_files_in_folders() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), [1; 10]).unwrap();
        std::fs::write(dir.path().join("c"), [1; 10]).unwrap();
        assert_eq!(disk_use(dir.path()).unwrap().files, 2);
    }
}
