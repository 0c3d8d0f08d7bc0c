//! Builds once per machine: processes that miss the same artifact wait for the one that builds it.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{
    Artifact, Cache, CacheBuilder, DiskStore, ErrorKind, Fingerprint, Store as _, WritePolicy,
};
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};
use support::{bytes, child, key, role};

/// Longer than any of these tests may take: a wait that ends with its bound fails them.
const FOR_EVER: Duration = Duration::from_secs(20 * 60 * 60);
/// When a child that should have ended is given up.
const PATIENCE: Duration = Duration::from_secs(100);

/// The directory of the cache, beside which processes leave notes for one another.
fn root(dir: &Path) -> PathBuf {
    dir.join("cache")
}

fn builder(policy: &str) -> CacheBuilder {
    let policy = match policy {
        "eviction" => WritePolicy::OnEviction,
        _ => WritePolicy::OnInsert,
    };
    let builder = Cache::builder().memory_budget(1 << 20);
    builder.write_policy(policy).build_wait(FOR_EVER)
}

fn open(dir: &Path) -> Cache {
    builder("insert").open(root(dir)).unwrap()
}

fn content(n: u64) -> Vec<u8> {
    // In packs, and now and then in a file of its own.
    bytes(n, if n % 16 == 7 { 280_000 } else { 500 })
}

fn leases(dir: &Path) -> PathBuf {
    root(dir).join("v1").join("builds")
}

fn lease(dir: &Path, key: &Fingerprint) -> PathBuf {
    leases(dir).join(key.to_string())
}

/// What is in `builds/` for keys.
fn leases_left(dir: &Path) -> usize {
    let names = fs::read_dir(leases(dir)).unwrap();
    let is_lease = |name: &str| name.len() == 64;
    names
        .filter(|entry| is_lease(entry.as_ref().unwrap().file_name().to_str().unwrap()))
        .count()
}

/// Leaves a note that a key was built.
fn note(dir: &Path, n: u64) {
    static NOTES: AtomicUsize = AtomicUsize::new(0);
    let (process, note) = (std::process::id(), NOTES.fetch_add(1, SeqCst));
    fs::File::create_new(dir.join(format!("built {n} {process} {note}"))).unwrap();
}

/// How often a key was built, by all processes.
fn builds(dir: &Path, n: u64) -> usize {
    let start = format!("built {n} ");
    let names = fs::read_dir(dir).unwrap();
    names
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().starts_with(&start)
        })
        .count()
}

/// Builds `n` if it must, after `meanwhile`.
fn ask(cache: &Cache, dir: &Path, n: u64, meanwhile: impl FnOnce()) -> Artifact {
    let built = cache.get_or_insert_with(&key(n), || {
        note(dir, n);
        meanwhile();
        Ok::<_, ()>(content(n))
    });
    let artifact = built.unwrap();
    assert_eq!(artifact.to_vec(), content(n), "{n}");
    artifact
}

/// Tells the parent that this process came so far.
fn say(word: &str) {
    println!("\n{word}");
    std::io::stdout().flush().unwrap();
}

/// A child that does not outlive a test that fails.
struct Process(Child, BufReader<ChildStdout>);

impl Drop for Process {
    fn drop(&mut self) {
        // Dead already, if all went well.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Process {
    fn start(name: &str, role: &str, dir: &Path) -> Self {
        let mut child = child(name, role, dir);
        let says = BufReader::new(child.stdout.take().unwrap());
        Self(child, says)
    }

    /// Waits until it says `word`.
    fn hear(&mut self, word: &str) {
        let mut lines = self.1.by_ref().lines();
        assert!(
            lines.any(|line| line.unwrap() == word),
            "the child ended before it said {word}"
        );
    }

    fn end(mut self) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "a child failed: {status}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "a child waits for ever");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn set(dir: &Path, name: &str) {
    fs::write(dir.join(name), "").unwrap();
}

/// Waits for a note of another process.
fn until(dir: &Path, name: &str) {
    let start = Instant::now();
    while !dir.join(name).exists() {
        assert!(start.elapsed() < PATIENCE, "nobody left the note {name}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn processes_that_miss_the_same_keys_at_once_build_each_of_them_once() {
    const NAME: &str = "processes_that_miss_the_same_keys_at_once_build_each_of_them_once";
    const KEYS: u64 = 120;
    if let Some((role, dir)) = role() {
        let cache = builder(&role).open(root(&dir)).unwrap();
        until(&dir, "start");
        thread::scope(|scope| {
            for thread in 0..2 {
                let (cache, dir) = (&cache, &dir);
                scope.spawn(move || {
                    for i in 0..KEYS {
                        // Some take their time, most are done before the next process is there.
                        let pause = Duration::from_micros(if i % 20 == 0 { 20_000 } else { 50 });
                        let n = (i + thread * 40) % KEYS;
                        ask(cache, dir, n, || thread::sleep(pause));
                    }
                });
            }
        });
        let stats = cache.stats();
        assert_eq!((stats.faults, stats.last_fault.as_deref()), (0, None));
        assert_eq!(stats.lone_builds, 0);
        let got = stats.builds + stats.shared_builds + stats.process_shared_builds;
        assert_eq!(stats.misses, got, "{stats}");
        assert!(stats.process_waits >= stats.process_shared_builds);
        cache.close().unwrap();
        return;
    }
    for policy in ["insert", "eviction"] {
        let dir = support::fast_dir();
        let start = || Process::start(NAME, policy, dir.path());
        let children: Vec<_> = (0..4).map(|_| start()).collect();
        set(dir.path(), "start");
        children.into_iter().for_each(Process::end);
        for n in 0..KEYS {
            assert_eq!(builds(dir.path(), n), 1, "{n}, written on {policy}");
        }
        assert_eq!(leases_left(dir.path()), 0);
    }
}

/// A child that builds `n` until there is a note `go`, then does as its role says.
fn builder_of_another_process(role: &str, dir: &Path, n: u64) {
    let cache = open(dir);
    let built = cache.get_or_insert_with(&key(n), || {
        note(dir, n);
        say("building");
        until(dir, "go");
        if role == "fail" {
            return Err("no compiler");
        }
        Ok(content(n))
    });
    assert_eq!(built.is_err(), role == "fail");
    cache.close().unwrap();
}

#[test]
fn who_waited_for_another_process_is_given_its_artifact_and_counts_what_that_saved() {
    const NAME: &str =
        "who_waited_for_another_process_is_given_its_artifact_and_counts_what_that_saved";
    if let Some((role, dir)) = role() {
        return builder_of_another_process(&role, &dir, 1);
    }
    for threads in [1, 3] {
        let dir = support::fast_dir();
        let mut other = Process::start(NAME, "succeed", dir.path());
        other.hear("building");
        let cache = open(dir.path());
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| ask(&cache, dir.path(), 1, || {}));
            }
            // Whether they wait already or not: they have to.
            thread::sleep(Duration::from_millis(30));
            set(dir.path(), "go");
        });
        other.end();
        assert_eq!(builds(dir.path(), 1), 1);
        let stats = cache.stats();
        assert_eq!((stats.process_waits, stats.process_shared_builds), (1, 1));
        assert_eq!((stats.builds, stats.lone_builds, stats.faults), (0, 0, 0));
        let cost = cache.get_entry(&key(1)).unwrap().build_cost;
        assert_eq!(stats.process_build_time_shared, cost);
        assert!(!stats.process_wait_time.is_zero());
        assert_eq!(stats.lookups, threads);
        let text = stats.to_string();
        assert!(text.contains("other processes: 1 wait took "), "{text}");
    }
}

#[test]
fn a_build_that_fails_in_another_process_is_taken_over() {
    const NAME: &str = "a_build_that_fails_in_another_process_is_taken_over";
    if let Some((role, dir)) = role() {
        return builder_of_another_process(&role, &dir, 1);
    }
    let dir = support::fast_dir();
    let mut other = Process::start(NAME, "fail", dir.path());
    other.hear("building");
    let cache = open(dir.path());
    thread::scope(|scope| {
        scope.spawn(|| ask(&cache, dir.path(), 1, || {}));
        thread::sleep(Duration::from_millis(30));
        set(dir.path(), "go");
    });
    other.end();
    let stats = cache.stats();
    assert_eq!((stats.process_waits, stats.process_shared_builds), (1, 0));
    assert_eq!((stats.builds, stats.lone_builds, stats.faults), (1, 0, 0));
}

#[test]
fn when_a_process_is_killed_in_the_midst_of_a_build_one_of_those_who_wait_builds() {
    const NAME: &str =
        "when_a_process_is_killed_in_the_midst_of_a_build_one_of_those_who_wait_builds";
    if let Some((role, dir)) = role() {
        if role == "victim" {
            return builder_of_another_process(&role, &dir, 1);
        }
        let cache = open(&dir);
        set(&dir, &format!("{role} asks"));
        ask(&cache, &dir, 1, || thread::sleep(Duration::from_millis(20)));
        assert_eq!(cache.stats().faults, 0);
        return;
    }
    let dir = support::fast_dir();
    let mut victim = Process::start(NAME, "victim", dir.path());
    victim.hear("building");
    let waiters = ["1", "2", "3"].map(|role| Process::start(NAME, role, dir.path()));
    for role in ["1", "2", "3"] {
        until(dir.path(), &format!("{role} asks"));
    }
    thread::sleep(Duration::from_millis(30));
    assert_eq!(builds(dir.path(), 1), 1, "nobody waited");
    drop(victim);
    waiters.into_iter().for_each(Process::end);
    assert_eq!(builds(dir.path(), 1), 2);
    assert_eq!(leases_left(dir.path()), 0);
}

#[cfg(unix)]
fn signal(process: &Process, name: &str) {
    let id = process.0.id().to_string();
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args([name, &id]).status().unwrap().success());
}

/// Stops a process, but not while something in its background holds the directory's lock: that
/// would be another test.
#[cfg(unix)]
fn stop(process: &Process, dir: &Path) {
    let builder = DiskStore::builder().lock_wait(Duration::from_millis(200));
    let probe = builder.open(root(dir)).unwrap();
    loop {
        signal(process, "-STOP");
        match probe.put(&key(1_000_000), vec![1].into()) {
            Ok(_) => return,
            Err(e) => assert_eq!(e.kind(), ErrorKind::Timeout),
        }
        signal(process, "-CONT");
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn a_process_stopped_in_the_midst_of_a_build_is_waited_for_until_the_bound_only() {
    const NAME: &str =
        "a_process_stopped_in_the_midst_of_a_build_is_waited_for_until_the_bound_only";
    if let Some((role, dir)) = role() {
        return builder_of_another_process(&role, &dir, 1);
    }
    let dir = support::fast_dir();
    let mut other = Process::start(NAME, "succeed", dir.path());
    other.hear("building");
    stop(&other, dir.path());
    let bounded = |bound| builder("insert").build_wait(bound).open(root(dir.path()));
    let (never, brief) = (Duration::ZERO, Duration::from_millis(100));
    for (bound, waits) in [(never, 0), (brief, 1)] {
        let cache = bounded(bound).unwrap();
        ask(&cache, dir.path(), 1, || {});
        let stats = cache.stats();
        assert_eq!((stats.builds, stats.lone_builds, stats.faults), (1, 1, 0));
        assert_eq!(
            (stats.process_waits, stats.process_shared_builds),
            (waits, 0)
        );
        cache.remove(&key(1)).unwrap();
        cache.close().unwrap();
    }
    signal(&other, "-CONT");
    set(dir.path(), "go");
    other.end();
    let cache = open(dir.path());
    assert_eq!(cache.get(&key(1)).unwrap().to_vec(), content(1));
}

/// A watched run of processes whose builders ask for one another's keys.
fn all_end(name: &str, roles: &[&str]) {
    let dir = support::fast_dir();
    let start = |role: &&str| Process::start(name, role, dir.path());
    let children: Vec<_> = roles.iter().map(start).collect();
    children.into_iter().for_each(Process::end);
    assert_eq!(leases_left(dir.path()), 0);
}

#[test]
fn processes_whose_builders_ask_for_one_another_end_long_before_the_bound() {
    const NAME: &str = "processes_whose_builders_ask_for_one_another_end_long_before_the_bound";
    const ROLES: [&str; 3] = ["0", "1", "2"];
    if let Some((role, dir)) = role() {
        let me: u64 = role.parse().unwrap();
        let next = (me + 1) % ROLES.len() as u64;
        let cache = open(&dir);
        ask(&cache, &dir, me, || {
            set(&dir, &format!("{me} builds"));
            for role in ROLES {
                until(&dir, &format!("{role} builds"));
            }
            ask(&cache, &dir, next, || {});
        });
        assert_eq!(cache.stats().faults, 0);
        return;
    }
    all_end(NAME, &ROLES);
}

#[test]
fn a_circle_through_threads_of_two_processes_ends_long_before_the_bound() {
    const NAME: &str = "a_circle_through_threads_of_two_processes_ends_long_before_the_bound";
    if let Some((role, dir)) = role() {
        let me: u64 = role.parse().unwrap();
        let other = 1 - me;
        let cache = open(&dir);
        thread::scope(|scope| {
            scope.spawn(|| {
                ask(&cache, &dir, me, || {
                    set(&dir, &format!("{me} builds"));
                    until(&dir, &format!("{other} builds"));
                    // Most often the other thread waits for that process by now, and this one
                    // for that thread.
                    thread::sleep(Duration::from_millis(30));
                    ask(&cache, &dir, other, || {});
                });
            });
            scope.spawn(|| {
                until(&dir, &format!("{other} builds"));
                ask(&cache, &dir, other, || {});
            });
        });
        assert_eq!(cache.stats().faults, 0);
        return;
    }
    all_end(NAME, &["0", "1"]);
}

#[test]
fn a_builder_waits_for_the_part_that_another_process_builds() {
    const NAME: &str = "a_builder_waits_for_the_part_that_another_process_builds";
    if let Some((role, dir)) = role() {
        return builder_of_another_process(&role, &dir, 1);
    }
    let dir = support::fast_dir();
    let mut other = Process::start(NAME, "succeed", dir.path());
    other.hear("building");
    let cache = open(dir.path());
    thread::scope(|scope| {
        scope.spawn(|| {
            ask(&cache, dir.path(), 2, || {
                drop(ask(&cache, dir.path(), 1, || {}));
            })
        });
        thread::sleep(Duration::from_millis(30));
        set(dir.path(), "go");
    });
    other.end();
    let stats = cache.stats();
    assert_eq!((stats.builds, stats.process_shared_builds), (1, 1));
    assert_eq!((stats.lone_builds, stats.faults), (0, 0));
}

#[test]
fn a_builder_that_asks_another_cache_of_the_directory_for_its_own_key_does_not_wait() {
    let dir = support::fast_dir();
    let (one, two) = (open(dir.path()), open(dir.path()));
    ask(&one, dir.path(), 1, || {
        let inner = two.get_or_insert_with(&key(1), || Ok::<_, ()>(content(1)));
        assert_eq!(inner.unwrap().to_vec(), content(1));
    });
    assert_eq!((two.stats().builds, two.stats().lone_builds), (1, 1));
}

#[test]
fn a_cache_whose_memory_keeps_nothing_holds_its_lease_until_the_artifact_is_on_disk() {
    let dir = support::fast_dir();
    for (n, policy) in [(1, "insert"), (2, "eviction")] {
        let cache = builder(policy)
            .memory_budget(0)
            .open(root(dir.path()))
            .unwrap();
        let other = open(dir.path());
        ask(&cache, dir.path(), n, || {});
        // Not flushed: whoever has the lease after the first finds what that one built.
        ask(&other, dir.path(), n, || {});
        assert_eq!(builds(dir.path(), n), 1, "written on {policy}");
    }
}

#[cfg(unix)]
#[test]
fn what_was_planted_in_the_place_of_a_lease_makes_way_and_nothing_else_is_touched() {
    let dir = support::fast_dir();
    let outside = dir.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    let cache = open(dir.path());
    let place = |n: u64| lease(dir.path(), &key(n));
    std::os::unix::fs::symlink(&outside, place(0)).unwrap();
    std::os::unix::fs::symlink(dir.path(), place(1)).unwrap();
    std::os::unix::fs::symlink("nowhere", place(2)).unwrap();
    let mut mkfifo = std::process::Command::new("mkfifo");
    assert!(mkfifo.arg(place(3)).status().unwrap().success());
    fs::create_dir_all(place(4).join("a/b")).unwrap();
    std::os::unix::fs::symlink(&outside, place(4).join("a/c")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place(5)).unwrap();
    // The mark in it says that its holder waits for the key itself.
    fs::write(place(6), [&[1][..], key(6).as_bytes()].concat()).unwrap();
    fs::write(place(7), [0xff; 10_000]).unwrap();
    for n in 0..8 {
        ask(&cache, dir.path(), n, || {
            assert!(place(n).symlink_metadata().unwrap().is_file(), "{n}");
        });
    }
    let stats = cache.stats();
    assert_eq!((stats.faults, stats.last_fault.as_deref()), (0, None));
    assert_eq!((stats.builds, stats.lone_builds), (8, 0));
    cache.close().unwrap();
    assert_eq!(leases_left(dir.path()), 0);
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
}

#[test]
fn leases_deleted_or_replaced_while_a_build_runs_cost_nothing_but_the_lease() {
    let dir = support::fast_dir();
    let (cache, other) = (open(dir.path()), open(dir.path()));
    ask(&cache, dir.path(), 1, || {
        fs::remove_dir_all(leases(dir.path())).unwrap();
        // Another lease of the same key, which the first one's end must leave alone.
        let built = other.get_or_insert_with(&key(1), || {
            assert!(
                lease(dir.path(), &key(1)).exists(),
                "the folder is made anew"
            );
            Ok::<_, ()>(content(1))
        });
        assert_eq!(built.unwrap().to_vec(), content(1));
    });
    ask(&cache, dir.path(), 2, || {
        // Something in the background may be about to write.
        while root(dir.path()).exists() {
            fs::remove_dir_all(root(dir.path())).ok();
        }
    });
    ask(&cache, dir.path(), 3, || {
        assert!(lease(dir.path(), &key(3)).exists());
    });
    let stats = cache.stats();
    assert_eq!((stats.faults, stats.last_fault.as_deref()), (0, None));
    cache.close().unwrap();
    let other = open(dir.path());
    assert_eq!(other.get(&key(3)).unwrap().to_vec(), content(3));
}

#[test]
fn a_lease_that_cannot_be_had_is_told_and_costs_nothing_else() {
    let dir = support::fast_dir();
    let cache = open(dir.path());
    ask(&cache, dir.path(), 1, || {});
    // Nothing in the background makes the folder anew after this.
    cache.flush().unwrap();
    fs::remove_dir_all(leases(dir.path())).unwrap();
    fs::write(leases(dir.path()), "a file").unwrap();
    ask(&cache, dir.path(), 2, || {});
    let stats = cache.stats();
    assert_eq!((stats.builds, stats.process_waits), (2, 0));
    assert!(stats.faults >= 1);
    let told = stats.last_fault.unwrap();
    assert!(told.contains("take the lease of a build"), "{told}");
    fs::remove_file(leases(dir.path())).unwrap();
    cache.close().unwrap();
    let other = open(dir.path());
    assert_eq!(other.get(&key(2)).unwrap().to_vec(), content(2));
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_out_of_file_descriptors_builds() {
    const NAME: &str = "a_process_out_of_file_descriptors_builds";
    if let Some((_, dir)) = role() {
        let cache = open(&dir);
        // Opened by now, whatever it needs beside the lease.
        ask(&cache, &dir, 1, || {});
        cache.flush().unwrap();
        let mut all = Vec::new();
        while let Ok(file) = fs::File::open("/dev/null") {
            all.push(file);
        }
        let built = cache.get_or_insert_with(&key(2), || Ok::<_, ()>(content(2)));
        assert_eq!(built.unwrap().to_vec(), content(2));
        drop(all);
        assert!(cache.stats().faults >= 1);
        ask(&cache, &dir, 3, || {});
        return;
    }
    let dir = support::fast_dir();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""]);
    shell.arg(std::env::current_exe().unwrap());
    shell.args([NAME, "--exact", "--nocapture", "--test-threads=1"]);
    shell.env("KEEPWARM_TEST_ROLE", "poor");
    shell.env("KEEPWARM_TEST_DIR", dir.path());
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn leases_left_by_the_dead_are_swept_and_those_of_the_living_are_not() {
    let dir = support::fast_dir();
    let cache = open(dir.path());
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    let leave = |name: &str, at| {
        let file = fs::File::create(leases(dir.path()).join(name)).unwrap();
        file.set_modified(at).unwrap();
    };
    let text = |n: u64| key(n).to_string();
    leave(&text(1), old);
    leave(&text(2), std::time::SystemTime::now());
    leave("foreign", old);
    leave(&text(3).to_uppercase(), old);
    fs::create_dir(lease(dir.path(), &key(4))).unwrap();
    ask(&cache, dir.path(), 5, || {
        let held = fs::File::options()
            .write(true)
            .open(lease(dir.path(), &key(5)))
            .unwrap();
        held.set_modified(old).unwrap();
        // Who puts something sweeps, in the background.
        let other = open(dir.path());
        other.put(&key(6), vec![6]);
        other.close().unwrap();
        assert!(lease(dir.path(), &key(5)).exists(), "somebody builds it");
    });
    cache.close().unwrap();
    let left = |name: &str| leases(dir.path()).join(name).exists();
    assert!(!left(&text(1)), "its owner is dead");
    assert!(left(&text(2)), "somebody may be about to lock it");
    assert!(left("foreign") && left(&text(3).to_uppercase()) && left(&text(4)));
    assert!(!left(&text(5)));
}

#[test]
fn a_directory_that_keeps_nothing_needs_no_leases() {
    let dir = support::fast_dir();
    let cache = builder("insert")
        .disk_budget(0)
        .open(root(dir.path()))
        .unwrap();
    ask(&cache, dir.path(), 1, || {
        assert_eq!(leases_left(dir.path()), 0);
    });
}

#[test]
fn a_cache_that_only_reads_a_directory_builds_without_leases() {
    let dir = support::fast_dir();
    ask(&open(dir.path()), dir.path(), 1, || {});
    let cache = builder("insert").read_only(true);
    let cache = cache.open(root(dir.path())).unwrap();
    ask(&cache, dir.path(), 1, || {});
    ask(&cache, dir.path(), 2, || {
        assert_eq!(leases_left(dir.path()), 0);
    });
    let stats = cache.stats();
    assert_eq!(
        (stats.builds, stats.faults, stats.last_fault.as_deref()),
        (1, 0, None)
    );
}
