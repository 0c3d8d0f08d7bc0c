//! `keepwarm ci key`: a digest of the live set.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::Output;
use clap::Args;
use keepwarm::{DiskStore, EntryInfo, Fingerprint};
use serde::Serialize;

/// Print a digest of what the cache holds
///
/// It stands for the keys, the artifacts and the namespaces of all entries, and for nothing else: it
/// is the same for a copy of the directory and after export and import, and using an entry does not
/// change it. Where there is no cache yet, it is that of an empty one.
#[derive(Args, Debug)]
pub(crate) struct Key {}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    key: String,
    entries: u64,
    bytes: u64,
}

impl Key {
    #[expect(clippy::unused_self, reason = "as every sub-command")]
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let entries = match context.look_if_there()? {
            Some(store) => all(&store)?,
            None => Vec::new(),
        };
        let report = Report {
            key: digest(&entries).to_string(),
            entries: entries.len() as u64,
            bytes: entries
                .iter()
                .fold(0, |sum, info| u64::saturating_add(sum, info.length)),
        };
        out.report(&report, |report| format!("{}\n", report.key))?;
        Ok(Outcome::Done)
    }
}

/// Every entry once, in the order of the keys.
fn all(store: &DiskStore) -> Result<Vec<EntryInfo>> {
    let mut entries = store.entries().collect::<keepwarm::Result<Vec<_>>>()?;
    // What moves while it is listed may be listed twice.
    entries.sort_by_key(|info| (info.key, std::cmp::Reverse(info.put_at)));
    entries.dedup_by_key(|info| info.key);
    Ok(entries)
}

fn digest(entries: &[EntryInfo]) -> Fingerprint {
    let mut digest = Fingerprint::builder("keepwarm ci key");
    for info in entries {
        digest = digest
            .field("key", info.key.as_bytes())
            .field("content", info.digest.as_bytes())
            .field("namespace", info.namespace.as_u64().to_le_bytes());
    }
    digest.finish()
}
