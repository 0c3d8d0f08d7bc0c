//! What every sub-command has in common: which directory, which mode, formats, exit codes, pipes.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use predicates::prelude::*;
use std::process::{Command, Stdio};
use support::{Place, bare_keepwarm, key};

#[test]
fn without_arguments_the_help_is_shown_and_the_exit_code_is_2() {
    let usage = predicate::str::contains("Usage: keepwarm");
    bare_keepwarm().assert().code(2).stderr(usage.clone());
    bare_keepwarm()
        .arg("--help")
        .assert()
        .success()
        .stdout(usage);
    let version = predicate::str::starts_with("keepwarm ");
    bare_keepwarm()
        .arg("--version")
        .assert()
        .success()
        .stdout(version);
}

#[test]
fn what_is_wrong_on_the_command_line_or_in_the_environment_ends_with_2() {
    let place = Place::with_entries(1);
    for args in [
        &["frobnicate"][..],
        &["ls", "--frobnicate"],
        &["get", "xyz"],
        &["get"],
    ] {
        let said = place.error(2, args);
        assert!(
            said.contains("error:") && said.contains("--help"),
            "{args:?}: {said}"
        );
    }
    let said = place.error(2, &["ls", "--format", "openmetrics"]);
    assert!(said.contains("only `keepwarm stats`"), "{said}");
    for (name, value) in [
        ("KEEPWARM_MODE", "on"),
        ("KEEPWARM_MAX_SIZE", "large"),
        ("KEEPWARM_SHARING", "all"),
    ] {
        let said = predicate::str::contains(format!("{name}={value}"));
        let mut command = place.keepwarm(&["stats"]);
        command.env(name, value).assert().code(2).stderr(said);
    }
}

#[test]
fn the_directory_is_what_c_says_then_the_variable_then_the_platform() {
    let place = Place::with_entries(1);
    let is_there = predicate::str::contains(place.cache_dir().display().to_string());
    let elsewhere = place.path("elsewhere");
    let mut command = place.keepwarm(&["stats"]);
    command
        .env("KEEPWARM_DIR", &elsewhere)
        .assert()
        .success()
        .stdout(is_there.clone());
    let mut command = bare_keepwarm();
    command.arg("stats").env("KEEPWARM_DIR", place.cache_dir());
    command.assert().success().stdout(is_there);
    let mut command = bare_keepwarm();
    command
        .arg("stats")
        .env("HOME", &elsewhere)
        .env("XDG_CACHE_HOME", &elsewhere);
    command.env("LOCALAPPDATA", &elsewhere);
    let said = predicate::str::contains("there is no cache in")
        .and(predicate::str::contains(elsewhere.display().to_string()));
    command.assert().code(1).stderr(said);
}

/// Every sub-command, with arguments that it understands; whether it makes a cache, and whether it
/// asks for an entry.
const COMMANDS: [(&[&str], bool, bool); 20] = [
    (&["stats"], false, false),
    (&["ls"], false, false),
    (&["show", KEY], false, true),
    (&["path", KEY], false, true),
    (&["namespaces"], false, false),
    (&["report", "-o", "report.html"], false, false),
    (&["get", KEY], false, true),
    (&["put", KEY, "file"], true, false),
    (&["remove", KEY], false, true),
    (&["mark"], false, false),
    (&["mark", "now"], true, false),
    (&["gc"], false, false),
    (&["prune", "--max-size", "0"], false, false),
    (&["verify"], false, false),
    (&["verify", "--repair"], false, false),
    (&["rebuild"], false, false),
    (&["clear"], false, false),
    (&["export", "out"], false, false),
    (&["import", "archive"], true, false),
    (&["merge", "other"], false, false),
];
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What the arguments of [`COMMANDS`] name, but for the cache that is merged.
fn make_inputs(place: &Place) {
    std::fs::write(place.path("file"), "x").unwrap();
    let archive = Place::with_entries(1);
    archive.text(&["export", "archive"]);
    std::fs::copy(archive.path("archive"), place.path("archive")).unwrap();
}

#[test]
fn every_sub_command_has_help() {
    let help = bare_keepwarm().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap();
    let commands = commands.split("\n\n").next().unwrap();
    // Names are indented by two, what is wrapped by more.
    let lines = commands.lines().filter_map(|line| line.strip_prefix("  "));
    let names = lines.filter_map(|line| line.split(' ').next());
    let mut seen = 0;
    for name in names.filter(|name| !name.is_empty()) {
        let usage = predicate::str::contains(format!("Usage: keepwarm {name}"));
        let exits = predicate::str::contains("--directory <DIR>");
        for flag in ["-h", "--help"] {
            let done = bare_keepwarm().args([name, flag]).assert().success();
            done.stdout(usage.clone().and(exits.clone())).stderr("");
        }
        seen += 1;
    }
    assert!(seen >= 22, "{help}");
    for name in ["key", "summary"] {
        let usage = predicate::str::contains(format!("Usage: keepwarm ci {name}"));
        let mut command = bare_keepwarm();
        command
            .args(["ci", name, "--help"])
            .assert()
            .success()
            .stdout(usage);
    }
    for (args, ..) in COMMANDS {
        assert!(commands.contains(args[0]), "{}", args[0]);
    }
}

#[test]
fn where_there_is_no_cache_it_says_so_and_makes_none() {
    for empty_folder in [false, true] {
        for (args, makes, _) in COMMANDS {
            let place = Place::empty();
            if empty_folder {
                std::fs::create_dir(place.cache_dir()).unwrap();
            }
            make_inputs(&place);
            if makes {
                place.text(args);
                continue;
            }
            let said = place.error(1, args);
            assert!(
                said.contains("there is no cache in") && said.contains("-C DIR"),
                "{said}"
            );
            assert_eq!(place.cache_dir().exists(), empty_folder, "{args:?}");
            assert!(!place.cache_dir().join("v1").exists(), "{args:?}");
        }
    }
}

#[test]
fn what_is_no_directory_or_of_a_newer_version_says_what_to_do() {
    let place = Place::empty();
    std::fs::write(place.cache_dir(), "a file").unwrap();
    make_inputs(&place);
    for (args, ..) in COMMANDS {
        let said = place.error(1, args);
        assert!(said.contains("error: "), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
    assert_eq!(std::fs::read(place.cache_dir()).unwrap(), b"a file");
    let place = Place::with_entries(1);
    let index = place.cache_dir().join("v1/index");
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[8] = bytes[8].wrapping_add(1);
    std::fs::write(&index, bytes).unwrap();
    for args in [&["stats"][..], &["verify", "--repair"], &["clear"]] {
        let done = place.keepwarm(args).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        let is_newer = said.contains("Use a newer keepwarm");
        assert!(is_newer || done.status.success(), "{args:?}: {said}");
    }
}

#[test]
fn a_variable_is_named_without_a_value() {
    let place = Place::empty();
    for name in ["A=1", "=", ""] {
        let said = place.error(2, &["exec", "--no-output", "--env", name, "--", "true"]);
        assert!(said.contains("the name alone"), "{said}");
    }
}

#[test]
fn switched_off_it_does_nothing_and_finds_nothing() {
    let place = Place::with_entries(1);
    let before = place.json(&["ls"]);
    make_inputs(&place);
    for (args, _, asks) in COMMANDS {
        let said = predicate::str::contains("switched off");
        let mut command = place.keepwarm(args);
        command.env("KEEPWARM_MODE", "off");
        let code = i32::from(asks);
        command.assert().code(code).stdout("").stderr(said);
    }
    for args in [&["stats"][..], &["ls"], &["verify"], &["ci", "key"]] {
        let mut command = place.keepwarm(args);
        command.args(["--format", "json"]);
        command.env("KEEPWARM_MODE", "off");
        command.assert().code(0).stdout("null\n");
    }
    assert_eq!(place.json(&["ls"]), before);
    assert!(!place.path("out").exists());
    assert_eq!(
        place.text(&["get", &key(0).to_string()]).into_bytes(),
        support::content(0)
    );
}

#[test]
#[cfg(unix)]
fn a_directory_of_another_user_is_looked_at_and_served_and_not_changed() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt as _;
    let place = Place::with_entries(3);
    let cache = place.path(".");
    let open_up = Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(cache)
        .status();
    assert!(open_up.unwrap().success());
    // Where the tests are may be out of reach for others.
    let program = place.path("keepwarm");
    std::fs::copy(assert_cmd::cargo::cargo_bin!("keepwarm"), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .arg("-C")
            .arg(place.cache_dir())
            .args(args)
            .uid(65_534)
            .gid(65_534);
        command.env_remove("KEEPWARM_MODE").stdin(Stdio::null());
        command.output()
    };
    if !run(&["--version"]).is_ok_and(|done| done.status.success()) {
        eprintln!("!!! SKIPPED a directory of another user: cannot run as another user here");
        return;
    }
    let name = key(1).to_string();
    for args in [
        &["stats", "--detail"][..],
        &["ls"],
        &["report", "-o", "-"],
        &["show", &name],
        &["verify"],
        &["get", &name],
    ] {
        let done = run(args).unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "{args:?}: {said}");
        assert!(args[0] != "get" || done.stdout == support::content(1));
    }
    for args in [
        &["clear"][..],
        &["remove", &name],
        &["gc"],
        &["mark", "a"],
        &["verify", "--repair"],
    ] {
        let done = run(args).unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.code() == Some(1) && said.contains("error: could not"),
            "{args:?}: {said}"
        );
        assert!(
            said.contains("KEEPWARM_") || said.contains("hoose a directory"),
            "{said}"
        );
    }
    assert_eq!(place.json(&["stats"])["entries"], 3);
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_the_cache_whole_and_no_half_file() {
    if support::ignores("INT", 2) {
        return;
    }
    let place = Place::empty();
    let cache = place.cache();
    let large = vec![7; 32 << 20];
    cache.put(&key(1), large.clone());
    cache.close().unwrap();
    let interrupt = |child: &std::process::Child| {
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    let start = |args: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("keepwarm"));
        command
            .current_dir(place.path("."))
            .arg("-C")
            .arg(place.cache_dir())
            .args(args);
        command
            .env_remove("KEEPWARM_MODE")
            .env_remove("KEEPWARM_MAX_SIZE");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut interrupted = 0;
    for round in 0..15_u64 {
        let mut child = start(&["get", &key(1).to_string(), "-o", "out"]);
        // Each time at another moment.
        std::thread::sleep(std::time::Duration::from_millis(round * 3));
        interrupt(&child);
        interrupted += u32::from(!child.wait().unwrap().success());
        if let Ok(bytes) = std::fs::read(place.path("out")) {
            assert!(bytes == large, "a half file after round {round}");
            std::fs::remove_file(place.path("out")).unwrap();
        }
        let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
    assert!(interrupted > 0);
    // One that waits for its input.
    let mut child = start(&["put", &key(2).to_string(), "-"]);
    let stdin = child.stdin.take();
    std::thread::sleep(std::time::Duration::from_millis(50));
    interrupt(&child);
    assert!(!child.wait().unwrap().success());
    drop(stdin);
    assert_eq!(place.json(&["verify"])["sound"], true);
    assert_eq!(place.json(&["stats"])["entries"], 1);
}

#[test]
fn colour_is_for_terminals_and_not_where_it_is_not_wanted() {
    let place = Place::with_entries(1);
    let escape = predicate::str::contains("\u{1b}[");
    place
        .keepwarm(&["ls"])
        .assert()
        .success()
        .stdout(escape.clone().not());
    let mut command = place.keepwarm(&["ls"]);
    command
        .env("CLICOLOR_FORCE", "1")
        .assert()
        .success()
        .stdout(escape.clone());
    let mut command = place.keepwarm(&["ls"]);
    command.env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1");
    command.assert().success().stdout(escape.not());
}

#[test]
fn nothing_is_said_when_nobody_reads_any_more() {
    let place = Place::with_entries(3_000);
    place.stops_reading(&["ls", "--full-keys"]);
}
