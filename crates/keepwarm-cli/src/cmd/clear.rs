//! `keepwarm clear`: throws everything away.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::Output;
use crate::units;
use clap::Args;
use keepwarm::{NamespaceId, Store as _};
use serde::Serialize;

/// Throw everything away, or everything of a namespace
///
/// Programs that use the cache at the moment go on, and put anew what they build. Marks stay.
#[derive(Args, Debug)]
pub(crate) struct Clear {
    /// Only entries of this namespace
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    entries: u64,
    disk_bytes_before: u64,
    disk_bytes_after: u64,
}

impl Clear {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = context.change()?;
        let before = store.directory_stats()?;
        let entries = if let Some(name) = &self.namespace {
            store.remove_namespace(NamespaceId::of(name))?.entries
        } else {
            store.clear()?;
            before.entries
        };
        let report = Report {
            entries,
            disk_bytes_before: before.cached_bytes,
            disk_bytes_after: store.directory_stats()?.cached_bytes,
        };
        out.report(&report, |report| {
            let change = units::change(report.disk_bytes_before, report.disk_bytes_after);
            format!("removed {}\n{change}\n", units::entries(report.entries))
        })?;
        Ok(Outcome::Done)
    }
}
