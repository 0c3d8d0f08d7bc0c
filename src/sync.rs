//! Where the synchronisation of this crate comes from, so that a model checker can put its own
//! primitives in their place: it compiles the file under test beside a `sync` module of its own.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use std::thread::{ThreadId, current};
