//! Ctrl-C, and the signals that end a process: what was begun aside is removed, then it ends. While
//! another program runs for this one, that one gets the signal and decides. A signal that is ignored
//! when the process starts (`nohup`, `command &` of a script) stays ignored, for that program too.
//!
//! The cache itself needs no care: it survives `kill -9` at any moment.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tempfile::NamedTempFile;

/// What a signal has to know.
struct State {
    /// Files being written, which are removed if it comes to an end.
    unfinished: Vec<PathBuf>,
    /// The program that runs, not yet waited for: its id is that of no other process.
    child: Option<u32>,
    /// Whether a signal came while it ran.
    interrupted: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    unfinished: Vec::new(),
    child: None,
    interrupted: false,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the signals. Without a handler the process ends at once, which at worst leaves a temporary
/// file.
#[cfg(unix)]
pub(crate) fn install() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::SignalsInfo;
    use signal_hook::iterator::exfiltrator::WithOrigin;
    use signal_hook::low_level::siginfo::Cause;
    let ignored = ignored();
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let Ok(mut signals) = SignalsInfo::<WithOrigin>::new(wanted) else {
        return;
    };
    let watch = move || {
        for origin in signals.forever() {
            on_signal(origin.signal, matches!(origin.cause, Cause::Sent(_)));
        }
    };
    let started = std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch);
    drop(started);
}

/// The signals that are ignored, a bit each. Only Linux tells without a call that is `unsafe`;
/// elsewhere there seem to be none.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.unwrap_or(0)
}

/// Takes Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn install() {
    // The number that shells know Ctrl-C by.
    drop(ctrlc::set_handler(|| on_signal(2, false)));
}

/// `sent` if a process sent it, and no key of a terminal.
fn on_signal(signal: i32, sent: bool) {
    // Held to the end: what is finished meanwhile is not there any more under this name.
    let mut state = state();
    if let Some(child) = state.child {
        state.interrupted = true;
        pass_on(child, signal, sent);
        return;
    }
    for file in &state.unfinished {
        // It is gone, or stays: nothing else can be done now.
        drop(std::fs::remove_file(file));
    }
    // As shells have it.
    std::process::exit(128 + signal);
}

/// Gives a signal to the program that runs. What a terminal sent, it has got already: a second
/// Ctrl-C means more than one to some programs.
#[cfg(unix)]
fn pass_on(child: u32, signal: i32, sent: bool) {
    use rustix::process::{Pid, Signal, kill_process};
    let by_key = [Signal::INT.as_raw(), Signal::QUIT.as_raw()].contains(&signal);
    if by_key && !sent && is_in_foreground() {
        return;
    }
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
        // It has ended, or became another user: nothing else can be done.
        let _ = kill_process(pid, signal);
    }
}

/// Every process of a console gets its Ctrl-C.
#[cfg(not(unix))]
fn pass_on(_child: u32, _signal: i32, _sent: bool) {}

/// Whether keys of a terminal send their signals to this process and its children.
#[cfg(unix)]
fn is_in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    let group = terminal.map(rustix::termios::tcgetpgrp);
    group.is_ok_and(|group| group == Ok(rustix::process::getpgrp()))
}

/// A file being written: removed when the process is interrupted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes a file and watches over it; no signal comes in between.
    pub(crate) fn make(
        make: impl FnOnce() -> io::Result<NamedTempFile>,
    ) -> io::Result<(NamedTempFile, Self)> {
        let mut state = state();
        let file = make()?;
        let path = file.path().to_path_buf();
        state.unfinished.push(path.clone());
        Ok((file, Self(path)))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        state().unfinished.retain(|path| *path != self.0);
    }
}

/// Starts a program that gets the signals from now on; one at a time.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut state = state();
    let child = command.spawn()?;
    state.child = Some(child.id());
    state.interrupted = false;
    Ok(child)
}

/// Waits for its end; and whether a signal came meanwhile.
pub(crate) fn wait(child: &mut Child) -> io::Result<(ExitStatus, bool)> {
    wait_without_reaping(child);
    // From here on its id may be another's.
    let mut state = state();
    state.child = None;
    let interrupted = state.interrupted;
    drop(state);
    Ok((child.wait()?, interrupted))
}

#[cfg(unix)]
fn wait_without_reaping(child: &Child) {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(
        waitid(WaitId::Pid(pid), options),
        Err(rustix::io::Errno::INTR)
    ) {}
}

#[cfg(not(unix))]
fn wait_without_reaping(_child: &Child) {}
