//! `keepwarm namespaces`: what each namespace has.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::item;
use crate::output::{Format, Output, Table};
use crate::units;
use clap::Args;
use keepwarm::NamespaceInfo;
use serde::Serialize;
use std::cmp::Reverse;
use std::time::SystemTime;

/// List the namespaces, the largest first
///
/// Entries outside every namespace stand in a line of their own, `-`.
#[derive(Args, Debug)]
pub(crate) struct Namespaces {}

/// A namespace as `--format json` prints it. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Item {
    name: Option<String>,
    id: Option<String>,
    entries: u64,
    bytes: u64,
    disk_bytes: u64,
    build_nanos: u64,
    last_used: String,
    oldest_put: String,
    newest_put: String,
}

impl Item {
    fn new(info: &NamespaceInfo) -> Self {
        Self {
            name: info.name.clone(),
            id: units::namespace_id(info.id),
            entries: info.entries,
            bytes: info.bytes,
            disk_bytes: info.disk_bytes,
            build_nanos: units::nanos(info.build_cost),
            last_used: units::timestamp(info.last_used),
            oldest_put: units::timestamp(info.oldest_put),
            newest_put: units::timestamp(info.newest_put),
        }
    }
}

impl Namespaces {
    #[expect(clippy::unused_self, reason = "as every sub-command")]
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = context.look()?;
        let mut all = store.namespaces()?;
        all.sort_by_key(|info| (Reverse(info.disk_bytes), info.id));
        if out.format() == Format::Json {
            out.json(&all.iter().map(Item::new).collect::<Vec<_>>())?;
        } else {
            out.text(&text(&all))?;
        }
        Ok(Outcome::Done)
    }
}

fn text(all: &[NamespaceInfo]) -> String {
    let now = SystemTime::now();
    let columns = [
        "NAMESPACE",
        ">ENTRIES",
        ">SIZE",
        ">ON DISK",
        ">USED",
        ">NEWEST",
        ">COST",
    ];
    let mut table = Table::with_header(&columns);
    for info in all {
        table.row([
            item::shown(info.id, info.name.as_deref()),
            units::count(info.entries),
            units::size(info.bytes),
            units::size(info.disk_bytes),
            units::age(info.last_used, now),
            units::age(info.newest_put, now),
            units::cost(info.build_cost),
        ]);
    }
    table.render()
}
