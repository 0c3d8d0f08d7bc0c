//! Which keys the upper tier served of late, to be refreshed below in batches.
//!
//! A hit costs a look at one cache line, which is written once a key and interval: it says whether a
//! hit of the key was noted in this interval already. Where more keys are hit in an interval than
//! there are cells, some are noted again and again: that costs, and loses nothing.

use crate::fingerprint::Fingerprint;
use crate::sync::{Mutex, MutexGuard, Ordering, TryLockError};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

/// Cells of a bucket: one cache line.
const WAYS: usize = 8;
const BUCKETS_LOG2: u32 = 12;
/// So many noted keys are written before the interval is over.
const EARLY: usize = 4096;
/// More keys than this are not noted while nobody writes them.
const MOST: usize = 1 << 16;

#[derive(Debug)]
pub(super) struct Touches {
    interval: Duration,
    epoch: AtomicU32,
    /// The upper 48 bits of a key's hash and the lower 16 of the epoch in which it was noted.
    cells: Box<[AtomicU64]>,
    noted: Mutex<Vec<Fingerprint>>,
    /// Held by who writes a batch.
    pub(super) telling: Mutex<()>,
    /// Hits that were not noted for want of room.
    lost: AtomicU64,
}

/// What noting a hit asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Nothing,
    /// It is the first of a batch, to be written at the end of the interval.
    First,
    /// There are so many that they should be written soon.
    Many,
}

impl Touches {
    /// Notes each key once an `interval`; each hit if it is zero.
    pub(super) fn new(interval: Duration) -> Self {
        let cells = if interval.is_zero() {
            0
        } else {
            WAYS << BUCKETS_LOG2
        };
        Self {
            interval,
            epoch: AtomicU32::new(1),
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            noted: Mutex::new(Vec::new()),
            telling: Mutex::new(()),
            lost: AtomicU64::new(0),
        }
    }

    /// How long a noted key may wait.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Notes a hit. In a forked child (`is_forked` tells) only if that needs no waiting.
    pub(super) fn note(&self, key: &Fingerprint, fold: u64, is_forked: impl Fn() -> bool) -> Noted {
        if !self.is_first_of_interval(fold) {
            return Noted::Nothing;
        }
        let mut noted = match self.noted.try_lock() {
            Ok(noted) => noted,
            // A thread of the parent may hold it for ever.
            Err(TryLockError::WouldBlock) if is_forked() => return Noted::Nothing,
            Err(TryLockError::WouldBlock) => self.lock(),
            Err(TryLockError::Poisoned(_)) => {
                panic!("the lock of the noted hits of a tiered store is poisoned")
            }
        };
        if noted.len() >= MOST {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return Noted::Nothing;
        }
        noted.push(*key);
        match noted.len() {
            1 => Noted::First,
            EARLY => Noted::Many,
            _ => Noted::Nothing,
        }
    }

    fn is_first_of_interval(&self, fold: u64) -> bool {
        if self.cells.is_empty() {
            return true;
        }
        let epoch = u64::from(self.epoch.load(Ordering::Relaxed)) & 0xffff;
        let mine = fold & !0xffff | epoch;
        // The upper bits of the product, as many as there are buckets.
        let mixed = fold.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BUCKETS_LOG2);
        let Some(bucket) = self.cells.chunks_exact(WAYS).nth(mixed as usize) else {
            return true;
        };
        let mut free = None;
        for cell in bucket {
            let found = cell.load(Ordering::Relaxed);
            if found == mine {
                return false;
            }
            if free.is_none() && found & 0xffff != epoch {
                free = Some((cell, found));
            }
        }
        // Full of other keys of this interval: one gives way, and may be noted twice.
        let (cell, found) = free.unwrap_or_else(|| {
            let cell = &bucket[(fold >> 16) as usize % WAYS];
            (cell, cell.load(Ordering::Relaxed))
        });
        let set = cell.compare_exchange(found, mine, Ordering::Relaxed, Ordering::Relaxed);
        set != Err(mine)
    }

    /// What was noted; with `next`, a new interval begins.
    pub(super) fn take(&self, next: bool) -> Vec<Fingerprint> {
        // Before the batch is taken: what is hit from now on is noted anew.
        if next {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        let mut batch = std::mem::take(&mut *self.lock());
        batch.sort_unstable();
        batch.dedup();
        batch
    }

    /// Notes again what could not be written.
    pub(super) fn give_back(&self, keys: &[Fingerprint]) {
        let mut noted = self.lock();
        let room = MOST.saturating_sub(noted.len()).min(keys.len());
        noted.extend_from_slice(&keys[..room]);
        let lost = (keys.len() - room) as u64;
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// Hits that were lost since the last call.
    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fingerprint>> {
        let Ok(noted) = self.noted.lock() else {
            panic!("the lock of the noted hits of a tiered store is poisoned");
        };
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> (Fingerprint, u64) {
        (Fingerprint::from_bytes([n; 32]), u64::from(n) << 40)
    }

    #[test]
    fn a_key_is_noted_once_an_interval() {
        let touches = Touches::new(Duration::from_secs(60));
        let (a, fold_a) = key(1);
        let (b, fold_b) = key(2);
        let note = |key, fold| touches.note(key, fold, || false);
        assert_eq!(note(&a, fold_a), Noted::First);
        for _ in 0..10 {
            assert_eq!(note(&a, fold_a), Noted::Nothing);
            assert_eq!(note(&b, fold_b), Noted::Nothing);
        }
        assert_eq!(touches.take(false), [a, b]);
        assert_eq!(note(&a, fold_a), Noted::Nothing);
        assert_eq!(touches.take(true), [], "told in this interval");
        assert_eq!(note(&a, fold_a), Noted::First, "a new interval");
        assert_eq!(touches.take(true), [a]);
    }

    #[test]
    fn no_key_is_forgotten_however_many_are_hit_in_an_interval() {
        let touches = Touches::new(Duration::from_secs(60));
        let keys = 3 * (WAYS << BUCKETS_LOG2) / 2;
        let mut many = 0;
        for n in 0..keys as u64 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            let fold = (n + 1).wrapping_mul(0xd6e8_feb8_6659_fd93);
            let key = Fingerprint::from_bytes(bytes);
            many += u32::from(touches.note(&key, fold, || false) == Noted::Many);
        }
        assert_eq!((many, touches.take_lost()), (1, 0));
        assert_eq!(touches.take(true).len(), keys);
    }

    #[test]
    fn without_an_interval_every_hit_is_noted_up_to_a_bound() {
        let touches = Touches::new(Duration::ZERO);
        let (a, fold) = key(1);
        for _ in 0..MOST + 7 {
            touches.note(&a, fold, || false);
        }
        assert_eq!(touches.take_lost(), 7);
        assert_eq!(touches.take(true), [a]);
    }

    #[test]
    fn what_could_not_be_written_is_noted_again_up_to_a_bound() {
        let touches = Touches::new(Duration::ZERO);
        let keys = vec![key(1).0; MOST + 2];
        touches.give_back(&keys);
        assert_eq!(touches.take_lost(), 2);
        assert_eq!(touches.take(false), [key(1).0]);
    }
}
