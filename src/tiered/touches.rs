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
/// The numbers of intervals begin anew after so many.
const ROUND: u32 = 1 << 16;
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
        let epoch = u64::from(self.epoch.load(Ordering::Relaxed)) & 0xffff;
        if self.is_noted(fold, epoch) {
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
        // Not before, and under the lock: who finds it and then takes the batch has the key there.
        self.set_noted(fold, epoch);
        match noted.len() {
            1 => Noted::First,
            EARLY => Noted::Many,
            _ => Noted::Nothing,
        }
    }

    fn bucket(&self, fold: u64) -> &[AtomicU64] {
        // The upper bits of the product, as many as there are buckets.
        let mixed = fold.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BUCKETS_LOG2);
        self.cells
            .chunks_exact(WAYS)
            .nth(mixed as usize)
            .unwrap_or_default()
    }

    fn is_noted(&self, fold: u64, epoch: u64) -> bool {
        let mine = fold & !0xffff | epoch;
        let mut cells = self.bucket(fold).iter();
        cells.any(|cell| cell.load(Ordering::Relaxed) == mine)
    }

    /// Only under the lock of what is noted.
    fn set_noted(&self, fold: u64, epoch: u64) {
        let bucket = self.bucket(fold);
        let is_free = |cell: &&AtomicU64| cell.load(Ordering::Relaxed) & 0xffff != epoch;
        // Full of other keys of this interval: one gives way, and may be noted twice.
        let any = || bucket.get((fold >> 16) as usize % WAYS);
        if let Some(cell) = bucket.iter().find(is_free).or_else(any) {
            cell.store(fold & !0xffff | epoch, Ordering::Relaxed);
        }
    }

    /// What was noted; with `next`, a new interval begins.
    pub(super) fn take(&self, next: bool) -> Vec<Fingerprint> {
        // Before the batch is taken: what is hit from now on is noted anew.
        if next && (self.epoch.fetch_add(1, Ordering::Relaxed).wrapping_add(1)) % ROUND == 0 {
            // What has a number from the last round was not noted in this one.
            let _noting = self.lock();
            for cell in &self.cells {
                cell.store(0, Ordering::Relaxed);
            }
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
    fn a_key_that_was_noted_as_many_intervals_ago_as_there_are_numbers_is_noted_again() {
        let touches = Touches::new(Duration::from_secs(60));
        let (a, fold_a) = key(1);
        for round in [ROUND - 1, ROUND, ROUND + 1, 1] {
            assert_eq!(touches.note(&a, fold_a, || false), Noted::First, "{round}");
            (0..round).for_each(|_| drop(touches.take(true)));
        }
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
    fn a_hit_that_notes_nothing_was_noted_already() {
        let touches = Touches::new(Duration::from_secs(60));
        let (a, fold) = key(1);
        let noted = touches.lock();
        std::thread::scope(|scope| {
            // Whoever is told that nothing is to be done may prune at once.
            let hits: Vec<_> = (0..2)
                .map(|_| scope.spawn(|| touches.note(&a, fold, || false)))
                .collect();
            std::thread::sleep(Duration::from_millis(200));
            let ended = hits.iter().any(std::thread::ScopedJoinHandle::is_finished);
            let is_noted = noted.contains(&a);
            drop(noted);
            assert!(is_noted || !ended, "a hit that would not be told");
        });
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
