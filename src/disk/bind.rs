//! Writing: a put appends a record, then binds its key in the index under the lock.

use super::counters::Counters;
use super::envelope::{Envelope, Kind, record_len};
use super::header::{Changes, Field, REBUILDING};
use super::index::Index;
use super::inner::{Binding, Inner, Locked};
use super::object::{self, Stored};
use super::pack::{Claim, OwnedPack, Pack, list};
use super::slot::{Allocated, Place, Slot, SlotKind};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::store::Entry;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
/// A put that loses a race (content evicted, pack deleted, all cleared) is tried this often: under
/// a storm of evictions and clears it may lose several in a row.
const TRIES: usize = 16;
/// A key rebound more often than this without a flush is flushed: its older bindings have to stay
/// until the newest one is durable.
const REBOUND_LIMIT: usize = 3;
/// A removal waits this long for a rebuild of the index, which it needs to find every binding.
const REBUILD_WAIT: Duration = Duration::from_secs(30);

/// A record that was appended and is to be bound.
#[derive(Debug)]
struct Appended {
    envelope: Envelope,
    place: Place,
    pack: Arc<Pack>,
    /// Bytes of an object that this put published.
    object_bytes: u64,
    /// The index and its epoch before the append: while both are the same, no pack was moved away
    /// by a clear, and the link count tells whether the pack is still there.
    before: (Arc<Index>, u64),
}

enum Bound {
    Done {
        rebound: usize,
    },
    /// Content or pack went away between writing and binding.
    Again,
}

impl Inner {
    /// Binds `key` to `entry`; `false` if exactly that was bound already.
    pub(super) fn put(&self, key: &Fingerprint, entry: &Entry) -> Result<bool> {
        let digest = entry.artifact.digest();
        for _ in 0..TRIES {
            match self.try_put(key, entry, &digest) {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {}
                // The directory was deleted: taking the lock makes it anew.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    drop(self.locked()?);
                    // Or only one of its folders.
                    super::create_directories(&self.files)?;
                    self.release_packs(Duration::ZERO);
                }
                Err(e) => return Err(into_error(e, self)),
            }
        }
        Err(Error::new(
            ErrorKind::Io,
            "store an entry in a directory that changes all the time",
        )
        .with_path(self.files.layout.base()))
    }

    /// `None` if the put lost a race and must be tried again.
    fn try_put(
        &self,
        key: &Fingerprint,
        entry: &Entry,
        digest: &Digest,
    ) -> io::Result<Option<bool>> {
        let index = self.live_index().map_err(into_io)?;
        let bytes = entry.artifact.as_slice();
        let known = self.content(&index, digest)?;
        if let Some(newest) = self.settled_bindings(&index, key)?.live.pop() {
            let same = newest.envelope.digest == *digest
                && newest.envelope.namespace == entry.namespace
                && newest.envelope.kind != Kind::Namespace;
            if same && self.holds(&newest, bytes, known.as_ref().map(|k| (&k.2, k.1.place)))? {
                self.adopt(&index, &newest);
                Counters::add(&self.counters.deduplicated_bytes, bytes.len() as u64);
                return Ok(Some(false));
            }
        }
        let mut object_bytes = 0;
        let kind = if bytes.len() as u64 > self.limits.inline {
            match object::store(&self.files, &self.tmp, digest, bytes)? {
                Stored::New => {
                    object_bytes = object::allocated(bytes.len() as u64);
                    Counters::add(&self.counters.written_bytes, bytes.len() as u64);
                }
                Stored::Adopted => {
                    Counters::add(&self.counters.deduplicated_bytes, bytes.len() as u64);
                }
            }
            self.pending.lock().expect(POISON).objects.insert(*digest);
            Kind::Object
        } else if let Some((_, slot, pack, _)) =
            known.filter(|(.., found)| found.kind == Kind::Inline)
        {
            if pack.is_named(&self.files)? && pack.payload_is(slot.place.offset(), bytes)? {
                self.pending.lock().expect(POISON).add_pack(&pack);
                Counters::add(&self.counters.deduplicated_bytes, bytes.len() as u64);
                Kind::Shared
            } else {
                Kind::Inline
            }
        } else {
            Kind::Inline
        };
        let envelope = Envelope {
            kind,
            generation: self.next_generation(&index),
            key: *key,
            digest: *digest,
            length: bytes.len() as u64,
            namespace: entry.namespace,
            build_cost: entry.build_cost,
        };
        let before = (Arc::clone(&index), index.field(Field::Epoch));
        let payload = if kind.carries_payload() { bytes } else { &[] };
        let (place, pack) = self.append(&envelope, payload, None)?;
        let appended = Appended {
            envelope,
            place,
            pack,
            object_bytes,
            before,
        };
        match self.bind(&appended).map_err(into_io)? {
            Bound::Again => Ok(None),
            Bound::Done { rebound } => {
                if rebound >= REBOUND_LIMIT {
                    self.flush().map_err(into_io)?;
                }
                Ok(Some(true))
            }
        }
    }

    /// Whether the content of a binding is there and is exactly `bytes`.
    fn holds(
        &self,
        binding: &Binding,
        bytes: &[u8],
        shared: Option<(&Arc<Pack>, Place)>,
    ) -> io::Result<bool> {
        // A handle outlives the file: what was deleted behind our back is not stored.
        let is_there = |pack: &Arc<Pack>| pack.is_named(&self.files);
        if !is_there(&binding.pack)? {
            return Ok(false);
        }
        match binding.envelope.kind {
            Kind::Inline => binding.pack.payload_is(binding.slot.place.offset(), bytes),
            Kind::Shared => shared.map_or(Ok(false), |(pack, place)| {
                Ok(is_there(pack)? && pack.payload_is(place.offset(), bytes)?)
            }),
            Kind::Object => object::is_equal(&self.files, &binding.envelope.digest, bytes),
            Kind::Namespace => Ok(false),
        }
    }

    /// What was found stored is relied on, so the next flush covers it, whoever wrote it.
    fn adopt(&self, index: &Index, binding: &Binding) {
        self.note_use(index, binding);
        let mut pending = self.pending.lock().expect(POISON);
        pending.add_pack(&binding.pack);
        match binding.envelope.kind {
            Kind::Object => {
                pending.objects.insert(binding.envelope.digest);
            }
            Kind::Shared => {
                drop(pending);
                if let Ok(Some((_, _, pack, _))) = self.content(index, &binding.envelope.digest) {
                    self.pending.lock().expect(POISON).add_pack(&pack);
                }
            }
            Kind::Inline | Kind::Namespace => {}
        }
    }

    /// Writes a namespace's name, or any record that is not an artifact's.
    pub(super) fn put_name(&self, envelope: &Envelope, name: &[u8]) -> Result<()> {
        for _ in 0..TRIES {
            let io = |e| self.error("write the name of a namespace", e);
            let index = self.index();
            let epoch = index.field(Field::Epoch);
            let before = (index, epoch);
            let (place, pack) = self.append(envelope, name, None).map_err(io)?;
            let envelope = *envelope;
            let appended = Appended {
                envelope,
                place,
                pack,
                object_bytes: 0,
                before,
            };
            if matches!(self.bind(&appended)?, Bound::Done { .. }) {
                return Ok(());
            }
        }
        Err(self.error(
            "write the name of a namespace",
            io::ErrorKind::Interrupted.into(),
        ))
    }

    /// Appends a record to a pack that this process holds, other than `except`. No lock is held.
    pub(super) fn append(
        &self,
        envelope: &Envelope,
        payload: &[u8],
        except: Option<&Pack>,
    ) -> io::Result<(Place, Arc<Pack>)> {
        let len = record_len(envelope.kind, envelope.length)
            .ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut owned = match self.take_pack(len, except) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // In the middle of a clear, which has the lock, or the folder was deleted.
                drop(self.locked().map_err(into_io)?);
                super::create_directories(&self.files).map_err(into_io)?;
                self.take_pack(len, except)?
            }
            owned => owned?,
        };
        // A pack in which a write failed is given up: its end is not known any more.
        let place = owned.append(self.check(), envelope, payload)?;
        let pack = Arc::clone(&owned.pack);
        Counters::add(&self.counters.written_bytes, len);
        self.pending.lock().expect(POISON).add_pack(&pack);
        self.pool
            .lock()
            .expect(POISON)
            .push((owned, Instant::now()));
        Ok((place, pack))
    }

    /// A claimed pack with room for `len` bytes: from the pool, an idle one, or a new one.
    fn take_pack(&self, len: u64, except: Option<&Pack>) -> io::Result<OwnedPack> {
        let usable = |pack: &OwnedPack| {
            pack.fits(len) && except.is_none_or(|other| other.number != pack.pack.number)
        };
        {
            let mut pool = self.pool.lock().expect(POISON);
            // Full ones are given up, so that others may empty them.
            pool.retain(|(owned, _)| owned.fits(super::envelope::SIZE as u64));
            if let Some(i) = pool.iter().position(|(owned, _)| usable(owned)) {
                return Ok(pool.swap_remove(i).0);
            }
        }
        // What other processes left is continued, so that packs get filled; a few looks are enough.
        // Which ones are idle tells only the attempt to claim them.
        let idle = list(&self.files)?;
        let room = |meta: &crate::sys::Meta| meta.id.len.saturating_add(len) <= self.limits.pack;
        for (number, _) in idle.iter().filter(|(_, meta)| room(meta)).take(8) {
            if let Claim::Pack(owned) = OwnedPack::claim(&self.files, *number, self.limits.pack)? {
                if usable(&owned) {
                    return Ok(self.known(owned));
                }
            }
        }
        Ok(self.known(OwnedPack::create(&self.files, self.limits.pack)?))
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

    /// Indexes an appended record.
    fn bind(&self, new: &Appended) -> Result<Bound> {
        let mut locked = self.locked()?;
        let record = record_len(new.envelope.kind, new.envelope.length).unwrap_or(0);
        let written = record.saturating_add(new.object_bytes);
        let mut totals = Changes::default();
        totals.add(Field::DiskBytes, written);
        totals.add(Field::SinceSweep, written);
        let bound = self.bind_locked(&mut locked, new, &mut totals);
        // Whatever came of it, the bytes were written; and the slots that were, are in use.
        let counted = locked.index.change(&totals);
        let bound = bound?;
        counted.map_err(|e| self.error("bind a key", e))?;
        Ok(bound)
    }

    /// Indexes an appended record. The caller holds the lock, and writes the totals.
    fn bind_locked(
        &self,
        locked: &mut Locked<'_>,
        new: &Appended,
        totals: &mut Changes,
    ) -> Result<Bound> {
        let io = |e| self.error("bind a key", e);
        let index = &locked.index;
        let same = Arc::ptr_eq(&new.before.0, index) && new.before.1 == index.field(Field::Epoch);
        let is_there = if same {
            new.pack.is_linked()
        } else {
            new.pack.is_named(&self.files)
        };
        if !is_there.map_err(io)? || !self.is_content_there(index, new).map_err(io)? {
            // The record stays pending: it binds nothing.
            self.release_packs(Duration::ZERO);
            return Ok(Bound::Again);
        }
        let found = self.bindings(index, &new.envelope.key).map_err(io)?;
        let unbound = found.live.is_empty();
        for (i, (at, slot)) in found.stale.iter().enumerate() {
            self.clear_slot(index, *at, slot, unbound && i == 0)
                .map_err(io)?;
        }
        if found
            .live
            .last()
            .is_some_and(|b| b.envelope.generation >= new.envelope.generation)
        {
            // A newer put was indexed while this one was being written, or one of the same number
            // by another process, which knew as little of this one. This one stays pending.
            return Ok(Bound::Done { rebound: 0 });
        }
        self.bind_content(locked, new, totals)?;
        let slot = key_slot(&locked.index, &new.envelope, new.place);
        self.place(locked, &slot)?;
        totals.add(Field::Used, 1);
        // Only now: a writer that is killed before leaves a slot that leads to nothing live, not a
        // live binding that nobody knows of.
        new.pack.mark_live(new.place.offset()).map_err(io)?;
        self.note_bound(new, !found.live.is_empty());
        if unbound && new.envelope.kind != Kind::Namespace {
            totals.add(Field::Entries, 1);
        }
        totals.raise(Field::Generation, new.envelope.generation);
        totals.add(Field::Puts, 1);
        Ok(Bound::Done {
            rebound: found.live.len(),
        })
    }

    /// What the append left pending a flush may have taken before the slot was there.
    fn note_bound(&self, new: &Appended, rebound: bool) {
        let mut pending = self.pending.lock().expect(POISON);
        pending.add_pack(&new.pack);
        if rebound {
            pending.rebound.insert(new.envelope.key);
        }
    }

    /// Whether what the record relies on is still there. The caller holds the lock, under which
    /// content is removed.
    fn is_content_there(&self, index: &Index, new: &Appended) -> io::Result<bool> {
        match new.envelope.kind {
            Kind::Inline | Kind::Namespace => Ok(true),
            Kind::Object => object::exists(&self.files, &new.envelope.digest),
            Kind::Shared => Ok(self
                .content(index, &new.envelope.digest)?
                .is_some_and(|(.., found)| found.kind == Kind::Inline)),
        }
    }

    /// Writes the slot of new content, or points that of damaged content at the new bytes.
    fn bind_content(
        &self,
        locked: &mut Locked<'_>,
        new: &Appended,
        totals: &mut Changes,
    ) -> Result<()> {
        let io = |e| self.error("bind content", e);
        let Envelope {
            kind,
            digest,
            length,
            ..
        } = new.envelope;
        if matches!(kind, Kind::Shared | Kind::Namespace) {
            return Ok(());
        }
        let index = &locked.index;
        let hash = index.hash(digest.as_bytes());
        let allocated = match kind {
            Kind::Object => object::allocated(length),
            _ => record_len(kind, length).unwrap_or(0) - super::envelope::SIZE as u64,
        };
        let slot = Slot {
            kind: SlotKind::Content,
            hash,
            place: new.place,
            allocated: Allocated::of(allocated),
            content: u32::from(kind == Kind::Object),
            last_use: new.envelope.generation,
        };
        let known = index.find(SlotKind::Content, hash).map_err(io)?;
        for (at, old) in known {
            let same = self.envelope(old.place).map_err(io)?;
            let is_other = same.as_ref().is_some_and(|(_, e, _)| e.digest != digest);
            if is_other {
                continue;
            }
            // Inline content is only written again because what was there was damaged or gone.
            let keep = kind == Kind::Object && same.is_some();
            return if keep {
                Ok(())
            } else {
                index.write(at, &slot).map_err(io)
            };
        }
        self.place(locked, &slot)?;
        totals.add(Field::Used, 1);
        Ok(())
    }

    /// Writes a slot into the table and counts it. The caller holds the lock.
    pub(super) fn insert(&self, locked: &mut Locked<'_>, slot: &Slot) -> Result<()> {
        self.place(locked, slot)?;
        let counted = locked.index.add(Field::Used, 1);
        counted.map_err(|e| self.error("write a slot of the index", e))
    }

    /// Writes a slot into the table, which grows if it must. The caller holds the lock and counts
    /// the slot.
    fn place(&self, locked: &mut Locked<'_>, slot: &Slot) -> Result<()> {
        let io = |e| self.error("write a slot of the index", e);
        if locked.index.is_loaded() {
            // Failing to grow is no failure while there is room.
            if self.grow_if_loaded(locked).is_err() {
                Counters::add(&self.counters.internal_errors, 1);
            }
        }
        let room = match locked.index.room(slot.hash).map_err(io)? {
            Some(at) => Some(at),
            None if self.make_room(locked).is_ok() => locked.index.room(slot.hash).map_err(io)?,
            None => None,
        };
        let at = match room {
            Some(at) => at,
            // No room and no space to grow: the oldest binding in these buckets makes room.
            None => {
                let full = || io(io::ErrorKind::StorageFull.into());
                let (at, old) = locked
                    .index
                    .oldest(slot.hash)
                    .map_err(io)?
                    .ok_or_else(full)?;
                self.evict_slot(&locked.index, at, &old).map_err(io)?;
                at
            }
        };
        locked.index.write(at, slot).map_err(io)
    }

    /// Unbinds a key: every binding that the index knows is marked dead, the oldest first and
    /// durably, so that a power cut cannot bring one back that a newer one had replaced.
    ///
    /// Without `durably` nothing is synced in between: where the newest binding was never durable,
    /// there is no such order to keep.
    pub(super) fn unbind(
        &self,
        index: &Index,
        key: &Fingerprint,
        durably: bool,
    ) -> io::Result<bool> {
        let mut removed = false;
        loop {
            let found = self.bindings(index, key)?;
            for (i, (at, slot)) in found.stale.iter().enumerate() {
                let unbinds = found.live.is_empty() && !removed && i == 0;
                self.clear_slot(index, *at, slot, unbinds)?;
            }
            if found.live.is_empty() {
                return Ok(removed);
            }
            let last = found.live.len() - 1;
            for (i, binding) in found.live.iter().enumerate() {
                binding.pack.mark_dead(binding.slot.place.offset())?;
                if durably && i < last {
                    binding.pack.sync()?;
                }
                self.clear_slot(index, binding.at, &binding.slot, i == last && !removed)?;
                self.add_garbage(index, binding)?;
                self.pending.lock().expect(POISON).add_pack(&binding.pack);
            }
            removed = true;
        }
    }

    /// Notes what the content of a binding may free once no key needs it.
    fn add_garbage(&self, index: &Index, binding: &Binding) -> io::Result<()> {
        let length = binding.envelope.length;
        index.add(Field::Garbage, length.min(self.limits.bytes))
    }

    /// Removes a key.
    pub(super) fn remove(&self, key: &Fingerprint) -> Result<bool> {
        let deadline = Instant::now() + REBUILD_WAIT;
        loop {
            let locked = self.locked()?;
            if locked.index.has_flag(REBUILDING) {
                drop(locked);
                if Instant::now() >= deadline {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        "remove a key while the index is being rebuilt",
                    )
                    .with_path(self.files.layout.index()));
                }
                self.rebuild_or_wait()?;
                continue;
            }
            let removed = self
                .unbind(&locked.index, key, true)
                .map_err(|e| self.error("remove a key", e))?;
            drop(locked);
            if self.collect_if_worthwhile().is_err() {
                // The key is removed; the space is freed by a later pass.
                Counters::add(&self.counters.internal_errors, 1);
            }
            return Ok(removed);
        }
    }
}

/// The slot of a binding.
pub(super) fn key_slot(index: &Index, envelope: &Envelope, place: Place) -> Slot {
    let (allocated, content) = match envelope.kind {
        Kind::Namespace => (record_len(envelope.kind, envelope.length).unwrap_or(0), 0),
        _ => {
            let tag = index
                .hash(envelope.digest.as_bytes())
                .tag(SlotKind::Content);
            (super::envelope::SIZE as u64, tag)
        }
    };
    Slot {
        kind: SlotKind::Key,
        hash: index.hash(envelope.key.as_bytes()),
        place,
        allocated: Allocated::of(allocated),
        content,
        last_use: envelope.generation,
    }
}

/// Carries an error through a function that speaks of `io::Error`.
pub(super) fn into_io(e: Error) -> io::Error {
    io::Error::other(e)
}

/// The inverse of [`into_io`].
pub(super) fn into_error(e: io::Error, inner: &Inner) -> Error {
    match e.downcast::<Error>() {
        Ok(e) => e,
        Err(e) => inner.error("store an entry", e),
    }
}
