//! What every sub-command has in common: which directory, which mode, formats, exit codes, pipes.

mod support;

use predicates::prelude::*;
use std::io::Read as _;
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

#[test]
fn where_there_is_no_cache_it_says_so_and_makes_none() {
    let place = Place::empty();
    let key = key(1).to_string();
    for args in [&["stats"][..], &["ls"], &["get", &key]] {
        let said = place.error(1, args);
        assert!(
            said.contains("there is no cache in") && said.contains("-C DIR"),
            "{said}"
        );
        assert!(!place.cache_dir().exists(), "{args:?}");
    }
}

#[test]
fn switched_off_it_does_nothing_and_finds_nothing() {
    let place = Place::with_entries(1);
    let key = key(0).to_string();
    std::fs::write(place.path("file"), "other").unwrap();
    for (code, args) in [
        (0, &["stats"][..]),
        (0, &["ls"]),
        (1, &["get", &key]),
        (0, &["put", &key, "file"]),
    ] {
        let said = predicate::str::contains("switched off");
        let mut command = place.keepwarm(args);
        command.env("KEEPWARM_MODE", "off");
        command.assert().code(code).stdout("").stderr(said);
    }
    assert_eq!(place.text(&["get", &key]).into_bytes(), support::content(0));
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
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("keepwarm"))
        .arg("-C")
        .arg(place.cache_dir())
        .args(["ls", "--full-keys"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), &done.stderr[..]), (Some(0), &b""[..]));
}
