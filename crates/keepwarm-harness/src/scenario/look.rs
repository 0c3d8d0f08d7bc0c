//! Looking at a directory after a fault, in a process of its own that may die of it.

use super::{Context, Outcome, ROOM, Target};
use crate::model::{Judgement, Model};
use crate::process::{End, Running};
use crate::tally::{Fault, Tally};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a verifier saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) keys: BTreeMap<u32, Option<u64>>,
    pub(crate) wrong: Vec<u32>,
    pub(crate) sick: Vec<u32>,
    pub(crate) errors: Vec<String>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// KiB.
    pub(crate) peak: u64,
    pub(crate) done: bool,
}

/// More than this, in KiB, nobody needs for artifacts of less than a megabyte.
const MEMORY: u64 = 256 << 10;

/// A verifier must be done by then. Its store waits up to 10 s for a lock.
const VERIFY: Duration = Duration::from_secs(60);

/// Runs a verifier; crashes, hangs, failures to open and wrong bytes are counted.
pub(crate) fn verify(
    context: &Context,
    args: &[String],
    hint: &str,
    tally: &mut Tally,
) -> Outcome<Seen> {
    verify_behind(&[], context, args, hint, tally)
}

/// The same behind a wrapper such as `faketime`.
pub(crate) fn verify_behind(
    wrapper: &[String],
    context: &Context,
    args: &[String],
    hint: &str,
    tally: &mut Tally,
) -> Outcome<Seen> {
    let mut child = Running::start(wrapper, args, &context.temp.join("verify"))?;
    let end = child.wait(VERIFY)?;
    let seen = parse(&child.stdout());
    tally.add("gets", seen.keys.len() as u64);
    tally.most("peak_kib", seen.peak);
    if seen.peak > MEMORY {
        tally.fault(
            Fault::Memory,
            format_args!("{hint}: {} KiB of memory", seen.peak),
        );
    }
    let said = child.stderr();
    let said = said.lines().last().unwrap_or_default();
    match end {
        End::Fine if seen.done => {}
        End::Fine | End::Failed => tally.fault(Fault::Unusable, format_args!("{hint}: {said}")),
        End::Crashed(how) => {
            tally.fault(
                Fault::Crash,
                format_args!("{hint}: {how}: {}", child.stderr()),
            );
        }
        End::Hung => tally.fault(Fault::Hang, format_args!("{hint}: {said}")),
    }
    for key in &seen.wrong {
        tally.fault(Fault::Wrong, format_args!("{hint}: key {key}"));
    }
    for error in &seen.errors {
        tally.fault(Fault::Error, format_args!("{hint}: {error}"));
    }
    for key in &seen.sick {
        tally.fault(Fault::Sick, format_args!("{hint}: key {key}"));
    }
    Ok(seen)
}

fn parse(output: &str) -> Seen {
    let mut seen = Seen::default();
    for line in output.lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().unwrap_or(0);
        let key = || rest.parse::<u32>().unwrap_or(0);
        match what {
            "key" => {
                if let Some((key, generation)) = rest.split_once(' ') {
                    if let (Ok(key), Ok(generation)) = (key.parse(), generation.parse()) {
                        seen.keys.insert(key, Some(generation));
                    }
                }
            }
            "miss" => drop(seen.keys.insert(key(), None)),
            "wrong" => seen.wrong.push(key()),
            "sick" => seen.sick.push(key()),
            "entries" => seen.entries = number(),
            "bytes" => seen.bytes = number(),
            "peak" => seen.peak = number(),
            "done" => seen.done = true,
            _ => seen.errors.push(rest.to_owned()),
        }
    }
    seen
}

/// Judges what was seen by what must be there.
pub(crate) fn judge(model: &Model, seen: &Seen, hint: &str, tally: &mut Tally) {
    for (key, generation) in &seen.keys {
        let fault = match model.judge(*key, *generation) {
            Judgement::Fine => continue,
            Judgement::Wrong => Fault::Wrong,
            Judgement::Stale => Fault::Stale,
            Judgement::Lost => Fault::Lost,
        };
        let expected = model.describe(*key);
        tally.fault(
            fault,
            format_args!("{hint}: key {key}: {generation:?}, expected {expected}"),
        );
    }
}

/// One eviction makes every miss fair, so it must not go unseen: where the budget has room for
/// everything it is a loss.
pub(crate) fn look_at_evictions(model: &Model, target: &Target, hint: &str, tally: &mut Tally) {
    if target.budget < ROOM {
        tally.add("evicting", u64::from(model.evicted));
    } else if model.evicted {
        tally.fault(
            Fault::Lost,
            format_args!("{hint}: evicted far below the budget"),
        );
    }
}
