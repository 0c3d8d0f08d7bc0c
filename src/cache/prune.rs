//! Pruning a cache: the directory by the caller's rules, and memory after it.

use super::inner::{Backend, Inner};
use super::{Cache, Namespace};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::{Eviction, Tier};
use crate::store::{Store, now};
use crate::{DiskStore, Mark, MemoryStore, NamespaceInfo, Prune, PruneReason, PruneReport, Tiered};
use std::time::Duration;

impl Cache {
    /// The present moment, for [`Prune::unused_since`]: what this cache serves from now on, from
    /// memory too, counts as used since.
    ///
    /// A job takes a mark at its start, and at its end prunes what it did not use; the mark can be
    /// printed and read by another process.
    ///
    /// # Errors
    ///
    /// If the directory cannot be written.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint, Prune};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let cache = Cache::builder().open(dir.path())?;
    /// let [used, unused] = [1, 2].map(|n| Fingerprint::from_bytes([n; 32]));
    /// cache.put(&used, vec![1]);
    /// cache.put(&unused, vec![2]);
    /// cache.flush()?;
    ///
    /// let mark = cache.mark()?;
    /// assert!(cache.get(&used).is_some());
    /// assert_eq!(cache.prune(&Prune::new().unused_since(mark))?.entries, 1);
    /// assert!(cache.contains(&used) && !cache.contains(&unused));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn mark(&self) -> Result<Mark> {
        let Backend::Tiers(tiers) = &self.0.backend else {
            return Ok(Mark::now());
        };
        // What was hit before is told before.
        tell_uses(tiers)?;
        let mark = tiers.lower().mark()?;
        // And whatever is hit from now on is told anew, even if it was told a moment ago.
        tell_uses(tiers)?;
        Ok(mark)
    }

    /// Removes what the rules say, from the directory and from memory.
    ///
    /// What waits to be written is written before, and what memory served is told to the
    /// directory, so that the rules see it. A cache in memory only knows no last uses and obeys
    /// the rules for age and namespaces alone. Other processes keep what their memory holds.
    ///
    /// # Errors
    ///
    /// Those of [`DiskStore::prune`]; some artifacts may then have gone.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint, Prune};
    /// use std::time::Duration;
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let cache = Cache::builder().open(dir.path())?;
    /// cache.put(&Fingerprint::from_bytes([1; 32]), vec![1]);
    /// let week = Duration::from_secs(7 * 24 * 60 * 60);
    /// let report = cache.prune(&Prune::new().older_than(week).down_to_bytes(1 << 30))?;
    /// assert_eq!(report.entries, 0);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn prune(&self, rules: &Prune) -> Result<PruneReport> {
        match &self.0.backend {
            Backend::Off => Ok(PruneReport::default()),
            Backend::Memory(memory) => Ok(self.0.prune_memory(memory, rules)),
            Backend::Tiers(tiers) => {
                tiers.write_all()?;
                tell_uses(tiers)?;
                self.0.prune_tiers(tiers, rules)
            }
        }
    }
}

impl Namespace {
    /// Removes every artifact of this namespace, from memory, from what waits to be written, and
    /// from the directory.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::prune`].
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// let cache = Cache::builder().memory_only()?;
    /// let (old, new) = (cache.namespace("driver 1"), cache.namespace("driver 2"));
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// old.put(&key, vec![1]);
    /// new.put(&key, vec![2]);
    /// old.clear()?;
    /// assert!(!old.contains(&key) && new.contains(&key));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        let (inner, id) = (&self.cache().0, self.id());
        let rules = Prune::new().namespace(id);
        match &inner.backend {
            Backend::Off => {}
            Backend::Memory(memory) => drop(inner.prune_memory(memory, &rules)),
            Backend::Tiers(tiers) => {
                for key in tiers.unwritten_keys(|entry| entry.namespace == id)? {
                    tiers.remove(&key)?;
                }
                inner.prune_tiers(tiers, &rules)?;
            }
        }
        Ok(())
    }

    /// What this namespace has in the directory; `None` if it has nothing there, or there is no
    /// directory.
    ///
    /// Looks at every entry of the directory.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let cache = Cache::builder().open(dir.path())?;
    /// let namespace = cache.namespace("driver 1");
    /// namespace.put(&Fingerprint::from_bytes([1; 32]), vec![0; 10]);
    /// cache.flush()?;
    /// assert_eq!(namespace.info()?.unwrap().bytes, 10);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn info(&self) -> Result<Option<NamespaceInfo>> {
        let disk = self.cache().disk();
        disk.map_or(Ok(None), |disk| disk.namespace(self.id()))
    }
}

/// Tells the directory what memory served. Where hits could not be noted, everything that
/// memory holds counts as used: rather too much is kept than what was used removed.
fn tell_uses(tiers: &Tiered<MemoryStore, DiskStore>) -> Result<()> {
    if tiers.tell_uses()? > 0 {
        tiers.lower().touch(&tiers.upper().keys(|_, _| true))?;
    }
    Ok(())
}

impl Inner {
    /// Prunes the directory, then memory: of what went below, and of what the rules take that
    /// memory alone holds.
    fn prune_tiers(
        &self,
        tiers: &Tiered<MemoryStore, DiskStore>,
        rules: &Prune,
    ) -> Result<PruneReport> {
        // Forgotten above only when nothing is held below any more: see the order of locks.
        let mut gone: Vec<Fingerprint> = Vec::new();
        let pruned = tiers.lower().prune_with(rules, |key, _| gone.push(*key));
        if !rules.is_dry_run() {
            let forgotten = tiers.forget_above(&gone);
            // Also what others removed below, and a get found there before.
            let forgotten = forgotten.and(tiers.end_promotions());
            let (upper, now) = (tiers.upper(), now());
            let goes = |namespace, put_at| {
                let reason = rules.reason_in_memory(namespace, put_at, now);
                reason.is_some()
            };
            forgotten.and(tiers.forget_above(&upper.keys(goes)))?;
        }
        let report = pruned?;
        for eviction in &report.evictions {
            self.reports.evicted(eviction);
        }
        Ok(report)
    }

    fn prune_memory(&self, memory: &MemoryStore, rules: &Prune) -> PruneReport {
        let mut report = PruneReport {
            dry_run: rules.is_dry_run(),
            ..PruneReport::default()
        };
        let now = now();
        for reason in [PruneReason::OlderThan, PruneReason::Namespace] {
            let goes = |namespace: NamespaceId, put_at| {
                rules.reason_in_memory(namespace, put_at, now) == Some(reason)
            };
            for key in memory.keys(goes) {
                let gone = memory.take(&key, goes, rules.is_dry_run());
                if let Some(bytes) = gone {
                    report.add(reason, bytes);
                }
            }
        }
        if !report.dry_run {
            for pruned in &report.by_reason {
                // Memory does not know when they were used; they left now.
                let (reason, entries) = (pruned.reason.eviction(), pruned.entries);
                let age = Duration::ZERO;
                let eviction = Eviction::new(Tier::Memory, reason, entries, pruned.bytes, age);
                crate::events::evicted(&eviction);
                self.reports.evicted(&eviction);
                report.evictions.push(eviction);
            }
        }
        report
    }
}
