//! The operating system: the one seam through which the disk tier touches files, and mappings.

pub(crate) mod mapping;

use std::fs::File;
use std::io;
use std::path::Path;

/// Which file it is and how long, to notice that another one took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) len: u64,
}

impl FileId {
    fn of(metadata: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            Self {
                device: metadata.dev(),
                inode: metadata.ino(),
                len: metadata.len(),
            }
        }
        #[cfg(not(unix))]
        Self {
            device: 0,
            inode: 0,
            len: metadata.len(),
        }
    }
}

/// Opens a regular file, following no symlink at its end and waiting for no FIFO.
pub(crate) fn open_for_reading(path: &Path) -> io::Result<(File, FileId)> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let id = FileId::of(&metadata);
    Ok((file, id))
}
