//! Commands that are watched while they run. None is waited for without end: what hangs fails.

use super::Place;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take, on however loaded a machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command that runs; killed when dropped.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Starts it; what it prints is kept, and its standard input is what it was given.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(Some(command.spawn().unwrap()))
    }

    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Sends it a signal: `TERM`.
    pub fn signal(&mut self, name: &str) {
        signal(self.child().id(), name);
    }

    /// Waits for its end, and for that of whatever it printed.
    pub fn finish(mut self) -> Output {
        let child = self.0.take().unwrap();
        let id = child.id();
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || send.send(child.wait_with_output()));
        let output = receive.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            signal(id, "KILL");
            panic!("it hangs");
        });
        output.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Sends a signal to one process.
pub fn signal(id: u32, name: &str) {
    let kill = Command::new("kill")
        .args([&format!("-{name}"), &id.to_string()])
        .status();
    assert!(kill.unwrap().success());
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes a script that can be run.
pub fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

impl Place {
    /// `keepwarm -C CACHE exec ARGS...`, to be started; its standard input is empty.
    pub fn exec(&self, args: &[&str]) -> Command {
        let mut command = self.bare(Path::new(assert_cmd::cargo::cargo_bin!("keepwarm")));
        command
            .arg("-C")
            .arg(self.cache_dir())
            .arg("exec")
            .args(args);
        command
    }

    /// A program in the folder, with no variable set that `keepwarm` reads.
    pub fn bare(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path("")).stdin(Stdio::null());
        for name in [
            "KEEPWARM_DIR",
            "KEEPWARM_MAX_SIZE",
            "KEEPWARM_MODE",
            "KEEPWARM_SHARING",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// The same by a shell: `$0` is `keepwarm`.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = self.bare(Path::new("/bin/sh"));
        command.arg("-c").arg(line);
        command.arg(assert_cmd::cargo::cargo_bin!("keepwarm"));
        command
    }

    /// A script in the folder.
    pub fn script(&self, name: &str, text: &str) {
        script(&self.path(name), text);
    }

    /// How often scripts wrote a line to `log`.
    pub fn runs(&self) -> usize {
        fs::read_to_string(self.path("log")).map_or(0, |log| log.lines().count())
    }

    /// What is in a file.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Waits until a file is there.
    pub fn until_there(&self, name: &str) {
        until(name, || self.path(name).exists());
    }

    /// Files in the folder in which runs say what they write.
    pub fn claims(&self) -> Vec<String> {
        let folder = self.cache_dir().join("exec");
        let all = fs::read_dir(folder).unwrap();
        all.map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

/// What was said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether a program is there; else says that the test is skipped.
pub fn has(program: &str, argument: &str) -> bool {
    let found = Command::new(program).arg(argument).output().is_ok();
    if !found {
        eprintln!("!!! SKIPPED: there is no {program}");
    }
    found
}

/// Whether mounts can be made in a namespace of their own; else says that the test is skipped.
pub fn can_mount() -> bool {
    let line = "mount -t tmpfs tmpfs /mnt";
    let done = Command::new("unshare")
        .args(["-m", "sh", "-c", line])
        .output();
    let can = done.is_ok_and(|done| done.status.success());
    if !can {
        eprintln!("!!! SKIPPED: mounts cannot be made, which takes root");
    }
    can
}
