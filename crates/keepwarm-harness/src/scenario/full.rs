//! The disk is full, or out of inodes; then there is room again.

use super::{
    Context, Outcome, Scenario, Target, Writers, arg, finish, judge, litter, look_at_evictions,
    verify,
};
use crate::child::filler::Freeing;
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::mount::{Device, Mount, image, require};
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::path::Path;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "full",
    about: "disk full and inodes full on tmpfs and ext4: fill, go on, free, go on (root)",
    run,
};

const WATCHED: [Fault; 10] = [
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Dropped,
    Fault::Stuck,
    Fault::Litter,
];

#[derive(Clone, Copy, Debug)]
enum System {
    Bytes,
    Inodes,
    Ext4,
    Ext4Inodes,
}

const SYSTEMS: [(System, &str); 4] = [
    (System::Bytes, "tmpfs bytes"),
    (System::Inodes, "tmpfs inodes"),
    (System::Ext4, "ext4 bytes"),
    (System::Ext4Inodes, "ext4 inodes"),
];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    require(context, &[("mkfs.ext4", "e2fsprogs")])?;
    let rounds = context.rounds(0, 20, 60);
    let mut tallies = Vec::new();
    for (system, name) in SYSTEMS {
        for kind in [Kind::Disk, Kind::Unmapped, Kind::Deaf] {
            let name = format!("full {name} {}", kind.name());
            let (expect, rounds) = match kind {
                Kind::Deaf => (Expect::Caught(Fault::Dropped), rounds.min(2)),
                _ => (Expect::Clean, rounds),
            };
            let mut tally = Tally::new(name, expect, &WATCHED);
            if !context.wants(&tally) {
                continue;
            }
            for round in 0..rounds {
                let mounted = mount(context, system)?;
                one_round(context, &mounted.dir, kind, round, &mut tally)?;
            }
            finish(&mut tallies, tally);
        }
    }
    Ok(tallies)
}

fn mount(context: &Context, system: System) -> Outcome<Mount> {
    let dir = context.temp.join("mounted");
    match system {
        System::Bytes => return Mount::tmpfs(&dir, "size=24m"),
        System::Inodes => return Mount::tmpfs(&dir, "size=200m,nr_inodes=90"),
        System::Ext4 | System::Ext4Inodes => {}
    }
    let path = context.temp.join("image");
    let mut make = vec!["mkfs.ext4", "-q", "-F", "-m", "0"];
    let size = match system {
        System::Ext4Inodes => {
            make.extend(["-N", "100"]);
            200 << 20
        }
        _ => 28 << 20,
    };
    image(&path, size, &make)?;
    Mount::device(Device::attach(&path, false)?, &dir, "defaults")
}

fn one_round(
    context: &Context,
    mounted: &Path,
    kind: Kind,
    round: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let hint = format!("seed {} round {round}", context.seed);
    let mut rng = Rng::new(context.seed ^ round);
    // Many small files as well, for the inodes.
    let ballast = mounted.join("ballast");
    fs::create_dir(&ballast)?;
    for file in 0..8 + rng.below(30) {
        fs::write(ballast.join(file.to_string()), vec![1; 300_000])?;
    }
    let freeing = if round % 2 == 0 {
        Freeing::Ballast
    } else {
        Freeing::Clear
    };
    let target = Target {
        kind,
        dir: mounted.join("cache"),
        budget: 1 << 30,
        keys: 3_000,
    };
    let mut logs = Writers::new(context, 1)?;
    let mut args = target.args("filler", rng.next());
    arg(&mut args, "--log", context.log(0).display());
    arg(&mut args, "--ballast", ballast.display());
    arg(&mut args, "--freeing", freeing.name());
    let mut child = Running::start(&[], &args, &context.temp.join("filler"))?;
    match child.wait(Duration::from_secs(120))? {
        End::Fine => {}
        End::Hung => tally.fault(Fault::Hang, &hint),
        _ => tally.fault(Fault::Crash, format_args!("{hint}: {}", child.stderr())),
    }
    for line in child.stderr().lines().take(2) {
        tally.note(format_args!("{hint}: {line}"));
    }
    let mut model = Model::new(Promise::Flush);
    logs.follow(&mut model, tally)?;
    look_at_evictions(&model, &target, &hint, tally);
    let hint = format!("{hint} freed by {}", freeing.name());
    let seen = verify(context, &target.args("verify", round), &hint, tally)?;
    judge(&model, &seen, &hint, tally);
    for file in litter(&target.dir)? {
        tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
    }
    tally.add("rounds", 1);
    Ok(())
}
