//! The power is cut: what had reached the disk at a moment is looked at.
//!
//! The file system under test lies on an image file on btrfs, past the page cache, so that a
//! reflink copy of the image holds exactly what a disk would hold.

use super::{
    Context, Outcome, Plan, Scenario, Seen, Target, Writers, finish, judge, look_at_evictions,
    verify,
};
use crate::content::Rng;
use crate::model::{Judgement, Model, Promise};
use crate::mount::{Device, Mount, Sweeper, image, require};
use crate::process::tool;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::path::Path;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "power",
    about: "power cuts on ext4, ext4 with data=writeback, xfs (root)",
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
const WRITERS: u32 = 3;
const KEYS: u32 = 60;
/// So many that the index grows while the power is cut.
const MANY_KEYS: u32 = 3_000;
/// More than all writers put in a series would be better; the image must hold it.
const BUDGET: u64 = 800 << 20;
/// Cuts of one file system before a new one is made.
const SERIES: u64 = 10;

/// A file system under test.
#[derive(Clone, Copy, Debug)]
struct System {
    name: &'static str,
    make: &'static [&'static str],
    size: u64,
    options: &'static str,
    /// Of the copy.
    copy_options: &'static str,
}

const SYSTEMS: [System; 3] = [
    System {
        name: "ext4",
        make: &["mkfs.ext4", "-q", "-F", "-m", "0"],
        size: 1 << 30,
        options: "commit=1",
        copy_options: "defaults",
    },
    System {
        name: "writeback",
        make: &["mkfs.ext4", "-q", "-F", "-m", "0"],
        size: 1 << 30,
        options: "commit=1,data=writeback",
        copy_options: "data=writeback",
    },
    System {
        name: "xfs",
        make: &["mkfs.xfs", "-q", "-f"],
        size: 1 << 30,
        options: "defaults",
        copy_options: "nouuid",
    },
];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    require(
        context,
        &[
            ("mkfs.btrfs", "btrfs-progs"),
            ("mkfs.xfs", "xfsprogs"),
            ("mkfs.ext4", "e2fsprogs"),
        ],
    )?;
    let cuts = context.rounds(0, 30, 300);
    let control = context.rounds(0, 10, 10);
    let temp = tempfile::Builder::new()
        .prefix("keepwarm-power-")
        .tempdir_in("/dev/shm")?;
    let _sweeper = Sweeper::start(temp.path())?;
    let host_image = temp.path().join("btrfs");
    image(&host_image, 6 << 30, &["mkfs.btrfs", "-q", "-f"])?;
    let host = Device::attach(&host_image, false)?;
    let host = Mount::device(host, &temp.path().join("host"), "defaults")?;
    let mut tallies = Vec::new();
    for system in SYSTEMS {
        for (kind, keys, expect, cuts) in [
            (Kind::Disk, KEYS, Expect::Clean, cuts),
            (Kind::Disk, MANY_KEYS, Expect::Clean, cuts.div_ceil(3)),
            (Kind::Tiered, KEYS, Expect::Clean, cuts.div_ceil(3)),
            (Kind::Sound, KEYS, Expect::Clean, control),
            (Kind::NoSync, KEYS, Expect::Caught(Fault::Lost), control),
            // Empty, or full of zeros: a rename that got there before the bytes.
            (Kind::NoCheck, KEYS, Expect::Caught(Fault::Lost), control),
        ] {
            let grows = if keys > KEYS { ", index grows" } else { "" };
            let name = format!("power {} {}{grows}", system.name, kind.name());
            let mut tally = Tally::new(name, expect, &WATCHED);
            if !context.wants(&tally) {
                continue;
            }
            for series in 0..cuts.div_ceil(SERIES) {
                let cuts = (cuts - series * SERIES).min(SERIES);
                let seed = context.seed.wrapping_mul(1_000).wrapping_add(series);
                let bench = Bench {
                    context,
                    host: &host.dir,
                    system,
                    kind,
                    keys,
                    seed,
                };
                bench.series(cuts, &mut tally)?;
            }
            finish(&mut tallies, tally);
        }
    }
    Ok(tallies)
}

/// One file system, and writers on it that run on while it is cut.
struct Bench<'a> {
    context: &'a Context,
    host: &'a Path,
    system: System,
    kind: Kind,
    keys: u32,
    seed: u64,
}

impl Bench<'_> {
    fn series(&self, cuts: u64, tally: &mut Tally) -> Outcome<()> {
        let disk = self.host.join("disk.img");
        fs::remove_file(&disk).ok();
        image(&disk, self.system.size, self.system.make)?;
        let device = Device::attach(&disk, true)?;
        let live = Mount::device(device, &self.host.join("live"), self.system.options)?;
        let target = self.target(&live.dir);
        let mut rng = Rng::new(self.seed);
        let mut logs = Writers::new(self.context, WRITERS)?;
        let mut model = Model::new(Promise::Flush);
        // The directory itself is made durable by a flush, too.
        let plan = Plan {
            context: self.context,
            target: &target,
            writers: WRITERS,
            above: 0,
            flags: Vec::new(),
        };
        let mut crew = plan.start(&mut rng)?;
        for cut in 0..cuts {
            std::thread::sleep(Duration::from_millis(200 + rng.below(1_500)));
            let hint = format!(
                "seed {} {} series {} cut {cut}",
                self.context.seed, self.system.name, self.seed
            );
            // What was acknowledged before the cut must be in it.
            logs.follow(&mut model, tally)?;
            let copy = self.host.join("cut.img");
            let names = [disk.to_string_lossy(), copy.to_string_lossy()];
            tool("cp", &["--reflink=always", &names[0], &names[1]])?;
            let mut cut_model = model.clone();
            // What is said from here on may have been begun before the cut.
            logs.loosen(&mut cut_model)?;
            look_at_evictions(&cut_model, &target, &hint, tally);
            self.judge_cut(&copy, &cut_model, &hint, tally)?;
            fs::remove_file(&copy)?;
            tally.add("cuts", 1);
        }
        let hint = format!("seed {} {}", self.context.seed, self.system.name);
        crew.kill(&mut rng, &hint, tally);
        Ok(())
    }

    /// Says of what was lost whether the packs still have it: then only the index forgot.
    fn explain(&self, target: &Target, model: &Model, seen: &Seen, hint: &str) -> Outcome<()> {
        let lost: Vec<u32> = seen
            .keys
            .iter()
            .filter(|(key, seen)| model.judge(**key, **seen) == Judgement::Lost)
            .map(|(key, _)| *key)
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        fs::remove_file(target.dir.join("v1/index"))?;
        let mut quiet = Tally::new("rebuilt", Expect::Clean, &[]);
        let args = target.args("verify", self.seed);
        let rebuilt = verify(self.context, &args, hint, &mut quiet)?;
        for key in lost {
            let found = rebuilt.keys.get(&key).copied().flatten();
            eprintln!("  {hint}: key {key} after a rebuild of the index: {found:?}");
        }
        Ok(())
    }

    fn target(&self, mounted: &Path) -> Target {
        Target {
            kind: self.kind,
            dir: mounted.join("cache"),
            budget: BUDGET,
            keys: self.keys,
        }
    }

    fn judge_cut(&self, copy: &Path, model: &Model, hint: &str, tally: &mut Tally) -> Outcome<()> {
        let device = Device::attach(copy, false)?;
        let place = self.host.join("after");
        let mounted = match Mount::device(device, &place, self.system.copy_options) {
            Ok(mounted) => mounted,
            Err(error) => {
                // The file system's own fault; not one of ours.
                eprintln!("  {hint}: {error}");
                tally.add("unmountable", 1);
                return Ok(());
            }
        };
        let target = self.target(&mounted.dir);
        let args = target.args("verify", self.seed);
        let seen = verify(self.context, &args, hint, tally)?;
        judge(model, &seen, hint, tally);
        let there = seen.keys.values().flatten().count() as u64;
        tally.add("there", there);
        if self.kind == Kind::Disk {
            self.explain(&target, model, &seen, hint)?;
        }
        Ok(())
    }
}
