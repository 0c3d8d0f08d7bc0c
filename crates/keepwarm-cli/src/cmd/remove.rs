//! `keepwarm remove KEY...`: removes single entries.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::keys::{self, KeyPrefix};
use crate::output::{self, Output};
use clap::Args;
use keepwarm::{Fingerprint, Store as _};
use serde::Serialize;

/// Remove entries, and print their keys
///
/// Nothing is removed if one of the keys is the beginning of several. A key that is not there is told of with exit
/// code 1; the others are removed.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Keys, or their first digits if they are those of no other
    #[arg(value_name = "KEY", value_parser = keys::parse_prefix, required = true)]
    keys: Vec<KeyPrefix>,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Default, Serialize)]
struct Report {
    removed: Vec<String>,
    missing: Vec<String>,
}

impl Remove {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Finding);
        }
        let store = context.change()?;
        let mut report = Report::default();
        let mut meant: Vec<Fingerprint> = Vec::new();
        for prefix in &self.keys {
            match prefix.find(&store)? {
                Some(info) => meant.push(info.key),
                None => report.missing.push(prefix.to_string()),
            }
        }
        meant.sort_unstable();
        meant.dedup();
        for key in meant {
            let list = if store.remove(&key)? {
                &mut report.removed
            } else {
                &mut report.missing
            };
            list.push(key.to_string());
        }
        // A removal is to survive what a put survives.
        store.flush()?;
        out.report(&report, |report| {
            let lines = report.removed.iter().flat_map(|key| [key.as_str(), "\n"]);
            lines.collect()
        })?;
        for key in &report.missing {
            output::note(&format!("no entry has the key {key}"));
        }
        Ok(if report.missing.is_empty() {
            Outcome::Done
        } else {
            Outcome::Finding
        })
    }
}
