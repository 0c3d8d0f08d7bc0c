//! How much the whole store may hold, and how much it holds now.
//!
//! What a put adds to its shard it *owes* first, for what it evicts makes up for it: a full store
//! exchanges one entry for another without touching a gauge, which all threads share. Only what
//! fits is counted, so a gauge never exceeds its limit.
//!
//! Invariant: what the shards hold is what the gauges say and what calls under way owe. So when
//! none is under way, the gauges are exact and the limits hold.

use crate::stats::EvictionReason;
use crate::sync::{AtomicI64, Ordering};

/// More entries than this are never kept, so that slots fit into 32 bits.
const MOST_ENTRIES: u64 = 1 << 31;
/// No sum of bytes reaches it.
const NO_LIMIT: i64 = i64::MAX;

// `Relaxed` is enough: each gauge changes in steps that are true by themselves, and the shards' locks
// order everything else.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Budget {
    entries: Gauge,
    bytes: Gauge,
}

/// What is counted, and its limit.
#[derive(Debug)]
struct Gauge {
    /// Below zero for a moment where a call gives back before another one has paid.
    now: AtomicI64,
    limit: i64,
}

/// What a call added to the shards and no gauge counts; negative where it took more than that.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "somebody has to pay"]
pub(super) struct Owed {
    pub(super) entries: i64,
    pub(super) bytes: i64,
}

impl Owed {
    /// What an entry of so many bytes adds.
    pub(super) fn of(bytes: u64) -> Self {
        Self {
            entries: 1,
            bytes: signed(bytes),
        }
    }
}

/// Which limits were exceeded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exceeded {
    entries: bool,
    bytes: bool,
}

impl Budget {
    pub(super) fn new(entry_limit: u64, byte_limit: u64) -> Self {
        Self {
            entries: Gauge::new(entry_limit.min(MOST_ENTRIES)),
            bytes: Gauge::new(byte_limit),
        }
    }

    /// Whether the store keeps nothing at all.
    pub(super) fn is_zero(&self) -> bool {
        self.entries.limit == 0 || self.bytes.limit == 0
    }

    /// Whether an entry of so many bytes can be kept, alone if need be.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        signed(bytes) <= self.bytes.limit
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.now()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.now()
    }

    /// Counts an entry of so many bytes if there is room for it.
    pub(super) fn add_if_room(&self, bytes: u64) -> bool {
        let bytes = signed(bytes);
        if !self.bytes.claim(bytes) {
            return false;
        }
        let fits = self.entries.claim(1);
        if !fits {
            self.bytes.add(-bytes);
        }
        fits
    }

    /// The room that is left, in entries and bytes.
    pub(super) fn room(&self) -> (u64, u64) {
        if self.is_zero() {
            return (0, 0);
        }
        (self.entries.room(), self.bytes.room())
    }

    pub(super) fn subtract(&self, entries: u64, bytes: u64) {
        self.entries.add(-signed(entries));
        self.bytes.add(-signed(bytes));
    }

    /// Counts what is owed if all of it fits; else says which limits do not allow it.
    ///
    /// Afterwards there may be left what was taken too much, and what a gauge without a limit need
    /// not count at once: for these [`conclude`](Self::conclude) is called, once, at the end.
    pub(super) fn pay(&self, owed: &mut Owed) -> Result<(), Exceeded> {
        loop {
            let exceeded = Exceeded {
                entries: !self.entries.has_room(owed.entries),
                bytes: !self.bytes.has_room(owed.bytes),
            };
            if exceeded.entries || exceeded.bytes {
                return Err(exceeded);
            }
            // Since the look others may have taken the room.
            if self.bytes.pay(&mut owed.bytes) && self.entries.pay(&mut owed.entries) {
                return Ok(());
            }
        }
    }

    /// Counts what is owed still, or was taken too much.
    pub(super) fn conclude(&self, Owed { entries, bytes }: Owed) {
        self.entries.add(entries);
        self.bytes.add(bytes);
    }
}

impl Gauge {
    fn new(limit: u64) -> Self {
        Self {
            now: AtomicI64::new(0),
            limit: signed(limit),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.now.load(Ordering::Relaxed)).unwrap_or(0)
    }

    fn room(&self) -> u64 {
        let room = self.limit.saturating_sub(self.now.load(Ordering::Relaxed));
        u64::try_from(room).unwrap_or(0)
    }

    fn add(&self, amount: i64) {
        if amount != 0 {
            self.now.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Adds `amount` if the limit allows it.
    fn claim(&self, amount: i64) -> bool {
        let more = |now: i64| Some(now.saturating_add(amount)).filter(|sum| *sum <= self.limit);
        let claimed = self
            .now
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        claimed.is_ok()
    }

    fn has_room(&self, amount: i64) -> bool {
        let now = || self.now.load(Ordering::Relaxed);
        amount <= 0 || self.limit == NO_LIMIT || now().saturating_add(amount) <= self.limit
    }

    /// Adds what has to be counted at once, and takes it off, if the limit allows it.
    fn pay(&self, owed: &mut i64) -> bool {
        if *owed > 0 && self.limit != NO_LIMIT {
            if !self.claim(*owed) {
                return false;
            }
            *owed = 0;
        }
        true
    }
}

/// Sizes are those of things in memory: far below 2^63.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Exceeded {
    #[must_use]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            entries: self.entries || other.entries,
            bytes: self.bytes || other.bytes,
        }
    }

    pub(super) fn reason(self) -> EvictionReason {
        match (self.entries, self.bytes) {
            (true, true) => EvictionReason::EntryAndByteLimit,
            (true, false) => EvictionReason::EntryLimit,
            _ => EvictionReason::ByteLimit,
        }
    }
}
