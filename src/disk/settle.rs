//! Ending what newer bindings replaced, once these are durable; and copies, and what is torn.

use super::bind::end;
use super::envelope::Kind;
use super::header::REBUILDING;
use super::index::Index;
use super::inner::Inner;
use super::lock::turn;
use super::lookup::Content;
use super::pack::Pack;
use super::pending::Pending;
use super::put::{into_error, into_io};
use super::slot::Place;
use super::table::SLOTS;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::sync::Arc;
use rustc_hash::{FxHashMap, FxHashSet};
use std::io;
use std::time::Duration;

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";

impl Inner {
    /// Ends whatever the newest whole binding of a key replaced, and copies of it, once that is
    /// durable. Who was killed before the flush that does so leaves it to the next. Does nothing
    /// beside a flush, or where a sync failed that no flush has made up for.
    pub(super) fn settle(&self, key: &Fingerprint) -> Result<()> {
        let Some(_turn) = turn(&self.flush_gate, Duration::ZERO) else {
            return Ok(());
        };
        let io = |e| self.error("retire a replaced entry", e);
        let newest = self.bindings(&self.index(), key).map_err(io)?.live.pop();
        let is_doubtful = newest.is_none_or(|newest| {
            let is_suspect = |digest| self.pending.lock().expect(POISON).suspect.contains(digest);
            self.is_doubtful(newest.pack.number) || is_suspect(&newest.envelope.digest)
        });
        if is_doubtful {
            return Ok(());
        }
        // While it is being rebuilt the newest may not be known yet, nor what it shares.
        let is_complete = |index: &Index| !index.has_flag(REBUILDING);
        self.settle_all([*key].into_iter().collect(), &is_complete)
    }

    /// The same of several keys, while the index is one of which `may_end` says so.
    pub(super) fn settle_all(
        &self,
        keys: FxHashSet<Fingerprint>,
        may_end: &dyn Fn(&Index) -> bool,
    ) -> Result<()> {
        let mut rebound = FxHashSet::default();
        for key in keys {
            let is_whole = may_end(&self.index()) && {
                let looked = self.drop_torn(&key, may_end);
                looked.map_err(|e| into_error(e, self))?
            };
            if is_whole {
                rebound.insert(key);
            }
        }
        if rebound.is_empty() {
            return Ok(());
        }
        let mut pending = Pending {
            rebound,
            ..Pending::default()
        };
        self.bury_replaced(&mut pending).inspect_err(|_| {
            // A pack of which a sync failed remembers that, and is pending; objects are suspect. But what
            // was taken back is not: the next flush must hear of it.
            pending.failed += 1;
            self.pending.lock().expect(POISON).merge(pending);
        })
    }

    /// Marks bindings dead that newer, now durable ones replaced.
    pub(super) fn bury_replaced(&self, pending: &mut Pending) -> Result<()> {
        let io = |e| self.error("retire a replaced entry", e);
        // The newest binding may be another process's, which nobody has synced yet.
        let mut newest: FxHashMap<Fingerprint, (u64, Place)> = FxHashMap::default();
        let index = self.index();
        for key in &pending.rebound {
            let Some(binding) = self.bindings(&index, key).map_err(io)?.live.pop() else {
                continue;
            };
            // Also if this flush synced it: another thread may have appended to it since.
            self.sync_pack(&binding.pack)?;
            let digest = &binding.envelope.digest;
            match binding.envelope.kind {
                Kind::Object => {
                    self.sync_object(digest, &mut pending.suspect)?;
                }
                Kind::Shared => {
                    let Some(content) = self.content(&index, digest).map_err(io)? else {
                        continue;
                    };
                    self.sync_pack(&content.pack)?;
                }
                Kind::Inline | Kind::Namespace => {}
            }
            newest.insert(*key, (binding.envelope.generation, binding.slot.place));
        }
        self.sync_pack_names()?;
        self.sync_index()?;
        for (key, newest) in &newest {
            let locked = self.locked()?;
            let live = self.bindings(&locked.index, key).map_err(io)?.live;
            for binding in &live {
                let older = (binding.envelope.generation, binding.slot.place) < *newest;
                // Of copies the one that was made durable stays, unless it moved meanwhile.
                let is_copy = binding.envelope.generation == newest.0;
                if older && (!is_copy || live.iter().any(|b| b.slot.place == newest.1)) {
                    let offset = binding.slot.place.offset();
                    // A put that was overtaken long ago must not be bound below it, whatever becomes of
                    // the newest.
                    let hash = locked.index.hash(key.as_bytes());
                    let number = binding.envelope.generation;
                    locked.index.note_newest_end(hash, number).map_err(io)?;
                    end(&binding.pack, offset, is_copy).map_err(io)?;
                    locked
                        .index
                        .vacate(binding.at, &binding.slot, false)
                        .map_err(io)?;
                    pending.add_pack(&binding.pack);
                }
            }
        }
        pending.rebound.clear();
        // Before anything newer can be marked dead, these marks are durable: a rebuild after a
        // power cut must not find an older binding than the one that was flushed.
        let packs: Vec<Arc<Pack>> = pending.packs.values().cloned().collect();
        packs.iter().try_for_each(|pack| self.sync_pack(pack))
    }

    /// Ends the newest bindings of `key` until one is left whose content is whole: only a whole one may
    /// put an end to what is older. Tells whether there is one. It goes on only while the index is one
    /// of which `may_end` says so: what is not known yet is not torn.
    fn drop_torn(&self, key: &Fingerprint, may_end: &dyn Fn(&Index) -> bool) -> io::Result<bool> {
        // Each round ends one, of as many as two buckets hold.
        for _ in 0..2 * SLOTS {
            let index = self.index();
            let Some(newest) = self.bindings(&index, key)?.live.pop() else {
                return Ok(false);
            };
            if matches!(self.load_and_hash(&index, &newest)?, Content::Artifact(_))
                || newest.envelope.kind == Kind::Namespace
            {
                return Ok(true);
            }
            let locked = self.locked().map_err(into_io)?;
            if !may_end(&locked.index) {
                return Ok(false);
            }
            // Only if it is still the newest, and torn: it may have been healed meanwhile.
            let now = self.bindings(&locked.index, key)?.live.pop();
            if let Some(now) = now.filter(|now| now.slot.place == newest.slot.place) {
                if !matches!(
                    self.load_and_hash(&locked.index, &now)?,
                    Content::Artifact(_)
                ) {
                    self.drop_binding(&locked.index, &now)?;
                }
            }
        }
        Ok(false)
    }
}
