//! Processes fork while they hold a handle: their children only read, and take nothing away.

use super::{
    Context, Outcome, Plan, Scenario, Target, Writers, arg, finish, judge, litter, verify,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fork",
    about: "a writer forks again and again beside other writers; its children may only read",
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
/// Keys of the one that forks; others have those above, with the same remainders.
const KEYS: u32 = 40;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let rounds = context.rounds(2, 10, 50);
    let mut tallies = Vec::new();
    for kind in [Kind::Disk, Kind::Unmapped] {
        let mut tally = Tally::new(format!("fork {}", kind.name()), Expect::Clean, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        for round in 0..rounds {
            one_round(context, kind, round, &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn one_round(context: &Context, kind: Kind, round: u64, tally: &mut Tally) -> Outcome<()> {
    const FORKS: u32 = 40;
    let hint = format!("seed {} round {round}", context.seed);
    let mut rng = Rng::new(context.seed ^ round.rotate_left(40));
    let target = Target {
        kind,
        dir: context.temp.join("cache"),
        budget: 1 << 30,
        keys: KEYS,
    };
    fs::remove_dir_all(&target.dir).ok();
    // Log 0 is that of who forks, 1 and 2 those of two others, 3 that of the forked children.
    let mut logs = Writers::new(context, 4)?;
    let mut args = target.args("forker", rng.next());
    arg(&mut args, "--log", context.log(0).display());
    arg(&mut args, "--children", context.log(3).display());
    arg(&mut args, "--forks", FORKS);
    let mut forker = Running::start(&[], &args, &context.temp.join("forker"))?;
    // These write the same directory and other keys.
    let others = Target {
        keys: 4 * KEYS,
        ..target.clone()
    };
    let plan = Plan {
        context,
        target: &others,
        writers: 4,
        above: 0,
        flags: ["--base", &KEYS.to_string()].map(str::to_owned).to_vec(),
    };
    let mut crew = super::Crew {
        running: vec![plan.one(1, rng.next(), &[])?, plan.one(2, rng.next(), &[])?],
    };
    match forker.wait(Duration::from_secs(120))? {
        End::Fine => {}
        End::Hung => tally.fault(Fault::Hang, &hint),
        _ => tally.fault(Fault::Crash, format_args!("{hint}: {}", forker.stderr())),
    }
    for line in forker.stderr().lines().take(3) {
        tally.note(format_args!("{hint}: {line}"));
    }
    crew.kill(&mut rng, &hint, tally);
    let mut model = Model::new(Promise::Ack);
    logs.follow(&mut model, tally)?;
    let seen = verify(context, &others.args("verify", round), &hint, tally)?;
    judge(&model, &seen, &hint, tally);
    for file in litter(&target.dir)? {
        tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
    }
    tally.add("forks", u64::from(FORKS));
    Ok(())
}
