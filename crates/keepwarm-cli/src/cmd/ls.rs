//! `keepwarm ls`: the entries.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::{Format, Output, Table};
use crate::units;
use clap::Args;
use keepwarm::EntryInfo;
use serde::Serialize;
use std::time::SystemTime;

/// How many digits of a key people see.
const SHORT: usize = 16;

/// List the entries
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Only entries whose key begins with these hexadecimal digits
    #[arg(value_name = "PREFIX")]
    prefix: Option<String>,

    /// Show all 64 digits of each key
    #[arg(long)]
    full_keys: bool,
}

/// An entry as `--format json` prints it. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Item {
    key: String,
    length: u64,
    put_at: String,
    last_used: String,
}

impl Item {
    fn new(info: &EntryInfo) -> Self {
        Self {
            key: info.key.to_string(),
            length: info.length,
            put_at: units::timestamp(info.put_at),
            last_used: units::timestamp(info.last_used),
        }
    }
}

impl Ls {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return Ok(Outcome::Done);
        }
        let store = context.look()?;
        let entries = store
            .entries()
            .with_prefix(self.prefix.as_deref().unwrap_or(""))?;
        let entries = entries.collect::<keepwarm::Result<Vec<EntryInfo>>>()?;
        if out.format() == Format::Json {
            out.json(&entries.iter().map(Item::new).collect::<Vec<_>>())?;
        } else {
            out.text(&self.text(&entries))?;
        }
        Ok(Outcome::Done)
    }

    fn text(&self, entries: &[EntryInfo]) -> String {
        let now = SystemTime::now();
        let mut table = Table::with_header(&["KEY", ">SIZE", ">AGE", ">USED"]);
        for info in entries {
            let mut key = info.key.to_string();
            if !self.full_keys {
                key.truncate(SHORT);
            }
            let age = units::age(info.put_at, now);
            let used = units::age(info.last_used, now);
            table.row([key, units::size(info.length), age, used]);
        }
        table.render()
    }
}
