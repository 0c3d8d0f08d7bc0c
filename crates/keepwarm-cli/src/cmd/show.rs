//! `keepwarm show KEY`: everything that is known about an entry.

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::item::{self, Item, Names};
use crate::keys::{self, KeyPrefix};
use crate::output::{self, Format, Output, Table};
use crate::units;
use clap::Args;
use keepwarm::{EntryInfo, StoreExt as _};
use serde::Serialize;
use std::time::SystemTime;

/// Show everything that is known about an entry
///
/// Its artifact is read and verified; nothing counts as used by that. One that is damaged is told of
/// with exit code 1.
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The key, or its first digits if they are those of no other
    #[arg(value_name = "KEY", value_parser = keys::parse_prefix)]
    key: KeyPrefix,
}

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    item: Item,
    /// Whether its artifact is what was put.
    sound: bool,
    /// The file of its artifact, if that has one of its own.
    file: Option<String>,
}

impl Show {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Finding);
        }
        let store = context.look()?;
        let info = self.key.get(&store)?;
        let mut names = Names::new(&store);
        // One that another process replaced meanwhile is as sound.
        let artifact = store.get_artifact(&info.key)?;
        let file = artifact.as_ref().and_then(|artifact| artifact.path());
        let report = Report {
            item: Item::new(&info, &mut names)?,
            sound: artifact.is_some(),
            file: file.map(|file| file.display().to_string()),
        };
        if out.format() == Format::Json {
            out.json(&report)?;
        } else {
            let namespace = names.shown(info.namespace)?;
            out.text(&text(&info, namespace, &report))?;
        }
        Ok(if report.sound {
            Outcome::Done
        } else {
            Outcome::Finding
        })
    }
}

fn text(info: &EntryInfo, namespace: String, report: &Report) -> String {
    let now = SystemTime::now();
    let when = |at| format!("{} ({} ago)", units::timestamp(at), units::age(at, now));
    let mut table = Table::facts();
    let mut fact = |name: &str, value: String| table.row([name.to_owned(), value]);
    fact("key", info.key.to_string());
    fact("digest", info.digest.to_string());
    fact(
        "size",
        format!(
            "{} ({} bytes)",
            units::size(info.length),
            units::count(info.length)
        ),
    );
    fact(
        "on disk",
        format!(
            "{}, {}",
            units::size(info.disk_bytes),
            item::stored_as(info.stored_as)
        ),
    );
    fact("namespace", namespace);
    fact("took to build", units::cost(info.build_cost));
    fact("put", when(info.put_at));
    fact("last used", when(info.last_used));
    fact("uses", units::count(info.hits));
    let state = if report.sound {
        "sound".to_owned()
    } else {
        output::warning("damaged, not served")
    };
    fact("artifact", state);
    if let Some(file) = &report.file {
        fact("file", units::printable(file));
    }
    table.render()
}
