//! Writers are killed at random moments; what they were told must be there afterwards.

use super::{
    Context, Outcome, Plan, Scenario, Target, Writers, finish, judge, litter, look_at_evictions,
    verify,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "kill",
    about: "2 to 4 writers, each killed at a random moment",
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

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    // Three writers a round, on average.
    let rounds = context.rounds(16, 110, 1_050);
    let control = context.rounds(6, 20, 20);
    let mut tallies = Vec::new();
    // Small enough for packs that are emptied now and then, and large enough for what is live, ten
    // times over: nothing is to be evicted.
    let small = 64 << 20;
    let large = 4 << 30;
    for (name, kind, budget, rounds) in [
        ("disk", Kind::Disk, large, rounds),
        ("disk 64M", Kind::Disk, small, rounds.div_ceil(2)),
        ("tiered", Kind::Tiered, large, rounds.div_ceil(4)),
        ("unmapped", Kind::Unmapped, large, rounds.div_ceil(4)),
        ("in-place", Kind::InPlace, large, control),
        ("lazy", Kind::Lazy, large, control),
    ] {
        let (expect, promise) = match kind {
            Kind::InPlace => (Expect::Caught(Fault::Wrong), Promise::Ack),
            Kind::Lazy => (Expect::Caught(Fault::Lost), Promise::Ack),
            Kind::Tiered => (Expect::Clean, Promise::Flush),
            _ => (Expect::Clean, Promise::Ack),
        };
        let mut tally = Tally::new(format!("kill {name}"), expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
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
        let plan = Plan {
            context,
            target,
            writers,
            above: round * 1_000_000,
            flags: Vec::new(),
        };
        let mut crew = plan.start(&mut rng)?;
        std::thread::sleep(Duration::from_millis(20 + rng.below(250)));
        crew.kill(&mut rng, &hint, tally);
        tally.add("kills", u64::from(writers));
        logs.follow(&mut model, tally)?;
        look_at_evictions(&model, target, &hint, tally);
        let args = target.args("verify", round);
        let seen = verify(context, &args, &hint, tally)?;
        judge(&model, &seen, &hint, tally);
        model.settle(&seen.keys);
        for file in litter(&target.dir)? {
            tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
        }
        tally.add("rounds", 1);
    }
    std::fs::remove_dir_all(&target.dir)?;
    Ok(())
}
