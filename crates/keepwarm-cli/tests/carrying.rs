//! `export` and `import`.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "support/archives.rs"]
mod archives;
mod support;

use archives::members;
use keepwarm::{Artifact, DiskStore, Entry, Store as _};
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use support::{Place, content, key};

const HOUR: Duration = Duration::from_secs(3600);

fn put(store: &DiskStore, n: u64, bytes: Vec<u8>, hours: u32) {
    let at = SystemTime::now() - HOUR * hours;
    let entry = Entry::from(bytes).with_put_at(at);
    let outcome = store.put_used_at(&key(n), entry, at).unwrap();
    assert!(!outcome.is_rejected());
}

/// Artifacts of every kind: small, empty, large, shared ones of both sizes, in namespaces, with costs;
/// the n-th put n + 1 hours ago and used half an hour later.
fn varied() -> Place {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let bytes = [
        content(0),
        Vec::new(),
        large.clone(),
        content(3),
        content(3),
        large,
        content(6),
    ];
    for (n, bytes) in (0..).zip(bytes) {
        let put_at = SystemTime::now() - HOUR * (n + 1);
        let mut entry = Entry::from(bytes).with_put_at(put_at);
        if n % 2 == 0 {
            let name = format!("driver \u{e9} {}", n % 3);
            entry.namespace = store.register_namespace(&name).unwrap();
        }
        entry.build_cost = Duration::from_micros(u64::from(n) * 1001);
        let used = put_at + HOUR / 2;
        let outcome = store.put_used_at(&key(n.into()), entry, used).unwrap();
        assert!(!outcome.is_rejected());
    }
    store.flush().unwrap();
    place
}

/// All facts of all entries but how they lie on disk, by key.
fn facts(place: &Place) -> Vec<Value> {
    let listed = place.json(&["ls", "--sort", "key"]);
    let mut all = listed.as_array().unwrap().clone();
    for entry in &mut all {
        for name in ["disk_bytes", "stored_as"] {
            entry.as_object_mut().unwrap().remove(name).unwrap();
        }
    }
    all
}

fn ci_key(place: &Place) -> String {
    place.text(&["ci", "key"])
}

/// Brings an archive into a place, from a file of that place.
fn import(place: &Place, archive: &[u8], args: &[&str]) -> Value {
    std::fs::write(place.path("in"), archive).unwrap();
    let mut all = vec!["import", "in"];
    all.extend(args);
    place.json(&all)
}

fn export(place: &Place, args: &[&str]) -> Vec<u8> {
    let mut all = vec!["export", "out"];
    all.extend(args);
    place.text(&all);
    std::fs::read(place.path("out")).unwrap()
}

#[test]
fn what_is_exported_and_imported_is_the_same_live_set() {
    let (from, to) = (varied(), Place::empty());
    let archive = export(&from, &[]);
    let report = import(&to, &archive, &[]);
    assert_eq!(
        (&report["entries"], &report["added"]),
        (&7.into(), &7.into())
    );
    assert_eq!(report["complete"], true);
    assert_eq!(ci_key(&to), ci_key(&from));
    let all = facts(&from);
    assert_eq!(
        facts(&to),
        all,
        "namespaces, costs, ages and last uses are kept"
    );
    assert!(
        all.iter().any(|e| e["namespace"] == "driver \u{e9} 0"),
        "{all:?}"
    );
    assert_eq!(to.json(&["verify"])["sound"], true);
    for n in 0..7 {
        let get = ["get", &key(n).to_string()];
        let bytes = |place: &Place| {
            let mut command = place.keepwarm(&get);
            // So that it is no use.
            command.env("KEEPWARM_MODE", "read-only");
            command.assert().success().get_output().stdout.clone()
        };
        assert_eq!(bytes(&to), bytes(&from));
    }
    // Equal bytes are stored once there too, and carried once.
    let stats = to.json(&["stats", "--detail"]);
    let objects = stats["detail"]["objects"]["entries"].as_u64().unwrap();
    assert_eq!(objects, 2);
    assert!(stats["disk_bytes"].as_u64().unwrap() < 1_300_000, "{stats}");
    let names: Vec<_> = members(&archive)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let contents = names.iter().filter(|name| name.starts_with("content/"));
    assert_eq!(contents.count(), 5);
    assert_eq!(names.iter().filter(|n| n.starts_with("entry/")).count(), 7);
    assert_eq!(names[0], "keepwarm-archive.json");
    assert_eq!(names.last().unwrap(), "end.json");
    // Again, and nothing changes.
    let report = import(&to, &archive, &[]);
    assert_eq!(
        (&report["added"], &report["already_there"]),
        (&0.into(), &7.into())
    );
    assert_eq!(facts(&to), all);
}

#[test]
fn equal_entries_give_equal_bytes() {
    let (from, to) = (varied(), Place::empty());
    let archive = export(&from, &[]);
    assert_eq!(export(&from, &[]), archive, "an export is no use");
    let unused = export(&from, &["--without-uses"]);
    import(&to, &archive, &[]);
    assert_eq!(export(&to, &[]), archive, "in another directory too");
    // Neither what was put first nor where it lies counts.
    from.text(&["gc"]);
    from.text(&["rebuild"]);
    assert_eq!(export(&from, &["--without-uses"]), unused);
    let before = ci_key(&to);
    to.keepwarm(&["get", &key(0).to_string()])
        .assert()
        .success();
    assert_ne!(export(&to, &[]), archive, "when it was used is carried");
    assert_eq!(export(&to, &["--without-uses"]), unused);
    assert_eq!(ci_key(&to), before, "and is no part of what there is");
    to.text(&["remove", &key(0).to_string()]);
    assert_ne!(export(&to, &["--without-uses"]), unused);
    // Without its last use an entry counts as used when it was put.
    let late = Place::empty();
    import(&late, &unused, &[]);
    for entry in facts(&late) {
        let (put, used) = (entry["put_at"].clone(), entry["last_used"].clone());
        assert_eq!(put, used, "{entry}");
    }
}

#[test]
fn other_programs_can_take_an_archive_apart() {
    let from = varied();
    let archive = export(&from, &[]);
    for (name, bytes) in members(&archive) {
        if let Some(digest) = name.strip_prefix("content/") {
            assert_eq!(Artifact::from(bytes).digest().to_string(), digest);
        } else {
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert!(value.is_object(), "{name}");
        }
    }
    let tar = archives::decompress(&archive);
    let mut tar = tar::Archive::new(&tar[..]);
    for member in tar.entries().unwrap() {
        let member = member.unwrap();
        let header = member.header();
        let facts = (
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
        );
        assert_eq!(facts, (0o644, 0, 0, 0));
    }
}

#[test]
fn only_what_was_used_last_or_is_in_a_namespace_is_exported() {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    for n in 0..10 {
        // The 3rd is too large for what is left when its turn comes; two have the same bytes.
        let bytes = match n {
            3 => vec![3; 5000],
            5 => vec![4; 1000],
            n => vec![u8::try_from(n).unwrap(); 1000],
        };
        put(&store, n, bytes, u32::try_from(n).unwrap() + 1);
    }
    drop(store);
    let report = place.json(&["export", "out", "--recent", "6000"]);
    assert_eq!(
        (&report["entries"], &report["contents"]),
        (&7.into(), &6.into())
    );
    assert_eq!(
        (&report["left_out"], &report["bytes"]),
        (&3.into(), &6000.into())
    );
    let to = Place::empty();
    import(&to, &std::fs::read(place.path("out")).unwrap(), &[]);
    let cache = to.cache();
    let there: Vec<_> = (0..10).filter(|n| cache.get(&key(*n)).is_some()).collect();
    assert_eq!(there, [0, 1, 2, 4, 5, 6, 7]);
    assert_eq!(
        place.json(&["export", "out", "--recent", "0"])["entries"],
        0
    );
    let text = place.text(&["export", "out", "--recent", "2000"]);
    assert!(
        text.contains("exported 2 entries of 1.95 KiB to out"),
        "{text}"
    );
    assert!(text.contains("left out 8 entries"), "{text}");

    let from = varied();
    let one = ["--namespace", "driver \u{e9} 0"];
    let both = [&one[..], &["--namespace", "driver \u{e9} 2"]].concat();
    let count = |args: &[&str]| from.json(&[&["export", "out"], args].concat())["entries"].clone();
    assert_eq!((count(&one), count(&both)), (2.into(), 3.into()));
    assert_eq!(count(&["--namespace", "none"]), 0);
    let to = Place::empty();
    let report = import(&to, &export(&from, &[]), &one);
    assert_eq!(
        (&report["added"], &report["left_out"]),
        (&2.into(), &5.into())
    );
    let text = to.text(&["import", "in", "--namespace", "none"]);
    assert_eq!(
        text,
        "brought in 0 entries of 0 B\n7 of other namespaces left out\n"
    );
}

#[test]
fn of_two_entries_of_a_key_the_newer_one_stays() {
    let (old, new) = (Place::empty(), Place::empty());
    let fill = |place: &Place, n, hours| {
        let store = DiskStore::open(place.cache_dir()).unwrap();
        put(&store, 0, content(n), hours);
    };
    fill(&old, 1, 9);
    fill(&new, 2, 3);
    let (old_archive, new_archive) = (export(&old, &[]), export(&new, &[]));
    let report = import(&new, &old_archive, &[]);
    assert_eq!((&report["older"], &report["added"]), (&1.into(), &0.into()));
    assert_eq!(new.cache().get(&key(0)).unwrap()[..], content(2));
    let text = new.text(&["import", "in"]);
    assert!(
        text.contains("1 older than what is there, which stays"),
        "{text}"
    );
    let report = import(&old, &new_archive, &[]);
    assert_eq!(
        (&report["replaced"], &report["older"]),
        (&1.into(), &0.into())
    );
    assert_eq!(old.cache().get(&key(0)).unwrap()[..], content(2));
    let report = import(&old, &old_archive, &["--overwrite"]);
    assert_eq!(report["replaced"], 1);
    assert_eq!(old.cache().get(&key(0)).unwrap()[..], content(1));
}

#[test]
fn an_import_heals_what_is_damaged() {
    let place = Place::with_entries(1);
    let archive = export(&place, &[]);
    assert_eq!(support::damage(&place.cache_dir(), "packs"), 1);
    let report = import(&place, &archive, &[]);
    assert_eq!(
        (&report["added"], &report["damaged"]),
        (&1.into(), &0.into())
    );
    assert_eq!(place.cache().get(&key(0)).unwrap()[..], content(0));
}

#[test]
fn what_is_damaged_is_left_out_and_told() {
    let place = Place::with_entries(1);
    std::fs::create_dir(place.path("other")).unwrap();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    put(&store, 7, vec![7; 400_000], 1);
    drop(store);
    assert!(support::damage(&place.cache_dir(), "objects") == 1);
    let done = place.keepwarm(&["export", "out"]).assert().code(1);
    let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(
        said.contains(&format!("{} is damaged, and left out", key(7))),
        "{said}"
    );
    assert!(said.contains("keepwarm verify --repair"), "{said}");
    let to = Place::empty();
    let report = import(&to, &std::fs::read(place.path("out")).unwrap(), &[]);
    assert_eq!(
        (&report["added"], &report["complete"]),
        (&1.into(), &true.into())
    );
}

#[test]
fn an_archive_goes_through_a_pipe() {
    let (from, to) = (varied(), Place::empty());
    let done = from
        .keepwarm(&["export", "-"])
        .assert()
        .success()
        .stderr("");
    let archive = done.get_output().stdout.clone();
    assert_eq!(archive, export(&from, &[]), "the same as in a file");
    let mut command = to.keepwarm(&["import", "-"]);
    let text = command.write_stdin(archive).assert().success().stderr("");
    let text = String::from_utf8_lossy(&text.get_output().stdout).into_owned();
    assert!(
        text.starts_with("brought in 7 entries of 2.29 MiB"),
        "{text}"
    );
    assert_eq!(ci_key(&to), ci_key(&from));
    let said = from.error(2, &["export", "-", "--format", "json"]);
    assert!(said.contains("needs a FILE"), "{said}");
    let mut command = to.keepwarm(&["import", "-"]);
    let done = command.write_stdin("nonsense").assert().code(1);
    let said = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
    assert!(said.contains("standard input is no archive"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_no_archive() {
    let place = Place::with_entries(1);
    let program = assert_cmd::cargo::cargo_bin!("keepwarm");
    let line = format!(
        "{} -C {} export -",
        program.display(),
        place.cache_dir().display()
    );
    let mut script = Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null());
    let Ok(done) = script.output() else {
        eprintln!("!!! SKIPPED an archive for a terminal: there is no `script` here");
        return;
    };
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(
        said.contains("nothing for a terminal") && said.contains("> FILE"),
        "{said}"
    );
}

#[test]
fn who_stops_reading_an_archive_causes_no_error() {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    // Nothing that compression makes smaller than a pipe.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(4 << 20)
    .collect();
    put(&store, 0, noise, 1);
    drop(store);
    place.stops_reading(&["export", "-"]);
}
