//! The ways to hurt, and what they share.

mod builds;
mod clock;
mod copies;
mod damage;
mod full;
mod hostile;
mod kill;
mod power;
mod storm;
mod syscall;

use crate::log::{Op, Reader, Record};
use crate::model::{Judgement, Model};
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Fault, Tally};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    storm::SCENARIO,
    builds::SCENARIO,
    damage::SCENARIO,
    full::SCENARIO,
    power::SCENARIO,
    syscall::SCENARIO,
    copies::SCENARIO,
    clock::SCENARIO,
    hostile::SCENARIO,
];

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) seed: u64,
    pub(crate) rounds: Option<u64>,
    pub(crate) short: bool,
    pub(crate) install: bool,
    /// Runs whose names contain this.
    pub(crate) only: Option<String>,
    /// A directory of the scenario's own.
    pub(crate) temp: PathBuf,
}

impl Context {
    pub(crate) fn rounds(&self, full: u64, short: u64) -> u64 {
        self.rounds.unwrap_or(if self.short { short } else { full })
    }

    /// Whether a run was asked for by its name.
    pub(crate) fn wants(&self, tally: &Tally) -> bool {
        let only = self.only.as_deref();
        only.is_none_or(|part| tally.name().contains(part))
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

pub(crate) fn arg(args: &mut Vec<String>, name: &str, value: impl fmt::Display) {
    args.extend([name.to_owned(), value.to_string()]);
}

/// Prints the line of a finished run.
pub(crate) fn finish(tallies: &mut Vec<Tally>, tally: Tally) {
    println!("{tally}");
    tallies.push(tally);
}

/// What a verifier saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) keys: BTreeMap<u32, Option<u64>>,
    pub(crate) wrong: Vec<u32>,
    pub(crate) sick: Vec<u32>,
    pub(crate) errors: Vec<String>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// KiB.
    pub(crate) peak: u64,
    pub(crate) done: bool,
}

/// A verifier must be done by then. Its store waits up to 10 s for a lock.
const VERIFY: Duration = Duration::from_secs(60);

/// Runs a verifier; crashes, hangs, failures to open and wrong bytes are counted.
pub(crate) fn verify(
    context: &Context,
    args: &[String],
    hint: &str,
    tally: &mut Tally,
) -> Outcome<Seen> {
    verify_behind(&[], context, args, hint, tally)
}

/// The same behind a wrapper such as `faketime`.
pub(crate) fn verify_behind(
    wrapper: &[String],
    context: &Context,
    args: &[String],
    hint: &str,
    tally: &mut Tally,
) -> Outcome<Seen> {
    let mut child = Running::start(wrapper, args, &context.temp.join("verify"))?;
    let end = child.wait(VERIFY)?;
    let seen = parse(&child.stdout());
    tally.add("gets", seen.keys.len() as u64);
    tally.most("peak_kib", seen.peak);
    let said = child.stderr();
    let said = said.lines().last().unwrap_or_default();
    match end {
        End::Fine if seen.done => {}
        End::Fine | End::Failed => tally.fault(Fault::Unusable, format_args!("{hint}: {said}")),
        End::Crashed(how) => {
            tally.fault(
                Fault::Crash,
                format_args!("{hint}: {how}: {}", child.stderr()),
            );
        }
        End::Hung => tally.fault(Fault::Hang, format_args!("{hint}: {said}")),
    }
    for key in &seen.wrong {
        tally.fault(Fault::Wrong, format_args!("{hint}: key {key}"));
    }
    for error in &seen.errors {
        tally.fault(Fault::Error, format_args!("{hint}: {error}"));
    }
    for key in &seen.sick {
        tally.fault(Fault::Sick, format_args!("{hint}: key {key}"));
    }
    Ok(seen)
}

fn parse(output: &str) -> Seen {
    let mut seen = Seen::default();
    for line in output.lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().unwrap_or(0);
        let key = || rest.parse::<u32>().unwrap_or(0);
        match what {
            "key" => {
                if let Some((key, generation)) = rest.split_once(' ') {
                    if let (Ok(key), Ok(generation)) = (key.parse(), generation.parse()) {
                        seen.keys.insert(key, Some(generation));
                    }
                }
            }
            "miss" => drop(seen.keys.insert(key(), None)),
            "wrong" => seen.wrong.push(key()),
            "sick" => seen.sick.push(key()),
            "entries" => seen.entries = number(),
            "bytes" => seen.bytes = number(),
            "peak" => seen.peak = number(),
            "done" => seen.done = true,
            _ => seen.errors.push(rest.to_owned()),
        }
    }
    seen
}

/// Judges what was seen by what must be there.
pub(crate) fn judge(model: &Model, seen: &Seen, hint: &str, tally: &mut Tally) {
    for (key, generation) in &seen.keys {
        let fault = match model.judge(*key, *generation) {
            Judgement::Fine => continue,
            Judgement::Wrong => Fault::Wrong,
            Judgement::Stale => Fault::Stale,
            Judgement::Lost => Fault::Lost,
        };
        let expected = model.describe(*key);
        tally.fault(
            fault,
            format_args!("{hint}: key {key}: {generation:?}, expected {expected}"),
        );
    }
}

/// The logs of all writers of a directory, and what follows from them.
#[derive(Debug)]
pub(crate) struct Writers {
    readers: Vec<Reader>,
}

impl Writers {
    pub(crate) fn new(context: &Context, writers: u32) -> io::Result<Self> {
        let open = |writer| {
            let path = context.log(writer);
            fs::remove_file(&path).ok();
            Reader::open(&path)
        };
        Ok(Self {
            readers: (0..writers).map(open).collect::<io::Result<_>>()?,
        })
    }

    /// Lets a copy of the model allow for what was said since [`follow`](Self::follow): it may have
    /// happened before the fault or not.
    pub(crate) fn loosen(&mut self, model: &mut Model) -> io::Result<()> {
        for reader in &mut self.readers {
            model.loosen(&reader.peek()?);
        }
        Ok(())
    }

    /// Reads on, counts what the workers themselves saw, and lets the model follow.
    pub(crate) fn follow(&mut self, model: &mut Model, tally: &mut Tally) -> io::Result<()> {
        let writers = self.readers.len();
        let mut all = Vec::new();
        for (writer, reader) in self.readers.iter_mut().enumerate() {
            let records = reader.records()?;
            model.follow(&records, |key| key as usize % writers == writer);
            all.push(records);
        }
        for (writer, records) in all.iter().enumerate() {
            for record in records {
                count(writer, record, model.evicted, tally);
            }
        }
        Ok(())
    }
}

/// Counts what a worker said.
fn count(writer: usize, record: &Record, evicted: bool, tally: &mut Tally) {
    let fault = match record.op {
        Op::Got => return tally.add("gets", 1),
        Op::PutOk => return tally.add("puts", 1),
        Op::RemoveOk => return tally.add("removes", 1),
        Op::FlushOk => return tally.add("flushes", 1),
        // Another process may have evicted it.
        Op::Lost if evicted => return tally.add("evicted", 1),
        Op::Lost => Fault::Lost,
        Op::Wrong => Fault::Wrong,
        Op::Stale => Fault::Stale,
        Op::Error => Fault::Error,
        Op::Dropped => Fault::Dropped,
        Op::Stuck => Fault::Stuck,
        _ => return,
    };
    tally.fault(fault, format_args!("worker {writer}, key {}", record.key));
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

/// Bytes of artifacts and packs in a directory of keepwarm, as far as files do not vanish.
pub(crate) fn used(dir: &Path) -> u64 {
    ["packs", "objects"]
        .iter()
        .flat_map(|folder| files(&dir.join("v1").join(folder)).unwrap_or_default())
        .filter_map(|file| fs::symlink_metadata(file).ok())
        .map(|meta| meta.len())
        .sum()
}

/// Files in `tmp/` when no process is alive.
pub(crate) fn litter(dir: &Path) -> io::Result<Vec<PathBuf>> {
    files(&dir.join("v1").join("tmp"))
}
