//! Where the synchronisation of this crate comes from, so that a model checker can put its own
//! primitives in their place: it compiles the file under test beside a `sync` module of its own.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::mpsc::{Receiver, channel};
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, TryLockError};
pub(crate) use std::thread::{Builder, ThreadId, current};
