//! The lock under which the index is written: one for all processes, one for all threads.
//!
//! On Unix it is an advisory lock on the `v1` directory itself, so that lock and data share one
//! fate; elsewhere on a file in it. It is taken by polling, with a bound: a process that is
//! stopped while it holds the lock makes others fail a write, never hang.

use super::layout::Layout;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use crate::sys::{Access, FileSystem, Meta, RawFile};
use std::ffi::OsStr;
use std::io;
use std::time::{Duration, Instant};

const POISON: &str =
    "the lock of keepwarm's directory gate is poisoned: a thread panicked under it";

#[derive(Debug, Default)]
pub(super) struct DirLock {
    gate: Mutex<Gate>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    /// Whether a thread of this handle holds the lock.
    held: bool,
    /// Threads that sleep until it is free. Waking nobody would be a system call a put.
    waiting: usize,
    file: Option<LockFile>,
}

/// The file that the lock is taken on, and which one it is: that never changes while it is open.
#[derive(Debug)]
struct LockFile {
    file: Arc<dyn RawFile>,
    meta: Meta,
}

/// The lock, held. Dropping it releases it.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub(super) struct LockGuard<'a> {
    lock: &'a DirLock,
    /// `None` once it was handed back.
    file: Option<LockFile>,
}

impl LockGuard<'_> {
    /// What `stat` says of a name in the locked directory, which was at the layout's path when the
    /// lock was taken; `None` where it is not the directory that is locked.
    pub(super) fn stat_below(&self, name: &OsStr) -> Option<io::Result<Meta>> {
        let locked = self.file.as_ref().filter(|_| cfg!(unix))?;
        Some(locked.file.stat_below(name))
    }
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
        let mut gate = self.gate.lock().expect(POISON);
        while gate.held {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(timeout(layout));
            }
            gate.waiting += 1;
            gate = self.freed.wait_timeout(gate, left).expect(POISON).0;
            gate.waiting -= 1;
        }
        gate.held = true;
        let cached = gate.file.take();
        drop(gate);
        match take(cached, fs, layout, deadline) {
            Ok(file) => Ok(LockGuard {
                lock: self,
                file: Some(file),
            }),
            Err(e) => {
                self.release(None);
                Err(e)
            }
        }
    }

    fn release(&self, file: Option<LockFile>) {
        let mut gate = self.gate.lock().expect(POISON);
        gate.held = false;
        gate.file = file;
        let wake = gate.waiting > 0;
        drop(gate);
        if wake {
            self.freed.notify_one();
        }
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // A file whose lock cannot be given up is closed instead, which gives it up.
        let file = self.file.take().filter(|held| held.file.unlock().is_ok());
        self.lock.release(file);
    }
}

fn timeout(layout: &Layout) -> Error {
    Error::new(
        ErrorKind::Timeout,
        "get the lock of the cache directory in time",
    )
    .with_path(layout.base())
}

fn open(fs: &dyn FileSystem, layout: &Layout) -> io::Result<LockFile> {
    let file = if cfg!(unix) {
        // It may be another one than before: is it to be trusted?
        fs.open_dir(layout.root())?;
        fs.open_dir(layout.base())?
    } else {
        fs.open(&layout.lock_file(), Access::Create)?
    };
    let meta = file.meta_at_open()?;
    Ok(LockFile { file, meta })
}

fn take(
    cached: Option<LockFile>,
    fs: &dyn FileSystem,
    layout: &Layout,
    deadline: Instant,
) -> Result<LockFile> {
    let io = |e| Error::io("lock the cache directory", layout.base(), e);
    let mut lock = match cached {
        Some(lock) => lock,
        None => open(fs, layout).map_err(io)?,
    };
    let mut pause = Duration::from_micros(20);
    let mut tries = 0_u32;
    loop {
        if lock.file.try_lock().map_err(io)? {
            // The directory may have been deleted or replaced: what was locked must be at the path.
            // That the index seen last is there would not tell: hands may have moved it.
            let named = if cfg!(unix) {
                fs.glance(layout.base())
            } else {
                fs.stat(&layout.lock_file())
            };
            match named {
                Ok(named) if lock.meta.same_file(&named) => return Ok(lock),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // Asking again until the time is up would help nobody.
                Err(e) => return Err(io(e)),
            }
            lock = open(fs, layout).map_err(io)?;
        }
        if Instant::now() >= deadline {
            return Err(timeout(layout));
        }
        tries += 1;
        if tries < 32 {
            // The lock is held for microseconds; trying again beats sleeping.
            crate::sync::yield_now();
        } else {
            crate::sync::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(2));
        }
    }
}

/// Waits for a turn at what one thread of this process does at a time; `None` after `wait`.
pub(super) fn turn(gate: &Mutex<()>, wait: Duration) -> Option<MutexGuard<'_, ()>> {
    let deadline = Instant::now() + wait;
    loop {
        match gate.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(_)) => panic!("{POISON}"),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => crate::sync::sleep(Duration::from_micros(200)),
        }
    }
}
