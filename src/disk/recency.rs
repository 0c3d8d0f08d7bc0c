//! Last uses: gathered in memory by gets, written in batches under the lock.

use super::index::Index;
use super::inner::Inner;
use super::lookup::Binding;
use super::slot::SlotKind;
use crate::error::Result;
use crate::fingerprint::Fingerprint;

const POISON: &str = "the lock of keepwarm's touches is poisoned: a thread panicked under it";
/// Uses that are remembered before the next batch; more are forgotten, for they are a hint.
const REMEMBERED: usize = 4096;

impl Inner {
    /// Remembers that a binding was used. Never waits, never writes.
    pub(super) fn note_use(&self, index: &Index, binding: &Binding) {
        let tick = self.next_generation(index);
        // Another thread's is as good; and in a forked child nobody may ever give the lock back.
        let Ok(mut touches) = self.touches.try_lock() else {
            return;
        };
        if touches.len() < REMEMBERED || touches.contains_key(&binding.slot.place) {
            touches.insert(binding.slot.place, (binding.at, tick));
        }
    }

    /// Whether there are uses to write.
    pub(super) fn has_touches(&self) -> bool {
        !self.touches.lock().expect(POISON).is_empty()
    }

    /// Writes the remembered uses.
    pub(super) fn write_touches(&self) -> Result<()> {
        let touches = std::mem::take(&mut *self.touches.lock().expect(POISON));
        if touches.is_empty() {
            return Ok(());
        }
        let locked = self.locked()?;
        let io = |e| self.error("write when entries were last used", e);
        for (place, (at, tick)) in touches {
            // A table that was grown meanwhile has the slot elsewhere: this hint is lost.
            if at.bucket >= locked.index.buckets() {
                continue;
            }
            match locked.index.get(at).map_err(io)? {
                Some(slot) if slot.place == place && slot.last_use < tick => {
                    locked.index.set_last_use(at, tick).map_err(io)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Refreshes keys that were used in a tier above.
    pub(super) fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
        let locked = self.locked()?;
        let index = &locked.index;
        let io = |e| self.error("write when entries were last used", e);
        for key in keys {
            let tick = self.next_generation(index);
            // The hash decides: refreshing a stranger with the same 47 bits does no harm.
            for (at, slot) in index
                .find(SlotKind::Key, index.hash(key.as_bytes()))
                .map_err(io)?
            {
                if slot.last_use < tick {
                    index.set_last_use(at, tick).map_err(io)?;
                }
            }
        }
        Ok(())
    }
}
