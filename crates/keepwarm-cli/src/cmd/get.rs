//! `keepwarm get KEY`: the bytes of an entry, verified.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::files;
use crate::keys::{self, KeyPrefix};
use crate::output::{Format, Output};
use clap::Args;
use keepwarm::{Artifact, DiskStore, Fingerprint, StoreExt as _};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Write the artifact of a key to standard output, or to a file
///
/// The bytes are verified first, and a file is written aside and renamed, so it is there whole or
/// not at all. A key that is not in the cache is told of with exit code 1.
#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The key, or its first digits if they are those of no other
    #[arg(value_name = "KEY", value_parser = keys::parse_prefix)]
    key: KeyPrefix,

    /// Where to write it; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// KEY is the one that a program uses inside this namespace, and given whole
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    key: String,
    digest: String,
    length: u64,
    file: String,
}

impl Get {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        let file = self
            .output
            .as_deref()
            .filter(|file| *file != Path::new("-"));
        if out.format() == Format::Json && file.is_none() {
            return Err(Failure::usage(
                "`get --format json` needs -o FILE: standard output is for the JSON",
            ));
        }
        if context.is_off() {
            return Ok(Outcome::Finding);
        }
        let store = context.serve()?;
        let (key, artifact) = self.find(&store)?;
        let Some(file) = file else {
            out.bytes(&artifact)?;
            return Ok(Outcome::Done);
        };
        files::write(file, &artifact)?;
        if out.format() == Format::Json {
            out.json(&Report {
                key: key.to_string(),
                digest: artifact.digest().to_string(),
                length: artifact.len() as u64,
                file: file.display().to_string(),
            })?;
        }
        Ok(Outcome::Done)
    }

    fn find(&self, store: &DiskStore) -> Result<(Fingerprint, Artifact)> {
        let key = match (self.key.whole(), &self.namespace) {
            (Some(key), Some(name)) => key.within(name),
            (Some(key), None) => key,
            (None, Some(_)) => {
                return Err(Failure::usage("with --namespace the key is given whole"));
            }
            (None, None) => self.key.get(store)?.key,
        };
        match store.get_artifact(&key)? {
            Some(artifact) => Ok((key, artifact)),
            // It is bound, and what it is bound to is damaged or gone.
            None if store.info(&key)?.is_some() => Err(keys::damaged(&key)),
            None => Err(self.key.missing()),
        }
    }
}
