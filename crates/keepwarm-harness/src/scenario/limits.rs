//! Limits of the process: files may not be longer than so much, so that writes are short and then
//! fail; or only so many may be open.

use super::{
    Context, Outcome, Scenario, Target, Writers, arg, finish, judge, litter, look_at_evictions,
    verify,
};
use crate::child::script::Act;
use crate::model::{Model, Promise};
use crate::mount::need;
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "limits",
    about: "short writes at every length of a file, few descriptors (ulimit)",
    run,
};

const WATCHED: [Fault; 9] = [
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Litter,
    Fault::Memory,
];

/// Writes beyond the limit come back short, and then fail, where the signal is ignored.
const LENGTH: &str = r#"trap "" XFSZ; ulimit -f "$0"; exec "$@""#;
const FILES: &str = r#"ulimit -n "$0"; exec "$@""#;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    need(context, &[("sh", "dash")])?;
    // Blocks of 512 bytes, up to what the largest file needs.
    let lengths: Vec<u64> = match context.rounds(12, 150, 2_600) {
        some if some < 2_600 => (0..some)
            .map(|n| 1 + n + n * n * 2_400 / (some * some))
            .collect(),
        all => (1..=all).collect(),
    };
    let files: Vec<u64> = (4..4 + context.rounds(12, 40, 40)).collect();
    let mut tallies = Vec::new();
    for (name, script, limits, kind) in [
        ("length", LENGTH, &lengths, Kind::Disk),
        ("length unmapped", LENGTH, &lengths, Kind::Unmapped),
        ("files", FILES, &files, Kind::Disk),
        ("length deaf", LENGTH, &lengths, Kind::Deaf),
    ] {
        let expect = match kind {
            Kind::Deaf => Expect::Caught(Fault::Lost),
            _ => Expect::Clean,
        };
        let mut tally = Tally::new(format!("limits {name}"), expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        for limit in limits {
            one(context, kind, (script, *limit), &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn one(
    context: &Context,
    kind: Kind,
    (script, limit): (&str, u64),
    tally: &mut Tally,
) -> Outcome<()> {
    let hint = format!("limit {limit}");
    let target = Target {
        kind,
        dir: context.temp.join("cache"),
        budget: 1 << 30,
        keys: 24,
    };
    fs::remove_dir_all(&target.dir).ok();
    let mut logs = Writers::new(context, 1)?;
    let mut args = target.args("script", context.seed);
    arg(&mut args, "--log", context.log(0).display());
    arg(&mut args, "--act", Act::All.name());
    let wrapper = ["sh", "-c", script, &limit.to_string()].map(str::to_owned);
    let mut child = Running::start(&wrapper, &args, &context.temp.join("script"))?;
    let end = child.wait(Duration::from_secs(90))?;
    let said = child.stderr();
    if end == End::Hung {
        tally.fault(Fault::Hang, &hint);
    }
    if said.contains("panicked") || matches!(end, End::Crashed(_)) {
        tally.fault(Fault::Crash, format_args!("{hint}: {said}"));
    }
    let mut model = Model::new(Promise::Flush);
    let mut told = Tally::new(tally.name(), Expect::Clean, &[Fault::Wrong]);
    logs.follow(&mut model, &mut told)?;
    told.pour_into(tally);
    look_at_evictions(&model, &target, &hint, tally);
    let seen = verify(context, &target.args("verify", 1), &hint, tally)?;
    judge(&model, &seen, &hint, tally);
    for file in litter(&target.dir)? {
        tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
    }
    tally.add("points", 1);
    Ok(())
}
