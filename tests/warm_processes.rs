//! Warm across processes: what one puts the next one gets, killed or not; several at once.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod support;

use keepwarm::{Cache, DiskStore, Store, WritePolicy};
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::Child;
use std::time::Duration;
use support::{bytes, child, get, join, key, open, put, role, wait};

const POLICIES: [(&str, WritePolicy); 2] = [
    ("insert", WritePolicy::OnInsert),
    ("eviction", WritePolicy::OnEviction),
];

fn policy(name: &str) -> WritePolicy {
    let found = POLICIES.iter().find(|(known, _)| name.ends_with(known));
    found.unwrap().1
}

/// A cache whose memory holds a small part of what these tests put.
fn cache(dir: &Path, policy: WritePolicy) -> Cache {
    let builder = Cache::builder().memory_budget(200_000);
    builder.write_policy(policy).open(dir).unwrap()
}

/// Artifacts for packs, for files of their own, an empty one, and ones larger than memory.
fn content(n: u64) -> Vec<u8> {
    let len = match n % 10 {
        0 => 0,
        8 => 290_000,
        9 => 300_000,
        small => usize::try_from(small * 700).unwrap(),
    };
    bytes(n, len)
}

const ARTIFACTS: u64 = 60;

fn put_all(cache: &Cache) {
    for n in 0..ARTIFACTS {
        cache.put(&key(n), content(n));
    }
}

/// Tells the parent that this process came so far.
fn say(word: &str) {
    println!("\n{word}");
    std::io::stdout().flush().unwrap();
}

/// A child that does not outlive a test that fails.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        // Dead already, if all went well.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits until a child says `word`.
fn hear(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap() == word),
        "the child ended before it said {word}"
    );
}

#[test]
fn what_one_process_puts_the_next_one_gets() {
    const NAME: &str = "what_one_process_puts_the_next_one_gets";
    if let Some((role, dir)) = role() {
        let cache = cache(&dir, policy(&role));
        if role.starts_with("get") {
            for n in 0..ARTIFACTS {
                let got = cache.get_or_insert_with(&key(n), || Err::<Vec<u8>, _>(n));
                assert_eq!(got.map(|a| a.to_vec()), Ok(content(n)), "{role}");
            }
            let stats = cache.stats();
            assert_eq!((stats.hits, stats.builds, stats.faults), (ARTIFACTS, 0, 0));
            return;
        }
        put_all(&cache);
        if role.starts_with("close") {
            cache.close().unwrap();
        } else if role.starts_with("flush") {
            cache.flush().unwrap();
            assert!(cache.durability().survives_a_power_cut());
            // As a kill would: nothing is dropped.
            std::process::abort();
        }
        return;
    }
    for (policy, _) in POLICIES {
        for end in ["close", "drop", "flush"] {
            let dir = support::fast_dir();
            let mut first = child(NAME, &format!("{end} {policy}"), dir.path());
            assert_eq!(first.wait().unwrap().success(), end != "flush", "{end}");
            join(child(NAME, &format!("get {policy}"), dir.path()));
        }
    }
}

#[cfg(unix)]
#[test]
fn what_the_writer_has_written_survives_kill_9() {
    use std::os::unix::process::ExitStatusExt as _;
    const NAME: &str = "what_the_writer_has_written_survives_kill_9";
    if let Some((_, dir)) = role() {
        let cache = cache(&dir, WritePolicy::OnInsert);
        put_all(&cache);
        while cache.durability().unwritten_entries > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(cache.durability().survives_a_kill());
        say("written");
        loop {
            std::thread::park();
        }
    }
    let dir = support::fast_dir();
    let mut victim = Victim(child(NAME, "put", dir.path()));
    hear(&mut victim.0, "written");
    victim.0.kill().unwrap();
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));

    let cache = cache(dir.path(), WritePolicy::OnInsert);
    for n in 0..ARTIFACTS {
        assert_eq!(cache.get(&key(n)).map(|a| a.to_vec()), Some(content(n)));
    }
    assert_eq!(cache.stats().faults, 0);
    assert_eq!(cache.stats().disk.unwrap().corrupt, 0);
}

#[cfg(unix)]
#[test]
fn a_process_killed_in_the_midst_of_its_writes_harms_nobody() {
    const NAME: &str = "a_process_killed_in_the_midst_of_its_writes_harms_nobody";
    const BUDGETS: [u64; 2] = [3_000_000, 1 << 40];
    let bounded = |dir: &Path, budget| {
        let builder = DiskStore::builder().byte_budget(budget);
        wait(builder.open(dir).unwrap())
    };
    if let Some((role, dir)) = role() {
        let (round, budget) = role.split_once(' ').unwrap();
        let store = bounded(&dir, budget.parse().unwrap());
        let first = round.parse::<u64>().unwrap() * 1_000_000;
        for n in first..first + 100_000 {
            put(&store, n, content(n));
            if n % 16 == 3 {
                store.remove(&key(n - 3)).unwrap();
            }
            if n % 64 == 7 {
                store.flush().unwrap();
            }
            if n == first + 50 {
                say("busy");
            }
        }
        return;
    }
    for (budget, rounds) in BUDGETS.into_iter().zip([5, 3]) {
        let dir = support::fast_dir();
        let survivor = bounded(dir.path(), budget);
        // Of two who write, each may evict what the other one just put.
        let kept = |store, n, expected| {
            get(store, n).map_or(budget == BUDGETS[0], |found| found == expected)
        };
        for round in 1..=rounds {
            let mut victim = Victim(child(NAME, &format!("{round} {budget}"), dir.path()));
            hear(&mut victim.0, "busy");
            // What it does in the meantime decides where the kill strikes.
            for n in 0..round * 7 {
                put(&survivor, n, content(n));
                assert!(kept(&survivor, n, content(n)), "{n} in round {round}");
            }
            drop(victim);
            let fresh = open(dir.path());
            for n in round * 1_000_000..round * 1_000_000 + 100 {
                for store in [&survivor, &fresh] {
                    let found = get(store, n);
                    assert!(found.is_none_or(|found| found == content(n)), "{n}");
                }
            }
            put(&survivor, 999, content(round));
            survivor.flush().unwrap();
            let found = get(&fresh, 999);
            assert!(found == Some(content(round)), "round {round}");
            assert_eq!(survivor.stats().corrupt + fresh.stats().corrupt, 0);
        }
    }
}

#[test]
fn a_demotion_never_undoes_what_another_process_stored_or_removed_since() {
    const NAME: &str = "a_demotion_never_undoes_what_another_process_stored_or_removed_since";
    if let Some((_, dir)) = role() {
        let other = open(&dir);
        for n in 0..20 {
            put(&other, n, bytes(n + 5000, 400));
        }
        for n in 20..40 {
            assert!(other.remove(&key(n)).unwrap(), "{n}");
        }
        return;
    }
    for (_, policy) in POLICIES {
        let dir = support::fast_dir();
        let builder = Cache::builder().memory_entries(60).write_policy(policy);
        let cache = builder.open(dir.path()).unwrap();
        // Half of them written and kept in memory, half of them promoted.
        for n in (0..40).filter(|n| n % 2 == 0) {
            cache.put(&key(n), bytes(n, 500));
        }
        cache.flush().unwrap();
        let disk = open(dir.path());
        for n in (0..40).filter(|n| n % 2 == 1) {
            put(&disk, n, bytes(n, 500));
            assert_eq!(cache.get(&key(n)).unwrap().to_vec(), bytes(n, 500));
        }
        join(child(NAME, "change", dir.path()));
        assert_eq!(cache.stats().memory.entries, 40);
        for n in 100..200 {
            cache.put(&key(n), bytes(n, 500));
        }
        assert!(cache.stats().memory.evictions >= 40);
        cache.close().unwrap();
        for n in 0..40 {
            let expected = (n < 20).then(|| bytes(n + 5000, 400));
            assert_eq!(get(&disk, n), expected, "{policy:?} {n}");
        }
        assert!((100..200).all(|n| get(&disk, n) == Some(bytes(n, 500))));
    }
}

#[test]
fn two_processes_see_each_others_removes_and_evictions() {
    const NAME: &str = "two_processes_see_each_others_removes_and_evictions";
    let bounded = |dir: &Path| {
        let builder = DiskStore::builder().entry_budget(100);
        wait(builder.open(dir).unwrap())
    };
    if let Some((role, dir)) = role() {
        let store = bounded(&dir);
        match role.as_str() {
            "remove" => assert!((0..10).all(|n| store.remove(&key(n)).unwrap())),
            _ => (1000..1100).for_each(|n| put(&store, n, content(n))),
        }
        return;
    }
    let dir = support::fast_dir();
    let store = bounded(dir.path());
    (0..100).for_each(|n| put(&store, n, content(n)));
    let held: Vec<_> = (0..100)
        .map(|n| store.get(&key(n)).unwrap().unwrap().artifact)
        .collect();
    join(child(NAME, "remove", dir.path()));
    for n in 0..100 {
        assert_eq!(get(&store, n), (n >= 10).then(|| content(n)), "{n}");
    }
    join(child(NAME, "evict", dir.path()));
    assert!((0..80).all(|n| get(&store, n).is_none()));
    assert!((1020..1100).all(|n| get(&store, n) == Some(content(n))));
    assert!(store.stats().entries <= 100);
    assert!(
        (0_u64..)
            .zip(&held)
            .all(|(n, held)| held.to_vec() == content(n))
    );
}

#[test]
fn many_processes_with_many_threads_share_one_directory() {
    const NAME: &str = "many_processes_with_many_threads_share_one_directory";
    const BUDGET: u64 = 2_000_000;
    let shared = |dir: &Path, policy| {
        let builder = Cache::builder().memory_budget(100_000).disk_budget(BUDGET);
        builder.write_policy(policy).open(dir).unwrap()
    };
    if let Some((role, dir)) = role() {
        let cache = shared(&dir, policy(&role));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for i in 0..150_u64 {
                        let n = (i * (thread + 3)) % 90;
                        let got = cache.get_or_insert_with(&key(n), || Ok::<_, ()>(content(n)));
                        assert_eq!(got.unwrap().to_vec(), content(n), "{n}");
                        if i % 40 == 11 {
                            cache.remove(&key(n)).unwrap();
                        }
                        if i % 70 == 13 {
                            cache.flush().unwrap();
                        }
                    }
                });
            }
        });
        let stats = cache.stats();
        assert_eq!((stats.faults, stats.last_fault.as_deref()), (0, None));
        assert_eq!(stats.disk.unwrap().corrupt, 0);
        cache.close().unwrap();
        return;
    }
    let dir = support::fast_dir();
    let roles = ["1 insert", "2 eviction", "3 insert"];
    let children = roles.map(|role| child(NAME, role, dir.path()));
    children.into_iter().for_each(join);
    let store = wait(
        DiskStore::builder()
            .byte_budget(BUDGET)
            .open(dir.path())
            .unwrap(),
    );
    let found = (0..90).filter(|n| {
        get(&store, *n).is_some_and(|found| {
            assert_eq!(found, content(*n), "{n}");
            true
        })
    });
    assert!(found.count() > 0);
    put(&store, 500, content(1));
    let size = |path: std::path::PathBuf| path.metadata().unwrap().len();
    let stored = ["packs", "objects"].map(|f| support::files_in(dir.path(), f));
    let total: u64 = stored.into_iter().flatten().map(size).sum();
    assert!(total <= BUDGET, "{total} bytes");
}
