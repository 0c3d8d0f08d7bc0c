//! The lock under which the index is written: one for all processes, one for all threads.
//!
//! On Unix it is an advisory lock on the `v1` directory itself, so that lock and data share one
//! fate; elsewhere on a file in it. It is taken by polling, with a bound: a process that is
//! stopped while it holds the lock makes others fail a write, never hang.

use super::layout::Layout;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{Access, FileSystem, RawFile};
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const POISON: &str =
    "the lock of keepwarm's directory gate is poisoned: a thread panicked under it";

#[derive(Debug, Default)]
pub(super) struct DirLock {
    /// Whether a thread of this handle holds the lock, and the file it is taken on.
    gate: Mutex<(bool, Option<Arc<dyn RawFile>>)>,
    freed: Condvar,
}

/// The lock, held. Dropping it releases it.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub(super) struct LockGuard<'a> {
    lock: &'a DirLock,
    file: Arc<dyn RawFile>,
}

impl DirLock {
    /// Waits for the lock of the directory that is at the layout's path *now*.
    ///
    /// # Errors
    /// `Timeout` after `wait`; `NotFound` as the source if there is no directory.
    pub(super) fn acquire(
        &self,
        fs: &dyn FileSystem,
        layout: &Layout,
        wait: Duration,
    ) -> Result<LockGuard<'_>> {
        let deadline = Instant::now() + wait;
        let mut state = self.gate.lock().expect(POISON);
        while state.0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timeout(layout));
            }
            state = self.freed.wait_timeout(state, left).expect(POISON).0;
        }
        state.0 = true;
        let cached = state.1.take();
        drop(state);
        match take(cached, fs, layout, deadline) {
            Ok(file) => Ok(LockGuard { lock: self, file }),
            Err(e) => {
                self.release(None);
                Err(e)
            }
        }
    }

    fn release(&self, file: Option<Arc<dyn RawFile>>) {
        *self.gate.lock().expect(POISON) = (false, file);
        self.freed.notify_one();
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // A file whose lock cannot be given up is closed instead, which gives it up.
        let keep = self.file.unlock().is_ok();
        self.lock.release(keep.then(|| Arc::clone(&self.file)));
    }
}

fn timeout(layout: &Layout) -> Error {
    Error::new(
        ErrorKind::Timeout,
        "get the lock of the cache directory in time",
    )
    .with_path(layout.base())
}

fn open(fs: &dyn FileSystem, layout: &Layout) -> io::Result<Arc<dyn RawFile>> {
    if cfg!(unix) {
        fs.open_dir(layout.base())
    } else {
        fs.open(&layout.lock_file(), Access::Create)
    }
}

fn take(
    cached: Option<Arc<dyn RawFile>>,
    fs: &dyn FileSystem,
    layout: &Layout,
    deadline: Instant,
) -> Result<Arc<dyn RawFile>> {
    let io = |e| Error::io("lock the cache directory", layout.base(), e);
    let mut file = match cached {
        Some(file) => file,
        None => open(fs, layout).map_err(io)?,
    };
    let mut pause = Duration::from_micros(20);
    let mut tries = 0_u32;
    loop {
        if file.try_lock().map_err(io)? {
            // The directory may have been deleted or replaced: what was locked must be at the path.
            let named = if cfg!(unix) {
                fs.stat(layout.base())
            } else {
                fs.stat(&layout.lock_file())
            };
            if named.is_ok_and(|named| file.meta().is_ok_and(|own| own.same_file(&named))) {
                return Ok(file);
            }
            file = open(fs, layout).map_err(io)?;
        }
        if Instant::now() >= deadline {
            return Err(timeout(layout));
        }
        tries += 1;
        if tries < 32 {
            // The lock is held for microseconds; trying again beats sleeping.
            std::thread::yield_now();
        } else {
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}
