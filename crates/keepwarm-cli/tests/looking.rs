//! `stats`, `ls`, `show`, `path`, `namespaces`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{DiskStore, Entry, Store};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use support::{Place, content, key};

fn keys(listed: &Value) -> Vec<String> {
    let items = listed.as_array().unwrap().iter();
    items
        .map(|item| item["key"].as_str().unwrap().to_owned())
        .collect()
}

/// Four entries of different size, age, cost and namespace.
fn mixed() -> Place {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    for (n, days, length, millis) in [
        (1, 4, 100, 30),
        (2, 3, 300_000, 10),
        (3, 2, 10, 40),
        (4, 1, 5000, 20),
    ] {
        // An hour more: ages are kept in whole seconds, and may come out a little shorter.
        let at = SystemTime::now() - Duration::from_secs(days * 24 * 3600 + 3600);
        let mut entry = Entry::from(vec![u8::try_from(n).unwrap(); length]).with_put_at(at);
        entry.build_cost = Duration::from_millis(millis);
        if n == 2 {
            entry.namespace = store.register_namespace("driver\u{1b}[31m").unwrap();
        }
        assert!(!store.put(&key(n), entry).unwrap().is_rejected());
    }
    for n in [3, 1, 3, 4, 3, 1] {
        assert!(store.get(&key(n)).unwrap().is_some());
    }
    store.flush().unwrap();
    place
}

#[test]
fn stats_tell_what_is_there_and_what_was_used() {
    let place = Place::with_entries(5);
    let cache = place.cache();
    assert!(cache.get(&key(1)).is_some() && cache.get(&key(1)).is_some());
    assert!(cache.get(&key(99)).is_none());
    let built = cache.get_or_insert_with(&key(50), || Ok::<_, std::io::Error>(content(1)));
    assert_eq!(built.unwrap()[..], content(1));
    cache.close().unwrap();
    let stats = place.json(&["stats"]);
    assert_eq!(
        (&stats["entries"], &stats["mode"]),
        (&6.into(), &"read-write".into())
    );
    assert_eq!(stats["max_size"], 5_u64 << 30);
    assert_eq!(
        stats["directory"],
        place.cache_dir().canonicalize().unwrap().to_str().unwrap()
    );
    assert!(stats["disk_bytes"].as_u64().unwrap() > 1000);
    let counters = &stats["counters"];
    for (name, value) in [
        ("disk_hits", 1),
        ("memory_hits", 1),
        ("puts", 6),
        ("builds", 1),
    ] {
        assert_eq!(counters[name], value, "{name}: {counters}");
    }
    assert_eq!(counters["deduplicated_bytes"], content(1).len());
    assert!(counters["misses"].as_u64().unwrap() >= 2);
    let text = place.text(&["stats"]);
    for part in [
        "hits in memory",
        "of 5 GiB (0.0 %)",
        "build time saved",
        "not stored twice",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let detail = &place.json(&["stats", "--detail"])["detail"];
    assert_eq!(
        (&detail["inline"]["entries"], &detail["shared"]["entries"]),
        (&5.into(), &1.into())
    );
    assert!(
        place
            .text(&["stats", "--detail"])
            .contains("stored already")
    );
}

#[test]
fn stats_count_from_a_mark_and_from_zero() {
    let place = Place::with_entries(5);
    place.text(&["mark", "job.1"]);
    let cache = place.cache();
    assert!(cache.get(&key(1)).is_some());
    cache.close().unwrap();
    assert_eq!(place.json(&["stats"])["counters"]["puts"], 5);
    let since = place.json(&["stats", "--since", "job.1"]);
    assert_eq!(
        (&since["counters"]["puts"], &since["counters"]["disk_hits"]),
        (&0.into(), &1.into())
    );
    assert!(since["since"].is_string());

    let done = place.keepwarm(&["stats", "--zero"]).assert().success();
    assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("zero now"));
    let stats = place.json(&["stats"]);
    assert_eq!(
        (&stats["counters"]["puts"], &stats["entries"]),
        (&0.into(), &5.into())
    );
    let done = place
        .keepwarm(&["stats", "--since", "job.1"])
        .assert()
        .success();
    assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("began anew"));

    let said = place.error(1, &["stats", "--since", "other"]);
    assert!(
        said.contains("no mark called other") && said.contains("keepwarm mark"),
        "{said}"
    );
    let said = place.error(2, &["stats", "--since", "../x"]);
    assert!(said.contains("no name of a mark"), "{said}");
    place.error(2, &["stats", "--since", "job.1", "--zero"]);
    place.error(2, &["stats", "--since", "job.1", "--format", "openmetrics"]);
}

#[test]
fn stats_are_openmetrics() {
    let place = Place::with_entries(3);
    let text = place.text(&["stats", "--format", "openmetrics"]);
    assert!(text.ends_with("# EOF\n"), "{text}");
    let line = |line: &str| text.lines().any(|other| other == line);
    assert!(
        line("keepwarm_entries 3") && line("keepwarm_puts_total 3"),
        "{text}"
    );
    assert!(line("# TYPE keepwarm_puts counter") && line("# UNIT keepwarm_disk_bytes bytes"));
    assert!(line("keepwarm_build_seconds_total 0.0"), "{text}");
}

#[test]
fn ls_lists_every_entry_once() {
    let place = Place::with_entries(40);
    let listed = place.json(&["ls", "--sort", "key"]);
    let mut expected: Vec<String> = (0..40).map(|n| key(n).to_string()).collect();
    expected.sort();
    assert_eq!(keys(&listed), expected);
    let one = place.json(&["ls", &key(7).to_string()[..16]]);
    assert_eq!(one[0]["length"], content(7).len());
    assert_eq!(keys(&one).len(), 1);
    let text = place.text(&["ls", "--full-keys"]);
    assert_eq!(text.lines().count(), 41);
    assert!(text.contains(&key(7).to_string()), "{text}");
    let said = place.error(2, &["ls", "xyz"]);
    assert!(said.contains("hexadecimal"), "{said}");
}

#[test]
fn ls_sorts_and_filters() {
    let place = mixed();
    let order = |args: &[&str]| {
        let mut all = vec!["ls"];
        all.extend(args);
        let number = |text: &String| (1..5).find(|n| key(*n).to_string() == *text).unwrap();
        keys(&place.json(&all))
            .iter()
            .map(number)
            .collect::<Vec<u64>>()
    };
    assert_eq!(order(&["--sort", "size"]), [2, 4, 1, 3]);
    assert_eq!(order(&["--sort", "age"]), [4, 3, 2, 1]);
    assert_eq!(order(&["--sort", "age", "--reverse"]), [1, 2, 3, 4]);
    assert_eq!(order(&["--sort", "cost", "-n", "2"]), [3, 1]);
    assert_eq!(order(&["--sort", "hits"]), [3, 1, 4, 2]);
    assert_eq!(order(&["--sort", "hits", "--reverse"]), [2, 4, 1, 3]);
    let used = place.json(&["ls", &key(3).to_string()]);
    assert_eq!(used[0]["hits"], 3, "listing is no use");
    assert_eq!(order(&["--older-than", "60h", "--sort", "age"]), [2, 1]);
    assert_eq!(order(&["--newer-than", "2d 12h", "--sort", "age"]), [4, 3]);
    assert_eq!(order(&["--min-size", "1k", "--sort", "size"]), [2, 4]);
    assert_eq!(order(&["--max-size", "100", "--sort", "size"]), [1, 3]);
    assert_eq!(order(&["--namespace", "driver\u{1b}[31m"]), [2]);
    assert!(order(&["--namespace", "other"]).is_empty());
    assert!(order(&["--unused-for", "1h"]).is_empty());
    place.error(2, &["ls", "--sort", "beauty"]);
    place.error(2, &["ls", "--older-than", "7"]);
    place.error(2, &["ls", "--min-size", "large"]);
    // A name that somebody chose does nothing to the terminal.
    let text = place.text(&["ls"]);
    assert!(
        !text.contains('\u{1b}') && text.contains("driver\\u{1b}[31m"),
        "{text}"
    );
    assert!(place.json(&["ls", "--sort", "size"])[0]["namespace"] == "driver\u{1b}[31m");
}

#[test]
fn show_tells_everything_of_an_entry() {
    let place = mixed();
    let name = key(2).to_string();
    let shown = place.json(&["show", &name[..10]]);
    assert_eq!(
        (&shown["key"], &shown["length"]),
        (&name.clone().into(), &300_000.into())
    );
    assert_eq!(
        (&shown["stored_as"], &shown["sound"]),
        (&"object".into(), &true.into())
    );
    assert_eq!(shown["build_nanos"], 10_000_000);
    let file = shown["file"].as_str().unwrap();
    assert_eq!(std::fs::read(file).unwrap(), vec![2; 300_000]);
    assert_eq!(place.text(&["path", &name]).trim(), file);
    let text = place.text(&["show", &name]);
    for part in [
        &name[..],
        "(300,000 bytes)",
        "10ms",
        "(3d ago)",
        "sound",
        file,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let said = place.error(1, &["show", &key(9).to_string()]);
    assert!(said.contains("no entry has the key"), "{said}");
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, vec![3; 300_000]).unwrap();
    let done = place.keepwarm(&["show", &name]).assert().code(1);
    assert!(String::from_utf8_lossy(&done.get_output().stdout).contains("damaged"));
    let said = place.error(1, &["path", &name]);
    assert!(
        said.contains("damaged") && said.contains("--repair"),
        "{said}"
    );
}

#[test]
fn digits_that_begin_several_keys_name_none() {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    for n in 0..7 {
        let mut bytes = [0xab; 32];
        bytes[31] = n;
        let key = keepwarm::Fingerprint::from_bytes(bytes);
        assert!(!store.put(&key, vec![n].into()).unwrap().is_rejected());
    }
    store.flush().unwrap();
    for args in [&["show", "abab"][..], &["get", "abab"], &["remove", "abab"]] {
        let said = place.error(1, args);
        assert!(
            said.contains("more than one key") && said.contains("..."),
            "{said}"
        );
        assert!(said.contains("Give more digits"), "{said}");
    }
    assert_eq!(place.json(&["stats"])["entries"], 7);
}

#[test]
fn path_tells_where_the_cache_is_or_would_be() {
    let place = Place::empty();
    assert_eq!(
        place.text(&["path"]).trim(),
        place.cache_dir().to_str().unwrap()
    );
    assert_eq!(place.json(&["path"])["exists"], false);
    drop(place.cache());
    assert_eq!(place.json(&["path"])["exists"], true);
    let place = Place::with_entries(1);
    let said = place.error(1, &["path", &key(0).to_string()]);
    assert!(
        said.contains("no file of its own") && said.contains("keepwarm get"),
        "{said}"
    );
}

#[test]
fn namespaces_are_summed_up_the_largest_first() {
    let place = mixed();
    let all = place.json(&["namespaces"]);
    assert_eq!(
        (&all[0]["name"], &all[0]["entries"]),
        (&"driver\u{1b}[31m".into(), &1.into())
    );
    assert_eq!(
        (&all[1]["name"], &all[1]["entries"]),
        (&Value::Null, &3.into())
    );
    assert_eq!(all[1]["bytes"], 5110);
    let text = place.text(&["namespaces"]);
    assert!(
        text.contains("driver\\u{1b}[31m") && text.lines().count() == 3,
        "{text}"
    );
}
