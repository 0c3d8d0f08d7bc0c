//! Who evicts: one process at a time, by a lease; another one too where that one is stopped.

use super::header::Field;
use super::index::Index;
use super::inner::Inner;
use super::pack::{Files, is_absent};
use crate::error::{Error, Result};
use crate::sync::Arc;
use crate::sys::{Access, RawFile};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

const POISON: &str = "the lock of keepwarm's evictor is poisoned: a thread panicked under it";
/// How long a put that exceeds the budget waits for the process that evicts.
const EVICTOR_WAIT: Duration = Duration::from_millis(500);
/// A process that has the right to evict and in all this time evicts nothing is stopped.
const EVICTOR_STALLED: Duration = Duration::from_secs(10);

/// The right to evict: the lease, which is given up with it, or none where its holder is stopped.
#[derive(Debug)]
pub(super) struct Right(
    #[expect(dead_code, reason = "held until it is dropped")] Option<Arc<dyn RawFile>>,
);

/// What the process that evicts had done when puts of this handle waited for it in vain.
#[derive(Debug)]
pub(super) struct Waited {
    done: u64,
    /// The first time and the last time that it had done so much.
    pub(super) since: Instant,
    last: Instant,
}

impl Inner {
    /// The right to evict; `None` once another process has made room, or after a bounded wait: puts
    /// of many processes must not outrun the one that evicts.
    pub(super) fn right_or_room(&self) -> Result<Option<Right>> {
        let deadline = Instant::now() + EVICTOR_WAIT;
        loop {
            if let Some(lease) = self.eviction_lease()? {
                *self.evictor.lock().expect(POISON) = None;
                return Ok(Some(Right(Some(lease))));
            }
            let index = self.live_index();
            if self.excess(&index).is_none() {
                return Ok(None);
            }
            if Instant::now() >= deadline {
                return Ok(self.is_evictor_stalled(&index).then_some(Right(None)));
            }
            crate::sync::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the process that has the right to evict has done nothing for so long that it must be
    /// stopped. Passes beside one another are harmless: each step looks again, under the lock.
    fn is_evictor_stalled(&self, index: &Index) -> bool {
        let done = index
            .field(Field::Evictions)
            .wrapping_add(index.field(Field::Epoch));
        let now = Instant::now();
        let mut seen = self.evictor.lock().expect(POISON);
        match &mut *seen {
            // Of what was between two waits that are far from one another nothing is known.
            Some(seen) if seen.done == done && now.duration_since(seen.last) < EVICTOR_STALLED => {
                seen.last = now;
                now.duration_since(seen.since) >= EVICTOR_STALLED
            }
            seen => {
                *seen = Some(Waited {
                    done,
                    since: now,
                    last: now,
                });
                false
            }
        }
    }

    /// The right to evict, until it is dropped; `None` if another process has it.
    pub(super) fn eviction_lease(&self) -> Result<Option<Arc<dyn RawFile>>> {
        if !self.is_own_process() {
            return Ok(None);
        }
        let path = self.files.layout.eviction_lease();
        self.lease(&path)
            .map_err(|e| Error::io("become the one who evicts", &path, e))
    }

    /// The lock on the file at `path`, until it is dropped; `None` if another process has it. A
    /// folder that is missing is made, what is no file, or may not be opened, makes way.
    pub(super) fn lease(&self, path: &Path) -> io::Result<Option<Arc<dyn RawFile>>> {
        let open = || self.files.fs.open(path, Access::Create);
        let file = match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.files.fs.create_dir(&self.files.layout.builds())?;
                open()?
            }
            // Another member of the group may have died before it had given the file its mode.
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => {
                make_way(&self.files, path)?;
                open()?
            }
            file => file?,
        };
        Ok(file.try_lock()?.then_some(file))
    }
}

/// Removes what is in the place of a file that is to be made.
pub(super) fn make_way(files: &Files, path: &Path) -> io::Result<()> {
    match files.fs.remove_tree(path) {
        Err(e) if is_absent(&e) => Ok(()),
        done => done,
    }
}
