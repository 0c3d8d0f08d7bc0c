//! Processes fork while they hold a handle: their children only read, and take nothing away, also
//! when they outlive who forked them.

use super::stop::{lock_of, signal, stop};
use super::{
    Context, Crew, Outcome, Plan, Scenario, Target, Writers, arg, finish, judge, litter,
    look_at_evictions, verify,
};
use crate::child::forker::large;
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use keepwarm::Artifact;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "fork",
    about: "a writer forks beside other writers, or is killed while its child, which only reads, lives",
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
    Fault::Stuck,
    Fault::Litter,
];
/// Keys of the one that forks; others have those above, with the same remainders.
const KEYS: u32 = 40;
/// How long the child lives on, once its parent was killed.
const LIFE: Duration = Duration::from_millis(1_500);
/// Afterwards failed writes are still told, by the next flush.
const GRACE: Duration = Duration::from_millis(700);
/// How long others wait for the lock, and what a call of theirs may take: a put asks for the lock
/// more than once.
const BOUNDS: [&str; 4] = ["--lock-wait", "300", "--patience", "8000"];

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
    for kind in [Kind::Disk, Kind::Unmapped] {
        let name = format!("fork killed {}", kind.name());
        let mut tally = Tally::new(name, Expect::Clean, &WATCHED);
        // The lock does not know what is mapped: half of it is enough for a first look.
        if !context.wants(&tally) || context.is_short() && kind == Kind::Unmapped {
            continue;
        }
        for round in 0..rounds {
            let bench = Bench::new(context, kind, round)?;
            bench.killed(&mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

/// A directory with nothing in it.
fn fresh(context: &Context, kind: Kind) -> Target {
    let target = Target {
        kind,
        dir: context.temp.join("cache"),
        budget: 1 << 30,
        keys: KEYS,
    };
    fs::remove_dir_all(&target.dir).ok();
    target
}

fn one_round(context: &Context, kind: Kind, round: u64, tally: &mut Tally) -> Outcome<()> {
    const FORKS: u32 = 40;
    let hint = format!("seed {} round {round}", context.seed);
    let mut rng = Rng::new(context.seed ^ round.rotate_left(40));
    let target = fresh(context, kind);
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
    let mut crew = Crew {
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
    look_at_evictions(&model, &others, &hint, tally);
    let seen = verify(context, &others.args("verify", round), &hint, tally)?;
    judge(&model, &seen, &hint, tally);
    for file in litter(&target.dir)? {
        tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
    }
    look_for_writes(&target, &hint, tally);
    tally.add("forks", u64::from(FORKS));
    Ok(())
}

/// A forked child's put is refused, and has written nothing before it was. (Of what it would append,
/// where its parent appends, keys tell that are lost.)
fn look_for_writes(target: &Target, hint: &str, tally: &mut Tally) {
    let digest = Artifact::from(large()).digest().to_string();
    let (folder, name) = digest.split_at(2);
    let object = target.dir.join("v1/objects").join(folder).join(name);
    if object.exists() {
        tally.fault(
            Fault::Error,
            format_args!("{hint}: a forked child wrote an object"),
        );
    }
}

/// A writer, its child, and others beside them.
struct Bench<'a> {
    context: &'a Context,
    round: u64,
    hint: String,
    rng: Rng,
    target: Target,
    /// Log 0 is that of who forks, 1 and 2 those of two others, 3 that of the forked child.
    logs: Writers,
    /// While there is no such file the child reads on.
    until: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(context: &'a Context, kind: Kind, round: u64) -> Outcome<Self> {
        let target = fresh(context, kind);
        let until = context.temp.join("until");
        fs::remove_file(&until).ok();
        Ok(Self {
            context,
            round,
            hint: format!("seed {} round {round}", context.seed),
            rng: Rng::new(context.seed ^ round.rotate_left(48)),
            target,
            logs: Writers::new(context, 4)?,
            until,
        })
    }

    /// The parent is killed, every second time while it holds the directory's lock. The child shares
    /// what the lock is on (docs/design.md, I12), so it then stays locked as long as that lives:
    /// writes of others fail, within their bounds. After that all is well.
    fn killed(mut self, tally: &mut Tally) -> Outcome<()> {
        let holding = self.round % 2 == 0;
        let mut forker = self.start_forker()?;
        let others = Target {
            keys: 4 * KEYS,
            ..self.target.clone()
        };
        let mut flags = ["--base", &KEYS.to_string()].map(str::to_owned).to_vec();
        flags.extend(BOUNDS.map(str::to_owned));
        let plan = Plan {
            context: self.context,
            target: &others,
            writers: 4,
            above: 0,
            flags,
        };
        let mut crew = Crew {
            running: Vec::new(),
        };
        if !holding {
            // Beside one who has it open; the other one opens what may be locked.
            crew.running.push(plan.one(1, self.rng.next(), &[])?);
        }
        std::thread::sleep(Duration::from_millis(20 + self.rng.below(300)));
        if holding {
            stop(&forker, &self.target, true, &mut self.rng)?;
        }
        signal(&forker, Signal::KILL)?;
        forker.wait(Duration::from_secs(10))?;
        let is_locked = self.is_locked()?;
        tally.add("kills", 1);
        tally.add("left_locked", u64::from(is_locked));
        for writer in 1 + u32::from(!holding)..3 {
            crew.running.push(plan.one(writer, self.rng.next(), &[])?);
        }
        self.live_on(tally)?;
        self.end_child(&forker)?;
        let mut model = Model::new(Promise::Ack);
        if is_locked {
            // Writes may fail meanwhile; wrong answers, and calls without end, may not.
            let watched = [Fault::Wrong, Fault::Stale, Fault::Lost, Fault::Hang];
            let mut meanwhile = Tally::new(tally.name(), Expect::Clean, &watched);
            self.logs.follow(&mut model, &mut meanwhile)?;
            meanwhile.pour_into(tally);
        }
        std::thread::sleep(Duration::from_millis(200));
        crew.kill(&mut self.rng, &self.hint, tally);
        self.judge(&others, model, tally)
    }

    /// Starts the writer and waits until its child lives.
    fn start_forker(&mut self) -> Outcome<Running> {
        let mut args = self.target.args("forker", self.rng.next());
        arg(&mut args, "--log", self.context.log(0).display());
        arg(&mut args, "--children", self.context.log(3).display());
        arg(&mut args, "--until", self.until.display());
        let forker = Running::start(&[], &args, &self.context.temp.join("forker"))?;
        let start = Instant::now();
        while self.logs.said(&[3])? == [0] {
            if start.elapsed() > Duration::from_secs(30) {
                return Err(format!("no child was forked: {}", forker.stderr()).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(forker)
    }

    /// Whether nobody can have the directory's lock: others hold it for moments only.
    fn is_locked(&self) -> Outcome<bool> {
        let locked = lock_of(&self.target)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            if flock(&locked, FlockOperation::NonBlockingLockExclusive).is_ok() {
                flock(&locked, FlockOperation::Unlock)?;
                return Ok(false);
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        Ok(true)
    }

    /// All go on while the child lives: with errors, if need be.
    fn live_on(&mut self, tally: &mut Tally) -> Outcome<()> {
        std::thread::sleep(LIFE / 2);
        let half = self.logs.said(&[1, 2, 3])?;
        std::thread::sleep(LIFE / 2);
        for (writer, (before, after)) in (1..).zip(half.iter().zip(self.logs.said(&[1, 2, 3])?)) {
            if after <= *before {
                let hint = &self.hint;
                tally.fault(
                    Fault::Stuck,
                    format_args!("{hint}: {writer}: no call in {LIFE:?}"),
                );
            }
        }
        Ok(())
    }

    /// The child ends by itself, or is killed.
    fn end_child(&self, forker: &Running) -> Outcome<()> {
        if self.round % 4 < 2 {
            fs::write(&self.until, "")?;
            std::thread::sleep(GRACE);
            return Ok(());
        }
        // It is in the group of its parent, which has that number as long as it lives.
        let group = i32::try_from(forker.id()).ok().and_then(Pid::from_raw);
        kill_process_group(group.ok_or("no process")?, Signal::KILL)?;
        std::thread::sleep(GRACE);
        Ok(())
    }

    /// Everything works again, and nothing was lost.
    fn judge(mut self, others: &Target, mut model: Model, tally: &mut Tally) -> Outcome<()> {
        let hint = &self.hint;
        self.logs.follow(&mut model, tally)?;
        look_at_evictions(&model, others, hint, tally);
        let seen = verify(
            self.context,
            &others.args("verify", self.round),
            hint,
            tally,
        )?;
        judge(&model, &seen, hint, tally);
        for file in litter(&self.target.dir)? {
            tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
        }
        look_for_writes(&self.target, hint, tally);
        Ok(())
    }
}
