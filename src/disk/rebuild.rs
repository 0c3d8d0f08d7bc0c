//! A lost index is rebuilt from the packs, while the cache is in use.
//!
//! The table that is being rebuilt is published, empty and flagged, before the walk begins; gets
//! and puts use it at once. One process walks, by a lease; if it dies the next one begins again,
//! which is harmless because inserting what is there changes nothing.

use super::bind::key_slot;
use super::counters::Counters;
use super::ended::{Ended, is_sane};
use super::envelope::{Envelope, Kind, LifeWord, SIZE, record_len};
use super::header::{Field, REBUILDING};
use super::hits::Hits;
use super::index::Index;
use super::inner::{Inner, Locked, now};
use super::layout::PackNumber;
use super::lookup::{Binding, Content};
use super::object;
use super::pack::{Files, Pack, list};
use super::slot::{Allocated, Place, Slot, SlotHash, SlotKind};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::sys::Meta;
use rustc_hash::FxHashSet;
use std::io;
use std::time::{Duration, Instant, UNIX_EPOCH};

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
/// Records inserted under one hold of the lock.
const BATCH: usize = 256;
/// How long to wait before looking whether the other process has finished.
const PAUSE: Duration = Duration::from_millis(5);

/// A rebuild of another process that inserts nothing for so long makes no progress.
const STALLED: Duration = Duration::from_secs(30);

/// A key gets slots for so many records that are copies of each other; beyond that only while none
/// of them is whole.
const COPIES: usize = 2;

/// What a rebuild found in packs, besides what it put into the index.
#[derive(Debug, Default)]
struct Walked {
    ended: Ended,
    replaced: Replaced,
    /// Whether the packs that are walked have durable names.
    names_are_durable: bool,
}

/// What a rebuild found more than once.
#[derive(Debug, Default)]
struct Replaced {
    /// Keys that have several bindings.
    keys: FxHashSet<Fingerprint>,
    /// Live records that got no slot, because others of the same key are copies of them.
    copies: Vec<(Fingerprint, Place)>,
}

impl Inner {
    /// Rebuilds the index if it is marked so and nobody else is at it; otherwise waits a moment.
    pub(super) fn rebuild_or_wait(&self) -> Result<()> {
        let never = AtomicBool::new(false);
        if !self.rebuild(&never)? {
            crate::sync::sleep(PAUSE);
        }
        Ok(())
    }

    /// Marks the index so, and rebuilds it.
    pub(super) fn rebuild_now(&self) -> Result<()> {
        let mut locked = self.locked()?;
        let io = |e| Error::io("read the index", self.files.layout.index(), e);
        if locked.index.flags().map_err(io)? & REBUILDING == 0 {
            let buckets = locked.index.buckets();
            self.copy_index(&mut locked, buckets, REBUILDING)?;
        }
        drop(locked);
        self.wait_for_rebuild()
    }

    /// Rebuilds the index if it is marked so, or waits for the process that does, as long as that
    /// makes progress.
    pub(super) fn wait_for_rebuild(&self) -> Result<()> {
        let (mut seen, mut since) = ((0, 0), Instant::now());
        while self.refresh().has_flag(REBUILDING) {
            self.rebuild_or_wait()?;
            let index = self.refresh();
            let used = (index.field(Field::Used), index.field(Field::Walked));
            if used != seen {
                (seen, since) = (used, Instant::now());
            }
            if index.has_flag(REBUILDING) && since.elapsed() >= STALLED {
                let action = "wait for another process to rebuild the index";
                return Err(
                    Error::new(ErrorKind::Timeout, action).with_path(self.files.layout.index())
                );
            }
        }
        Ok(())
    }

    /// Rebuilds the index if it is marked so; `false` if another process is at it, or `stop` was
    /// set before it was done.
    pub(super) fn rebuild(&self, stop: &AtomicBool) -> Result<bool> {
        let path = self.files.layout.rebuild_lease();
        let io = |e| Error::io("rebuild the index", &path, e);
        let _lease = match self.lease(&path) {
            // The directory was deleted.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            lease => match lease.map_err(io)? {
                Some(lease) => lease,
                None => return Ok(false),
            },
        };
        let begun = self.refresh();
        if !begun.has_flag(REBUILDING) {
            return Ok(true);
        }
        let packs = list(&self.files).map_err(io)?;
        let mut found = Walked {
            names_are_durable: self.sync_pack_names().is_ok(),
            ..Walked::default()
        };
        for (number, _) in &packs {
            if let Some(pack) = self.pack(*number).map_err(io)? {
                if !self.look_through(&pack, (&begun, stop), &mut found.ended)? {
                    return Ok(false);
                }
            }
        }
        for (number, _) in packs {
            let Some(pack) = self.pack(number).map_err(io)? else {
                continue;
            };
            if !self.rebuild_pack(&pack, (&begun, stop), &mut found)? {
                return Ok(false);
            }
        }
        self.finish_rebuild(&begun, found.replaced)
    }

    /// Looks for what is dead in one pack, and gives out no number up to those in it any more; `false`
    /// if `stop` was set or the index was lost again.
    fn look_through(
        &self,
        pack: &Pack,
        (begun, stop): (&Index, &AtomicBool),
        ended: &mut Ended,
    ) -> Result<bool> {
        let io = |e| self.error("read a pack", e);
        let mut newest = 0;
        let each = |_, envelope: Envelope, life| {
            ended.note(pack.key_id, &envelope, life);
            if is_sane(envelope.generation) {
                newest = envelope.generation.max(newest);
            }
        };
        pack.walk_or_hints(self.check(), each).map_err(io)?;
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let locked = self.locked()?;
        if !Self::is_same(begun, &locked.index) {
            return Ok(false);
        }
        locked.index.raise_generation(newest).map_err(io)?;
        locked.index.add(Field::Walked, 1).map_err(io)?;
        Ok(true)
    }

    /// Whether `now` is the table that a rebuild began with, or that table grown, which keeps the
    /// seed. Another one was begun after the index was lost once more: it has to be filled anew.
    fn is_same(begun: &Index, now: &Index) -> bool {
        begun.seed() == now.seed()
    }

    /// Inserts what is in one pack, while others are not walked yet.
    #[cfg(test)]
    pub(super) fn rebuild_pack_alone(&self, pack: &Arc<Pack>) -> Result<bool> {
        let begun = self.refresh();
        let never = AtomicBool::new(false);
        let mut walked = Walked {
            names_are_durable: self.sync_pack_names().is_ok(),
            ..Walked::default()
        };
        self.rebuild_pack(pack, (&begun, &never), &mut walked)
    }

    /// Inserts what is in one pack; `false` if `stop` was set or the index was lost again.
    fn rebuild_pack(
        &self,
        pack: &Arc<Pack>,
        (begun, stop): (&Index, &AtomicBool),
        walked: &mut Walked,
    ) -> Result<bool> {
        let io = |e| self.error("read a pack", e);
        let mut found = Vec::new();
        let gather =
            |offset, envelope, life| found.push((offset, envelope, life == LifeWord::Live));
        pack.walk_or_hints(self.check(), gather).map_err(io)?;
        // Others may rely on the content that is found here rather than on what they had flushed.
        let is_durable = pack.sync().is_ok() && walked.names_are_durable;
        if !is_durable {
            Counters::add(&self.counters.maintenance_errors, 1);
            if pack.key_id == self.check().id() {
                self.pending.lock().expect(POISON).add_pack(pack);
            }
        }
        for batch in found.chunks(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let mut locked = self.locked()?;
            if !Self::is_same(begun, &locked.index) {
                return Ok(false);
            }
            if !pack.is_named(&self.files).map_err(io)? {
                return Ok(true);
            }
            for (offset, envelope, live) in batch {
                // Removed while the walk was under way: look again.
                let live = *live
                    && pack
                        .envelope_or_hint(self.check(), *offset)
                        .map_err(io)?
                        .is_some_and(|e| e.1);
                let is_ended = walked.ended.has_ended(pack.key_id, envelope);
                if live && is_ended {
                    // A power cut took its mark.
                    locked.index.note_end().map_err(io)?;
                    pack.mark_dead(*offset).map_err(io)?;
                    self.pending.lock().expect(POISON).add_pack(pack);
                }
                let live = live && !is_ended;
                let record = (Place::new(pack.number, *offset), envelope, live);
                if pack.key_id == self.check().id() {
                    let replaced = &mut walked.replaced;
                    self.reinsert(&mut locked, record, is_durable, replaced)?;
                } else {
                    self.reinsert_theirs(&mut locked, record, pack.key_id)?;
                }
            }
        }
        Ok(true)
    }

    /// Puts a record of ours back into the index. The caller holds the lock.
    fn reinsert(
        &self,
        locked: &mut Locked<'_>,
        (place, envelope, live): (Place, &Envelope, bool),
        is_durable: bool,
        replaced: &mut Replaced,
    ) -> Result<()> {
        let io = |e| self.error("rebuild the index", e);
        locked
            .index
            .raise_generation(envelope.generation)
            .map_err(io)?;
        // A dead binding's content may be what a live one shares.
        if envelope.kind == Kind::Inline || (live && envelope.kind == Kind::Object) {
            self.reinsert_content(locked, envelope, (place, is_durable))?;
        }
        if !live {
            return Ok(());
        }
        let found = self.bindings(&locked.index, &envelope.key).map_err(io)?;
        let is_it = |binding: &Binding| binding.slot.place == place;
        // Also where an earlier rebuild, which was killed, has come to all of them.
        if !found.live.iter().all(is_it) {
            replaced.keys.insert(envelope.key);
        }
        if found.live.iter().any(is_it) {
            return Ok(());
        }
        if self
            .is_enough(&locked.index, &found.live, envelope)
            .map_err(io)?
        {
            replaced.copies.push((envelope.key, place));
            return Ok(());
        }
        let slot = key_slot(&locked.index, envelope, place);
        self.insert(locked, &slot)
    }

    /// Whether a record is one copy too many: where packs could be copied to others and could not
    /// be removed, again and again, copies would fill the buckets of their key and multiply.
    fn is_enough(&self, index: &Index, bound: &[Binding], envelope: &Envelope) -> io::Result<bool> {
        let is_copy = |b: &&Binding| {
            b.envelope.generation == envelope.generation && b.envelope.digest == envelope.digest
        };
        if bound.iter().filter(is_copy).count() < COPIES {
            return Ok(false);
        }
        for binding in bound.iter().filter(is_copy) {
            if matches!(self.load_and_hash(index, binding)?, Content::Artifact(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn reinsert_content(
        &self,
        locked: &mut Locked<'_>,
        envelope: &Envelope,
        (place, is_durable): (Place, bool),
    ) -> Result<()> {
        let io = |e| self.error("rebuild the index", e);
        let hash = locked.index.hash(envelope.digest.as_bytes());
        let slot = content_slot(envelope, hash, place);
        let known = self.content(&locked.index, &envelope.digest);
        let Some(known) = known.map_err(io)? else {
            return self.insert(locked, &slot);
        };
        let both_inline = known.envelope.kind == Kind::Inline && envelope.kind == Kind::Inline;
        if !both_inline || known.slot.place == place {
            return Ok(());
        }
        // A power cut may have torn the one that was met first.
        let is_whole = |pack: &Pack, place: Place| -> io::Result<bool> {
            let bytes = pack.payload(place.offset(), envelope.length, Some(&envelope.digest));
            Ok(bytes?.is_some())
        };
        // And one that was put meanwhile may not be durable, as what is met now is.
        if !is_durable && is_whole(&known.pack, known.slot.place).map_err(io)? {
            return Ok(());
        }
        if let Some(pack) = self.pack(place.pack()).map_err(io)? {
            if is_whole(&pack, place).map_err(io)? {
                locked.index.write(known.at, &slot).map_err(io)?;
            }
        }
        Ok(())
    }

    /// Ends the older ones of several bindings of a key, once the newest whole one is durable.
    fn retire_replaced(&self, begun: &Index, replaced: Replaced) -> Result<()> {
        self.settle_all(replaced.keys, &|now| Self::is_same(begun, now))?;
        self.bury_copies(&replaced.copies)
    }

    /// Ends copies for which no slot was made: each rebuild would find one more. Where nothing is bound
    /// any more, a copy may be all that is left.
    fn bury_copies(&self, copies: &[(Fingerprint, Place)]) -> Result<()> {
        let io = |e| self.error("retire a copy of an entry", e);
        for batch in copies.chunks(BATCH) {
            let locked = self.locked()?;
            for (key, place) in batch {
                let live = self.bindings(&locked.index, key).map_err(io)?.live;
                // Were it bound meanwhile, it would not be one of those without a slot.
                if live.is_empty() || live.iter().any(|b| b.slot.place == *place) {
                    continue;
                }
                if let Some(pack) = self.pack(place.pack()).map_err(io)? {
                    pack.mark_gone(place.offset()).map_err(io)?;
                    self.pending.lock().expect(POISON).add_pack(&pack);
                }
            }
        }
        Ok(())
    }

    /// Retires what was replaced, corrects the totals, and takes the flag away.
    fn finish_rebuild(&self, begun: &Index, replaced: Replaced) -> Result<bool> {
        let io = |e| self.error("rebuild the index", e);
        self.retire_replaced(begun, replaced)?;
        self.recount()?;
        let mut locked = self.locked()?;
        if !Self::is_same(begun, &locked.index) {
            return Ok(false);
        }
        if locked.index.sync().is_err() {
            // It is not to be had durably: another file is.
            let buckets = locked.index.buckets();
            self.copy_index(&mut locked, buckets, 0)?;
        }
        locked.index.set_flag(REBUILDING, false).map_err(io)?;
        drop(locked);
        if let Err(e) = self.enforce() {
            Counters::add(&self.counters.maintenance_errors, 1);
            return Err(e);
        }
        Ok(true)
    }
}

/// The slot of the content that an envelope at `place` carries or names.
pub(super) fn content_slot(envelope: &Envelope, hash: SlotHash, place: Place) -> Slot {
    let is_object = envelope.kind == Kind::Object;
    let allocated = if is_object {
        object::allocated(envelope.length)
    } else {
        record_len(envelope.kind, envelope.length)
            .unwrap_or(0)
            .saturating_sub(SIZE as u64)
    };
    Slot {
        kind: SlotKind::Content,
        hash,
        place,
        allocated: Allocated::of(allocated),
        content: u32::from(is_object),
        last_use: envelope.generation,
        hits: Hits::default(),
    }
}

/// Not below the generation of any record, as far as the packs' times tell, and where these cannot be
/// looked at the clock; 0 where there is no pack.
///
/// Generations run ahead of the clock by the second that is added here, which is more than what
/// counting them does.
pub(super) fn newest(files: &Files) -> u64 {
    let time = |(_, meta): &(PackNumber, Meta)| {
        let since = meta.modified?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_nanos()).ok()
    };
    let newest = match list(files) {
        Ok(packs) if packs.is_empty() => return 0,
        Ok(packs) => packs.iter().filter_map(time).max().unwrap_or(0),
        // The rebuild will say so.
        Err(_) => now(),
    };
    newest.saturating_add(1_000_000_000)
}
