//! A live directory is copied, the copy restored elsewhere and over a newer state.

use super::{
    Context, Crew, Outcome, Plan, Scenario, Seen, Target, Writers, arg, finish, judge,
    look_at_evictions, verify,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
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

const WATCHED: [Fault; 9] = [
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Sick,
    Fault::Memory,
];

const WRITERS: u32 = 2;
/// What was put into a pack that the copy replaces is lost, which the next flush tells.
const GRACE: Duration = Duration::from_millis(500);
const KEYS: u32 = 60;

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
    // Over a newer state that nobody has open; else under live writers.
    let alone = round % 2 == 0;
    let target = |name: &str| Target {
        kind,
        dir: context.temp.join(name),
        budget: if alone { 1 << 30 } else { 8 << 20 },
        keys: KEYS,
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
    let mut told = Told::new(context, kind)?;
    let plan = Plan {
        context,
        target: &live,
        writers: WRITERS,
        above: 0,
        // Who lives when the copy comes back loses what it put; else nobody may.
        flags: (!alone).then(|| "--robbed".into()).into_iter().collect(),
    };
    let mut crew = plan.start(&mut rng)?;
    std::thread::sleep(Duration::from_millis(100 + rng.below(300)));
    tool.take(&live.dir, &archive)?;
    tool.give(&archive, &elsewhere.dir)?;
    let seen = check(
        context,
        &elsewhere,
        &format!("{hint} elsewhere"),
        Some(1),
        tally,
    )?;
    told.judge_copy(&seen, &hint, tally)?;
    std::thread::sleep(Duration::from_millis(rng.below(300)));
    if alone {
        crew.kill(&mut rng, &hint, tally);
        // To be copied has harmed nothing.
        let seen = check(context, &live, &format!("{hint} copied"), None, tally)?;
        told.judge_live(&live, &seen, &hint, tally)?;
    }
    tool.give(&archive, &live.dir)?;
    let over = format!("{hint} over a newer state");
    // Where others write the same keys, what was put may be replaced at once.
    let seen = check(context, &live, &over, alone.then_some(2), tally)?;
    if alone {
        told.judge_copy(&seen, &over, tally)?;
    } else {
        std::thread::sleep(GRACE);
        // What fails at this very moment is fair, but for wrong answers and calls without an end.
        let mut meanwhile = tally.only(&[Fault::Wrong, Fault::Hang]);
        told.judge_copy(&seen, &over, &mut meanwhile)?;
        meanwhile.pour_into(tally);
        live_on(context, &live, (&mut crew, &mut told), &hint, tally)?;
    }
    tally.add("rounds", 1);
    Ok(())
}

/// The writers under whom the copy came back write on, and are killed.
fn live_on(
    context: &Context,
    live: &Target,
    (crew, told): (&mut Crew, &mut Told),
    hint: &str,
    tally: &mut Tally,
) -> Outcome<()> {
    std::thread::sleep(Duration::from_millis(100));
    crew.kill(&mut Rng::new(context.seed), hint, tally);
    let afterwards = format!("{hint} afterwards");
    let seen = check(context, live, &afterwards, Some(3), tally)?;
    told.judge_copy(&seen, &afterwards, tally)?;
    look_at_evictions(&told.model, live, hint, tally);
    Ok(())
}

/// What the writers say.
struct Told {
    logs: Writers,
    model: Model,
}

impl Told {
    fn new(context: &Context, kind: Kind) -> Outcome<Self> {
        let promise = match kind {
            Kind::Tiered => Promise::Flush,
            _ => Promise::Ack,
        };
        Ok(Self {
            logs: Writers::new(context, WRITERS)?,
            model: Model::new(promise),
        })
    }

    /// Nothing but the copier has touched the directory so far.
    fn judge_live(
        &mut self,
        live: &Target,
        seen: &Seen,
        hint: &str,
        tally: &mut Tally,
    ) -> Outcome<()> {
        self.logs.follow(&mut self.model, tally)?;
        look_at_evictions(&self.model, live, hint, tally);
        judge(&self.model, seen, hint, tally);
        Ok(())
    }

    /// Of a copy only that is known, that nothing is in it of which no put was begun before it was
    /// looked at.
    fn judge_copy(&mut self, seen: &Seen, hint: &str, tally: &mut Tally) -> Outcome<()> {
        self.logs.follow(&mut self.model, tally)?;
        let mut copy = self.model.clone();
        copy.relax(KEYS, 0);
        judge(&copy, seen, hint, tally);
        Ok(())
    }
}

/// Looks at a directory; heals it in a generation of its own, where nobody else writes.
fn check(
    context: &Context,
    target: &Target,
    hint: &str,
    heal: Option<u64>,
    tally: &mut Tally,
) -> Outcome<Seen> {
    let mut args = target.args("verify", heal.unwrap_or(0));
    if let Some(generation) = heal {
        arg(&mut args, "--heal", (1 << 40) + generation);
    }
    let seen = verify(context, &args, hint, tally)?;
    tally.add("there", seen.keys.values().flatten().count() as u64);
    Ok(seen)
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
