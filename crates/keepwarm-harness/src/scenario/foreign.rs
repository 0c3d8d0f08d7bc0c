//! Directories of other users, and such as cannot be written: used or refused, but nothing outside
//! is touched, nothing hangs, nothing is wrong.

use super::{Context, Outcome, Scenario, Target, arg, files, finish, verify, verify_behind};
use crate::mount::{Mount, require};
use crate::process::tool;
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "foreign",
    about: "directories of other users, unreadable parts, a read-only mount (root)",
    run,
};

const WATCHED: [Fault; 5] = [
    Fault::Wrong,
    Fault::Crash,
    Fault::Hang,
    Fault::Outside,
    Fault::Memory,
];
const NOBODY: &str = "65534:65534";

/// Whose the directory is, what is allowed, and who uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Ours, 0700; somebody else.
    Private,
    /// Ours, readable for all; somebody else.
    Readable,
    /// Ours, writable for all; somebody else, then we.
    WritableByAll,
    /// Somebody else's; we, who may do everything.
    OfAnother,
    /// Somebody else's, without rights on an object, a pack, the index, in turn.
    Unreadable(&'static str),
    /// Somebody else's, with folders in which nothing can be made.
    ReadOnlyFolders,
    /// Ours, mounted read-only.
    ReadOnlyMount,
}

const CASES: [Case; 11] = [
    Case::Private,
    Case::Readable,
    Case::WritableByAll,
    Case::OfAnother,
    Case::Unreadable("v1/objects"),
    Case::Unreadable("v1/packs"),
    Case::Unreadable("v1/index"),
    Case::Unreadable("v1/builds"),
    Case::Unreadable("v1/tmp"),
    Case::ReadOnlyFolders,
    Case::ReadOnlyMount,
];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    require(context, &[("setpriv", "util-linux")])?;
    // Others must be able to come here.
    fs::set_permissions(&context.temp, fs::Permissions::from_mode(0o711))?;
    let program = context.temp.join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let mut tallies = Vec::new();
    for kind in [Kind::Disk, Kind::Unmapped] {
        let mut tally = Tally::new(format!("foreign {}", kind.name()), Expect::Clean, &WATCHED);
        if !context.wants(&tally) {
            continue;
        }
        for case in CASES {
            one(context, kind, case, &mut tally)?;
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

fn one(context: &Context, kind: Kind, case: Case, tally: &mut Tally) -> Outcome<()> {
    let hint = format!("{case:?}");
    let mut target = Target {
        kind,
        dir: context.temp.join("cache"),
        budget: 1 << 30,
        keys: 36,
    };
    fs::remove_dir_all(&target.dir).ok();
    let mut args = target.args("verify", 1);
    arg(&mut args, "--heal", 1);
    verify(context, &args, &hint, tally)?;
    set_rights(case, &target.dir)?;
    let before = look(&target.dir)?;
    let mut mounted = None;
    if case == Case::ReadOnlyMount {
        mounted = Some(read_only(&target.dir, &context.temp.join("mounted"))?);
        target.dir = context.temp.join("mounted");
    }
    let wrapper = match case {
        Case::OfAnother | Case::ReadOnlyMount => Vec::new(),
        _ => nobody(&context.temp.join("program")),
    };
    let mut args = target.args("verify", 2);
    if case != Case::ReadOnlyMount {
        arg(&mut args, "--heal", 2);
    }
    // Not to work is allowed.
    let mut quiet = Tally::new(
        tally.name(),
        Expect::Clean,
        &[Fault::Wrong, Fault::Crash, Fault::Hang],
    );
    let seen = verify_behind(&wrapper, context, &args, &hint, &mut quiet)?;
    quiet.pour_into(tally);
    tally.add(if seen.done { "opened" } else { "refused" }, 1);
    tally.add("there", seen.keys.values().flatten().count() as u64);
    drop(mounted);
    let forbidden = matches!(case, Case::Private | Case::Readable | Case::ReadOnlyMount);
    target.dir = context.temp.join("cache");
    if forbidden && look(&target.dir)? != before {
        tally.fault(
            Fault::Outside,
            format_args!("{hint}: something was changed"),
        );
    }
    // And then whose it is.
    let mut quiet = Tally::new(
        tally.name(),
        Expect::Clean,
        &[Fault::Wrong, Fault::Crash, Fault::Hang],
    );
    verify(
        context,
        &target.args("verify", 3),
        &format!("{hint}, then by root"),
        &mut quiet,
    )?;
    quiet.pour_into(tally);
    tally.add("cases", 1);
    Ok(())
}

/// Behind this the program runs as nobody.
fn nobody(program: &Path) -> Vec<String> {
    // The first argument is where the program is for us.
    let script = r#"shift; exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$0" "$@""#;
    let program = program.to_string_lossy();
    ["sh", "-c", script, &program].map(str::to_owned).to_vec()
}

fn set_rights(case: Case, dir: &Path) -> Outcome<()> {
    let name = dir.to_string_lossy();
    match case {
        Case::Private | Case::ReadOnlyMount => {}
        Case::Readable => drop(tool("chmod", &["-R", "a+rX", &name])?),
        Case::WritableByAll => drop(tool("chmod", &["-R", "a+rwX", &name])?),
        Case::OfAnother => drop(tool("chown", &["-R", NOBODY, &name])?),
        Case::Unreadable(part) => {
            tool("chown", &["-R", NOBODY, &name])?;
            let part = dir.join(part);
            let below = if part.is_dir() {
                files(&part)?
            } else {
                Vec::new()
            };
            let first = below.into_iter().next().unwrap_or(part);
            fs::set_permissions(first, fs::Permissions::from_mode(0o000))?;
        }
        Case::ReadOnlyFolders => {
            tool("chown", &["-R", NOBODY, &name])?;
            tool("chmod", &["-R", "a-w", &name])?;
        }
    }
    Ok(())
}

fn read_only(dir: &Path, at: &Path) -> Outcome<Mount> {
    let mounted = Mount::other(&["--bind", &dir.to_string_lossy()], at)?;
    tool("mount", &["-o", "remount,bind,ro", &at.to_string_lossy()])?;
    Ok(mounted)
}

/// Files with their lengths, inodes, modes and times.
fn look(dir: &Path) -> io::Result<BTreeMap<PathBuf, (u64, u64, u32, i64)>> {
    let all = files(dir)?.into_iter().map(|file| {
        let meta = fs::symlink_metadata(&file)?;
        let seen = (meta.len(), meta.ino(), meta.mode(), meta.mtime());
        Ok((file, seen))
    });
    all.collect()
}
