//! The real file system.
//!
//! On Unix every path is resolved without following a symlink: by `openat2` on Linux, elsewhere
//! (and where a sandbox forbids it) by opening one component after the other. The root is
//! canonical when it gets here, so a symlink anywhere in a path was put there afterwards. What was
//! opened is looked at before it is used: a file or folder of a stranger is none.

use super::mapping::{ObjectMap, SharedMap};
use super::trust::Trust;
use super::{Access, FileId, FileSystem, Meta, RawFile};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Who makes a file or folder for a group needs this long, times [`LOOKS`], to give it its mode.
const MOMENT: std::time::Duration = std::time::Duration::from_millis(1);
/// What a group shares is tried this often where it may not be used: it may be new.
const LOOKS: usize = 4;

/// Files of the operating system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealFs {
    trust: Trust,
    read_only: bool,
}

impl RealFs {
    /// Whatever is there is used, and everything may be done.
    #[cfg(any(test, fuzzing))]
    pub(crate) const UNCHECKED: Self = Self::new(Trust::Anyone);

    /// Files and folders of those in `trust`.
    pub(crate) const fn new(trust: Trust) -> Self {
        Self {
            trust,
            read_only: false,
        }
    }

    /// Fails instead of changing anything.
    pub(crate) const fn read_only(trust: Trust) -> Self {
        Self {
            trust,
            read_only: true,
        }
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }

    /// What another member of a group is just making has its mode and group in a moment.
    fn patiently<T>(&self, attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut done = attempt();
        for _ in 1..LOOKS {
            let is_denied = |e: &io::Error| e.kind() == io::ErrorKind::PermissionDenied;
            if !matches!(self.trust, Trust::Group(_)) || !done.as_ref().is_err_and(is_denied) {
                break;
            }
            std::thread::sleep(MOMENT);
            done = attempt();
        }
        done
    }

    /// What `stat` said, but for a stranger's file.
    #[cfg(unix)]
    fn known(&self, (mut meta, owner): (Meta, super::trust::Ownership)) -> Meta {
        meta.is_file &= self.trust.check_file(&owner, false).is_ok();
        meta
    }
}

/// Whom a name in it must belong to is known to a folder only.
#[derive(Debug)]
struct RealFile(
    File,
    Meta,
    #[cfg_attr(
        not(unix),
        allow(dead_code, reason = "only Unix looks into open folders")
    )]
    RealFs,
);

impl RawFile for RealFile {
    fn meta(&self) -> io::Result<Meta> {
        self.0.metadata().map(|m| meta(&m))
    }

    #[cfg(unix)]
    fn stat_below(&self, name: &OsStr) -> io::Result<Meta> {
        platform::glance_in(&self.0, name).map(|found| self.2.known(found))
    }

    #[cfg(not(unix))]
    fn stat_below(&self, _name: &OsStr) -> io::Result<Meta> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(unix)]
    fn is_trusted_dir(&self, name: &OsStr) -> bool {
        platform::stat_in(&self.0, name)
            .is_ok_and(|(meta, owner)| meta.is_dir && self.2.trust.check_dir(&owner).is_ok())
    }

    #[cfg(not(unix))]
    fn is_trusted_dir(&self, _name: &OsStr) -> bool {
        false
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn links(&self) -> io::Result<u64> {
        platform::links(&self.0).or_else(|_| self.meta().map(|meta| meta.links))
    }

    fn meta_at_open(&self) -> io::Result<Meta> {
        Ok(self.1)
    }

    #[cfg(unix)]
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, buf, offset)
    }

    #[cfg(unix)]
    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, buf, offset)
    }

    #[cfg(windows)]
    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, buf, offset)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn write_some_of(&self, parts: &[io::IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, parts, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match fs4::FileExt::try_lock(&self.0) {
            Ok(()) => Ok(true),
            Err(fs4::TryLockError::WouldBlock) => Ok(false),
            Err(fs4::TryLockError::Error(e)) => Err(e),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        fs4::FileExt::unlock(&self.0)
    }

    fn map_shared(&self, len: usize) -> io::Result<SharedMap> {
        SharedMap::new(&self.0, len)
    }

    fn map_object(&self, len: usize) -> io::Result<ObjectMap> {
        ObjectMap::new(&self.0, len)
    }
}

fn meta(metadata: &Metadata) -> Meta {
    #[cfg(unix)]
    let (device, inode, links, changed) = {
        use std::os::unix::fs::MetadataExt as _;
        let changed = platform::time(metadata.ctime(), metadata.ctime_nsec());
        (metadata.dev(), metadata.ino(), metadata.nlink(), changed)
    };
    #[cfg(not(unix))]
    let (device, inode, links, changed) = (0, 0, 1, None);
    Meta {
        id: FileId {
            device,
            inode,
            len: metadata.len(),
        },
        links,
        is_file: metadata.is_file(),
        is_dir: metadata.is_dir(),
        modified: metadata.modified().ok(),
        changed,
    }
}

fn regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "not a regular file",
    ))
}

/// Opens a regular file for a user, following no symlink.
pub(crate) fn open_for_reading(path: &Path) -> io::Result<(File, FileId)> {
    // Which file it is is compared with the one that was verified: no need to trust it as well.
    let file = platform::open(path, Access::Read, Trust::Anyone)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    Ok((file, meta(&metadata).id))
}

impl FileSystem for RealFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn RawFile>> {
        if access != Access::Read {
            self.writable()?;
        }
        let file = self.patiently(|| platform::open(path, access, self.trust))?;
        let metadata = file.metadata()?;
        regular(&metadata)?;
        #[cfg(unix)]
        {
            let owner = super::trust::Ownership::of(&metadata);
            self.trust.check_file(&owner, access != Access::Read)?;
        }
        Ok(Arc::new(RealFile(file, meta(&metadata), *self)))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn RawFile>> {
        let (dir, metadata) = self.patiently(|| platform::open_dir(path, self.trust))?;
        Ok(Arc::new(RealFile(dir, meta(&metadata), *self)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.writable()?;
        match self.patiently(|| platform::create_dir(path, self.trust)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if self.stat(path)?.is_dir {
                    return self.open_dir(path).map(drop);
                }
                Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    "not a directory",
                ))
            }
            done => done,
        }
    }

    #[cfg(unix)]
    fn stat(&self, path: &Path) -> io::Result<Meta> {
        platform::stat(path).map(|found| self.known(found))
    }

    #[cfg(not(unix))]
    fn stat(&self, path: &Path) -> io::Result<Meta> {
        platform::stat(path)
    }

    #[cfg(unix)]
    fn glance(&self, path: &Path) -> io::Result<Meta> {
        platform::glance_in(rustix::fs::CWD, path.as_os_str()).map(|found| self.known(found))
    }

    #[cfg(not(unix))]
    fn glance(&self, path: &Path) -> io::Result<Meta> {
        platform::stat(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.patiently(|| platform::read_dir(path, self.trust))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.writable()?;
        self.patiently(|| platform::rename(from, to))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<bool> {
        self.writable()?;
        match self.patiently(|| platform::rename_no_replace(from, to)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.writable()?;
        platform::remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        self.writable()?;
        platform::remove_tree(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.writable()?;
        platform::sync_dir(path)
    }
}

#[cfg(unix)]
mod platform {
    use super::{Access, Meta};
    use crate::sys::trust::{Ownership, Trust};
    use crate::sys::{FileId, remove};
    use rustix::fs::{AtFlags, CWD, Mode, OFlags};
    use std::ffi::{OsStr, OsString};
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::{Component, Path};
    use std::time::{Duration, SystemTime};

    /// An opening that was interrupted is repeated this often.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const REPEATS: usize = 1000;
    const BASE: OFlags = OFlags::CLOEXEC
        .union(OFlags::NOFOLLOW)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY);

    pub(super) fn open(path: &Path, access: Access, trust: Trust) -> io::Result<File> {
        let new = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let (flags, mode, shared) = match access {
            Access::Read => (OFlags::RDONLY, 0, 0),
            Access::Write => (OFlags::RDWR, 0, 0),
            Access::Create => (OFlags::RDWR | OFlags::CREATE, 0o600, 0o660),
            Access::CreateNew => (new, 0o600, 0o660),
            Access::CreateReadOnly => (new, 0o444, 0o440),
        };
        let mode = Mode::from_raw_mode(mode);
        if shared == 0 || !matches!(trust, Trust::Group(_)) {
            return resolve(path, BASE | flags, mode).map(File::from);
        }
        // Only what is certainly new is given to the group.
        match resolve(path, BASE | new, mode) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && access == Access::Create => {
                resolve(path, BASE | OFlags::RDWR, Mode::empty()).map(File::from)
            }
            Err(e) => Err(e),
            Ok(file) => match trust.share(&file, shared) {
                Ok(()) => Ok(File::from(file)),
                Err(e) => {
                    // Best effort: nobody would use it.
                    remove_file(path).ok();
                    Err(e)
                }
            },
        }
    }

    pub(super) fn open_dir(path: &Path, trust: Trust) -> io::Result<(File, Metadata)> {
        let dir = resolve(path, BASE | OFlags::DIRECTORY, Mode::empty()).map(File::from)?;
        let metadata = dir.metadata()?;
        trust.check_dir(&Ownership::of(&metadata))?;
        Ok((dir, metadata))
    }

    /// Opens without following a symlink in any component.
    fn resolve(path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use rustix::fs::{ResolveFlags, openat2};
            use rustix::io::Errno;
            let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            // Bounded: a lease that somebody has on the file answers so for as long as it likes.
            let mut repeats = 0;
            loop {
                match openat2(CWD, path, flags, mode, how) {
                    // Too old a kernel, or a sandbox that does not know the call.
                    Err(Errno::NOSYS | Errno::PERM) => break,
                    Err(Errno::INTR | Errno::AGAIN) if repeats < REPEATS => repeats += 1,
                    done => return Ok(done?),
                }
            }
        }
        let (dir, name) = walk(path)?;
        Ok(rustix::fs::openat(&dir, name, flags, mode)?)
    }

    /// The parent of `path`, opened component by component, and the last name.
    fn walk(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
        let (parent, name) = split(path)?;
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
        let mut dir = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
        for component in parent.components() {
            if let Component::Normal(next) = component {
                dir = rustix::fs::openat(&dir, next, flags, Mode::empty())?;
            }
        }
        Ok((dir, name))
    }

    fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
        path.parent()
            .zip(path.file_name())
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The parent of `path` as a handle, and the last name.
    fn parent(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
        let (parent, name) = split(path)?;
        Ok((
            resolve(parent, BASE | OFlags::DIRECTORY, Mode::empty())?,
            name,
        ))
    }

    pub(super) fn create_dir(path: &Path, trust: Trust) -> io::Result<()> {
        let (dir, name) = parent(path)?;
        if matches!(trust, Trust::Group(_)) {
            return create_shared_dir(&dir, name, trust);
        }
        Ok(rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700))?)
    }

    /// Makes a folder under another name and gives it to the group before it gets its own: others
    /// of the group must never find one that they may not enter.
    fn create_shared_dir(dir: &OwnedFd, name: &OsStr, trust: Trust) -> io::Result<()> {
        static MADE: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        if rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        let temp = format!(".new-{}-{now:x}-{number}", std::process::id());
        rustix::fs::mkdirat(dir, &temp, Mode::from_raw_mode(0o700))?;
        let done = rustix::fs::openat(dir, &temp, BASE | OFlags::DIRECTORY, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|new| trust.share_dir(new))
            .and_then(|()| rename_dir(dir, temp.as_ref(), name));
        if done.is_err() {
            // Best effort: an empty folder with a foreign name is harmless.
            rustix::fs::unlinkat(dir, &temp, AtFlags::REMOVEDIR).ok();
        }
        done
    }

    /// Gives a new folder its name unless something has it.
    fn rename_dir(dir: &OwnedFd, from: &OsStr, to: &OsStr) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
                // A file system or kernel that does not know the flag.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                done => return Ok(done?),
            }
        }
        match rustix::fs::renameat(dir, from, dir, to) {
            // A folder in use is not replaced.
            Err(rustix::io::Errno::NOTEMPTY) => Err(io::ErrorKind::AlreadyExists.into()),
            done => Ok(done?),
        }
    }

    pub(super) fn stat(path: &Path) -> io::Result<(Meta, Ownership)> {
        let (dir, name) = parent(path)?;
        stat_in(&dir, name)
    }

    /// As `stat_in`.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn glance_in(dir: impl AsFd, name: &OsStr) -> io::Result<(Meta, Ownership)> {
        stat_in(dir, name)
    }

    /// As `stat_in`, without times: after a look at a file's times Linux gives the next write a finer
    /// one, which costs that write half as much again.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn glance_in(dir: impl AsFd, name: &OsStr) -> io::Result<(Meta, Ownership)> {
        use rustix::fs::StatxFlags;
        let wanted = StatxFlags::TYPE
            | StatxFlags::MODE
            | StatxFlags::NLINK
            | StatxFlags::UID
            | StatxFlags::GID
            | StatxFlags::INO
            | StatxFlags::SIZE;
        let found = match rustix::fs::statx(&dir, name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
            Ok(found) if found.stx_mask & wanted.bits() == wanted.bits() => found,
            // A sandbox that does not know the call, or a file system that does not know it all.
            _ => return stat_in(dir, name),
        };
        let kind = rustix::fs::FileType::from_raw_mode(found.stx_mode.into());
        let owner = Ownership {
            user: found.stx_uid,
            group: found.stx_gid,
            mode: found.stx_mode.into(),
            links: found.stx_nlink.into(),
        };
        let meta = Meta {
            id: FileId {
                device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                len: found.stx_size,
            },
            links: found.stx_nlink.into(),
            is_file: kind.is_file(),
            is_dir: kind.is_dir(),
            modified: None,
            changed: None,
        };
        Ok((meta, owner))
    }

    /// The names of an open file, without a look at its times.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn links(file: &File) -> io::Result<u64> {
        use rustix::fs::StatxFlags;
        let found = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::NLINK)?;
        if found.stx_mask & StatxFlags::NLINK.bits() == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(found.stx_nlink.into())
    }

    /// A time of `stat`; `None` before 1970.
    pub(super) fn time(seconds: i64, nanoseconds: i64) -> Option<SystemTime> {
        let seconds = u64::try_from(seconds).ok()?;
        let nanoseconds = u32::try_from(nanoseconds).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
    }

    /// What is called `name` in an open directory.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        trivial_numeric_casts,
        reason = "the types of `stat`'s fields differ from platform to platform"
    )]
    pub(super) fn stat_in(dir: impl AsFd, name: &OsStr) -> io::Result<(Meta, Ownership)> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        let since = Duration::new(stat.st_mtime.max(0) as u64, stat.st_mtime_nsec as u32);
        let owner = Ownership {
            user: stat.st_uid,
            group: stat.st_gid,
            mode: stat.st_mode as u32,
            links: stat.st_nlink as u64,
        };
        let meta = Meta {
            id: FileId {
                device: stat.st_dev as u64,
                inode: stat.st_ino as u64,
                len: stat.st_size.max(0) as u64,
            },
            links: stat.st_nlink as u64,
            is_file: kind.is_file(),
            is_dir: kind.is_dir(),
            modified: SystemTime::UNIX_EPOCH.checked_add(since),
            changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        };
        Ok((meta, owner))
    }

    pub(super) fn read_dir(path: &Path, trust: Trust) -> io::Result<Vec<OsString>> {
        let (dir, _) = open_dir(path, trust)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = parent(from)?;
        let (to_dir, to_name) = parent(to)?;
        Ok(rustix::fs::renameat(
            &from_dir, from_name, &to_dir, to_name,
        )?)
    }

    pub(super) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = parent(from)?;
        let (to_dir, to_name) = parent(to)?;
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            use rustix::io::Errno;
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&from_dir, from_name, &to_dir, to_name, flags) {
                // A file system or kernel that does not know the flag.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                done => return Ok(done?),
            }
        }
        rustix::fs::linkat(&from_dir, from_name, &to_dir, to_name, AtFlags::empty())?;
        Ok(rustix::fs::unlinkat(
            &from_dir,
            from_name,
            AtFlags::empty(),
        )?)
    }

    pub(super) fn remove_file(path: &Path) -> io::Result<()> {
        let (dir, name) = parent(path)?;
        Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?)
    }

    pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
        let (dir, name) = parent(path)?;
        remove::tree(&dir, name)
    }

    pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
        open_dir(path, Trust::Anyone)?.0.sync_all()
    }
}

#[cfg(windows)]
mod platform {
    use super::{Access, Meta, meta};
    use crate::sys::trust::Trust;
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::io;
    use std::os::windows::fs::OpenOptionsExt as _;
    use std::path::Path;

    /// Opens a reparse point (a symlink) itself, which then is no regular file.
    const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
    /// Lets a directory be opened.
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;

    /// Refuses a reparse point in the three names below the root that a path can have.
    fn check_parents(path: &Path) -> io::Result<()> {
        for parent in path.ancestors().skip(1).take(3) {
            if fs::symlink_metadata(parent)?.is_symlink() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a link in the path",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn open(path: &Path, access: Access, _: Trust) -> io::Result<File> {
        check_parents(path)?;
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
        match access {
            Access::Read => {}
            Access::Write => {
                options.write(true);
            }
            Access::Create => {
                options.write(true).create(true).truncate(false);
            }
            Access::CreateNew | Access::CreateReadOnly => {
                options.write(true).create_new(true);
            }
        }
        options.open(path)
    }

    pub(super) fn open_dir(path: &Path, _: Trust) -> io::Result<(File, fs::Metadata)> {
        check_parents(path)?;
        let dir = File::options()
            .read(true)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)?;
        let metadata = dir.metadata()?;
        Ok((dir, metadata))
    }

    pub(super) fn create_dir(path: &Path, _: Trust) -> io::Result<()> {
        check_parents(path)?;
        fs::create_dir(path)
    }

    pub(super) fn stat(path: &Path) -> io::Result<Meta> {
        check_parents(path)?;
        fs::symlink_metadata(path).map(|m| meta(&m))
    }

    pub(super) fn read_dir(path: &Path, _: Trust) -> io::Result<Vec<OsString>> {
        check_parents(path)?;
        fs::read_dir(path)?
            .map(|entry| entry.map(|e| e.file_name()))
            .collect()
    }

    pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
        check_parents(to)?;
        fs::rename(from, to)
    }

    pub(super) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
        check_parents(to)?;
        let persisted = tempfile::TempPath::try_from_path(from)?.persist_noclobber(to);
        persisted.map_err(|mut e| {
            // The caller still owns what could not be renamed.
            e.path.disable_cleanup(true);
            e.error
        })
    }

    pub(super) fn remove_file(path: &Path) -> io::Result<()> {
        check_parents(path)?;
        fs::remove_file(path)
    }

    pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
        // `remove_dir_all` follows no symlink below `path` (and `path` itself is looked at here).
        if stat(path)?.is_dir {
            return fs::remove_dir_all(path);
        }
        remove_file(path)
    }

    /// NTFS journals names; there is no call to sync a directory.
    pub(super) fn sync_dir(_path: &Path) -> io::Result<()> {
        Ok(())
    }
}
