//! Seeing to it that what was found damaged or gone is not found again. Under the lock, after a
//! second look, and only if slot and file are still those that were read.

use super::counters::Counters;
use super::envelope::{Envelope, Kind};
use super::header::{Field, REBUILDING};
use super::index::Index;
use super::inner::Inner;
use super::lookup::{Binding, Content};
use super::object;
use crate::digest::Digest;
use crate::events;
use crate::fingerprint::Fingerprint;
use std::io;

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";

impl Inner {
    /// Sees to it that damaged content is not found again; tells whether it did. Best effort, and
    /// counted.
    pub(super) fn quarantine(&self, binding: &Binding) -> bool {
        Counters::add(&self.counters.corrupt, 1);
        events::corrupt(
            &self.files.layout.pack(binding.slot.place.pack()),
            "content",
        );
        let Ok(locked) = self.locked() else {
            return false;
        };
        let done = (|| -> io::Result<()> {
            locked.index.add(Field::Corrupt, 1)?;
            // Only if it is still there: another process may have healed it meanwhile.
            if locked
                .index
                .get(binding.at)?
                .is_none_or(|slot| slot.place != binding.slot.place)
            {
                return Ok(());
            }
            if !matches!(
                self.load_and_hash(&locked.index, binding)?,
                Content::Corrupt
            ) {
                return Ok(());
            }
            // A rebuild may yet come to a whole content.
            let is_shared = binding.envelope.kind == Kind::Shared;
            if is_shared && locked.index.has_flag(REBUILDING) {
                return Ok(());
            }
            self.drop_binding(&locked.index, binding)?;
            self.drop_content(&locked.index, binding)
        })();
        if done.is_err() {
            Counters::add(&self.counters.maintenance_errors, 1);
        }
        done.is_ok()
    }

    /// Drops the damaged content of a binding, unless an equal copy elsewhere is what others share.
    fn drop_content(&self, index: &Index, binding: &Binding) -> io::Result<()> {
        let Envelope { kind, digest, .. } = binding.envelope;
        if let Some(content) = self.content(index, &digest)? {
            let is_its = match kind {
                Kind::Inline => content.slot.place == binding.slot.place,
                // The same bytes may also be stored inline, and whole.
                Kind::Object => content.slot.content == 1,
                Kind::Shared | Kind::Namespace => true,
            };
            if is_its {
                content.pack.verified.forget(content.slot.place.offset());
                index.vacate(content.at, &content.slot, false)?;
                if content.slot.content == 1 {
                    index.subtract(Field::DiskBytes, content.slot.allocated.bytes())?;
                }
            }
        }
        if kind == Kind::Object {
            object::unlink(&self.files, &digest)?;
        }
        Ok(())
    }

    /// Ends whatever is bound to an object that is damaged; older bindings stay.
    pub(super) fn drop_object(&self, index: &Index, digest: &Digest) -> io::Result<()> {
        let users = self.users_of_object(index, digest)?;
        users
            .iter()
            .try_for_each(|user| self.drop_binding(index, user))
    }

    /// Ends one binding whose content is lost, or that is one copy too many; older ones of its key stay.
    pub(super) fn drop_binding(&self, index: &Index, binding: &Binding) -> io::Result<()> {
        let others = self.bindings(index, &binding.envelope.key)?.live;
        let unbinds = others.iter().all(|other| other.at == binding.at);
        // Who removes the key next and finds nothing has to know.
        index.note_end()?;
        binding.pack.mark_gone(binding.slot.place.offset())?;
        let place = binding.slot.place;
        binding.pack.verified.forget(place.offset());
        self.pending.lock().expect(POISON).add_pack(&binding.pack);
        index.vacate(binding.at, &binding.slot, unbinds)
    }

    /// Clears slots of `key` that lead to nothing, under the lock and after a second look; tells
    /// whether it did.
    pub(super) fn forget_stale(&self, key: &Fingerprint) -> bool {
        let Ok(locked) = self.locked() else {
            return false;
        };
        let done = (|| -> io::Result<()> {
            let found = self.bindings(&locked.index, key)?;
            for (i, (at, slot)) in found.stale.into_iter().enumerate() {
                locked
                    .index
                    .vacate(at, &slot, found.live.is_empty() && i == 0)?;
            }
            // A rebuild may yet come to its content.
            let complete = !locked.index.has_flag(REBUILDING);
            if let Some(newest) = found.live.last().filter(|_| complete) {
                if matches!(self.load(&locked.index, newest)?, Content::Gone) {
                    self.drop_binding(&locked.index, newest)?;
                }
            }
            Ok(())
        })();
        if done.is_err() {
            Counters::add(&self.counters.maintenance_errors, 1);
        }
        done.is_ok()
    }
}
