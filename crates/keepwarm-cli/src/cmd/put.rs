//! `keepwarm put KEY FILE`: stores the bytes of a file.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::files;
use crate::keys;
use crate::output::Output;
use crate::units;
use clap::Args;
use keepwarm::{Entry, Fingerprint, PutStatus, Rejection, Store as _};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Store the bytes of a file under a key, and print the key
///
/// What was stored under the key before is replaced. When this returns, the bytes survive a power
/// cut.
#[derive(Args, Debug)]
pub(crate) struct Put {
    /// The key: 64 hexadecimal digits that stand for everything the bytes depend on
    #[arg(value_name = "KEY", value_parser = keys::parse_key)]
    key: Fingerprint,

    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Store it in this namespace, as a program does that uses KEY inside it
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,

    /// How long the bytes took to make, such as 1s or 250ms: what every hit saves
    #[arg(long, value_name = "TIME", value_parser = units::parse_age)]
    cost: Option<Duration>,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    key: String,
    digest: String,
    length: u64,
    already_stored: bool,
}

impl Put {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        // Nothing is read, and waited for, that cannot be stored.
        let store = context.create()?;
        let bytes = files::read(&self.file, context.settings().max_size)?;
        let mut entry = Entry::from(bytes);
        let mut key = self.key;
        if let Some(name) = &self.namespace {
            key = key.within(name);
            entry.namespace = store.register_namespace(name)?;
        }
        entry.build_cost = self.cost.unwrap_or_default();
        let mut report = Report {
            key: key.to_string(),
            digest: entry.artifact.digest().to_string(),
            length: entry.artifact.len() as u64,
            already_stored: false,
        };
        match store.put(&key, entry)?.status {
            PutStatus::AlreadyStored => report.already_stored = true,
            PutStatus::Rejected(Rejection::TooLarge) => {
                return Err(files::too_large(&self.file, context.settings().max_size));
            }
            PutStatus::Rejected(_) => return Err(Failure::failed("the cache refused the entry")),
            _ => {}
        }
        store.flush()?;
        out.report(&report, |report| format!("{}\n", report.key))?;
        Ok(Outcome::Done)
    }
}
