//! `ci key` and `ci summary`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::Fingerprint;
use predicates::prelude::*;
use std::process::Command;
use support::{Place, content, key};

fn ci_key(place: &Place) -> String {
    place.text(&["ci", "key"])
}

#[test]
fn the_key_stands_for_what_there_is_and_for_nothing_else() {
    let place = Place::with_entries(5);
    let first = ci_key(&place);
    assert_eq!(
        first.trim().parse::<Fingerprint>().unwrap().to_string(),
        first.trim()
    );
    let report = place.json(&["ci", "key"]);
    assert_eq!(report["key"], first.trim());
    let bytes: usize = (0..5).map(|n| content(n).len()).sum();
    assert_eq!(
        (&report["entries"], &report["bytes"]),
        (&5.into(), &bytes.into())
    );

    // Uses, copies, another order, other places on disk, a lost index.
    place
        .keepwarm(&["get", &key(1).to_string()])
        .assert()
        .success();
    place.text(&["mark", "job"]);
    place.keepwarm(&["stats", "--zero"]).assert().success();
    place.text(&["gc"]);
    assert_eq!(ci_key(&place), first);
    let other = Place::empty();
    let cache = other.cache();
    for n in (0..5).rev() {
        cache.put(&key(n), vec![0; 1000]);
        cache.put(&key(n), content(n));
    }
    cache.close().unwrap();
    assert_eq!(ci_key(&other), first);
    let mut copy = Command::new("cp");
    copy.arg("-r")
        .arg(place.cache_dir())
        .arg(place.path("copy"));
    assert!(copy.status().unwrap().success());
    let mut command = place.keepwarm(&["ci", "key", "-C", "copy"]);
    command.assert().success().stdout(first.clone());
    std::fs::remove_file(place.cache_dir().join("v1/index")).unwrap();
    assert_eq!(ci_key(&place), first);
    place.text(&["rebuild"]);
    assert_eq!(ci_key(&place), first);

    // One more, other bytes, another namespace, one less.
    let mut seen = vec![first.clone()];
    std::fs::write(place.path("file"), "x").unwrap();
    let name = key(7).to_string();
    for args in [
        &["put", &name, "file"][..],
        &["put", &name, "file", "--namespace", "driver"],
        &["remove", &key(0).to_string()],
    ] {
        place.text(args);
        let now = ci_key(&place);
        assert!(!seen.contains(&now), "{args:?}");
        seen.push(now);
    }
    std::fs::write(place.path("file"), "y").unwrap();
    place.text(&["put", &name, "file"]);
    assert!(!seen.contains(&ci_key(&place)));
}

#[test]
fn where_there_is_no_cache_the_key_is_that_of_an_empty_one() {
    let place = Place::empty();
    let none = predicate::str::contains("there is no cache in");
    let done = place
        .keepwarm(&["ci", "key"])
        .assert()
        .success()
        .stderr(none);
    let key = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    assert!(!place.cache_dir().exists());
    place.text(&["mark", "job"]);
    assert_eq!(ci_key(&place), key);
    assert_eq!(place.json(&["ci", "key"])["entries"], 0);
}

#[test]
fn a_summary_tells_what_the_job_did() {
    let place = Place::with_entries(3);
    // The times of a new directory run ahead of the clock, by a second at most.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    place.text(&["mark", "job"]);
    let cache = place.cache();
    cache.put(&key(10), vec![0; 2048]);
    let build = || Ok::<_, std::io::Error>(vec![1; 100]);
    cache.get_or_insert_with(&key(11), build).unwrap();
    for n in [0, 1, 10] {
        assert!(cache.get(&key(n)).is_some());
    }
    cache.close().unwrap();
    let report = place.json(&["ci", "summary", "--since", "job"]);
    assert_eq!(
        (&report["exists"], &report["entries"]),
        (&true.into(), &5.into())
    );
    assert_eq!(
        (&report["added"]["entries"], &report["added"]["bytes"]),
        (&2.into(), &2148.into())
    );
    assert_eq!(report["counters"]["disk_hits"], 2);
    assert_eq!(report["counters"]["builds"], 1);
    let text = place.text(&["ci", "summary", "--since", "job"]);
    assert!(text.starts_with("### keepwarm\n\n`"), "{text}");
    for line in [
        "| what | |\n|---|---:|\n",
        "| hits on disk | 2 |\n",
        "| hits in memory | 1 |\n",
        "| misses | 1 |\n",
        "| hit rate | 75.0 % |\n",
        "| added | 2 entries, 2.10 KiB |\n",
        "| entries | 5 |\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    let whole = place.text(&["ci", "summary"]);
    assert!(!whole.contains("| added |"), "{whole}");
    assert_eq!(
        place.json(&["ci", "summary"])["added"],
        serde_json::Value::Null
    );
    let said = place.error(1, &["ci", "summary", "--since", "other"]);
    assert!(said.contains("there is no mark called other"), "{said}");
    let said = place.error(2, &["ci", "summary", "--since", "a b"]);
    assert!(said.contains("is no name of a mark"), "{said}");
}

#[test]
fn a_summary_is_appended_where_the_variable_says() {
    let place = Place::with_entries(1);
    let file = place.path("summary.md");
    let table = place.text(&["ci", "summary"]);
    let summary = |file: &std::path::Path| {
        let mut command = place.keepwarm(&["ci", "summary"]);
        command.env("GITHUB_STEP_SUMMARY", file).assert()
    };
    std::fs::write(&file, "before\n").unwrap();
    summary(&file).success().stdout("").stderr("");
    summary(&file).success();
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("before\n{table}{table}"));
    std::fs::remove_file(&file).unwrap();
    summary(&file).success();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), table);
    summary("".as_ref()).success().stdout(table.clone());
    let advice = predicate::str::contains("could not append to")
        .and(predicate::str::contains("Unset GITHUB_STEP_SUMMARY"));
    summary(&place.path("no/such")).code(1).stderr(advice);
    let mut command = place.keepwarm(&["ci", "summary", "--format", "json"]);
    let done = command.env("GITHUB_STEP_SUMMARY", &file).assert().success();
    let report: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(report["entries"], 1);
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        table,
        "JSON is for programs"
    );
}

#[test]
fn a_summary_without_a_cache_or_of_one_that_is_only_read_is_no_failure() {
    let place = Place::empty();
    let done = place
        .keepwarm(&["ci", "summary", "--since", "job"])
        .assert();
    let none = predicate::str::contains("There is no cache in `");
    done.success().stdout(none);
    assert!(!place.cache_dir().exists());
    let place = Place::with_entries(4);
    for since in [&[][..], &["--since", "job"]] {
        let mut command = place.keepwarm(&[&["ci", "summary"], since].concat());
        let done = command.env("KEEPWARM_MODE", "read-only").assert().success();
        let text = predicate::str::contains("only read: what was found in it was not counted")
            .and(predicate::str::contains("| entries | 4 |"))
            .and(predicate::str::contains("hit rate").not());
        done.stdout(text).stderr("");
    }
}

#[test]
fn switched_off_or_in_no_directory_there_is_no_key() {
    let place = Place::with_entries(1);
    for args in [&["ci", "key"][..], &["ci", "summary"]] {
        let mut command = place.keepwarm(args);
        let said = predicate::str::contains("switched off");
        command
            .env("KEEPWARM_MODE", "off")
            .assert()
            .success()
            .stdout("")
            .stderr(said);
        std::fs::write(place.path("file"), "x").unwrap();
        let mut command = place.keepwarm(args);
        let said =
            predicate::str::contains("error: ").and(predicate::str::contains("panicked").not());
        command
            .args(["-C", "file"])
            .assert()
            .code(1)
            .stdout("")
            .stderr(said);
        let mut command = place.keepwarm(args);
        let said = predicate::str::contains("only `keepwarm stats`");
        command
            .args(["--format", "openmetrics"])
            .assert()
            .code(2)
            .stderr(said);
    }
    place.keepwarm(&["ci"]).assert().code(2);
}
