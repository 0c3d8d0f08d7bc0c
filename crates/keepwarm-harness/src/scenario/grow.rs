//! The index grows, again and again, under several processes, which are killed meanwhile.

use super::{
    Context, Outcome, Plan, Scenario, Target, Writers, finish, judge, litter, look_at_evictions,
    verify,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "grow",
    about: "the index grows under 4 processes that put tiny artifacts and are killed",
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
const WRITERS: u32 = 4;
const KEYS: u32 = 40_000;
/// Kills of all writers of one directory.
const KILLS: u64 = 4;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let directories = context.rounds(1, 10, 50);
    let mut tallies = Vec::new();
    for kind in [Kind::Disk, Kind::Unmapped] {
        let mut tally = Tally::new(format!("grow {}", kind.name()), Expect::Clean, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        for directory in 0..directories {
            one_directory(context, kind, directory, &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn one_directory(context: &Context, kind: Kind, number: u64, tally: &mut Tally) -> Outcome<()> {
    let target = Target {
        kind,
        dir: context.temp.join("cache"),
        budget: 4 << 30,
        keys: KEYS,
    };
    let mut rng = Rng::new(context.seed ^ number.rotate_left(32));
    let mut model = Model::new(Promise::Ack);
    for round in 0..KILLS {
        let hint = format!("seed {} directory {number} round {round}", context.seed);
        let mut logs = Writers::new(context, WRITERS)?;
        let plan = Plan {
            context,
            target: &target,
            writers: WRITERS,
            above: round * 1_000_000,
            flags: vec!["--tiny".into()],
        };
        let mut crew = plan.start(&mut rng)?;
        let (mut size, millis) = (0, 150 + rng.below(700));
        for _ in 0..millis {
            std::thread::sleep(Duration::from_millis(1));
            let now = fs::metadata(target.dir.join("v1/index")).map_or(0, |meta| meta.len());
            tally.add("growths", u64::from(size > 0 && now > size));
            size = now.max(size);
        }
        crew.kill(&mut rng, &hint, tally);
        tally.add("kills", u64::from(WRITERS));
        logs.follow(&mut model, tally)?;
        look_at_evictions(&model, &target, &hint, tally);
        let args = target.args("verify", round);
        let seen = verify(context, &args, &hint, tally)?;
        judge(&model, &seen, &hint, tally);
        model.settle(&seen.keys);
        for file in litter(&target.dir)? {
            tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
        }
    }
    fs::remove_dir_all(&target.dir)?;
    tally.add("directories", 1);
    Ok(())
}
