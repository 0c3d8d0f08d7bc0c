//! `exec` and the files that a command writes: what stands there already, modes, patterns, sizes.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Output, Stdio};
use support::Place;
use support::running::{Running, has, said};

const COMPILER: &str = "echo run >> log; echo says; echo warns >&2; cat in > out";

fn place(compiler: &str) -> Place {
    let place = Place::empty();
    place.script("compiler", compiler);
    fs::write(place.path("in"), "input\n").unwrap();
    place
}

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
    for size in [
        1 << 19,
        900_000,
        1_000_000,
        1_030_000,
        1_040_000,
        1_048_000,
        1_048_500,
    ] {
        let first = run(size, 0);
        let runs = place.runs();
        run(size, 0);
        let is_kept = place.runs() == runs;
        assert_eq!(is_kept, first.is_empty(), "{size}: {first}");
        assert!(is_kept || first.contains("not cached"), "{first}");
    }
}
