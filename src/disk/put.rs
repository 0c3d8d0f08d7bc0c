//! Putting: what is there already is adopted, what is not is written and then bound.

use super::bind::{Appended, Bound};
use super::counters::Counters;
use super::envelope::{Envelope, Kind};
use super::header::{Field, REBUILDING};
use super::index::Index;
use super::inner::{Inner, now};
use super::lookup::Binding;
use super::object::{self, Stored};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::store::Entry;
use crate::sync::Arc;
use std::io;
use std::time::Duration;

const POISON: &str = "a lock of keepwarm's disk store is poisoned: a thread panicked under it";
/// A put that loses a race (content evicted, pack deleted, all cleared) is tried this often: under
/// a storm of evictions and clears it may lose several in a row.
const TRIES: usize = 16;
/// A key rebound more often than this without a flush is flushed: its older bindings have to stay
/// until the newest one is durable.
const REBOUND_LIMIT: usize = 3;

impl Inner {
    /// Binds `key` to `entry`; `false` if exactly that was bound already. It counts as used now, or
    /// when `used` says.
    pub(super) fn put(&self, key: &Fingerprint, entry: &Entry, used: Option<u64>) -> Result<bool> {
        self.refuse_child("store an entry")?;
        let digest = entry.artifact.digest();
        for _ in 0..TRIES {
            match self.try_put(key, entry, &digest, used) {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {}
                // The directory was deleted: taking the lock makes it anew.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    // Or only one of its folders.
                    self.heal_directories()?;
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
        used: Option<u64>,
    ) -> io::Result<Option<bool>> {
        let Some(appended) = self.begin_put(key, entry, digest, used)? else {
            return Ok(Some(false));
        };
        Ok(self.finish_put(&appended)?.then_some(true))
    }

    /// The half of a put that takes no lock: writes the record, unless exactly that is bound (`None`).
    pub(super) fn begin_put(
        &self,
        key: &Fingerprint,
        entry: &Entry,
        digest: &Digest,
        used: Option<u64>,
    ) -> io::Result<Option<Appended>> {
        let index = self.live_index();
        let bytes = entry.artifact.as_slice();
        let put_at = match entry.put_nanos() {
            0 => now(),
            at => at,
        };
        let known = self.content(&index, digest)?;
        let mut live = self.few_bindings(&index, key)?;
        let newest = live.pop();
        if let Some(newest) = &newest {
            let same = newest.envelope.digest == *digest
                && newest.envelope.namespace == entry.namespace
                && newest.envelope.kind != Kind::Namespace;
            // Where age counts, a newer put makes the entry younger: it is bound anew.
            let same =
                same && (self.limits.max_age.is_none() || newest.envelope.put_at() >= put_at);
            // A rebuild may yet come to a newer record of the key: what is written now is above it.
            let knows_all = !index.has_flag(REBUILDING);
            let is_sure = knows_all && !self.is_from_before_boot(&index, &newest.envelope);
            if same
                && is_sure
                && self.holds(newest, known.as_ref(), bytes)?
                && self.adopt(&index, newest, !live.is_empty())?
            {
                self.use_stored(&index, newest, used)?;
                return Ok(None);
            }
        }
        let (kind, object_bytes) = self.put_content(known, digest, bytes)?;
        let older = newest.map_or(0, |newest| newest.envelope.generation);
        let generation = self.generation_above(&index, older);
        if generation <= older {
            // Nothing is above what was forged: it would count for ever.
            self.remove(key).map_err(into_io)?;
        }
        let envelope = Envelope {
            kind,
            generation,
            key: *key,
            digest: *digest,
            length: bytes.len() as u64,
            lag: Envelope::lag_of(generation, put_at),
            namespace: entry.namespace,
            build_cost: entry.build_cost,
        };
        let before = (Arc::clone(&index), index.field(Field::Epoch));
        let payload = if kind.carries_payload() { bytes } else { &[] };
        let (place, pack, claim) = self.append(&envelope, payload, None)?;
        Ok(Some(Appended {
            envelope,
            place,
            pack,
            claim,
            object_bytes,
            last_use: used.unwrap_or(generation),
            before,
        }))
    }

    /// The other half: binds the record; `false` if that lost a race.
    pub(super) fn finish_put(&self, appended: &Appended) -> io::Result<bool> {
        match self.bind(appended).map_err(into_io)? {
            Bound::Again => Ok(false),
            Bound::Done { rebound } => {
                if rebound >= REBOUND_LIMIT {
                    self.flush().map_err(into_io)?;
                }
                Ok(true)
            }
        }
    }

    /// The bindings of a key, of which there are few: they have to fit into two buckets.
    fn few_bindings(&self, index: &Index, key: &Fingerprint) -> io::Result<Vec<Binding>> {
        let live = self.settled_bindings(index, key)?.live;
        if live.len() <= REBOUND_LIMIT {
            return Ok(live);
        }
        // Of others, who were killed before their flush ended the older ones. The put needs it not.
        if self.settle(key).is_err() {
            Counters::add(&self.counters.maintenance_errors, 1);
        }
        Ok(self.settled_bindings(index, key)?.live)
    }

    /// What is stored already counts as used now, or when `used` says.
    fn use_stored(&self, index: &Index, stored: &Binding, used: Option<u64>) -> io::Result<()> {
        match used {
            None => self.note_use(index, stored),
            Some(at) => {
                let key = stored.envelope.key;
                self.touch_at(&[(key, at)]).map_err(into_io)?;
            }
        }
        let length = stored.envelope.length;
        Counters::add(&self.counters.deduplicated_bytes, length);
        Ok(())
    }

    /// Decides how the record carries `bytes`: not at all where they are stored already, or are
    /// stored as an object now. Also tells how many bytes on disk a new object takes.
    fn put_content(
        &self,
        known: Option<Binding>,
        digest: &Digest,
        bytes: &[u8],
    ) -> io::Result<(Kind, u64)> {
        let length = bytes.len() as u64;
        if length > self.limits.inline {
            let stored = object::store(&self.files, &self.tmp, digest, bytes)?;
            self.pending.lock().expect(POISON).objects.insert(*digest);
            return Ok(match stored {
                Stored::New => {
                    Counters::add(&self.counters.written_bytes, length);
                    (Kind::Object, object::allocated(length))
                }
                Stored::Adopted => {
                    Counters::add(&self.counters.deduplicated_bytes, length);
                    (Kind::Object, 0)
                }
            });
        }
        let Some(known) = known.filter(|known| known.envelope.kind == Kind::Inline) else {
            return Ok((Kind::Inline, 0));
        };
        // A handle outlives the file: what was deleted behind our back is not stored.
        let is_there = known.pack.is_named(&self.files)?;
        if is_there && known.pack.payload_is(known.slot.place.offset(), bytes)? {
            self.pending.lock().expect(POISON).add_pack(&known.pack);
            Counters::add(&self.counters.deduplicated_bytes, length);
            return Ok((Kind::Shared, 0));
        }
        Ok((Kind::Inline, 0))
    }

    /// Whether the content of a binding is there and is exactly `bytes`.
    fn holds(&self, binding: &Binding, known: Option<&Binding>, bytes: &[u8]) -> io::Result<bool> {
        // A handle outlives the file: what was deleted behind our back is not stored.
        let is_payload_of = |found: &Binding| -> io::Result<bool> {
            let is_there = found.pack.is_named(&self.files)?;
            Ok(is_there && found.pack.payload_is(found.slot.place.offset(), bytes)?)
        };
        match (binding.envelope.kind, known) {
            (Kind::Inline, _) => is_payload_of(binding),
            (Kind::Shared, Some(known)) => is_payload_of(known),
            (Kind::Object, Some(_)) => Ok(binding.pack.is_named(&self.files)?
                && object::is_equal(&self.files, &binding.envelope.digest, bytes)?),
            // A content without a slot of its own is no content to rely on: no total has it.
            (Kind::Shared | Kind::Object, None) | (Kind::Namespace, _) => Ok(false),
        }
    }

    /// What was found stored is relied on, so the next flush covers it, whoever wrote it, and ends
    /// what it replaced. `false` if its content is not found.
    pub(super) fn adopt(
        &self,
        index: &Index,
        binding: &Binding,
        is_rebound: bool,
    ) -> io::Result<bool> {
        let Envelope {
            kind, digest, key, ..
        } = binding.envelope;
        let shared = if kind == Kind::Shared {
            self.content(index, &digest)?
        } else {
            None
        };
        let mut pending = self.pending.lock().expect(POISON);
        pending.add_pack(&binding.pack);
        if let Some(content) = &shared {
            pending.add_pack(&content.pack);
        }
        if kind == Kind::Object {
            pending.objects.insert(digest);
        }
        if is_rebound {
            pending.rebound.insert(key);
        }
        Ok(kind != Kind::Shared || shared.is_some())
    }

    /// Writes a namespace's name, or any record that is not an artifact's.
    pub(super) fn put_name(&self, envelope: &Envelope, name: &[u8]) -> Result<()> {
        self.refuse_child("write the name of a namespace")?;
        for _ in 0..TRIES {
            let io = |e| self.error("write the name of a namespace", e);
            let index = self.index();
            let epoch = index.field(Field::Epoch);
            let envelope = Envelope {
                generation: self.next_generation(&index),
                ..*envelope
            };
            let before = (index, epoch);
            let (place, pack, claim) = self.append(&envelope, name, None).map_err(io)?;
            let appended = Appended {
                envelope,
                place,
                pack,
                claim,
                object_bytes: 0,
                last_use: envelope.generation,
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
