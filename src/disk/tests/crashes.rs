//! The disk tier and power cuts, in this process: what a cut may leave at every step of a history
//! is laid out, opened and checked.
//!
//! `KEEPWARM_CRASH_HISTORIES=50` cuts at every step of that many histories of 200 operations.

use crate::disk::trial::{Op, Setup, Trial, cut_everywhere, history};
use crate::sys::crash::{Cut, Ignored, Rng};

fn histories() -> (u64, (usize, usize)) {
    match std::env::var("KEEPWARM_CRASH_HISTORIES").map(|n| n.parse()) {
        Ok(Ok(n)) => (n, (200, 1)),
        _ => (10, (60, 11)),
    }
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_flushed() {
    let (count, size) = histories();
    let first = std::env::var("KEEPWARM_CRASH_SEED").map_or(1, |seed| seed.parse().unwrap());
    let (mut cuts, mut bad) = (0, Vec::new());
    for seed in first..first + count {
        match history(seed, size, |_| {}) {
            Ok(n) => cuts += n,
            Err(e) => bad.push(e),
        }
    }
    println!("{cuts} power cuts in {count} histories");
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(cuts as u64 > count * 20, "only {cuts} cuts");
}

/// What is removed after it moved, by who did not move it, does not come back where the index is lost
/// as well: it is dead, durably, in every pack where it was.
#[test]
fn what_moved_and_was_removed_stays_away_without_the_index() {
    // A history in which packs are emptied and not unlinked, before somebody else removes a key.
    let mut rng = Rng(21);
    let mut trial = Trial::begin(Setup::any(&mut rng)).unwrap();
    let mut replay = trial.fs().replay();
    for _ in 0..80 {
        let op = match Op::any(&mut rng) {
            Op::Begin(key, number) | Op::Finish(key, number) => Op::Put(key, number),
            op => op,
        };
        trial.run(op, rng.below(2)).unwrap();
        let now = trial.fs().steps();
        trial.fs().advance(&mut replay, now);
        let cut = (now, Cut::Nothing, true);
        trial.cut(&replay, cut, &mut Rng(1)).unwrap();
    }
}

/// How many of some histories are caught when a part of the syncs does nothing.
fn caught(ignored: Ignored) -> usize {
    let is_bad = |seed: &u64| {
        let outcome = history(*seed, (80, 3), |trial| trial.fs().ignore(ignored));
        outcome.is_err()
    };
    (1..=4).filter(is_bad).count()
}

#[test]
fn a_store_that_does_not_sync_is_caught() {
    assert!(caught(Ignored::Syncs) > 0);
}

#[test]
fn a_store_that_syncs_no_folder_is_caught() {
    assert!(caught(Ignored::Folders) > 0);
}

#[test]
fn a_store_that_does_not_sync_its_index_is_caught() {
    assert!(caught(Ignored::SyncsOf("index")) > 0);
}

#[test]
fn a_new_directory_opens_after_a_power_cut_at_any_step() {
    let setup = Setup {
        bytes: 1 << 20,
        entries: 100,
        handles: 1,
    };
    let trial = Trial::begin(setup).unwrap();
    let cuts = cut_everywhere(&trial, 1, &mut Rng(3)).unwrap();
    assert!(cuts > 10, "only {cuts} cuts");
}
