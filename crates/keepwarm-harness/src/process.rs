//! Starting children, and seeing how they end.

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, setrlimit};
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No child may allocate more than this, in bytes: one that does what a damaged length says aborts.
const MEMORY: u64 = 1 << 30;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fine,
    /// It said why on stderr, with an exit code of its own.
    Failed,
    /// A panic, an abort, a signal.
    Crashed(String),
    /// It had to be killed.
    Hung,
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: PathBuf,
}

/// Limits what this process, a child, may allocate.
pub(crate) fn limit_memory() -> io::Result<()> {
    let limit = Rlimit {
        current: Some(MEMORY),
        maximum: Some(MEMORY),
    };
    Ok(setrlimit(Resource::Data, limit)?)
}

impl Running {
    /// Starts this very program as a child, behind `wrapper`; what it says goes to files whose names
    /// begin with `output`.
    pub(crate) fn start(
        wrapper: &[String],
        args: &[String],
        output: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let this = std::env::current_exe()?;
        let mut words = wrapper.to_vec();
        words.push(this.to_string_lossy().into_owned());
        words.push("child".into());
        words.extend_from_slice(args);
        let (program, rest) = words.split_first().ok_or("no program")?;
        let child = Command::new(program)
            .args(rest)
            // What a wrapper starts must be killed with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(File::create(output.with_extension("out"))?)
            .stderr(File::create(output.with_extension("err"))?)
            .spawn()?;
        Ok(Self {
            child,
            output: output.to_owned(),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        // They may have ended. The group is this child's until it is waited for.
        if let (Ok(None), Ok(id)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            if let Some(group) = Pid::from_raw(id) {
                kill_process_group(group, Signal::KILL).ok();
            }
        }
        self.child.wait().ok();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end, so long.
    pub(crate) fn wait(&mut self, bound: Duration) -> io::Result<End> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(match (status.code(), status.signal()) {
                    (Some(0), _) => End::Fine,
                    (Some(101), _) => End::Crashed("panic".into()),
                    (Some(_), _) => End::Failed,
                    (None, signal) => End::Crashed(format!("signal {}", signal.unwrap_or(0))),
                });
            }
            if start.elapsed() > bound {
                self.kill();
                return Ok(End::Hung);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn stdout(&self) -> String {
        read(&self.output.with_extension("out"))
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.output.with_extension("err"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a program to its end; an error says what it said.
pub(crate) fn tool(program: &str, args: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {said}", args.join(" ")).into())
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&places)
        .chain(sbin)
        .any(|place| place.join(program).is_file())
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
