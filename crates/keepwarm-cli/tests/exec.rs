//! `exec`.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use support::Place;

/// A compiler of its own: it logs each run, reads `in`, and writes `out`, with a mode.
const COMPILER: &str = "#!/bin/sh
echo run >> log
echo \"says $1 $FLAVOUR\"
echo warns >&2
{ cat in; echo \"$1 $FLAVOUR\"; } > out && chmod 751 out
";

fn place() -> Place {
    let place = Place::empty();
    script(&place, COMPILER);
    fs::write(place.path("in"), "input\n").unwrap();
    place
}

fn script(place: &Place, text: &str) {
    fs::write(place.path("compiler"), text).unwrap();
    fs::set_permissions(place.path("compiler"), fs::Permissions::from_mode(0o755)).unwrap();
}

fn runs(place: &Place) -> usize {
    fs::read_to_string(place.path("log")).map_or(0, |log| log.lines().count())
}

fn exec(place: &Place, flag: &str) -> assert_cmd::Command {
    place.keepwarm(&[
        "exec",
        "--input",
        "in",
        "--output",
        "out",
        "--env",
        "FLAVOUR",
        "--",
        "./compiler",
        flag,
    ])
}

/// Everything that can be seen of a run.
fn seen(place: &Place, mut command: assert_cmd::Command) -> (Vec<u8>, Vec<u8>, Vec<u8>, u32) {
    drop(fs::remove_file(place.path("out")));
    let output = command.assert().success().get_output().clone();
    let mode = fs::metadata(place.path("out"))
        .unwrap()
        .permissions()
        .mode();
    let content = fs::read(place.path("out")).unwrap();
    (output.stdout, output.stderr, content, mode & 0o7777)
}

#[test]
fn a_hit_gives_the_bytes_the_mode_and_the_words_of_the_run() {
    let place = place();
    let first = seen(&place, exec(&place, "-O1"));
    assert_eq!(first.0, b"says -O1 \n");
    assert_eq!(first.1, b"warns\n");
    assert_eq!(first.2, b"input\n-O1 \n");
    assert_eq!(first.3, 0o751);
    assert_eq!(seen(&place, exec(&place, "-O1")), first);
    // Over what is there, too.
    fs::write(place.path("out"), "old").unwrap();
    exec(&place, "-O1").assert().success();
    assert_eq!(fs::read(place.path("out")).unwrap(), first.2);
    assert_eq!(runs(&place), 1);
}

#[test]
fn a_changed_input_flag_variable_or_compiler_runs_it_again() {
    let place = place();
    let first = seen(&place, exec(&place, "-O1"));
    assert_eq!(seen(&place, exec(&place, "-O2")).2, b"input\n-O2 \n");
    let with = |value: &str| {
        let mut command = exec(&place, "-O1");
        command.env("FLAVOUR", value);
        command
    };
    assert_eq!(seen(&place, with("mint")).2, b"input\n-O1 mint\n");
    assert_eq!(runs(&place), 3);
    // Empty is not unset.
    seen(&place, with(""));
    assert_eq!(runs(&place), 4);
    fs::write(place.path("in"), "INPUT\n").unwrap();
    assert_eq!(seen(&place, exec(&place, "-O1")).2, b"INPUT\n-O1 \n");
    assert_eq!(runs(&place), 5);
    fs::write(place.path("in"), "input\n").unwrap();
    assert_eq!(seen(&place, exec(&place, "-O1")), first);
    assert_eq!(runs(&place), 5);
    script(&place, &COMPILER.replace("says", "tells"));
    assert_eq!(seen(&place, exec(&place, "-O1")).0, b"tells -O1 \n");
    assert_eq!(runs(&place), 6);
}

#[test]
fn what_failed_or_wrote_no_output_is_not_kept_and_its_exit_code_is_passed_on() {
    let place = place();
    script(
        &place,
        "#!/bin/sh\necho run >> log\necho half > out\nexit 7\n",
    );
    for n in 1..3 {
        exec(&place, "x").assert().code(7).stdout("").stderr("");
        assert_eq!(runs(&place), n);
    }
    script(&place, "#!/bin/sh\necho run >> log\n");
    for n in 3..5 {
        // The one of the run before is not the output of this one.
        let done = exec(&place, "x").assert().success();
        let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
        assert!(said.contains("was there before, and not written"), "{said}");
        assert_eq!(runs(&place), n);
    }
    fs::remove_file(place.path("out")).unwrap();
    let done = exec(&place, "x").assert().success();
    let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(said.contains("was not written"), "{said}");
}

#[test]
fn a_command_that_is_not_there_or_cannot_be_run_ends_as_in_a_shell() {
    let place = place();
    let run = |name: &str| place.keepwarm(&["exec", "--no-output", "--", name]);
    run("keepwarm-no-such-command").assert().code(127);
    run("./nothing").assert().code(127);
    run("./in").assert().code(126);
}

#[test]
fn an_input_that_changes_while_the_command_runs_makes_its_outputs_unkept() {
    let place = place();
    script(&place, &format!("{COMPILER}echo more >> in\n"));
    for n in 1..3 {
        let (_, said, ..) = seen(&place, exec(&place, "x"));
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("changed while the command ran"), "{said}");
        assert_eq!(runs(&place), n);
    }
}

#[test]
fn a_pattern_that_matches_nothing_runs_the_command_without_the_cache() {
    let place = place();
    fs::remove_file(place.path("in")).unwrap();
    script(&place, "#!/bin/sh\necho run >> log\necho made > out\n");
    for n in 1..3 {
        let (_, said, ..) = seen(&place, exec(&place, "x"));
        assert!(
            String::from_utf8(said)
                .unwrap()
                .contains("--input in matches no file")
        );
        assert_eq!(runs(&place), n);
    }
}

#[test]
fn several_at_once_run_it_once_and_all_print_the_same() {
    let place = place();
    script(&place, &format!("{COMPILER}sleep 0.3\n"));
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| exec(&place, "x").assert().success().get_output().clone()))
            .collect();
        for one in all {
            let output = one.join().unwrap();
            assert_eq!(output.stdout, b"says x \n");
            assert_eq!(output.stderr, b"warns\n");
        }
    });
    assert_eq!(fs::read(place.path("out")).unwrap(), b"input\nx \n");
    assert_eq!(runs(&place), 1);
}

#[test]
fn a_cache_that_is_read_only_serves_and_keeps_nothing_and_one_that_is_off_is_silent() {
    let place = place();
    let first = seen(&place, exec(&place, "kept"));
    let with = |mode: &str, flag: &str| {
        let mut command = exec(&place, flag);
        command.env("KEEPWARM_MODE", mode);
        command
    };
    assert_eq!(seen(&place, with("read-only", "kept")), first);
    assert_eq!(runs(&place), 1);
    for n in 2..4 {
        assert_eq!(seen(&place, with("read-only", "new")).2, b"input\nnew \n");
        assert_eq!(runs(&place), n);
    }
    assert_eq!(seen(&place, with("off", "kept")), first);
    assert_eq!(runs(&place), 4);
}

#[test]
fn a_cache_that_cannot_be_opened_does_not_fail_the_command() {
    let place = place();
    fs::write(place.cache_dir(), "a file").unwrap();
    let (stdout, said, content, _) = seen(&place, exec(&place, "x"));
    assert_eq!(
        (&stdout[..], &content[..]),
        (&b"says x \n"[..], &b"input\nx \n"[..])
    );
    assert!(String::from_utf8(said).unwrap().contains("not cached"));
}

#[test]
fn a_full_disk_under_the_cache_does_not_fail_the_command() {
    // One that is not there yet, and one that is.
    for place in [place(), Place::with_entries(3)] {
        script(&place, "#!/bin/sh\necho ran\n");
        // No file may grow: every write of the cache fails, as on a full disk.
        let line = "trap '' XFSZ; ulimit -f 0; exec \"$0\" -C cache exec --no-output -- ./compiler";
        let mut command = assert_cmd::Command::new("/bin/sh");
        command.current_dir(place.path("")).arg("-c").arg(line);
        command.arg(assert_cmd::cargo::cargo_bin!("keepwarm"));
        let done = command.assert().success().stdout("ran\n");
        let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
        assert!(said.contains("not cached"), "{said}");
        // Nor does what was left behind.
        let again = ["exec", "--no-output", "--", "./compiler"];
        place.keepwarm(&again).assert().success().stdout("ran\n");
    }
}

#[test]
fn standard_input_counts_if_asked_for_and_reaches_the_command() {
    let place = place();
    script(&place, "#!/bin/sh\necho run >> log\ncat\n");
    for (text, n) in [("one", 1), ("two", 2), ("one", 2)] {
        let mut command = place.keepwarm(&["exec", "--no-output", "--stdin", "--", "./compiler"]);
        command.write_stdin(text).assert().success().stdout(text);
        assert_eq!(runs(&place), n);
    }
}

#[test]
fn explain_names_what_changed() {
    let place = place();
    let said = |flag: &str| {
        let mut command = place.keepwarm(&[
            "exec",
            "--explain",
            "--input",
            "in",
            "--output",
            "out",
            "--",
            "./compiler",
            flag,
        ]);
        drop(fs::remove_file(place.path("out")));
        let done = command.assert().success();
        String::from_utf8(done.get_output().stderr.clone()).unwrap()
    };
    assert!(said("a").contains("not run for these outputs before"));
    assert!(said("a").contains("keepwarm: found"));
    assert!(said("b").contains("argument 1 changed"));
    fs::write(place.path("in"), "other\n").unwrap();
    assert!(said("b").contains("input in changed"));
}

/// Changes every byte past the head of every pack.
fn damage_all(dir: &std::path::Path) -> usize {
    let mut damaged = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage_all(&path);
            continue;
        }
        if !path.to_str().unwrap().contains("/packs/") {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes.iter_mut().skip(64).for_each(|byte| *byte ^= 1);
        fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    damaged
}

#[test]
fn an_entry_that_is_damaged_is_not_given_back() {
    let place = place();
    let first = seen(&place, exec(&place, "x"));
    assert!(damage_all(&place.cache_dir()) > 0);
    assert_eq!(seen(&place, exec(&place, "x")), first);
    assert_eq!(runs(&place), 2);
}

#[test]
fn where_an_output_cannot_be_given_back_the_command_runs() {
    let place = place();
    seen(&place, exec(&place, "x"));
    // A symlink: the command writes through it, which a rename would not.
    fs::remove_file(place.path("out")).unwrap();
    fs::write(place.path("real"), "old").unwrap();
    std::os::unix::fs::symlink("real", place.path("out")).unwrap();
    let done = exec(&place, "x").assert().success().stdout("says x \n");
    let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(said.contains("could not give the outputs back"), "{said}");
    assert_eq!(fs::read(place.path("real")).unwrap(), b"input\nx \n");
    assert_eq!(runs(&place), 2);
}

#[test]
fn a_directory_that_others_may_write_to_is_not_used() {
    let place = place();
    seen(&place, exec(&place, "x"));
    fs::set_permissions(place.cache_dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let (stdout, said, ..) = seen(&place, exec(&place, "x"));
    assert_eq!(stdout, b"says x \n");
    assert!(String::from_utf8(said).unwrap().contains("not cached"));
    assert_eq!(runs(&place), 2);
}
