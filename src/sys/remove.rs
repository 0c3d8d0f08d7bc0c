//! Removing a folder and all in it, from handle to handle: what is swapped for a symlink meanwhile,
//! a parent included, is never followed.

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

/// keepwarm's own folders are four deep. A level costs a descriptor, and somebody may have put a
/// deeper one in the place of a file: then it stays.
const DEEPEST: usize = 64;
/// A folder into which somebody writes all the while is looked through this often.
const PASSES: usize = 8;

/// Removes what is called `name` in `parent`.
pub(super) fn tree(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    entry(parent.as_fd(), name, DEEPEST)
}

fn entry(parent: BorrowedFd<'_>, name: &OsStr, left: usize) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        // A directory, in the words of Linux or of POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return Ok(done?),
    }
    let Some(left) = left.checked_sub(1) else {
        return Err(io::Error::other(
            "a folder is nested too deeply to be removed",
        ));
    };
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    for _ in 0..PASSES {
        let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        contents(dir.as_fd(), left)?;
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            done => return Ok(done?),
        }
    }
    Err(io::ErrorKind::DirectoryNotEmpty.into())
}

fn contents(dir: BorrowedFd<'_>, left: usize) -> io::Result<()> {
    for found in Dir::read_from(dir)? {
        let found = found?;
        let name = found.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        match entry(dir, OsStr::from_bytes(name), left) {
            // Somebody else was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn a_tree_goes_and_what_its_links_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), b"kept").unwrap();
        let tree_path = dir.path().join("tree");
        fs::create_dir_all(tree_path.join("a/b/c")).unwrap();
        fs::write(tree_path.join("a/b/file"), b"x").unwrap();
        std::os::unix::fs::symlink(&outside, tree_path.join("a/link")).unwrap();
        std::os::unix::fs::symlink(outside.join("file"), tree_path.join("link")).unwrap();
        let handle = File::open(dir.path()).unwrap();
        tree(&handle, OsStr::new("tree")).unwrap();
        assert!(!tree_path.exists());
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"kept");
        // A link in the place of the tree is what is removed.
        std::os::unix::fs::symlink(&outside, &tree_path).unwrap();
        tree(&handle, OsStr::new("tree")).unwrap();
        assert!(outside.join("file").exists() && tree_path.symlink_metadata().is_err());
    }

    #[test]
    fn the_parent_is_the_one_that_was_opened_whatever_has_its_name_now() {
        let dir = tempfile::tempdir().unwrap();
        let (parent, victim) = (dir.path().join("parent"), dir.path().join("victim"));
        fs::create_dir_all(parent.join("tree")).unwrap();
        fs::create_dir_all(victim.join("tree/kept")).unwrap();
        let handle = File::open(&parent).unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&parent, &moved).unwrap();
        std::os::unix::fs::symlink(&victim, &parent).unwrap();
        tree(&handle, OsStr::new("tree")).unwrap();
        assert!(victim.join("tree/kept").exists());
        assert!(!moved.join("tree").exists());
    }

    #[test]
    fn a_folder_nested_beyond_reason_is_an_error_and_no_overflow() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = dir.path().join("tree");
        for _ in 0..DEEPEST + 10 {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let handle = File::open(dir.path()).unwrap();
        assert!(tree(&handle, OsStr::new("tree")).is_err());
        assert!(deep.exists());
    }
}
