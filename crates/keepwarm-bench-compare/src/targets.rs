//! What keepwarm is to reach against whom. The peers of a target are fixed here, before anything is
//! measured; where there are several, the best of the run counts.

use crate::results::Results;
use crate::workload::small;

/// What a target is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At most so many times what the best of these peers has.
    Ratio(f64, &'static [&'static str]),
    /// At most so much, whatever peers have.
    Value(f64),
    /// So many system calls, and none more.
    Calls(f64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) workload: &'static str,
    pub(crate) metric: &'static str,
    /// Which of keepwarm's contenders.
    pub(crate) ours: &'static str,
    pub(crate) goal: Goal,
}

/// How a target ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) reached: f64,
    pub(crate) is_met: bool,
    /// Against whom, where it is a ratio.
    pub(crate) peer: Option<&'static str>,
}

const MEMORY: &str = "keepwarm-memory";
const DISK: &str = "keepwarm-disk";
const CACHE: &str = "keepwarm-cache";
/// A first hit of a small artifact is hashed there, once a process.
const ONCE: &str = "keepwarm-disk-once-per-boot";
const NEVER: &str = "keepwarm-disk-never";
const CACHES: &[&str] = &["quick_cache", "moka", "foyer-memory", "sharded-lru"];
const VERIFYING: &[&str] = &["cacache", "lmdb-blake3", "files-blake3"];

const fn target(
    workload: &'static str,
    metric: &'static str,
    ours: &'static str,
    goal: Goal,
) -> Target {
    Target {
        workload,
        metric,
        ours,
        goal,
    }
}

use Goal::{Calls, Ratio, Value};

#[rustfmt::skip] // a table
pub(crate) const TARGETS: &[Target] = &[
    target("memory-hit", "1 thread", MEMORY, Ratio(1.0, &["quick_cache"])),
    target("memory-hit", "2 threads", MEMORY, Ratio(1.0, &["quick_cache"])),
    target("memory-hit", "4 threads", MEMORY, Ratio(1.0, &["quick_cache"])),
    target("memory-hit", "1 thread", MEMORY, Calls(0.0)),
    target("get-or-insert", "1 thread", MEMORY, Ratio(1.3, &["quick_cache"])),
    target("get-or-insert", "2 threads", MEMORY, Ratio(1.3, &["quick_cache"])),
    target("get-or-insert", "4 threads", MEMORY, Ratio(1.3, &["quick_cache"])),
    target("get-or-insert", "1 thread", MEMORY, Ratio(0.9, &["sharded-lru"])),
    target("get-or-insert", "2 threads", MEMORY, Ratio(0.9, &["sharded-lru"])),
    target("get-or-insert", "4 threads", MEMORY, Ratio(0.9, &["sharded-lru"])),
    target("insert-full", "1,000 entries", MEMORY, Ratio(1.1, CACHES)),
    target("insert-full", "10,000 entries", MEMORY, Ratio(1.1, CACHES)),
    target("insert-full", "100,000 entries", MEMORY, Ratio(1.1, CACHES)),
    target("insert-full", "1,000,000 entries", MEMORY, Ratio(1.1, CACHES)),
    target("memory-footprint", "beyond the bytes of an entry", MEMORY, Value(200.0)),
    target("populate", "put", DISK, Ratio(0.85, &["lmdb-blake3"])),
    target("populate", "flush of all of it", DISK, Ratio(1.0, &["lmdb"])),
    target("first-hit", "get, every byte read", DISK, Ratio(1.1, &["lmdb-blake3"])),
    target("first-hit", "get, every byte read", DISK, Calls(0.0)),
    target("first-hit", "get, every byte read", NEVER, Ratio(1.15, &["lmdb"])),
    target("repeat-hit", "get, every byte read", ONCE, Ratio(1.15, &["lmdb"])),
    target("repeat-hit", "get, handle only", CACHE, Ratio(0.5, &["lmdb"])),
    target("repeat-hit", "get, every byte read", CACHE, Ratio(1.0, &["lmdb"])),
    target("open-1k", "open + first hit", DISK, Ratio(1.0, &["files"])),
    target("open-20k", "open + first hit", DISK, Ratio(1.0, &["files"])),
    target("open-200k", "open + first hit", DISK, Ratio(1.0, &["files"])),
    target("open-1m", "open + first hit", DISK, Ratio(1.0, &["files"])),
    target("miss-4k", "miss", CACHE, Ratio(0.35, &["lmdb"])),
    target("miss-4k", "miss", CACHE, Calls(0.0)),
    target("miss-500k", "miss", CACHE, Ratio(0.35, &["lmdb"])),
    target("processes", "2 processes", DISK, Ratio(1.0 / 1.1, VERIFYING)),
    target("processes", "4 processes", DISK, Ratio(1.0 / 1.15, VERIFYING)),
    target("processes", "2 processes", CACHE, Ratio(1.0 / 3.0, VERIFYING)),
    target("processes", "4 processes", CACHE, Ratio(1.0 / 3.0, VERIFYING)),
    target("dedup", "bytes on disk to different bytes", DISK, Value(1.3)),
    target("small", "first hit, every byte read", DISK, Ratio(0.8, &["lmdb-blake3"])),
    target("small", "put", DISK, Ratio(0.8, &["lmdb"])),
    target("small", small::ALL, DISK, Ratio(1.0, &["lmdb"])),
    target("eviction", "after to new", DISK, Value(1.2)),
    target("large", "handle only", DISK, Ratio(1.0, &["bound-map-file-blake3"])),
    target("large", "handle only", ONCE, Ratio(1.0, &["bound-map-file"])),
    target("footprint", "disk, empty directory", DISK, Value(1_048_576.0)),
];

impl Target {
    /// `None` where something of it was not measured, or failed.
    pub(crate) fn outcome(&self, results: &Results) -> Option<Outcome> {
        let (workload, metric) = (self.workload, self.metric);
        match self.goal {
            Goal::Ratio(most, peers) => {
                let ratio = |peer| results.ratio(workload, metric, self.ours, peer);
                // Against the best peer the ratio is the largest.
                let ratios = peers.iter().filter_map(|peer| Some((*peer, ratio(peer)?)));
                let (peer, reached) = ratios.max_by(|a, b| a.1.total_cmp(&b.1))?;
                Some(Outcome {
                    reached,
                    is_met: reached <= most,
                    peer: Some(peer),
                })
            }
            Goal::Value(most) => {
                let reached = results.summary(workload, self.ours, metric)?.value();
                Some(Outcome {
                    reached,
                    is_met: reached <= most,
                    peer: None,
                })
            }
            Goal::Calls(most) => {
                let reached = results.calls(workload, self.ours)?.each;
                // A call in every hundredth operation is work that is done once.
                Some(Outcome {
                    reached,
                    is_met: reached <= most + 0.01,
                    peer: None,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Calls as Counted;
    use crate::results::tests::number;
    use crate::{disk, workload};

    #[test]
    fn every_target_names_a_workload_and_contenders_that_exist() {
        for target in TARGETS {
            let contenders = workload::find(target.workload).unwrap().contenders();
            assert!(contenders.contains(&target.ours), "{target:?}");
            match target.goal {
                Goal::Ratio(_, peers) => {
                    assert!(
                        peers.iter().all(|peer| contenders.contains(peer)),
                        "{target:?}"
                    );
                }
                Goal::Calls(_) => {
                    let traced = workload::find(target.workload).unwrap().traced;
                    assert_eq!(traced, Some(target.metric));
                }
                Goal::Value(_) => {}
            }
        }
    }

    #[test]
    fn peers_that_are_called_verifying_do_and_share_their_directory() {
        for peer in VERIFYING {
            let peer = disk::find(peer).unwrap();
            assert!(peer.verifies && peer.shared, "{peer:?}");
        }
    }

    #[test]
    fn of_several_peers_the_best_one_counts() {
        let mut results = Results::default();
        for (contender, value) in [("we", 10.0), ("slow", 40.0), ("fast", 8.0)] {
            results.add("w", contender, vec![number("m", value)]);
        }
        let target = target(
            "w",
            "m",
            "we",
            Goal::Ratio(1.3, &["slow", "fast", "absent"]),
        );
        let outcome = target.outcome(&results).unwrap();
        assert_eq!(outcome.peer, Some("fast"));
        assert!((outcome.reached - 1.25).abs() < 1e-9 && outcome.is_met);
        // A peer that lost something is none to be measured against.
        results.fail("w", "fast", "lost".into());
        assert_eq!(target.outcome(&results).unwrap().peer, Some("slow"));
        results.fail("w", "we", "lost".into());
        assert_eq!(target.outcome(&results), None);
    }

    #[test]
    fn a_target_is_missed_beyond_its_limit() {
        let mut results = Results::default();
        results.add("w", "we", vec![number("m", 10.0)]);
        results.set_calls(
            "w",
            "we",
            Counted {
                each: 1.0,
                names: Vec::new(),
            },
        );
        let outcome = |goal| {
            target("w", "m", "we", goal)
                .outcome(&results)
                .unwrap()
                .is_met
        };
        assert!(outcome(Goal::Value(10.0)) && !outcome(Goal::Value(9.9)));
        assert!(outcome(Goal::Calls(1.0)) && !outcome(Goal::Calls(0.0)));
    }
}
