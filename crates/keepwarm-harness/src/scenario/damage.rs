//! Files are damaged while nobody looks.

use super::{Context, Outcome, Scenario, Target, arg, files, finish, verify};
use crate::content::Rng;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "damage",
    about: "bit flips, zeros, truncation, extension, swap, copy, duplication, deletion of every file",
    run,
};

const WATCHED: [Fault; 7] = [
    Fault::Wrong,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Sick,
    Fault::Memory,
];

/// Files that were made larger than this, in bytes, are not copied.
const HUGE: u64 = 1 << 28;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let rounds = context.rounds(100, 600, 3_000);
    let mut tallies = Vec::new();
    for (kind, expect, rounds) in [
        (Kind::Disk, Expect::Clean, rounds),
        (Kind::Unmapped, Expect::Clean, rounds.div_ceil(4)),
        (Kind::NoKey, Expect::Caught(Fault::Wrong), 60),
        (Kind::NoCheck, Expect::Caught(Fault::Wrong), 20),
    ] {
        let mut tally = Tally::new(format!("damage {}", kind.name()), expect, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        let mut rng = Rng::new(context.seed);
        let mut target = Target {
            kind,
            dir: context.temp.join(kind.name()),
            budget: 1 << 30,
            keys: 48,
        };
        heal(context, &target, 1, &mut tally)?;
        for round in 0..rounds {
            if round % 50 == 49 {
                fs::remove_dir_all(&target.dir)?;
                // Little room, so that there is dead space and eviction.
                target.budget = if round % 100 == 99 { 1 << 30 } else { 12 << 20 };
                heal(context, &target, round + 1, &mut tally)?;
            }
            let hint = damage(&target.dir, round, &mut rng)?;
            let hint = format!("seed {} round {round}: {hint}", context.seed);
            look(context, &target, &hint, round + 2, &mut tally)?;
            tally.add("damages", 1);
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn heal(context: &Context, target: &Target, generation: u64, tally: &mut Tally) -> Outcome<()> {
    look(context, target, "undamaged", generation, tally)
}

fn look(
    context: &Context,
    target: &Target,
    hint: &str,
    generation: u64,
    tally: &mut Tally,
) -> Outcome<()> {
    let mut args = target.args("verify", generation);
    arg(&mut args, "--heal", generation);
    let seen = verify(context, &args, hint, tally)?;
    tally.add(
        "misses",
        seen.keys.values().filter(|seen| seen.is_none()).count() as u64,
    );
    Ok(())
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Flip,
    Zero,
    Scribble,
    Truncate,
    Empty,
    Extend,
    Swap,
    Copy,
    Duplicate,
    Delete,
}

pub(super) const HOW: [How; 10] = [
    How::Flip,
    How::Zero,
    How::Scribble,
    How::Truncate,
    How::Empty,
    How::Extend,
    How::Swap,
    How::Copy,
    How::Duplicate,
    How::Delete,
];

/// The files of a directory by what they are: packs, objects, and each other one for itself.
fn kinds(dir: &Path) -> io::Result<Vec<Vec<PathBuf>>> {
    let mut kinds: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in files(dir)? {
        let name = file.strip_prefix(dir).unwrap_or(&file);
        let kind = ["v1/packs", "v1/objects"]
            .into_iter()
            .find(|folder| name.starts_with(folder));
        let kind = kind.map_or_else(|| name.to_owned(), PathBuf::from);
        kinds.entry(kind).or_default().push(file);
    }
    Ok(kinds.into_values().collect())
}

/// Hurts a file, mostly in place, so that the index stays the directory's own. In turn every kind of
/// file in every way; now and then a second one as it comes.
fn damage(dir: &Path, round: u64, rng: &mut Rng) -> Outcome<String> {
    let mut done = Vec::new();
    for more in 0..=rng.below(3).saturating_sub(1) {
        let kinds = kinds(dir)?;
        let all: Vec<&PathBuf> = kinds.iter().flatten().collect();
        if all.is_empty() {
            break;
        }
        let turn = usize::try_from(round)?;
        let (kind, how) = if more == 0 {
            (turn / HOW.len() % kinds.len(), HOW[turn % HOW.len()])
        } else {
            (rng.index(kinds.len()), HOW[rng.index(HOW.len())])
        };
        let file = &kinds[kind][rng.index(kinds[kind].len())];
        let other = all[rng.index(all.len())];
        hurt(how, file, other, rng)
            .map_err(|e| format!("could not damage {}: {e}", file.display()))?;
        let name = file.strip_prefix(dir).unwrap_or(file);
        done.push(format!("{how:?} {}", name.display()));
    }
    Ok(done.join(", "))
}

fn hurt(how: How, path: &Path, other: &Path, rng: &mut Rng) -> io::Result<()> {
    let huge = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.len() > HUGE);
    match how {
        How::Swap => return swap(path, other),
        How::Duplicate if !huge(path) => return duplicate(path, rng),
        How::Delete | How::Duplicate => return fs::remove_file(path),
        _ => {}
    }
    let mode = fs::metadata(path)?.permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    match how {
        How::Copy if !huge(other) => fs::write(path, fs::read(other)?)?,
        _ => scratch(how, path, rng)?,
    }
    fs::set_permissions(path, mode)
}

/// Changes a file in place.
pub(super) fn scratch(how: How, path: &Path, rng: &mut Rng) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let at = rng.below(len);
    let most = 1 << rng.below(20);
    let end = at + rng.below((len - at).min(most)) + u64::from(len > 0);
    let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(1)];
    match how {
        How::Zero => file.write_all_at(&bytes, at),
        How::Scribble => {
            bytes.fill_with(|| rng.next().to_le_bytes()[0]);
            file.write_all_at(&bytes, at)
        }
        How::Truncate => file.set_len(at),
        How::Empty => file.set_len(0),
        How::Extend => file.set_len(len + [1, 64, 5_000, 1 << 33][rng.index(4)]),
        _ => (0..=rng.below(4)).try_for_each(|_| flip(&file, rng.below(len), 1 << rng.below(8))),
    }
}

fn flip(file: &fs::File, at: u64, bit: u8) -> io::Result<()> {
    let mut byte = [0];
    if file.read_at(&mut byte, at)? == 1 {
        file.write_all_at(&[byte[0] ^ bit], at)?;
    }
    Ok(())
}

fn swap(path: &Path, other: &Path) -> io::Result<()> {
    if path == other {
        return Ok(());
    }
    let aside = path.with_extension("aside");
    fs::rename(path, &aside)?;
    fs::rename(other, path)?;
    fs::rename(&aside, other)
}

/// Beside it, under a name of the same kind: the last digits of a number, of a digest.
fn duplicate(path: &Path, rng: &mut Rng) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let keep = name.len().saturating_sub(5);
    let other = path.with_file_name(format!("{}{:05x}", &name[..keep], rng.below(1 << 20)));
    fs::copy(path, other).map(drop)
}
