//! Files are damaged while processes read and write them.

use super::damage::{How, scratch};
use super::{Context, Outcome, Plan, Scenario, Target, Writers, arg, files, finish, verify};
use crate::content::Rng;
use crate::model::{Model, Promise};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "live",
    about: "files are damaged under live readers: by rename and unlink, in place, truncated",
    run,
};

const WATCHED: [Fault; 6] = [
    Fault::Wrong,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Sick,
    Fault::Memory,
];
const WRITERS: u32 = 3;
/// Files that are larger, in bytes, were made so by damage, and are not copied.
const HUGE: u64 = 1 << 28;

/// What a store with this mapping must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Another file is renamed over one, or it is unlinked: what is mapped stays.
    Rename,
    /// Also bytes change in place, and objects, which are copied, are truncated.
    Payloads,
    /// Also everything is truncated in place.
    Everything,
}

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let seconds = context.rounds(3, 60, 300);
    let control = seconds.min(5);
    let mut tallies = Vec::new();
    for (name, kind, harm, seconds) in [
        ("rename", Kind::Disk, Harm::Rename, seconds),
        ("rename tiered", Kind::Tiered, Harm::Rename, seconds),
        (
            "payloads index-only",
            Kind::IndexOnly,
            Harm::Payloads,
            seconds,
        ),
        (
            "everything unmapped",
            Kind::Unmapped,
            Harm::Everything,
            seconds,
        ),
        ("rename no-check", Kind::NoCheck, Harm::Rename, control),
    ] {
        let expect = match kind {
            Kind::NoCheck => Expect::Caught(Fault::Wrong),
            _ => Expect::Clean,
        };
        let mut tally = Tally::new(format!("live {name}"), expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        let target = Target {
            kind,
            dir: context.temp.join(name.replace(' ', "-")),
            budget: 1 << 30,
            keys: 60,
        };
        one(context, &target, harm, seconds, &mut tally)?;
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn one(
    context: &Context,
    target: &Target,
    harm: Harm,
    seconds: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let hint = format!("seed {}", context.seed);
    let mut rng = Rng::new(context.seed);
    let mut logs = Writers::new(context, WRITERS)?;
    let flags = ["--storm", "--no-clear", "--robbed", "--millis"].map(str::to_owned);
    let mut flags = flags.to_vec();
    flags.push((seconds * 1_000).to_string());
    let plan = Plan {
        context,
        target,
        writers: WRITERS,
        above: 0,
        flags,
    };
    let mut crew = plan.start(&mut rng)?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_micros(500 + rng.below(4_000)));
        match damage(&target.dir, &context.temp.join("aside"), harm, &mut rng) {
            Ok(true) => tally.add("damages", 1),
            Ok(false) => {}
            // It was gone before it was hurt, or a folder came in its place.
            Err(_) => tally.add("missed", 1),
        }
    }
    crew.wait(Duration::from_secs(90), &hint, tally)?;
    logs.follow(&mut Model::new(Promise::Flush), tally)?;
    tally.add("seconds", seconds);
    let mut args = target.args("verify", 1);
    arg(&mut args, "--heal", 1_u64 << 40);
    verify(context, &args, &format!("{hint} afterwards"), tally)?;
    Ok(())
}

/// Hurts one file; tells whether there was one.
fn damage(dir: &Path, aside: &Path, harm: Harm, rng: &mut Rng) -> io::Result<bool> {
    let all = files(dir)?;
    if all.is_empty() {
        return Ok(false);
    }
    // Every third time the index, or one of the packs: there are many more objects.
    let is_few = |file: &&std::path::PathBuf| !file.starts_with(dir.join("v1/objects"));
    let few: Vec<_> = all.iter().filter(is_few).collect();
    let file = if rng.below(3) == 0 && !few.is_empty() {
        few[rng.index(few.len())]
    } else {
        &all[rng.index(all.len())]
    };
    let is_object = file.starts_with(dir.join("v1/objects"));
    let scratches = [How::Flip, How::Zero, How::Scribble];
    let cuts = [How::Truncate, How::Empty, How::Extend];
    let may_cut = harm == Harm::Everything || harm == Harm::Payloads && is_object;
    match rng.below(10) {
        0 => fs::remove_file(file)?,
        1 => {
            let other = &all[rng.index(all.len())];
            // An index, which is mapped, must not become an object, which may be cut in place; in
            // `tmp` are both.
            let (from, to) = (folder(dir, file), folder(dir, other));
            if harm == Harm::Payloads && (from != to || from == Some("tmp".as_ref())) {
                return Ok(false);
            }
            fs::rename(file, other)?;
        }
        2..=5 if harm != Harm::Rename => {
            fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
            scratch(scratches[rng.index(3)], file, rng)?;
        }
        6..=7 if may_cut => {
            fs::set_permissions(file, fs::Permissions::from_mode(0o644))?;
            scratch(cuts[rng.index(3)], file, rng)?;
        }
        _ if fs::metadata(file)?.len() > HUGE => fs::remove_file(file)?,
        how => {
            fs::copy(file, aside)?;
            fs::set_permissions(aside, fs::Permissions::from_mode(0o644))?;
            let all = [scratches, cuts].concat();
            scratch(
                all[usize::try_from(how).unwrap_or(0) % all.len()],
                aside,
                rng,
            )?;
            fs::rename(aside, file)?;
        }
    }
    Ok(true)
}

/// The part of the directory in which a file is: `packs`, `objects`, ...; the index is its own.
fn folder<'a>(dir: &Path, file: &'a Path) -> Option<&'a OsStr> {
    file.strip_prefix(dir.join("v1")).ok()?.iter().next()
}
