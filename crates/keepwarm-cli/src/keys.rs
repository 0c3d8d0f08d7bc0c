//! Keys as people give them: whole, or their first digits, as with git.

use crate::failure::{Failure, Result};
use keepwarm::{DiskStore, EntryInfo, Fingerprint};
use std::fmt;

/// Fewer digits than this name nothing on purpose.
const SHORTEST: usize = 4;
/// How many of several keys are told.
const TOLD: usize = 5;

/// A key, or the beginning of one: 4 to 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyPrefix(String);

/// For clap.
pub(crate) fn parse_prefix(text: &str) -> Result<KeyPrefix, String> {
    let valid =
        (SHORTEST..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !valid {
        return Err("expected a key, or its first digits: 4 to 64 hexadecimal ones".to_owned());
    }
    Ok(KeyPrefix(text.to_ascii_lowercase()))
}

/// The failure that an artifact is bound and not whole.
pub(crate) fn damaged(key: &Fingerprint) -> Failure {
    Failure::failed(format!("the artifact of {key} is damaged, and not served"))
        .advise("`keepwarm verify --repair` removes what is damaged.")
}

/// For clap: a whole key.
pub(crate) fn parse_key(text: &str) -> Result<Fingerprint, String> {
    text.parse()
        .map_err(|e: keepwarm::ParseHexError| format!("{e} (`keepwarm ls --full-keys` shows them)"))
}

impl KeyPrefix {
    /// The whole key that was given, if one was.
    pub(crate) fn whole(&self) -> Option<Fingerprint> {
        self.0.parse().ok()
    }

    /// What the directory knows of the one entry that is meant; `None` if there is none.
    ///
    /// A whole key costs one look-up, a part of one a look at every entry.
    pub(crate) fn find(&self, store: &DiskStore) -> Result<Option<EntryInfo>> {
        if let Some(key) = self.whole() {
            return Ok(store.info(&key)?);
        }
        let mut found: Vec<EntryInfo> = Vec::new();
        for info in store.entries().with_prefix(&self.0)? {
            let info = info?;
            // One that moves meanwhile may be listed twice.
            if found.iter().all(|other| other.key != info.key) {
                found.push(info);
            }
            if found.len() > TOLD {
                break;
            }
        }
        if found.len() < 2 {
            return Ok(found.pop());
        }
        let more = if found.len() > TOLD { ", ..." } else { "" };
        let keys = found.iter().take(TOLD).map(|info| info.key.to_string());
        let keys = keys.collect::<Vec<_>>().join(", ");
        let what = format!(
            "{} is the beginning of more than one key: {keys}{more}",
            self.0
        );
        Err(Failure::failed(what).advise("Give more digits."))
    }

    /// As [`find`](Self::find); it is a failure if there is none.
    pub(crate) fn get(&self, store: &DiskStore) -> Result<EntryInfo> {
        self.find(store)?.ok_or_else(|| self.missing())
    }

    /// The failure that there is no such entry.
    pub(crate) fn missing(&self) -> Failure {
        Failure::failed(format!("no entry has the key {}", self.0))
            .advise("`keepwarm ls` shows what there is; entries that were not used go first.")
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_4_to_64_digits_of_either_case() {
        assert_eq!(parse_prefix("ABcd"), Ok(KeyPrefix("abcd".to_owned())));
        assert!(parse_prefix(&"f".repeat(64)).unwrap().whole().is_some());
        assert!(parse_prefix("abcd").unwrap().whole().is_none());
        for bad in ["", "abc", "wxyz", "abcé", &"f".repeat(65)] {
            assert!(parse_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
