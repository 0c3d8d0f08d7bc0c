//! A lost index is rebuilt from the packs, while the cache is in use.
//!
//! The table that is being rebuilt is published, empty and flagged, before the walk begins; gets
//! and puts use it at once. One process walks, by a lease; if it dies the next one begins again,
//! which is harmless because inserting what is there changes nothing.

use super::counters::Counters;
use super::envelope::{Envelope, Kind, record_len};
use super::header::{Field, REBUILDING};
use super::index::Index;
use super::inner::{Inner, Locked};
use super::object;
use super::pack::{Pack, list};
use super::pending::Pending;
use super::slot::{Allocated, Place, Slot, SlotKind};
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::sync::{Arc, AtomicBool, Ordering};
use rustc_hash::FxHashSet;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

/// Records inserted under one hold of the lock.
const BATCH: usize = 256;
/// How long to wait before looking whether the other process has finished.
const PAUSE: Duration = Duration::from_millis(5);

/// Keys that have several bindings.
type Replaced = FxHashSet<Fingerprint>;

impl Inner {
    /// Rebuilds the index if it is marked so and nobody else is at it; otherwise waits a moment.
    pub(super) fn rebuild_or_wait(&self) -> Result<()> {
        let never = AtomicBool::new(false);
        if !self.rebuild(&never)? {
            crate::sync::sleep(PAUSE);
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
        // New generations must be above those in the packs before these are all seen.
        let newest = packs.iter().filter_map(|(_, meta)| meta.modified).max();
        let floor = newest
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        let floor = u64::try_from(floor.as_nanos())
            .unwrap_or(0)
            .saturating_add(1_000_000_000);
        if !packs.is_empty() {
            raise_generation(&self.locked()?.index, floor).map_err(io)?;
        }
        let mut replaced = Replaced::default();
        for (number, _) in packs {
            let Some(pack) = self.pack(number).map_err(io)? else {
                continue;
            };
            if !self.rebuild_pack(&pack, (&begun, stop), &mut replaced)? {
                return Ok(false);
            }
        }
        self.finish_rebuild(&begun, replaced)
    }

    /// Whether `now` is the table that a rebuild began with, or that table grown, which keeps the
    /// seed. Another one was begun after the index was lost once more: it has to be filled anew.
    fn is_same(begun: &Index, now: &Index) -> bool {
        begun.seed() == now.seed()
    }

    /// Inserts what is in one pack; `false` if `stop` was set or the index was lost again.
    fn rebuild_pack(
        &self,
        pack: &Arc<Pack>,
        (begun, stop): (&Index, &AtomicBool),
        replaced: &mut Replaced,
    ) -> Result<bool> {
        let io = |e| self.error("read a pack", e);
        let mut found = Vec::new();
        pack.walk(self.check(), |offset, envelope, live| {
            found.push((offset, envelope, live));
        })
        .map_err(io)?;
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
                        .envelope(self.check(), *offset)
                        .map_err(io)?
                        .is_some_and(|e| e.1);
                let place = Place::new(pack.number, *offset);
                self.reinsert(&mut locked, (place, envelope, live), replaced)?;
            }
        }
        Ok(true)
    }

    fn reinsert(
        &self,
        locked: &mut Locked<'_>,
        (place, envelope, live): (Place, &Envelope, bool),
        replaced: &mut Replaced,
    ) -> Result<()> {
        let io = |e| self.error("rebuild the index", e);
        raise_generation(&locked.index, envelope.generation).map_err(io)?;
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
        if !found.live.is_empty() {
            replaced.insert(envelope.key);
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

    /// Retires what was replaced, corrects the totals, and takes the flag away.
    fn finish_rebuild(&self, begun: &Index, replaced: Replaced) -> Result<bool> {
        let io = |e| self.error("rebuild the index", e);
        for key in &replaced {
            self.drop_torn(key)
                .map_err(|e| super::put::into_error(e, self))?;
        }
        let mut pending = Pending {
            rebound: replaced,
            ..Pending::default()
        };
        if !pending.rebound.is_empty() {
            self.bury_replaced(&mut pending)?;
        }
        self.recount()?;
        let locked = self.locked()?;
        if !Self::is_same(begun, &locked.index) {
            return Ok(false);
        }
        locked.index.sync().map_err(io)?;
        locked.index.set_flag(REBUILDING, false).map_err(io)?;
        drop(locked);
        if let Err(e) = self.enforce() {
            Counters::add(&self.counters.maintenance_errors, 1);
            return Err(e);
        }
        Ok(true)
    }
}

/// New generations are above `generation` from now on. The caller holds the lock.
fn raise_generation(index: &Index, generation: u64) -> io::Result<()> {
    if index.field(Field::Generation) < generation {
        index.set_field(Field::Generation, generation)?;
    }
    Ok(())
}
