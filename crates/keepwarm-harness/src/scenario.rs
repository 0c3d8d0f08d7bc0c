//! The ways to hurt, and what they share.

mod builds;
mod calls;
mod clock;
mod copies;
mod damage;
mod foreign;
mod forked;
mod full;
mod grow;
mod hostile;
mod kill;
mod limits;
mod live;
mod look;
mod overlay;
mod power;
mod replaced;
mod stop;
mod storm;
mod syscall;
mod writers;

use crate::stores::Kind;
use crate::tally::Tally;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

pub(crate) use look::{Seen, judge, look_at_evictions, verify, verify_behind};
pub(crate) use writers::{Crew, Plan, Writers};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Something that a scenario needs is not here.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Skip {}

/// One way to hurt.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Prints its lines as it goes.
    pub(crate) run: fn(&Context) -> Outcome<Vec<Tally>>,
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    kill::SCENARIO,
    stop::SCENARIO,
    replaced::SCENARIO,
    grow::SCENARIO,
    forked::SCENARIO,
    storm::SCENARIO,
    builds::SCENARIO,
    damage::SCENARIO,
    live::SCENARIO,
    full::SCENARIO,
    power::SCENARIO,
    syscall::SCENARIO,
    limits::SCENARIO,
    copies::SCENARIO,
    overlay::SCENARIO,
    clock::SCENARIO,
    hostile::SCENARIO,
    foreign::SCENARIO,
];

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing that needs root; minutes.
    Short,
    /// What every change should pass.
    Ci,
    /// What was promised to be done once.
    Full,
}

impl Form {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Ci => "ci",
            Self::Full => "full",
        }
    }
}

/// The runs that there were to choose from, and whether any was chosen.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    names: Mutex<Vec<String>>,
    any: AtomicBool,
}

impl Runs {
    pub(crate) fn were_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = self.names.lock();
        names.map(|names| names.clone()).unwrap_or_default()
    }

    fn note(&self, name: &str, wanted: bool) {
        self.any.fetch_or(wanted, Ordering::Relaxed);
        if let Ok(mut names) = self.names.lock() {
            names.push(name.to_owned());
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) seed: u64,
    pub(crate) rounds: Option<u64>,
    pub(crate) form: Form,
    pub(crate) install: bool,
    /// Runs whose names contain this.
    pub(crate) only: Option<String>,
    pub(crate) runs: Arc<Runs>,
    /// A directory of the scenario's own.
    pub(crate) temp: PathBuf,
}

impl Context {
    /// What was asked for, or what the form takes: short, with every change, once.
    pub(crate) fn rounds(&self, short: u64, ci: u64, full: u64) -> u64 {
        self.rounds.unwrap_or(match self.form {
            Form::Short => short,
            Form::Ci => ci,
            Form::Full => full,
        })
    }

    pub(crate) fn is_short(&self) -> bool {
        self.form == Form::Short
    }

    /// The same with a directory of its own below, for a thread.
    pub(crate) fn thread(&self, number: usize) -> io::Result<Self> {
        let temp = self.temp.join(format!("thread{number}"));
        fs::create_dir_all(&temp)?;
        Ok(Self {
            temp,
            ..self.clone()
        })
    }

    /// Whether a run was asked for by its name.
    pub(crate) fn wants(&self, tally: &Tally) -> bool {
        let only = self.only.as_deref();
        let wanted = only.is_none_or(|part| tally.name().contains(part));
        self.runs.note(tally.name(), wanted);
        wanted
    }

    pub(crate) fn log(&self, writer: u32) -> PathBuf {
        self.temp.join(format!("log{writer}"))
    }
}

/// A store, where it is, and how much is put into it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) dir: PathBuf,
    pub(crate) budget: u64,
    pub(crate) keys: u32,
}

impl Target {
    /// Whether what is evicted is not told by any outcome: a background writer evicts it.
    pub(crate) fn hides_evictions(&self) -> bool {
        self.kind == Kind::Tiered && self.budget < ROOM
    }

    /// The arguments of a child for it.
    pub(crate) fn args(&self, child: &str, seed: u64) -> Vec<String> {
        let mut args = vec![child.to_owned()];
        let pairs = [
            ("--dir", self.dir.to_string_lossy().into_owned()),
            ("--store", self.kind.name().to_owned()),
            ("--budget", self.budget.to_string()),
            ("--keys", self.keys.to_string()),
            ("--seed", seed.to_string()),
        ];
        args.extend(
            pairs
                .into_iter()
                .flat_map(|(name, value)| [name.to_owned(), value]),
        );
        args
    }
}

/// A budget, in bytes, that has room for all that runs of 60 keys have live, several times.
pub(crate) const ROOM: u64 = 16 << 20;

pub(crate) fn arg(args: &mut Vec<String>, name: &str, value: impl fmt::Display) {
    args.extend([name.to_owned(), value.to_string()]);
}

/// Prints the line of a finished run.
pub(crate) fn finish(tallies: &mut Vec<Tally>, tally: Tally) {
    println!("{tally}");
    tallies.push(tally);
}

/// Every file below a directory, in a fixed order.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => found.push(entry.path()),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Bytes of artifacts and packs in a directory of keepwarm, of everything in another one, as far as
/// files do not vanish.
pub(crate) fn used(dir: &Path) -> u64 {
    let base = dir.join("v1");
    let folders = if base.exists() {
        vec![base.join("packs"), base.join("objects")]
    } else {
        vec![dir.to_owned()]
    };
    folders
        .iter()
        .flat_map(|folder| files(folder).unwrap_or_default())
        .filter_map(|file| fs::symlink_metadata(file).ok())
        .map(|meta| meta.len())
        .sum()
}

/// How many things can be done at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Files in `tmp/` when no process is alive.
pub(crate) fn litter(dir: &Path) -> io::Result<Vec<PathBuf>> {
    files(&dir.join("v1").join("tmp"))
}
