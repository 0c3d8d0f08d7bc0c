//! Every record of every pack: is its payload whole, is its content there, does the index know it?

use super::{Fault, PAUSE, Walk};
use crate::digest::Digest;
use crate::disk::envelope::Kind;
use crate::disk::header::REBUILDING;
use crate::disk::index::Index;
use crate::disk::inner::Inner;
use crate::disk::layout::{Layout, PackNumber};
use crate::disk::lookup::Binding;
use crate::disk::object;
use crate::disk::pack::{Pack, Record};
use crate::disk::slot::{Place, SlotKind};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use std::io;
use std::sync::Arc;

/// Keys of one content that are named; more are left to the next run.
const USERS: usize = 4096;
/// Bytes between two reports of progress.
const STEP: u64 = 1 << 20;
/// Keys with several bindings that a repair gathers before it ends the older ones.
const REPLACED: usize = 4096;

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
        // It may be about to get its header, or have been unlinked.
        std::thread::sleep(PAUSE);
        let path = self.inner.files.layout.pack(number);
        if !matches!(Pack::open(&self.inner.files, number), Ok(None))
            || self.inner.files.fs.stat(&path).is_err()
        {
            return Ok(());
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
        if record.live && envelope.kind != Kind::Namespace {
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
        if !record.live {
            return Ok(());
        }
        let index = self.inner.live_index();
        let (key, digest) = (&envelope.key, &envelope.digest);
        let is_there = match envelope.kind {
            Kind::Inline | Kind::Namespace => true,
            Kind::Object => object::exists(&self.inner.files, digest)?,
            Kind::Shared => self.inner.shares(&index, digest, envelope.length)?,
        };
        let is_known = knows(&index, key, place)?;
        if is_there && (is_known || index.has_flag(REBUILDING)) {
            return Ok(());
        }
        if is_there {
            return self.unindexed(pack, place, record);
        }
        self.missing(pack, place, record)
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
            let repaired = self.repair && self.inner.end_unindexed(pack, place, record)?;
            self.find(Fault::Damaged, Some(envelope.key), path.clone(), repaired);
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

    fn missing(&mut self, pack: &Arc<Pack>, place: Place, record: &Record) -> Result<(), Trouble> {
        let locked = self.settle();
        let index = self.inner.index();
        let envelope = &record.envelope;
        let is_there = match envelope.kind {
            Kind::Object => object::exists(&self.inner.files, &envelope.digest)?,
            _ => self
                .inner
                .shares(&index, &envelope.digest, envelope.length)?,
        };
        // During a rebuild the index does not know all content yet.
        let is_unsure = envelope.kind == Kind::Shared && index.has_flag(REBUILDING);
        if is_there || is_unsure || !self.inner.is_still(pack, record)? {
            return Ok(());
        }
        let mut repaired = false;
        if let (true, Some(locked)) = (self.repair, &locked) {
            let found = self.inner.bindings(&locked.index, &envelope.key)?.live;
            match found.iter().find(|binding| binding.slot.place == place) {
                Some(binding) => self.inner.drop_binding(&locked.index, binding)?,
                None => pack.mark_dead(record.offset)?,
            }
            repaired = true;
        }
        drop(locked);
        let path = self.inner.files.layout.pack(pack.number);
        self.find(Fault::Missing, Some(envelope.key), path, repaired);
        Ok(())
    }

    /// A live record that is whole and that the index does not know.
    fn unindexed(
        &mut self,
        pack: &Arc<Pack>,
        place: Place,
        record: &Record,
    ) -> Result<(), Trouble> {
        let mut locked = self.settle();
        let index = self.inner.refresh();
        let key = record.envelope.key;
        if index.has_flag(REBUILDING)
            || knows(&index, &key, place)?
            || !self.inner.is_still(pack, record)?
        {
            return Ok(());
        }
        let mut repaired = false;
        if let (true, Some(locked)) = (self.repair, &mut locked) {
            let found = (place, &record.envelope, true);
            self.inner.reinsert(locked, found, &mut self.replaced)?;
            repaired = true;
        }
        drop(locked);
        if self.replaced.len() >= REPLACED {
            self.inner
                .retire_replaced(std::mem::take(&mut self.replaced))?;
        }
        let path = self.inner.files.layout.pack(pack.number);
        self.find(Fault::Unindexed, Some(key), path, repaired);
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

    /// Whether the content that a shared binding needs is where the index says.
    fn shares(&self, index: &Index, digest: &Digest, length: u64) -> io::Result<bool> {
        let content = self.content(index, digest)?.map(|content| content.envelope);
        Ok(content.is_some_and(|found| found.kind == Kind::Inline && found.length == length))
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

    /// Ends a live record that no slot leads to; tells whether it did.
    fn end_unindexed(&self, pack: &Arc<Pack>, place: Place, record: &Record) -> Result<bool> {
        let io = |e| self.error("retire a damaged record", e);
        let locked = self.locked()?;
        let key = &record.envelope.key;
        if knows(&locked.index, key, place).map_err(io)?
            || !self.is_still(pack, record).map_err(io)?
        {
            return Ok(false);
        }
        pack.mark_dead(record.offset).map_err(io)?;
        self.pending
            .lock()
            .expect(crate::disk::POISON)
            .add_pack(pack);
        Ok(true)
    }
}
