//! A cache directory of its own for each test, and the command run on it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses what it needs, and fails by panicking"
)]

#[cfg(unix)]
pub mod running;

use assert_cmd::Command;
use keepwarm::{Cache, Fingerprint};
use serde_json::Value;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A folder that is gone afterwards, with a cache directory in it that is not there yet.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Runs the command, reads a little of what it says and closes the pipe: it ends quietly.
    pub fn stops_reading(&self, args: &[&str]) {
        let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("keepwarm"))
            .arg("-C")
            .arg(self.cache_dir())
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 10]).unwrap();
        drop(stdout);
        let done = child.wait_with_output().unwrap();
        assert_eq!((done.status.code(), &done.stderr[..]), (Some(0), &b""[..]));
    }

    /// One without a cache.
    pub fn empty() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// One with entries `0..n`, put by a program and closed.
    pub fn with_entries(n: u64) -> Self {
        let place = Self::empty();
        let cache = place.cache();
        for n in 0..n {
            cache.put(&key(n), content(n));
        }
        cache.close().unwrap();
        place
    }

    /// The cache, as a program uses it.
    pub fn cache(&self) -> Cache {
        Cache::builder().open(self.cache_dir()).unwrap()
    }

    /// Where the cache is.
    pub fn cache_dir(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// Another path beside the cache.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `keepwarm -C CACHE ARGS...`, in the folder, with no variable set that it reads.
    pub fn keepwarm(&self, args: &[&str]) -> Command {
        let mut command = bare_keepwarm();
        command.current_dir(self.dir.path());
        command.arg("-C").arg(self.cache_dir()).args(args);
        command
    }

    /// What it prints; it must succeed, and say nothing else.
    pub fn text(&self, args: &[&str]) -> String {
        let done = self.keepwarm(args).assert().success().stderr("");
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    }

    /// The same with `--format json`.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--format", "json"];
        all.extend(args);
        serde_json::from_str(&self.text(&all)).unwrap()
    }

    /// What it says on standard error when it ends with `code`; it must print nothing.
    pub fn error(&self, code: i32, args: &[&str]) -> String {
        let done = self.keepwarm(args).assert().code(code).stdout("");
        String::from_utf8(done.get_output().stderr.clone()).unwrap()
    }
}

/// `keepwarm`, with no argument and no variable set that it reads.
pub fn bare_keepwarm() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("keepwarm"));
    for name in [
        "KEEPWARM_DIR",
        "KEEPWARM_MAX_SIZE",
        "KEEPWARM_MODE",
        "KEEPWARM_SHARING",
        "NO_COLOR",
        "CLICOLOR_FORCE",
    ] {
        command.env_remove(name);
    }
    command.timeout(std::time::Duration::from_secs(120));
    command
}

/// The n-th key.
pub fn key(n: u64) -> Fingerprint {
    Fingerprint::builder("command")
        .field("n", n.to_le_bytes())
        .finish()
}

/// The n-th artifact, 100 bytes and more.
pub fn content(n: u64) -> Vec<u8> {
    let line = format!("artifact {n}\n").into_bytes();
    line.repeat(usize::try_from(10 + n).unwrap())
}

/// Changes one byte in every file below `dir` whose path contains `part`.
pub fn damage(dir: &Path, part: &str) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage(&path, part);
        } else if path.to_str().unwrap().contains(part) {
            let mut bytes = std::fs::read(&path).unwrap();
            // Past the head of a pack and the record of its first entry.
            let at = bytes.len().min(64 + 128 + 3) - 1;
            bytes[at] ^= 1;
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}

/// Whether this process, and so what it starts, ignores a signal: under `nohup`, or as `command &`
/// of a script. Says so. Only Linux tells.
pub fn ignores(name: &str, number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = digits.map_or(0, |digits| u64::from_str_radix(digits.trim(), 16).unwrap());
    let is_ignored = mask >> (number - 1) & 1 == 1;
    if is_ignored {
        eprintln!("!!! SKIPPED: SIG{name} is ignored since before the tests began");
    }
    is_ignored
}
