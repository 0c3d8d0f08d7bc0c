//! A writer is stopped, at a random moment or while it holds the directory's lock; others go on, or
//! fail within bounds. Then it continues, and all is well.

use super::{
    Context, Crew, Outcome, Plan, Scenario, Target, Writers, finish, judge, look_at_evictions,
    verify,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::process::Running;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::time::{Duration, Instant};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "stop",
    about: "a writer is stopped, also while it holds the lock; others go on; it continues",
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
    Fault::Memory,
];
/// The first one is the one that is stopped.
const WRITERS: u32 = 3;
/// How long a write waits for the lock, and what a call may take: a put asks for the lock more than
/// once. Long enough for writers that all run, on a machine that is busy otherwise.
const LOCK_WAIT: Duration = Duration::from_millis(500);
const PATIENCE: &str = "20000";
const STOPPED: Duration = Duration::from_secs(4);
/// Afterwards failed writes are still told, by the next flush, which waits for each that is queued.
const GRACE: Duration = Duration::from_millis(1_500);

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let rounds = context.rounds(3, 30, 200);
    let mut tallies = Vec::new();
    for (kind, promise, expect, rounds) in [
        (Kind::Disk, Promise::Ack, Expect::Clean, rounds),
        (
            Kind::Tiered,
            Promise::Flush,
            Expect::Clean,
            rounds.div_ceil(3),
        ),
        (Kind::Waiting, Promise::Ack, Expect::Caught(Fault::Stuck), 2),
    ] {
        let mut tally = Tally::new(format!("stop {}", kind.name()), expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        for round in 0..rounds {
            let dir = context.temp.join("cache");
            fs::remove_dir_all(&dir).ok();
            let target = Target {
                kind,
                dir,
                // Small, so that it is also stopped while it evicts.
                budget: if round % 3 == 2 { 3 << 20 } else { 1 << 30 },
                keys: 60,
            };
            one_round(context, &target, promise, round, &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn one_round(
    context: &Context,
    target: &Target,
    promise: Promise,
    round: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let hint = format!("seed {} round {round}", context.seed);
    let mut rng = Rng::new(context.seed ^ round.rotate_left(24));
    let mut model = Model::new(promise);
    model.evicted = target.hides_evictions();
    let mut logs = Writers::new(context, WRITERS)?;
    let wait = LOCK_WAIT.as_millis().to_string();
    let mut flags = vec!["--lock-wait", &wait, "--patience", PATIENCE];
    let behind = target.kind == Kind::Tiered;
    if behind {
        // What could not be written below may be gone; the next flush tells.
        flags.push("--robbed");
    }
    let plan = Plan {
        context,
        target,
        writers: WRITERS,
        above: 0,
        flags: flags.into_iter().map(str::to_owned).collect(),
    };
    let mut crew = Crew {
        running: vec![plan.one(0, rng.next(), &[])?],
    };
    std::thread::sleep(Duration::from_millis(150 + rng.below(100)));
    // A stopped one that holds nothing harms nobody: every second time it must.
    let held = stop(&crew.running[0], target, round % 2 == 0, &mut rng)?;
    tally.add("stopped", 1);
    tally.add("stopped_with_lock", u64::from(held));
    for writer in 1..WRITERS {
        crew.running.push(plan.one(writer, rng.next(), &[])?);
    }
    let start = Instant::now();
    std::thread::sleep(STOPPED / 2);
    let half = logs.said(&[1, 2])?;
    std::thread::sleep(STOPPED.saturating_sub(start.elapsed()));
    for (before, after) in half.into_iter().zip(logs.said(&[1, 2])?) {
        // A flush of both tiers waits for every write that is queued, each of which may wait.
        if after <= before && !behind {
            tally.fault(Fault::Stuck, format_args!("{hint}: no call in {STOPPED:?}"));
        }
    }
    signal(&crew.running[0], Signal::CONT)?;
    std::thread::sleep(GRACE);
    // Writes may fail while somebody holds the lock; wrong answers, and calls without end, may not.
    let mut meanwhile = Tally::new(
        tally.name(),
        Expect::Clean,
        &[Fault::Wrong, Fault::Stale, Fault::Lost, Fault::Hang],
    );
    logs.follow(&mut model, &mut meanwhile)?;
    meanwhile.pour_into(tally);
    std::thread::sleep(Duration::from_millis(200));
    crew.kill(&mut rng, &hint, tally);
    logs.follow(&mut model, tally)?;
    look_at_evictions(&model, target, &hint, tally);
    let seen = verify(context, &target.args("verify", round), &hint, tally)?;
    judge(&model, &seen, &hint, tally);
    tally.add("rounds", 1);
    Ok(())
}

/// Sends a signal to a child, and to nobody that it started.
pub(super) fn signal(child: &Running, signal: Signal) -> Outcome<()> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(kill_process(id.ok_or("no process")?, signal)?)
}

/// What the lock of the directory is taken on.
pub(super) fn lock_of(target: &Target) -> io::Result<File> {
    let base = target.dir.join("v1");
    File::open(if base.exists() { &base } else { &target.dir })
}

/// Stops a child; with `holding` tries for a while to do so while it holds the lock. Tells whether
/// somebody does.
pub(super) fn stop(
    child: &Running,
    target: &Target,
    holding: bool,
    rng: &mut Rng,
) -> Outcome<bool> {
    let locked = lock_of(target)?;
    for attempt in 0.. {
        signal(child, Signal::STOP)?;
        // Until it has stopped: then nothing changes any more.
        std::thread::sleep(Duration::from_millis(2));
        let held = flock(&locked, FlockOperation::NonBlockingLockExclusive).is_err();
        if !held {
            flock(&locked, FlockOperation::Unlock)?;
        }
        if held || !holding || attempt > 500 {
            return Ok(held);
        }
        signal(child, Signal::CONT)?;
        std::thread::sleep(Duration::from_micros(rng.below(3_000)));
    }
    Ok(false)
}
