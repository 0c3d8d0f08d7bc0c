//! Ctrl-C, and the signals that end a process: what was begun aside is removed, then it ends.
//!
//! The cache itself needs no care: it survives `kill -9` at any moment.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::NamedTempFile;

/// The exit code of what Ctrl-C ended, as shells have it.
const INTERRUPTED: i32 = 130;

/// Files being written, which are removed if it comes to an end.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the signals.
pub(crate) fn install() {
    let end = || {
        // Held to the end: what is finished meanwhile is not there any more under this name.
        let files = unfinished();
        for file in files.iter() {
            // It is gone, or stays: nothing else can be done now.
            drop(std::fs::remove_file(file));
        }
        std::process::exit(INTERRUPTED);
    };
    // Without a handler the process ends at once, which at worst leaves a temporary file.
    drop(ctrlc::set_handler(end));
}

/// A file being written: removed when the process is interrupted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes a file and watches over it; no signal comes in between.
    pub(crate) fn make(
        make: impl FnOnce() -> io::Result<NamedTempFile>,
    ) -> io::Result<(NamedTempFile, Self)> {
        let mut files = unfinished();
        let file = make()?;
        let path = file.path().to_path_buf();
        files.push(path.clone());
        Ok((file, Self(path)))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        unfinished().retain(|path| *path != self.0);
    }
}
