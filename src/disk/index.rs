//! The index file: a hint at where the newest binding of each key and each content is.
//!
//! Everybody reads it, through a read-only mapping or by `pread`; who holds the directory's lock
//! writes it, by `pwrite`. Every method that writes says so.

use super::ended::is_sane;
use super::envelope::KeyId;
use super::header::{
    self, BadHeader, Changes, Constants, Field, REBUILDING, TOTALS, TOTALS_AT, sealed, unsealed,
};
use super::pack::{random_bytes, sync_once};
use super::private::Private;
use super::slot::{Slot, SlotHash, SlotKind};
use super::table::{BUCKET_BYTES, BUCKET_WORDS, Bucket, HeapTable, PIECE, Position};
use crate::few::Few;
use crate::sync::{Arc, AtomicBool, IndexWord, Ordering};
use crate::sys::mapping::SharedMap;
use crate::sys::{Meta, RawFile};
use std::io;
use std::ops::Range;

/// Buckets of the first table: 56 KiB, 2,048 slots.
#[cfg(not(keepwarm_models))]
pub(super) const FIRST_BUCKETS: u64 = 128;
/// For the model checker: every key meets every other, and tables grow soon.
#[cfg(keepwarm_models)]
pub(super) const FIRST_BUCKETS: u64 = 2;
/// A table is grown when more than this many of its slots in 16 are used.
const LOAD_LIMIT: u64 = 13;
/// Last uses within so many bytes of the table are written together: a page.
const NEAR: u64 = 4096;
/// The slots found for one hash: all of two buckets at most.
pub(super) type Matches = Few<(Position, Slot)>;

#[derive(Debug)]
pub(super) struct Index {
    source: Source,
    constants: Constants,
    /// The key whose slots this handle looks for.
    key_id: KeyId,
    words: Words,
    /// Whether a sync of the folder has made its name durable.
    named: AtomicBool,
    /// A sync failed: see [`Pack::sync`](super::pack::Pack::sync).
    failed: AtomicBool,
}

/// Whose index it is.
#[derive(Debug)]
enum Source {
    /// That of all processes: the file, and which one it is.
    Shared(Arc<dyn RawFile>, Meta),
    /// That of a handle which only reads and found no whole one. It never changes.
    Private(Private),
}

/// Where the words of a table are. What reads them does not care.
#[derive(Debug)]
enum Words {
    Mapped(SharedMap),
    /// Header and table.
    Heap(Arc<[IndexWord]>, Arc<Vec<IndexWord>>),
    /// In the file: every read is a `pread`.
    File,
}

impl Words {
    fn header(&self) -> Option<&[IndexWord]> {
        match self {
            Self::Mapped(map) => Some(map.words()),
            Self::Heap(header, _) => Some(header),
            Self::File => None,
        }
    }

    fn table(&self) -> Option<&[IndexWord]> {
        match self {
            Self::Mapped(map) => Some(map.words().get(header::SIZE / 8..).unwrap_or_default()),
            Self::Heap(_, table) => Some(table),
            Self::File => None,
        }
    }
}

/// A table to be published.
#[derive(Debug)]
pub(super) struct NewIndex<'a> {
    pub(super) buckets: u64,
    pub(super) flags: u64,
    pub(super) seed: u64,
    /// `None`: an empty one.
    pub(super) table: Option<&'a HeapTable>,
    /// The index whose totals it takes over. It is then made durable before it is published,
    /// because what a flush acknowledged relies on it.
    pub(super) totals: Option<&'a Index>,
}

impl NewIndex<'_> {
    /// An index for a directory that has none, flagged as being rebuilt: whoever walks the packs
    /// takes the flag away. Where there are no packs it is published without.
    pub(super) fn empty() -> Self {
        let seed = crate::hex::words(&random_bytes())[0];
        let flags = REBUILDING;
        Self {
            buckets: FIRST_BUCKETS,
            flags,
            seed,
            table: None,
            totals: None,
        }
    }
}

/// What is at the index's path.
#[derive(Debug)]
pub(super) enum Found {
    Index(Index),
    /// Missing, foreign or damaged; with `Newer` it must be left alone.
    Bad(BadHeader),
}

impl Index {
    /// Reads the header of an open file and maps it.
    pub(super) fn open(file: Arc<dyn RawFile>, map: bool, key_id: KeyId) -> io::Result<Found> {
        let mut meta = file.meta_at_open()?;
        if meta.id.len < header::SIZE as u64 {
            // This handle may have written it since.
            meta = file.meta()?;
        }
        if meta.id.len < header::SIZE as u64 {
            return Ok(Found::Bad(BadHeader::Damaged));
        }
        let Ok(len) = usize::try_from(meta.id.len) else {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "the index is too large",
            ));
        };
        // A failed map falls back to reading. So do targets of 32 bits, on which loading a word of a
        // read-only page is not guaranteed to be a plain read (S2 in docs/safety.md).
        let map = map && cfg!(target_pointer_width = "64");
        let map = if map { file.map_shared(len).ok() } else { None };
        let constants = if let Some(map) = &map {
            Constants::decode(map.words(), meta.id.len)
        } else {
            let mut bytes = [0; 64];
            file.read_at(&mut bytes, 0)?;
            let words = crate::hex::native_words(&bytes).map(IndexWord::new);
            Constants::decode(&words.collect::<Vec<_>>(), meta.id.len)
        };
        let constants = match constants {
            Ok(constants) => constants,
            Err(bad) => return Ok(Found::Bad(bad)),
        };
        Ok(Found::Index(Self {
            source: Source::Shared(file, meta),
            constants,
            key_id,
            words: map.map_or(Words::File, Words::Mapped),
            named: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }))
    }

    /// An index that nobody else sees, of a table on the heap and a header for it.
    pub(super) fn private(
        private: Private,
        (constants, key_id): (Constants, KeyId),
        (header, table): (Vec<u64>, HeapTable),
    ) -> Self {
        let header = header.into_iter().map(IndexWord::new).collect();
        Self {
            source: Source::Private(private),
            constants,
            key_id,
            words: Words::Heap(header, Arc::new(table.into_words())),
            named: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// What a private index knows of itself; `None` if it is shared.
    pub(super) fn as_private(&self) -> Option<&Private> {
        match &self.source {
            Source::Private(private) => Some(private),
            Source::Shared(..) => None,
        }
    }

    /// The same private index, with other knowledge of itself; `None` if it is shared.
    pub(super) fn with_private(&self, private: Private) -> Option<Self> {
        let Words::Heap(header, table) = &self.words else {
            return None;
        };
        Some(Self {
            source: Source::Private(private),
            constants: self.constants,
            key_id: self.key_id,
            words: Words::Heap(Arc::clone(header), Arc::clone(table)),
            named: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        })
    }

    fn file(&self) -> io::Result<&dyn RawFile> {
        match &self.source {
            Source::Shared(file, _) => Ok(&**file),
            Source::Private(_) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    /// Writes a new index to a fresh file; it gives out no generation up to `floor`.
    pub(super) fn write_new(file: &dyn RawFile, new: &NewIndex<'_>, floor: u64) -> io::Result<()> {
        let NewIndex {
            buckets,
            seed,
            flags,
            ..
        } = *new;
        let constants = Constants {
            seed,
            buckets,
            inode: file.meta()?.id.inode,
        };
        let sampled = new
            .totals
            .map_or_else(crate::store::now, |old| old.field(Field::Sampled));
        let totals = [
            (Field::Generation, sealed(floor)),
            (Field::Sampled, sampled),
            // Of an index that was lost nobody knows what it knew.
            (Field::Ends, 1),
        ];
        file.write_at(&constants.encode(flags, &totals), 0)?;
        let mut at = header::SIZE as u64;
        // The space is written, never left a hole: a hole on a full disk is SIGBUS for a reader.
        if let Some(table) = new.table {
            for piece in table.pieces() {
                file.write_at(&piece, at)?;
                at += piece.len() as u64;
            }
            return Ok(());
        }
        let zeros = vec![0; PIECE];
        let end = at + buckets * BUCKET_BYTES;
        while at < end {
            let n = usize::try_from(end - at)
                .unwrap_or(usize::MAX)
                .min(zeros.len());
            file.write_at(&zeros[..n], at)?;
            at += n as u64;
        }
        Ok(())
    }

    pub(super) fn seed(&self) -> u64 {
        self.constants.seed
    }

    pub(super) fn buckets(&self) -> u64 {
        self.constants.buckets
    }

    /// Whether the file says that it is another file: the directory was copied.
    pub(super) fn is_copy(&self) -> bool {
        match &self.source {
            Source::Shared(_, meta) => self.constants.inode != meta.id.inode,
            Source::Private(_) => false,
        }
    }

    /// Whether the file at the path, as `stat` sees it, is this one, whole.
    pub(super) fn is(&self, named: &Meta) -> bool {
        match &self.source {
            Source::Shared(_, meta) => {
                named.is_file && meta.same_file(named) && meta.id.len == named.id.len
            }
            Source::Private(_) => false,
        }
    }

    /// Makes what was written durable. Once that failed it fails for ever: the table has to be
    /// written anew.
    pub(super) fn sync(&self) -> io::Result<()> {
        sync_once(self.file()?, &self.failed)
    }

    /// Whether its name was made durable since this handle has it.
    pub(super) fn is_named_durably(&self) -> bool {
        self.named.load(Ordering::Relaxed)
    }

    /// Tells that the folder was synced after the file got its name.
    pub(super) fn named_durably(&self) {
        self.named.store(true, Ordering::Relaxed);
    }

    pub(super) fn hash(&self, name: &[u8; 32]) -> SlotHash {
        self.hash_under(name, self.key_id)
    }

    /// The check key of the handle.
    pub(super) fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The hash of a key or digest in the slots of who has another check key.
    pub(super) fn hash_under(&self, name: &[u8; 32], key_id: KeyId) -> SlotHash {
        SlotHash::new(name, self.constants.seed ^ key_id.salt())
    }

    /// A total or counter; zero where it cannot be read.
    #[inline]
    pub(super) fn field(&self, field: Field) -> u64 {
        self.word(field as usize).unwrap_or(0)
    }

    /// The same for who writes what follows from it: an error where it cannot be read.
    fn known(&self, field: Field) -> io::Result<u64> {
        self.word(field as usize)
    }

    /// A word of the header.
    #[inline]
    fn word(&self, at: usize) -> io::Result<u64> {
        match self.words.header() {
            Some(words) => Ok(words[at].load(Ordering::Relaxed)),
            None => self.read_word(at),
        }
    }

    /// The same of an index that is not mapped.
    #[cold]
    fn read_word(&self, at: usize) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file()?.read_at(&mut bytes, at as u64 * 8)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Writes: takes over what a new table takes from the old one. The caller holds the lock.
    pub(super) fn carry(&self, old: &Self) -> io::Result<()> {
        for words in header::CARRIED {
            let mut bytes = Vec::new();
            for at in words.clone() {
                bytes.extend(old.word(at)?.to_ne_bytes());
            }
            self.file()?.write_at(&bytes, words.start as u64 * 8)?;
        }
        Ok(())
    }

    /// Not below the number of any binding that was ended of a key with this hash. What is put
    /// meanwhile with one that is not above it must not be bound: a rebuild would end it. Others share
    /// the word: it may be higher than need be.
    pub(super) fn newest_end(&self, hash: SlotHash) -> io::Result<u64> {
        let newest = self.word(header::end_word(hash))?;
        // Nothing above all numbers given out was ended: damage made it up.
        let is_known = is_sane(newest) && newest <= self.known_generation()?;
        Ok(if is_known { newest } else { 0 })
    }

    /// Writes: a binding with this number is about to be marked dead, and none is left of its key,
    /// which has the hash. The caller holds the lock.
    pub(super) fn note_newest_end(&self, hash: SlotHash, generation: u64) -> io::Result<()> {
        self.note_end()?;
        if !is_sane(generation) || self.newest_end(hash)? >= generation {
            return Ok(());
        }
        self.raise_generation(generation)?;
        let at = header::end_word(hash) as u64 * 8;
        self.file()?.write_at(&generation.to_ne_bytes(), at)
    }

    /// Writes: a binding is about to be marked dead. The caller holds the lock.
    pub(super) fn note_end(&self) -> io::Result<()> {
        let ends = self.known(Field::Ends)?;
        if ends % 2 == 0 {
            self.set_field(Field::Ends, ends.wrapping_add(1))?;
        }
        Ok(())
    }

    /// Whether marks of bindings that were ended may not be durable.
    pub(super) fn has_unsettled_ends(&self) -> bool {
        match (self.known(Field::Ends), self.known(Field::EndsSettled)) {
            (Ok(ends), Ok(settled)) => ends % 2 == 1 || settled != ends,
            _ => true,
        }
    }

    /// Writes: begins to make all marks of dead bindings durable; the number to
    /// [end](Self::ends_are_settled) with, `None` if they are. The caller holds the lock.
    pub(super) fn begin_to_settle_ends(&self) -> io::Result<Option<u64>> {
        let mut ends = self.known(Field::Ends)?;
        if ends % 2 == 1 {
            ends = ends.wrapping_add(1);
            self.set_field(Field::Ends, ends)?;
        }
        Ok((self.known(Field::EndsSettled)? != ends).then_some(ends))
    }

    /// Writes: all marks that were made before that began are durable. The caller holds the lock.
    pub(super) fn ends_are_settled(&self, begun: u64) -> io::Result<()> {
        if self.known(Field::EndsSettled)? < begun {
            self.set_field(Field::EndsSettled, begun)?;
        }
        Ok(())
    }

    /// Not below any generation given out, as far as the header is to be believed.
    pub(super) fn generation(&self) -> u64 {
        unsealed(self.field(Field::Generation))
    }

    fn known_generation(&self) -> io::Result<u64> {
        self.known(Field::Generation).map(unsealed)
    }

    /// Writes: new generations are above this one from now on. The caller holds the lock.
    pub(super) fn raise_generation(&self, generation: u64) -> io::Result<()> {
        if is_sane(generation) && self.known_generation()? < generation {
            self.set_generation(generation)?;
        }
        Ok(())
    }

    /// Writes: no generation up to this one is given out any more. The caller holds the lock.
    pub(super) fn set_generation(&self, generation: u64) -> io::Result<()> {
        self.set_field(Field::Generation, sealed(generation))
    }

    /// What has changed when a slot for a key was written and an older one of it is emptied: a
    /// binding counts as a put, a copy by the space it takes.
    #[inline]
    pub(super) fn moves(&self) -> [u64; 2] {
        [Field::Puts, Field::DiskBytes].map(|field| self.field(field))
    }

    /// Writes: sets a total. The caller holds the lock.
    pub(super) fn set_field(&self, field: Field, value: u64) -> io::Result<()> {
        self.file()?.write_at(&value.to_ne_bytes(), field.offset())
    }

    /// Writes: adds to a total, saturating. The caller holds the lock.
    pub(super) fn add(&self, field: Field, value: u64) -> io::Result<()> {
        if value == 0 {
            return Ok(());
        }
        self.set_field(field, self.known(field)?.saturating_add(value))
    }

    /// Writes: takes from a total, not below zero. The caller holds the lock.
    pub(super) fn subtract(&self, field: Field, value: u64) -> io::Result<()> {
        if value == 0 {
            return Ok(());
        }
        self.set_field(field, self.known(field)?.saturating_sub(value))
    }

    /// Writes: changes totals, with one write. The caller holds the lock.
    pub(super) fn change(&self, changes: &Changes) -> io::Result<()> {
        let old = self.totals()?;
        let new = changes.apply(old);
        let differs = |i: &usize| old[*i] != new[*i];
        let Some(first) = (0..TOTALS).find(differs) else {
            return Ok(());
        };
        let last = (0..TOTALS).rfind(differs).unwrap_or(first);
        let mut bytes = [0; TOTALS * 8];
        for (out, word) in bytes.chunks_exact_mut(8).zip(new) {
            out.copy_from_slice(&word.to_ne_bytes());
        }
        self.file()?.write_at(
            &bytes[first * 8..(last + 1) * 8],
            TOTALS_AT + first as u64 * 8,
        )
    }

    /// All totals and counters, with one read.
    pub(super) fn totals(&self) -> io::Result<[u64; TOTALS]> {
        let mut totals = [0; TOTALS];
        if let Some(words) = self.words.header() {
            let words = words.iter().skip(Field::Entries as usize);
            for (total, word) in totals.iter_mut().zip(words) {
                *total = word.load(Ordering::Relaxed);
            }
            return Ok(totals);
        }
        let mut bytes = [0; TOTALS * 8];
        self.file()?.read_at(&mut bytes, TOTALS_AT)?;
        for (total, word) in totals.iter_mut().zip(crate::hex::native_words(&bytes)) {
            *total = word;
        }
        Ok(totals)
    }

    /// All flags.
    pub(super) fn flags(&self) -> io::Result<u64> {
        self.known(Field::Flags)
    }

    /// Whether a flag is set. Also where that cannot be read: both flags say that this index is not all there is.
    pub(super) fn has_flag(&self, flag: u64) -> bool {
        self.flags().map_or(true, |flags| flags & flag != 0)
    }

    /// Writes: sets or clears a flag. The caller holds the lock.
    pub(super) fn set_flag(&self, flag: u64, on: bool) -> io::Result<()> {
        let flags = self.flags()?;
        self.set_field(Field::Flags, if on { flags | flag } else { flags & !flag })
    }

    fn with_bucket<T>(&self, bucket: u64, look: impl FnOnce(Bucket<'_>) -> T) -> io::Result<T> {
        if let Some(table) = self.words.table() {
            let at = usize::try_from(bucket)
                .unwrap_or(usize::MAX)
                .saturating_mul(BUCKET_WORDS);
            return Ok(look(Bucket(table.get(at..).unwrap_or_default())));
        }
        let mut bytes = [0; BUCKET_WORDS * 8];
        self.file()?
            .read_at(&mut bytes, header::SIZE as u64 + bucket * BUCKET_BYTES)?;
        let mut words = crate::hex::native_words(&bytes);
        let words: [IndexWord; BUCKET_WORDS] =
            std::array::from_fn(|_| IndexWord::new(words.next().unwrap_or_default()));
        Ok(look(Bucket(&words)))
    }

    /// The slots that may be those of `hash`; allocates only if there are several.
    pub(super) fn find(&self, kind: SlotKind, hash: SlotHash) -> io::Result<Matches> {
        let mut found = Few::new();
        for bucket in hash.buckets(self.constants.buckets) {
            self.with_bucket(bucket, |words| {
                let matches = words.matches(kind, hash);
                found.extend(matches.map(|(slot, content)| (Position { bucket, slot }, content)));
            })?;
        }
        Ok(found)
    }

    /// Whether looking into it takes no system call.
    pub(super) fn is_mapped(&self) -> bool {
        self.words.header().is_some()
    }

    /// Whether [`find`](Self::find) may find anything.
    pub(super) fn may_have(&self, kind: SlotKind, hash: SlotHash) -> io::Result<bool> {
        let tag = hash.tag(kind);
        let [first, second] = hash.buckets(self.constants.buckets);
        let has = |bucket| self.with_bucket(bucket, |words| words.has_tag(tag));
        Ok(has(first)? | has(second)?)
    }

    /// What is in a slot now.
    pub(super) fn get(&self, at: Position) -> io::Result<Option<Slot>> {
        self.with_bucket(at.bucket, |words| words.get(at.slot))
    }

    /// Calls `each` for every slot in use.
    pub(super) fn for_each(&self, each: impl FnMut(Position, Slot)) -> io::Result<()> {
        self.for_each_in(0..self.constants.buckets, each)
    }

    /// Calls `each` for every slot in use of some buckets.
    pub(super) fn for_each_in(
        &self,
        buckets: Range<u64>,
        mut each: impl FnMut(Position, Slot),
    ) -> io::Result<()> {
        for bucket in buckets {
            self.with_bucket(bucket, |words| {
                for (slot, content) in words.slots() {
                    each(Position { bucket, slot }, content);
                }
            })?;
        }
        Ok(())
    }

    /// An empty slot for `hash`, in the less loaded bucket; `None` if both are full.
    pub(super) fn room(&self, hash: SlotHash) -> io::Result<Option<Position>> {
        let mut best: Option<(usize, Position)> = None;
        for bucket in hash.buckets(self.constants.buckets) {
            let (slot, empty) = self.with_bucket(bucket, |words| words.room())?;
            if let Some(slot) = slot {
                if best.as_ref().is_none_or(|(most, _)| empty > *most) {
                    best = Some((empty, Position { bucket, slot }));
                }
            }
        }
        Ok(best.map(|(_, at)| at))
    }

    /// The least recently used key slot in the buckets of `hash`.
    pub(super) fn oldest(&self, hash: SlotHash) -> io::Result<Option<(Position, Slot)>> {
        let mut oldest: Option<(Position, Slot)> = None;
        for bucket in hash.buckets(self.constants.buckets) {
            self.with_bucket(bucket, |words| {
                for (slot, content) in words.slots().filter(|(_, s)| s.kind == SlotKind::Key) {
                    if oldest
                        .as_ref()
                        .is_none_or(|(_, old)| content.last_use < old.last_use)
                    {
                        oldest = Some((Position { bucket, slot }, content));
                    }
                }
            })?;
        }
        Ok(oldest)
    }

    /// Whether the table is loaded so far that it should be grown.
    pub(super) fn is_loaded(&self) -> bool {
        self.field(Field::Used) > self.constants.buckets.saturating_mul(LOAD_LIMIT)
    }

    /// Writes a slot, tag and body at once, and with them what stands between, as it is: one write
    /// costs less than two. Readers may see the parts in any order. The caller holds the lock.
    pub(super) fn write(&self, at: Position, slot: &Slot) -> io::Result<()> {
        let (bytes, range) = self.with_bucket(at.bucket, |words| words.with_slot(at.slot, slot))?;
        self.write_in_bucket(at.bucket, &bytes, range)
    }

    /// Writes: empties a slot, its body too. The caller holds the lock.
    fn clear(&self, at: Position) -> io::Result<()> {
        let (bytes, range) = self.with_bucket(at.bucket, |words| words.without_slot(at.slot))?;
        self.write_in_bucket(at.bucket, &bytes, range)
    }

    fn write_in_bucket(&self, bucket: u64, bytes: &[u8], range: Range<usize>) -> io::Result<()> {
        let start = header::SIZE as u64 + bucket * BUCKET_BYTES + range.start as u64;
        self.file()?.write_at(&bytes[range], start)
    }

    /// Writes: empties a slot and corrects the totals. The caller holds the lock, and says whether
    /// a key lost its last binding.
    pub(super) fn vacate(&self, at: Position, slot: &Slot, unbinds: bool) -> io::Result<()> {
        self.clear(at)?;
        let mut totals = Changes::default();
        totals.subtract(Field::Used, 1);
        if slot.kind == SlotKind::Key {
            totals.add(Field::Garbage, slot.allocated.bytes());
            if unbinds && slot.content != 0 {
                totals.subtract(Field::Entries, 1);
            }
        }
        self.change(&totals)
    }

    /// Writes slots that are there, of which only the uses change, in the order of their places:
    /// those that are near each other with one write, which leaves what stands between as it is. The
    /// caller holds the lock.
    pub(super) fn write_uses(&self, mut uses: &[(Position, Slot)]) -> io::Result<()> {
        while let Some(((first, _), near)) = uses.first().zip(uses.chunk_by(are_near).next()) {
            let last = near.last().map_or(first.bucket, |(at, _)| at.bucket);
            let mut bytes = Vec::new();
            for bucket in first.bucket..=last {
                self.with_bucket(bucket, |words| bytes.extend_from_slice(&words.bytes()))?;
            }
            let base = first.bucket * BUCKET_BYTES;
            let within = |offset: u64| usize::try_from(offset - base).unwrap_or(0);
            let mut end = 0;
            for (at, slot) in near {
                let body = at.body();
                end = within(body.end);
                let (_, words) = slot.encode();
                let out = bytes[within(body.start)..end].chunks_exact_mut(8);
                for (out, word) in out.zip(words) {
                    out.copy_from_slice(&word.to_ne_bytes());
                }
            }
            let start = first.body().start;
            let offset = header::SIZE as u64 + start;
            self.file()?.write_at(&bytes[within(start)..end], offset)?;
            uses = &uses[near.len()..];
        }
        Ok(())
    }
}

/// Whether two uses, of which the second is behind the first, are written with one write.
fn are_near((one, _): &(Position, Slot), (other, _): &(Position, Slot)) -> bool {
    one.body().start / NEAR == other.body().start / NEAR
}
