//! Files are damaged while nobody looks.

use super::{Context, Outcome, Scenario, Target, arg, files, finish, verify};
use crate::content::Rng;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "damage",
    about: "bit flips, zeros, truncation, extension, swap, copy, duplication, deletion of every file",
    run,
};

const WATCHED: [Fault; 6] = [
    Fault::Wrong,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Sick,
];

/// Files that were made larger than this, in bytes, are not copied.
const HUGE: u64 = 1 << 28;

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let rounds = context.rounds(600, 50);
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
            let hint = damage(&target.dir, &mut rng)?;
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

/// Hurts one to three files, mostly in place, so that the index stays the directory's own.
fn damage(dir: &Path, rng: &mut Rng) -> Outcome<String> {
    let mut done = Vec::new();
    for _ in 0..=rng.below(3) {
        let all = files(dir)?;
        if all.is_empty() {
            break;
        }
        // Every second time the index, or one of the packs: there are many more objects.
        let few: Vec<_> = all
            .iter()
            .filter(|file| file.ends_with("v1/index") || file.starts_with(dir.join("v1/packs")))
            .collect();
        let file = if rng.below(2) == 0 && !few.is_empty() {
            few[rng.index(few.len())]
        } else {
            &all[rng.index(all.len())]
        };
        let other = &all[rng.index(all.len())];
        let what = hurt(file, other, rng)
            .map_err(|e| format!("could not damage {}: {e}", file.display()))?;
        let name = file.strip_prefix(dir).unwrap_or(file);
        done.push(format!("{what} {}", name.display()));
    }
    Ok(done.join(", "))
}

fn hurt(path: &Path, other: &Path, rng: &mut Rng) -> io::Result<&'static str> {
    if path == other && rng.below(2) == 0 {
        fs::remove_file(path)?;
        return Ok("delete");
    }
    let mode = fs::metadata(path)?.permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let len = file.metadata()?.len();
    let huge = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.len() > HUGE);
    let at = rng.below(len);
    let most = 1 << rng.below(20);
    let end = at + 1 + rng.below((len - at).min(most));
    let mut bytes = vec![0; usize::try_from(end - at).unwrap_or(1)];
    let what = match rng.below(10) {
        0..=2 => {
            for _ in 0..=rng.below(4) {
                flip(&file, rng.below(len), 1 << rng.below(8))?;
            }
            "flip bits of"
        }
        3 => {
            file.write_all_at(&bytes, at)?;
            "zero a part of"
        }
        4 => {
            bytes.fill_with(|| rng.next().to_le_bytes()[0]);
            file.write_all_at(&bytes, at)?;
            "scribble over"
        }
        5 => {
            file.set_len(at)?;
            "truncate"
        }
        6 => {
            let more = [1, 64, 5_000, 1 << 33][rng.index(4)];
            file.set_len(len + more)?;
            "extend"
        }
        7 => {
            swap(path, other)?;
            "swap with another"
        }
        8 if !huge(other) => {
            fs::write(path, fs::read(other)?)?;
            "copy another over"
        }
        _ if huge(path) => {
            fs::remove_file(path)?;
            return Ok("delete huge");
        }
        _ => return duplicate(path, rng),
    };
    fs::set_permissions(path, mode).ok();
    Ok(what)
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
fn duplicate(path: &Path, rng: &mut Rng) -> io::Result<&'static str> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let keep = name.len().saturating_sub(5);
    let other = path.with_file_name(format!("{}{:05x}", &name[..keep], rng.below(1 << 20)));
    fs::copy(path, other)?;
    Ok("duplicate")
}
