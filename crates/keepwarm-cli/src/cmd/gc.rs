//! `keepwarm gc`: enforces the budget, and frees what nobody needs.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::Output;
use crate::units;
use clap::Args;
use serde::Serialize;

/// Enforce the budget, and free the space of what is gone already
///
/// The budget is KEEPWARM_MAX_SIZE, or 5 GiB. Where it is exceeded, what was used longest ago goes
/// until nine tenths are left, as it does when a program puts something. Other programs' own budgets are not known here.
#[derive(Args, Debug)]
pub(crate) struct Gc {}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    max_size: u64,
    evicted: u64,
    evicted_bytes: u64,
    disk_bytes_before: u64,
    disk_bytes_after: u64,
}

impl Gc {
    #[expect(clippy::unused_self, reason = "as every sub-command")]
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = context.change()?;
        let disk_bytes_before = store.directory_stats()?.cached_bytes;
        let evicted = store.collect()?;
        let sum = |of: fn(&keepwarm::Eviction) -> u64| {
            evicted.iter().map(of).fold(0, u64::saturating_add)
        };
        let report = Report {
            max_size: context.settings().max_size,
            evicted: sum(|eviction| eviction.entries),
            evicted_bytes: sum(|eviction| eviction.bytes),
            disk_bytes_before,
            disk_bytes_after: store.directory_stats()?.cached_bytes,
        };
        out.report(&report, |report| {
            let (entries, bytes) = (
                units::entries(report.evicted),
                units::size(report.evicted_bytes),
            );
            let change = units::change(report.disk_bytes_before, report.disk_bytes_after);
            format!("evicted {entries} of {bytes}\n{change}\n")
        })?;
        Ok(Outcome::Done)
    }
}
