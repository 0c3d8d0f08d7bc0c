//! Entries that come from elsewhere, an archive or another directory: which of two stays.

use crate::archive::Record;
use crate::failure::{Failure, Result};
use crate::units;
use keepwarm::{Artifact, DiskStore, Entry, NamespaceId, PutStatus, Rejection};
use serde::Serialize;
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What became of what came. Members may be added, never changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Arrivals {
    /// Keys that were not there, or whose artifact was damaged.
    pub(crate) added: u64,
    /// Keys that had something older.
    pub(crate) replaced: u64,
    /// Entries that were there already.
    pub(crate) already_there: u64,
    /// Keys that have something newer, which stays.
    pub(crate) older: u64,
    /// Artifacts that are larger than the cache may be.
    pub(crate) too_large: u64,
    /// Bytes of artifacts that were added or replaced others.
    pub(crate) bytes: u64,
}

impl Arrivals {
    /// Lines for people.
    pub(crate) fn text(&self) -> String {
        let came = units::entries(self.added.saturating_add(self.replaced));
        let mut text = format!("brought in {came} of {}\n", units::size(self.bytes));
        for (count, what) in [
            (self.replaced, "in place of older ones"),
            (self.already_there, "there already"),
            (self.older, "older than what is there, which stays"),
            (self.too_large, "larger than the cache may be"),
        ] {
            if count > 0 {
                text = format!("{text}{} {what}\n", units::count(count));
            }
        }
        text
    }
}

/// What is to be done with an entry that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Add,
    Replace,
    /// Exactly this is there.
    Same,
    /// What is there is as new or newer, and stays.
    Keep,
}

/// Where entries arrive.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    store: &'a DiskStore,
    overwrite: bool,
    known: HashSet<NamespaceId>,
    pub(crate) arrivals: Arrivals,
}

impl<'a> Gate<'a> {
    /// With `overwrite` what comes replaces what is newer as well.
    pub(crate) fn new(store: &'a DiskStore, overwrite: bool) -> Self {
        Self {
            store,
            overwrite,
            known: HashSet::new(),
            arrivals: Arrivals::default(),
        }
    }

    /// The newer one wins, to the second; of two of the same second the one that is there.
    pub(crate) fn judge(&self, record: &Record) -> Result<Verdict> {
        let Some(here) = self.store.info(&record.key)? else {
            return Ok(Verdict::Add);
        };
        if here.digest == record.digest && here.namespace == record.namespace {
            return Ok(Verdict::Same);
        }
        // What says that it comes from the future tells nothing.
        let is_past = record.put_at <= SystemTime::now();
        let is_newer = is_past && seconds(record.put_at) > seconds(here.put_at);
        let wins = self.overwrite || is_newer;
        Ok(if wins {
            Verdict::Replace
        } else {
            Verdict::Keep
        })
    }

    /// Lets an entry in, whose bytes are verified, if it may come in.
    pub(crate) fn enter(&mut self, record: &Record, artifact: &Artifact) -> Result<()> {
        let verdict = self.judge(record)?;
        if verdict == Verdict::Keep {
            self.arrivals.older += 1;
            return Ok(());
        }
        if let Some(name) = &record.name {
            if self.known.insert(record.namespace) {
                self.store.register_namespace(name)?;
            }
        }
        // What is there already is compared with what comes, and healed if it is damaged.
        let mut entry = Entry::from(artifact.clone()).with_put_at(record.put_at);
        entry.namespace = record.namespace;
        entry.build_cost = record.build_cost;
        let last_used = record.last_used.unwrap_or(record.put_at);
        let outcome = self.store.put_used_at(&record.key, entry, last_used)?;
        match outcome.status {
            PutStatus::Rejected(Rejection::TooLarge) => {
                self.arrivals.too_large += 1;
                return Ok(());
            }
            PutStatus::Rejected(_) => return Err(Failure::failed("the cache refused an entry")),
            _ => {}
        }
        match (verdict, outcome.status) {
            (_, PutStatus::AlreadyStored) => {
                self.arrivals.already_there += 1;
                return Ok(());
            }
            (Verdict::Replace, _) => self.arrivals.replaced += 1,
            // What was there was damaged.
            _ => self.arrivals.added += 1,
        }
        let bytes = artifact.len() as u64;
        self.arrivals.bytes = self.arrivals.bytes.saturating_add(bytes);
        Ok(())
    }
}

fn seconds(at: SystemTime) -> u64 {
    let since: Duration = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}
