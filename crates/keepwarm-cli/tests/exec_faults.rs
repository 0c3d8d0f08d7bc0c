//! `exec` where signals come, or a stream, a disk, a directory or a name is bad.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use support::running::{Running, can_mount, said};
use support::{Place, ignores};

const COMPILER: &str = "echo run >> log; echo says; echo warns >&2; cat in > out";

fn place(compiler: &str) -> Place {
    let place = Place::empty();
    place.script("compiler", compiler);
    fs::write(place.path("in"), "input\n").unwrap();
    place
}

/// The same, of a size, where it is told to.
const LARGE: &str = "echo run >> log; echo says; head -c 300000 /dev/zero > ${1:-out}";
const FULL: &str = "keepwarm: could not write what the command printed";

const ARGS: [&str; 6] = ["--input", "in", "--output", "out", "--", "./compiler"];

fn compile(place: &Place) -> Output {
    Running::start(&mut place.exec(&ARGS)).finish()
}

#[test]
fn a_signal_to_keepwarm_reaches_the_command_whose_end_is_passed_on_and_not_kept() {
    let place = place(
        "echo run >> log
trap 'echo got; echo half > out; exit $1' TERM INT
touch began; while :; do sleep 0.02; done",
    );
    let ignores_int = ignores("INT", 2);
    let signals = [("TERM", "9"), ("TERM", "0"), ("TERM", "0"), ("INT", "0")];
    for (signal, code) in signals.into_iter().take(if ignores_int { 3 } else { 4 }) {
        let mut args = ARGS.to_vec();
        args.push(code);
        let mut running = Running::start(&mut place.exec(&args));
        place.until_there("began");
        running.signal(signal);
        let output = running.finish();
        assert_eq!(output.status.code().unwrap().to_string(), code);
        assert_eq!(output.stdout, b"got\n");
        fs::remove_file(place.path("began")).unwrap();
    }
    assert_eq!(place.runs(), if ignores_int { 3 } else { 4 });
    // One that has no handler, and one that kills itself.
    place.script("compiler", "kill -$1 $$; sleep 100");
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("ALRM", 142)] {
        let mut args = ARGS.to_vec();
        args.push(signal);
        let output = Running::start(&mut place.exec(&args)).finish();
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let place = place(
        "touch began; until [ -e go ]; do sleep 0.02; done; kill -HUP $$; kill -TERM $$; echo alive",
    );
    let line = "trap '' HUP TERM; exec \"$0\" -C cache exec --no-output -- ./compiler";
    let mut running = Running::start(&mut place.shell(line));
    place.until_there("began");
    running.signal("HUP");
    running.signal("TERM");
    fs::write(place.path("go"), "").unwrap();
    let output = running.finish();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"alive\n");
    // And one that is not, is not.
    place.script("compiler", "kill -TERM $$; echo alive");
    let args = ["--no-output", "--", "./compiler", "again"];
    let output = Running::start(&mut place.exec(&args)).finish();
    assert_eq!(output.status.code(), Some(143));
}

#[test]
#[cfg(target_os = "linux")]
fn a_failure_to_print_is_told_unless_nobody_reads() {
    // More than a pipe holds.
    let place = place("echo run >> log; head -c 1000000 /dev/zero; echo made > out");
    let to = |redirect: &str| {
        let line = format!(
            "{{ \"$0\" -C cache exec --output out -- ./compiler; echo $? > code; }} {redirect}"
        );
        let output = Running::start(&mut place.shell(&line)).finish();
        let code: i32 = place.read("code").trim().parse().unwrap();
        (code, said(&output))
    };
    for runs in 1..3 {
        let (code, said) = to("> /dev/full");
        assert!(code != 0 && said.contains(FULL), "{code} {said}");
        assert_eq!(place.runs(), runs);
    }
    assert_eq!(to("> /dev/null"), (0, String::new()));
    let (code, said) = to("> /dev/full");
    assert!(code == 1 && said.contains(FULL), "{code} {said}");
    assert_eq!(said.lines().count(), 1);
    assert_eq!(to("| true"), (0, String::new()));
    assert_eq!(place.runs(), 3);
    // A little is in the pipe before anybody sees that it cannot be passed on.
    place.script("compiler", "echo run >> log; echo hello; echo made > out");
    assert_eq!(to("> /dev/full").0, 1);
    assert_eq!(to("> /dev/null"), (0, String::new()));
    assert_eq!(to("2> /dev/full").0, 0, "it prints nothing there");
    assert_eq!(place.runs(), 5);
}

#[test]
fn without_a_home_and_with_unusable_directories_there_is_one_line_and_the_command_runs() {
    let place = place(COMPILER);
    fs::write(place.path("file"), "").unwrap();
    let run = |flags: &[&str]| {
        let mut command = place.bare(assert_cmd::cargo::cargo_bin!("keepwarm").as_ref());
        command
            .env_remove("HOME")
            .env_remove("XDG_CACHE_HOME")
            .args(flags);
        let output = Running::start(command.arg("exec").args(ARGS)).finish();
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"says\n"[..])
        );
        let said = said(&output);
        let lines: Vec<_> = said.lines().collect();
        assert!(lines[0].starts_with("keepwarm: not cached: "), "{said}");
        assert_eq!(lines[1..], ["warns"]);
    };
    run(&[]);
    run(&["-C", "file"]);
    run(&["-C", "file/below"]);
    run(&["-C", "/proc/keepwarm"]);
    assert_eq!(place.runs(), 4);
    // What wants a directory says that there is none.
    let mut command = place.bare(assert_cmd::cargo::cargo_bin!("keepwarm").as_ref());
    command
        .env_remove("HOME")
        .env_remove("XDG_CACHE_HOME")
        .arg("stats");
    let output = Running::start(&mut command).finish();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("set KEEPWARM_DIR"));
}

#[test]
fn a_name_does_not_move_the_cursor() {
    let place = place(COMPILER);
    let name = "o\u{1b}2J\nut\u{202e}";
    let run = |args: &[&str]| {
        let output = Running::start(&mut place.exec(args)).finish();
        let said = said(&output);
        assert!(!said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
        assert!(
            said.lines()
                .all(|line| line.starts_with("keepwarm: ") || line == "warns"),
            "{said:?}"
        );
        said
    };
    let made = ["--explain", "--output", name, "--", "./compiler"];
    assert!(run(&made).contains("the output o\\u{1b}2J\\nut\\u{202e} was not written"));
    fs::write(place.path(name), "").unwrap();
    let more = [
        "--explain",
        "--input",
        "in",
        name,
        "--output",
        "out",
        "--",
        "./compiler",
    ];
    run(&more);
    fs::write(place.path(name), "changed").unwrap();
    assert!(run(&more).contains("changed"));
    assert!(run(&["--no-output", "--", name]).contains("was not found") || cfg!(not(unix)));
    fs::remove_file(place.path(name)).unwrap();
    assert!(run(&more).contains("matches no file"));
}

#[test]
fn a_mount_that_is_read_only_serves_and_keeps_nothing() {
    if !can_mount() {
        return;
    }
    let place = place(COMPILER);
    assert!(compile(&place).status.success());
    let line = |flag: &str| {
        let line = format!(
            "mount --bind cache cache && mount -o remount,ro,bind cache && exec \"$0\" -C cache exec --input in --output out -- ./compiler {flag}"
        );
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &line])
            .arg(assert_cmd::cargo::cargo_bin!("keepwarm"));
        drop(fs::remove_file(place.path("out")));
        let output =
            Running::start(command.current_dir(place.path("")).stdin(Stdio::null())).finish();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"says\n");
        assert_eq!(place.read("out"), "input\n");
        said(&output)
    };
    assert_eq!(line(""), "warns\n");
    assert_eq!(place.runs(), 1);
    for runs in 2..4 {
        assert_eq!(line("new"), "warns\n");
        assert_eq!(place.runs(), runs);
    }
}

#[test]
fn a_disk_that_is_full_does_not_fail_the_command_and_gives_no_half_of_an_output_back() {
    if !can_mount() {
        return;
    }
    let place = place(LARGE);
    for name in ["cache", "full"] {
        fs::create_dir(place.path(name)).unwrap();
        fs::set_permissions(place.path(name), Permissions::from_mode(0o700)).unwrap();
    }
    let run = |line: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", line])
            .arg(assert_cmd::cargo::cargo_bin!("keepwarm"));
        Running::start(command.current_dir(place.path("")).stdin(Stdio::null())).finish()
    };
    // Full from the start, filled while the command runs, and without inodes.
    for (options, before, meanwhile) in [
        ("size=64k", "100k", "0"),
        ("size=3m", "0", "9m"),
        ("nr_inodes=4", "0", "0"),
    ] {
        let fill = |size: &str| format!("head -c {size} /dev/zero >> cache/fill 2>/dev/null;");
        place.script("compiler", &format!("{LARGE}; {} exit 0", fill(meanwhile)));
        let line = format!(
            "mount -t tmpfs -o mode=700,{options} tmpfs cache; {} \
             exec \"$0\" -C cache exec --output out -- ./compiler",
            fill(before)
        );
        drop(fs::remove_file(place.path("out")));
        let output = run(&line);
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"says\n"[..])
        );
        let said = said(&output);
        assert!(said.contains("keepwarm: not cached: "), "{options}: {said}");
        assert_eq!(said.lines().count(), 1, "{options}: {said}");
        assert_eq!(fs::metadata(place.path("out")).unwrap().len(), 300_000);
    }
    place.script("compiler", LARGE);
    // Where the output goes: the command is run, and fails by itself.
    let args = "-C cache exec --output full/out -- ./compiler full/out";
    assert!(run(&format!("exec \"$0\" {args}")).status.success());
    let runs = place.runs();
    let line = format!(
        "mount -t tmpfs -o size=64k tmpfs full && {{ \"$0\" {args}; code=$?; ls -A full; exit $code; }}"
    );
    let output = run(&line);
    assert!(
        said(&output).contains("could not give the outputs back: full/out"),
        "{}",
        said(&output)
    );
    assert_eq!(place.runs(), runs + 1);
    assert!(!output.status.success() && output.status.signal().is_none());
    assert_eq!(output.stdout, b"says\nout\n", "and nothing aside");
}
