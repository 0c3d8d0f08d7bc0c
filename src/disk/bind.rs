//! Binding and unbinding keys: what happens to the index under the lock.

use super::counters::Counters;
use super::ended::may_bind;
use super::envelope::{Envelope, KeyId, Kind, growth, record_len};
use super::header::{Changes, Field, REBUILDING, sealed};
use super::hits::Hits;
use super::index::Index;
use super::inner::{Inner, Locked};
use super::lookup::Binding;
use super::object::{self};
use super::pack::{Held, Pack};
use super::slot::{Allocated, Place, Slot, SlotKind};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::sync::Arc;
use std::io;
use std::time::{Duration, Instant};

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
/// A removal waits this long for a rebuild of the index, which it needs to find every binding.
const REBUILD_WAIT: Duration = Duration::from_secs(30);

/// A record that was appended and is to be bound.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) envelope: Envelope,
    pub(super) place: Place,
    pub(super) pack: Arc<Pack>,
    /// Until it is bound.
    #[expect(dead_code, reason = "held, not read")]
    pub(super) claim: Arc<Held>,
    /// Bytes of an object that this put published.
    pub(super) object_bytes: u64,
    /// When it counts as used: at its generation, or before, if it comes from elsewhere.
    pub(super) last_use: u64,
    /// The index and its epoch before the append: while both are the same, no pack was moved away
    /// by a clear, and the link count tells whether the pack is still there.
    pub(super) before: (Arc<Index>, u64),
}

/// What became of it.
pub(super) enum Bound {
    Done {
        rebound: usize,
    },
    /// Content or pack went away between writing and binding, or a newer binding came and went.
    Again,
}

impl Inner {
    /// Indexes an appended record.
    pub(super) fn bind(&self, new: &Appended) -> Result<Bound> {
        let mut locked = self.locked()?;
        let record = record_len(new.envelope.kind, new.envelope.length).unwrap_or(0);
        let written = growth(new.place.offset(), record);
        let mut totals = Changes::default();
        totals.add(Field::DiskBytes, written);
        totals.add(Field::SinceSweep, written.saturating_add(new.object_bytes));
        let bound = self.bind_locked(&mut locked, new, &mut totals);
        // Whatever came of it, the bytes were written; and the slots that were, are in use.
        let counted = locked.index.change(&totals);
        let bound = bound?;
        counted.map_err(|e| self.error("bind a key", e))?;
        Ok(bound)
    }

    /// Indexes an appended record. The caller holds the lock, and writes the totals.
    fn bind_locked(
        &self,
        locked: &mut Locked<'_>,
        new: &Appended,
        totals: &mut Changes,
    ) -> Result<Bound> {
        let io = |e| self.error("bind a key", e);
        let index = &locked.index;
        let same = Arc::ptr_eq(&new.before.0, index) && new.before.1 == index.field(Field::Epoch);
        let is_there = if same {
            new.pack.is_linked()
        } else {
            new.pack.is_named(&self.files)
        };
        // Of what was ended in an index that was lost this one knows nothing.
        let is_known = new.before.0.seed() == index.seed();
        let may_bind = is_known && may_bind(index, &new.envelope).map_err(io)?;
        if !is_there.map_err(io)? || !may_bind || !self.is_content_there(index, new).map_err(io)? {
            // The record stays pending: it binds nothing.
            self.release_packs(Duration::ZERO);
            return Ok(Bound::Again);
        }
        let found = self.bindings(index, &new.envelope.key).map_err(io)?;
        let unbound = found.live.is_empty();
        self.note_boot(index, new.envelope.generation).map_err(io)?;
        for (i, (at, slot)) in found.stale.iter().enumerate() {
            index.vacate(*at, slot, unbound && i == 0).map_err(io)?;
        }
        let newest = found.live.last();
        if let Some(newest) = newest.filter(|b| b.envelope.generation >= new.envelope.generation) {
            // It stands for this one: the next flush covers it, whoever put it.
            self.adopt(index, newest, found.live.len() > 1)
                .map_err(io)?;
            // A newer put was indexed while this one was being written, or one of the same number
            // by another process, which knew as little of this one. This one stays pending.
            if new.object_bytes > 0 {
                // Its object is there, though: the next pass finds it by its slot.
                self.bind_content(locked, new, totals)?;
                totals.add(Field::Garbage, new.object_bytes);
            }
            return Ok(Bound::Done { rebound: 0 });
        }
        self.bind_content(locked, new, totals)?;
        let mut slot = key_slot(&locked.index, &new.envelope, new.place);
        slot.last_use = new.last_use.min(slot.last_use);
        self.place(locked, &slot)?;
        totals.add(Field::Used, 1);
        // Only now: a writer that is killed before leaves a slot that leads to nothing live, not a
        // live binding that nobody knows of.
        new.pack.mark_live(new.place.offset()).map_err(io)?;
        self.note_bound(new, !found.live.is_empty());
        if unbound && new.envelope.kind != Kind::Namespace {
            totals.add(Field::Entries, 1);
        }
        totals.raise(Field::Generation, sealed(new.envelope.generation));
        totals.add(Field::Puts, 1);
        Ok(Bound::Done {
            rebound: found.live.len(),
        })
    }

    /// What the append left pending a flush may have taken before the slot was there.
    fn note_bound(&self, new: &Appended, rebound: bool) {
        let mut pending = self.pending.lock().expect(POISON);
        pending.add_pack(&new.pack);
        if new.envelope.kind == Kind::Object {
            // It may also have gone and come back since, as a file that nobody synced.
            pending.objects.insert(new.envelope.digest);
        }
        if rebound {
            pending.rebound.insert(new.envelope.key);
        }
    }

    /// Whether what the record relies on is still there. The caller holds the lock, under which
    /// content is removed.
    fn is_content_there(&self, index: &Index, new: &Appended) -> io::Result<bool> {
        match new.envelope.kind {
            Kind::Inline | Kind::Namespace => Ok(true),
            Kind::Object => object::exists(&self.files, &new.envelope.digest),
            Kind::Shared => {
                let content = self.content(index, &new.envelope.digest)?;
                let content = content.filter(|content| content.envelope.kind == Kind::Inline);
                // It may be elsewhere by now, where nobody synced it.
                if let Some(content) = &content {
                    self.pending.lock().expect(POISON).add_pack(&content.pack);
                }
                Ok(content.is_some())
            }
        }
    }

    /// Writes the slot of new content, or points that of damaged content at the new bytes.
    fn bind_content(
        &self,
        locked: &mut Locked<'_>,
        new: &Appended,
        totals: &mut Changes,
    ) -> Result<()> {
        let io = |e| self.error("bind content", e);
        let Envelope {
            kind,
            digest,
            length,
            ..
        } = new.envelope;
        if matches!(kind, Kind::Shared | Kind::Namespace) {
            return Ok(());
        }
        let index = &locked.index;
        let hash = index.hash(digest.as_bytes());
        let allocated = match kind {
            Kind::Object => object::allocated(length),
            _ => record_len(kind, length).unwrap_or(0) - super::envelope::SIZE as u64,
        };
        let slot = Slot {
            kind: SlotKind::Content,
            hash,
            place: new.place,
            allocated: Allocated::of(allocated),
            content: u32::from(kind == Kind::Object),
            last_use: new.envelope.generation,
            hits: Hits::default(),
        };
        let known = index.find(SlotKind::Content, hash).map_err(io)?;
        for (at, old) in known {
            let same = self.envelope(old.place).map_err(io)?;
            let is_other = same.as_ref().is_some_and(|(_, e, _)| e.digest != digest);
            if is_other {
                continue;
            }
            // Inline content is only written again because what was there was damaged or gone.
            let keep = match &same {
                None => false,
                Some(_) if kind == Kind::Object => true,
                // Another put of the same bytes was faster: others may rely on what it wrote.
                Some((pack, known, _)) => {
                    known.kind == Kind::Inline
                        && pack.is_named(&self.files).map_err(io)?
                        && pack
                            .is_whole(old.place.offset(), known.length, &digest)
                            .map_err(io)?
                }
            };
            return if keep {
                Ok(())
            } else {
                index.write(at, &slot).map_err(io)
            };
        }
        self.place(locked, &slot)?;
        totals.add(Field::Used, 1);
        if kind == Kind::Object {
            // Counted with the slot, whoever wrote the file: so does the next pass.
            totals.add(Field::DiskBytes, slot.allocated.bytes());
        }
        Ok(())
    }

    /// Writes a slot into the table and counts it. The caller holds the lock.
    pub(super) fn insert(&self, locked: &mut Locked<'_>, slot: &Slot) -> Result<()> {
        self.place(locked, slot)?;
        let counted = locked.index.add(Field::Used, 1);
        counted.map_err(|e| self.error("write a slot of the index", e))
    }

    /// Writes a slot into the table, which grows if it must. The caller holds the lock and counts
    /// the slot.
    fn place(&self, locked: &mut Locked<'_>, slot: &Slot) -> Result<()> {
        let io = |e| self.error("write a slot of the index", e);
        if locked.index.is_loaded() {
            // Failing to grow is no failure while there is room.
            if self.grow_if_loaded(locked).is_err() {
                Counters::add(&self.counters.maintenance_errors, 1);
            }
        }
        let room = match locked.index.room(slot.hash).map_err(io)? {
            None => {
                // Nothing goes because a disk is full or fails: what comes is refused, what is there stays.
                self.make_room(locked)?;
                locked.index.room(slot.hash).map_err(io)?
            }
            room => room,
        };
        let at = if let Some(at) = room {
            at
        } else {
            // Damage or malice made slots that no table is large enough for: the oldest one goes.
            let full = || io(io::ErrorKind::StorageFull.into());
            let oldest = locked.index.oldest(slot.hash).map_err(io)?;
            let (at, old) = oldest.ok_or_else(full)?;
            self.evict_slot(&locked.index, at, &old).map_err(io)?;
            at
        };
        locked.index.write(at, slot).map_err(io)
    }

    /// Unbinds a key: every binding that the index knows is ended, the oldest first. Of copies only the
    /// last one is marked dead: whoever is killed in between leaves nothing alive that a dead one ends.
    /// The caller holds the lock.
    pub(super) fn unbind(&self, index: &Index, key: &Fingerprint) -> io::Result<bool> {
        self.unbind_up_to(index, key, u64::MAX)
    }

    /// The same of the bindings that are not above `generation`.
    pub(super) fn unbind_up_to(
        &self,
        index: &Index,
        key: &Fingerprint,
        generation: u64,
    ) -> io::Result<bool> {
        let mut removed = false;
        loop {
            let mut found = self.bindings(index, key)?;
            let all = found.live.len();
            found.live.retain(|b| b.envelope.generation <= generation);
            let has_newer = found.live.len() < all;
            for (i, (at, slot)) in found.stale.iter().enumerate() {
                let unbinds = found.live.is_empty() && !has_newer && !removed && i == 0;
                index.vacate(*at, slot, unbinds)?;
            }
            if found.live.is_empty() {
                return Ok(removed);
            }
            let last = found.live.len() - 1;
            let newest = found.live[last].envelope.generation;
            index.note_newest_end(index.hash(key.as_bytes()), newest)?;
            for (i, binding) in found.live.iter().enumerate() {
                let next = found.live.get(i + 1).map(|next| next.envelope.generation);
                let has_copy = next == Some(binding.envelope.generation);
                end(&binding.pack, binding.slot.place.offset(), has_copy)?;
                let unbinds = i == last && !has_newer && !removed;
                index.vacate(binding.at, &binding.slot, unbinds)?;
                self.add_garbage(index, binding)?;
                self.pending.lock().expect(POISON).add_pack(&binding.pack);
            }
            removed = true;
        }
    }

    /// Notes what the content of a binding may free once no key needs it.
    fn add_garbage(&self, index: &Index, binding: &Binding) -> io::Result<()> {
        let length = binding.envelope.length;
        index.add(Field::Garbage, length.min(self.limits.bytes))
    }

    /// Removes a key.
    pub(super) fn remove(&self, key: &Fingerprint) -> Result<bool> {
        let deadline = Instant::now() + REBUILD_WAIT;
        loop {
            let locked = self.locked()?;
            if locked.index.has_flag(REBUILDING) {
                drop(locked);
                if Instant::now() >= deadline {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        "remove a key while the index is being rebuilt",
                    )
                    .with_path(self.files.layout.index()));
                }
                self.rebuild_or_wait()?;
                continue;
            }
            let removed = self
                .unbind(&locked.index, key)
                .map_err(|e| self.error("remove a key", e))?;
            if !removed && locked.index.has_unsettled_ends() {
                self.pending.lock().expect(POISON).ends = true;
            }
            drop(locked);
            if self.collect_if_worthwhile().is_err() {
                // The key is removed; the space is freed by a later pass.
                Counters::add(&self.counters.maintenance_errors, 1);
            }
            return Ok(removed);
        }
    }
}

/// Marks a binding as gone where a copy of it is left, or else as dead.
pub(super) fn end(pack: &Pack, offset: u64, has_copy: bool) -> io::Result<()> {
    if has_copy {
        pack.mark_gone(offset)
    } else {
        pack.mark_dead(offset)
    }
}

/// The slot of a binding of ours.
pub(super) fn key_slot(index: &Index, envelope: &Envelope, place: Place) -> Slot {
    key_slot_under(index, envelope, place, index.key_id())
}

/// The slot of a binding in a pack under the key `key_id`.
pub(super) fn key_slot_under(
    index: &Index,
    envelope: &Envelope,
    place: Place,
    key_id: KeyId,
) -> Slot {
    let (allocated, content) = if envelope.kind == Kind::Namespace {
        (record_len(envelope.kind, envelope.length).unwrap_or(0), 0)
    } else {
        let content = index.hash_under(envelope.digest.as_bytes(), key_id);
        (super::envelope::SIZE as u64, content.tag(SlotKind::Content))
    };
    Slot {
        kind: SlotKind::Key,
        hash: index.hash_under(envelope.key.as_bytes(), key_id),
        place,
        allocated: Allocated::of(allocated),
        content,
        last_use: envelope.generation,
        hits: Hits::default(),
    }
}
