//! A lost index is rebuilt from the packs, while the cache is in use.
//!
//! The table that is being rebuilt is published, empty and flagged, before the walk begins; gets
//! and puts use it at once. One process walks, by a lease; if it dies the next one begins again,
//! which is harmless because inserting what is there changes nothing.

use super::counters::Counters;
use super::envelope::{Envelope, Kind, record_len};
use super::header::{Field, REBUILDING};
use super::inner::{Inner, Locked};
use super::object;
use super::pack::{Pack, list};
use super::slot::{Allocated, Place, Slot, SlotKind};
use crate::error::{Error, Result};
use crate::sys::Access;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// Records inserted under one hold of the lock.
const BATCH: usize = 256;
/// How long to wait before looking whether the other process has finished.
const PAUSE: Duration = Duration::from_millis(5);

/// Bindings that newer ones replaced, by place.
type Replaced = BTreeMap<Place, Arc<Pack>>;

impl Inner {
    /// Rebuilds the index if it is marked so and nobody else is at it; otherwise waits a moment.
    pub(super) fn rebuild_or_wait(&self) -> Result<()> {
        let never = AtomicBool::new(false);
        if !self.rebuild(&never)? {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Rebuilds the index if it is marked so; `false` if another process is at it, or `stop` was
    /// set before it was done.
    pub(super) fn rebuild(&self, stop: &AtomicBool) -> Result<bool> {
        let path = self.files.layout.rebuild_lease();
        let io = |e| Error::io("rebuild the index", &path, e);
        let lease = match self.files.fs.open(&path, Access::Create) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            lease => lease.map_err(io)?,
        };
        if !lease.try_lock().map_err(io)? {
            return Ok(false);
        }
        if !self.refresh()?.has_flag(REBUILDING) {
            return Ok(true);
        }
        let packs = list(&self.files).map_err(io)?;
        // New generations must be above those in the packs before these are all seen.
        let newest = packs.iter().filter_map(|(_, meta)| meta.modified).max();
        let floor = newest
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        let floor = u64::try_from(floor.as_nanos())
            .unwrap_or(0)
            .saturating_add(1_000_000_000);
        if !packs.is_empty() {
            self.raise_generation(&self.locked()?, floor).map_err(io)?;
        }
        let mut replaced = Replaced::new();
        for (number, _) in packs {
            let Some(pack) = self.pack(number).map_err(io)? else {
                continue;
            };
            if !self.rebuild_pack(&pack, stop, &mut replaced)? {
                return Ok(false);
            }
        }
        self.finish_rebuild(&replaced)?;
        Ok(true)
    }

    /// Inserts what is in one pack; `false` if `stop` was set.
    fn rebuild_pack(
        &self,
        pack: &Arc<Pack>,
        stop: &AtomicBool,
        replaced: &mut Replaced,
    ) -> Result<bool> {
        let io = |e| self.error("read a pack", e);
        let mut found = Vec::new();
        pack.walk(self.check(), |offset, envelope, live| {
            found.push((offset, envelope, live))
        })
        .map_err(io)?;
        for batch in found.chunks(BATCH) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let mut locked = self.locked()?;
            if !locked.index.has_flag(REBUILDING) {
                return Ok(true);
            }
            if !pack.is_named(&self.files).map_err(io)? {
                return Ok(true);
            }
            for (offset, envelope, live) in batch {
                // Removed while the walk was under way: look again.
                let live = *live
                    && pack
                        .envelope(self.check(), *offset)
                        .map_err(io)?
                        .is_some_and(|e| e.1);
                let place = Place::new(pack.number, *offset);
                self.reinsert(&mut locked, (pack, place), envelope, live, replaced)?;
            }
        }
        Ok(true)
    }

    fn reinsert(
        &self,
        locked: &mut Locked<'_>,
        (pack, place): (&Arc<Pack>, Place),
        envelope: &Envelope,
        live: bool,
        replaced: &mut Replaced,
    ) -> Result<()> {
        let io = |e| self.error("rebuild the index", e);
        self.raise_generation(locked, envelope.generation)
            .map_err(io)?;
        // A dead binding's content may be what a live one shares.
        if envelope.kind == Kind::Inline || (live && envelope.kind == Kind::Object) {
            self.reinsert_content(locked, envelope, place)?;
        }
        if !live {
            return Ok(());
        }
        let found = self.bindings(&locked.index, &envelope.key).map_err(io)?;
        if found.live.iter().any(|binding| binding.slot.place == place) {
            return Ok(());
        }
        for binding in &found.live {
            if binding.envelope.generation < envelope.generation {
                replaced.insert(binding.slot.place, Arc::clone(&binding.pack));
            } else {
                replaced.insert(place, Arc::clone(pack));
                return Ok(());
            }
        }
        let slot = Self::slot_of(&locked.index, envelope, place);
        self.insert(locked, &slot)
    }

    fn reinsert_content(
        &self,
        locked: &mut Locked<'_>,
        envelope: &Envelope,
        place: Place,
    ) -> Result<()> {
        let io = |e| self.error("rebuild the index", e);
        if self
            .content(&locked.index, &envelope.digest)
            .map_err(io)?
            .is_some()
        {
            return Ok(());
        }
        let is_object = envelope.kind == Kind::Object;
        let allocated = if is_object {
            object::allocated(envelope.length)
        } else {
            record_len(envelope.kind, envelope.length)
                .unwrap_or(0)
                .saturating_sub(128)
        };
        let slot = Slot {
            kind: SlotKind::Content,
            hash: locked.index.hash(envelope.digest.as_bytes()),
            place,
            allocated: Allocated::of(allocated),
            content: u32::from(is_object),
            last_use: envelope.generation,
        };
        self.insert(locked, &slot)
    }

    fn raise_generation(&self, locked: &Locked<'_>, generation: u64) -> io::Result<()> {
        if locked.index.field(Field::Generation) < generation {
            locked.index.set_field(Field::Generation, generation)?;
        }
        Ok(())
    }

    /// Retires what was replaced, corrects the totals, and takes the flag away.
    fn finish_rebuild(&self, replaced: &Replaced) -> Result<()> {
        let io = |e| self.error("rebuild the index", e);
        if !replaced.is_empty() {
            // What replaced them is durable before they are marked.
            for (number, _) in list(&self.files).map_err(io)? {
                if let Some(pack) = self.pack(number).map_err(io)? {
                    pack.sync().map_err(io)?;
                }
            }
        }
        for (place, pack) in replaced {
            let locked = self.locked()?;
            let found = pack.envelope(self.check(), place.offset()).map_err(io)?;
            let Some((envelope, true)) = found else {
                continue;
            };
            let bindings = self.bindings(&locked.index, &envelope.key).map_err(io)?;
            // What replaced it was removed meanwhile? Then so was this: `remove` waits for us.
            let last = bindings.live.last().map(|binding| binding.slot.place);
            if last == Some(*place) {
                continue;
            }
            pack.mark_dead(place.offset()).map_err(io)?;
            for binding in bindings.live.iter().filter(|b| b.slot.place == *place) {
                self.clear_slot(&locked.index, binding.at, &binding.slot, false)
                    .map_err(io)?;
            }
        }
        for pack in replaced.values() {
            pack.sync().map_err(io)?;
        }
        self.recount()?;
        let locked = self.locked()?;
        locked.index.sync().map_err(io)?;
        locked.index.set_flag(REBUILDING, false).map_err(io)?;
        drop(locked);
        if let Err(e) = self.enforce() {
            Counters::add(&self.counters.internal_errors, 1);
            return Err(e);
        }
        Ok(())
    }
}
