//! Every record of every pack: is its payload whole, is its content there, does the index know it?

use super::{Fault, PAUSE, Walk};
use crate::digest::Digest;
use crate::disk::envelope::{Envelope, Kind, LifeWord};
use crate::disk::header::REBUILDING;
use crate::disk::index::Index;
use crate::disk::inner::Inner;
use crate::disk::layout::{Layout, PackNumber};
use crate::disk::lookup::Binding;
use crate::disk::object;
use crate::disk::pack::Pack;
use crate::disk::slot::{Place, SlotKind};
use crate::disk::walk::Record;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::sync::Arc;
use std::io;

/// Keys of one content that are named; more are left to the next run.
const USERS: usize = 4096;
/// Bytes between two reports of progress.
const STEP: u64 = 1 << 20;

impl Walk<'_> {
    /// Looks at every record of every pack of ours.
    pub(super) fn packs(&mut self) -> Result<()> {
        let folder = self.inner.files.layout.packs();
        for name in self.names(&folder)? {
            match PackNumber::parse(&name) {
                Some(number) => self.named_pack(number)?,
                None if Layout::is_pack_lock(&name) => {}
                None => self.find(Fault::Foreign, None, folder.join(name), false),
            }
            if self.report.cancelled {
                break;
            }
        }
        Ok(())
    }

    fn named_pack(&mut self, number: PackNumber) -> Result<()> {
        let path = self.inner.files.layout.pack(number);
        match Pack::open(&self.inner.files, number) {
            Err(_) => self.find(Fault::Unreadable, None, path, false),
            Ok(None) => return self.no_pack(number),
            Ok(Some(pack)) if pack.key_id != self.inner.check().id() => {
                self.report.packs_of_others += 1;
                self.advance(pack.len().unwrap_or(0));
            }
            Ok(Some(pack)) => {
                if let Err(e) = self.records(&pack)? {
                    // What was read of it counts.
                    drop(e);
                    self.find(Fault::Unreadable, None, path, false);
                }
            }
        }
        Ok(())
    }

    fn no_pack(&mut self, number: PackNumber) -> Result<()> {
        let path = self.inner.files.layout.pack(number);
        loop {
            // It may be about to get its header, or have been unlinked.
            crate::sync::sleep(PAUSE);
            if !matches!(Pack::open(&self.inner.files, number), Ok(None))
                || self.inner.files.fs.stat(&path).is_err()
            {
                return Ok(());
            }
            if self.patience == 0 {
                break;
            }
            self.patience -= 1;
        }
        let repaired = self.repair && self.inner.empty_pack(number)?;
        self.find(Fault::NoPack, None, path, repaired);
        Ok(())
    }

    /// The inner error is one of reading the pack.
    fn records(&mut self, pack: &Arc<Pack>) -> Result<io::Result<()>> {
        let len = match pack.len() {
            Ok(len) => len,
            Err(e) => return Ok(Err(e)),
        };
        let (mut offset, mut told) = (0, 0);
        loop {
            let record = match pack.next_record(self.inner.check(), offset, len) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(e) => return Ok(Err(e)),
            };
            offset = record.next;
            match self.record(pack, &record) {
                Ok(()) => {}
                Err(Trouble::Read(e)) => return Ok(Err(e)),
                Err(Trouble::Repair(e)) => return Err(e),
            }
            if offset - told >= STEP {
                if !self.advance(offset - told) {
                    return Ok(Ok(()));
                }
                told = offset;
            }
        }
        self.advance(len.saturating_sub(told));
        Ok(Ok(()))
    }

    fn record(&mut self, pack: &Arc<Pack>, record: &Record) -> Result<(), Trouble> {
        let envelope = &record.envelope;
        if record.life == LifeWord::Live && envelope.kind != Kind::Namespace {
            self.report.entries += 1;
            self.progress.entries += 1;
        }
        let place = Place::new(pack.number, record.offset);
        if envelope.kind.carries_payload() {
            let whole = pack.is_whole(record.offset, envelope.length, &envelope.digest)?;
            self.report.bytes = self.report.bytes.saturating_add(envelope.length);
            if !whole {
                return self.damaged(pack, place, record);
            }
        }
        if record.life != LifeWord::Live {
            return Ok(());
        }
        if self.is_in_order(place, record)? {
            return Ok(());
        }
        self.out_of_order(pack, place, record)
    }

    /// Whether the index leads to a live record, and the content of that is there.
    fn is_in_order(&self, place: Place, record: &Record) -> io::Result<bool> {
        let index = self.inner.live_index();
        let is_known = knows(&index, &record.envelope.key, place)?;
        Ok(is_known && self.inner.has_content(&index, &record.envelope)? == Held::Known)
    }

    /// The payload of a record, live or not, is not what it was.
    fn damaged(&mut self, pack: &Arc<Pack>, place: Place, record: &Record) -> Result<(), Trouble> {
        let path = self.inner.files.layout.pack(pack.number);
        drop(self.settle());
        let envelope = &record.envelope;
        let still = self.inner.is_still(pack, record)?;
        let is_damaged = !pack.is_whole(record.offset, envelope.length, &envelope.digest)?;
        if !is_damaged {
            return Ok(());
        }
        let index = self.inner.live_index();
        if still && !knows(&index, &envelope.key, place)? {
            let is_unknown = |index: &Index| Ok(!knows(index, &envelope.key, place)?);
            let repaired = self.repair && self.inner.end(pack, (place, record), is_unknown)?;
            self.find(Fault::Damaged, Some(envelope.key), path.clone(), repaired);
        }
        if still && envelope.kind == Kind::Namespace {
            let is_damaged = |_: &Index| {
                let whole = pack.is_whole(record.offset, envelope.length, &envelope.digest)?;
                Ok(!whole)
            };
            let repaired = self.repair && self.inner.end(pack, (place, record), is_damaged)?;
            self.find(Fault::Damaged, Some(envelope.key), path, repaired);
            return Ok(());
        }
        // Those who share it, and the record's own key.
        let content = self.inner.content(&index, &envelope.digest)?;
        let is_shared = content.is_some_and(|content| content.slot.place == place);
        for user in self.inner.users(&index, &envelope.digest)? {
            let own = user.slot.place == place;
            if own || (is_shared && user.envelope.kind == Kind::Shared) {
                let key = user.envelope.key;
                let repaired = self.repair && self.inner.retire_user(&user)?;
                self.find(Fault::Damaged, Some(key), path.clone(), repaired);
            }
        }
        Ok(())
    }

    /// A live record that is whole, but that the index does not know, or whose content it does not.
    fn out_of_order(
        &mut self,
        pack: &Arc<Pack>,
        place: Place,
        record: &Record,
    ) -> Result<(), Trouble> {
        drop(self.settle());
        if self.is_in_order(place, record)? || !self.inner.is_still(pack, record)? {
            return Ok(());
        }
        let Envelope { key, kind, .. } = record.envelope;
        let path = self.inner.files.layout.pack(pack.number);
        let index = self.inner.refresh();
        if index.has_flag(REBUILDING) {
            self.report.index_changed = true;
            return Ok(());
        }
        let held = self.inner.has_content(&index, &record.envelope)?;
        // What shares its bytes with a record that lost its slot is found with that.
        let may_be_found = held == Held::Unknown || (kind == Kind::Shared && held == Held::Nowhere);
        let is_lost = !knows(&index, &key, place)? || may_be_found;
        if is_lost && self.repair && !self.rebuilt {
            // Exactly what a rebuild is for, which also ends what is not the newest.
            self.inner.rebuild_now()?;
            self.rebuilt = true;
            let is_found =
                self.is_in_order(place, record)? || !self.inner.is_still(pack, record)?;
            if is_found {
                self.find(Fault::Unindexed, Some(key), path, true);
                return Ok(());
            }
        }
        if held == Held::Nowhere {
            let is_missing = |index: &Index| {
                Ok(self.inner.has_content(index, &record.envelope)? == Held::Nowhere)
            };
            let repaired = self.repair && self.inner.end(pack, (place, record), is_missing)?;
            self.find(Fault::Missing, Some(key), path, repaired);
        } else {
            self.find(Fault::Unindexed, Some(key), path, false);
        }
        Ok(())
    }
}

/// What ends the walk over a pack.
enum Trouble {
    /// It cannot be read: a finding.
    Read(io::Error),
    /// What is wrong could not be put right: an error.
    Repair(crate::error::Error),
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Self {
        Self::Read(e)
    }
}

impl From<crate::error::Error> for Trouble {
    fn from(e: crate::error::Error) -> Self {
        Self::Repair(e)
    }
}

/// What is known of the content of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// It is there, and the index has a slot for it.
    Known,
    /// It is there, without a slot.
    Unknown,
    /// It is not where it should be.
    Nowhere,
}

/// Whether a slot of the key leads to `place`.
fn knows(index: &Index, key: &Fingerprint, place: Place) -> io::Result<bool> {
    let slots = index.find(SlotKind::Key, index.hash(key.as_bytes()))?;
    Ok(slots.iter().any(|(_, slot)| slot.place == place))
}

impl Inner {
    /// Whether a record that was live is so still, in a pack that still has its name.
    fn is_still(&self, pack: &Pack, record: &Record) -> io::Result<bool> {
        let now = pack.envelope(self.check(), record.offset)?;
        Ok(now == Some((record.envelope, true)) && pack.is_named(&self.files)?)
    }

    /// Where the content of a binding is.
    fn has_content(&self, index: &Index, envelope: &Envelope) -> io::Result<Held> {
        let Envelope {
            kind,
            digest,
            length,
            ..
        } = envelope;
        if *kind == Kind::Namespace {
            return Ok(Held::Known);
        }
        if *kind == Kind::Object && !object::exists(&self.files, digest)? {
            return Ok(Held::Nowhere);
        }
        let found = self.content(index, digest)?.map(|content| content.envelope);
        let is_known = found.is_some_and(|found| {
            // An artifact that was put under another budget may be both inline and an object.
            *kind != Kind::Shared || (found.kind == Kind::Inline && found.length == *length)
        });
        Ok(match (is_known, kind) {
            (true, _) => Held::Known,
            (false, Kind::Shared) => Held::Nowhere,
            (false, _) => Held::Unknown,
        })
    }

    /// Ends a record, and clears its slot if there is one, if it still is what it should not be;
    /// tells whether it did.
    fn end(
        &self,
        pack: &Arc<Pack>,
        (place, record): (Place, &Record),
        is_wrong: impl Fn(&Index) -> io::Result<bool>,
    ) -> Result<bool> {
        let io = |e| self.error("end a record that is damaged or without content", e);
        let locked = self.locked()?;
        let index = &locked.index;
        // While it is being rebuilt, what it does not know is not missing.
        if index.has_flag(REBUILDING)
            || !is_wrong(index).map_err(io)?
            || !self.is_still(pack, record).map_err(io)?
        {
            return Ok(false);
        }
        let found = self.bindings(index, &record.envelope.key).map_err(io)?.live;
        if let Some(binding) = found.iter().find(|binding| binding.slot.place == place) {
            self.drop_binding(index, binding).map_err(io)?;
        } else {
            pack.mark_gone(record.offset).map_err(io)?;
            let mut pending = self.pending.lock().expect(crate::disk::POISON);
            pending.add_pack(pack);
        }
        Ok(true)
    }

    /// The bindings of ours to a content.
    pub(super) fn users(&self, index: &Index, digest: &Digest) -> io::Result<Vec<Binding>> {
        let tag = index.hash(digest.as_bytes()).tag(SlotKind::Content);
        let mut slots = Vec::new();
        index.for_each(|at, slot| {
            if slot.kind == SlotKind::Key && slot.content == tag && slots.len() < USERS {
                slots.push((at, slot));
            }
        })?;
        let mut users = Vec::new();
        for (at, slot) in slots {
            if let Some((pack, envelope, true)) = self.envelope(slot.place)? {
                if envelope.digest == *digest {
                    users.push(Binding {
                        at,
                        slot,
                        envelope,
                        pack,
                    });
                }
            }
        }
        Ok(users)
    }

    /// Ends a binding whose payload is damaged; tells whether it did.
    fn retire_user(&self, binding: &Binding) -> Result<bool> {
        if !self.quarantine(binding) {
            return Ok(false);
        }
        // The content may have gone with the first who shared it.
        let io = |e| self.error("retire a damaged artifact", e);
        let locked = self.locked()?;
        let index = &locked.index;
        if index.get(binding.at).map_err(io)? == Some(binding.slot)
            && matches!(
                self.load_and_hash(index, binding).map_err(io)?,
                crate::disk::lookup::Content::Gone
            )
        {
            self.drop_binding(index, binding).map_err(io)?;
        }
        Ok(index.get(binding.at).map_err(io)? != Some(binding.slot))
    }
}
