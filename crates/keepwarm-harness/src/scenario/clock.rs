//! Clocks that are wrong by years, different in every process, and jump.

use super::{Context, Outcome, Scenario, Target, Writers, arg, finish, judge, verify_behind};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::mount::need;
use crate::process::{End, Running};
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
    let rounds = context.rounds(20, 3);
    let mut tallies = Vec::new();
    for (kind, promise) in [(Kind::Disk, Promise::Ack), (Kind::Tiered, Promise::Flush)] {
        let mut tally = Tally::new(format!("clock {}", kind.name()), Expect::Clean, &WATCHED);
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
    let mut rng = Rng::new(context.seed ^ round << 20);
    let mut hint = format!("seed {} round {round} clocks", context.seed);
    let mut logs = Writers::new(context, WRITERS)?;
    let mut running = Vec::new();
    for writer in 0..WRITERS {
        let (clock, wrapper) = wrapper(&mut rng);
        hint = format!("{hint} {clock}");
        let mut args = target.args("worker", rng.next());
        arg(&mut args, "--log", context.log(writer).display());
        arg(&mut args, "--writer", writer);
        arg(&mut args, "--writers", WRITERS);
        arg(&mut args, "--above", round * 1_000_000);
        let output = context.temp.join(format!("worker{writer}"));
        running.push(Running::start(&wrapper, &args, &output)?);
    }
    std::thread::sleep(Duration::from_millis(300));
    for child in &mut running {
        if !child.is_running() && child.wait(Duration::ZERO)? != End::Fine {
            let said = child.stderr();
            tally.fault(Fault::Crash, format_args!("{hint}: a worker ended: {said}"));
        }
        child.kill();
        // What `faketime` removes itself when it is not killed.
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            fs::remove_file(format!("/dev/shm/{name}{}", child.id())).ok();
        }
        for line in child.stderr().lines().take(2) {
            eprintln!("  {hint}: {line}");
        }
    }
    logs.follow(model, tally)?;
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
    for (key, generation) in &seen.keys {
        model.settle(*key, *generation);
    }
    tally.add("rounds", 1);
    Ok(())
}
