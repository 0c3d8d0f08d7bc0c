//! The disk tier on a file system that fails, at every call in turn.

use crate::disk::DiskStore;
use crate::disk::trial::{Op, Setup, Trial, Verdict, content, fast_dir, fuzz, key, under_fault};
use crate::store::Store;
use crate::sys::crash::{Cut, Rng};
use crate::sys::fault::{ANY, Call, Fault, FaultFs, Plan, When};
use std::path::Path;
use std::sync::Arc;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
/// EIO, ENOSPC, EDQUOT, EMFILE, ENFILE, EACCES, EROFS, EINTR, ENOMEM, ENOENT, EAGAIN, ESTALE, EPERM, EBUSY,
/// ENOTDIR, EINVAL, as Linux numbers them.
const ERRNOS: [i32; 16] = [5, 28, 122, 24, 23, 13, 30, 4, 12, 2, 11, 116, 1, 16, 20, 22];

/// Every operation, in the states in which it takes another way.
const OPERATIONS: [(&str, &[Op]); 17] = [
    ("put inline", &[Op::Put(9, 3)]),
    ("put of an object", &[Op::Put(9, 160)]),
    ("put of shared content", &[Op::Put(9, 2)]),
    ("put of an object that is there", &[Op::Put(9, 130)]),
    ("rebinding", &[Op::Put(0, 3), Op::Put(4, 9)]),
    ("put of what is there", &[Op::Put(0, 2), Op::Put(2, 130)]),
    (
        "rebinding until it is flushed",
        &[
            Op::Put(9, 1),
            Op::Put(9, 2),
            Op::Put(9, 3),
            Op::Put(9, 4),
            Op::Put(9, 5),
        ],
    ),
    (
        "get and touch",
        &[Op::Get(0), Op::Touch(0), Op::Get(2), Op::Get(15)],
    ),
    ("remove", &[Op::Remove(0), Op::Remove(3), Op::Remove(15)]),
    ("clear", &[Op::Clear, Op::Put(1, 3)]),
    ("flush", &[Op::Flush]),
    ("growth", &[Op::Grow, Op::Put(9, 3)]),
    ("emptying a pack", &[Op::Empty(0)]),
    ("a lost index", &[Op::LoseIndex]),
    ("opening", &[Op::Reopen]),
    ("the history", &[Op::Sample, Op::Sample]),
    (
        "opening without an index",
        &[Op::LoseIndex, Op::Reopen, Op::Put(9, 3)],
    ),
];

/// `KEEPWARM_CRASH_HISTORIES`: every call fails, otherwise one in seven.
fn is_full() -> bool {
    std::env::var_os("KEEPWARM_CRASH_HISTORIES").is_some()
}

/// Every call of every operation fails in turn, until none is left; tells how many there were.
fn every_call(calls: u32, lasting: bool, errno: impl Fn(u64) -> i32) -> Verdict<u64> {
    let mut rng = Rng(calls.into());
    let mut all = 0;
    let stride = if is_full() { 1 } else { 7 };
    for (i, (_, ops)) in (0..).zip(OPERATIONS) {
        // All of them together begin at every remainder.
        for n in (1 + i % stride..).step_by(usize::try_from(stride).unwrap()) {
            let fault = Fault {
                when: if lasting {
                    When::From(n)
                } else {
                    When::Once(n)
                },
                errno: errno(n),
                calls,
                short: n % 2 == 0,
            };
            if !under_fault(ops, fault, &mut rng)? {
                break;
            }
            all += 1;
        }
    }
    Ok(all)
}

fn errno_of(n: u64) -> i32 {
    ERRNOS[usize::try_from(n).unwrap() % ERRNOS.len()]
}

fn passed(all: Verdict<u64>, least: u64) {
    let all = all.unwrap();
    assert!(all >= least, "only {all} calls failed");
}

#[test]
fn every_call_that_fails_once_is_survived() {
    passed(every_call(ANY, false, errno_of), 60);
}

#[test]
fn every_call_from_which_on_all_fail_is_survived() {
    passed(every_call(ANY, true, errno_of), 60);
}

#[test]
fn every_sync_that_fails_is_healed_or_reported() {
    passed(every_call(Call::Sync as u32, false, |_| EIO), 5);
    passed(every_call(Call::Sync as u32, true, |_| EIO), 5);
}

#[test]
fn every_write_that_a_full_disk_cuts_short_is_survived() {
    passed(
        every_call(Call::Write as u32 | Call::Make as u32, true, |_| ENOSPC),
        10,
    );
}

#[test]
fn where_nothing_can_be_mapped_renamed_or_locked_nothing_is_wrong() {
    for call in [
        Call::Map,
        Call::Rename,
        Call::Lock,
        Call::Open,
        Call::Look,
        Call::Read,
    ] {
        passed(every_call(call as u32, true, errno_of), 1);
    }
}

#[test]
fn calls_that_fail_now_and_then_lose_nothing_that_was_flushed() {
    let mut rng = Rng(7);
    for k in (2..20).step_by(if is_full() { 1 } else { 7 }) {
        for (_, ops) in OPERATIONS {
            let (when, errno) = (When::Every(k), errno_of(k));
            let fault = Fault {
                when,
                errno,
                calls: ANY,
                short: true,
            };
            under_fault(ops, fault, &mut rng).unwrap();
        }
    }
}

/// The folders that it made have names that are not durable, and only it knows.
#[test]
fn what_is_flushed_after_the_clear_of_another_handle_failed_midway_lasts() {
    let setup = Setup {
        bytes: 1 << 20,
        entries: 1000,
        handles: 2,
    };
    let mut failed = 0;
    for n in 1.. {
        let mut trial = Trial::begin(setup).unwrap();
        for op in [Op::Put(3, 5), Op::Flush] {
            trial.run(op, 0).unwrap();
        }
        trial.fail(Fault {
            when: When::From(n),
            errno: EIO,
            calls: ANY,
            short: false,
        });
        trial.run(Op::Clear, 1).unwrap();
        if trial.plan.stop() == 0 {
            break;
        }
        failed += 1;
        trial.faulty = false;
        for op in [Op::Put(0, 70), Op::Put(1, 2), Op::Flush] {
            trial.run(op, 0).unwrap();
        }
        let (mut replay, now) = (trial.fs().replay(), trial.fs().steps());
        trial.fs().advance(&mut replay, now);
        let cut = trial.cut(&replay, (now, Cut::Nothing, false), &mut Rng(n));
        cut.unwrap_or_else(|e| panic!("call {n}: {e}"));
    }
    assert!(failed > 10, "{failed} calls failed");
}

/// Two handles now and then, any operations, some of them under failing calls, power cuts at the end.
///
/// `KEEPWARM_WEATHERS=1000` tries that many, from `KEEPWARM_CRASH_SEED` on.
#[test]
fn a_failure_between_any_operations_loses_only_what_no_flush_had_promised() {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let first = number("KEEPWARM_CRASH_SEED").unwrap_or(1);
    let mut bad = Vec::new();
    for seed in first..first + number("KEEPWARM_WEATHERS").unwrap_or(20) {
        let mut rng = Rng(seed);
        let input: Vec<u8> = (0..40).flat_map(|_| rng.next().to_le_bytes()).collect();
        if let Err(e) = fuzz(&input) {
            bad.push(format!("weather {seed}: {e}"));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

fn fail(plan: &Plan, n: u64, errno: i32, calls: u32) {
    plan.start(Fault {
        when: When::From(n),
        errno,
        calls,
        short: false,
    });
}

pub(super) fn open(dir: &Path, plan: &Arc<Plan>) -> DiskStore {
    let root = dir.canonicalize().unwrap();
    let store = DiskStore::builder()
        .byte_budget(1 << 20)
        .open_with(root, Arc::new(FaultFs::real(plan)))
        .unwrap();
    while store.is_rebuilding() {
        std::thread::yield_now();
    }
    store
}

#[test]
fn a_flush_that_says_yes_means_it() {
    let dir = fast_dir();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    let _ = store.put(&key(1), content(1).into()).unwrap();
    fail(&plan, 1, ENOSPC, ANY);
    assert!(store.put(&key(2), content(2).into()).is_err());
    plan.stop();
    assert_eq!(store.durability().failed_writes, 1);
    assert!(store.flush().is_err(), "a write had failed");
    store.flush().unwrap();
    assert!(store.durability().survives_a_power_cut());
    let _ = store.put(&key(3), content(3).into()).unwrap();
    fail(&plan, 1, EIO, Call::Sync as u32);
    assert!(store.flush().is_err(), "no sync worked");
    plan.stop();
    // Reported once; what could not be made durable was taken back or is made so now.
    store.flush().unwrap();
}

#[test]
fn a_record_whose_writer_was_killed_before_it_was_indexed_never_comes_back() {
    use crate::disk::envelope::{Envelope, Kind};
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    let bytes = content(1);
    let envelope = Envelope {
        kind: Kind::Inline,
        generation: 1,
        key: key(1),
        digest: crate::Digest::of(&bytes),
        length: bytes.len() as u64,
        lag: 0,
        namespace: crate::NamespaceId::NONE,
        build_cost: std::time::Duration::ZERO,
    };
    store.inner.append(&envelope, &bytes, None).unwrap();
    let _ = store.put(&key(2), content(2).into()).unwrap();
    drop(store);
    std::fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path(), &plan);
    assert!(store.get(&key(1)).unwrap().is_none());
    assert!(store.get(&key(2)).unwrap().is_some());
}

#[test]
fn what_was_appended_after_a_torn_record_survives_the_loss_of_the_index() {
    let dir = fast_dir();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    let _ = store.put(&key(0), content(2).into()).unwrap();
    plan.start(Fault {
        when: When::Once(1),
        errno: ENOSPC,
        calls: Call::Write as u32,
        short: true,
    });
    // The envelope is written, half of the payload is not.
    assert!(store.put(&key(1), content(1).into()).is_err());
    assert_eq!(plan.stop(), 1);
    for n in 2..5 {
        let _ = store.put(&key(n), content(n as u64 + 2).into()).unwrap();
    }
    drop(store);
    std::fs::remove_file(dir.path().join("v1/index")).unwrap();
    let store = open(dir.path(), &plan);
    for n in 2..5 {
        assert!(store.get(&key(n)).unwrap().is_some(), "{n} was lost");
    }
}

#[test]
fn where_packs_cannot_be_looked_at_the_clock_tells_how_new_they_may_be() {
    use crate::disk::rebuild::newest;
    let dir = fast_dir();
    let plan = Arc::new(Plan::default());
    let store = open(dir.path(), &plan);
    assert_eq!(newest(&store.inner.files), 0, "there is none");
    let _ = store.put(&key(1), content(1).into()).unwrap();
    let begun = crate::store::now();
    fail(&plan, 1, EIO, ANY);
    assert!(newest(&store.inner.files) > begun);
    plan.stop();
    assert!(newest(&store.inner.files) > begun);
}
