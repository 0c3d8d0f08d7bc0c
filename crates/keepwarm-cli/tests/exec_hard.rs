//! `exec` where commands, streams, signals and other runs are not as one would wish.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use support::Place;
use support::running::{Running, said, signal};

/// A compiler that says when it begins and ends when it is told to. It writes `out` twice.
const SLOW: &str = "echo run >> log
echo $1 > out; touch began-$1
until [ -e go-$1 ]; do sleep 0.02; done
echo $1 >> out";

fn place(compiler: &str) -> Place {
    let place = Place::empty();
    place.script("compiler", compiler);
    place
}

/// `./compiler FLAG`, which writes `out`.
fn compile(place: &Place, flag: &str) -> Running {
    compile_with(place, &[], flag)
}

fn compile_with(place: &Place, flags: &[&str], flag: &str) -> Running {
    let args = [flags, &["--output", "out", "--", "./compiler", flag]].concat();
    Running::start(&mut place.exec(&args))
}

#[test]
fn standard_input_that_does_not_count_is_not_seen_and_an_idle_pipe_is_not_waited_for() {
    let place = place("echo run >> log; cat; echo end");
    for mode in ["read-write", "read-write", "off"] {
        let mut command = place.exec(&["--no-output", "--", "./compiler"]);
        let mut running = Running::start(command.env("KEEPWARM_MODE", mode).stdin(Stdio::piped()));
        // Written to, and open for as long as it runs.
        let mut pipe = running.child().stdin.take().unwrap();
        pipe.write_all(mode.as_bytes()).unwrap();
        let output = running.finish();
        drop(pipe);
        assert!(output.status.success());
        assert_eq!(output.stdout, b"end\n", "{mode}");
    }
    assert_eq!(place.runs(), 2, "one of them with the cache off");
}

#[test]
fn standard_input_that_counts_is_a_part_of_the_key_and_one_too_long_streams_through() {
    let place = place("echo run >> log; wc -c");
    let run = |length: usize| {
        let mut command = place.exec(&["--no-output", "--stdin", "--", "./compiler"]);
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let mut pipe = running.child().stdin.take().unwrap();
        let writer = std::thread::spawn(move || pipe.write_all(&vec![b'x'; length]).unwrap());
        let output = running.finish();
        writer.join().unwrap();
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(text.trim(), length.to_string());
        said(&output)
    };
    for (length, runs) in [(0, 1), (1, 2), (1, 2), (0, 2)] {
        assert_eq!(run(length), "");
        assert_eq!(place.runs(), runs);
    }
    for runs in 3..5 {
        let said = run((64 << 20) + 1);
        assert!(
            said.contains("not cached: standard input is longer"),
            "{said}"
        );
        assert_eq!(place.runs(), runs);
    }
}

#[test]
fn what_a_command_left_running_is_not_waited_for_while_it_is_silent() {
    let place = place("echo run >> log; sleep 1000 & echo $! > left; echo done; echo made > out");
    for runs in 1..3 {
        let mut running = compile(&place, "x");
        // Not to the end of the pipe: what is left does not hold that, keepwarm is in between.
        let output = running.child().wait().map(|_| running.finish()).unwrap();
        signal(place.read("left").trim().parse().unwrap(), "KILL");
        assert!(output.status.success());
        assert_eq!(output.stdout, b"done\n");
        let said = said(&output);
        assert!(
            said.contains("not cached: what it left running holds"),
            "{said}"
        );
        assert_eq!(place.runs(), runs);
    }
}

#[test]
fn what_a_command_left_running_is_not_listened_to_for_ever() {
    let place = place("while :; do echo more; sleep 0.1; done & echo $! > left; echo made > out");
    let output = compile(&place, "x").finish();
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"more\n"));
    assert!(said(&output).contains("holds its output open"));
    // It ends by itself when it prints again: nobody reads.
    drop(
        std::process::Command::new("kill")
            .arg(place.read("left").trim())
            .output(),
    );
}

#[test]
fn a_reader_that_is_slow_gets_everything() {
    // More than one pipe holds, and less than both do: the command ends while it is passed on.
    let place = place("echo run >> log; head -c 150000 /dev/zero; echo made > out");
    let mut running = compile(&place, "x");
    // Longer than what silence is allowed.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let mut all = Vec::new();
    let mut stdout = running.child().stdout.take().unwrap();
    stdout.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 150_000);
    assert!(running.finish().status.success());
    assert_eq!(compile(&place, "x").finish().stdout, all);
    assert_eq!(place.runs(), 1);
}

/// Makes the run of this flag go on, and waits for its end.
fn go(place: &Place, flag: &str, running: Running) -> String {
    fs::write(place.path(&format!("go-{flag}")), "").unwrap();
    let output = running.finish();
    assert!(output.status.success());
    said(&output)
}

/// Runs each again, alone: nothing was kept, and then it is.
fn assert_nothing_was_kept(place: &Place, flags: &[&str]) {
    for flag in flags {
        let before = place.runs();
        for _ in 0..2 {
            drop(fs::remove_file(place.path("out")));
            assert_eq!(go(place, flag, compile(place, flag)), "");
            assert_eq!(place.read("out"), format!("{flag}\n{flag}\n"));
            assert_eq!(place.runs(), before + 1, "{flag}");
        }
    }
    assert_eq!(place.claims(), [""; 0], "nothing is left of them");
}

#[test]
fn runs_that_write_one_output_at_once_keep_nothing_of_one_another() {
    const TOLD: &str = "another run wrote the same output meanwhile";
    let place = place(SLOW);
    let start = |flag: &str| {
        let running = compile(&place, flag);
        place.until_there(&format!("began-{flag}"));
        running
    };
    // b during a, c begins before b and ends after it; d from within c to after it.
    let a = start("a");
    let b = start("b");
    let c = start("c");
    assert!(go(&place, "b", b).contains(TOLD));
    assert!(go(&place, "a", a).contains(TOLD));
    let d = start("d");
    assert!(go(&place, "c", c).contains(TOLD));
    assert!(go(&place, "d", d).contains(TOLD));
    assert_nothing_was_kept(&place, &["a", "b", "c", "d"]);

    // One that only gives an output back writes it, too.
    let e = start("e");
    assert_eq!(go(&place, "a", compile(&place, "a")), "");
    assert!(go(&place, "e", e).contains(TOLD));
    assert_nothing_was_kept(&place, &["e"]);

    // By another name it is the same file.
    fs::create_dir(place.path("folder")).unwrap();
    let f = start("f");
    let args = ["--output", "folder/../out", "--", "./compiler", "g"];
    let g = Running::start(&mut place.exec(&args));
    place.until_there("began-g");
    assert!(go(&place, "g", g).contains(TOLD));
    assert!(go(&place, "f", f).contains(TOLD));
    assert_nothing_was_kept(&place, &["f"]);
}

#[test]
fn what_a_killed_run_goes_on_writing_is_not_kept_and_then_it_is_in_nobodys_way() {
    let place = place(SLOW);
    let mut killed = compile(&place, "a");
    place.until_there("began-a");
    let waiting = compile(&place, "a");
    killed.signal("KILL");
    drop(killed.finish());
    // The command itself is alive, and writes the same output as the next one.
    support::running::until("a second run", || place.runs() == 2);
    assert!(go(&place, "a", waiting).contains("another run wrote the same output"));
    support::running::until("the end of it", || {
        go(&place, "b", compile(&place, "b")).is_empty()
    });
    assert_nothing_was_kept(&place, &["a"]);
}

#[test]
fn another_run_of_the_same_is_waited_for_no_longer_than_asked() {
    let place = place(SLOW);
    let first = compile(&place, "a");
    place.until_there("began-a");
    let waiting = compile_with(&place, &["--explain"], "a");
    // It does not wait, and does not keep what the other may have written.
    let hasty = compile_with(&place, &["--wait", "0s"], "a");
    support::running::until("a second run", || place.runs() == 2);
    let told = go(&place, "a", hasty);
    assert!(told.contains("another run wrote the same output"), "{told}");
    assert!(go(&place, "a", first).contains("another run wrote the same output"));
    // The first kept nothing, so that it runs after all.
    assert!(waiting.finish().status.success());
    assert_eq!(place.runs(), 3);
    let too_long = ["--wait", "13h", "--no-output", "--", "true"];
    let refused = Running::start(&mut place.exec(&too_long)).finish();
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("expected no more than 12h"));
}

#[test]
fn who_waits_says_so_if_asked_and_gets_what_the_other_made() {
    let place = place(SLOW);
    let first = compile(&place, "a");
    place.until_there("began-a");
    let mut waiting = compile_with(&place, &["--explain"], "a");
    let mut line = [0; 64];
    let read = waiting
        .child()
        .stderr
        .as_mut()
        .unwrap()
        .read(&mut line)
        .unwrap();
    let line = String::from_utf8_lossy(&line[..read]);
    assert!(line.contains("waiting for another run"), "{line}");
    go(&place, "a", first);
    assert!(said(&waiting.finish()).contains("keepwarm: found"));
    assert_eq!(place.runs(), 1);
    assert_eq!(place.read("out"), "a\na\n");
}

#[test]
fn runs_inside_a_run_are_kept_as_well_as_it_and_one_of_itself_does_not_wait() {
    let place = place("echo run >> log; \"$1\" -C cache exec --output out -- ./inner $2");
    place.script("inner", "echo run >> log; echo $1 > out");
    let keepwarm = assert_cmd::cargo::cargo_bin!("keepwarm").to_str().unwrap();
    let run = |program: &str, flag: &str| {
        let args = ["--output", "out", "--", program, keepwarm, flag];
        let args = if program == "./inner" {
            [&args[..4], &[flag]].concat()
        } else {
            args.to_vec()
        };
        let output = Running::start(&mut place.exec(&args)).finish();
        assert!(output.status.success());
        assert_eq!(said(&output), "");
        assert_eq!(place.read("out"), format!("{flag}\n"));
    };
    for _ in 0..2 {
        run("./compiler", "a");
        assert_eq!(place.runs(), 2);
    }
    run("./inner", "a");
    assert_eq!(place.runs(), 2);
    assert_eq!(place.claims(), [""; 0]);

    // It asks for itself, once.
    place.script(
        "compiler",
        "echo run >> log
[ -e second ] || { touch second; \"$1\" -C cache exec --output out -- ./compiler \"$@\"; }
echo $2 > out",
    );
    let args = ["--output", "out", "--", "./compiler", keepwarm, "b"];
    let output = Running::start(&mut place.exec(&args)).finish();
    assert!(output.status.success());
    assert_eq!(
        said(&output),
        "keepwarm: not cached: the command runs itself\n"
    );
    assert_eq!(place.runs(), 4);
}
