//! Four processes put, get, remove, flush and clear the same keys in a directory that is too small.

use super::{Context, Outcome, Plan, Scenario, Target, Writers, files, finish, used, verify};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "storm",
    about: "4 processes put, get, remove, evict, flush and clear the same keys",
    run,
};

const WATCHED: [Fault; 8] = [
    Fault::Wrong,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Over,
    Fault::Disagree,
    Fault::Memory,
];
const WRITERS: u32 = 4;
const BUDGET: u64 = 4 << 20;
/// What a writer may have in flight: its largest artifact, the pack it appends to, and a pass of
/// eviction that it waits for.
const IN_FLIGHT: u64 = 1 << 20;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let seconds = context.rounds(4, 60, 600);
    let control = seconds.min(4);
    let mut tallies = Vec::new();
    for (name, kind, flags, seconds) in [
        ("disk", Kind::Disk, vec![], seconds),
        (
            "disk without clear",
            Kind::Disk,
            vec!["--no-clear"],
            seconds,
        ),
        ("tiered", Kind::Tiered, vec![], seconds),
        ("in-place", Kind::InPlace, vec![], control),
        // What is right alone but has no budget.
        ("sound", Kind::Sound, vec!["--no-clear"], control),
    ] {
        let expect = match kind {
            Kind::InPlace => Expect::Caught(Fault::Wrong),
            Kind::Sound => Expect::Caught(Fault::Over),
            _ => Expect::Clean,
        };
        let mut tally = Tally::new(format!("storm {name}"), expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        let target = Target {
            kind,
            dir: context.temp.join(name.replace(' ', "-")),
            budget: BUDGET,
            keys: 240,
        };
        let mut flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
        flags.extend(["--storm", "--millis"].map(str::to_owned));
        flags.push((seconds * 1_000).to_string());
        storm(context, &target, flags, seconds, &mut tally)?;
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn storm(
    context: &Context,
    target: &Target,
    flags: Vec<String>,
    seconds: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let hint = format!("seed {}", context.seed);
    let mut logs = Writers::new(context, WRITERS)?;
    let plan = Plan {
        context,
        target,
        writers: WRITERS,
        above: 0,
        flags,
    };
    let mut crew = plan.start(&mut Rng::new(context.seed))?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        let used = used(&target.dir);
        tally.most("most_bytes", used);
        if used > BUDGET + u64::from(WRITERS) * IN_FLIGHT {
            tally.fault(
                Fault::Over,
                format_args!("{hint}: {used} bytes of {BUDGET}"),
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    crew.wait(Duration::from_secs(90), &hint, tally)?;
    logs.follow(&mut Model::new(Promise::Flush), tally)?;
    tally.add("seconds", seconds);
    after(context, target, &hint, tally)
}

/// When all is quiet and the store was made to count, totals, keys and files tell the same: exactly.
fn after(context: &Context, target: &Target, hint: &str, tally: &mut Tally) -> Outcome<()> {
    let mut args = target.args("verify", context.seed);
    args.push("--settle".into());
    verify(context, &args, hint, tally)?;
    args.pop();
    args.push("--no-probe".into());
    let seen = verify(context, &args, hint, tally)?;
    let hits = seen.keys.values().flatten().count() as u64;
    let bytes = used(&target.dir);
    tally.add("entries", hits);
    tally.add("bytes", bytes);
    if seen.entries != hits {
        let told = seen.entries;
        tally.fault(
            Fault::Disagree,
            format_args!("{hint}: {told} entries, {hits} hits"),
        );
    }
    let counted = allocated(&target.dir)?;
    if seen.bytes != counted {
        let told = seen.bytes;
        tally.fault(
            Fault::Disagree,
            format_args!("{hint}: {told} bytes told, {counted} counted, {bytes} in files"),
        );
    }
    if bytes > BUDGET {
        tally.fault(
            Fault::Over,
            format_args!("{hint}: {bytes} bytes afterwards"),
        );
    }
    Ok(())
}

/// The bytes in a directory as keepwarm counts them: packs as they are, objects in blocks of 4,096,
/// of which the upper eleven bits are kept (docs/format.md).
fn allocated(dir: &Path) -> io::Result<u64> {
    let length = |file| -> io::Result<u64> { Ok(fs::metadata(file)?.len()) };
    let mut sum = 0;
    for pack in files(&dir.join("v1/packs"))? {
        sum += length(pack)?;
    }
    for object in files(&dir.join("v1/objects"))? {
        let mut units = length(object)?.max(1).next_multiple_of(4096) / 64;
        let mut exponent = 0;
        while units >= 1 << 11 {
            units = units.div_ceil(2);
            exponent += 1;
        }
        sum += (units << exponent) * 64;
    }
    Ok(sum)
}
