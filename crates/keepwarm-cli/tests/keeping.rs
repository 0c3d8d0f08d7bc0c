//! `gc`, `prune`, `verify`, `rebuild`, `clear`, `remove`, `mark`; and `completions`, `man`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Cache, DiskStore, Entry, Store};
use predicates::prelude::*;
use std::time::{Duration, SystemTime};
use support::{Place, content, key};

#[test]
fn gc_enforces_the_budget_of_the_variable() {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    for n in 0..30_u8 {
        let bytes = vec![n; 100_000];
        assert!(
            !store
                .put(&key(n.into()), bytes.into())
                .unwrap()
                .is_rejected()
        );
    }
    drop(store);
    let report = place.json(&["gc"]);
    assert_eq!(
        (&report["evicted"], &report["max_size"]),
        (&0.into(), &(5_u64 << 30).into())
    );
    let mut command = place.keepwarm(&["gc", "--format", "json"]);
    let done = command.env("KEEPWARM_MAX_SIZE", "1MB").assert().success();
    let report: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert!(report["evicted"].as_u64().unwrap() >= 20, "{report}");
    assert!(
        report["disk_bytes_after"].as_u64().unwrap() <= 1_000_000,
        "{report}"
    );
    assert!(place.json(&["stats"])["disk_bytes"].as_u64().unwrap() <= 1_000_000);
    let text = place.text(&["gc"]);
    assert!(
        text.starts_with("evicted 0 entries of 0 B\non disk "),
        "{text}"
    );
}

/// Entries 0..10 put so many days ago; those of even number in the namespace `even`.
fn old() -> Place {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    let even = store.register_namespace("even").unwrap();
    for n in 0..10 {
        let at = SystemTime::now() - Duration::from_secs(n * 24 * 3600 + 3600);
        let mut entry = Entry::from(content(n)).with_put_at(at);
        if n % 2 == 0 {
            entry.namespace = even;
        }
        assert!(!store.put(&key(n), entry).unwrap().is_rejected());
    }
    store.flush().unwrap();
    place
}

fn count(place: &Place) -> u64 {
    place.json(&["stats"])["entries"].as_u64().unwrap()
}

#[test]
fn prune_throws_away_what_the_rules_say() {
    let place = old();
    let dry = place.json(&["prune", "--older-than", "7d", "--dry-run", "--verbose"]);
    assert_eq!(
        (&dry["entries"], &dry["dry_run"]),
        (&3.into(), &true.into())
    );
    assert_eq!(dry["keys"].as_array().unwrap().len(), 3);
    assert_eq!(dry["keys"][0]["reason"], "older-than");
    assert_eq!(count(&place), 10, "a dry run changes nothing");
    let text = place.text(&["prune", "--older-than", "7d", "--namespace", "even", "-v"]);
    assert!(
        text.starts_with(&format!("{}  older-than\nremoved 1 entry", key(8))),
        "{text}"
    );
    assert_eq!(count(&place), 9);
    let report = place.json(&["prune", "--max-entries", "6"]);
    assert_eq!(report["by_reason"][0]["reason"], "max-size");
    assert_eq!(count(&place), 6);
    let report = place.json(&["prune", "--namespace", "even", "--namespace", "other"]);
    assert_eq!(report["by_reason"][0]["reason"], "namespace");
    assert!(
        place
            .json(&["ls", "--namespace", "even"])
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(place.json(&["prune", "--unused-for", "1h"])["entries"], 0);
    assert_eq!(
        place.json(&["prune", "--idle-namespaces", "1h"])["entries"],
        0
    );
    place.text(&["prune", "--max-size", "0"]);
    assert_eq!(count(&place), 0);
    let said = place.error(2, &["prune", "--dry-run"]);
    assert!(
        said.contains("no rule") && said.contains("keepwarm clear"),
        "{said}"
    );
    place.error(2, &["prune", "--older-than", "week"]);
}

#[test]
fn prune_knows_what_was_not_used_since_a_mark() {
    let place = Place::with_entries(6);
    let mark = place.text(&["mark", "job"]);
    let listed = place.json(&["mark"]);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["mark"]),
        (&"job".into(), &mark.trim().into())
    );
    assert!(place.text(&["mark"]).contains("job"));
    place
        .keepwarm(&["get", &key(3).to_string()])
        .assert()
        .success();
    let dry = place.json(&["prune", "--unused-since", mark.trim(), "--dry-run"]);
    assert_eq!(dry["entries"], 5);
    let report = place.json(&["prune", "--unused-since", "job"]);
    assert_eq!(
        (&report["entries"], &report["by_reason"][0]["reason"]),
        (&5.into(), &"unused-since".into())
    );
    assert_eq!(place.json(&["ls"])[0]["key"], key(3).to_string());
    place.text(&["mark", "--remove", "job"]);
    for args in [
        &["prune", "--unused-since", "job"][..],
        &["mark", "--remove", "job"],
    ] {
        let said = place.error(1, args);
        assert!(said.contains("no mark called job"), "{said}");
    }
    for bad in ["0123456789abcdef", "a/b", "ä"] {
        place.error(2, &["mark", bad]);
    }
    let empty = Place::empty();
    empty.text(&["mark", "first"]);
    assert_eq!(count(&empty), 0, "a mark makes the directory");
}

#[test]
fn a_mark_that_says_nonsense_is_told_of() {
    let place = Place::with_entries(1);
    let store = DiskStore::open(place.cache_dir()).unwrap();
    for nonsense in ["", "{}", "[1]", "{\"mark\":\"x\",\"counters\":{}}"] {
        store
            .set_note("keepwarm.mark.job", nonsense.as_bytes())
            .unwrap();
        for args in [
            &["prune", "--unused-since", "job"][..],
            &["stats", "--since", "job"],
        ] {
            let said = place.error(1, args);
            assert!(said.contains("mark job is damaged"), "{said}");
        }
        assert!(place.json(&["mark"]).as_array().unwrap().is_empty());
    }
    assert_eq!(count(&place), 1);
}

#[test]
fn verify_tells_what_is_wrong_and_repairs_it() {
    let place = Place::with_entries(10);
    let report = place.json(&["verify"]);
    assert_eq!(
        (&report["sound"], &report["entries"]),
        (&true.into(), &10.into())
    );
    assert!(place.text(&["verify"]).contains("nothing is wrong"));
    assert!(support::damage(&place.cache_dir(), "packs") > 0);
    let run = |code: i32, args: &[&str]| {
        let done = place.keepwarm(args).assert().code(code).stderr("");
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    };
    let text = run(1, &["verify"]);
    assert!(
        text.contains("damaged") && text.contains("verify --repair"),
        "{text}"
    );
    let report: serde_json::Value =
        serde_json::from_str(&run(1, &["verify", "--format", "json"])).unwrap();
    assert!(
        report["found"].as_u64().unwrap() > 0 && report["repaired"] == 0,
        "{report}"
    );
    assert_eq!(report["sound"], false);
    let text = run(0, &["verify", "--repair"]);
    assert!(
        text.contains("(repaired)") && text.contains("1 of 1 repaired"),
        "{text}"
    );
    assert_eq!(place.json(&["verify"])["sound"], true);
    let found = (0..10).filter(|n| {
        let done = place
            .keepwarm(&["get", &key(*n).to_string()])
            .output()
            .unwrap();
        assert!(done.stdout.is_empty() || done.stdout == content(*n));
        done.status.success()
    });
    assert_eq!(found.count(), 9, "one became a miss");
}

#[test]
fn every_sub_command_ends_well_on_a_damaged_directory() {
    let name = key(3).to_string();
    for damage in ["index", "packs", "objects", "notes", "all"] {
        for args in [
            &["stats", "--detail"][..],
            &["ls"],
            &["show", &name],
            &["get", &name],
            &["namespaces"],
            &["verify"],
            &["mark"],
            &["prune", "--max-entries", "3", "--dry-run"],
            &["rebuild"],
            &["gc"],
            &["verify", "--repair"],
            &["prune", "--max-entries", "3"],
            &["remove", &name],
            &["clear"],
            &["put", &name, "file"],
        ] {
            let place = Place::with_entries(10);
            std::fs::write(place.path("file"), "x").unwrap();
            place.text(&["mark", "a"]);
            let base = place.cache_dir().join("v1");
            for part in ["index", "packs", "objects", "notes"] {
                if damage == part || damage == "all" {
                    let path = base.join(part);
                    std::fs::remove_file(&path)
                        .or_else(|_| std::fs::remove_dir_all(&path))
                        .ok();
                    std::fs::write(&path, "nothing").unwrap();
                }
            }
            let done = place.keepwarm(args).output().unwrap();
            let code = done.status.code().unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(
                code <= 1 && !said.contains("panicked"),
                "{damage}: {args:?}: {said}"
            );
            if args[0] == "get" && code == 0 {
                assert_eq!(done.stdout, content(3), "{damage}");
            }
        }
    }
}

#[test]
fn rebuild_finds_everything_again() {
    let place = Place::with_entries(20);
    let report = place.json(&["rebuild"]);
    assert_eq!(
        (&report["entries_before"], &report["entries"]),
        (&20.into(), &20.into())
    );
    std::fs::remove_file(place.cache_dir().join("v1/index")).unwrap();
    assert_eq!(count(&place), 20, "a reader walks the packs");
    assert_eq!(place.text(&["rebuild"]), "the index leads to 20 entries\n");
    assert_eq!(place.json(&["ls"]).as_array().unwrap().len(), 20);
}

#[test]
fn clear_throws_everything_away_or_a_namespace() {
    let place = old();
    place.text(&["mark", "stays"]);
    assert_eq!(place.json(&["clear", "--namespace", "even"])["entries"], 5);
    assert_eq!(count(&place), 5);
    let text = place.text(&["clear"]);
    assert!(
        text.starts_with("removed 5 entries\non disk 0 B, before "),
        "{text}"
    );
    assert_eq!(count(&place), 0);
    assert_eq!(place.json(&["mark"])[0]["name"], "stays");
}

#[test]
fn remove_removes_what_is_there_and_tells_what_is_not() {
    let place = Place::with_entries(10);
    let [one, two, three] = [1, 2, 3].map(|n| key(n).to_string());
    assert_eq!(
        place.text(&["remove", &one[..12], &one]),
        format!("{one}\n")
    );
    let absent = key(99).to_string();
    let done = place.keepwarm(&["remove", &absent, &two]).assert().code(1);
    let said = predicate::str::contains(format!("no entry has the key {absent}"));
    done.stdout(format!("{two}\n")).stderr(said);
    let report = place.json(&["remove", &three]);
    assert_eq!(
        (
            &report["removed"][0],
            report["missing"].as_array().unwrap().len()
        ),
        (&three.into(), 0)
    );
    assert_eq!(count(&place), 7);
    place.error(2, &["remove"]);
}

#[test]
fn what_changes_something_is_refused_in_read_only_mode_and_changes_nothing() {
    let place = Place::with_entries(5);
    let name = key(1).to_string();
    for args in [
        &["gc"][..],
        &["prune", "--max-size", "0"],
        &["verify", "--repair"],
        &["rebuild"],
        &["clear"],
        &["remove", &name],
        &["mark", "a"],
        &["stats", "--zero"],
    ] {
        let said = predicate::str::contains("KEEPWARM_MODE=read-only");
        let mut command = place.keepwarm(args);
        command.env("KEEPWARM_MODE", "read-only");
        command.assert().code(1).stdout("").stderr(said);
    }
    for args in [
        &["stats"][..],
        &["ls"],
        &["show", &name],
        &["get", &name],
        &["namespaces"],
        &["verify"],
        &["mark"],
        &["prune", "--max-size", "0", "--dry-run"],
    ] {
        let mut command = place.keepwarm(args);
        command
            .env("KEEPWARM_MODE", "read-only")
            .assert()
            .success()
            .stderr("");
    }
    assert_eq!(count(&place), 5);
}

#[test]
fn while_others_write_every_sub_command_works_and_they_notice_nothing() {
    let place = Place::with_entries(50);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let cache = Cache::builder()
        .memory_budget(0)
        .open(place.cache_dir())
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (stop, cache) = (&stop, &cache);
            scope.spawn(move || {
                for n in (0..).map(|n| 100 + thread * 500 + n % 500) {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    cache.put(&key(n), content(n));
                    let got = cache.get(&key(n));
                    assert!(got.is_none_or(|got| got[..] == content(n)), "{n}");
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
        }
        let end = StopAtEnd(&stop);
        let name = key(1).to_string();
        for args in [
            &["stats", "--detail"][..],
            &["ls", "--sort", "size"],
            &["show", &name],
            &["namespaces"],
            &["verify"],
            &["mark", "live"],
            &["stats", "--since", "live"],
            &["prune", "--unused-since", "live"],
            &["verify", "--repair"],
            &["rebuild"],
            &["gc"],
            &["clear"],
            &["prune", "--max-entries", "20"],
            &["verify"],
        ] {
            place.json(args);
        }
        drop(end);
    });
    assert_eq!(cache.disk().unwrap().stats().corrupt, 0);
    cache.close().unwrap();
    assert_eq!(place.json(&["verify"])["sound"], true);
}

struct StopAtEnd<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn completions_and_manual_pages_are_made_of_every_sub_command() {
    let place = Place::empty();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = place.text(&["completions", shell]);
        assert!(
            script.contains("--unused-since") || script.contains("unused-since"),
            "{shell}"
        );
    }
    place.error(2, &["completions", "tcsh"]);
    let page = place.text(&["man"]);
    assert!(
        page.contains(".TH keepwarm 1") && page.contains("verify"),
        "{page}"
    );
    place.text(&["man", "-o", "pages"]);
    for name in ["keepwarm", "keepwarm-ls", "keepwarm-prune", "keepwarm-man"] {
        assert!(place.path(&format!("pages/{name}.1")).is_file(), "{name}");
    }
    let said = place.error(1, &["man", "-o", "pages/keepwarm.1"]);
    assert!(said.contains("could not write manual pages"), "{said}");
}

#[test]
fn what_is_foreign_is_left_to_hands_and_no_repair_is_promised() {
    let place = Place::with_entries(2);
    std::fs::write(place.cache_dir().join("v1/packs/README"), "mine").unwrap();
    for args in [&["verify"][..], &["verify", "--repair"]] {
        let done = place.keepwarm(args).assert().code(1);
        let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
        assert!(text.contains("only be removed by hand"), "{text}");
        assert!(!text.contains("puts right"), "{text}");
    }
    std::fs::remove_file(place.cache_dir().join("v1/packs/README")).unwrap();
    place.keepwarm(&["verify"]).assert().code(0);
}
