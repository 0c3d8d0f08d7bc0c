//! The order of puts, removes, clears and promotions of one key.
//!
//! Whoever changes what a key is bound to in the upper tier holds the key's stripe. Its version
//! grows when it is taken and when it is let go, so it is odd while it is held, and a look-up that
//! finds the same even version before and after knows that nothing changed in between. A
//! promotion that finds another version than before its look-up is dropped: something newer may
//! have been put or removed.
//!
//! A stripe is a flag with a condition variable rather than a held mutex: waiting for it is
//! bounded, a panic of the store above while it is held harms nobody, and a promotion, which must
//! never wait, gives up when it is taken.

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, TryLockError};
use std::time::Instant;

/// Enough that two threads rarely meet, few enough that `clear` may hold them all.
const STRIPES: u64 = 256;

#[derive(Debug, Default)]
struct Stripe {
    version: AtomicU64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    /// Threads that sleep until it is free. Waking nobody would be a system call a change.
    waiting: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Stripes(Box<[Stripe]>);

/// The right to change what the keys of a stripe are bound to.
#[derive(Debug)]
#[must_use = "the stripe is free again when this is dropped"]
pub(super) struct StripeGuard<'a>(&'a Stripe);

impl Stripe {
    fn lock(&self) -> MutexGuard<'_, State> {
        let Ok(state) = self.state.lock() else {
            panic!("the lock of a stripe of a tiered store is poisoned");
        };
        state
    }

    fn acquire(&self, deadline: Instant) -> Result<StripeGuard<'_>> {
        let mut state = self.lock();
        while state.held {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let action = "wait for another change of the same key";
                return Err(Error::new(ErrorKind::Timeout, action));
            }
            state.waiting += 1;
            let Ok((guard, _)) = self.freed.wait_timeout(state, left) else {
                panic!("the lock of a stripe of a tiered store is poisoned");
            };
            state = guard;
            state.waiting -= 1;
        }
        Ok(self.hold(state))
    }

    fn hold(&self, mut state: MutexGuard<'_, State>) -> StripeGuard<'_> {
        state.held = true;
        // Before anything is done under it: who sees some of that finds another version.
        self.version.fetch_add(1, Ordering::AcqRel);
        StripeGuard(self)
    }
}

impl Stripes {
    pub(super) fn new() -> Self {
        Self((0..STRIPES).map(|_| Stripe::default()).collect())
    }

    fn stripe(&self, fold: u64) -> &Stripe {
        &self.0[(fold % STRIPES) as usize]
    }

    /// The version of the stripe of a key; odd while somebody holds it.
    pub(super) fn version(&self, fold: u64) -> u64 {
        self.stripe(fold).version.load(Ordering::Acquire)
    }

    /// Whether nobody held the stripe of a key since its version was `version`.
    pub(super) fn is_quiet_since(&self, fold: u64, version: u64) -> bool {
        version % 2 == 0 && self.version(fold) == version
    }

    /// Holds the stripe of a key; [`ErrorKind::Timeout`] at the deadline.
    pub(super) fn acquire(&self, fold: u64, deadline: Instant) -> Result<StripeGuard<'_>> {
        self.stripe(fold).acquire(deadline)
    }

    /// Holds the stripe of a key if nobody does and its version is still `version`. Never waits.
    pub(super) fn acquire_if(&self, fold: u64, version: u64) -> Option<StripeGuard<'_>> {
        let stripe = self.stripe(fold);
        let state = match stripe.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Poisoned(_)) => {
                panic!("the lock of a stripe of a tiered store is poisoned")
            }
        };
        if state.held || stripe.version.load(Ordering::Acquire) != version {
            return None;
        }
        Some(stripe.hold(state))
    }

    /// Holds every stripe for a moment, one after the other: whoever found something below before
    /// has handed it up by then, or never will.
    pub(super) fn pass(&self, deadline: Instant) -> Result<()> {
        self.0
            .iter()
            .try_for_each(|s| s.acquire(deadline).map(drop))
    }

    /// Holds every stripe. Taken in one order, by one who holds none: no cycle of waits.
    pub(super) fn acquire_all(&self, deadline: Instant) -> Result<Vec<StripeGuard<'_>>> {
        self.0.iter().map(|s| s.acquire(deadline)).collect()
    }
}

impl Drop for StripeGuard<'_> {
    fn drop(&mut self) {
        // After what was done under it and before the next holder: who reads the new version
        // sees what was done.
        self.0.version.fetch_add(1, Ordering::Release);
        let mut state = self.0.lock();
        state.held = false;
        if state.waiting > 0 {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_promotion_gets_no_stripe_that_changed_or_is_held() {
        let stripes = Stripes::new();
        let version = stripes.version(9);
        let guard = stripes.acquire(9, Instant::now()).unwrap();
        assert!(stripes.acquire_if(9, version).is_none(), "held");
        assert!(!stripes.is_quiet_since(9, version));
        assert!(!stripes.is_quiet_since(9, stripes.version(9)), "held");
        drop(guard);
        assert!(stripes.acquire_if(9, version).is_none(), "changed");
        assert!(!stripes.is_quiet_since(9, version));
        assert!(stripes.is_quiet_since(9, stripes.version(9)));
        assert!(stripes.acquire_if(9, stripes.version(9)).is_some());
        assert!(stripes.acquire_if(10, stripes.version(10)).is_some());
    }

    #[test]
    fn waiting_for_a_stripe_is_bounded() {
        let stripes = Stripes::new();
        let all = stripes.acquire_all(Instant::now()).unwrap();
        let deadline = Instant::now() + Duration::from_millis(1);
        let error = stripes.acquire(0, deadline).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        drop(all);
        drop(stripes.acquire(0, deadline).unwrap());
    }

    #[test]
    fn a_panic_under_a_stripe_frees_it() {
        let stripes = Stripes::new();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = stripes.acquire(3, Instant::now()).unwrap();
            std::panic::resume_unwind(Box::new("the store above"));
        }));
        assert!(caught.is_err());
        assert!(stripes.acquire(3, Instant::now()).is_ok());
    }
}
