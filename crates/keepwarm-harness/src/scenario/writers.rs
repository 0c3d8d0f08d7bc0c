//! Writers in processes of their own, and what they say.

use super::{Context, Outcome, Target, arg};
use crate::content::Rng;
use crate::log::{Op, Reader, Record};
use crate::model::Model;
use crate::process::{End, Running};
use crate::tally::{Fault, Tally};
use std::fs;
use std::io;
use std::time::Duration;

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

    /// How much some of them have said since [`follow`](Self::follow).
    pub(crate) fn said(&mut self, writers: &[usize]) -> io::Result<Vec<usize>> {
        let count = |writer: &usize| Ok(self.readers[*writer].peek()?.len());
        writers.iter().map(count).collect()
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
        Op::Slow => Fault::Hang,
        _ => return,
    };
    tally.fault(fault, format_args!("worker {writer}, key {}", record.key));
}

/// Writers that are to be started.
pub(crate) struct Plan<'a> {
    pub(crate) context: &'a Context,
    pub(crate) target: &'a Target,
    pub(crate) writers: u32,
    /// Generations are above this.
    pub(crate) above: u64,
    /// More arguments for each.
    pub(crate) flags: Vec<String>,
}

impl Plan<'_> {
    pub(crate) fn start(&self, rng: &mut Rng) -> Outcome<Crew> {
        self.start_behind(rng, |_| Vec::new())
    }

    /// Each behind a wrapper.
    pub(crate) fn start_behind(
        &self,
        rng: &mut Rng,
        mut wrapper: impl FnMut(&mut Rng) -> Vec<String>,
    ) -> Outcome<Crew> {
        let mut running = Vec::new();
        for writer in 0..self.writers {
            let wrapper = wrapper(rng);
            running.push(self.one(writer, rng.next(), &wrapper)?);
        }
        Ok(Crew { running })
    }

    /// One of them.
    pub(crate) fn one(&self, writer: u32, seed: u64, wrapper: &[String]) -> Outcome<Running> {
        let mut args = self.target.args("worker", seed);
        arg(&mut args, "--log", self.context.log(writer).display());
        arg(&mut args, "--writer", writer);
        arg(&mut args, "--writers", self.writers);
        arg(&mut args, "--above", self.above);
        args.extend(self.flags.iter().cloned());
        let output = self.context.temp.join(format!("worker{writer}"));
        Running::start(wrapper, &args, &output)
    }
}

/// Writers that run.
pub(crate) struct Crew {
    pub(crate) running: Vec<Running>,
}

impl Crew {
    /// Kills all, each a moment after the other. Who ended before, crashed.
    pub(crate) fn kill(&mut self, rng: &mut Rng, hint: &str, tally: &mut Tally) {
        for child in &mut self.running {
            std::thread::sleep(Duration::from_micros(rng.below(20_000)));
            if !child.is_running() {
                let said = child.stderr();
                tally.fault(Fault::Crash, format_args!("{hint}: a worker ended: {said}"));
            }
            child.kill();
            let said = child.stderr();
            for line in said.lines().take(2) {
                tally.note(format_args!("{hint}: {line}"));
            }
        }
    }

    /// Waits for all to end by themselves.
    pub(crate) fn wait(
        &mut self,
        bound: Duration,
        hint: &str,
        tally: &mut Tally,
    ) -> io::Result<()> {
        for (writer, child) in self.running.iter_mut().enumerate() {
            match child.wait(bound)? {
                End::Fine => {}
                End::Hung => tally.fault(Fault::Hang, format_args!("{hint}: worker {writer}")),
                End::Crashed(how) => tally.fault(
                    Fault::Crash,
                    format_args!("{hint}: worker {writer}: {how}: {}", child.stderr()),
                ),
                End::Failed => tally.fault(
                    Fault::Crash,
                    format_args!("{hint}: worker {writer} gave up: {}", child.stderr()),
                ),
            }
            for line in child.stderr().lines().take(2) {
                tally.note(format_args!("{hint}: worker {writer}: {line}"));
            }
        }
        Ok(())
    }
}
