//! Looking a key up: which bindings it has, which one counts, and what it is bound to.
//!
//! The index only says where to look. What is found must carry the full key, and what is handed
//! out must hash to the digest of its binding.

use super::Mapping;
use super::envelope::{Envelope, Kind};
use super::index::Index;
use super::inner::Inner;
use super::object::{self, Loaded};
use super::pack::Pack;
use super::slot::{Place, Slot, SlotKind};
use super::table::Position;
use super::verified::Verified;
use crate::artifact::Artifact;
use crate::digest::Digest;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::store::{is_past, now};
use crate::sync::{Arc, Ordering, fence};
use std::io;

/// A handle that only misses looks at the index's path this often, in nanoseconds, to see that it was
/// replaced.
const LOOK_AGAIN: u64 = 1_000_000_000;

/// A get looks this often: where something was found damaged or moved away, what is beside it or
/// where it went is served.
const LOOKS: usize = 6;

/// A look-up of a key that is changed all the while looks this often before it takes what it sees.
const SETTLING_LOOKS: usize = 16;

/// What a slot leads to, as the envelope there says: a live binding, or where content is.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) at: Position,
    pub(super) slot: Slot,
    pub(super) envelope: Envelope,
    pub(super) pack: Arc<Pack>,
}

/// The bindings of a key, and slots that look like its own and lead to nothing live.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    /// By generation, the newest last.
    pub(super) live: Vec<Binding>,
    pub(super) stale: Vec<(Position, Slot)>,
}

impl Bindings {
    fn is_empty(&self) -> bool {
        self.live.is_empty() && self.stale.is_empty()
    }

    /// Where the slots are and where they lead, and which of them are alive.
    fn places(&self) -> impl Iterator<Item = (Position, Place, bool)> {
        let live = self.live.iter().map(|b| (b.at, b.slot.place, true));
        live.chain(self.stale.iter().map(|(at, slot)| (*at, slot.place, false)))
    }

    /// Whether `slots` are among the live ones.
    fn has_all(&self, slots: &[(Position, Slot)]) -> bool {
        let is_live = |at: Position, place| {
            self.live
                .iter()
                .any(|b| (b.at, b.slot.place) == (at, place))
        };
        slots.iter().all(|(at, slot)| is_live(*at, slot.place))
    }
}

/// What loading the content of a binding found.
pub(super) enum Content {
    Artifact(Artifact),
    Gone,
    Corrupt,
}

enum Look {
    Found(Artifact, Binding),
    Corrupt(Binding),
    /// A slot led to nothing.
    Gone,
    Nothing,
}

impl Inner {
    /// All bindings of `key` that the index knows.
    pub(super) fn bindings(&self, index: &Index, key: &Fingerprint) -> io::Result<Bindings> {
        let hash = index.hash(key.as_bytes());
        let mut found = Bindings::default();
        for (at, slot) in index.find(SlotKind::Key, hash)? {
            match self.envelope(slot.place)? {
                Some((pack, envelope, true)) if envelope.key == *key => {
                    found.live.push(Binding {
                        at,
                        slot,
                        envelope,
                        pack,
                    });
                }
                // Another key with the same hash: leave its slot alone.
                Some((_, envelope, true)) if index.hash(envelope.key.as_bytes()) == hash => {}
                _ => found.stale.push((at, slot)),
            }
        }
        found
            .live
            .sort_by_key(|binding| (binding.envelope.generation, binding.slot.place));
        Ok(found)
    }

    /// As [`bindings`](Self::bindings), for who does not hold the lock: what is there all the while
    /// is not overlooked because it moves.
    ///
    /// The two buckets of a key are looked at one after the other. While it is rebound it may move
    /// from the one that this look has yet to come to into the one where it has been, and loads may
    /// be reordered as well. So finding nothing counts only if nothing was bound or moved during the
    /// look. Whoever sees the place that a key has left sees, behind a fence, what was counted
    /// before it left.
    fn moving_bindings(&self, index: &Index, key: &Fingerprint) -> io::Result<Bindings> {
        let mut found = Bindings::default();
        for _ in 0..=SETTLING_LOOKS {
            let before = index.moves();
            fence(Ordering::Acquire);
            found = self.bindings(index, key)?;
            if !found.is_empty() {
                break;
            }
            fence(Ordering::Acquire);
            if index.moves() == before {
                break;
            }
        }
        Ok(found)
    }

    /// Whether a key has no slot, for who does not hold the lock; `false` is no answer. What nearly every
    /// miss comes to. Why nothing must have moved meanwhile tells
    /// [`moving_bindings`](Self::moving_bindings).
    fn is_absent(index: &Index, key: &Fingerprint) -> io::Result<bool> {
        // Else it is four reads of the file, which each hit would pay as well.
        if !index.is_mapped() {
            return Ok(false);
        }
        let before = index.moves();
        fence(Ordering::Acquire);
        if index.may_have(SlotKind::Key, index.hash(key.as_bytes()))? {
            return Ok(false);
        }
        fence(Ordering::Acquire);
        Ok(index.moves() == before)
    }

    /// The bindings of `key` at one moment, for who does not hold the lock.
    ///
    /// Bindings are looked at one after the other, while a flush or a removal may bury them, the
    /// oldest first: a look that found an older one alive may come to the newer one when that is
    /// dead too, or no longer in the table. So only a look that nothing changed under counts.
    pub(super) fn settled_bindings(
        &self,
        index: &Index,
        key: &Fingerprint,
    ) -> io::Result<Bindings> {
        let mut found = self.moving_bindings(index, key)?;
        for _ in 0..SETTLING_LOOKS {
            if found.live.is_empty() {
                break;
            }
            if found.stale.is_empty() {
                // What was alive is alive unless its slot went, and nothing newer came.
                let slots = index.find(SlotKind::Key, index.hash(key.as_bytes()))?;
                if slots.len() == found.live.len() && found.has_all(&slots) {
                    break;
                }
            }
            let again = self.moving_bindings(index, key)?;
            let settled = again.places().eq(found.places());
            found = again;
            if settled {
                break;
            }
        }
        Ok(found)
    }

    /// Where the index says that content is stored, inline or as an object (the envelope's kind
    /// tells): the slot and the pack, if the envelope there bears it out.
    pub(super) fn content(&self, index: &Index, digest: &Digest) -> io::Result<Option<Binding>> {
        for (at, slot) in index.find(SlotKind::Content, index.hash(digest.as_bytes()))? {
            if let Some((pack, envelope, _)) = self.envelope(slot.place)? {
                // Live or dead: the life word speaks of the binding, not the bytes behind it.
                if envelope.digest == *digest {
                    return Ok(Some(Binding {
                        at,
                        slot,
                        envelope,
                        pack,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// The entry under `key` and its slot, verified; its use is noted.
    pub(super) fn get(&self, key: &Fingerprint) -> Result<Option<(Artifact, Binding)>> {
        let mut index = self.live_index();
        let mut looked_again = false;
        for _ in 0..LOOKS {
            let found = self.look(&index, key);
            let go_on = match found.map_err(|e| self.error("look up a key", e))? {
                Look::Found(artifact, binding) => {
                    self.note_use(&index, &binding);
                    return Ok(Some((artifact, binding)));
                }
                // An older binding, which a flush made durable, may be beside what a power cut
                // left of a newer one.
                Look::Corrupt(binding) => self.quarantine(&binding),
                Look::Gone if looked_again => self.forget_stale(key),
                Look::Nothing if looked_again || !self.is_time_to_look() => false,
                // It may have moved, or another index may be at the path: once more.
                Look::Gone | Look::Nothing => {
                    looked_again = true;
                    self.epoch.store(u64::MAX, Ordering::Relaxed);
                    index = self.refresh();
                    self.drop_gone_packs();
                    true
                }
            };
            if !go_on {
                break;
            }
        }
        Ok(None)
    }

    /// Whether an entry is older than entries may be.
    pub(super) fn is_expired(&self, envelope: &Envelope) -> bool {
        let limit = self.limits.max_age;
        limit.is_some_and(|age| is_past(envelope.put_at(), age, now()))
    }

    pub(super) fn is_time_to_look(&self) -> bool {
        let now = self.born.elapsed();
        if now.saturating_sub(self.looked.load(Ordering::Relaxed)) < LOOK_AGAIN {
            return false;
        }
        self.looked.store(now, Ordering::Relaxed);
        true
    }

    fn look(&self, index: &Index, key: &Fingerprint) -> io::Result<Look> {
        if Self::is_absent(index, key)? {
            return Ok(Look::Nothing);
        }
        let mut found = self.settled_bindings(index, key)?;
        let Some(binding) = found.live.pop() else {
            return Ok(if found.is_empty() {
                Look::Nothing
            } else {
                Look::Gone
            });
        };
        if self.is_expired(&binding.envelope) {
            return Ok(Look::Nothing);
        }
        Ok(match self.load(index, &binding)? {
            Content::Artifact(artifact) => Look::Found(artifact, binding),
            Content::Gone => Look::Gone,
            Content::Corrupt => Look::Corrupt(binding),
        })
    }

    /// The content of a binding, verified as often as the settings ask for.
    pub(super) fn load(&self, index: &Index, binding: &Binding) -> io::Result<Content> {
        self.load_unless(index, binding, Some(&self.verified))
    }

    /// The content of a binding, verified now: for who decides what is damaged.
    pub(super) fn load_and_hash(&self, index: &Index, binding: &Binding) -> io::Result<Content> {
        self.load_unless(index, binding, None)
    }

    fn load_unless(
        &self,
        index: &Index,
        binding: &Binding,
        verified: Option<&Verified>,
    ) -> io::Result<Content> {
        let Envelope {
            kind,
            digest,
            length,
            ..
        } = binding.envelope;
        let (pack, offset) = match kind {
            Kind::Inline => (Arc::clone(&binding.pack), binding.slot.place.offset()),
            Kind::Namespace => return Ok(Content::Gone),
            Kind::Object => {
                let map = self.limits.mapping == Mapping::Large;
                let wanted = (&digest, length);
                return Ok(match object::load(&self.files, wanted, map, verified)? {
                    Loaded::Artifact(artifact) => Content::Artifact(artifact),
                    Loaded::Gone => Content::Gone,
                    Loaded::Corrupt => Content::Corrupt,
                });
            }
            Kind::Shared => match self.content(index, &digest)? {
                Some(Binding { envelope, .. }) if envelope.length != length => {
                    return Ok(Content::Corrupt);
                }
                Some(content) if content.envelope.kind == Kind::Inline => {
                    (content.pack, content.slot.place.offset())
                }
                _ => return Ok(Content::Gone),
            },
        };
        let is_known = verified.is_some_and(|verified| verified.has_payload(&pack, offset));
        let hashed = (!is_known).then_some(digest);
        let Some(bytes) = pack.payload(offset, length, hashed.as_ref())? else {
            pack.verified.forget(offset);
            return Ok(Content::Corrupt);
        };
        if let (Some(verified), false) = (verified, is_known) {
            verified.note_payload(&pack, offset);
        }
        Ok(Content::Artifact(Artifact::from_heap(bytes, hashed, None)))
    }
}
