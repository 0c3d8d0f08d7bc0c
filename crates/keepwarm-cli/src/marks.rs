//! Named marks: moments in the life of a directory, kept in it as notes, with the counters of then.

use crate::counters::Counters;
use crate::failure::{Failure, Result};
use crate::units;
use keepwarm::{DiskStore, Mark};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// How the notes of marks begin.
const NOTE: &str = "keepwarm.mark.";
/// A name may have so many characters.
const LONGEST: usize = 64;

/// A mark as it is kept. What is added later must be optional.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Saved {
    mark: String,
    pub(crate) counters: Counters,
}

impl Saved {
    /// The moment; a failure if the note says nonsense.
    pub(crate) fn mark(&self) -> Result<Mark> {
        Ok(self.mark.parse()?)
    }

    /// When it was, by the clock of the time.
    pub(crate) fn time(&self) -> Result<SystemTime> {
        Ok(self.mark()?.time())
    }
}

fn is_number(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// For clap: a name for a new mark.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let valid = (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_allowed);
    if !valid || is_number(text) {
        return Err(format!(
            "expected 1 to {LONGEST} letters, digits, '.', '-' or '_', which are not 16 hexadecimal digits"
        ));
    }
    Ok(text.to_owned())
}

/// Marks the present moment, and keeps it under `name`.
pub(crate) fn save(store: &DiskStore, name: &str) -> Result<Mark> {
    let mark = store.mark()?;
    let saved = Saved {
        mark: mark.to_string(),
        counters: Counters::new(&store.directory_stats()?),
    };
    let note = serde_json::to_vec(&saved)
        .map_err(|e| Failure::failed(format!("could not keep the mark {name}: {e}")))?;
    store.set_note(&format!("{NOTE}{name}"), &note)?;
    Ok(mark)
}

/// What is kept under `name`.
pub(crate) fn load(store: &DiskStore, name: &str) -> Result<Saved> {
    let note = store.note(&format!("{NOTE}{name}"))?.ok_or_else(|| {
        Failure::failed(format!(
            "there is no mark called {}",
            units::printable(name)
        ))
        .advise("`keepwarm mark NAME` makes one, `keepwarm mark` lists those there are.")
    })?;
    let saved: Option<Saved> = serde_json::from_slice(&note).ok();
    saved.filter(|saved| saved.mark().is_ok()).ok_or_else(|| {
        Failure::failed(format!("the mark {name} is damaged"))
            .advise(format!("Make it anew with `keepwarm mark {name}`."))
    })
}

/// Removes the mark called `name`; tells whether there was one.
pub(crate) fn remove(store: &DiskStore, name: &str) -> Result<bool> {
    Ok(store.remove_note(&format!("{NOTE}{name}"))?)
}

/// The names of all marks.
pub(crate) fn names(store: &DiskStore) -> Result<Vec<String>> {
    let notes = store.notes()?;
    let names = notes.iter().filter_map(|note| note.strip_prefix(NOTE));
    Ok(names
        .filter(|name| parse_name(name).is_ok())
        .map(str::to_owned)
        .collect())
}

/// The moment that is meant by a name, or by the 16 digits of a mark itself.
pub(crate) fn resolve(store: &DiskStore, text: &str) -> Result<Mark> {
    if is_number(text) {
        return Ok(text.parse()?);
    }
    load(store, text)?.mark()
}
