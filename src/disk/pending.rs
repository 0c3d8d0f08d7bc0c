//! What was written, or relied on, since the last flush.

use super::pack::{Ident, Pack};
use super::slot::Place;
use crate::digest::Digest;
use crate::fingerprint::Fingerprint;
use crate::sync::Arc;
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;

/// Which names above packs and objects may be new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Names {
    #[default]
    None,
    /// Of folders in `v1`: another process may have died when it had made them, or before it flushed.
    Folders,
    /// Of `v1` too, or of what it is in.
    Directory,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Packs with appends, life words or adopted bindings that were not synced.
    pub(super) packs: FxHashMap<Ident, Arc<Pack>>,
    pub(super) objects: FxHashSet<Digest>,
    /// Objects of which a sync failed: they are written anew or taken back, whatever a later sync
    /// says.
    pub(super) suspect: FxHashSet<Digest>,
    /// Keys whose older bindings go once the newest one is durable.
    pub(super) rebound: FxHashSet<Fingerprint>,
    /// Whether slots of the index were written.
    pub(super) index: bool,
    pub(super) names: Names,
    /// Whether a removal found nothing, perhaps since somebody else had ended it and has not flushed.
    pub(super) ends: bool,
    /// Writes that failed.
    pub(super) failed: u64,
}

impl Pending {
    pub(super) fn add_pack(&mut self, pack: &Arc<Pack>) {
        self.packs
            .entry(pack.ident)
            .or_insert_with(|| Arc::clone(pack));
        self.index = true;
    }

    /// How many files are not synced.
    pub(super) fn files(&self) -> u64 {
        self.packs.len() as u64
            + self.objects.len() as u64
            + u64::from(self.index || self.ends)
            + u64::from(self.names > Names::None)
    }

    /// Takes back what could not be synced.
    pub(super) fn merge(&mut self, other: Self) {
        self.packs.extend(other.packs);
        self.objects.extend(other.objects);
        self.suspect.extend(other.suspect);
        self.rebound.extend(other.rebound);
        self.index |= other.index;
        self.names = self.names.max(other.names);
        self.ends |= other.ends;
        self.failed += other.failed;
    }
}

/// What this handle has appended to packs and no sync has reached yet: all that a failed sync may take
/// back. Of anything else somebody's flush may have said that it is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsynced(FxHashMap<Ident, Vec<Range<u64>>>);

impl Unsynced {
    /// Notes an append.
    pub(super) fn note(&mut self, pack: Ident, written: Range<u64>) {
        let all = self.0.entry(pack).or_default();
        match all.last_mut() {
            Some(last) if last.end == written.start => last.end = written.end,
            _ => all.push(written),
        }
    }

    /// Notes that a pack was synced up to `len`.
    pub(super) fn settle(&mut self, pack: Ident, len: u64) {
        let Some(all) = self.0.get_mut(&pack) else {
            return;
        };
        all.retain_mut(|written| {
            written.start = written.start.max(len);
            !written.is_empty()
        });
        if all.is_empty() {
            self.0.remove(&pack);
        }
    }

    /// Forgets the packs that are not pending any more.
    pub(super) fn forget_but(&mut self, pending: &Pending) {
        self.0.retain(|pack, _| pending.packs.contains_key(pack));
    }

    /// Whether a record is among it. Of two files with the name of its pack either may have it.
    pub(super) fn has(&self, place: Place) -> bool {
        let (number, offset) = (place.pack(), place.offset());
        let files = self.0.iter().filter(|((of, _), _)| *of == number);
        files
            .flat_map(|(_, all)| all)
            .any(|written| written.contains(&offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::layout::PackNumber;

    #[test]
    fn what_was_synced_is_no_longer_unsynced_and_the_rest_is() {
        let pack = (PackNumber(7), [1, 2]);
        let place = |offset| Place::new(pack.0, offset);
        let mut unsynced = Unsynced::default();
        unsynced.note(pack, 64..640);
        unsynced.note(pack, 640..1024);
        // Somebody else appended in between.
        unsynced.note(pack, 2048..4096);
        let seen =
            |unsynced: &Unsynced| [64, 960, 1024, 2048, 4032].map(|at| unsynced.has(place(at)));
        assert_eq!(seen(&unsynced), [true, true, false, true, true]);
        unsynced.settle(pack, 960);
        assert_eq!(seen(&unsynced), [false, true, false, true, true]);
        unsynced.settle((pack.0, [1, 3]), 1 << 20);
        unsynced.settle(pack, 4032);
        assert_eq!(seen(&unsynced), [false, false, false, false, true]);
        unsynced.settle(pack, 4096);
        assert!(unsynced.0.is_empty());
    }
}
