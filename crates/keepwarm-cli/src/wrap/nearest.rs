//! The nearest entry: what the last run of the same program for the same outputs depended on.

use super::parts::{ARGUMENT, Part};
use keepwarm::{Fingerprint, Namespace};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
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
    let (old, mut last) = split(last.into_iter());
    let (new, now) = split(table(parts).into_iter());
    let mut lines = arguments(&old, &new);
    for (name, digest) in now {
        let what = match last.remove(&name) {
            Some(old) if old == digest => continue,
            Some(_) => "changed",
            None => "is new",
        };
        lines.push(line(&name, what));
    }
    lines.extend(last.keys().map(|name| line(name, "is gone")));
    if lines.is_empty() {
        lines.push("nothing changed: the entry was removed, evicted or damaged".into());
    }
    lines
}

/// Arguments by their place, and everything else.
fn split(
    all: impl Iterator<Item = (Name, String)>,
) -> (BTreeMap<usize, String>, BTreeMap<Name, String>) {
    let (mut arguments, mut others) = (BTreeMap::new(), BTreeMap::new());
    for (name, digest) in all {
        match name.1.parse() {
            Ok(place) if name.0 == ARGUMENT => drop(arguments.insert(place, digest)),
            _ => drop(others.insert(name, digest)),
        }
    }
    (arguments, others)
}

/// What became of the arguments; those that only moved are not told.
fn arguments(old: &BTreeMap<usize, String>, new: &BTreeMap<usize, String>) -> Vec<String> {
    let (was, is): (BTreeSet<_>, BTreeSet<_>) = (old.values().collect(), new.values().collect());
    let gone = |place| old.get(place).is_some_and(|digest| !is.contains(digest));
    let came = |place| new.get(place).is_some_and(|digest| !was.contains(digest));
    let mut lines = Vec::new();
    for place in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let what = match (gone(place), came(place)) {
            (true, true) => "changed",
            (true, false) => "is gone",
            (false, true) => "is new",
            (false, false) => continue,
        };
        lines.push(format!("{ARGUMENT} {place} {what}"));
    }
    if lines.is_empty() && old != new {
        lines.push("the order or number of the arguments changed".into());
    }
    lines
}

fn line(Name(kind, name): &Name, what: &str) -> String {
    match name.as_str() {
        "" => format!("{kind} {what}"),
        name => format!("{kind} {name} {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_only_moved_is_not_told_of() {
        let list = |text: &str| text.split(' ').map(str::to_owned).enumerate().collect();
        for (old, new, told) in [
            ("cc -c a", "cc -c a", ""),
            ("cc -c a", "cc -O2 -c a", "argument 1 is new"),
            ("cc -O2 -c a", "cc -c a", "argument 1 is gone"),
            ("cc -O1 a", "cc -O2 a", "argument 1 changed"),
            (
                "cc -a -b c",
                "cc -b -d c",
                "argument 1 is gone, argument 2 is new",
            ),
            (
                "cc a b",
                "cc b a",
                "the order or number of the arguments changed",
            ),
            (
                "cc a a",
                "cc a",
                "the order or number of the arguments changed",
            ),
        ] {
            assert_eq!(
                arguments(&list(old), &list(new)).join(", "),
                told,
                "{old} {new}"
            );
        }
    }
}
