//! `exec` on a terminal: what is typed, and its keys.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;
use support::running::{Running, has, said};
use support::{Place, ignores};

/// Starts `keepwarm exec ARGS...` in the foreground of a terminal of its own. Its output is piped.
fn start(place: &Place, args: &[&str]) -> Option<(Running, File)> {
    if !has("setsid", "--version") {
        return None;
    }
    let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keys).unwrap();
    unlockpt(&keys).unwrap();
    let name = ptsname(&keys, Vec::new()).unwrap();
    let screen = File::options()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(OpenptFlags::NOCTTY.bits()).unwrap())
        .open(name.to_str().unwrap());
    let inner = place.exec(args);
    let mut command = Command::new("setsid");
    // A new session, whose terminal is standard input; the same process then becomes keepwarm.
    command
        .arg("--ctty")
        .arg(inner.get_program())
        .args(inner.get_args());
    for (name, _) in inner.get_envs() {
        command.env_remove(name);
    }
    command.current_dir(place.path("")).stdin(screen.unwrap());
    Some((Running::start(&mut command), keys.into()))
}

#[test]
fn a_terminal_is_not_read_to_its_end_but_left_to_the_command() {
    let place = Place::empty();
    place.script(
        "compiler",
        "echo run >> log; touch began; read line; echo \"got $line\"",
    );
    for runs in 1..3 {
        let args = ["--no-output", "--stdin", "--", "./compiler"];
        let Some((running, mut keys)) = start(&place, &args) else {
            return;
        };
        place.until_there("began");
        keys.write_all(b"typed\n").unwrap();
        let output = running.finish();
        assert_eq!(output.stdout, b"got typed\n");
        assert_eq!(
            said(&output),
            "keepwarm: not cached: standard input is a terminal\n"
        );
        assert_eq!(place.runs(), runs);
    }
    // Without being asked for it is empty there, too.
    for _ in 0..2 {
        let args = ["--no-output", "--", "./compiler"];
        let (running, _keys) = start(&place, &args).unwrap();
        assert_eq!(running.finish().stdout, b"got \n");
        assert_eq!(place.runs(), 3);
    }
}

#[test]
fn an_interrupt_reaches_the_command_once_whether_typed_or_sent_to_keepwarm_alone() {
    if ignores("INT", 2) {
        return;
    }
    let place = Place::empty();
    place.script(
        "compiler",
        "trap 'echo interrupted; echo $$ >> handled' INT
touch began; until [ -e go ]; do sleep 0.02; done; exit 7",
    );
    let args = ["--no-output", "--", "./compiler"];
    for typed in [true, false] {
        let Some((mut running, mut keys)) = start(&place, &args) else {
            return;
        };
        place.until_there("began");
        if typed {
            keys.write_all(b"\x03").unwrap();
        } else {
            running.signal("INT");
        }
        place.until_there("handled");
        std::fs::write(place.path("go"), "").unwrap();
        let output = running.finish();
        assert_eq!(output.status.code(), Some(7), "{}", said(&output));
        assert_eq!(output.stdout, b"interrupted\n");
        for name in ["began", "handled", "go"] {
            std::fs::remove_file(place.path(name)).unwrap();
        }
    }
}
