//! `keepwarm export FILE|-`: packs entries into an archive.

use crate::archive::{Record, Writer};
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::fetch::{Fetched, fetch};
use crate::files::NewFile;
use crate::item::Names;
use crate::output::{self, Format, Output};
use crate::progress;
use crate::units;
use clap::Args;
use keepwarm::{Artifact, Digest, DiskStore, EntryInfo, NamespaceId};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

/// Pack entries into an archive, for `keepwarm import` elsewhere
///
/// The archive is a tar file compressed with zstd. The file is written aside and renamed, so it is
/// there whole or not at all. Others may go on using the cache; nothing counts as used by it. What is
/// found damaged is left out, and told of with exit code 1.
#[derive(Args, Debug)]
pub(crate) struct Export {
    /// The archive, such as cache.tar.zst; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Only so much, before compression: what was used last
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    recent: Option<u64>,

    /// Only entries of this namespace; may be given several times
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,

    /// Leave out when entries were last used, so that mere use does not change the archive
    #[arg(long)]
    without_uses: bool,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Default, Serialize)]
struct Report {
    file: String,
    entries: u64,
    contents: u64,
    bytes: u64,
    archive_bytes: u64,
    left_out: u64,
    gone: u64,
    damaged: Vec<String>,
}

impl Export {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        let to_stdout = self.file == Path::new("-");
        if to_stdout && out.format() == Format::Json {
            return Err(Failure::usage(
                "`export - --format json` needs a FILE: standard output is for the archive",
            ));
        }
        if to_stdout && io::stdout().is_terminal() {
            return Err(
                Failure::usage("an archive is nothing for a terminal").advise(
                    "Give a FILE, or send standard output elsewhere: `keepwarm export - > FILE`.",
                ),
            );
        }
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = context.look()?;
        let mut report = Report {
            file: self.file.display().to_string(),
            ..Report::default()
        };
        let entries = self.choose(&store, &mut report)?;
        let failed = |e: io::Error| {
            if to_stdout {
                Failure::output(e)
            } else {
                Failure::io("write", &self.file, &e)
            }
        };
        let packing = Packing {
            store: &store,
            without_uses: self.without_uses,
            failed: &failed,
        };
        if to_stdout {
            drop(packing.write(&entries, io::stdout().lock(), &mut report)?);
        } else {
            let to = NewFile::create(&self.file).map_err(failed)?;
            let file = packing.write(&entries, to, &mut report)?;
            file.finish().map_err(failed)?;
            out.report(&report, text)?;
        }
        if report.damaged.is_empty() {
            return Ok(Outcome::Done);
        }
        for key in &report.damaged {
            output::note(&format!("{key} is damaged, and left out"));
        }
        output::note("`keepwarm verify --repair` removes what is damaged.");
        Ok(Outcome::Finding)
    }

    /// The entries that are asked for, in the order of their contents.
    fn choose(&self, store: &DiskStore, report: &mut Report) -> Result<Vec<EntryInfo>> {
        let ids: HashSet<_> = self.namespace.iter().map(|n| NamespaceId::of(n)).collect();
        let mut entries = Vec::new();
        for info in store.entries() {
            let info = info?;
            if ids.is_empty() || ids.contains(&info.namespace) {
                entries.push(info);
            }
        }
        // What moves while it is listed may be listed twice.
        entries.sort_by_key(|info| (info.key, Reverse(info.put_at)));
        entries.dedup_by_key(|info| info.key);
        if let Some(most) = self.recent {
            let all = entries.len();
            keep_recent(&mut entries, most);
            report.left_out = (all - entries.len()) as u64;
        }
        entries.sort_by_key(|info| (info.digest, info.key));
        Ok(entries)
    }
}

/// What it takes to write an archive.
struct Packing<'a> {
    store: &'a DiskStore,
    without_uses: bool,
    /// What it means that the archive cannot be written.
    failed: &'a dyn Fn(io::Error) -> Failure,
}

impl Packing<'_> {
    /// Writes the archive, and gives back what it was written to.
    fn write<W: Write>(&self, entries: &[EntryInfo], to: W, report: &mut Report) -> Result<W> {
        let bar = progress::bytes(distinct_bytes(entries), "exporting");
        let mut writer = Writer::new(Counting { to, bytes: 0 }).map_err(self.failed)?;
        let mut names = Names::new(self.store);
        for group in entries.chunk_by(|a, b| a.digest == b.digest) {
            let done = self.group(group, &mut writer, &mut names, report);
            bar.inc(done.inspect_err(|_| bar.finish_and_clear())?);
        }
        bar.finish_and_clear();
        let counting = writer.finish().map_err(self.failed)?;
        report.archive_bytes = counting.bytes;
        Ok(counting.to)
    }

    /// Writes entries that have the same content; tells of how many bytes that is.
    fn group(
        &self,
        group: &[EntryInfo],
        writer: &mut Writer<impl Write>,
        names: &mut Names<'_>,
        report: &mut Report,
    ) -> Result<u64> {
        let Some(artifact) = load(self.store, group, report)? else {
            return Ok(0);
        };
        writer
            .content(group[0].digest, &artifact)
            .map_err(self.failed)?;
        for info in group {
            let mut record = Record::new(info, names.get(info.namespace)?);
            record.last_used = record.last_used.filter(|_| !self.without_uses);
            writer.entry(&record).map_err(self.failed)?;
        }
        let bytes = artifact.len() as u64;
        report.entries += group.len() as u64;
        report.contents += 1;
        report.bytes = report.bytes.saturating_add(bytes);
        Ok(bytes)
    }
}

/// What was used last, until `most` bytes are reached; what does not fit any more is passed over.
/// Bytes that several entries have count once.
fn keep_recent(entries: &mut Vec<EntryInfo>, most: u64) {
    entries.sort_by_key(|info| (Reverse(info.last_used), info.key));
    let mut left = most;
    let mut taken: HashSet<Digest> = HashSet::new();
    entries.retain(|info| {
        if taken.contains(&info.digest) {
            return true;
        }
        let Some(rest) = left.checked_sub(info.length) else {
            return false;
        };
        left = rest;
        taken.insert(info.digest)
    });
}

fn distinct_bytes(entries: &[EntryInfo]) -> u64 {
    let groups = entries.chunk_by(|a, b| a.digest == b.digest);
    let lengths = groups.map(|group| group[0].length);
    lengths.fold(0, u64::saturating_add)
}

/// The content of entries that have the same, verified, from whichever of them still has it. The
/// others had it when they were listed.
fn load(store: &DiskStore, group: &[EntryInfo], report: &mut Report) -> Result<Option<Artifact>> {
    let mut damaged = Vec::new();
    for info in group {
        match fetch(store, info)? {
            Fetched::Artifact(artifact) => return Ok(Some(artifact)),
            Fetched::Gone => report.gone += 1,
            Fetched::Damaged => damaged.push(info.key.to_string()),
        }
    }
    report.damaged.append(&mut damaged);
    Ok(None)
}

/// Counts what is written.
struct Counting<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.to.write(buf)?;
        self.bytes = self.bytes.saturating_add(n as u64);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn text(report: &Report) -> String {
    let (entries, bytes) = (units::entries(report.entries), units::size(report.bytes));
    let (archive, file) = (
        units::size(report.archive_bytes),
        units::printable(&report.file),
    );
    let mut text = format!("exported {entries} of {bytes} to {file}, {archive}\n");
    if report.left_out > 0 {
        let left = units::entries(report.left_out);
        text = format!("{text}left out {left} that were used longer ago\n");
    }
    text
}
