//! Looking at everything: every record, every content, every slot, whatever the policy; and on
//! request putting right what is not.
//!
//! Memory is bounded, and the directory's lock is never held over a hash. What looks wrong is looked
//! at again once everybody who held the lock has let go of it, and under it where that is possible,
//! so that what others do meanwhile is not taken for a fault.

mod objects;
mod packs;
mod report;
mod slots;

use super::DiskStore;
use super::header::{Field, REBUILDING};
use super::inner::{Inner, Locked};
use super::pack::is_absent;
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::sync::Ordering;
pub use report::{Fault, Finding, VerificationReport};
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What cannot be locked is looked at again after this.
const PAUSE: Duration = Duration::from_millis(20);
/// So many pauses are made, in all, for packs that may be about to get their header.
const PATIENCE: u32 = 100;
/// Looks at totals that others change meanwhile.
const LOOKS: usize = 3;
/// A header of each pack is not in the totals until the next pass.
const UNCOUNTED: u64 = 64;

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerificationProgress {
    /// Bindings looked at.
    pub entries: u64,
    /// How many there were when it began, as far as the index knew.
    pub entries_total: u64,
    /// Bytes of files gone through.
    pub bytes: u64,
    /// How many there were when it began, as far as the index knew.
    pub bytes_total: u64,
}

type Callback<'a> = Box<dyn FnMut(&VerificationProgress) -> ControlFlow<()> + 'a>;

/// A walk over everything in a directory; see [`DiskStore::verification`].
#[must_use = "a verification does nothing until `run`"]
pub struct Verification<'a> {
    store: &'a DiskStore,
    repair: bool,
    progress: Option<Callback<'a>>,
}

impl fmt::Debug for Verification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verification")
            .field("store", &self.store)
            .field("repair", &self.repair)
            .finish_non_exhaustive()
    }
}

impl DiskStore {
    /// A walk over everything in the directory, which reports what is damaged, missing or in
    /// excess, and repairs it on request.
    ///
    /// It reads and hashes all there is, whatever [`Verify`](crate::Verify) says, while others may go
    /// on using the directory. If the index is just being rebuilt, that is waited for. Without repair
    /// nothing is changed.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// let report = store
    ///     .verification()
    ///     .repair(true)
    ///     .on_progress(|seen| {
    ///         println!("{} of {} bytes", seen.bytes, seen.bytes_total);
    ///         ControlFlow::Continue(())
    ///     })
    ///     .run()?;
    /// assert!(report.is_sound());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verification(&self) -> Verification<'_> {
        Verification {
            store: self,
            repair: false,
            progress: None,
        }
    }

    /// Makes the index anew from the packs, and waits until that is done: for an index that is
    /// suspected to be wrong. A lost one is rebuilt without being asked.
    ///
    /// Slots that lead to something are kept, with their last use; gets and puts go on meanwhile, and
    /// removals wait.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) if another process is rebuilding and makes
    /// no progress for 30 seconds, and whatever keeps the directory from being written.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// store.rebuild()?;
    /// assert!(!store.is_rebuilding());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rebuild(&self) -> Result<()> {
        self.inner.rebuild_now()?;
        Walk::new(&self.inner, true, None).slots()
    }
}

impl<'a> Verification<'a> {
    /// Whether what is wrong is put right; not unless set. [`Fault`] says what that means.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// let report = store.verification().repair(true).run()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn repair(mut self, repair: bool) -> Self {
        self.repair = repair;
        self
    }

    /// Calls `callback` every now and then, at least once a megabyte or file. If it returns
    /// [`ControlFlow::Break`], the walk ends there.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// # use keepwarm::StoreExt;
    /// # store.put_bytes(&keepwarm::Fingerprint::from_bytes([1; 32]), vec![1])?;
    /// let report = store.verification().on_progress(|_| ControlFlow::Break(())).run()?;
    /// assert!(report.cancelled);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_progress(
        mut self,
        callback: impl FnMut(&VerificationProgress) -> ControlFlow<()> + 'a,
    ) -> Self {
        self.progress = Some(Box::new(callback));
        self
    }

    /// Walks.
    ///
    /// # Errors
    ///
    /// If a folder or the index cannot be read, or a repair cannot be written. A file that cannot be
    /// read is a finding.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// for finding in store.verification().run()?.findings {
    ///     println!("{:?} in {}", finding.fault, finding.path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run(self) -> Result<VerificationReport> {
        let mut walk = Walk::new(&self.store.inner, self.repair, self.progress);
        walk.all()?;
        Ok(walk.report)
    }
}

type Step<'a> = fn(&mut Walk<'a>) -> Result<()>;

/// The state of a walk.
struct Walk<'a> {
    inner: &'a Inner,
    repair: bool,
    callback: Option<Callback<'a>>,
    progress: VerificationProgress,
    report: VerificationReport,
    /// Whether the index was rebuilt, because of what it did not know.
    rebuilt: bool,
    /// Pauses that may still be made for packs without a header.
    patience: u32,
}

impl<'a> Walk<'a> {
    fn new(inner: &'a Inner, repair: bool, callback: Option<Callback<'a>>) -> Self {
        Self {
            inner,
            repair,
            callback,
            progress: VerificationProgress::default(),
            report: VerificationReport::default(),
            rebuilt: false,
            patience: PATIENCE,
        }
    }

    fn all(&mut self) -> Result<()> {
        // What is at the paths now counts, not what is open.
        self.inner.epoch.store(u64::MAX, Ordering::Relaxed);
        let mut index = self.inner.refresh();
        self.inner.drop_gone_packs();
        if index.has_flag(REBUILDING) {
            let waited = self.inner.wait_for_rebuild();
            if self.repair {
                waited?;
            }
            index = self.inner.refresh();
        }
        self.report.index_changed = index.has_flag(REBUILDING);
        self.progress.entries_total = index.field(Field::Entries);
        self.progress.bytes_total = index.field(Field::DiskBytes);
        let steps: [Step<'a>; 5] = [
            Self::packs,
            Self::objects,
            Self::slots,
            Self::totals,
            Self::foreign_files,
        ];
        for step in steps {
            if self.report.cancelled {
                break;
            }
            step(self)?;
        }
        Ok(())
    }

    fn error(&self, e: io::Error) -> Error {
        self.inner.error("verify the directory", e)
    }

    /// Tells how far it is; `false` if it shall end.
    fn advance(&mut self, bytes: u64) -> bool {
        self.progress.bytes = self.progress.bytes.saturating_add(bytes);
        let progress = &self.progress;
        if let Some(callback) = &mut self.callback {
            self.report.cancelled |= callback(progress).is_break();
        }
        !self.report.cancelled
    }

    fn find(&mut self, fault: Fault, key: Option<Fingerprint>, path: PathBuf, repaired: bool) {
        self.report.add(Finding {
            fault,
            key,
            path,
            repaired,
        });
    }

    /// Waits until whatever others do under the lock is done, and keeps them from it. Where there
    /// is no lock to be had, the best is to wait a little.
    fn settle(&self) -> Option<Locked<'a>> {
        let locked = self.inner.locked().ok();
        if locked.is_none() {
            crate::sync::sleep(PAUSE);
        }
        locked
    }

    fn names(&self, folder: &Path) -> Result<Vec<std::ffi::OsString>> {
        match self.inner.files.fs.read_dir(folder) {
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            names => names.map_err(|e| Error::io("read a folder", folder, e)),
        }
    }

    fn foreign_files(&mut self) -> Result<()> {
        let layout = &self.inner.files.layout;
        for name in self.names(layout.base())? {
            if !layout.is_known(&name) {
                self.find(Fault::Foreign, None, layout.base().join(name), false);
            }
        }
        Ok(())
    }

    /// Compares the totals with what is there. They may be off by what is being written; only what
    /// stays the same amount off is a fault.
    fn totals(&mut self) -> Result<()> {
        let mut last = None;
        for _ in 0..LOOKS {
            let locked = self.settle();
            let index = self.inner.index();
            if index.has_flag(REBUILDING) {
                self.report.index_changed = true;
                return Ok(());
            }
            let survey = self.inner.survey(&index).map_err(|e| self.error(e))?;
            drop(locked);
            let off = self.off(&index, &survey);
            if off == [0; 3] || last.is_some_and(|last| last != off) {
                return Ok(());
            }
            last = Some(off);
            crate::sync::sleep(PAUSE);
        }
        if self.repair {
            self.inner.recount()?;
        }
        let path = self.inner.files.layout.index();
        self.find(Fault::Totals, None, path, self.repair);
        Ok(())
    }

    /// By how much the totals are off, in entries, slots and bytes.
    fn off(&self, index: &super::index::Index, survey: &Survey) -> [u64; 3] {
        let packs = survey.packs.len() as u64;
        let under_way = packs
            .saturating_mul(UNCOUNTED)
            .saturating_add(self.inner.limits.pack);
        let bytes = index.field(Field::DiskBytes).abs_diff(survey.disk_bytes());
        [
            index.field(Field::Entries).abs_diff(survey.entries()),
            index.field(Field::Used).abs_diff(survey.used()),
            if bytes > under_way { bytes } else { 0 },
        ]
    }
}
