//! What `keepwarm::sync` gives, under the checker.

pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::thread::{ThreadId, current};
