//! `report`: the page, and the same as JSON.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "support/html.rs"]
mod html;
#[path = "support/lived_in.rs"]
mod lived_in;
mod support;

use html::Page;
use lived_in::{HOSTILE, lived_in};
use serde_json::Value;
use std::path::Path;
use support::{Place, bare_keepwarm, content, damage, key};

fn page(place: &Place) -> Page {
    Page::parse(&place.text(&["report", "-o", "-"]))
}

fn data(place: &Place) -> Value {
    place.json(&["report"])
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_else() {
    for place in [lived_in(), Place::with_entries(0), Place::with_entries(1)] {
        let html = place.text(&["report", "-o", "-"]);
        let page = Page::parse(&html);
        assert_eq!(page.errors, Vec::<String>::new());
        for name in [
            "script",
            "link",
            "iframe",
            "object",
            "embed",
            "img",
            "image",
            "a",
            "use",
            "base",
            "form",
            "foreignObject",
            "video",
            "audio",
            "source",
        ] {
            assert_eq!(page.count(name), 0, "{name}");
        }
        assert_eq!(page.count("style"), 1);
        for (element, attribute, value) in page.attributes() {
            assert!(!attribute.starts_with("on"), "{element} {attribute}");
            assert!(
                !["src", "href", "style", "srcset", "action", "data", "srcdoc"]
                    .contains(&attribute),
                "{element} {attribute}={value}"
            );
        }
        for part in ["http:", "https:", "://", "@import", "url(", "javascript:"] {
            assert!(!html.contains(part), "{part}");
        }
        let policy = page.policy();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        // What a label or a description names is there, once.
        let ids = page.values("id");
        for id in page.values("for") {
            assert_eq!(ids.iter().filter(|other| **other == id).count(), 1, "{id}");
        }
    }
}

#[test]
fn what_came_from_the_directory_is_text_wherever_it_stands() {
    let place = lived_in();
    let hostile = place.path("<img src=x onerror=alert(1)> & \"{{entries}}\"");
    std::fs::rename(place.cache_dir(), &hostile).unwrap();
    let run = |args: &[&str]| {
        let done = bare_keepwarm()
            .arg("-C")
            .arg(&hostile)
            .args(args)
            .assert()
            .success();
        String::from_utf8(done.get_output().stdout.clone()).unwrap()
    };
    let page = Page::parse(&run(&["report", "-o", "-"]));
    assert_eq!(page.errors, Vec::<String>::new());
    assert_eq!((page.count("script"), page.count("img")), (0, 0));
    let name = "</bdi></td><script>alert(1)</script><img src=//x.y onerror=alert(1)>&amp;\"' ";
    let named = page
        .texts("bdi")
        .iter()
        .filter(|text| text.starts_with(name))
        .count();
    assert!(named >= 1, "{:?}", page.texts("bdi"));
    assert!(
        page.texts("title").iter().any(|text| text.contains(name)),
        "in the treemap"
    );
    assert!(page.texts("h1")[0].ends_with("<img src=x onerror=alert(1)> & \"{{entries}}\""));
    // Control and bidi characters are named, what no document may hold is replaced.
    let told = page.texts("title");
    let tail = "\\u{1b}\\u{202e}\u{fffd}";
    assert!(told.iter().any(|text| text.contains(tail)), "{told:?}");
    let json: Value = serde_json::from_str(&run(&["report", "--format", "json"])).unwrap();
    let names = json["namespaces"].as_array().unwrap().iter();
    assert!(
        names
            .map(|space| &space["name"])
            .any(|name| name == HOSTILE),
        "whole in JSON"
    );
}

#[test]
fn the_numbers_are_those_of_stats() {
    let place = lived_in();
    let (stats, data) = (place.json(&["stats", "--detail"]), data(&place));
    for name in [
        "directory",
        "mode",
        "rebuilding",
        "max_size",
        "disk_bytes",
        "entries",
        "since",
        "counters",
    ] {
        assert_eq!(stats[name], data[name], "{name}");
    }
    for name in ["entries", "artifact_bytes", "dead_bytes", "build_nanos"] {
        assert_eq!(stats["detail"][name], data["content"][name], "{name}");
    }
    for name in ["inline", "objects", "shared"] {
        assert_eq!(
            stats["detail"][name]["entries"],
            data["content"][name]["entries"]
        );
    }
    for histogram in ["sizes", "ages", "unused"] {
        let buckets = data[histogram].as_array().unwrap().iter();
        let sum: u64 = buckets
            .map(|bucket| bucket["entries"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, stats["entries"], "{histogram}");
    }
    let spaces = place.json(&["namespaces"]);
    for (listed, told) in spaces
        .as_array()
        .unwrap()
        .iter()
        .zip(data["namespaces"].as_array().unwrap())
    {
        for name in [
            "name",
            "id",
            "entries",
            "bytes",
            "disk_bytes",
            "build_nanos",
        ] {
            assert_eq!(listed[name], told[name], "{name}");
        }
    }
    let largest = data["largest"][0]["key"].as_str().unwrap();
    assert_eq!(largest, key(1000).to_string());
}

#[test]
fn the_page_says_the_numbers_of_stats() {
    let place = lived_in();
    let (data, page) = (data(&place), page(&place));
    let text = place.text(&["stats"]);
    let shown = page.rows();
    for line in text.lines().skip(4) {
        let (what, value) = line.split_once("  ").unwrap();
        let row = vec![what.to_owned(), value.trim().to_owned()];
        assert!(shown.contains(&row), "{row:?}");
    }
    let rate = data["counters"]["hit_rate_ppm"].as_u64().unwrap();
    let rate = format!("{}.{} %", rate / 10_000, rate / 1_000 % 10);
    assert_eq!(page.by_id("hit-rate"), rate);
    assert_eq!(page.by_id("entries"), data["entries"].to_string());
}

#[test]
fn the_history_is_what_was_done_over_time() {
    let place = Place::with_entries(3);
    assert_eq!(data(&place)["history"], Value::Array(Vec::new()));
    let young = page(&place);
    assert!(
        young
            .texts("p")
            .iter()
            .any(|text| text.contains("no history yet"))
    );

    let place = lived_in();
    let history = data(&place)["history"].clone();
    let history = history.as_array().unwrap();
    assert!(history.len() >= 2, "{history:?}");
    let sum = |name: &str| {
        history
            .iter()
            .map(|i| i[name].as_u64().unwrap())
            .sum::<u64>()
    };
    // It begins with the first sample, taken in the second of three rounds or at its end.
    assert!(sum("misses") >= 20 && (20..60).contains(&sum("memory_hits")));
    assert!(
        history
            .iter()
            .all(|i| i["from"].as_str().unwrap() <= i["to"].as_str().unwrap())
    );
    let last = history.last().unwrap();
    assert_eq!(last["entries"], data(&place)["entries"]);
    let page = page(&place);
    assert!(
        page.texts("summary")
            .iter()
            .any(|text| text == "The numbers")
    );
    assert!(page.count("polyline") >= 2);
    // One chart for each screen, each with words for who does not see it.
    let charts = page.values("aria-label");
    assert!(
        charts
            .iter()
            .filter(|label| label.starts_with("Hit rate, requests"))
            .count()
            >= 2
    );
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let place = Place::with_entries(2);
    std::fs::write(place.path("report.html"), "old").unwrap();
    assert_eq!(place.text(&["report", "-o", "report.html"]), "");
    let written = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(written.starts_with("<!DOCTYPE html>") && written.ends_with("</html>\n"));
    let beside = std::fs::read_dir(place.path(".")).unwrap().count();
    assert_eq!(beside, 2, "the cache and the page");

    let said = place.error(1, &["report", "-o", "nowhere/report.html"]);
    assert!(
        said.contains("could not write nowhere/report.html"),
        "{said}"
    );
    let said = place.error(2, &["report"]);
    assert!(said.contains("-o report.html"), "{said}");
    let said = place.error(2, &["--format", "json", "report", "-o", "-"]);
    assert!(said.contains("standard output is for the JSON"), "{said}");
    // Both at once.
    let json = place.json(&["report", "-o", "both.html"]);
    assert_eq!(json["entries"], 2);
    assert!(place.path("both.html").exists());
}

#[test]
fn a_directory_that_may_only_be_read_is_not_changed() {
    let place = lived_in();
    let before = files(&place.cache_dir());
    let mut command = place.keepwarm(&["report", "-o", "-"]);
    let done = command.env("KEEPWARM_MODE", "read-only").assert().success();
    let html = String::from_utf8(done.get_output().stdout.clone()).unwrap();
    assert_eq!(
        Page::parse(&html).by_id("entries"),
        data(&place)["entries"].to_string()
    );
    assert_eq!(files(&place.cache_dir()), before);
}

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn an_empty_and_a_damaged_directory_have_a_page_too() {
    let page_of_empty = page(&Place::with_entries(0));
    assert!(
        page_of_empty
            .texts("p")
            .iter()
            .any(|text| text.contains("Nothing is cached here yet"))
    );
    for part in ["packs/", "index", "history", "objects/"] {
        let place = lived_in();
        assert!(damage(&place.cache_dir(), part) > 0, "{part}");
        let page = page(&place);
        assert_eq!(page.errors, Vec::<String>::new(), "{part}");
        assert!(data(&place)["content"]["entries"].is_u64(), "{part}");
    }
    // Whole files of nonsense.
    for (name, bytes) in [("history", vec![0xff; 90_000]), ("index", vec![0x55; 8192])] {
        let place = lived_in();
        std::fs::write(place.cache_dir().join("v1").join(name), bytes).unwrap();
        let page = page(&place);
        assert_eq!(page.errors, Vec::<String>::new(), "{name}");
        assert!(
            data(&place)["content"]["entries"].as_u64().unwrap() > 20,
            "{name}"
        );
    }
    // What was found damaged is told.
    let place = Place::with_entries(3);
    damage(&place.cache_dir(), "packs/");
    let cache = place.cache();
    for n in 0..3 {
        cache.get(&key(n));
    }
    cache.close().unwrap();
    let corrupt = data(&place)["counters"]["corrupt"].as_u64().unwrap();
    assert!(corrupt > 0);
    let page = page(&place);
    let told = page.texts("p");
    assert!(told.iter().any(|text| text.contains("found damaged")));
}

#[test]
fn a_directory_in_use_has_a_page_at_any_moment() {
    let place = Place::with_entries(10);
    let cache = place.cache();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                cache.put(&key(n % 500), content(n % 700));
                cache.remove(&key((n + 250) % 500)).unwrap();
                n += 1;
            }
        });
        for _ in 0..5 {
            assert_eq!(page(&place).errors, Vec::<String>::new());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_hundred_thousand_entries_make_no_larger_page() {
    let place = Place::empty();
    let cache = place.cache();
    for n in 0..100_000_u64 {
        let space = cache.namespace(&format!("tenant {}", n % 1000));
        space.put(
            &key(n),
            n.to_le_bytes().repeat(1 + usize::try_from(n % 5).unwrap()),
        );
    }
    cache.close().unwrap();
    let html = place.text(&["report", "-o", "-"]);
    assert!(html.len() < 300_000, "{}", html.len());
    let json = data(&place);
    assert_eq!(json["content"]["entries"], 100_000);
    let (told, others) = (
        json["namespaces"].as_array().unwrap(),
        &json["other_namespaces"],
    );
    assert_eq!(
        told.len() as u64 + others["namespaces"].as_u64().unwrap(),
        1000
    );
    let entries = told.iter().map(|space| space["entries"].as_u64().unwrap());
    let entries = entries.sum::<u64>() + others["entries"].as_u64().unwrap();
    assert_eq!(entries, 100_000);
    assert!(json["largest"].as_array().unwrap().len() <= 100);
    let page = Page::parse(&html);
    assert_eq!(page.errors, Vec::<String>::new());
    assert!(
        page.texts("title")
            .iter()
            .any(|text| text.starts_with("988 more namespaces"))
    );
}
