//! Copying what is live in a pack to another one, or finding where it is already.

use super::counters::Counters;
use super::envelope::{Envelope, Kind, growth, record_len};
use super::header::Field;
use super::index::Index;
use super::inner::Inner;
use super::lookup::{Binding, Content};
use super::pack::Pack;
use super::slot::{Place, Slot, SlotKind};
use super::table::Position;
use crate::digest::Digest;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::sync::Arc;
use std::io;
use std::time::Duration;

/// Of many keys that share a content so many are asked whether they have the bytes themselves.
const HEIRS: usize = 64;
/// A copy is appended so often, where the pack that it went to is gone each time.
const APPENDS: usize = 8;

/// A binding, or only the way to a content, that has a copy at `place`.
#[derive(Debug)]
pub(super) struct Moved {
    /// The key and where its original binding is.
    pub(super) key: Option<(Fingerprint, Place)>,
    pub(super) digest: Digest,
    /// Where the content's slot pointed.
    pub(super) content: Place,
    pub(super) place: Place,
    /// The pack of the copy, which has to be synced; `None` if nothing was copied.
    pub(super) to: Option<Arc<Pack>>,
    /// Whether the copy was there before: whoever made it was killed.
    pub(super) is_old: bool,
}

/// What became of a binding in a pack that is being emptied.
pub(super) enum Fate {
    Copied(Moved),
    /// It was dead already, or was replaced or removed meanwhile.
    Dead,
    /// It could not be read.
    Lost,
}

impl Inner {
    /// Appends the binding in `slot` elsewhere, with its payload.
    pub(super) fn move_binding(&self, pack: &Arc<Pack>, at: Position, slot: &Slot) -> Result<Fate> {
        let io = |e| self.error("move an entry to another pack", e);
        let offset = slot.place.offset();
        let found = pack.envelope(self.check(), offset).map_err(io)?;
        let Some((envelope, live)) = found else {
            return self.drop_slot(at, slot, None).map(|()| Fate::Lost);
        };
        if !live {
            return self.drop_slot(at, slot, Some(pack)).map(|()| Fate::Dead);
        }
        let mut payload = None;
        if envelope.kind.carries_payload() {
            payload = pack
                .payload(offset, envelope.length, Some(&envelope.digest))
                .map_err(io)?;
            if payload.is_none() {
                Counters::add(&self.counters.corrupt, 1);
                return self.drop_slot(at, slot, None).map(|()| Fate::Lost);
            }
        }
        let bytes = payload.as_deref().unwrap_or_default();
        let places = (slot.place, slot.place);
        let copy = match self.copy_elsewhere(&envelope, pack, places)? {
            None => self.copy(&envelope, bytes, pack, places)?,
            found => found,
        };
        Ok(copy.map_or(Fate::Dead, Fate::Copied))
    }

    /// A copy outside `from` that was made before, whole. Without it each process that is killed while it
    /// empties a pack would leave one more.
    fn copy_elsewhere(
        &self,
        envelope: &Envelope,
        from: &Pack,
        (original, content): (Place, Place),
    ) -> Result<Option<Moved>> {
        let io = |e| self.error("look for a copy in another pack", e);
        let index = self.index();
        for copy in self.bindings(&index, &envelope.key).map_err(io)?.live {
            let is_copy = copy.envelope.generation == envelope.generation
                && copy.envelope.digest == envelope.digest
                && copy.envelope.kind == envelope.kind;
            if !is_copy || copy.pack.number == from.number || copy.slot.place == original {
                continue;
            }
            if self.is_whole_copy(&index, &copy) {
                return Ok(Some(Moved {
                    key: Some((envelope.key, original)),
                    digest: envelope.digest,
                    content,
                    place: copy.slot.place,
                    to: Some(copy.pack),
                    is_old: true,
                }));
            }
        }
        Ok(None)
    }

    /// Whether a binding elsewhere is whole, and in a pack that has its name, for a handle outlives the
    /// file, and of which no sync failed: two such packs would wait for one another to be written
    /// anew. What cannot be read is no copy to rely on, and counted.
    fn is_whole_copy(&self, index: &Index, copy: &Binding) -> bool {
        if self.is_doubtful(copy.pack.number) {
            return false;
        }
        let look = || -> io::Result<bool> {
            let is_there = copy.pack.is_named(&self.files)?;
            let is_whole = || self.load_and_hash(index, copy);
            Ok(is_there && matches!(is_whole()?, Content::Artifact(_)))
        };
        look().unwrap_or_else(|_| {
            Counters::add(&self.counters.maintenance_errors, 1);
            false
        })
    }

    /// Appends a copy of a binding, and binds it beside the original. A binding that was replaced
    /// or removed meanwhile is not bound again: the record stays pending.
    pub(super) fn copy(
        &self,
        envelope: &Envelope,
        payload: &[u8],
        from: &Pack,
        (original, content): (Place, Place),
    ) -> Result<Option<Moved>> {
        let io = |e| self.error("move an entry to another pack", e);
        for _ in 0..APPENDS {
            let (place, pack, _claim) = self.append(envelope, payload, Some(from)).map_err(io)?;
            Counters::add(&self.counters.rewritten_bytes, payload.len() as u64);
            let mut locked = self.locked()?;
            if !pack.is_named(&self.files).map_err(io)? {
                // Cleared or removed since: the original must not end for what went there.
                self.release_packs(Duration::ZERO);
                continue;
            }
            let record = record_len(envelope.kind, envelope.length).unwrap_or(0);
            let written = growth(place.offset(), record);
            locked.index.add(Field::DiskBytes, written).map_err(io)?;
            let key = locked.index.hash(envelope.key.as_bytes());
            let slots = locked.index.find(SlotKind::Key, key).map_err(io)?;
            let Some((_, slot)) = slots.into_iter().find(|(_, slot)| slot.place == original) else {
                return Ok(None);
            };
            // Whoever ends a binding marks it before the slot goes, and may be killed in between.
            if !self.is_live_in(original, from).map_err(io)? {
                return Ok(None);
            }
            self.insert(&mut locked, &Slot { place, ..slot })?;
            pack.mark_live(place.offset()).map_err(io)?;
            return Ok(Some(Moved {
                key: Some((envelope.key, original)),
                digest: envelope.digest,
                content,
                place,
                to: Some(pack),
                is_old: false,
            }));
        }
        Err(io(io::ErrorKind::NotFound.into()))
    }

    /// Whether the binding at a place is alive; of a place in `pack` that one is asked, whatever file has
    /// its name by now.
    fn is_live_in(&self, place: Place, pack: &Pack) -> io::Result<bool> {
        if place.pack() == pack.number {
            let found = pack.envelope(self.check(), place.offset())?;
            return Ok(found.is_some_and(|(_, live)| live));
        }
        Ok(self.envelope(place)?.is_some_and(|(_, _, live)| live))
    }

    /// Content in the pack whose own key is gone lives on under a key that shares it.
    pub(super) fn rescue_content(&self, pack: &Arc<Pack>, slot: &Slot) -> Result<Option<Moved>> {
        let io = |e| self.error("move content to another pack", e);
        let offset = slot.place.offset();
        let Some((dead, _)) = pack.envelope(self.check(), offset).map_err(io)? else {
            return Ok(None);
        };
        let Some(heir) = self.heir(pack, slot, &dead).map_err(io)? else {
            return Ok(None);
        };
        let (digest, content) = (dead.digest, slot.place);
        if heir.envelope.kind != Kind::Shared {
            // The bytes are in a file of their own, or are the heir's own: only the way to them moves.
            let is_object = heir.envelope.kind == Kind::Object;
            return Ok(Some(Moved {
                key: None,
                digest,
                content,
                place: heir.slot.place,
                to: (!is_object).then_some(heir.pack),
                is_old: true,
            }));
        }
        let Some(payload) = pack
            .payload(offset, dead.length, Some(&digest))
            .map_err(io)?
        else {
            Counters::add(&self.counters.corrupt, 1);
            return Ok(None);
        };
        let envelope = Envelope {
            kind: Kind::Inline,
            ..heir.envelope
        };
        let places = (heir.slot.place, content);
        match self.copy_elsewhere(&envelope, pack, places)? {
            None => self.copy(&envelope, &payload, pack, places),
            found => Ok(found),
        }
    }

    /// A live binding outside `pack` of the content in `slot`: one that has the bytes itself, else
    /// one that shares them.
    fn heir(&self, pack: &Pack, slot: &Slot, content: &Envelope) -> io::Result<Option<Binding>> {
        let tag = slot.hash.tag(SlotKind::Content);
        let mut users = Vec::new();
        let index = self.index();
        index.for_each(|at, key| {
            let elsewhere = key.place.pack() != pack.number;
            if key.kind == SlotKind::Key && key.content == tag && elsewhere {
                users.push((at, key));
            }
        })?;
        let mut sharing = None;
        for (looks, (at, slot)) in users.into_iter().enumerate() {
            if sharing.is_some() && looks >= HEIRS {
                break;
            }
            let Some((pack, envelope, true)) = self.envelope(slot.place)? else {
                continue;
            };
            let heir = Binding {
                at,
                slot,
                envelope,
                pack,
            };
            if envelope.digest != content.digest || envelope.length != content.length {
                continue;
            }
            match (envelope.kind, content.kind) {
                (Kind::Object, Kind::Object) => return Ok(Some(heir)),
                (Kind::Shared, Kind::Inline) => sharing = Some(heir),
                (Kind::Inline, Kind::Inline) if self.is_whole_copy(&index, &heir) => {
                    return Ok(Some(heir));
                }
                _ => {}
            }
        }
        Ok(sharing)
    }
}
