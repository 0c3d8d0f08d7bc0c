//! The rules of pruning: what a caller wants to go. Pure; `prune_pass` makes it go.

use super::facts::{Fact, Facts};
use super::listing::time;
use crate::error::{Error, ErrorKind};
use crate::namespace::NamespaceId;
use crate::stats::{Eviction, EvictionReason};
use crate::store::is_past;
use rustc_hash::FxHashSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A moment in the life of a directory, as [`DiskStore::mark`](crate::DiskStore::mark) and
/// [`Cache::mark`](crate::Cache::mark) give it: for "what was not used since".
///
/// It is near the wall clock, but never runs backwards within a directory, whatever the clocks do.
/// It can be printed and read back, to be handed to another process.
///
/// ```
/// use keepwarm::{DiskStore, Mark};
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::open(dir.path())?;
/// let mark = store.mark()?;
/// assert!(store.mark()? > mark);
/// let read: Mark = mark.to_string().parse()?;
/// assert_eq!(read, mark);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub(super) u64);

impl Mark {
    /// The present moment where there is no directory.
    pub(crate) fn now() -> Self {
        Self(crate::store::now())
    }

    /// When it was, by the clock of the time; for people.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # let dir = tempfile::tempdir()?;
    /// let mark = keepwarm::DiskStore::open(dir.path())?.mark()?;
    /// assert!(mark.time() <= SystemTime::now() + Duration::from_secs(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn time(self) -> SystemTime {
        time(self.0)
    }
}

impl fmt::Display for Mark {
    /// Sixteen hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Mark {
    type Err = Error;

    /// Reads what `Display` writes; [`ErrorKind::InvalidConfig`] for anything else.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or_else(|| {
            let action = format!("read the mark {text:?}: it has 16 hexadecimal digits");
            Error::new(ErrorKind::InvalidConfig, action)
        })
    }
}

/// Which rule an entry was pruned by; of several that hold, the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PruneReason {
    /// It was put too long ago.
    OlderThan,
    /// It was not used for too long.
    UnusedFor,
    /// It was not used since the mark.
    UnusedSince,
    /// Nothing in its namespace was used for too long.
    IdleNamespace,
    /// It belongs to the namespace, and there was no other rule.
    Namespace,
    /// It was among those used longest ago, and there was too much.
    Size,
}

impl PruneReason {
    /// The reason in reports of evictions.
    pub(crate) fn eviction(self) -> EvictionReason {
        match self {
            Self::OlderThan | Self::UnusedFor | Self::UnusedSince | Self::IdleNamespace => {
                EvictionReason::Expired
            }
            Self::Namespace | Self::Size => EvictionReason::Removed,
        }
    }
}

/// What to prune; see [`DiskStore::prune`](crate::DiskStore::prune) and
/// [`Cache::prune`](crate::Cache::prune).
///
/// An entry goes if *any* of the rules for age, use and idle namespaces says so. Then, if bytes or
/// entries are limited, more go until that is reached, those used longest ago first. Naming
/// namespaces narrows all that to their entries; with no other rule, all of these go. Without any
/// rule nothing goes.
///
/// ```
/// use keepwarm::{DiskStore, NamespaceId, Prune};
/// use std::time::Duration;
///
/// let day = Duration::from_secs(24 * 60 * 60);
/// let stale = Prune::new().older_than(30 * day).unused_for(7 * day).down_to_bytes(2 << 30);
/// let old_driver = Prune::new().namespace(NamespaceId::of("driver 1"));
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::open(dir.path())?;
/// let would_go = store.prune(&old_driver.dry_run(true))?;
/// assert_eq!(would_go.entries, 0);
/// store.prune(&stale)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "rules do nothing until `prune`"]
pub struct Prune {
    older_than: Option<Duration>,
    unused_for: Option<Duration>,
    unused_since: Option<Mark>,
    idle_namespaces: Option<Duration>,
    namespaces: Vec<NamespaceId>,
    pub(super) bytes: Option<u64>,
    pub(super) entries: Option<u64>,
    pub(super) dry_run: bool,
}

impl Prune {
    /// No rule yet.
    ///
    /// ```
    /// let rules = keepwarm::Prune::new();
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries that were put longer ago than this go.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let rules = keepwarm::Prune::new().older_than(Duration::from_secs(24 * 60 * 60));
    /// ```
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Entries that were not used for longer than this go.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let rules = keepwarm::Prune::new().unused_for(Duration::from_secs(24 * 60 * 60));
    /// ```
    pub fn unused_for(mut self, time: Duration) -> Self {
        self.unused_for = Some(time);
        self
    }

    /// Entries that were not used since the mark go. A put is a use.
    ///
    /// What other processes used counts once they wrote it down: about a second later, what their
    /// memory served up to a minute later, or at their [`Cache::mark`](crate::Cache::mark) or end;
    /// of many keys some count as used up to a minute before they were.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// let mark = store.mark()?;
    /// // ... the job ...
    /// store.prune(&keepwarm::Prune::new().unused_since(mark))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unused_since(mut self, mark: Mark) -> Self {
        self.unused_since = Some(mark);
        self
    }

    /// Entries of namespaces in which nothing was used for longer than this go. Entries outside
    /// every namespace count as those of one more.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let rules = keepwarm::Prune::new().idle_namespaces(Duration::from_secs(24 * 60 * 60));
    /// ```
    pub fn idle_namespaces(mut self, time: Duration) -> Self {
        self.idle_namespaces = Some(time);
        self
    }

    /// Only entries of this namespace, and of others that are named, may go.
    ///
    /// ```
    /// # use keepwarm::{NamespaceId, Prune};
    /// let rules = Prune::new()
    ///     .namespace(NamespaceId::of("driver 1"))
    ///     .namespace(NamespaceId::of("driver 2"));
    /// ```
    pub fn namespace(mut self, id: NamespaceId) -> Self {
        self.namespaces.push(id);
        self
    }

    /// Entries go until packs and objects take no more than this many bytes, dead space included.
    ///
    /// ```
    /// let rules = keepwarm::Prune::new().down_to_bytes(2 << 30);
    /// ```
    pub fn down_to_bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Entries go until there are no more than this.
    ///
    /// ```
    /// let rules = keepwarm::Prune::new().down_to_entries(10_000);
    /// ```
    pub fn down_to_entries(mut self, entries: u64) -> Self {
        self.entries = Some(entries);
        self
    }

    /// Whether to tell only what would go.
    ///
    /// ```
    /// let rules = keepwarm::Prune::new().down_to_bytes(0).dry_run(true);
    /// ```
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether a size is to be reached.
    pub(super) fn has_size(&self) -> bool {
        self.bytes.is_some() || self.entries.is_some()
    }

    fn has_ages(&self) -> bool {
        self.older_than.is_some()
            || self.unused_for.is_some()
            || self.unused_since.is_some()
            || self.idle_namespaces.is_some()
    }

    /// Whether nothing can go.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_size() && !self.has_ages() && self.namespaces.is_empty()
    }

    /// Whether an entry of a namespace may go.
    pub(super) fn is_about(&self, namespace: NamespaceId) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(&namespace)
    }

    /// Why an entry goes of which only namespace and put are known, by the rules that need no more.
    pub(crate) fn reason_in_memory(
        &self,
        namespace: NamespaceId,
        put_at: u64,
        now: u64,
    ) -> Option<PruneReason> {
        let is_old = |age| put_at != 0 && is_past(put_at, age, now);
        if !self.is_about(namespace) {
            None
        } else if self.older_than.is_some_and(is_old) {
            Some(PruneReason::OlderThan)
        } else {
            self.takes_namespaces().then_some(PruneReason::Namespace)
        }
    }

    /// Whether namespaces are named and there is no other rule.
    fn takes_namespaces(&self) -> bool {
        !self.namespaces.is_empty() && !self.has_ages() && !self.has_size()
    }

    /// Whether only a report is asked for.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Which of the keys go by a rule other than size, and why, in the order of `facts`.
    pub(super) fn choose(&self, facts: &Facts, now: u64) -> Vec<Option<PruneReason>> {
        let idle = self.idle_namespaces;
        let idle = idle.map(|time| facts.idle_namespaces(time, now));
        let idle = idle.unwrap_or_default();
        let reason = |fact| self.reason(fact, &idle, now);
        facts.all.iter().map(reason).collect()
    }

    fn reason(&self, fact: &Fact, idle: &FxHashSet<NamespaceId>, now: u64) -> Option<PruneReason> {
        if !self.is_about(fact.namespace) {
            return None;
        }
        let past = |limit: Option<Duration>, at| limit.is_some_and(|age| is_past(at, age, now));
        if past(self.older_than, fact.put_at) {
            Some(PruneReason::OlderThan)
        } else if past(self.unused_for, fact.last_use) {
            Some(PruneReason::UnusedFor)
        } else if self
            .unused_since
            .is_some_and(|mark| fact.last_use <= mark.0)
        {
            Some(PruneReason::UnusedSince)
        } else if idle.contains(&fact.namespace) {
            Some(PruneReason::IdleNamespace)
        } else {
            self.takes_namespaces().then_some(PruneReason::Namespace)
        }
    }
}

/// What went by one rule; part of a [`PruneReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The rule.
    pub reason: PruneReason,
    /// How many entries.
    pub entries: u64,
    /// The lengths of their artifacts, added up.
    pub bytes: u64,
}

/// What a prune did, or would do; see [`Prune`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// Whether nothing was removed, because only a report was asked for.
    pub dry_run: bool,
    /// Entries that went.
    pub entries: u64,
    /// The lengths of their artifacts, added up.
    pub bytes: u64,
    /// The same by rule, in the order of [`PruneReason`]; only rules by which something went.
    pub by_reason: Vec<Pruned>,
    /// Bytes that packs and objects took before, dead space included.
    pub disk_bytes_before: u64,
    /// The same afterwards; of a dry run, the same as before.
    pub disk_bytes_after: u64,
    /// Reports of what went, one for each rule; empty for a dry run.
    pub evictions: Vec<Eviction>,
}

impl PruneReport {
    pub(crate) fn add(&mut self, reason: PruneReason, bytes: u64) {
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        let at = match self.by_reason.binary_search_by_key(&reason, |p| p.reason) {
            Ok(at) => at,
            Err(at) => {
                let none = Pruned {
                    reason,
                    entries: 0,
                    bytes: 0,
                };
                self.by_reason.insert(at, none);
                at
            }
        };
        let sum = &mut self.by_reason[at];
        sum.entries = sum.entries.saturating_add(1);
        sum.bytes = sum.bytes.saturating_add(bytes);
    }
}
