//! What must hold: the reasons for the exit code.

use crate::parent::{Reference, Run};
use crate::protocol::{Got, Source};

/// Everything that went wrong, one sentence each; empty if all is well.
///
/// `memory` is the memory budget in bytes, if one was asked for.
pub(crate) fn failures(
    reference: &[Reference],
    memory: Option<u64>,
    first: &Run,
    second: &Run,
) -> Vec<String> {
    let mut failures = Vec::new();
    let set: u64 = reference.iter().map(|r| r.bytes).sum();
    let must_evict = memory.is_some_and(|budget| 0 < budget && budget < set);
    for (name, run) in [("first process", first), ("second process", second)] {
        served_exactly(name, reference, run, &mut failures);
        let counters = &run.summary.counters;
        for (what, count) in [
            ("faults of the cache", counters.faults),
            ("artifacts were found damaged", counters.corrupt),
        ] {
            if count > 0 {
                failures.push(format!("{name}: {count} {what}"));
            }
        }
        if must_evict && counters.memory_evictions + counters.memory_rejected == 0 {
            failures.push(format!(
                "{name}: nothing left a memory smaller than the set"
            ));
        }
    }
    for got in first.round(1).filter(|got| got.from == Source::Compiled) {
        failures.push(format!("first process: {} was lost again", got.shader));
    }
    for got in second.got.iter().filter(|got| got.from == Source::Compiled) {
        failures.push(format!("second process: {} was compiled", got.shader));
    }
    let builds = second.summary.counters.builds;
    if builds > 0 {
        failures.push(format!("second process: the cache counts {builds} builds"));
    }
    failures
}

/// Every shader, in both rounds, once and with exactly the bytes of the reference.
fn served_exactly(name: &str, reference: &[Reference], run: &Run, failures: &mut Vec<String>) {
    for round in 0..2 {
        let served = run.round(round).count();
        if served != reference.len() {
            let wanted = reference.len();
            failures.push(format!("{name}: {served} shaders in a round, not {wanted}"));
        }
        for wanted in reference {
            match run.of(round, wanted.shader) {
                None => failures.push(format!("{name}: {} was not served", wanted.shader)),
                Some(got) if !same_bytes(wanted, got) => failures.push(format!(
                    "{name}: {} from {} has other bytes than a compile outside the cache",
                    wanted.shader,
                    got.from.name()
                )),
                Some(_) => {}
            }
        }
    }
}

fn same_bytes(wanted: &Reference, got: &Got) -> bool {
    wanted.bytes == got.bytes && wanted.digest == got.digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference() -> Vec<Reference> {
        ["a", "b"]
            .map(|shader| Reference {
                shader,
                bytes: 1,
                digest: shader.into(),
            })
            .into()
    }

    /// A run whose first round came from `first`, and whose second came from memory.
    fn run(first: Source) -> Run {
        let mut run = Run::default();
        for (round, from) in [first, Source::Memory].into_iter().enumerate() {
            for shader in ["a", "b"] {
                run.got.push(Got {
                    round,
                    shader: shader.into(),
                    from,
                    nanos: 1,
                    bytes: 1,
                    digest: shader.into(),
                });
            }
        }
        run
    }

    #[test]
    fn a_cold_and_a_warm_process_pass() {
        let (cold, warm) = (run(Source::Compiled), run(Source::Disk));
        assert_eq!(failures(&reference(), None, &cold, &warm), [""; 0]);
    }

    #[test]
    fn a_directory_that_was_warm_already_passes() {
        let warm = run(Source::Disk);
        assert_eq!(failures(&reference(), None, &warm, &warm), [""; 0]);
    }

    #[test]
    fn a_memory_that_is_too_small_must_evict() {
        let (mut cold, mut warm) = (run(Source::Compiled), run(Source::Disk));
        assert_eq!(failures(&reference(), Some(1), &cold, &warm).len(), 2);
        assert_eq!(failures(&reference(), Some(2), &cold, &warm).len(), 0);
        cold.summary.counters.memory_evictions = 1;
        warm.summary.counters.memory_rejected = 1;
        assert_eq!(failures(&reference(), Some(1), &cold, &warm).len(), 0);
    }

    #[test]
    fn whatever_is_wrong_fails() {
        let (cold, warm) = (run(Source::Compiled), run(Source::Disk));
        let wrong = |change: fn(&mut Run, &mut Run)| {
            let (mut first, mut second) = (cold.clone(), warm.clone());
            change(&mut first, &mut second);
            failures(&reference(), None, &first, &second).len()
        };
        assert_eq!(wrong(|_, second| second.got[0].digest.push('x')), 1);
        assert_eq!(wrong(|first, _| first.got[0].bytes += 1), 1);
        assert_eq!(wrong(|first, _| first.got[2].from = Source::Compiled), 1);
        assert_eq!(wrong(|_, second| second.got[3].from = Source::Compiled), 1);
        assert_eq!(wrong(|_, second| second.summary.counters.builds = 1), 1);
        assert_eq!(wrong(|_, second| second.summary.counters.corrupt = 1), 1);
        assert_eq!(wrong(|first, _| first.summary.counters.faults = 1), 1);
        assert!(wrong(|_, second| drop(second.got.pop())) > 0);
    }
}
