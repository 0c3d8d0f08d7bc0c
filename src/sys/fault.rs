//! A file system that fails: another one, but for the calls that a test chooses.

use super::mapping::{ObjectMap, SharedMap};
use super::{Access, FileSystem, Meta, RawFile};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a call is for; the number is its bit in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open = 1,
    /// `stat`, `fstat` and the names in a folder.
    Look = 2,
    Read = 4,
    Write = 8,
    /// Of a file or a folder.
    Sync = 16,
    /// Making and removing folders and files.
    Make = 32,
    Rename = 64,
    Lock = 128,
    Map = 256,
    /// The opening for writing of a file that is there; an `Open` as well.
    OpenToWrite = 512,
}

/// Any call.
pub(crate) const ANY: u32 = 511;

/// Which of the chosen calls fail; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Once(u64),
    From(u64),
    Every(u64),
}

/// What fails, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) when: When,
    /// A raw operating system error.
    pub(crate) errno: i32,
    /// A set of [`Call`]s.
    pub(crate) calls: u32,
    /// Whether a failing write has written a part, and every read and write transfers only a
    /// part of what it is asked for; of a write it is whole words of the file.
    pub(crate) short: bool,
}

/// The fault in force, shared by the file system and all its files.
#[derive(Debug, Default)]
pub(crate) struct Plan(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    calls: u64,
    failed: u64,
    /// A write was cut short: its rest fails.
    torn: bool,
}

impl Plan {
    /// Counts from now on.
    pub(crate) fn start(&self, fault: Fault) {
        *self.state() = State {
            fault: Some(fault),
            ..State::default()
        };
    }

    /// From the `n`-th call on (1 is the next one), any of them fails with `errno`; once, or
    /// lastingly.
    pub(crate) fn fail(&self, n: u64, lasting: bool, errno: i32) {
        self.start(Fault {
            when: if lasting {
                When::From(n)
            } else {
                When::Once(n)
            },
            errno,
            calls: ANY,
            short: n % 2 == 0,
        });
    }

    /// Nothing fails any more; tells how many calls did.
    pub(crate) fn stop(&self) -> u64 {
        std::mem::take(&mut *self.state()).failed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("the lock of a plan of faults is poisoned")
    }

    fn step(&self, call: Call) -> io::Result<()> {
        self.state().step(call as u32)
    }

    /// How many bytes of `len` are read.
    fn read(&self, len: usize) -> io::Result<usize> {
        let mut state = self.state();
        state.step(Call::Read as u32)?;
        Ok(state.part(len))
    }

    /// How many bytes of `len` are written at `offset`.
    fn write(&self, len: usize, offset: u64) -> io::Result<usize> {
        let mut state = self.state();
        if std::mem::take(&mut state.torn) {
            return Err(state.error());
        }
        let is_short = state.fault.is_some_and(|fault| fault.short);
        let part = whole_words(len.div_ceil(2), len, offset);
        match state.step(Call::Write as u32) {
            Err(_) if is_short && part < len => {
                state.torn = true;
                Ok(part)
            }
            Err(e) => Err(e),
            Ok(()) if is_short => Ok(part),
            Ok(()) => Ok(len),
        }
    }
}

impl State {
    fn step(&mut self, kinds: u32) -> io::Result<()> {
        let Some(fault) = self.fault else {
            return Ok(());
        };
        if fault.calls & kinds == 0 {
            return Ok(());
        }
        self.calls += 1;
        let fails = match fault.when {
            When::Once(n) => self.calls == n,
            When::From(n) => self.calls >= n,
            When::Every(n) => self.calls % n == 0,
        };
        if fails {
            self.failed += 1;
            return Err(self.error());
        }
        Ok(())
    }

    fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(self.fault.map_or(5, |fault| fault.errno))
    }

    fn part(&self, len: usize) -> usize {
        if self.fault.is_some_and(|fault| fault.short) {
            len.div_ceil(2)
        } else {
            len
        }
    }
}

/// As much more than `part` of a write of `len` bytes as ends at a multiple of eight bytes of the file:
/// the design assumes that nothing tears these, and no system does whose page is larger.
fn whole_words(part: usize, len: usize, offset: u64) -> usize {
    let end = offset.saturating_add(part as u64);
    let more = end.wrapping_neg() % 8;
    usize::try_from(more).map_or(len, |more| len.min(part + more))
}

/// The file system.
#[derive(Debug)]
pub(crate) struct FaultFs {
    plan: Arc<Plan>,
    inner: Arc<dyn FileSystem>,
}

#[derive(Debug)]
struct FaultFile {
    file: Arc<dyn RawFile>,
    plan: Arc<Plan>,
}

impl RawFile for FaultFile {
    fn meta(&self) -> io::Result<Meta> {
        self.plan.step(Call::Look)?;
        self.file.meta()
    }
    fn stat_below(&self, name: &OsStr) -> io::Result<Meta> {
        self.plan.step(Call::Look)?;
        self.file.stat_below(name)
    }
    fn links(&self) -> io::Result<u64> {
        self.plan.step(Call::Look)?;
        self.file.links()
    }
    fn is_trusted_dir(&self, name: &OsStr) -> bool {
        self.plan.step(Call::Look).is_ok() && self.file.is_trusted_dir(name)
    }
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = self.plan.read(buf.len())?;
        self.file.read_some(&mut buf[..len], offset)
    }
    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let len = self.plan.write(buf.len(), offset)?;
        self.file.write_some(&buf[..len], offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.plan.step(Call::Sync)?;
        self.file.sync()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.plan.step(Call::Lock)?;
        self.file.try_lock()
    }
    fn unlock(&self) -> io::Result<()> {
        // A lock that cannot be given up would be the kernel's fault, not the disk's.
        self.file.unlock()
    }
    fn map_shared(&self, len: usize) -> io::Result<SharedMap> {
        self.plan.step(Call::Map)?;
        self.file.map_shared(len)
    }
    fn map_object(&self, len: usize) -> io::Result<ObjectMap> {
        self.plan.step(Call::Map)?;
        self.file.map_object(len)
    }
}

impl FaultFs {
    /// Files of the operating system, but for what the plan says.
    pub(crate) fn real(plan: &Arc<Plan>) -> Self {
        Self::new(plan, Arc::new(super::real::RealFs::UNCHECKED))
    }

    pub(crate) fn new(plan: &Arc<Plan>, inner: Arc<dyn FileSystem>) -> Self {
        let plan = Arc::clone(plan);
        Self { plan, inner }
    }

    fn wrap(&self, file: Arc<dyn RawFile>) -> Arc<dyn RawFile> {
        let plan = Arc::clone(&self.plan);
        Arc::new(FaultFile { file, plan })
    }
}

impl FileSystem for FaultFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn RawFile>> {
        let to_write = if access == Access::Write {
            Call::OpenToWrite as u32
        } else {
            0
        };
        self.plan.state().step(Call::Open as u32 | to_write)?;
        self.inner.open(path, access).map(|file| self.wrap(file))
    }
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn RawFile>> {
        self.plan.step(Call::Open)?;
        self.inner.open_dir(path).map(|file| self.wrap(file))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.plan.step(Call::Make)?;
        self.inner.create_dir(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Meta> {
        self.plan.step(Call::Look)?;
        self.inner.stat(path)
    }
    fn boot(&self) -> Option<u64> {
        self.inner.boot()
    }
    fn glance(&self, path: &Path) -> io::Result<Meta> {
        self.plan.step(Call::Look)?;
        self.inner.glance(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.plan.step(Call::Look)?;
        self.inner.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.step(Call::Rename)?;
        self.inner.rename(from, to)
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<bool> {
        self.plan.step(Call::Rename)?;
        self.inner.rename_no_replace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plan.step(Call::Make)?;
        self.inner.remove_file(path)
    }
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.plan.step(Call::Make)?;
        self.inner.remove_tree(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.plan.step(Call::Sync)?;
        self.inner.sync_dir(path)
    }
}
