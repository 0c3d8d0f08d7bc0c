//! Clocks that are wrong by years, different in every process, and jump.

use super::{
    Context, Outcome, Plan, Scenario, Target, Writers, finish, judge, look_at_evictions,
    verify_behind,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::mount::need;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clock",
    about: "clocks years apart, backwards, racing (faketime)",
    run,
};

const WATCHED: [Fault; 7] = [
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
];
const CLOCKS: [&str; 6] = ["-3000d", "+400d", "+0 x100", "-10y", "+30y", "+0 x0.01"];
const WRITERS: u32 = 3;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    need(context, &[("faketime", "faketime")])?;
    let rounds = context.rounds(3, 20, 40);
    let mut tallies = Vec::new();
    for (kind, promise, expect) in [
        (Kind::Disk, Promise::Ack, Expect::Clean),
        (Kind::Tiered, Promise::Flush, Expect::Clean),
        (Kind::ByClock, Promise::Ack, Expect::Caught(Fault::Stale)),
    ] {
        let mut tally = Tally::new(format!("clock {}", kind.name()), expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        let mut model = Model::new(promise);
        let target = Target {
            kind,
            dir: context.temp.join(kind.name()),
            budget: 2 << 30,
            keys: 60,
        };
        for round in 0..rounds {
            one_round(context, &target, round, &mut model, &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn wrapper(rng: &mut Rng) -> (String, Vec<String>) {
    let clock = CLOCKS[rng.index(CLOCKS.len())];
    // The monotonic clock does not jump on real machines either.
    let words = ["env", "DONT_FAKE_MONOTONIC=1", "faketime", "-f", clock]
        .map(str::to_owned)
        .to_vec();
    (clock.to_owned(), words)
}

fn one_round(
    context: &Context,
    target: &Target,
    round: u64,
    model: &mut Model,
    tally: &mut Tally,
) -> Outcome<()> {
    let mut rng = Rng::new(context.seed ^ round.rotate_left(20));
    let mut hint = format!("seed {} round {round} clocks", context.seed);
    let mut logs = Writers::new(context, WRITERS)?;
    let plan = Plan {
        context,
        target,
        writers: WRITERS,
        above: round * 1_000_000,
        flags: Vec::new(),
    };
    let mut crew = plan.start_behind(&mut rng, |rng| {
        let (clock, wrapper) = wrapper(rng);
        hint = format!("{hint} {clock}");
        wrapper
    })?;
    std::thread::sleep(Duration::from_millis(300));
    crew.kill(&mut rng, &hint, tally);
    for child in &crew.running {
        // What `faketime` removes itself when it is not killed.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            fs::remove_file(format!("/dev/shm/{name}{}", child.id())).ok();
        }
    }
    logs.follow(model, tally)?;
    look_at_evictions(model, target, &hint, tally);
    let (clock, wrapper) = wrapper(&mut rng);
    hint = format!("{hint}, looked at with {clock}");
    let seen = verify_behind(
        &wrapper,
        context,
        &target.args("verify", round),
        &hint,
        tally,
    )?;
    judge(model, &seen, &hint, tally);
    model.settle(&seen.keys);
    tally.add("rounds", 1);
    Ok(())
}
