//! A file system that fails: the real one, but for the calls that a test chooses.

use super::mapping::{ObjectMap, SharedMap};
use super::real::RealFs;
use super::{Access, FileSystem, Meta, RawFile};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Which calls fail, shared by the file system and all its files.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    calls: AtomicU64,
    /// The first call that fails; 0 for none.
    from: AtomicU64,
    /// Whether later ones fail as well.
    lasting: AtomicBool,
    /// Whether only syncs are counted.
    syncs_only: AtomicBool,
    /// A raw operating system error.
    errno: AtomicU64,
    /// Whether a failing write has written a part.
    torn: AtomicBool,
}

impl Plan {
    /// From the `n`-th call on (1 is the next one), `errno`; once, or lastingly.
    pub(crate) fn fail(&self, n: u64, lasting: bool, errno: i32) {
        self.calls.store(0, Ordering::SeqCst);
        self.lasting.store(lasting, Ordering::SeqCst);
        self.errno
            .store(u64::from(errno.unsigned_abs()), Ordering::SeqCst);
        self.torn.store(n % 2 == 0, Ordering::SeqCst);
        self.from.store(n, Ordering::SeqCst);
    }

    pub(crate) fn only_syncs(&self, only: bool) {
        self.syncs_only.store(only, Ordering::SeqCst);
    }

    /// Nothing fails any more; tells whether anything did.
    pub(crate) fn stop(&self) -> bool {
        let from = self.from.swap(0, Ordering::SeqCst);
        from != 0 && self.calls.load(Ordering::SeqCst) >= from
    }

    fn step(&self, is_sync: bool) -> io::Result<()> {
        let from = self.from.load(Ordering::SeqCst);
        if from == 0 || (self.syncs_only.load(Ordering::SeqCst) && !is_sync) {
            return Ok(());
        }
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        if call == from || (call > from && self.lasting.load(Ordering::SeqCst)) {
            let errno = i32::try_from(self.errno.load(Ordering::SeqCst)).unwrap();
            return Err(io::Error::from_raw_os_error(errno));
        }
        Ok(())
    }
}

/// The file system.
#[derive(Debug)]
pub(crate) struct FaultFs(pub(crate) Arc<Plan>);

#[derive(Debug)]
struct FaultFile {
    file: Arc<dyn RawFile>,
    plan: Arc<Plan>,
}

impl RawFile for FaultFile {
    fn meta(&self) -> io::Result<Meta> {
        self.plan.step(false)?;
        self.file.meta()
    }
    fn stat_below(&self, name: &OsStr) -> io::Result<Meta> {
        self.plan.step(false)?;
        self.file.stat_below(name)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.plan.step(false)?;
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if let Err(e) = self.plan.step(false) {
            if self.plan.torn.load(Ordering::SeqCst) {
                self.file.write_at(&buf[..buf.len() / 2], offset)?;
            }
            return Err(e);
        }
        self.file.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.plan.step(true)?;
        self.file.sync()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.plan.step(false)?;
        self.file.try_lock()
    }
    fn unlock(&self) -> io::Result<()> {
        // A lock that cannot be given up would be the kernel's fault, not the disk's.
        self.file.unlock()
    }
    fn map_shared(&self, len: usize) -> io::Result<SharedMap> {
        self.plan.step(false)?;
        self.file.map_shared(len)
    }
    fn map_object(&self, len: usize) -> io::Result<ObjectMap> {
        self.plan.step(false)?;
        self.file.map_object(len)
    }
}

impl FaultFs {
    fn wrap(&self, file: Arc<dyn RawFile>) -> Arc<dyn RawFile> {
        Arc::new(FaultFile {
            file,
            plan: Arc::clone(&self.0),
        })
    }
}

impl FileSystem for FaultFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn RawFile>> {
        self.0.step(false)?;
        RealFs::UNCHECKED
            .open(path, access)
            .map(|file| self.wrap(file))
    }
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn RawFile>> {
        self.0.step(false)?;
        RealFs::UNCHECKED.open_dir(path).map(|file| self.wrap(file))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.step(false)?;
        RealFs::UNCHECKED.create_dir(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Meta> {
        self.0.step(false)?;
        RealFs::UNCHECKED.stat(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.0.step(false)?;
        RealFs::UNCHECKED.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step(false)?;
        RealFs::UNCHECKED.rename(from, to)
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<bool> {
        self.0.step(false)?;
        RealFs::UNCHECKED.rename_no_replace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.step(false)?;
        RealFs::UNCHECKED.remove_file(path)
    }
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.0.step(false)?;
        RealFs::UNCHECKED.remove_tree(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.step(true)?;
        RealFs::UNCHECKED.sync_dir(path)
    }
}
