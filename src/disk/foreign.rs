//! What processes with another secret (or none) have in the same directory.
//!
//! Every pack says in its header under which key its envelopes are. A pack under another key is
//! never appended to, never emptied, and never answers a look-up: what can be read in it is a hint,
//! like a slot of the index. It counts in the budget, its entries are evicted by age like ours, and
//! it is unlinked once no slot leads into it. The slots of different keys never meet, because each
//! key hashes names in its own way ([`KeyId::salt`]); objects are shared, for they are pure content.

use super::bind::end;
use super::bind::key_slot_under;
use super::envelope::{Envelope, KeyId, Kind};
use super::header::Field;
use super::index::Index;
use super::inner::{Inner, Locked};
use super::layout::PackNumber;
use super::pack::{Pack, list};
use super::rebuild::content_slot;
use super::slot::{Place, Slot, SlotKind};
use crate::digest::Digest;
use crate::error::Result;
use crate::sync::Arc;
use rustc_hash::FxHashSet;
use std::io;

const POISON: &str = "the lock of keepwarm's key ids is poisoned: a thread panicked under it";
/// Key ids that are remembered; then all are read again.
const REMEMBERED: usize = 1 << 16;

impl Inner {
    /// Under which key the envelopes of a pack are; `None` if there is no such pack. A pack's number
    /// is never used again, so the answer holds for ever.
    pub(super) fn key_id_of(&self, number: PackNumber) -> io::Result<Option<KeyId>> {
        if let Some(id) = self.key_ids.lock().expect(POISON).get(&number) {
            return Ok(Some(*id));
        }
        let Some(id) = Pack::key_id_at(&self.files, number)? else {
            return Ok(None);
        };
        let mut known = self.key_ids.lock().expect(POISON);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(number, id);
        Ok(Some(id))
    }

    /// Whether a pack is under another key than ours. One that cannot be read is nothing that we
    /// could append to or empty either.
    pub(super) fn is_theirs(&self, number: PackNumber) -> bool {
        self.key_id_of(number)
            .map_or(true, |id| id.is_some_and(|id| id != self.check().id()))
    }

    /// The keys of which there are packs, our own included.
    pub(super) fn all_key_ids(&self) -> io::Result<Vec<KeyId>> {
        let mut ids = vec![self.check().id()];
        for (number, _) in list(&self.files)? {
            match self.key_id_of(number) {
                Ok(Some(id)) if !ids.contains(&id) => ids.push(id),
                // Not even readable: nobody whose packs we could miss.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
                found => drop(found?),
            }
        }
        Ok(ids)
    }

    /// Whether a slot of one of `keys` names the object.
    pub(super) fn is_object_named(
        index: &Index,
        digest: &Digest,
        keys: &[KeyId],
    ) -> io::Result<bool> {
        for key in keys {
            let hash = index.hash_under(digest.as_bytes(), *key);
            if !index.find(SlotKind::Content, hash)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The contents, by their tags, that keys are bound to, of whatever secret. One of them may lack
    /// its own slot, which damage or a power cut took: it is needed all the same.
    pub(super) fn tags_of_keys(index: &Index) -> io::Result<FxHashSet<u32>> {
        let mut tags = FxHashSet::default();
        index.for_each(|_, slot| {
            if slot.kind == SlotKind::Key {
                tags.insert(slot.content);
            }
        })?;
        Ok(tags)
    }

    /// Whether `tags` have the object, under one of `keys`.
    pub(super) fn is_object_among(
        index: &Index,
        digest: &Digest,
        keys: &[KeyId],
        tags: &FxHashSet<u32>,
    ) -> bool {
        let tag = |key: &KeyId| {
            index
                .hash_under(digest.as_bytes(), *key)
                .tag(SlotKind::Content)
        };
        keys.iter().any(|key| tags.contains(&tag(key)))
    }

    /// What a place in a pack under another key seems to hold.
    pub(super) fn hint(&self, place: Place) -> io::Result<Option<(Arc<Pack>, Envelope, bool)>> {
        let Some(pack) = self.pack(place.pack())? else {
            return Ok(None);
        };
        if pack.key_id == self.check().id() {
            return Ok(None);
        }
        let found = pack.hint(place.offset())?;
        Ok(found.map(|(envelope, live)| (pack, envelope, live)))
    }

    /// Unbinds the key of a slot that leads into a pack under another key, as [`Inner::unbind`] does
    /// it for ours; tells how long the artifact was said to be. `None` if the slot leads to nothing
    /// of that kind. The caller holds the lock.
    pub(super) fn evict_theirs(&self, index: &Index, slot: &Slot) -> io::Result<Option<u64>> {
        let Some((pack, evicted, true)) = self.hint(slot.place)? else {
            return Ok(None);
        };
        if index.hash_under(evicted.key.as_bytes(), pack.key_id) != slot.hash {
            return Ok(None);
        }
        let mut all = Vec::new();
        for (at, slot) in index.find(SlotKind::Key, slot.hash)? {
            if let Some((other, envelope, true)) = self.hint(slot.place)? {
                if other.key_id == pack.key_id && envelope.key == evicted.key {
                    all.push((envelope.generation, at, slot, other));
                }
            }
        }
        all.sort_by_key(|(generation, _, slot, _)| (*generation, slot.place));
        let last = all.len().saturating_sub(1);
        let newest = all.last().map_or(0, |(generation, ..)| *generation);
        index.note_newest_end(slot.hash, newest)?;
        for (i, (generation, at, slot, pack)) in all.iter().enumerate() {
            let next = all.get(i + 1).map(|(generation, ..)| generation);
            end(pack, slot.place.offset(), next == Some(generation))?;
            index.vacate(*at, slot, i == last)?;
            self.pending.lock().expect(POISON).add_pack(pack);
        }
        index.add(Field::Garbage, evicted.length.min(self.limits.bytes))?;
        Ok(Some(evicted.length))
    }

    /// Puts what seems to be a record in a pack under another key back into the index, for a
    /// rebuild: its owner believes it only after a look of its own. The caller holds the lock.
    pub(super) fn reinsert_theirs(
        &self,
        locked: &mut Locked<'_>,
        (place, envelope, live): (Place, &Envelope, bool),
        key_id: KeyId,
    ) -> Result<()> {
        let io = |e| self.error("rebuild the index", e);
        locked
            .index
            .raise_generation(envelope.generation)
            .map_err(io)?;
        if envelope.kind == Kind::Inline || (live && envelope.kind == Kind::Object) {
            let hash = locked.index.hash_under(envelope.digest.as_bytes(), key_id);
            let known = locked.index.find(SlotKind::Content, hash).map_err(io)?;
            let mut is_known = false;
            for (_, slot) in known {
                let led = self.hint(slot.place).map_err(io)?;
                is_known |= led.is_some_and(|(_, e, _)| e.digest == envelope.digest);
            }
            if !is_known {
                self.insert(locked, &content_slot(envelope, hash, place))?;
            }
        }
        if !live {
            return Ok(());
        }
        let slot = key_slot_under(&locked.index, envelope, place, key_id);
        let known = locked.index.find(SlotKind::Key, slot.hash).map_err(io)?;
        if known.iter().any(|(_, known)| known.place == place) {
            return Ok(());
        }
        self.insert(locked, &slot)
    }
}
