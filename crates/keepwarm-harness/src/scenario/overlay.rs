//! The directory lies on an overlay: what is in it comes from a layer that cannot be written.

use super::{
    Context, Outcome, Plan, Scenario, Skip, Target, Writers, arg, files, finish, judge,
    look_at_evictions, verify,
};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::mount::{Mount, require};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "overlay",
    about: "writers on an overlay file system over a filled layer, unmounted and looked at (root)",
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
    Fault::Outside,
    Fault::Memory,
];
const WRITERS: u32 = 3;
/// The generation of what is in the lower layer.
const BELOW: u64 = 3;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    require(context, &[("mount", "mount")])?;
    let rounds = context.rounds(0, 20, 60);
    let mut tallies = Vec::new();
    for kind in [Kind::Disk, Kind::Unmapped] {
        let mut tally = Tally::new(format!("overlay {}", kind.name()), Expect::Clean, &WATCHED);
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
    let mut rng = Rng::new(context.seed ^ round.rotate_left(8));
    // The layers must not lie on an overlay themselves.
    let host = Mount::tmpfs(&context.temp.join("host"), "size=1g")?;
    for layer in ["lower", "upper", "work"] {
        fs::create_dir(host.dir.join(layer))?;
    }
    let target = |dir: PathBuf| Target {
        kind,
        dir,
        budget: 700 << 20,
        keys: 60,
    };
    let below = target(host.dir.join("lower/cache"));
    let mut args = below.args("verify", BELOW);
    arg(&mut args, "--heal", BELOW);
    verify(context, &args, &hint, tally)?;
    let before = look(&below.dir)?;
    let mut mounted = Some(mount(context, &host.dir)?);
    let above = target(context.temp.join("merged/cache"));
    let mut model = Model::new(Promise::Ack);
    model.relax(above.keys, BELOW);
    let mut logs = Writers::new(context, WRITERS)?;
    let plan = Plan {
        context,
        target: &above,
        writers: WRITERS,
        above: 1_000,
        flags: Vec::new(),
    };
    let mut crew = plan.start(&mut rng)?;
    std::thread::sleep(Duration::from_millis(150 + rng.below(300)));
    crew.kill(&mut rng, &hint, tally);
    logs.follow(&mut model, tally)?;
    look_at_evictions(&model, &above, &hint, tally);
    for what in ["as it is", "mounted again"] {
        let hint = format!("{hint} {what}");
        let seen = verify(context, &above.args("verify", round), &hint, tally)?;
        judge(&model, &seen, &hint, tally);
        tally.add("there", seen.keys.values().flatten().count() as u64);
        drop(mounted.take());
        mounted = Some(mount(context, &host.dir)?);
    }
    if look(&below.dir)? != before {
        tally.fault(
            Fault::Outside,
            format_args!("{hint}: the layer below changed"),
        );
    }
    tally.add("rounds", 1);
    drop(mounted);
    Ok(())
}

fn mount(context: &Context, host: &Path) -> Outcome<Mount> {
    let host = host.display();
    let options = format!("lowerdir={host}/lower,upperdir={host}/upper,workdir={host}/work");
    let args = ["-t", "overlay", "-o", &options, "overlay"];
    Mount::other(&args, &context.temp.join("merged"))
        .map_err(|e| Skip(format!("an overlay cannot be mounted: {e}")).into())
}

/// Files with their lengths, inodes and times.
fn look(dir: &Path) -> io::Result<BTreeMap<PathBuf, (u64, u64, i64, i64)>> {
    let all = files(dir)?.into_iter().map(|file| {
        let meta = fs::metadata(&file)?;
        let seen = (meta.len(), meta.ino(), meta.mtime(), meta.mtime_nsec());
        Ok((file, seen))
    });
    all.collect()
}
