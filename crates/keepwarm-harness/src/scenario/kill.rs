//! Writers are killed at random moments; what they were told must be there afterwards.

use super::{Context, Outcome, Scenario, Target, Writers, arg, finish, judge, litter, verify};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::process::Running;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "kill",
    about: "2 to 4 writers, each killed at a random moment",
    run,
};

const WATCHED: [Fault; 8] = [
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Litter,
];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let rounds = context.rounds(100, 16);
    let mut tallies = Vec::new();
    for (name, kind, promise, rounds) in [
        ("kill disk", Kind::Disk, Promise::Ack, rounds),
        // Small enough for packs that are emptied now and then, and large enough for what is live,
        // ten times over: nothing is to be evicted.
        (
            "kill disk 64M",
            Kind::Disk,
            Promise::Ack,
            rounds.div_ceil(2),
        ),
        (
            "kill tiered",
            Kind::Tiered,
            Promise::Flush,
            rounds.div_ceil(4),
        ),
        (
            "kill unmapped",
            Kind::Unmapped,
            Promise::Ack,
            rounds.div_ceil(4),
        ),
    ] {
        let mut tally = Tally::new(name, Expect::Clean, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        let budget = if name.ends_with("64M") {
            64 << 20
        } else {
            4 << 30
        };
        for series in 0..rounds.div_ceil(20) {
            let rounds = (rounds - series * 20).min(20);
            let seed = context.seed.wrapping_mul(1_000).wrapping_add(series);
            let target = Target {
                kind,
                dir: context.temp.join(format!("{}-{seed}", kind.name())),
                budget,
                keys: 60,
            };
            one_directory(context, &target, promise, (seed, rounds), &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    // Files appear before they are written: a half-written temporary one is all that a kill of a
    // process leaves, unless it is renamed too early. What catches more is in `power`.
    Ok(tallies)
}

fn one_directory(
    context: &Context,
    target: &Target,
    promise: Promise,
    (seed, rounds): (u64, u64),
    tally: &mut Tally,
) -> Outcome<()> {
    let mut rng = Rng::new(seed);
    let writers = 2 + rng.key(3);
    let mut model = Model::new(promise);
    for round in 0..rounds {
        let hint = format!("seed {} directory {seed} round {round}", context.seed);
        let mut logs = Writers::new(context, writers)?;
        let mut running = Vec::new();
        for writer in 0..writers {
            let mut args = target.args("worker", rng.next());
            arg(&mut args, "--log", context.log(writer).display());
            arg(&mut args, "--writer", writer);
            arg(&mut args, "--writers", writers);
            arg(&mut args, "--above", round * 1_000_000);
            let output = context.temp.join(format!("worker{writer}"));
            running.push(Running::start(&[], &args, &output)?);
        }
        std::thread::sleep(Duration::from_millis(20 + rng.below(250)));
        for child in &mut running {
            std::thread::sleep(Duration::from_micros(rng.below(20_000)));
            if !child.is_running() {
                let said = child.stderr();
                tally.fault(Fault::Crash, format_args!("{hint}: a worker ended: {said}"));
            }
            child.kill();
            tally.add("kills", 1);
            let said = child.stderr();
            if !said.is_empty() {
                eprintln!("  {hint}: {said}");
            }
        }
        logs.follow(&mut model, tally)?;
        if model.evicted {
            tally.fault(
                Fault::Lost,
                format_args!("{hint}: evicted far below the budget"),
            );
        }
        let args = target.args("verify", round);
        let seen = verify(context, &args, &hint, tally)?;
        judge(&model, &seen, &hint, tally);
        for (key, generation) in &seen.keys {
            model.settle(*key, *generation);
        }
        for file in litter(&target.dir)? {
            tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
        }
        tally.add("rounds", 1);
    }
    std::fs::remove_dir_all(&target.dir)?;
    Ok(())
}
