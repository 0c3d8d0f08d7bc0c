//! What the owner of both tiers needs beyond the contract of a store: to prune the lower one and
//! have the upper one follow, and to fill the upper one beforehand.

use super::queue::Lookup;
use super::{Tiered, fold};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::store::{Entry, Store};

/// An entry is loaded so often where its stripe changes meanwhile.
const TRIES: usize = 8;

impl<U: Store, L: Store + 'static> Tiered<U, L> {
    /// Refreshes below everything that the upper tier served until now; a hit from now on is told
    /// anew. Gives the number of hits that could not be noted, for want of room.
    pub(crate) fn tell_uses(&self) -> Result<u64> {
        self.check_process("refresh a store of the parent process")?;
        if let Err(e) = self.shared.write_touches(true) {
            // They are noted again, maybe after the writer looked in vain.
            self.shared
                .queue
                .touch_after(self.shared.touches.interval());
            self.start_writer();
            return Err(e);
        }
        Ok(self.shared.touches.take_lost())
    }

    /// Writes below everything put before the call; does not flush.
    pub(crate) fn write_all(&self) -> Result<()> {
        self.check_process("write to a store of the parent process")?;
        self.drain()
    }

    /// Drops keys from the upper tier that were removed from the lower one. A promotion that
    /// found them below before that is dropped too. What was put since stays, in the table or
    /// below.
    pub(crate) fn forget_above(&self, keys: &[Fingerprint]) -> Result<()> {
        self.check_process("remove from a store of the parent process")?;
        let mut queued = false;
        for key in keys {
            let deadline = self.shared.queue.deadline();
            let _stripe = self.stripes.acquire(fold(key), deadline)?;
            // An entry that is only in the table is queued when the upper tier displaces it, which
            // it will not any more.
            let demoted = self.shared.queue.demote(std::iter::once(*key));
            queued |= !demoted.is_empty();
            self.upper.remove(key)?;
        }
        if queued {
            self.start_writer();
        }
        Ok(())
    }

    /// Ends the promotions under way: what they found below is in the upper tier now, or will not
    /// be. It may have gone from the lower one since, and by others.
    pub(crate) fn end_promotions(&self) -> Result<()> {
        self.check_process("remove from a store of the parent process")?;
        self.stripes.pass(self.shared.queue.deadline())
    }

    /// The keys of entries that are not below yet, of which `is_it` says so.
    pub(crate) fn unwritten_keys(
        &self,
        is_it: impl Fn(&Entry) -> bool,
    ) -> Result<Vec<Fingerprint>> {
        self.shared.queue.unwritten_keys(is_it)
    }

    /// Hands an entry that `load` finds in the lower tier to `place`, by the rules of a promotion:
    /// unless something newer is unwritten, and unless the key changes all the while. Never waits.
    pub(crate) fn bring_up<T>(
        &self,
        key: &Fingerprint,
        mut load: impl FnMut(&L) -> Result<Option<Entry>>,
        place: impl FnOnce(&U, Entry) -> T,
    ) -> Result<Option<T>> {
        let fold = fold(key);
        for _ in 0..TRIES {
            let version = self.stripes.version(fold);
            if !matches!(self.shared.queue.get(key), Lookup::Clean) {
                break;
            }
            let Some(entry) = load(&self.shared.lower)? else {
                break;
            };
            if let Some(_stripe) = self.stripes.acquire_if(fold, version) {
                return Ok(Some(place(&self.upper, entry)));
            }
            // Most often it was another key of the same stripe that changed, or was brought up.
            crate::sync::yield_now();
        }
        Ok(None)
    }
}
