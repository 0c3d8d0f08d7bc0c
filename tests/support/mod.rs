//! What the tests of the disk tier share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file uses a part of it"
)]

use keepwarm::{DiskStore, Entry, Fingerprint, PutStatus, Store};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A key for a number.
pub fn key(n: u64) -> Fingerprint {
    Fingerprint::builder("test")
        .field("n", n.to_le_bytes())
        .finish()
}

/// Incompressible bytes that only `n` and `len` decide.
pub fn bytes(n: u64, len: usize) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ len as u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A temporary directory where a sync costs little, if the machine has such a place: for tests that
/// sync often and are not about the medium.
pub fn fast_dir() -> tempfile::TempDir {
    let shared_memory = Path::new("/dev/shm");
    if cfg!(target_os = "linux") && shared_memory.is_dir() {
        if let Ok(dir) = tempfile::tempdir_in(shared_memory) {
            return dir;
        }
    }
    tempfile::tempdir().unwrap()
}

/// Puts and expects it to be kept.
pub fn put(store: &dyn Store, n: u64, content: Vec<u8>) {
    let outcome = store.put(&key(n), content.into()).unwrap();
    assert!(
        matches!(outcome.status, PutStatus::Stored | PutStatus::AlreadyStored),
        "{outcome:?}"
    );
}

/// Gets the bytes.
pub fn get(store: &dyn Store, n: u64) -> Option<Vec<u8>> {
    store
        .get(&key(n))
        .unwrap()
        .map(|entry: Entry| entry.artifact.to_vec())
}

/// A store in `dir`, once its index is complete.
pub fn open(dir: &Path) -> DiskStore {
    wait(DiskStore::open(dir).unwrap())
}

/// Waits until the index of a store is complete.
pub fn wait(store: DiskStore) -> DiskStore {
    for _ in 0..20_000 {
        if !store.is_rebuilding() {
            return store;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the index is still being rebuilt after 20 s");
}

/// Every regular file below `dir`.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                left.push(path);
            } else if meta.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The files in one of the folders of `v1`.
pub fn files_in(dir: &Path, folder: &str) -> Vec<PathBuf> {
    files(&dir.join("v1").join(folder))
}

/// Runs the test called `name` of this binary in another process, as a child in `role` on `dir`.
pub fn child(name: &str, role: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env("KEEPWARM_TEST_ROLE", role)
        .env("KEEPWARM_TEST_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Which role this process has, and the directory, if it is a child.
pub fn role() -> Option<(String, PathBuf)> {
    let role = std::env::var("KEEPWARM_TEST_ROLE").ok()?;
    Some((role, std::env::var_os("KEEPWARM_TEST_DIR")?.into()))
}

/// Waits for a child and expects it to succeed.
pub fn join(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Writes into an open file, in place.
pub fn write_at(file: &std::fs::File, content: &[u8], offset: u64) {
    #[cfg(unix)]
    std::os::unix::fs::FileExt::write_all_at(file, content, offset).unwrap();
    #[cfg(windows)]
    assert_eq!(
        std::os::windows::fs::FileExt::seek_write(file, content, offset).unwrap(),
        content.len()
    );
}
