//! An index on the heap, for who only reads a directory and finds no whole index in it: the packs
//! are walked once, and what they bind is put into a table that nobody else sees.

use super::ended::Ended;
use super::envelope::{Envelope, KeyId, Kind, LifeWord, record_len};
use super::header::{Constants, Field, REBUILDING, RETIRING};
use super::hits::Hits;
use super::index::{FIRST_BUCKETS, Index};
use super::layout::PackNumber;
use super::object;
use super::pack::{Files, Pack, list, random_bytes};
use super::slot::{Allocated, Place, Slot, SlotHash, SlotKind};
use super::table::HeapTable;
use crate::sync::{Arc, AtomicBool, Ordering};
use crate::sys::Meta;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::time::{Duration, Instant};

/// No table is larger: 8 million slots, 224 MiB. What does not fit is a miss.
const MOST_BUCKETS: u64 = 1 << 19;
/// A table is grown when more than this many slots a bucket are used.
const LOAD_LIMIT: u64 = 13;
/// Packs are not walked anew more often than this,
const PAUSE: Duration = Duration::from_secs(1);
/// nor for more than one part in so many of the time.
const SHARE: u32 = 20;

/// What a private index knows of itself.
#[derive(Debug)]
pub(super) struct Private {
    /// The index of all processes that was being rebuilt when the packs were walked: once that is
    /// done, it is the better one.
    beside: Option<Box<Index>>,
    walked: Walk,
    /// Whether a thread walks the packs anew.
    again: AtomicBool,
}

/// A walk through the packs.
#[derive(Clone, Copy, Debug)]
struct Walk {
    /// Of the packs that there were.
    names: u64,
    begun: Instant,
    took: Duration,
}

impl Private {
    /// Whether the index of all processes is whole, or another one is, so that this one has done
    /// its service. Two loads.
    pub(super) fn is_outdated(&self) -> bool {
        let is_over = |shared: &Index| !shared.has_flag(REBUILDING) || shared.has_flag(RETIRING);
        self.beside.as_deref().is_some_and(is_over)
    }

    /// The same, beside another index.
    pub(super) fn beside(&self, shared: Option<Index>) -> Self {
        Self {
            beside: shared.map(Box::new),
            walked: self.walked,
            again: AtomicBool::new(false),
        }
    }

    /// Whether it is time to walk anew, because other packs are there; one thread is told so.
    pub(super) fn is_worth_a_walk(&self, files: &Files) -> bool {
        let pause = self.walked.took.saturating_mul(SHARE).max(PAUSE);
        let changed = || list(files).is_ok_and(|packs| names(&packs) != self.walked.names);
        self.walked.begun.elapsed() > pause
            && changed()
            && !self.again.swap(true, Ordering::Relaxed)
    }
}

fn names(packs: &[(PackNumber, Meta)]) -> u64 {
    let mut packs: Vec<_> = packs
        .iter()
        .map(|(number, m)| (number.0, m.id.inode))
        .collect();
    packs.sort_unstable();
    let mut hasher = rustc_hash::FxHasher::default();
    packs.hash(&mut hasher);
    hasher.finish()
}

/// Walks all packs, the newest first, and makes an index of what they bind.
///
/// # Errors
/// If packs cannot be read, or there is no memory for the table.
pub(super) fn build(files: &Files, shared: Option<Index>) -> io::Result<Index> {
    let begun = Instant::now();
    let mut packs = list(files)?;
    let names = names(&packs);
    packs.sort_by_key(|(_, meta)| std::cmp::Reverse(meta.modified));
    let seed = crate::hex::words(&random_bytes())[0];
    let key_id = files.check.id();
    let mut new = Builder::new(seed ^ key_id.salt())?;
    let mut ended = Ended::default();
    for (number, _) in &packs {
        if let Some(pack) = open(files, *number)? {
            pack.walk(&files.check, |_, envelope, life| {
                ended.note(key_id, &envelope, life);
            })?;
        }
    }
    for (number, _) in packs {
        let Some(pack) = open(files, number)? else {
            continue;
        };
        new.disk_bytes = new.disk_bytes.saturating_add(pack.len()?);
        pack.walk(&files.check, |offset, envelope, life| {
            let live = life == LifeWord::Live && !ended.has_ended(key_id, &envelope);
            let place = Place::new(number, offset);
            // A hint: what cannot be read now tells nothing.
            let known = shared.as_ref().and_then(|it| known(it, &envelope, place));
            new.add(place, &envelope, (live, known));
        })?;
    }
    let walked = Walk {
        names,
        begun,
        took: begun.elapsed(),
    };
    let private = Private {
        beside: shared.map(Box::new),
        walked,
        again: AtomicBool::new(false),
    };
    Ok(new.finish(private, key_id))
}

/// A pack, unless its owner keeps it for itself: the rest is served.
fn open(files: &Files, number: PackNumber) -> io::Result<Option<Arc<Pack>>> {
    match Pack::open(files, number) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        opened => opened,
    }
}

/// The slot of a binding, as far as an index that is being rebuilt has one: it tells its uses.
fn known(shared: &Index, envelope: &Envelope, place: Place) -> Option<Slot> {
    let hash = shared.hash(envelope.key.as_bytes());
    let slots = shared.find(SlotKind::Key, hash).ok()?;
    let slot = slots.iter().find(|(_, slot)| slot.place == place)?;
    Some(slot.1)
}

/// A table that grows.
struct Builder {
    table: HeapTable,
    /// Of the hashes; already with the salt of our key.
    seed: u64,
    used: u64,
    entries: u64,
    disk_bytes: u64,
}

fn table(buckets: u64) -> io::Result<HeapTable> {
    HeapTable::new(buckets).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

impl Builder {
    fn new(seed: u64) -> io::Result<Self> {
        Ok(Self {
            table: table(FIRST_BUCKETS)?,
            seed,
            used: 0,
            entries: 0,
            disk_bytes: 0,
        })
    }

    /// Notes what a record binds, and the content it carries. A dead binding's content may be what
    /// a live one shares. It was used as the slot says that is `known`, or else when it was bound.
    fn add(&mut self, place: Place, envelope: &Envelope, (live, known): (bool, Option<Slot>)) {
        let (kind, length) = (envelope.kind, envelope.length);
        let key = SlotHash::new(envelope.key.as_bytes(), self.seed);
        let content = SlotHash::new(envelope.digest.as_bytes(), self.seed);
        let is_content = kind == Kind::Inline || (live && kind == Kind::Object);
        if is_content && !self.has(SlotKind::Content, content) {
            let is_object = kind == Kind::Object;
            if is_object {
                self.disk_bytes = self.disk_bytes.saturating_add(object::allocated(length));
            }
            self.insert(&Slot {
                kind: SlotKind::Content,
                hash: content,
                place,
                allocated: Allocated::of(length),
                content: u32::from(is_object),
                last_use: envelope.generation,
                hits: Hits::default(),
            });
        }
        if !live {
            return;
        }
        let is_name = kind == Kind::Namespace;
        let is_new = !is_name && !self.has(SlotKind::Key, key);
        let inserted = self.insert(&Slot {
            kind: SlotKind::Key,
            hash: key,
            place,
            allocated: Allocated::of(record_len(kind, length).unwrap_or(0)),
            content: if is_name {
                0
            } else {
                content.tag(SlotKind::Content)
            },
            last_use: known.map_or(envelope.generation, |slot| slot.last_use),
            hits: known.map_or(Hits::default(), |slot| slot.hits),
        });
        self.entries += u64::from(inserted && is_new);
    }

    fn has(&self, kind: SlotKind, hash: SlotHash) -> bool {
        let mut buckets = hash.buckets(self.table.buckets()).into_iter();
        buckets.any(|bucket| {
            self.table
                .bucket(bucket)
                .matches(kind, hash)
                .next()
                .is_some()
        })
    }

    /// `false` if there is no room for it.
    fn insert(&mut self, slot: &Slot) -> bool {
        if self.used >= self.table.buckets() * LOAD_LIMIT {
            self.grow();
        }
        let inserted = self.table.insert(slot) || (self.grow() && self.table.insert(slot));
        self.used += u64::from(inserted);
        inserted
    }

    /// Doubles the table, unless it has few slots (full buckets are damage or malice then), is as
    /// large as it may be, or there is no memory.
    fn grow(&mut self) -> bool {
        let buckets = self.table.buckets();
        let is_crowded = self.used > buckets * LOAD_LIMIT / 2;
        if !is_crowded || buckets >= MOST_BUCKETS {
            return false;
        }
        let Ok(mut larger) = table(buckets * 2) else {
            return false;
        };
        let mut used = 0;
        for bucket in 0..buckets {
            for (_, slot) in self.table.bucket(bucket).slots() {
                used += u64::from(larger.insert(&slot));
            }
        }
        (self.table, self.used) = (larger, used);
        true
    }

    fn finish(self, private: Private, key_id: KeyId) -> Index {
        let constants = Constants {
            seed: self.seed ^ key_id.salt(),
            buckets: self.table.buckets(),
            inode: 0,
        };
        let mut header: Vec<u64> = crate::hex::native_words(&constants.encode(0, &[])).collect();
        for (field, value) in [
            (Field::Entries, self.entries),
            (Field::Used, self.used),
            (Field::DiskBytes, self.disk_bytes),
        ] {
            header[field as usize] = value;
        }
        Index::private(private, (constants, key_id), (header, self.table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::fingerprint::Fingerprint;
    use crate::namespace::NamespaceId;

    fn envelope(n: u64) -> Envelope {
        let mut key = [0; 32];
        key[24..].copy_from_slice(&n.to_be_bytes());
        Envelope {
            kind: Kind::Inline,
            generation: n,
            key: Fingerprint::from_bytes(key),
            digest: Digest::of(&n.to_le_bytes()),
            length: 8,
            lag: 0,
            namespace: NamespaceId::NONE,
            build_cost: Duration::ZERO,
        }
    }

    #[test]
    fn a_table_grows_with_what_is_bound_and_finds_all_of_it() {
        let mut new = Builder::new(3).unwrap();
        let place = |n| Place::new(PackNumber(n), 64);
        for n in 1..=50_000 {
            new.add(place(n), &envelope(n), (n % 10 != 0, None));
        }
        // Twice is once, a newer binding of a key no new entry.
        new.add(place(1), &envelope(1), (true, None));
        assert_eq!(new.entries, 45_000);
        let buckets = new.table.buckets();
        assert!(new.used < buckets * 16, "{} of {buckets}", new.used);
        for n in 1..=50_000 {
            let hash = SlotHash::new(envelope(n).key.as_bytes(), 3);
            let found = hash.buckets(buckets).into_iter().any(|bucket| {
                let bucket = new.table.bucket(bucket);
                let mut slots = bucket.matches(SlotKind::Key, hash);
                slots.any(|(_, slot)| slot.place == place(n))
            });
            assert_eq!(found, n % 10 != 0, "{n}");
            let content = SlotHash::new(envelope(n).digest.as_bytes(), 3);
            assert!(new.has(SlotKind::Content, content), "{n}");
        }
    }

    #[test]
    fn equal_keys_without_end_do_not_make_the_table_grow() {
        let mut new = Builder::new(3).unwrap();
        for n in 1..10_000 {
            let same = Envelope {
                key: Fingerprint::from_bytes([1; 32]),
                digest: Digest::of(b"x"),
                ..envelope(n)
            };
            new.add(Place::new(PackNumber(n), 64), &same, (true, None));
        }
        assert_eq!((new.table.buckets(), new.entries), (FIRST_BUCKETS, 1));
    }
}
