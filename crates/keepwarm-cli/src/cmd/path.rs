//! `keepwarm path [KEY]`: where the cache is, or the file of an artifact.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::keys::{self, KeyPrefix};
use crate::output::Output;
use clap::Args;
use keepwarm::StoreExt as _;
use serde::Serialize;
use std::path::Path;

/// Print where the cache is, or which file an artifact is
#[derive(Args, Debug)]
pub(crate) struct PathCommand {
    /// The key of an artifact, or its first digits; only large ones (of more than 256 KiB) are files
    /// of their own, which must not be changed
    #[arg(value_name = "KEY", value_parser = keys::parse_prefix)]
    key: Option<KeyPrefix>,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    exists: bool,
}

impl PathCommand {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        let Some(key) = &self.key else {
            let path = context.directory()?;
            // The whole path where it is there, and as it is said where not.
            let absolute = path.canonicalize().or_else(|_| std::path::absolute(path));
            return print(absolute.as_deref().unwrap_or(path), out);
        };
        if context.is_off() {
            return Ok(Outcome::Finding);
        }
        let store = context.look()?;
        let info = key.get(&store)?;
        let artifact = store.get_artifact(&info.key)?;
        let artifact = artifact.ok_or_else(|| keys::damaged(&info.key))?;
        match artifact.path() {
            Some(path) => print(path, out),
            None => Err(
                Failure::failed(format!("{} has no file of its own", info.key))
                    .advise("`keepwarm get KEY -o FILE` writes one."),
            ),
        }
    }
}

fn print(path: &Path, out: &mut Output) -> Result<Outcome> {
    let report = Report {
        path: path.display().to_string(),
        exists: path.exists(),
    };
    out.report(&report, |report| format!("{}\n", report.path))?;
    Ok(Outcome::Done)
}
