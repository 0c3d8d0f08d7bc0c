//! Something else lies where a file of the store should be, or a folder.

use super::{Context, Outcome, Scenario, Target, arg, files, finish, verify, verify_behind};
use crate::child::extras::{BUILT, NOTE};
use crate::content::{Rng, fingerprint};
use crate::process::{has, is_root};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hostile",
    about: "FIFO, socket, device, links, folder, huge file in the place of every file and folder",
    run,
};

const WATCHED: [Fault; 5] = [
    Fault::Wrong,
    Fault::Crash,
    Fault::Hang,
    Fault::Outside,
    Fault::Memory,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guise {
    Fifo,
    Socket,
    /// `/dev/zero`: root only.
    Device,
    Link,
    LinkToFolder,
    DanglingLink,
    LinkToItself,
    HardLink,
    Folder,
    Huge,
    Empty,
    Unreadable,
}

const GUISES: [Guise; 12] = [
    Guise::Fifo,
    Guise::Socket,
    Guise::Device,
    Guise::Link,
    Guise::LinkToFolder,
    Guise::DanglingLink,
    Guise::LinkToItself,
    Guise::HardLink,
    Guise::Folder,
    Guise::Huge,
    Guise::Empty,
    Guise::Unreadable,
];

/// What a store that only puts and gets does not touch.
const EXTRAS: [&str; 4] = ["v1/verified", "v1/history", "v1/notes", "v1/builds"];

/// What is written only after a while: stamps of files that have been let be, samples of counters.
const LATER: [&str; 2] = ["v1/verified", "v1/history"];

/// What makes a process believe that ten minutes went by, but for times of files.
fn later() -> Vec<String> {
    let words = [
        "env",
        "DONT_FAKE_MONOTONIC=1",
        "NO_FAKE_STAT=1",
        "faketime",
        "-f",
        "+10m",
    ];
    words.map(str::to_owned).to_vec()
}

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    let mut tallies = Vec::new();
    let rounds = context.rounds(1, 4, 12);
    for kind in [Kind::Disk, Kind::Unmapped, Kind::InPlace] {
        let expect = match kind {
            Kind::InPlace => Expect::Caught(Fault::Outside),
            _ => Expect::Clean,
        };
        let mut tally = Tally::new(format!("hostile {}", kind.name()), expect, &WATCHED);
        // Half of it is enough for a first look.
        if !context.wants(&tally) || context.is_short() && kind == Kind::Unmapped {
            continue;
        }
        let mut rng = Rng::new(context.seed);
        let bench = Bench::new(context, kind)?;
        bench.populate(&mut tally)?;
        for place in bench.places(&mut rng, rounds)? {
            for guise in GUISES {
                // Where the control would wait for ever, it is not waited for.
                let forever = [Guise::Fifo, Guise::Device, Guise::Huge].contains(&guise);
                let left_out = kind == Kind::InPlace && forever;
                if (guise != Guise::Device || is_root()) && !left_out {
                    bench
                        .one(&place, guise, &mut tally)
                        .map_err(|e| format!("{guise:?} at {place:?}: {e}"))?;
                }
            }
        }
        finish(&mut tallies, tally);
    }
    Ok(tallies)
}

struct Bench<'a> {
    context: &'a Context,
    target: Target,
    victims: PathBuf,
}

impl<'a> Bench<'a> {
    fn new(context: &'a Context, kind: Kind) -> Outcome<Self> {
        let victims = context.temp.join(format!("victims-{}", kind.name()));
        fs::create_dir(&victims)?;
        Ok(Self {
            context,
            target: Target {
                kind,
                dir: context.temp.join(kind.name()),
                budget: 1 << 30,
                keys: 36,
            },
            victims,
        })
    }

    fn populate(&self, tally: &mut Tally) -> Outcome<()> {
        if self.target.dir.exists() {
            fs::remove_dir_all(&self.target.dir)?;
        }
        let mut args = self.target.args("verify", 1);
        arg(&mut args, "--heal", 1);
        verify(self.context, &args, "populating", tally)?;
        Ok(())
    }

    /// The paths below the directory at which something else will lie: of objects `some`, of the
    /// rest all. Names of packs differ from one population to the next: those are found by order.
    fn places(&self, rng: &mut Rng, some: u64) -> Outcome<Vec<String>> {
        if self.target.kind == Kind::InPlace {
            let names = files(&self.target.dir)?.into_iter().take(3);
            let names = names.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()));
            return Ok(names.collect());
        }
        // Names in `tmp/` cannot be foreseen; what lies there is swept.
        let mut places: Vec<String> = [
            "",
            "v1",
            "v1/packs",
            "v1/objects",
            "v1/tmp",
            "v1/builds",
            "v1/builds/evict.lock",
            "v1/builds/rebuild.lock",
            "v1/verified",
            "v1/history",
            "v1/notes",
            "v1/lock",
            "v1/tmp/000102030405060708090a0b",
            "v1/tmp/000102030405060708090a0c/alive",
            "v1/tmp/000102030405060708090a0d/0123456789abcdef",
            "v1/packs/012345678",
            "v1/objects/zz",
        ]
        .map(str::to_owned)
        .to_vec();
        places.push(format!("v1/notes/{NOTE}"));
        places.push(format!("v1/builds/{}", fingerprint(BUILT)));
        let (objects, rest): (Vec<_>, Vec<_>) = files(&self.target.dir)?
            .into_iter()
            .filter_map(|file| Some(file.strip_prefix(&self.target.dir).ok()?.to_owned()))
            .partition(|file| file.starts_with("v1/objects"));
        for _ in 0..some {
            if let Some(object) = objects.get(rng.index(objects.len())) {
                places.push(object.to_string_lossy().into_owned());
                let folder = object.parent().unwrap_or(object);
                places.push(folder.to_string_lossy().into_owned());
            }
        }
        for file in rest {
            let name = file.to_string_lossy().into_owned();
            places.push(if file.starts_with("v1/packs") {
                "first pack".into()
            } else {
                name
            });
        }
        places.sort();
        places.dedup();
        Ok(places)
    }

    fn resolve(&self, place: &str) -> Outcome<PathBuf> {
        if place == "first pack" {
            let packs = files(&self.target.dir.join("v1/packs"))?;
            return Ok(packs.first().ok_or("no pack")?.clone());
        }
        // An empty name would leave a slash behind it.
        let names = Path::new(place).components();
        Ok(names.fold(self.target.dir.clone(), |path, name| path.join(name)))
    }

    fn one(&self, place: &str, guise: Guise, tally: &mut Tally) -> Outcome<()> {
        self.populate(tally)?;
        let hint = format!("{guise:?} in place of {place:?}");
        let path = self.resolve(place)?;
        if guise == Guise::Unreadable && !path.exists() {
            return Ok(());
        }
        let victim = self.victims.join("victim");
        fs::write(&victim, b"leave me alone")?;
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o640))?;
        let folder = self.victims.join("folder");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("file"), b"me too")?;
        put_on(guise, &path, &victim, &folder)?;
        let mut args = self.target.args("verify", 2);
        arg(&mut args, "--heal", 2);
        // Half of it is enough for a first look.
        let is_extra = EXTRAS.iter().any(|extra| place.starts_with(extra));
        if self.target.kind != Kind::InPlace && (is_extra || !self.context.is_short()) {
            args.push("--extras".into());
        }
        args.push("--clear".into());
        // Not to work is allowed: whoever can do this can delete everything.
        let mut quiet = tally.only(&[Fault::Wrong, Fault::Crash, Fault::Hang]);
        let later = if LATER.contains(&place) && has("faketime") {
            later()
        } else {
            Vec::new()
        };
        let seen = verify_behind(&later, self.context, &args, &hint, &mut quiet)?;
        quiet.pour_into(tally);
        tally.add(if seen.done { "opened" } else { "refused" }, 1);
        tally.add("guises", 1);
        if let Some(what) = look_outside(&victim, &folder, place.is_empty())? {
            tally.fault(Fault::Outside, format_args!("{hint}: {what}"));
        }
        restore(&path)
    }
}

/// What was changed outside of the directory. The root may be a link: it is the user's own path, and
/// followed.
fn look_outside(victim: &Path, folder: &Path, is_root: bool) -> Outcome<Option<String>> {
    let mode = fs::symlink_metadata(victim).map(|meta| meta.mode() & 0o777);
    let is_whole = fs::read(victim).is_ok_and(|bytes| bytes == b"leave me alone");
    let names = files(folder)?;
    let mut changed = None;
    if !is_whole || mode.ok() != Some(0o640) {
        changed = Some("the file was changed".to_owned());
    }
    let file = folder.join("file");
    if !file.exists() || !is_root && names != [file] {
        changed = Some(format!("{names:?}"));
    }
    fs::remove_dir_all(folder)?;
    fs::remove_file(victim)?;
    Ok(changed)
}

fn put_on(guise: Guise, path: &Path, victim: &Path, folder: &Path) -> Outcome<()> {
    if guise == Guise::Unreadable {
        return Ok(fs::set_permissions(
            path,
            fs::Permissions::from_mode(0o000),
        )?);
    }
    restore(path)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match guise {
        Guise::Fifo => mknodat(CWD, path, FileType::Fifo, Mode::from(0o666), 0)?,
        Guise::Device => {
            let zero = makedev(1, 5);
            mknodat(
                CWD,
                path,
                FileType::CharacterDevice,
                Mode::from(0o666),
                zero,
            )?;
        }
        // As one is left when nobody listens any more; made so, its path may be long.
        Guise::Socket => mknodat(CWD, path, FileType::Socket, Mode::from(0o666), 0)?,
        Guise::Link => symlink(victim, path)?,
        Guise::LinkToFolder => symlink(folder, path)?,
        Guise::DanglingLink => symlink(victim.with_extension("not-there"), path)?,
        Guise::LinkToItself => symlink(path, path)?,
        Guise::HardLink => fs::hard_link(victim, path)?,
        Guise::Folder => {
            fs::create_dir(path)?;
            fs::write(path.join("file"), b"in the way")?;
        }
        Guise::Huge => fs::File::create(path)?.set_len(1 << 40)?,
        Guise::Empty => drop(fs::File::create(path)?),
        Guise::Unreadable => {}
    }
    Ok(())
}

/// Takes away whatever lies there.
fn restore(path: &Path) -> Outcome<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(fs::remove_dir_all(path)?),
        Ok(_) => Ok(fs::remove_file(path)?),
        Err(_) => Ok(()),
    }
}
