//! `keepwarm ls`: the entries.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::item::{Item, Names};
use crate::output::{Format, Output, Table};
use crate::units;
use clap::{Args, ValueEnum};
use keepwarm::{DiskStore, EntryInfo, NamespaceId};
use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

/// How many digits of a key people see.
const SHORT: usize = 16;

/// List the entries, those used last first
///
/// Nothing counts as used by it, and artifacts are not read.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Only entries whose key begins with these hexadecimal digits
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,

    /// What comes first: what was used last, the largest, the newest, what was used most often, what
    /// took longest to build, or the smallest key
    #[arg(long, value_name = "ORDER", default_value = "used")]
    sort: Sort,

    /// The other way round
    #[arg(short, long)]
    reverse: bool,

    /// Only so many of them
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<usize>,

    /// Only entries of this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,

    /// Only entries that were put longer ago than this
    #[arg(long, value_name = "AGE", value_parser = units::parse_age)]
    older_than: Option<Duration>,

    /// Only entries that were put less long ago than this
    #[arg(long, value_name = "AGE", value_parser = units::parse_age)]
    newer_than: Option<Duration>,

    /// Only entries that were not used for longer than this
    #[arg(long, value_name = "AGE", value_parser = units::parse_age)]
    unused_for: Option<Duration>,

    /// Only artifacts of this size and more
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    min_size: Option<u64>,

    /// Only artifacts of this size and less
    #[arg(long, value_name = "SIZE", value_parser = units::parse_size)]
    max_size: Option<u64>,

    /// Show all 64 digits of each key
    #[arg(long)]
    full_keys: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    Used,
    Size,
    Age,
    Hits,
    Cost,
    Key,
}

impl Ls {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        let prefix = self.prefix.as_deref().unwrap_or("");
        if prefix.len() > 64 || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            let what = format!("{prefix:?} is not the beginning of a key, which is hexadecimal");
            return Err(Failure::usage(what));
        }
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = context.look()?;
        let entries = self.entries(&store, prefix)?;
        let mut names = Names::new(&store);
        if out.format() == Format::Json {
            let items = entries.iter().map(|info| Item::new(info, &mut names));
            out.json(&items.collect::<Result<Vec<_>>>()?)?;
        } else {
            let text = self.text(&entries, &mut names)?;
            out.text(&text)?;
        }
        Ok(Outcome::Done)
    }

    fn entries(&self, store: &DiskStore, prefix: &str) -> Result<Vec<EntryInfo>> {
        let mut listed = store.entries().with_prefix(prefix)?;
        if let Some(name) = &self.namespace {
            listed = listed.in_namespace(NamespaceId::of(name));
        }
        let now = SystemTime::now();
        let wanted = listed.filter(|info| info.as_ref().map_or(true, |i| self.wants(i, now)));
        let mut entries = wanted.collect::<keepwarm::Result<Vec<EntryInfo>>>()?;
        // What moves while it is listed may be listed twice.
        entries.sort_by_key(|info| info.key);
        entries.dedup_by_key(|info| info.key);
        match self.sort {
            Sort::Used => entries.sort_by_key(|info| Reverse(info.last_used)),
            Sort::Size => entries.sort_by_key(|info| Reverse(info.length)),
            Sort::Age => entries.sort_by_key(|info| Reverse(info.put_at)),
            Sort::Hits => entries.sort_by_key(|info| Reverse(info.hits)),
            Sort::Cost => entries.sort_by_key(|info| Reverse(info.build_cost)),
            Sort::Key => {}
        }
        if self.reverse {
            entries.reverse();
        }
        entries.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(entries)
    }

    fn wants(&self, info: &EntryInfo, now: SystemTime) -> bool {
        let age = |at| now.duration_since(at).unwrap_or_default();
        self.older_than.is_none_or(|limit| age(info.put_at) > limit)
            && self.newer_than.is_none_or(|limit| age(info.put_at) < limit)
            && self
                .unused_for
                .is_none_or(|limit| age(info.last_used) > limit)
            && self.min_size.is_none_or(|limit| info.length >= limit)
            && self.max_size.is_none_or(|limit| info.length <= limit)
    }

    fn text(&self, entries: &[EntryInfo], names: &mut Names<'_>) -> Result<String> {
        let now = SystemTime::now();
        let columns = [
            "KEY",
            ">SIZE",
            ">AGE",
            ">USED",
            ">HITS",
            ">COST",
            "NAMESPACE",
        ];
        let mut table = Table::with_header(&columns);
        for info in entries {
            let mut key = info.key.to_string();
            if !self.full_keys {
                key.truncate(SHORT);
            }
            table.row([
                key,
                units::size(info.length),
                units::age(info.put_at, now),
                units::age(info.last_used, now),
                units::count(info.hits),
                units::cost(info.build_cost),
                names.shown(info.namespace)?,
            ]);
        }
        Ok(table.render())
    }
}
