//! `keepwarm prune`: throws away what the rules say.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::marks;
use crate::output::Output;
use crate::units;
use clap::Args;
use keepwarm::{DiskStore, Fingerprint, NamespaceId, Prune, PruneReason, PruneReport};
use serde::Serialize;
use std::time::Duration;

/// Throw away what is old, unused or too much
///
/// An entry goes if any of the rules for age and use says so; then, if there is still too much, what
/// was used longest ago. --namespace narrows all that down, and takes everything of it if there is no other rule.
#[derive(Args, Debug)]
pub(crate) struct PruneCommand {
    /// Until packs and artifacts take no more than this on disk
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_size: Option<u64>,

    /// Until there are no more entries than this
    #[arg(long, value_name = "COUNT")]
    max_entries: Option<u64>,

    /// What was put longer ago than this
    #[arg(long, value_name = "AGE", value_parser = units::parse_age)]
    older_than: Option<Duration>,

    /// What was not used for longer than this
    #[arg(long, value_name = "AGE", value_parser = units::parse_age)]
    unused_for: Option<Duration>,

    /// What was not used since a mark, made with `keepwarm mark NAME`
    #[arg(long, value_name = "MARK")]
    unused_since: Option<String>,

    /// All of every namespace in which nothing was used for longer than this
    #[arg(long, value_name = "AGE", value_parser = units::parse_age)]
    idle_namespaces: Option<Duration>,

    /// Only entries of this namespace; may be given several times
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,

    /// Only tell what would go
    #[arg(long)]
    dry_run: bool,

    /// Tell the key of each entry that goes, and why
    #[arg(short, long)]
    verbose: bool,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    dry_run: bool,
    entries: u64,
    bytes: u64,
    by_reason: Vec<Sum>,
    disk_bytes_before: u64,
    disk_bytes_after: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Key>>,
}

#[derive(Debug, Serialize)]
struct Sum {
    reason: &'static str,
    entries: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Key {
    key: String,
    reason: &'static str,
}

fn name(reason: PruneReason) -> &'static str {
    match reason {
        PruneReason::OlderThan => "older-than",
        PruneReason::UnusedFor => "unused-for",
        PruneReason::UnusedSince => "unused-since",
        PruneReason::IdleNamespace => "idle-namespaces",
        PruneReason::Namespace => "namespace",
        PruneReason::Size => "max-size",
        _ => "other",
    }
}

impl PruneCommand {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if !self.has_rule() {
            return Err(
                Failure::usage("there is no rule that says what goes").advise(
                    "Give one, such as --max-size 2G, --older-than 7d or --namespace NAME; \
                 `keepwarm clear` throws everything away.",
                ),
            );
        }
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        // A dry run changes nothing, so it is for everybody.
        let store = if self.dry_run {
            context.look()?
        } else {
            context.change()?
        };
        let rules = self.rules(&store)?;
        let mut keys = Vec::new();
        let each = |key: &Fingerprint, reason| {
            if self.verbose {
                let (key, reason) = (key.to_string(), name(reason));
                keys.push(Key { key, reason });
            }
        };
        let pruned = store.prune_with(&rules, each)?;
        let report = Report::new(&pruned, self.verbose.then_some(keys));
        out.report(&report, text)?;
        Ok(Outcome::Done)
    }

    fn has_rule(&self) -> bool {
        self.max_size.is_some()
            || self.max_entries.is_some()
            || self.older_than.is_some()
            || self.unused_for.is_some()
            || self.unused_since.is_some()
            || self.idle_namespaces.is_some()
            || !self.namespace.is_empty()
    }

    fn rules(&self, store: &DiskStore) -> Result<Prune> {
        let mut rules = Prune::new().dry_run(self.dry_run);
        if let Some(size) = self.max_size {
            rules = rules.down_to_bytes(size);
        }
        if let Some(entries) = self.max_entries {
            rules = rules.down_to_entries(entries);
        }
        if let Some(age) = self.older_than {
            rules = rules.older_than(age);
        }
        if let Some(time) = self.unused_for {
            rules = rules.unused_for(time);
        }
        if let Some(mark) = &self.unused_since {
            rules = rules.unused_since(marks::resolve(store, mark)?);
        }
        if let Some(time) = self.idle_namespaces {
            rules = rules.idle_namespaces(time);
        }
        for name in &self.namespace {
            rules = rules.namespace(NamespaceId::of(name));
        }
        Ok(rules)
    }
}

impl Report {
    fn new(pruned: &PruneReport, keys: Option<Vec<Key>>) -> Self {
        let sums = pruned.by_reason.iter().map(|sum| Sum {
            reason: name(sum.reason),
            entries: sum.entries,
            bytes: sum.bytes,
        });
        Self {
            dry_run: pruned.dry_run,
            entries: pruned.entries,
            bytes: pruned.bytes,
            by_reason: sums.collect(),
            disk_bytes_before: pruned.disk_bytes_before,
            disk_bytes_after: pruned.disk_bytes_after,
            keys,
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for Key { key, reason } in report.keys.iter().flatten() {
        text = text + key + "  " + reason + "\n";
    }
    let went = if report.dry_run {
        "would remove"
    } else {
        "removed"
    };
    let (entries, bytes) = (units::entries(report.entries), units::size(report.bytes));
    text = format!("{text}{went} {entries} of {bytes}\n");
    for sum in &report.by_reason {
        let (entries, bytes) = (units::entries(sum.entries), units::size(sum.bytes));
        text = format!("{text}  {}: {entries} of {bytes}\n", sum.reason);
    }
    if !report.dry_run {
        let change = units::change(report.disk_bytes_before, report.disk_bytes_after);
        text = format!("{text}{change}\n");
    }
    text
}
