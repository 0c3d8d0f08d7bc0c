//! The primitives that the protocol of this module is made of, in one place, so that a model
//! checker can put its own instead.

pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard, TryLockError};
