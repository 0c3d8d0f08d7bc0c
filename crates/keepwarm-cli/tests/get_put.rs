//! `get` and `put`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use predicates::prelude::*;
use support::{Place, content, key};

#[test]
fn what_a_program_put_is_got_by_the_first_digits_of_its_key() {
    let place = Place::with_entries(20);
    for n in 0..20 {
        let key = key(n).to_string();
        for digits in [&key[..], &key[..12], &key[..12].to_uppercase()] {
            let done = place
                .keepwarm(&["get", digits])
                .assert()
                .success()
                .stderr("");
            assert_eq!(done.get_output().stdout, content(n));
        }
    }
}

#[test]
fn what_the_command_put_is_got_by_a_program() {
    let place = Place::empty();
    std::fs::write(place.path("file"), [0, 255, 10, 27]).unwrap();
    let name = key(1).to_string();
    assert_eq!(place.text(&["put", &name, "file"]), format!("{name}\n"));
    let report = place.json(&["put", &name, "file", "--cost", "250ms"]);
    assert_eq!(
        (&report["length"], &report["already_stored"]),
        (&4.into(), &true.into())
    );
    let stored = place.text(&["put", &name, "file", "--namespace", "driver"]);
    assert_eq!(stored.trim(), key(1).within("driver").to_string());
    let mut command = place.keepwarm(&["put", &key(2).to_string(), "-"]);
    command.write_stdin("from a pipe").assert().success();

    let cache = place.cache();
    assert_eq!(cache.get(&key(1)).unwrap()[..], [0, 255, 10, 27]);
    assert_eq!(
        cache.namespace("driver").get(&key(1)).unwrap()[..],
        [0, 255, 10, 27]
    );
    assert_eq!(cache.get(&key(2)).unwrap()[..], *b"from a pipe");
    let got = place
        .keepwarm(&["get", &name, "--namespace", "driver"])
        .assert()
        .success();
    assert_eq!(got.get_output().stdout, [0, 255, 10, 27]);
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let place = Place::with_entries(2);
    let name = key(1).to_string();
    std::fs::write(place.path("out"), "before").unwrap();
    place.text(&["get", &name, "-o", "out"]);
    assert_eq!(std::fs::read(place.path("out")).unwrap(), content(1));
    let report = place.json(&["get", &name, "-o", "out"]);
    assert_eq!(report["key"], name);
    assert_eq!(report["length"], content(1).len());
    let said = place.error(1, &["get", &name, "-o", "no/such/folder"]);
    assert!(said.contains("could not write no/such/folder"), "{said}");
    place.text(&[
        "get",
        &name,
        "-o",
        if cfg!(windows) { "NUL" } else { "/dev/null" },
    ]);
    let left = std::fs::read_dir(place.path(".")).unwrap().count();
    assert_eq!(left, 2, "the cache and the file");
}

#[test]
#[cfg(unix)]
fn a_file_is_written_with_the_modes_of_any_other_and_through_a_link() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with_entries(1);
    std::fs::write(place.path("new"), "").unwrap();
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    std::fs::write(place.path("target"), "").unwrap();
    let name = key(0).to_string();
    place.text(&["get", &name, "-o", "out"]);
    place.text(&["get", &name, "-o", "link"]);
    let mode = |name: &str| place.path(name).metadata().unwrap().permissions().mode();
    assert_eq!(mode("out"), mode("new"));
    assert!(place.path("link").is_symlink());
    assert_eq!(std::fs::read(place.path("target")).unwrap(), content(0));
}

#[test]
fn what_cannot_be_got_or_put_says_why_and_what_to_do() {
    let place = Place::with_entries(300);
    let absent = key(1_000).to_string();
    let said = place.error(1, &["get", &absent]);
    assert!(
        said.contains("no entry has the key") && said.contains("keepwarm ls"),
        "{said}"
    );
    let said = place.error(2, &["get", "--format", "json", &absent]);
    assert!(said.contains("-o FILE"), "{said}");
    let said = place.error(2, &["get", "--namespace", "x", &absent[..8]]);
    assert!(said.contains("whole"), "{said}");
    let said = place.error(2, &["put", "1234", "file"]);
    assert!(said.contains("64 hexadecimal digits"), "{said}");
    let said = place.error(1, &["put", &absent, "file"]);
    assert!(said.contains("could not read file"), "{said}");
    std::fs::write(place.path("file"), [0; 2000]).unwrap();
    let mut command = place.keepwarm(&["put", &absent, "file"]);
    let too_large = predicate::str::contains("larger than the cache may be")
        .and(predicate::str::contains("KEEPWARM_MAX_SIZE"));
    command
        .env("KEEPWARM_MAX_SIZE", "1k")
        .assert()
        .code(1)
        .stderr(too_large);
    let mut command = place.keepwarm(&["put", &absent, "file"]);
    let read_only = predicate::str::contains("KEEPWARM_MODE=read-only");
    command
        .env("KEEPWARM_MODE", "read-only")
        .assert()
        .code(1)
        .stderr(read_only);
    assert!(place.cache().get(&key(1_000)).is_none());
}

#[test]
fn a_damaged_artifact_is_not_served_and_it_says_so() {
    let place = Place::with_entries(1);
    assert_eq!(support::damage(&place.cache_dir(), "packs"), 1);
    let said = place.error(1, &["get", &key(0).to_string()]);
    assert!(
        said.contains("damaged") || said.contains("no entry"),
        "{said}"
    );
}
