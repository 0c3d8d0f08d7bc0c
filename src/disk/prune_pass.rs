//! Pruning: a pass over the directory whose victims a caller's rules choose.
//!
//! As in eviction, one process does it at a time, keys are unbound a batch a hold of the lock, and
//! then contents and packs without a key go. What was used, put anew or removed since the choice
//! is left alone.

use super::DiskStore;
use super::counters::Counters;
use super::evict::PASSES;
use super::facts::{Fact, Facts};
use super::header::Field;
use super::index::Index;
use super::inner::{Inner, now};
use super::lock::turn;
use super::prune::{Mark, Prune, PruneReason, PruneReport};
use super::slot::SlotKind;
use super::survey::{Ranks, Survey, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::events;
use crate::fingerprint::Fingerprint;
use crate::namespace::NamespaceId;
use crate::stats::{Eviction, Tier};
use crate::sync::{Arc, MutexGuard};
use crate::sys::RawFile;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::time::{Duration, Instant};

/// Keys unbound under one hold of the lock.
const BATCH: usize = 256;
/// How long to wait before looking whether another process has finished to evict.
const PAUSE: Duration = Duration::from_millis(1);

/// What went, or would go.
#[derive(Default)]
struct Log {
    report: PruneReport,
    /// The oldest last use of what went by each rule.
    oldest: BTreeMap<PruneReason, u64>,
    keys: Vec<(Fingerprint, PruneReason)>,
}

impl Log {
    fn add(&mut self, fact: &Fact, reason: PruneReason) {
        self.report.add(reason, fact.length);
        let last = self.oldest.entry(reason).or_insert(u64::MAX);
        *last = fact.last_use.min(*last);
        self.keys.push((fact.key, reason));
    }

    /// Reports what went.
    fn finish(mut self, disk_bytes: u64) -> PruneReport {
        self.report.disk_bytes_after = disk_bytes;
        if self.report.dry_run {
            return self.report;
        }
        let now = now();
        for pruned in &self.report.by_reason {
            let last = self.oldest.get(&pruned.reason).copied().unwrap_or(now);
            let age = Duration::from_nanos(now.saturating_sub(last));
            let reason = pruned.reason.eviction();
            let eviction = Eviction::new(Tier::Disk, reason, pruned.entries, pruned.bytes, age);
            events::evicted(&eviction);
            self.report.evictions.push(eviction);
        }
        self.report
    }
}

impl DiskStore {
    /// The present moment, for [`Prune::unused_since`]: whatever is used from now on, by any
    /// process, counts as used since.
    ///
    /// Hits of a memory tier above are told in batches; [`Cache::mark`](crate::Cache::mark) takes
    /// care of its own.
    ///
    /// # Errors
    ///
    /// If the index cannot be written.
    ///
    /// ```
    /// use keepwarm::{DiskStore, Fingerprint, Prune, Store, StoreExt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// let [used, unused] = [1, 2].map(|n| Fingerprint::from_bytes([n; 32]));
    /// store.put_bytes(&used, vec![1])?;
    /// store.put_bytes(&unused, vec![2])?;
    ///
    /// let mark = store.mark()?;
    /// store.get(&used)?;
    /// let report = store.prune(&Prune::new().unused_since(mark))?;
    /// assert_eq!(report.entries, 1);
    /// assert!(store.contains(&used)? && !store.contains(&unused)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn mark(&self) -> Result<Mark> {
        let locked = self.inner.locked()?;
        let mark = self.inner.next_generation(&locked.index);
        let set = locked.index.set_generation(mark);
        set.map_err(|e| self.inner.error("mark the present moment", e))?;
        Ok(Mark(mark))
    }

    /// Removes what the rules say, and frees the space.
    ///
    /// # Errors
    ///
    /// If the directory cannot be changed, or another process evicts for longer than
    /// [`lock_wait`](crate::DiskStoreBuilder::lock_wait); some entries may then have gone.
    ///
    /// ```
    /// use keepwarm::{DiskStore, Fingerprint, Prune, PruneReason, StoreExt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// for n in 0..10 {
    ///     store.put_bytes(&Fingerprint::from_bytes([n; 32]), vec![n; 100])?;
    /// }
    /// let report = store.prune(&Prune::new().down_to_entries(4))?;
    /// assert_eq!((report.entries, report.bytes), (6, 600));
    /// assert_eq!(report.by_reason[0].reason, PruneReason::Size);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prune(&self, rules: &Prune) -> Result<PruneReport> {
        self.prune_with(rules, |_, _| {})
    }

    /// Like [`prune`](Self::prune); tells afterwards which entries went, or would go, and why.
    ///
    /// # Errors
    ///
    /// Those of [`prune`](Self::prune); what was told of has gone.
    ///
    /// ```
    /// # use keepwarm::{DiskStore, Fingerprint, Prune, StoreExt};
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1])?;
    /// let mut keys = Vec::new();
    /// let rules = Prune::new().down_to_entries(0).dry_run(true);
    /// store.prune_with(&rules, |key, _| keys.push(*key))?;
    /// assert_eq!(keys, [Fingerprint::from_bytes([1; 32])]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn prune_with(
        &self,
        rules: &Prune,
        mut each: impl FnMut(&Fingerprint, PruneReason),
    ) -> Result<PruneReport> {
        self.inner.prune(rules, &mut each)
    }

    /// Removes every entry of a namespace.
    ///
    /// # Errors
    ///
    /// Those of [`prune`](Self::prune).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.remove_namespace(keepwarm::NamespaceId::of("driver 1"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_namespace(&self, id: NamespaceId) -> Result<PruneReport> {
        self.prune(&Prune::new().namespace(id))
    }
}

/// The lease of processes, and the turn of threads, which is given up after it.
pub(super) type Right<'a> = (Arc<dyn RawFile>, MutexGuard<'a, ()>);

/// Keys that are to go, with the reason, in the order of [`Fact`]s.
type Choice = Vec<Option<PruneReason>>;

impl Inner {
    fn prune(
        &self,
        rules: &Prune,
        each: &mut dyn FnMut(&Fingerprint, PruneReason),
    ) -> Result<PruneReport> {
        let mut log = Log::default();
        log.report.dry_run = rules.dry_run;
        log.report.disk_bytes_before = self.live_index().field(Field::DiskBytes);
        let done = if rules.is_empty() {
            Ok(())
        } else if rules.dry_run {
            self.dry_run(rules, &mut log)
        } else {
            self.prune_now(rules, &mut log)
        };
        // Foreign code: nothing is held any more.
        for (key, reason) in mem::take(&mut log.keys) {
            each(&key, reason);
        }
        done?;
        Ok(log.finish(self.index().field(Field::DiskBytes)))
    }

    /// Tells what would go; a look without the lock, and for who may not write too.
    fn dry_run(&self, rules: &Prune, log: &mut Log) -> Result<()> {
        let io = |e| self.error("look at what would be pruned", e);
        // Without them some uses of the last second are not seen.
        self.write_touches().ok();
        let survey = self.survey(&self.live_index()).map_err(io)?;
        let (facts, choice) = self.choose(rules, survey).map_err(io)?;
        for (fact, reason) in chosen(&facts, &choice) {
            log.add(fact, reason);
        }
        Ok(())
    }

    fn prune_now(&self, rules: &Prune, log: &mut Log) -> Result<()> {
        let io = |e| self.error("prune a directory", e);
        let _right = self.right_to_prune("prune entries of")?;
        for _ in 0..PASSES {
            self.drop_exchanged_packs();
            self.write_touches()?;
            let (index, survey) = self.recount()?;
            if index.has_unsettled_ends() {
                // Of what the rules say somebody else may have ended some, and has not flushed.
                self.pending.lock().expect(super::POISON).ends = true;
            }
            let before = index.field(Field::DiskBytes);
            let (facts, choice) = self.choose(rules, survey).map_err(io)?;
            let gone = log.report.entries;
            self.unbind_chosen(&facts, &choice, log)?;
            self.remove_dead_contents()?;
            self.empty_packs(rules.bytes.unwrap_or(0))?;
            let after = self.index().field(Field::DiskBytes);
            let is_reached = rules.bytes.is_none_or(|bytes| after <= bytes);
            if is_reached || (log.report.entries == gone && after >= before) {
                break;
            }
        }
        Ok(())
    }

    /// The right to make entries go, of threads and processes, until it is dropped; not while the
    /// index is being rebuilt. `action` says what for.
    pub(super) fn right_to_prune(&self, action: &str) -> Result<Right<'_>> {
        // Also the check that this process may write.
        drop(self.locked()?);
        self.wait_for_rebuild()?;
        let late = || {
            let action = format!("{action} a directory in which another thread or process evicts");
            Error::new(ErrorKind::Timeout, action).with_path(self.files.layout.root())
        };
        let wait = self.limits.lock_wait;
        let turn = turn(&self.evict_gate, wait).ok_or_else(late)?;
        let lease = self.lease_to_prune()?.ok_or_else(late)?;
        Ok((lease, turn))
    }

    /// The right to evict; `None` if another process had it all the time.
    fn lease_to_prune(&self) -> Result<Option<Arc<dyn RawFile>>> {
        let deadline = Instant::now() + self.limits.lock_wait;
        loop {
            let lease = self.eviction_lease()?;
            if lease.is_some() || Instant::now() >= deadline {
                return Ok(lease);
            }
            crate::sync::sleep(PAUSE);
        }
    }

    /// Which keys go, and why: by the rules, and of the others those used longest ago until the size
    /// is reached.
    fn choose(&self, rules: &Prune, mut survey: Survey) -> io::Result<(Facts, Choice)> {
        let facts = self.facts(&survey.keys)?;
        let mut choice = rules.choose(&facts, now());
        if !rules.has_size() {
            return Ok((facts, choice));
        }
        // What a slot leads to that has no fact is no entry, and must cost none its place.
        let stays = |i: usize| choice.get(i).is_some_and(Option::is_none);
        survey
            .keys
            .retain(|(_, slot)| slot.content == 0 || facts.of(slot).is_some_and(stays));
        survey.forget_unused_contents();
        let target = Target {
            bytes: rules.bytes.unwrap_or(u64::MAX),
            entries: rules.entries.unwrap_or(u64::MAX),
        };
        let about = facts.all.iter().filter(|f| rules.is_about(f.namespace));
        let about: FxHashSet<_> = about.map(|fact| fact.hash).collect();
        let ranks = Ranks {
            rank: &|hash| about.contains(&hash).then_some(0),
            spare_newest: false,
        };
        for (_, slot) in survey.victims(target, &ranks) {
            let Some(i) = facts.of(&slot) else { continue };
            // Of two keys with one hash only one may be meant.
            let is_meant = rules.is_about(facts.all[i].namespace);
            if let Some(reason) = choice.get_mut(i).filter(|_| is_meant) {
                *reason = Some(PruneReason::Size);
            }
        }
        Ok((facts, choice))
    }

    /// Unbinds the chosen keys, those used longest ago first.
    fn unbind_chosen(&self, facts: &Facts, choice: &Choice, log: &mut Log) -> Result<()> {
        let io = |e| self.error("prune an entry", e);
        let mut order: Vec<(&Fact, PruneReason)> = chosen(facts, choice).collect();
        order.sort_unstable_by_key(|(fact, _)| (fact.last_use, fact.hash.0));
        for batch in order.chunks(BATCH) {
            let mut gone = Vec::new();
            // Lost meanwhile: what it does not name a rebuild would bring back.
            let Some(locked) = self.locked_and_complete()? else {
                let action = "prune a directory whose index is being rebuilt";
                return Err(
                    Error::new(ErrorKind::Timeout, action).with_path(self.files.layout.index())
                );
            };
            let mut done = Ok(());
            for (fact, reason) in batch {
                match self.unbind_unless_used(&locked.index, fact) {
                    Ok(true) => gone.push((*fact, *reason)),
                    Ok(false) => {}
                    // In a pack that another member of the group keeps for itself.
                    Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                        Counters::add(&self.counters.maintenance_errors, 1);
                    }
                    Err(e) => {
                        done = Err(e);
                        break;
                    }
                }
            }
            let bytes = gone
                .iter()
                .fold(0_u64, |sum, (f, _)| sum.saturating_add(f.length));
            let counted = locked.index.add(Field::Evictions, gone.len() as u64);
            if gone.len() < batch.len() && locked.index.has_unsettled_ends() {
                // Somebody else may have ended the others since, and has not flushed.
                self.pending.lock().expect(super::POISON).ends = true;
            }
            drop(locked);
            Counters::add(&self.counters.evictions, gone.len() as u64);
            Counters::add(&self.counters.evicted_bytes, bytes);
            for (fact, reason) in gone {
                log.add(fact, reason);
            }
            done.and(counted).map_err(io)?;
        }
        Ok(())
    }

    /// Unbinds a key unless it was used or put anew since; tells whether it was bound. The caller
    /// holds the lock.
    fn unbind_unless_used(&self, index: &Index, fact: &Fact) -> io::Result<bool> {
        let hash = index.hash(fact.key.as_bytes());
        let slots = index.find(SlotKind::Key, hash)?;
        if slots.iter().any(|(_, slot)| slot.last_use > fact.last_use)
            || self.recency.is_used_since(hash, fact.last_use)
        {
            return Ok(false);
        }
        self.unbind(index, &fact.key)
    }
}

fn chosen<'a>(
    facts: &'a Facts,
    choice: &'a Choice,
) -> impl Iterator<Item = (&'a Fact, PruneReason)> {
    let all = facts.all.iter().zip(choice);
    all.filter_map(|(fact, reason)| Some((fact, (*reason)?)))
}
