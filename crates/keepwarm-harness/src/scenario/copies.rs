//! A live directory is copied, the copy restored elsewhere and over a newer state.

use super::{Context, Outcome, Plan, Scenario, Target, arg, finish, verify};
use crate::content::Rng;
use crate::mount::need;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "copies",
    about: "tar and rsync of a live directory, elsewhere, over a newer state, under live writers",
    run,
};

const WATCHED: [Fault; 6] = [
    Fault::Wrong,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Sick,
    Fault::Memory,
];

/// What copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Tar,
    /// Without `-H`: hard links become files of their own.
    Rsync,
}

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    need(context, &[("tar", "tar")])?;
    let rsync = need(context, &[("rsync", "rsync")]);
    if let Err(why) = &rsync {
        println!("!!! SKIPPED copies by rsync: {why}");
    }
    let rounds = context.rounds(3, 20, 60);
    let mut tallies = Vec::new();
    for (tool, kind) in [
        (Tool::Tar, Kind::Disk),
        (Tool::Tar, Kind::Tiered),
        (Tool::Rsync, Kind::Disk),
        (Tool::Tar, Kind::InPlace),
    ] {
        let (expect, rounds) = match kind {
            Kind::InPlace => (Expect::Caught(Fault::Wrong), rounds.max(8)),
            _ => (Expect::Clean, rounds),
        };
        let name = format!("copies {tool:?} {}", kind.name()).to_lowercase();
        let mut tally = Tally::new(name, expect, &WATCHED);
        if !context.wants(&tally) || tool == Tool::Rsync && rsync.is_err() {
            continue;
        }
        for round in 0..rounds {
            one_round(context, (tool, kind), round, &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn one_round(
    context: &Context,
    (tool, kind): (Tool, Kind),
    round: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let hint = format!("seed {} round {round}", context.seed);
    let target = |name: &str| Target {
        kind,
        dir: context.temp.join(name),
        budget: if round % 2 == 0 { 1 << 30 } else { 8 << 20 },
        keys: 60,
    };
    let (live, elsewhere) = (target("live"), target("elsewhere"));
    let archive = context.temp.join("archive");
    // A folder or a file.
    fs::remove_dir_all(&archive).ok();
    fs::remove_file(&archive).ok();
    for dir in [&live.dir, &elsewhere.dir] {
        fs::remove_dir_all(dir).ok();
        fs::create_dir(dir)?;
    }
    let mut rng = Rng::new(context.seed ^ round);
    let plan = Plan {
        context,
        target: &live,
        writers: 2,
        above: 0,
        flags: vec!["--robbed".into()],
    };
    let mut crew = plan.start(&mut rng)?;
    std::thread::sleep(Duration::from_millis(100 + rng.below(300)));
    tool.take(&live.dir, &archive)?;
    tool.give(&archive, &elsewhere.dir)?;
    check(context, &elsewhere, &format!("{hint} elsewhere"), 1, tally)?;
    std::thread::sleep(Duration::from_millis(rng.below(300)));
    // Over a newer state that nobody has open; else under live writers.
    let alone = round % 2 == 0;
    if alone {
        crew.kill(&mut rng, &hint, tally);
    }
    tool.give(&archive, &live.dir)?;
    let over = format!("{hint} over a newer state");
    check(context, &live, &over, 2, tally)?;
    if !alone {
        std::thread::sleep(Duration::from_millis(100));
        crew.kill(&mut rng, &hint, tally);
        for child in &crew.running {
            if child.stderr().contains("Wrong") {
                tally.fault(Fault::Wrong, format_args!("{hint}: {}", child.stderr()));
            }
        }
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

impl Tool {
    /// Copies a live directory. Files change under it, which it says and which is the point.
    fn take(self, live: &Path, archive: &Path) -> Outcome<()> {
        match self {
            Self::Tar => run_copier("tar", &["-cf"], &[archive, Path::new("-C"), live], &["."]),
            Self::Rsync => run_copier("rsync", &["-a"], &[&live.join("."), archive], &[]),
        }
    }

    fn give(self, archive: &Path, dir: &Path) -> Outcome<()> {
        match self {
            Self::Tar => run_copier("tar", &["-xf"], &[archive, Path::new("-C"), dir], &[]),
            Self::Rsync => run_copier("rsync", &["-a"], &[&archive.join("."), dir], &[]),
        }
    }
}

fn run_copier(program: &str, how: &[&str], paths: &[&Path], rest: &[&str]) -> Outcome<()> {
    let status = Command::new(program)
        .args(how)
        .args(paths)
        .args(rest)
        .stderr(Stdio::null())
        .status()?;
    match status.code() {
        // Of both these codes say that files changed, vanished or were in the way.
        Some(0..=2 | 23 | 24) => Ok(()),
        code => Err(format!("{program} {how:?}: {code:?}").into()),
    }
}
