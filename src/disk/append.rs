//! Appending records to packs that this handle has claimed. No lock is held meanwhile.

use super::counters::Counters;
use super::envelope::{Envelope, record_len};
use super::inner::Inner;
use super::layout::PackNumber;
use super::pack::{Claim, Held, OwnedPack, Pack, list};
use super::put::into_io;
use super::slot::Place;
use crate::sync::Arc;
use std::io;
use std::time::{Duration, Instant};

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";

impl Inner {
    /// Appends a record to a pack that this process holds, other than `except`. No lock is held. Not in
    /// a forked child: it has its parent's packs, and would append where that appends.
    ///
    /// The caller keeps the claim until the record is bound, or never will be.
    pub(super) fn append(
        &self,
        envelope: &Envelope,
        payload: &[u8],
        except: Option<&Pack>,
    ) -> io::Result<(Place, Arc<Pack>, Arc<Held>)> {
        let len = record_len(envelope.kind, envelope.length)
            .ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut owned = match self.take_pack(len, except) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // In the middle of a clear, which has the lock, or the folder was deleted.
                self.heal_directories().map_err(into_io)?;
                self.take_pack(len, except)?
            }
            owned => owned?,
        };
        // A pack in which a write failed is given up: its end is not known any more.
        let place = owned.append(self.check(), envelope, payload)?;
        let (pack, claim) = (Arc::clone(&owned.pack), owned.hold());
        Counters::add(&self.counters.written_bytes, len);
        self.pending.lock().expect(POISON).add_pack(&pack);
        let written = place.offset()..place.offset().saturating_add(len);
        self.unsynced
            .lock()
            .expect(POISON)
            .note(pack.ident, written);
        self.pool
            .lock()
            .expect(POISON)
            .push((owned, Instant::now()));
        Ok((place, pack, claim))
    }

    /// A claimed pack with room for `len` bytes: from the pool, an idle one, or a new one.
    fn take_pack(&self, len: u64, except: Option<&Pack>) -> io::Result<OwnedPack> {
        let usable = |pack: &OwnedPack| {
            pack.fits(len)
                && pack.pack.key_id == self.check().id()
                && except.is_none_or(|other| other.number != pack.pack.number)
        };
        {
            let mut pool = self.pool.lock().expect(POISON);
            // Full ones are given up, so that others may empty them; and those that could not be
            // synced, which a flush empties.
            let smallest = super::envelope::SIZE as u64;
            pool.retain(|(owned, _)| owned.fits(smallest) && !owned.pack.has_failed());
            if let Some(i) = pool.iter().position(|(owned, _)| usable(owned)) {
                return Ok(pool.swap_remove(i).0);
            }
        }
        // What other processes left is continued, so that packs get filled; a few looks are enough.
        // Which ones are idle tells only the attempt to claim them.
        let idle = list(&self.files)?;
        let room = |meta: &crate::sys::Meta| meta.id.len.saturating_add(len) <= self.limits.pack;
        let good = |number| !self.is_theirs(number) && !self.is_doubtful(number);
        let idle = idle.iter().filter(|(n, meta)| room(meta) && good(*n));
        for (number, _) in idle.take(8) {
            if let Claim::Pack(owned) = OwnedPack::claim(&self.files, *number, self.limits.pack)? {
                if usable(&owned) {
                    return Ok(self.known(owned));
                }
            }
        }
        Ok(self.known(OwnedPack::create(&self.files, self.limits.pack)?))
    }

    /// Whether a sync of a pack failed here, and no flush has made up for that yet.
    pub(super) fn is_doubtful(&self, number: PackNumber) -> bool {
        // One lock after the other, never both.
        let pending = self.pending.lock().expect(POISON);
        let mut packs = pending.packs.values();
        let is_pending = packs.any(|pack| pack.number == number && pack.has_failed());
        drop(pending);
        let known = self.packs.read().expect(POISON);
        is_pending || known.get(&number).is_some_and(|pack| pack.has_failed())
    }

    /// Lets readers share the handle of a claimed pack.
    fn known(&self, owned: OwnedPack) -> OwnedPack {
        let pack = Arc::clone(&owned.pack);
        self.packs.write().expect(POISON).insert(pack.number, pack);
        owned
    }

    /// Gives up claimed packs that were idle for `idle`, so that others may fill or empty them.
    pub(super) fn release_packs(&self, idle: Duration) {
        let mut pool = self.pool.lock().expect(POISON);
        let all = std::mem::take(&mut *pool);
        let (given_up, kept): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|(_, used)| used.elapsed() >= idle);
        *pool = kept;
        drop(pool);
        drop(given_up);
    }
}
