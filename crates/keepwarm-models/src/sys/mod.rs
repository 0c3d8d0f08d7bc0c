//! The operating system, simulated: files that several "processes" (handles) share, as Linux shows
//! them on one machine.
//!
//! - Every call is a step at which another thread may run, and orders itself with the other calls
//!   on the same file, or on names, as the kernel's own locks do. Loads from a mapping are no calls
//!   and order nothing.
//! - A write is not atomic: it goes in pieces, in any order, with others running in between; words
//!   of the index now and then in parts. So do reads. A longer file is seen as such at the end.
//! - Locks are `flock`s: of an open file, given up when it is closed.
//! - Nothing fails but what a model asks for, and nothing crashes: that is what the fault and crash
//!   layers of the library's own tests are for.

#[path = "../../../../src/sys/clock.rs"]
mod clock;
mod files;
pub(crate) mod mapping;
#[path = "../../../../src/sys/seam.rs"]
mod seam;

pub(crate) use clock::CoarseClock;
pub(crate) use files::{fail_next_index_sync, format};
pub(crate) use seam::{Access, FileId, FileSystem, Meta, RawFile};

pub(crate) mod real {
    pub(crate) use super::files::RealFs;
}

/// Simulated files belong to nobody.
pub(crate) mod trust {
    use std::io;
    use std::path::Path;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Trust {
        Anyone,
    }

    pub(crate) fn owner(_: &Path, _: bool) -> io::Result<Trust> {
        Ok(Trust::Anyone)
    }

    pub(crate) fn group(_: &Path) -> io::Result<Trust> {
        Ok(Trust::Anyone)
    }

    pub(crate) fn share_root(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn is_network_file_system(_: &std::path::Path) -> bool {
    false
}

pub(crate) fn open_for_reading(_: &std::path::Path) -> std::io::Result<(std::fs::File, FileId)> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// No start of a simulated machine is told from another.
pub(crate) fn boot_id() -> Option<Vec<u8>> {
    None
}
