//! Where the synchronisation of this crate comes from, so that a model checker can put its own
//! primitives in their place: `crates/keepwarm-models` compiles the files of this crate beside a
//! `sync` module of its own.
//!
//! **The rule:** code that threads run at the same time takes locks, atomics, condition variables
//! and threads from here, and waits by [`sleep`] and [`yield_now`] from here, never from `std`. A
//! lock of `std` that is held while the checker switches threads would hang it. Excepted are cells
//! that nothing waits for and nothing else depends on (`OnceLock` for a digest), and tests.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::sync::mpsc::{Receiver, channel};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, RwLock, TryLockError};
pub(crate) use std::thread::{Builder, JoinHandle, ThreadId, current, sleep, yield_now};

/// A word of the index. Other processes write it while it is read, so it is only ever loaded, and
/// `Relaxed`: whatever follows from one word about another has to be argued without an order. Its
/// name is its own because the checker lets such loads return older values.
pub(crate) type IndexWord = AtomicU64;
