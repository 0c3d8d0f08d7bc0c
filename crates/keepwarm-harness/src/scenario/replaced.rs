//! The directory, or a part of it, is deleted, moved away or replaced while processes use it: the
//! next write notices, and what is put from then on is there.

use super::{
    Context, Outcome, Plan, Scenario, Target, Writers, arg, files, finish, judge,
    look_at_evictions, verify,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "replaced",
    about: "directory deleted, emptied, moved, replaced, each part deleted, under live writers",
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
    Fault::Memory,
];
const WRITERS: u32 = 3;
/// The generation of what is in another cache that is moved into the place.
const OTHER: u64 = 7;
/// After this the change must have been noticed.
const GRACE: Duration = Duration::from_secs(1);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Delete,
    Empty,
    /// Whoever comes next makes a new one.
    MoveAway,
    MoveAwayAndMake,
    MoveAnotherIn,
    /// A path below the directory; of objects and packs one of them.
    DeletePart(&'static str),
}

const EVENTS: [Event; 17] = [
    Event::Delete,
    Event::Empty,
    Event::MoveAway,
    Event::MoveAwayAndMake,
    Event::MoveAnotherIn,
    Event::DeletePart("v1"),
    Event::DeletePart("v1/index"),
    Event::DeletePart("v1/packs"),
    Event::DeletePart("v1/packs/*"),
    Event::DeletePart("v1/objects"),
    Event::DeletePart("v1/objects/*"),
    Event::DeletePart("v1/tmp"),
    Event::DeletePart("v1/tmp/*"),
    Event::DeletePart("v1/builds"),
    Event::DeletePart("v1/builds/rebuild.lock"),
    Event::DeletePart("v1/builds/evict.lock"),
    Event::DeletePart("CACHEDIR.TAG"),
];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let rounds = context.rounds(1, 6, 40);
    let mut tallies = Vec::new();
    for (kind, promise, expect, rounds) in [
        (Kind::Disk, Promise::Ack, Expect::Clean, rounds),
        (Kind::Unmapped, Promise::Ack, Expect::Clean, rounds / 2),
        (Kind::Tiered, Promise::Flush, Expect::Clean, rounds / 2),
        (Kind::Clinging, Promise::Ack, Expect::Caught(Fault::Lost), 1),
    ] {
        let mut tally = Tally::new(format!("replaced {}", kind.name()), expect, &WATCHED);
        if !context.wants(&tally) || rounds == 0 {
            continue;
        }
        for round in 0..rounds {
            let target = Target {
                kind,
                dir: context.temp.join("cache"),
                // Small every third time, so that eviction is under way.
                budget: if round % 3 == 2 { 3 << 20 } else { 1 << 30 },
                keys: 60,
            };
            one_round(context, &target, promise, round, &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

/// All events, one after the other, with the same processes.
fn one_round(
    context: &Context,
    target: &Target,
    promise: Promise,
    round: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let mut rng = Rng::new(context.seed ^ round.rotate_left(16));
    fs::remove_dir_all(&target.dir).ok();
    let mut logs = Writers::new(context, WRITERS)?;
    let mut model = Model::new(promise);
    model.evicted = target.hides_evictions();
    let plan = Plan {
        context,
        target,
        writers: WRITERS,
        above: 1_000,
        flags: vec!["--robbed".into()],
    };
    let mut crew = plan.start(&mut rng)?;
    std::thread::sleep(Duration::from_millis(200));
    let events: Vec<Event> = EVENTS
        .into_iter()
        .filter(|event| target.kind != Kind::Clinging || *event == Event::MoveAwayAndMake)
        .collect();
    for event in events {
        let hint = format!("seed {} round {round} {event:?}", context.seed);
        event.happen(context, target, &mut rng)?;
        std::thread::sleep(GRACE);
        // What fails at this very moment is fair, but for wrong answers and calls without an end.
        let mut meanwhile = Tally::new(tally.name(), Expect::Clean, &[Fault::Wrong, Fault::Hang]);
        logs.follow(&mut model, &mut meanwhile)?;
        meanwhile.pour_into(tally);
        model.relax(target.keys, OTHER);
        std::thread::sleep(Duration::from_millis(100 + rng.below(150)));
        logs.follow(&mut model, tally)?;
        let mut now = model.clone();
        let mut args = target.args("verify", round);
        args.push("--no-probe".into());
        let seen = verify(context, &args, &hint, tally)?;
        // What was said since may have been done before it was looked, or not.
        logs.loosen(&mut now)?;
        judge(&now, &seen, &hint, tally);
        tally.add("events", 1);
    }
    let hint = format!("seed {} round {round} at the end", context.seed);
    crew.kill(&mut rng, &hint, tally);
    logs.follow(&mut model, tally)?;
    look_at_evictions(&model, target, &hint, tally);
    let seen = verify(context, &target.args("verify", round), &hint, tally)?;
    judge(&model, &seen, &hint, tally);
    Ok(())
}

impl Event {
    fn happen(self, context: &Context, target: &Target, rng: &mut Rng) -> Outcome<()> {
        let (dir, away) = (&target.dir, context.temp.join("away"));
        fs::remove_dir_all(&away).ok();
        match self {
            Self::Delete => delete(dir)?,
            Self::Empty => {
                for entry in fs::read_dir(dir)? {
                    delete(&entry?.path())?;
                }
            }
            Self::MoveAway => fs::rename(dir, &away)?,
            Self::MoveAwayAndMake => {
                fs::rename(dir, &away)?;
                // Somebody else may be faster.
                fs::create_dir_all(dir)?;
            }
            Self::MoveAnotherIn => {
                let other = Target {
                    dir: context.temp.join("other"),
                    ..target.clone()
                };
                let mut args = other.args("verify", OTHER);
                arg(&mut args, "--heal", OTHER);
                let mut quiet = Tally::new("other", Expect::Clean, &[]);
                verify(context, &args, "making another cache", &mut quiet)?;
                fs::rename(dir, &away)?;
                // Until nobody was faster with a new one.
                while fs::rename(&other.dir, dir).is_err() {
                    delete(dir)?;
                }
            }
            Self::DeletePart(part) => {
                if let Some(path) = find(dir, part, rng)? {
                    delete(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// The part, or any file of a folder.
fn find(dir: &Path, part: &str, rng: &mut Rng) -> io::Result<Option<PathBuf>> {
    let Some(folder) = part.strip_suffix("/*") else {
        return Ok(Some(dir.join(part)));
    };
    let all = files(&dir.join(folder))?;
    Ok(all.get(rng.index(all.len())).cloned())
}

/// Until it is gone: others may put new files into a folder that is being deleted.
fn delete(path: &Path) -> io::Result<()> {
    for _ in 0..1_000 {
        let gone = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(e) => Err(e),
        };
        match gone {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            gone => return gone,
        }
    }
    Err(io::ErrorKind::DirectoryNotEmpty.into())
}
