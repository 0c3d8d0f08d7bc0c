//! What was unbound stays so, also when a power cut brings an older binding of its key back.
//!
//! Marks of dead bindings reach the disk when they will. So a mark may be lost, while that of a newer
//! binding of the key, which came and went later, is not: a rebuild that looked at each record alone
//! would find the older one alive. Hence the rule that **the newest binding which ever lived decides**: a
//! record that is dead ends copies of it and whatever is older of its key, as long as it is there. It is
//! there until its pack is unlinked, and before that happens all marks that it may stand for are made
//! durable. Two things keep the rule true:
//!
//! - no key is bound with a number that is not above those of bindings which were ended
//!   ([`Index::newest_end`]);
//! - a binding that moved, or whose content was found damaged, is marked as gone, not dead: its copies
//!   and what is older stay.

use super::envelope::{Envelope, KeyId, LifeWord};
use super::header::Field;
use super::index::Index;
use super::inner::Inner;
use super::pack::list;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use std::collections::HashMap;
use std::io;

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";

/// The newest dead binding of each key, as a walk over all packs finds them.
// Not a fast hash: keys come from the disk, and may have been chosen.
#[derive(Debug, Default)]
pub(super) struct Ended(HashMap<(KeyId, Fingerprint), u64>);

impl Ended {
    /// Notes a record of a pack under the key `key_id`, if it is dead.
    pub(super) fn note(&mut self, key_id: KeyId, envelope: &Envelope, life: LifeWord) {
        // Nothing could be put above a number that malice made up: it ends nothing.
        if life == LifeWord::Dead && is_sane(envelope.generation) {
            let newest = self.0.entry((key_id, envelope.key)).or_default();
            *newest = envelope.generation.max(*newest);
        }
    }

    /// Whether a record is a copy of a dead one of its key, or older.
    pub(super) fn has_ended(&self, key_id: KeyId, envelope: &Envelope) -> bool {
        let newest = self.0.get(&(key_id, envelope.key));
        newest.is_some_and(|newest| *newest >= envelope.generation)
    }
}

/// Whether there are numbers left above `generation`: neither damage nor malice must use them up.
pub(super) fn is_sane(generation: u64) -> bool {
    generation <= u64::MAX / 2
}

impl Inner {
    /// Makes all marks of dead bindings durable, of whatever process, unless they are: what is in a pack
    /// that goes may have stood for them. For who has claimed that pack, so that nothing is put into it
    /// any more; not under the lock. Outside of a flush, the next one has to hear of what failed.
    pub(super) fn make_ends_durable(&self, in_flush: bool) -> Result<()> {
        let io = |e| self.error("make removals durable", e);
        // The file that is there now has to be synced.
        self.drop_exchanged_packs();
        let begun = {
            let locked = self.locked()?;
            let number = locked.index.begin_to_settle_ends().map_err(io)?;
            number.map(|number| (number, locked.index.seed()))
        };
        let Some((number, seed)) = begun else {
            return Ok(());
        };
        let mut all = true;
        for (pack, _) in list(&self.files).map_err(io)? {
            match self.pack(pack) {
                Ok(Some(pack)) => {
                    self.sync_pack(&pack).inspect_err(|_| {
                        // Of a failed sync the kernel speaks once.
                        self.pending.lock().expect(POISON).failed += u64::from(!in_flush);
                    })?;
                    // Marks of others in it may be lost, and could not be written again.
                    all &= !(pack.has_failed() && pack.is_read_only());
                }
                Ok(None) => {}
                // Of another member of the group, who keeps it for itself, and has yet to sync it.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => all = false,
                Err(e) => return Err(io(e)),
            }
        }
        let locked = self.locked()?;
        if all && locked.index.seed() == seed {
            locked.index.ends_are_settled(number).map_err(io)?;
        }
        Ok(())
    }
}

impl Inner {
    /// Notes that the machine was started anew, if it was, and that `generation` is the first number since.
    /// The caller holds the lock.
    pub(super) fn note_boot(&self, index: &Index, generation: u64) -> io::Result<()> {
        let Some(boot) = self.boot() else {
            return Ok(());
        };
        if index.field(Field::Boot) != boot {
            // The floor first: whoever is killed in between has changed nothing. What the header knows of
            // older numbers may be what a power cut left of it.
            index.set_field(Field::BootFloor, generation.saturating_sub(1))?;
            index.set_field(Field::Boot, boot)?;
        }
        Ok(())
    }

    /// Whether a binding is from before the machine was started, as far as the system tells.
    ///
    /// Of such a one a power cut may have taken the mark, and spared that of a newer one. It is served, for
    /// what ended it was not flushed. But nobody may rely on it: a rebuild would end it.
    pub(super) fn is_from_before_boot(&self, index: &Index, envelope: &Envelope) -> bool {
        self.boot().is_some_and(|boot| {
            index.field(Field::Boot) != boot || envelope.generation <= index.field(Field::BootFloor)
        })
    }

    fn boot(&self) -> Option<u64> {
        *self.boot.get_or_init(|| self.files.fs.boot())
    }
}

/// Whether no binding of its key with a number as high was ended while a record was written.
pub(super) fn may_bind(index: &Index, envelope: &Envelope) -> io::Result<bool> {
    let newest = index.newest_end(index.hash(envelope.key.as_bytes()))?;
    Ok(newest < envelope.generation)
}
