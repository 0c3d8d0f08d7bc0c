//! A live directory is copied, the copy restored elsewhere and over a newer state.

use super::{Context, Outcome, Scenario, Target, arg, finish, verify};
use crate::content::Rng;
use crate::mount::need;
use crate::process::Running;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "copies",
    about: "tar of a live directory, restored elsewhere, over a newer state, under live writers",
    run,
};

const WATCHED: [Fault; 5] = [
    Fault::Wrong,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Sick,
];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    need(context, &[("tar", "tar")])?;
    let rounds = context.rounds(20, 4);
    let mut tallies = Vec::new();
    for kind in [Kind::Disk, Kind::Tiered] {
        let mut tally = Tally::new(format!("copies {}", kind.name()), Expect::Clean, &WATCHED);
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
    let hint = format!("seed {} round {round}", context.seed);
    let target = |name: &str| Target {
        kind,
        dir: context.temp.join(name),
        budget: if round % 2 == 0 { 1 << 30 } else { 8 << 20 },
        keys: 60,
    };
    let (live, elsewhere) = (target("live"), target("elsewhere"));
    for dir in [&live.dir, &elsewhere.dir] {
        fs::remove_dir_all(dir).ok();
        fs::create_dir(dir)?;
    }
    let mut rng = Rng::new(context.seed ^ round);
    let mut running = Vec::new();
    for writer in 0..2 {
        let mut args = live.args("worker", rng.next());
        arg(&mut args, "--log", context.log(writer).display());
        arg(&mut args, "--writer", writer);
        arg(&mut args, "--writers", 2);
        let output = context.temp.join(format!("worker{writer}"));
        running.push(Running::start(&[], &args, &output)?);
    }
    std::thread::sleep(Duration::from_millis(100 + rng.below(300)));
    let archive = context.temp.join("archive.tar");
    tar("-cf", &archive, &live.dir)?;
    tar("-xf", &archive, &elsewhere.dir)?;
    check(context, &elsewhere, &format!("{hint} elsewhere"), 1, tally)?;
    std::thread::sleep(Duration::from_millis(rng.below(300)));
    if round % 2 == 0 {
        // Over a newer state that nobody has open; else under live writers.
        running.clear();
    }
    tar("-xf", &archive, &live.dir)?;
    check(
        context,
        &live,
        &format!("{hint} over a newer state"),
        2,
        tally,
    )?;
    std::thread::sleep(Duration::from_millis(100));
    for child in &mut running {
        if !child.is_running() {
            let said = child.stderr();
            tally.fault(Fault::Crash, format_args!("{hint}: a worker ended: {said}"));
        }
        if child.stderr().contains("Wrong") {
            tally.fault(Fault::Wrong, format_args!("{hint}: {}", child.stderr()));
        }
    }
    let alone = running.is_empty();
    running.clear();
    if !alone {
        check(context, &live, &format!("{hint} afterwards"), 3, tally)?;
    }
    tally.add("rounds", 1);
    Ok(())
}

fn check(
    context: &Context,
    target: &Target,
    hint: &str,
    generation: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let mut args = target.args("verify", generation);
    // Where others write the same keys, what was put may be replaced at once.
    if !hint.ends_with("over a newer state") {
        arg(&mut args, "--heal", (1 << 40) + generation);
    }
    let seen = verify(context, &args, hint, tally)?;
    tally.add("there", seen.keys.values().flatten().count() as u64);
    Ok(())
}

/// Files change under it, which it says and which is the point.
fn tar(how: &str, archive: &Path, dir: &Path) -> Outcome<()> {
    let status = Command::new("tar")
        .arg(how)
        .arg(archive)
        .arg("-C")
        .arg(dir)
        .args((how == "-cf").then_some("."))
        .stderr(Stdio::null())
        .status()?;
    match status.code() {
        Some(0..=2) => Ok(()),
        code => Err(format!("tar {how}: {code:?}").into()),
    }
}
