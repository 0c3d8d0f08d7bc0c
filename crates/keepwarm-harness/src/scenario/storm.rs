//! Four processes put, get, remove, flush and clear the same keys in a directory that is too small.

use super::{Context, Outcome, Scenario, Target, Writers, arg, finish, used, verify};
use crate::model::{Model, Promise};
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::time::{Duration, Instant};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "storm",
    about: "4 processes put, get, remove, evict, flush and clear the same keys",
    run,
};

const WATCHED: [Fault; 7] = [
    Fault::Wrong,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Over,
    Fault::Disagree,
];
const WRITERS: u32 = 4;
const BUDGET: u64 = 4 << 20;
/// What a writer may have in flight: its largest artifact, the pack it appends to, and a pass of
/// eviction that it waits for.
const IN_FLIGHT: u64 = 1 << 20;
/// The largest record that a writer appends.
const APPENDED: u64 = 64 << 10;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let seconds = context.rounds(60, 4);
    let mut tallies = Vec::new();
    for (name, kind, clear) in [
        ("storm disk", Kind::Disk, true),
        ("storm disk without clear", Kind::Disk, false),
        ("storm tiered", Kind::Tiered, true),
    ] {
        let mut tally = Tally::new(name, Expect::Clean, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        storm(context, (kind, clear), seconds, &mut tally)?;
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn storm(
    context: &Context,
    (kind, clear): (Kind, bool),
    seconds: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let target = Target {
        kind,
        dir: context.temp.join(format!("{}-{clear}", kind.name())),
        budget: BUDGET,
        keys: 240,
    };
    let hint = format!("seed {}", context.seed);
    let mut logs = Writers::new(context, WRITERS)?;
    let mut running = Vec::new();
    for writer in 0..WRITERS {
        let mut args = target.args("worker", context.seed);
        arg(&mut args, "--log", context.log(writer).display());
        arg(&mut args, "--writer", writer);
        arg(&mut args, "--writers", WRITERS);
        arg(&mut args, "--millis", seconds * 1_000);
        args.push("--storm".into());
        if !clear {
            args.push("--no-clear".into());
        }
        let output = context.temp.join(format!("worker{writer}"));
        running.push(Running::start(&[], &args, &output)?);
    }
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
    for (writer, child) in running.iter_mut().enumerate() {
        match child.wait(Duration::from_secs(60))? {
            End::Fine => {}
            End::Hung => tally.fault(Fault::Hang, format_args!("{hint}: worker {writer}")),
            _ => tally.fault(
                Fault::Crash,
                format_args!("{hint}: worker {writer}: {}", child.stderr()),
            ),
        }
        for line in child.stderr().lines().take(3) {
            eprintln!("  {hint}: worker {writer}: {line}");
        }
    }
    logs.follow(&mut Model::new(Promise::Flush), tally)?;
    after(context, &target, &hint, tally)
}

/// When all is quiet, totals, keys and files tell the same.
fn after(context: &Context, target: &Target, hint: &str, tally: &mut Tally) -> Outcome<()> {
    let mut args = target.args("verify", context.seed);
    verify(context, &args, hint, tally)?;
    args.push("--no-probe".into());
    let seen = verify(context, &args, hint, tally)?;
    let hits = seen.keys.values().flatten().count() as u64;
    let bytes = used(&target.dir);
    tally.add("entries", hits);
    tally.add("bytes", bytes);
    // The statistics of a composition are those of its upper tier; the directory's are asked alone.
    if target.kind != Kind::Tiered {
        if seen.entries != hits {
            let told = seen.entries;
            tally.fault(
                Fault::Disagree,
                format_args!("{hint}: {told} entries, {hits} hits"),
            );
        }
        // Told in units of 64 bytes, and of large objects a thousandth more than there is. What
        // was being appended while a pass counted is counted twice until the next one counts.
        let rounding = 64 * 240 + bytes / 500 + u64::from(WRITERS) * APPENDED;
        if seen.bytes.abs_diff(bytes) > rounding {
            let told = seen.bytes;
            tally.fault(
                Fault::Disagree,
                format_args!("{hint}: {told} bytes, {bytes} in files"),
            );
        }
    }
    if bytes > BUDGET {
        tally.fault(
            Fault::Over,
            format_args!("{hint}: {bytes} bytes afterwards"),
        );
    }
    Ok(())
}
