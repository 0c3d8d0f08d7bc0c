//! `stats`, `ls`.

mod support;

use support::{Place, content, key};

#[test]
fn stats_tell_what_is_there_and_what_was_used() {
    let place = Place::with_entries(5);
    let cache = place.cache();
    assert!(cache.get(&key(1)).is_some() && cache.get(&key(99)).is_none());
    cache.close().unwrap();
    let stats = place.json(&["stats"]);
    assert_eq!(stats["entries"], 5);
    assert_eq!(stats["max_size"], 5_u64 << 30);
    assert!(stats["disk_bytes"].as_u64().unwrap() > 1000);
    let counters = &stats["counters"];
    assert_eq!(
        (&counters["disk_hits"], &counters["misses"]),
        (&1.into(), &1.into())
    );
    let text = place.text(&["stats"]);
    assert!(
        text.contains("entries") && text.contains("of 5 GiB"),
        "{text}"
    );
}

#[test]
fn ls_lists_every_entry_once() {
    let place = Place::with_entries(40);
    let listed = place.json(&["ls"]);
    let mut keys: Vec<String> = Vec::new();
    for item in listed.as_array().unwrap() {
        keys.push(item["key"].as_str().unwrap().to_owned());
    }
    keys.sort();
    let mut expected: Vec<String> = (0..40).map(|n| key(n).to_string()).collect();
    expected.sort();
    assert_eq!(keys, expected);
    let one = place.json(&["ls", &key(7).to_string()[..16]]);
    assert_eq!(one[0]["length"], content(7).len());
    let text = place.text(&["ls", "--full-keys"]);
    assert_eq!(text.lines().count(), 41);
    assert!(text.contains(&key(7).to_string()), "{text}");
}
