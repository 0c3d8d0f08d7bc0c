//! Archives as files, and caches that others write to, or that may not be changed.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use predicates::prelude::*;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Place, content, key};

fn names(place: &Place) -> Vec<String> {
    let names = std::fs::read_dir(place.path(".")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn an_archive_is_there_whole_or_not_at_all() {
    let place = Place::with_entries(3);
    std::fs::write(place.path("out"), "before").unwrap();
    place.text(&["export", "out"]);
    assert!(std::fs::read(place.path("out")).unwrap().len() > 100);
    let said = place.error(1, &["export", "no/such/folder"]);
    assert!(said.contains("could not write no/such/folder"), "{said}");
    let said = place.error(1, &["import", "absent"]);
    assert!(said.contains("could not read absent"), "{said}");
    let null = if cfg!(windows) { "NUL" } else { "/dev/null" };
    place.text(&["export", null]);
    assert_eq!(names(&place), ["cache", "out"]);
    // What cannot be read leaves the archive of before.
    let before = std::fs::read(place.path("out")).unwrap();
    std::fs::remove_dir_all(place.cache_dir()).unwrap();
    place.error(1, &["export", "out"]);
    place.error(1, &["import", "absent"]);
    assert!(!place.cache_dir().exists());
    place
        .keepwarm(&["export", "out", "--recent", "much"])
        .assert()
        .code(2);
    assert_eq!(std::fs::read(place.path("out")).unwrap(), before);
}

#[test]
#[cfg(unix)]
fn an_archive_has_the_modes_of_any_other_file_and_goes_through_a_link() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::with_entries(1);
    std::fs::write(place.path("new"), "").unwrap();
    std::fs::write(place.path("target"), "").unwrap();
    std::os::unix::fs::symlink("target", place.path("link")).unwrap();
    place.text(&["export", "out"]);
    place.text(&["export", "link"]);
    let mode = |name: &str| place.path(name).metadata().unwrap().permissions().mode();
    assert_eq!(mode("out"), mode("new"));
    assert!(place.path("link").is_symlink());
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert_eq!(read("target"), read("out"));
}

/// What Ctrl-C sends; where whoever runs the tests in the background has that ignored, and so all that
/// is started from there, the signal that is handled alike.
#[cfg(unix)]
fn interrupting() -> rustix::process::Signal {
    use rustix::process::Signal;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    if ignored >> (Signal::INT.as_raw() - 1) & 1 == 1 {
        return Signal::TERM;
    }
    Signal::INT
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_no_half_archive_and_a_whole_cache() {
    let place = Place::empty();
    let cache = place.cache();
    let mut state = 1_u64;
    for n in 0..24 {
        // Not to be compressed: it takes a while.
        let bytes = (0..1 << 17).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        cache.put(&key(n), bytes.collect::<Vec<u8>>());
    }
    cache.close().unwrap();
    let to = Place::empty();
    place.text(&["export", "whole"]);
    let start = |place: &Place, args: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("keepwarm"));
        command.arg("-C").arg(place.cache_dir()).args(args);
        command.current_dir(place.path("."));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.env_remove("KEEPWARM_MODE");
        command.env_remove("KEEPWARM_MAX_SIZE").spawn().unwrap()
    };
    let interrupt = |mut child: std::process::Child, after: u64| {
        // Each time at another moment.
        std::thread::sleep(std::time::Duration::from_millis(after));
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, interrupting()).unwrap();
        !child.wait().unwrap().success()
    };
    let archive = place.path("whole").display().to_string();
    let mut interrupted = 0;
    for round in 0..15 {
        interrupted += u32::from(interrupt(start(&place, &["export", "out"]), round * 4));
        if place.path("out").exists() {
            let (whole, out) = (place.path("whole"), place.path("out"));
            assert!(std::fs::read(&whole).unwrap() == std::fs::read(&out).unwrap());
            std::fs::remove_file(out).unwrap();
        }
        assert_eq!(names(&place), ["cache", "whole"]);
        interrupted += u32::from(interrupt(start(&to, &["import", &archive]), round * 4));
    }
    assert!(interrupted > 0);
    to.text(&["import", &archive]);
    // Who is interrupted before it listens is killed, and may leave totals that the next pass
    // corrects, or a pack without a header.
    to.keepwarm(&["verify", "--repair"]).ok().ok();
    assert_eq!(to.json(&["verify"])["sound"], true);
    assert_eq!(to.text(&["ci", "key"]), place.text(&["ci", "key"]));
}

#[test]
fn export_and_import_beside_live_writers() {
    let (place, to) = (Place::with_entries(50), Place::with_entries(1));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2_u64 {
            let (place, to, done) = (&place, &to, &done);
            scope.spawn(move || {
                let caches = [place.cache(), to.cache()];
                for i in (0..100).cycle() {
                    let n = 100 + i;
                    for cache in &caches {
                        cache.put(&key(n), content(n + writer));
                        cache.remove(&key(100 + (i + 50) % 100)).unwrap();
                    }
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for round in 0..6 {
            let report = place.json(&["export", "out"]);
            assert_eq!(report["damaged"].as_array().unwrap().len(), 0, "{report}");
            let archive = place.path("out").display().to_string();
            let report = to.json(&["import", &archive]);
            assert_eq!(
                (&report["complete"], &report["damaged"]),
                (&true.into(), &0.into())
            );
            assert!(
                report["entries"].as_u64().unwrap() >= 50,
                "round {round}: {report}"
            );
        }
        done.store(true, Ordering::Relaxed);
    });
    let cache = to.cache();
    for n in 0..50 {
        assert_eq!(cache.get(&key(n)).unwrap()[..], content(n));
    }
    for n in 100..200 {
        // What one writer or the other put.
        let got = cache.get(&key(n)).map(|got| got.to_vec());
        assert!(got.is_none_or(|got| got == content(n) || got == content(n + 1)));
    }
    drop(cache);
    assert_eq!(to.json(&["verify"])["sound"], true);
}

#[test]
fn a_cache_that_is_only_read_is_exported_and_nothing_is_imported_into_it() {
    let place = Place::with_entries(3);
    place.text(&["export", "out"]);
    std::fs::rename(place.path("out"), place.path("in")).unwrap();
    let mut command = place.keepwarm(&["export", "out"]);
    command.env("KEEPWARM_MODE", "read-only").assert().success();
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert_eq!(read("in"), read("out"));
    let refused = predicate::str::contains("is not changed: KEEPWARM_MODE=read-only");
    for args in [&["import", "in"][..], &["merge", "cache"]] {
        let mut command = place.keepwarm(args);
        let done = command.env("KEEPWARM_MODE", "read-only").assert().code(1);
        done.stderr(refused.clone());
    }
}

#[test]
#[cfg(unix)]
fn a_cache_of_another_user_or_without_an_index_is_exported() {
    use std::os::unix::process::CommandExt as _;
    let place = Place::with_entries(20);
    let before = place.text(&["ci", "key"]);
    let mut open_up = Command::new("chmod");
    open_up.args(["-R", "a+rX"]).arg(place.path("."));
    assert!(open_up.status().unwrap().success());
    let program = place.path("keepwarm");
    // By another process: what this one writes may not be run while others are started.
    let mut copy = Command::new("cp");
    copy.arg(assert_cmd::cargo::cargo_bin!("keepwarm"))
        .arg(&program);
    assert!(copy.status().unwrap().success());
    let mut command = Command::new(&program);
    command
        .arg("-C")
        .arg(place.cache_dir())
        .args(["export", "-"]);
    command.uid(65_534).gid(65_534).stdin(Stdio::null());
    match command.output() {
        Ok(done) => {
            assert!(
                done.status.success(),
                "{}",
                String::from_utf8_lossy(&done.stderr)
            );
            let to = Place::empty();
            let mut import = to.keepwarm(&["import", "-"]);
            import.write_stdin(done.stdout).assert().success();
            assert_eq!(to.text(&["ci", "key"]), before);
        }
        Err(_) => eprintln!("!!! SKIPPED another user's export: cannot run as another user here"),
    }
    std::fs::remove_file(place.cache_dir().join("v1/index")).unwrap();
    assert_eq!(place.json(&["export", "out"])["entries"], 20);
    assert!(
        !place.cache_dir().join("v1/index").exists(),
        "only looked at"
    );
    assert_eq!(place.text(&["ci", "key"]), before);
}
