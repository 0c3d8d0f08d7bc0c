//! The nearest entry: what the last run of the same program for the same outputs depended on.

use super::parts::Part;
use keepwarm::{Fingerprint, Namespace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

#[derive(Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Name(String, String);

fn key(program: &OsStr, outputs: &[PathBuf]) -> Fingerprint {
    let start = Fingerprint::builder("keepwarm exec nearest 1");
    let start = start.field("program", program.as_encoded_bytes());
    let all = outputs.iter().fold(start, |key, path| {
        key.field("output", path.as_os_str().as_encoded_bytes())
    });
    all.finish()
}

fn table(parts: &[Part]) -> BTreeMap<Name, String> {
    let line = |part: &Part| {
        let name = part.name.to_string_lossy().into_owned();
        (Name(part.kind.into(), name), part.digest.to_string())
    };
    parts.iter().map(line).collect()
}

/// Notes what a run depended on.
pub(crate) fn remember(within: &Namespace, program: &OsStr, outputs: &[PathBuf], parts: &[Part]) {
    let lines: Vec<_> = table(parts).into_iter().collect();
    if let Ok(bytes) = serde_json::to_vec(&lines) {
        within.put(&key(program, outputs), bytes);
    }
}

/// Says what is different from the last run that was kept.
pub(crate) fn explain(
    within: &Namespace,
    program: &OsStr,
    outputs: &[PathBuf],
    parts: &[Part],
) -> Vec<String> {
    let last = within.get(&key(program, outputs));
    let last: Option<Vec<(Name, String)>> =
        last.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(last) = last else {
        return vec!["this program was not run for these outputs before".into()];
    };
    let mut last: BTreeMap<_, _> = last.into_iter().collect();
    let mut lines = Vec::new();
    for (name, digest) in table(parts) {
        let what = match last.remove(&name) {
            Some(old) if old == digest => continue,
            Some(_) => "changed",
            None => "is new",
        };
        lines.push(line(&name, what));
    }
    lines.extend(last.keys().map(|name| line(name, "is gone")));
    if lines.is_empty() {
        lines.push("nothing changed: the entry was removed or evicted".into());
    }
    lines
}

fn line(Name(kind, name): &Name, what: &str) -> String {
    // A name may hold anything: it is shown on one line.
    let name: String = name.chars().flat_map(char::escape_debug).collect();
    match name.as_str() {
        "" => format!("{kind} {what}"),
        name => format!("{kind} {name} {what}"),
    }
}
