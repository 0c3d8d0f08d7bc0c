//! `keepwarm rebuild`: makes the index anew.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::Output;
use crate::progress;
use crate::units;
use clap::Args;
use serde::Serialize;

/// Make the index anew from what is stored
///
/// For an index that is suspected to be wrong; one that is lost is rebuilt without being asked.
/// Others may go on using the cache.
#[derive(Args, Debug)]
pub(crate) struct Rebuild {}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    entries_before: u64,
    entries: u64,
}

impl Rebuild {
    #[expect(clippy::unused_self, reason = "as every sub-command")]
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = context.change()?;
        let entries_before = store.directory_stats()?.entries;
        let spinner = progress::spinner("rebuilding the index");
        let done = store.rebuild();
        spinner.finish_and_clear();
        done?;
        let report = Report {
            entries_before,
            entries: store.directory_stats()?.entries,
        };
        out.report(&report, |report| {
            format!("the index leads to {}\n", units::entries(report.entries))
        })?;
        Ok(Outcome::Done)
    }
}
