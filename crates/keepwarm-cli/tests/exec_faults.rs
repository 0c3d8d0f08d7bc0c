//! `exec` where signals come, or a stream, a disk, a directory or a name is bad.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use support::Place;
use support::running::{Running, can_mount, has, said};

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

/// What `./keepwarm exec` does for a user who owns the folder and is not the superuser; `None` if
/// that cannot be had.
fn as_somebody(place: &Place) -> Option<impl Fn(&str) -> Output> {
    const NOBODY: u32 = 65_534;
    let id = Command::new("id").arg("-u").output().unwrap();
    let is_root = id.stdout == b"0\n";
    if is_root && !has("setpriv", "--version") {
        return None;
    }
    fs::copy(
        assert_cmd::cargo::cargo_bin!("keepwarm"),
        place.path("keepwarm"),
    )
    .unwrap();
    if is_root {
        for name in ["", "in", "compiler", "keepwarm"] {
            std::os::unix::fs::chown(place.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let folder = place.path("");
    Some(move |line: &str| {
        let mut command = Command::new("sh");
        if is_root {
            command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh"]);
        }
        command.args(["-c", line]).current_dir(&folder);
        Running::start(command.stdin(Stdio::null())).finish()
    })
}

#[test]
fn a_signal_to_keepwarm_reaches_the_command_whose_end_is_passed_on_and_not_kept() {
    let place = place(
        "echo run >> log
trap 'echo got; echo half > out; exit $1' TERM INT
touch began; while :; do sleep 0.02; done",
    );
    for (signal, code) in [("TERM", "9"), ("INT", "0"), ("INT", "0")] {
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
    assert_eq!(place.runs(), 3);
    // One that has no handler, and one that kills itself.
    place.script("compiler", "kill -$1 $$; sleep 100");
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("INT", 130), ("HUP", 129)] {
        let mut args = ARGS.to_vec();
        args.push(signal);
        let output = Running::start(&mut place.exec(&args)).finish();
        assert_eq!(output.status.code(), Some(code));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let place =
        place("touch began; until [ -e go ]; do sleep 0.02; done; kill -HUP $$; echo alive");
    let line = "trap '' HUP; exec \"$0\" -C cache exec --no-output -- ./compiler";
    let mut running = Running::start(&mut place.shell(line));
    place.until_there("began");
    running.signal("HUP");
    fs::write(place.path("go"), "").unwrap();
    let output = running.finish();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"alive\n");
    // And one that is not, is not.
    let args = ["--no-output", "--", "./compiler", "again"];
    let output = Running::start(&mut place.exec(&args)).finish();
    assert_eq!(output.status.code(), Some(129));
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
fn what_stands_where_an_output_goes_is_treated_as_the_command_does() {
    let place = place(&format!("{COMPILER}; exit 0"));
    assert!(compile(&place).status.success());
    // A folder: the command fails to write it, and says so; its exit code here is 0.
    fs::remove_file(place.path("out")).unwrap();
    fs::create_dir(place.path("out")).unwrap();
    let output = compile(&place);
    assert!(said(&output).contains("could not give the outputs back: out: it is not a regular"));
    assert!(place.path("out").is_dir());
    assert_eq!(place.runs(), 2);
    // A link to nowhere: the command makes what it leads to.
    fs::remove_dir(place.path("out")).unwrap();
    symlink("real", place.path("out")).unwrap();
    assert!(compile(&place).status.success());
    assert_eq!(place.read("real"), "input\n");
    assert_eq!(place.runs(), 3);
    // Another name of a file keeps what it has.
    fs::remove_file(place.path("out")).unwrap();
    fs::hard_link(place.path("real"), place.path("out")).unwrap();
    fs::write(place.path("real"), "mine").unwrap();
    assert_eq!(said(&compile(&place)), "warns\n");
    assert_eq!(
        (place.read("real"), place.read("out")),
        ("mine".into(), "input\n".into())
    );
    assert_eq!(place.runs(), 3);
    // Nothing aside is left.
    let names = fs::read_dir(place.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with('.')).count(), 0);
}

#[test]
fn an_output_that_was_protected_since_is_left_to_the_command() {
    let place = place("echo run >> log; { cat in > out; } || exit 7");
    let Some(run) = as_somebody(&place) else {
        return;
    };
    let line = "./keepwarm -C cache exec --output out -- ./compiler in";
    assert!(run(line).status.success());
    fs::write(place.path("out"), "mine").unwrap();
    fs::set_permissions(place.path("out"), Permissions::from_mode(0o444)).unwrap();
    let output = run(line);
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert_eq!(place.read("out"), "mine");
    assert_eq!(place.runs(), 2);
    // A command that makes such outputs itself: they are given back over one another.
    place.script(
        "compiler",
        "echo run >> log; rm -f out; cat in > out; chmod 444 out",
    );
    for _ in 0..3 {
        assert!(run(line).status.success());
        let mode = fs::metadata(place.path("out"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(
            (mode & 0o7777, place.read("out")),
            (0o444, "input\n".into())
        );
        assert_eq!(place.runs(), 3);
    }
}

#[test]
fn the_umask_counts_so_that_modes_are_those_of_a_run() {
    let place = place(COMPILER);
    for (umask, mode, runs) in [("022", 0o644, 1), ("077", 0o600, 2), ("022", 0o644, 2)] {
        let line =
            format!("umask {umask}; exec \"$0\" -C cache exec --output out -- ./compiler in");
        drop(fs::remove_file(place.path("out")));
        assert!(
            Running::start(&mut place.shell(&line))
                .finish()
                .status
                .success()
        );
        let found = fs::metadata(place.path("out"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!((found & 0o777, place.runs()), (mode, runs));
    }
}

#[test]
fn a_pattern_that_matches_an_output_is_refused_with_advice() {
    let place = place(COMPILER);
    fs::create_dir(place.path("folder")).unwrap();
    symlink("folder", place.path("link")).unwrap();
    let refused = |pattern: &str, output: &str| {
        let args = [
            "--input",
            "in",
            pattern,
            "--output",
            output,
            "--",
            "./compiler",
        ];
        let output = Running::start(&mut place.exec(&args)).finish();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{pattern}: {}",
            said(&output)
        );
        said(&output)
    };
    // Whether it is there or not.
    for _ in 0..2 {
        for (pattern, output) in [
            ("*", "out"),
            ("o?t", "./out"),
            ("./out", "out"),
            ("**/*", "folder/o"),
        ] {
            let said = refused(pattern, output);
            assert!(
                said.contains(&format!("--input {pattern} matches the output {output}")),
                "{said}"
            );
            assert!(said.contains("Use a pattern that matches only what the command reads"));
        }
        fs::write(place.path("out"), "").unwrap();
        fs::write(place.path("folder/o"), "").unwrap();
    }
    refused("link/*", "folder/o");
    assert!(refused("[", "out").contains("invalid value '['"));
    assert_eq!(place.runs(), 0);
    // A star does not reach into folders.
    let args = [
        "--input",
        "*",
        "--output",
        "folder/o",
        "--",
        "sh",
        "-c",
        "cat in > folder/o",
    ];
    assert!(
        Running::start(&mut place.exec(&args))
            .finish()
            .status
            .success()
    );
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
fn what_is_too_large_is_told_and_never_fails_the_command() {
    let place = place("echo run >> log; head -c $2 /dev/zero; head -c $1 /dev/zero > out");
    let run = |out: u32, printed: u32| {
        let (out, printed) = (out.to_string(), printed.to_string());
        let args = ["--output", "out", "--", "./compiler", &out, &printed];
        let mut command = place.exec(&args);
        let output = Running::start(command.env("KEEPWARM_MAX_SIZE", "1M")).finish();
        assert!(output.status.success());
        assert_eq!(output.stdout.len().to_string(), printed);
        assert_eq!(
            fs::metadata(place.path("out")).unwrap().len().to_string(),
            out
        );
        said(&output)
    };
    let said = run(2 << 20, 0);
    assert_eq!(said.lines().count(), 1);
    assert!(
        said.contains("not cached: the output out is too large: 1 MiB are kept at most"),
        "{said}"
    );
    assert!(run((1 << 20) - 5000, 6000).contains("what it wrote is too large"));
    assert!(run(0, (16 << 20) + 1).contains("it printed more than 16 MiB"));
    // Near the limit it is kept, or else that is told.
    for size in [1 << 19, 900_000, 1_000_000, 1_030_000, 1_040_000, 1_048_000] {
        let first = run(size, 0);
        let runs = place.runs();
        run(size, 0);
        let is_kept = place.runs() == runs;
        assert_eq!(is_kept, first.is_empty(), "{size}: {first}");
        assert!(is_kept || first.contains("not cached"), "{first}");
    }
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
