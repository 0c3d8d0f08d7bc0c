//! Which keys the upper tier served of late, to be refreshed below in batches.
//!
//! A hit costs two relaxed loads of lines that are written once an interval: a cell, chosen by the
//! key and the interval, says whether somebody noted a hit there in this interval already. Two
//! keys that meet in a cell are told apart no further: one of them is noted; as the choice depends
//! on the interval too, it is another pair that meets in the next.

use crate::fingerprint::Fingerprint;
use crate::sync::{Mutex, MutexGuard, Ordering, TryLockError};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

const CELLS_LOG2: u32 = 14;
/// More keys than this are not noted in one interval.
const MOST: usize = 4096;

#[derive(Debug)]
pub(super) struct Touches {
    interval: Duration,
    epoch: AtomicU32,
    cells: Box<[AtomicU32]>,
    noted: Mutex<Vec<Fingerprint>>,
}

impl Touches {
    /// Notes each key about once an `interval`; each hit if it is zero.
    pub(super) fn new(interval: Duration) -> Self {
        let cells = if interval.is_zero() {
            0
        } else {
            1 << CELLS_LOG2
        };
        Self {
            interval,
            epoch: AtomicU32::new(1),
            cells: (0..cells).map(|_| AtomicU32::new(0)).collect(),
            noted: Mutex::new(Vec::new()),
        }
    }

    /// How long a noted key may wait.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Notes a hit; `true` if it is the first of a batch, so that somebody must be told.
    pub(super) fn note(&self, key: &Fingerprint, fold: u64) -> bool {
        if !self.is_first_of_interval(fold) {
            return false;
        }
        // A hint: where another thread is noting, this one does not wait.
        let mut noted = match self.noted.try_lock() {
            Ok(noted) => noted,
            Err(TryLockError::WouldBlock) => return false,
            Err(TryLockError::Poisoned(_)) => {
                panic!("the lock of the noted hits of a tiered store is poisoned")
            }
        };
        if noted.len() >= MOST {
            return false;
        }
        noted.push(*key);
        noted.len() == 1
    }

    fn is_first_of_interval(&self, fold: u64) -> bool {
        if self.cells.is_empty() {
            return true;
        }
        let epoch = self.epoch.load(Ordering::Relaxed);
        let mixed = (fold ^ u64::from(epoch).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits of the product, as many as there are cells.
        let cell = &self.cells[(mixed >> (u64::BITS - CELLS_LOG2)) as usize];
        cell.load(Ordering::Relaxed) != epoch && cell.swap(epoch, Ordering::Relaxed) != epoch
    }

    /// What was noted; a new interval begins.
    pub(super) fn take(&self) -> Vec<Fingerprint> {
        let batch = std::mem::take(&mut *self.lock());
        self.epoch.fetch_add(1, Ordering::Relaxed);
        batch
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
        assert!(touches.note(&a, fold_a), "the first of the batch");
        for _ in 0..10 {
            assert!(!touches.note(&a, fold_a));
            assert!(!touches.note(&b, fold_b));
        }
        assert_eq!(touches.take(), [a, b]);
        assert!(touches.note(&a, fold_a), "a new interval");
        assert_eq!(touches.take(), [a]);
    }

    #[test]
    fn without_an_interval_every_hit_is_noted_up_to_a_bound() {
        let touches = Touches::new(Duration::ZERO);
        let (a, fold) = key(1);
        for _ in 0..2 * MOST {
            touches.note(&a, fold);
        }
        assert_eq!(touches.take().len(), MOST);
    }
}
