//! Several processes use one directory at once. Each works off its own list of operations; what is
//! told is the time from the common start until the slowest is done, writes in the background
//! included, for each operation of all of them. Contenders that allow one process only show that.

use super::{SAMPLED, Task, artifacts};
use crate::Fault;
use crate::content::{Key, sum, zipf};
use crate::measure::{Basis, Clock, Cost, Reading};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const PROCESSES: [(u64, &str); 3] = [(1, "1 process"), (2, "2 processes"), (4, "4 processes")];

/// One put among so many operations.
const PUT_EVERY: usize = 10;

/// Which of how many processes a worker is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Place {
    #[arg(long)]
    pub(crate) process: u64,
    #[arg(long)]
    pub(crate) processes: u64,
}

/// What a worker prints at its end.
#[derive(Serialize, Deserialize)]
struct Done {
    wall: Duration,
    cpu: Duration,
    failure: Option<String>,
}

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let operations = operations(task);
    let most = if task.contender.shared {
        PROCESSES.len()
    } else {
        1
    };
    let mut readings = Vec::new();
    for (processes, metric) in PROCESSES.into_iter().take(most) {
        let workers =
            (0..processes).map(|process| Worker::start(task, Place { process, processes }));
        let mut workers = workers.collect::<Result<Vec<_>, _>>()?;
        for worker in &mut workers {
            worker.go()?;
        }
        let mut cost = Cost::default();
        for worker in workers {
            let done = worker.finish()?;
            if let Some(failure) = done.failure {
                return Err(format!("{metric}: {failure}").into());
            }
            let wall = cost.wall.max(done.wall);
            cost = Cost {
                wall,
                cpu: cost.cpu + done.cpu,
            };
        }
        readings.push(cost.per(operations * processes, metric, Basis::Wall));
    }
    Ok(readings)
}

fn operations(task: &Task<'_>) -> u64 {
    task.plan.scaled(10_000, 500)
}

/// A process that waits for the word to begin.
struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    fn start(task: &Task<'_>, place: Place) -> Result<Self, Fault> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker");
        command.args(crate::child_arguments(
            "processes",
            task.contender.name,
            task.plan,
        ));
        command.args(["--process", &place.process.to_string()]);
        command.args(["--processes", &place.processes.to_string()]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("a worker has no input")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("a worker has no output")?);
        let mut worker = Self {
            child,
            stdin,
            stdout,
        };
        let mut line = String::new();
        worker.stdout.read_line(&mut line)?;
        if line != "ready\n" {
            return Err(format!("a worker could not begin: {line}").into());
        }
        Ok(worker)
    }

    fn go(&mut self) -> Result<(), Fault> {
        Ok(self.stdin.write_all(b"go\n")?)
    }

    fn finish(mut self) -> Result<Done, Fault> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        serde_json::from_str(&text).map_err(|_| format!("a worker ended with {status}").into())
    }
}

/// Whatever ends the run early leaves nobody waiting.
impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The life of a worker.
pub(crate) fn work(task: &Task<'_>, place: Place) -> Result<(), Fault> {
    let stream = task.plan.round << 16 | place.processes << 8 | place.process;
    let operations = usize::try_from(operations(task))?;
    let draws = zipf(
        &mut task.random(stream + 1),
        task.data.count,
        0.99,
        operations,
    );
    let new = task.data.stream(stream + 1);
    let puts = artifacts(&new, 0..(operations / PUT_EVERY) as u64);
    let store = task.open()?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let clock = Clock::start();
    let result = operate(task, &*store, &draws, puts);
    let cost = clock.stop();
    let failure = result.and_then(|sums| check(task, &draws, &sums)).err();
    let failure = failure.map(|failure| failure.to_string());
    println!(
        "{}",
        serde_json::to_string(&Done {
            wall: cost.wall,
            cpu: cost.cpu,
            failure
        })?
    );
    store.close()
}

/// Gives what the gets read, in the order of the draws that were gets.
fn operate(
    task: &Task<'_>,
    store: &dyn crate::disk::DiskStore,
    draws: &[u32],
    puts: Vec<(Key, Vec<u8>)>,
) -> Result<Vec<u64>, Fault> {
    let mut sums = Vec::with_capacity(draws.len());
    let mut puts = puts.into_iter();
    for (at, n) in draws.iter().enumerate() {
        if at % PUT_EVERY == 0 {
            if let Some((key, artifact)) = puts.next() {
                store.put(&key, artifact)?;
            }
            sums.push(0);
            continue;
        }
        let mut read = 0;
        if !store.get(&task.data.key(u64::from(*n)), &mut |bytes| {
            read = sum(bytes);
        })? {
            return Err(format!("lost artifact {n}").into());
        }
        sums.push(read);
    }
    store.settle()?;
    Ok(sums)
}

fn check(task: &Task<'_>, draws: &[u32], sums: &[u64]) -> Result<(), Fault> {
    let gets = draws
        .iter()
        .zip(sums)
        .enumerate()
        .filter(|(at, _)| at % PUT_EVERY != 0);
    for (_, (n, read)) in gets.step_by(SAMPLED * 16) {
        if sum(&task.data.bytes(u64::from(*n))) != *read {
            return Err(format!("altered artifact {n}").into());
        }
    }
    Ok(())
}
