//! What `keepwarm::sync` gives, under the checker.

pub(crate) use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(crate) use shuttle::sync::mpsc::{Receiver, channel};
pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard};
pub(crate) use shuttle::thread::{Builder, ThreadId, current};
pub(crate) use std::sync::TryLockError;

/// The checker has no `OnceLock`, and one of the standard library would block the one thread that
/// all tasks of the checker share.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    initialising: Mutex<()>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            initialising: Mutex::new(()),
        }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.get()
    }

    pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.value.get() {
            return value;
        }
        let _one = self.initialising.lock();
        if let Some(value) = self.value.get() {
            return value;
        }
        let value = init();
        self.value.get_or_init(|| value)
    }
}
