//! Keeping within the budget: victims are unbound, content without keys goes, packs with little
//! in them are emptied, and what nobody names is swept.
//!
//! Never called by a get. One process evicts at a time (a lease), in this order: keys, contents,
//! packs; so that whatever is left after a crash is unreferenced space, which the next pass finds.

use super::counters::Counters;
use super::envelope::{Envelope, KeyId, Kind};
use super::facts::EXPIRED;
use super::header::{Field, REBUILDING};
use super::index::Index;
use super::inner::{Inner, now};
use super::layout::PackNumber;
use super::lock::turn;
use super::object;
use super::pack::list;
use super::slot::{Slot, SlotKind};
use super::survey::{Ranks, Survey, Target};
use super::table::Position;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::events;
use crate::stats::{Eviction, EvictionReason, Tier};
use crate::sync::Arc;
use rustc_hash::FxHashSet;
use std::io;
use std::time::{Duration, SystemTime};

/// Keys unbound under one hold of the lock.
const KEY_BATCH: usize = 256;
/// Objects unlinked under one hold of the lock: an unlink can take 0.2 ms.
const OBJECT_BATCH: usize = 64;
/// Slots of content in packs cleared under one hold of the lock.
const CONTENT_BATCH: usize = 4096;
/// An object that no slot names is swept when it is older than this: a younger one may be about
/// to be bound.
pub(super) const ORPHAN_AGE: Duration = Duration::from_secs(600);
/// Evicting goes down to this many hundredths of the budget.
const LOW_MARK: u64 = 90;
/// Passes of one call; each frees what the one before could not see.
pub(super) const PASSES: usize = 4;

/// What a pass has evicted so far.
struct Evicted {
    entries: u64,
    /// Of artifacts.
    bytes: u64,
    /// The earliest last use of any.
    oldest: u64,
}

impl Inner {
    /// Which limits are exceeded.
    pub(super) fn excess(&self, index: &Index) -> Option<EvictionReason> {
        let bytes = index.field(Field::DiskBytes) > self.limits.bytes;
        let entries = index.field(Field::Entries) > self.limits.entries;
        match (bytes, entries) {
            (true, true) => Some(EvictionReason::EntryAndByteLimit),
            (true, false) => Some(EvictionReason::ByteLimit),
            (false, true) => Some(EvictionReason::EntryLimit),
            (false, false) => None,
        }
    }

    /// Evicts if a budget is exceeded.
    pub(super) fn enforce(&self) -> Result<Vec<Eviction>> {
        if self.excess(&self.index()).is_none() || self.index().has_flag(REBUILDING) {
            return Ok(Vec::new());
        }
        // Past the bound, the thread that evicts sees to what this one added as well.
        let Some(_turn) = turn(&self.evict_gate, self.limits.lock_wait) else {
            return Ok(Vec::new());
        };
        let Some(_right) = self.right_or_room()? else {
            return Ok(Vec::new());
        };
        let mut reports = Vec::new();
        for _ in 0..PASSES {
            let Some(reason) = self.excess(&self.index()) else {
                break;
            };
            let before = self.index().field(Field::DiskBytes);
            let evicted = self.pass(Some((reason, self.low_marks())))?;
            // What is left is held by others, or is the newest entry alone.
            let in_vain = evicted.is_empty() && self.index().field(Field::DiskBytes) >= before;
            for report in evicted {
                events::evicted(&report);
                reports.push(report);
            }
            if in_vain {
                break;
            }
        }
        Ok(reports)
    }

    /// One pass, with victims if a budget is exceeded; also tells whether none is, afterwards. The
    /// caller has the right to evict.
    pub(super) fn evict_pass(&self) -> Result<(Vec<Eviction>, bool)> {
        let reason = self.excess(&self.index());
        let evicted = self.pass(reason.map(|reason| (reason, self.low_marks())))?;
        evicted.iter().for_each(events::evicted);
        Ok((evicted, self.excess(&self.index()).is_none()))
    }

    /// How far evicting goes.
    fn low_marks(&self) -> Target {
        let low = |limit: u64| u64::try_from(u128::from(limit) * u128::from(LOW_MARK) / 100);
        Target {
            bytes: low(self.limits.bytes).unwrap_or(u64::MAX),
            entries: low(self.limits.entries).unwrap_or(u64::MAX),
        }
    }

    /// Runs a pass without victims if removals left enough behind.
    pub(super) fn collect_if_worthwhile(&self) -> Result<()> {
        let index = self.index();
        let garbage = index.field(Field::Garbage);
        let worth = (index.field(Field::DiskBytes) / 8)
            .max(1 << 20)
            .min(self.limits.bytes / 8);
        if garbage < worth.max(1) || index.has_flag(REBUILDING) {
            return Ok(());
        }
        let Some(_turn) = turn(&self.evict_gate, self.limits.lock_wait) else {
            return Ok(());
        };
        let Some(_lease) = self.eviction_lease()? else {
            return Ok(());
        };
        self.pass(None).map(drop)
    }

    /// Looks at every slot and every pack.
    pub(super) fn survey(&self, index: &Index) -> io::Result<Survey> {
        let mut survey = Survey::default();
        index.for_each(|at, slot| survey.add(at, slot))?;
        survey.packs = list(&self.files)?
            .into_iter()
            .map(|(number, meta)| (number, meta.id.len))
            .collect();
        let numbers = survey.packs.keys().copied();
        survey.theirs = numbers.filter(|number| self.is_theirs(*number)).collect();
        Ok(survey)
    }

    fn pass(&self, goal: Option<(EvictionReason, Target)>) -> Result<Vec<Eviction>> {
        // Of a file that was exchanged an old handle tells nothing: it must not cost others their slots.
        self.drop_exchanged_packs();
        self.write_touches()?;
        let (index, mut survey) = self.recount()?;
        survey.forget_unused_contents();
        let mut reports = Vec::new();
        if let Some((reason, target)) = goal {
            // The totals may have drifted: then there was nothing to do.
            if self.excess(&self.index()).is_some() {
                reports = self.evict_victims(&index, &survey, (reason, target))?;
            }
        }
        self.remove_dead_contents()?;
        let target = goal.map_or(0, |(_, target)| target.bytes);
        self.empty_packs(target)?;
        if self.index().field(Field::SinceSweep) > self.limits.bytes / 4 {
            self.sweep()?;
        }
        Ok(reports)
    }

    /// Chooses and evicts: what is too old first, then idle namespaces, then what was used longest
    /// ago.
    fn evict_victims(
        &self,
        index: &Arc<Index>,
        survey: &Survey,
        (reason, target): (EvictionReason, Target),
    ) -> Result<Vec<Eviction>> {
        let classes = self.classes(survey);
        let classes = classes.map_err(|e| self.error("choose what to evict", e))?;
        let ranks = Ranks {
            rank: &|hash| Some(classes.of(hash)),
            spare_newest: true,
        };
        let victims = survey.victims(target, &ranks);
        let is_expired = |(_, slot): &(Position, Slot)| classes.of(slot.hash) == EXPIRED;
        let (expired, others) = victims.split_at(victims.partition_point(is_expired));
        let expired = self.evict_keys(index, expired, EvictionReason::Expired)?;
        let others = self.evict_keys(index, others, reason)?;
        Ok(expired.into_iter().chain(others).collect())
    }

    /// Counts everything and sets the totals to what is there. They are hints that damage or a
    /// kill may have put wrong.
    ///
    /// Counted under the lock: what is bound between counting and setting would be forgotten.
    pub(super) fn recount(&self) -> Result<(Arc<Index>, Survey)> {
        let locked = self.locked()?;
        let io = |e| self.error("count what is in the directory", e);
        let survey = self.survey(&locked.index).map_err(io)?;
        let totals = [
            (Field::Entries, survey.entries()),
            (Field::Used, survey.used()),
            (Field::DiskBytes, survey.disk_bytes()),
            (Field::Garbage, 0),
        ];
        for (field, value) in totals {
            locked.index.set_field(field, value).map_err(io)?;
        }
        Ok((Arc::clone(&locked.index), survey))
    }

    fn evict_keys(
        &self,
        surveyed: &Arc<Index>,
        victims: &[(Position, Slot)],
        reason: EvictionReason,
    ) -> Result<Option<Eviction>> {
        let io = |e| self.error("evict an entry", e);
        let mut evicted = Evicted {
            entries: 0,
            bytes: 0,
            oldest: u64::MAX,
        };
        let mut done = Ok(());
        for batch in victims.chunks(KEY_BATCH) {
            let locked = match self.locked_and_complete() {
                Ok(Some(locked)) => locked,
                Ok(None) => break,
                Err(e) => {
                    done = Err(e);
                    break;
                }
            };
            if !Arc::ptr_eq(&locked.index, surveyed) {
                // The table was grown: the positions are those of another one. Next pass.
                break;
            }
            let before = evicted.entries;
            let gone = self.evict_batch(&locked.index, batch, &mut evicted);
            // What is gone is counted, whatever failed behind it.
            let new = evicted.entries - before;
            done = gone
                .and(locked.index.add(Field::Evictions, new))
                .map_err(io);
            if done.is_err() {
                break;
            }
        }
        Counters::add(&self.counters.evictions, evicted.entries);
        Counters::add(&self.counters.evicted_bytes, evicted.bytes);
        done?;
        if evicted.entries == 0 {
            return Ok(None);
        }
        let (entries, bytes) = (evicted.entries, evicted.bytes);
        let age = Duration::from_nanos(now().saturating_sub(evicted.oldest));
        Ok(Some(Eviction::new(Tier::Disk, reason, entries, bytes, age)))
    }

    /// The caller holds the lock.
    fn evict_batch(
        &self,
        index: &Index,
        batch: &[(Position, Slot)],
        evicted: &mut Evicted,
    ) -> io::Result<()> {
        for (at, slot) in batch {
            // Used, replaced or removed since: leave it.
            if index.get(*at)? != Some(*slot)
                || self.recency.is_used_since(slot.hash, slot.last_use)
            {
                continue;
            }
            match self.evict_slot(index, *at, slot) {
                // In a pack that another member of the group keeps for itself.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    Counters::add(&self.counters.maintenance_errors, 1);
                }
                freed => {
                    if let Some(freed) = freed? {
                        evicted.entries += 1;
                        evicted.bytes = evicted.bytes.saturating_add(freed);
                        evicted.oldest = evicted.oldest.min(slot.last_use);
                    }
                }
            }
        }
        Ok(())
    }

    /// Unbinds whatever key a slot binds; tells how many bytes of artifact it had, 0 where it led
    /// to nothing. The caller holds the lock.
    pub(super) fn evict_slot(
        &self,
        index: &Index,
        at: Position,
        slot: &Slot,
    ) -> io::Result<Option<u64>> {
        if let Some((_, envelope, true)) = self.envelope(slot.place)? {
            if index.hash(envelope.key.as_bytes()) == slot.hash {
                self.unbind(index, &envelope.key)?;
                return Ok(Some(envelope.length));
            }
        }
        if let Some(length) = self.evict_theirs(index, slot)? {
            return Ok(Some(length));
        }
        index.vacate(at, slot, true)?;
        Ok(Some(0))
    }

    /// Clears contents that no key needs, and unlinks their objects, a batch a hold of the lock,
    /// under which no key can be bound to them.
    pub(super) fn remove_dead_contents(&self) -> Result<()> {
        let io = |e| self.error("remove content that no key needs", e);
        let tag = |slot: &Slot| slot.hash.tag(SlotKind::Content);
        let index = self.index();
        let (mut needed, mut contents) = (FxHashSet::default(), Vec::new());
        let sort = |at, slot: Slot| match slot.kind {
            SlotKind::Key => drop(needed.insert(slot.content)),
            SlotKind::Content => contents.push((at, slot)),
        };
        index.for_each(sort).map_err(io)?;
        contents.retain(|(_, slot)| !needed.contains(&tag(slot)));
        let (objects, inline): (Vec<_>, Vec<_>) = contents
            .into_iter()
            .partition(|(_, slot)| slot.content == 1);
        let batches = objects.chunks(OBJECT_BATCH);
        for batch in batches.chain(inline.chunks(CONTENT_BATCH)) {
            let Some(locked) = self.locked_and_complete()? else {
                return Ok(());
            };
            if !Arc::ptr_eq(&locked.index, &index) {
                // The table was grown: the positions are those of another one. Next pass.
                return Ok(());
            }
            let is_object = |(_, slot): &(Position, Slot)| slot.content == 1;
            let keys = if batch.iter().any(is_object) {
                self.all_key_ids().map_err(io)?
            } else {
                Vec::new()
            };
            let mut dead: FxHashSet<u32> = batch.iter().map(|(_, slot)| tag(slot)).collect();
            let bound_again = |_, slot: Slot| {
                if slot.kind == SlotKind::Key {
                    dead.remove(&slot.content);
                }
            };
            index.for_each(bound_again).map_err(io)?;
            for (at, slot) in batch {
                if !dead.contains(&tag(slot)) || index.get(*at).map_err(io)? != Some(*slot) {
                    continue;
                }
                index.vacate(*at, slot, false).map_err(io)?;
                if slot.content == 1 {
                    self.unlink_object(&index, slot, &keys).map_err(io)?;
                }
            }
        }
        Ok(())
    }

    /// Unlinks the object of a content slot that was cleared, if its envelope (of whatever key)
    /// still tells which one it is and no other slot names it; otherwise the sweep finds it. The
    /// caller holds the lock.
    fn unlink_object(&self, index: &Index, slot: &Slot, keys: &[KeyId]) -> io::Result<()> {
        let found = match self.envelope(slot.place)? {
            None => self.hint(slot.place)?,
            found => found,
        };
        let Some((pack, Envelope { kind, digest, .. }, _)) = found else {
            return Ok(());
        };
        let is_its = index.hash_under(digest.as_bytes(), pack.key_id) == slot.hash;
        if kind != Kind::Object || !is_its {
            return Ok(());
        }
        index.subtract(Field::DiskBytes, slot.allocated.bytes())?;
        if !Self::is_object_named(index, &digest, keys)? && object::unlink(&self.files, &digest)? {
            index.add(Field::Epoch, 1)?;
        }
        Ok(())
    }

    /// Unlinks packs in which nothing is live, and empties sparse ones until `target` is reached.
    pub(super) fn empty_packs(&self, target: u64) -> Result<()> {
        let io = |e| self.error("empty a pack", e);
        let survey = self.survey(&self.index()).map_err(io)?;
        let live = survey.live_in_packs();
        let mut order: Vec<(PackNumber, u64, u64)> = live
            .iter()
            .map(|(n, live)| (*n, *live, survey.packs[n]))
            .collect();
        // The emptiest first: most is freed for the least that is written.
        order.sort_by_key(|(_, live, len)| live.saturating_mul(1000) / (*len).max(1));
        let mut failure = None;
        for (number, live, len) in order {
            if live > 0 && self.index().field(Field::DiskBytes) <= target {
                break;
            }
            if live == 0 || survey.cost(number, live) < len {
                match self.empty_pack(number) {
                    // What cannot be read in one pack is no reason to leave the others.
                    Err(e) if e.kind() == ErrorKind::Io => failure = failure.or(Some(e)),
                    done => drop(done?),
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Removes objects that no slot names and no key is bound to, and what dead processes left in
    /// `tmp/` and `builds/`. Files in `packs/` without a pack's name are left alone.
    pub(super) fn sweep(&self) -> Result<()> {
        let io = |e| self.error("sweep the directory", e);
        super::tmp::sweep(&self.files);
        super::lease::sweep(&self.files);
        let mut orphans: Vec<Digest> = Vec::new();
        let index = self.index();
        let keys = self.all_key_ids().map_err(io)?;
        let is_old = |digest: &Digest| {
            let meta = self.files.fs.stat(&self.files.layout.object(digest));
            let modified = meta.ok().and_then(|meta| meta.modified);
            let age = modified.and_then(|at| SystemTime::now().duration_since(at).ok());
            age.is_some_and(|age| age > ORPHAN_AGE)
        };
        let mut failed = None;
        object::for_each(&self.files, |digest| {
            match Self::is_object_named(&index, &digest, &keys) {
                Ok(false) if is_old(&digest) => orphans.push(digest),
                Ok(_) => {}
                Err(e) => failed = Some(e),
            }
        })
        .map_err(io)?;
        if let Some(e) = failed {
            return Err(io(e));
        }
        for batch in orphans.chunks(OBJECT_BATCH) {
            let Some(locked) = self.locked_and_complete()? else {
                return Ok(());
            };
            let keys = self.all_key_ids().map_err(io)?;
            let tags = Self::tags_of_keys(&locked.index).map_err(io)?;
            for digest in batch {
                let is_named = Self::is_object_named(&locked.index, digest, &keys).map_err(io)?;
                if !is_named && !Self::is_object_among(&locked.index, digest, &keys, &tags) {
                    object::unlink(&self.files, digest).map_err(io)?;
                }
            }
        }
        let locked = self.locked()?;
        locked.index.set_field(Field::SinceSweep, 0).map_err(io)
    }
}
