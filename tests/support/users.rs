//! Children that run as other users, mounts, and what a directory looks like from outside.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses a part of it"
)]

use super::support;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A user id and a group id that own nothing.
pub const NOBODY: u32 = 65_534;
/// A user with it, in no further group.
pub const STRANGER: User = (NOBODY, NOBODY, NOBODY);

/// Says what was not tested, past the harness, which shows nothing of tests that pass.
#[allow(clippy::explicit_write, reason = "the harness catches `eprintln!`")]
pub fn skip(test: &str, why: &str) {
    writeln!(std::io::stderr(), "!!! SKIPPED {test}: {why}").unwrap();
}

/// Who a child is: the user, the group, and a further group if not the same.
pub type User = (u32, u32, u32);

fn setpriv((user, group, further): User) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={group}"))
        .arg(format!("--groups={further}"));
    command
}

/// Whether children can run as other users here; says so loudly where not.
pub fn can_be_others(test: &str) -> bool {
    let is_reached = |path: PathBuf| {
        setpriv(STRANGER)
            .args(["test", "-x"])
            .arg(path)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let can = is_reached(std::env::current_exe().unwrap()) && is_reached(std::env::temp_dir());
    if !can {
        let why =
            "it needs root, setpriv, and a target and a temporary directory that others can enter";
        skip(test, why);
    }
    can
}

/// As [`support::child`], as another user and with an umask.
pub fn child_as(user: User, umask: &str, child: (&str, &str, &Path)) -> Child {
    with_umask(setpriv(user), umask, child)
}

/// Runs a child with an umask and expects it to succeed.
pub fn run_with(umask: &str, child: (&str, &str, &Path)) {
    support::join(with_umask(Command::new("env"), umask, child));
}

fn with_umask(mut command: Command, umask: &str, (name, role, dir): (&str, &str, &Path)) -> Child {
    command
        .args(["sh", "-c", "umask $0; exec \"$@\"", umask])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("KEEPWARM_TEST_ROLE", role)
        .env("KEEPWARM_TEST_DIR", dir)
        .env("TMPDIR", std::env::temp_dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a child as another user and expects it to succeed.
pub fn run_as(user: User, umask: &str, child: (&str, &str, &Path)) {
    support::join(child_as(user, umask, child));
}

pub fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Gives a file or folder to somebody.
pub fn chown(path: &Path, user: u32, group: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(group)).unwrap();
}

pub fn chown_all(path: &Path, user: u32, group: u32) {
    for path in everything(path) {
        chown(&path, user, group);
    }
}

/// A temporary directory that others can get into.
pub fn open_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    chmod(dir.path(), 0o755);
    dir
}

/// A path and all below it, folders first.
pub fn everything(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_path_buf()];
    let mut i = 0;
    while let Some(path) = found.get(i).cloned() {
        i += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            let names = std::fs::read_dir(&path).unwrap();
            found.extend(names.map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

/// All that `lstat` says but the last access, and the bytes, of a path and all below it.
pub fn snapshot(path: &Path) -> Vec<(PathBuf, [i64; 8], Vec<u8>)> {
    let look = |path: PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let inode = i64::try_from(meta.ino() & (u64::MAX >> 1)).unwrap();
        let owner = i64::from(meta.uid()) << 32 | i64::from(meta.gid());
        let size = i64::try_from(meta.size()).unwrap();
        let facts = [
            inode,
            i64::from(meta.mode()),
            owner,
            size,
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ];
        let bytes = if meta.is_file() {
            std::fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        (path, facts, bytes)
    };
    everything(path).into_iter().map(look).collect()
}

/// Something mounted, until it is dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// `None`, and a loud line, where this process may not mount.
    pub fn new(test: &str, arguments: &[&str], on: &Path) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(arguments).arg(on).stderr(Stdio::null());
        if cfg!(target_os = "linux") && command.status().is_ok_and(|status| status.success()) {
            return Some(Self(on.to_path_buf()));
        }
        skip(
            test,
            &format!("{arguments:?} cannot be mounted here, which needs root"),
        );
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached at once, even where something is still open.
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(std::thread::panicking() || status.is_ok_and(|status| status.success()));
    }
}
