//! Whose files are used. What does not belong is no file of ours: it is never read, written or
//! locked, whatever its name.
//!
//! The check is made on the open file, so nobody can put another one in its place afterwards, and
//! it needs no switch of the kernel. Only Unix has what there is to check.

#[cfg(unix)]
use crate::error::Untrusted;
use std::io;
use std::path::Path;

/// Who may have made the files and folders of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(unix), allow(dead_code, reason = "there is nothing to check"))]
pub(crate) enum Trust {
    /// Nothing is checked.
    Anyone,
    /// This user, and nobody else may write to them.
    Owner(u32),
    /// Whoever is in this group, and nobody outside of it may write to them.
    Group(u32),
}

/// What `fstat` says of who may do what. Unix only.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(unix), allow(dead_code, reason = "there is nothing to check"))]
pub(crate) struct Ownership {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) mode: u32,
    /// Names the file has.
    pub(crate) links: u64,
}

#[cfg(unix)]
const WRITABLE_BY_GROUP: u32 = 0o020;
#[cfg(unix)]
const WRITABLE_BY_OTHERS: u32 = 0o002;
/// Folders that a group shares pass their group on to what is made in them.
#[cfg(unix)]
const SHARED_FOLDER: u32 = 0o2770;

#[cfg(unix)]
impl Trust {
    /// Whether a file may be used.
    ///
    /// # Errors
    /// `InvalidInput`, as for everything in the place of a file that is none of ours.
    pub(crate) fn check_file(self, found: &Ownership, to_write: bool) -> io::Result<()> {
        let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, Untrusted(why)));
        self.check(found).or_else(refuse)?;
        // A second name may be one in a place where others do not expect writes. Where only one
        // user may make names, they know what they do.
        if matches!(self, Self::Group(_)) && to_write && found.links > 1 {
            return refuse("the file has a second name elsewhere");
        }
        Ok(())
    }

    /// Whether a folder may be used.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn check_dir(self, found: &Ownership) -> io::Result<()> {
        let refuse = |why| {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                Untrusted(why),
            ))
        };
        self.check(found).or_else(refuse)
    }

    fn check(self, found: &Ownership) -> Result<(), &'static str> {
        let may_write = |who: u32| found.mode & who != 0;
        match self {
            Self::Owner(user) if found.user != user => Err("it belongs to another user"),
            Self::Owner(_) if may_write(WRITABLE_BY_GROUP | WRITABLE_BY_OTHERS) => {
                Err("its group or everybody may write to it")
            }
            Self::Group(group) if found.group != group => Err("it belongs to another group"),
            Self::Group(_) if may_write(WRITABLE_BY_OTHERS) => Err("everybody may write to it"),
            Self::Anyone | Self::Owner(_) | Self::Group(_) => Ok(()),
        }
    }

    /// Gives a new file or folder to the group that shares the directory, whatever the umask.
    /// Does nothing where no group does.
    pub(crate) fn share(self, new: impl std::os::fd::AsFd, mode: u32) -> io::Result<()> {
        let Self::Group(group) = self else {
            return Ok(());
        };
        if rustix::fs::fstat(&new)?.st_gid != group {
            // Made in a folder that does not pass its group on.
            rustix::fs::fchown(&new, None, Some(rustix::fs::Gid::from_raw(group)))?;
        }
        set_mode(new, mode)
    }

    /// Gives a new folder to the group that shares the directory.
    pub(crate) fn share_dir(self, new: impl std::os::fd::AsFd) -> io::Result<()> {
        self.share(new, SHARED_FOLDER)
    }
}

#[cfg(unix)]
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    trivial_numeric_casts,
    reason = "the type of a mode differs from platform to platform"
)]
fn set_mode(file: impl std::os::fd::AsFd, mode: u32) -> io::Result<()> {
    let mode = rustix::fs::Mode::from_raw_mode(mode as rustix::fs::RawMode);
    Ok(rustix::fs::fchmod(file, mode)?)
}

#[cfg(unix)]
impl Ownership {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            user: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode(),
            links: metadata.nlink(),
        }
    }
}

/// Whom to trust in a directory that this user keeps for itself, or (`reads_only`) that its owner
/// lets others read.
#[cfg(unix)]
pub(crate) fn owner(root: &Path, reads_only: bool) -> io::Result<Trust> {
    let user = if reads_only {
        Ownership::of(&root.symlink_metadata()?).user
    } else {
        rustix::process::geteuid().as_raw()
    };
    Ok(Trust::Owner(user))
}

/// Whom to trust in a directory that a group shares.
#[cfg(unix)]
pub(crate) fn group(root: &Path) -> io::Result<Trust> {
    Ok(Trust::Group(Ownership::of(&root.symlink_metadata()?).group))
}

/// Lets the group of a directory that was just made write to it.
#[cfg(unix)]
pub(crate) fn share_root(root: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags};
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let dir = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    set_mode(dir, SHARED_FOLDER)
}

#[cfg(not(unix))]
pub(crate) fn owner(_root: &Path, _reads_only: bool) -> io::Result<Trust> {
    Ok(Trust::Anyone)
}

#[cfg(not(unix))]
pub(crate) fn group(_root: &Path) -> io::Result<Trust> {
    Ok(Trust::Anyone)
}

#[cfg(not(unix))]
pub(crate) fn share_root(_root: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn file(user: u32, group: u32, mode: u32) -> Ownership {
        Ownership {
            user,
            group,
            mode: 0o100_000 | mode,
            links: 1,
        }
    }

    fn is_used(trust: Trust, found: Ownership) -> bool {
        let file = trust.check_file(&found, true).is_ok();
        assert_eq!(trust.check_dir(&found).is_ok(), file || found.links > 1);
        file
    }

    #[test]
    fn a_private_directory_takes_what_only_its_owner_can_have_written() {
        let owner = Trust::Owner(7);
        for mode in [0o600, 0o400, 0o444, 0o700, 0o755] {
            assert!(is_used(owner, file(7, 9, mode)), "{mode:o}");
            assert!(!is_used(owner, file(0, 9, mode)), "root is no exception");
            assert!(!is_used(owner, file(8, 9, mode)), "{mode:o}");
        }
        for mode in [0o620, 0o602, 0o666, 0o777, 0o1777] {
            assert!(!is_used(owner, file(7, 9, mode)), "{mode:o}");
            assert!(is_used(Trust::Anyone, file(8, 1, mode)));
        }
    }

    #[test]
    fn a_shared_directory_takes_what_only_its_group_can_have_written() {
        let group = Trust::Group(9);
        for mode in [0o660, 0o440, 0o600, 0o2770] {
            assert!(is_used(group, file(7, 9, mode)), "{mode:o}");
            assert!(is_used(group, file(8, 9, mode)), "{mode:o}");
            assert!(!is_used(group, file(7, 7, mode)), "{mode:o}");
        }
        assert!(!is_used(group, file(7, 9, 0o662)));
    }

    #[test]
    fn a_group_does_not_write_to_a_file_that_has_a_second_name() {
        let mut linked = file(7, 9, 0o660);
        linked.links = 2;
        assert!(!is_used(Trust::Group(9), linked));
        assert!(Trust::Group(9).check_file(&linked, false).is_ok());
        assert!(is_used(
            Trust::Owner(7),
            Ownership {
                mode: 0o600,
                ..linked
            }
        ));
    }
}
