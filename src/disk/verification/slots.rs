//! Every slot of the index: does it lead to what it is about?

use super::{Fault, Walk};
use crate::disk::envelope::Kind;
use crate::disk::header::REBUILDING;
use crate::disk::index::Index;
use crate::disk::inner::Inner;
use crate::disk::slot::{Slot, SlotKind};
use crate::disk::table::{Position, SLOTS};
use crate::error::Result;
use crate::sync::Arc;
use std::io;

/// Slots looked at again under one hold of the lock.
const BATCH: usize = 256;
/// Buckets between two reports of progress.
const BUCKETS: u64 = 1024;

impl Walk<'_> {
    /// Looks at every slot, of whatever key.
    pub(super) fn slots(&mut self) -> Result<()> {
        let index = self.inner.live_index();
        let mut doubtful = Vec::new();
        for bucket in 0..index.buckets() {
            if bucket % BUCKETS == BUCKETS - 1 && !self.advance(0) {
                return Ok(());
            }
            for slot in 0..SLOTS {
                let at = Position { bucket, slot };
                let Some(slot) = index.get(at).map_err(|e| self.error(e))? else {
                    continue;
                };
                if !self
                    .inner
                    .leads_somewhere(&index, &slot)
                    .map_err(|e| self.error(e))?
                {
                    doubtful.push((at, slot));
                }
            }
            if doubtful.len() >= BATCH {
                self.look_again(&index, &std::mem::take(&mut doubtful))?;
            }
        }
        self.look_again(&index, &doubtful)
    }

    fn look_again(&mut self, index: &Arc<Index>, doubtful: &[(Position, Slot)]) -> Result<()> {
        if doubtful.is_empty() {
            return Ok(());
        }
        let locked = self.settle();
        let now = locked
            .as_ref()
            .map_or_else(|| self.inner.refresh(), |locked| Arc::clone(&locked.index));
        if !Arc::ptr_eq(&now, index) || now.has_flag(REBUILDING) {
            self.report.index_changed = true;
            return Ok(());
        }
        for (at, slot) in doubtful {
            let same = index.get(*at).map_err(|e| self.error(e))? == Some(*slot);
            if !same
                || self
                    .inner
                    .leads_somewhere(index, slot)
                    .map_err(|e| self.error(e))?
            {
                continue;
            }
            let repaired = self.repair && locked.is_some();
            if repaired {
                let others = index
                    .find(slot.kind, slot.hash)
                    .map_err(|e| self.error(e))?;
                let unbinds = slot.kind == SlotKind::Key && others.len() <= 1;
                index
                    .vacate(*at, slot, unbinds)
                    .map_err(|e| self.error(e))?;
            }
            let path = self.inner.files.layout.index();
            self.find(Fault::Dangling, None, path, repaired);
        }
        Ok(())
    }
}

impl Inner {
    /// Whether a slot leads to what it is about; in a pack under another key, to what seems so.
    fn leads_somewhere(&self, index: &Index, slot: &Slot) -> io::Result<bool> {
        let Some(pack) = self.pack(slot.place.pack())? else {
            return Ok(false);
        };
        let found = pack.envelope_or_hint(self.check(), slot.place.offset())?;
        let Some((envelope, live)) = found else {
            return Ok(false);
        };
        let hash = |name: &[u8; 32]| index.hash_under(name, pack.key_id);
        Ok(match slot.kind {
            SlotKind::Key => live && hash(envelope.key.as_bytes()) == slot.hash,
            SlotKind::Content => {
                let wanted = if slot.content == 1 {
                    Kind::Object
                } else {
                    Kind::Inline
                };
                envelope.kind == wanted && hash(envelope.digest.as_bytes()) == slot.hash
            }
        })
    }
}
