//! How much the whole store may hold, and how much it holds now.
//!
//! Invariant: both gauges change under the lock of the shard whose entries changed, so whoever
//! sees an entry counted finds it in its shard.

use crate::stats::EvictionReason;
use crate::sync::{AtomicU64, Ordering};

/// More entries than this are never kept, so that slots fit into 32 bits.
pub(super) const MOST_ENTRIES: u64 = 1 << 31;

// `Relaxed` is enough: of several puts the last in the order of the gauge's changes reads a sum
// that has them all, and the shards' locks order everything else.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Budget {
    entries: AtomicU64,
    bytes: AtomicU64,
    entry_limit: u64,
    byte_limit: u64,
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
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            entry_limit: entry_limit.min(MOST_ENTRIES),
            byte_limit,
        }
    }

    /// Whether the store keeps nothing at all.
    pub(super) fn is_zero(&self) -> bool {
        self.entry_limit == 0 || self.byte_limit == 0
    }

    /// Whether an entry of so many bytes can be kept, alone if need be.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        bytes <= self.byte_limit
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, entries: u64, bytes: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts an entry of so many bytes if there is room for it.
    pub(super) fn add_if_room(&self, bytes: u64) -> bool {
        let raise = |gauge: &AtomicU64, limit: u64, by: u64| {
            let update = |now: u64| now.checked_add(by).filter(|sum| *sum <= limit);
            let raised = gauge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
            raised.is_ok()
        };
        if !raise(&self.bytes, self.byte_limit, bytes) {
            return false;
        }
        let fits = raise(&self.entries, self.entry_limit, 1);
        if !fits {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// The room that is left, in entries and bytes.
    pub(super) fn room(&self) -> (u64, u64) {
        if self.is_zero() {
            return (0, 0);
        }
        (
            self.entry_limit.saturating_sub(self.entries()),
            self.byte_limit.saturating_sub(self.bytes()),
        )
    }

    pub(super) fn subtract(&self, entries: u64, bytes: u64) {
        self.entries.fetch_sub(entries, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// An entry of `old` bytes gave way to one of `new`, in one step so that no sum is ever seen
    /// that never was.
    pub(super) fn replace(&self, old: u64, new: u64) {
        self.bytes
            .fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.entries() > self.entry_limit || self.bytes() > self.byte_limit
    }

    /// Uncounts an entry of so many bytes that is about to be evicted, if a limit is exceeded.
    ///
    /// Checked and subtracted in one step: otherwise several threads, each about to evict from
    /// another shard, would all see the one entry too many. (Where both limits are exceeded at
    /// once, two may still; the entries go to their callers, none is lost.)
    pub(super) fn claim(&self, bytes: u64) -> Option<Exceeded> {
        let lower = |gauge: &AtomicU64, limit: u64, by: u64| {
            let update = |now: u64| (now > limit).then(|| now.saturating_sub(by));
            gauge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update)
        };
        if lower(&self.entries, self.entry_limit, 1).is_ok() {
            let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Some(Exceeded {
                entries: true,
                bytes: before > self.byte_limit,
            });
        }
        lower(&self.bytes, self.byte_limit, bytes).ok()?;
        self.entries.fetch_sub(1, Ordering::Relaxed);
        Some(Exceeded {
            entries: false,
            bytes: true,
        })
    }
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
