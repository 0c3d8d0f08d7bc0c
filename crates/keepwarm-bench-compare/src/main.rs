//! Measures keepwarm beside the caches and stores that a user would pick instead.
//!
//! `memory` and `disk` have one file a contender behind a small trait each, `workload` one a kind of
//! use, `content` keys and bytes, `measure` clocks. Each measurement is a child process of its own
//! (`system`), the contenders in turn, in rounds (`run`); `results` puts the rounds together,
//! `targets` says what keepwarm is to reach, `report` and `plot` write it down.

mod content;
mod disk;
mod measure;
mod memory;
mod plan;
mod plot;
mod report;
mod results;
mod run;
mod stats;
mod system;
mod targets;
mod workload;

use clap::{Parser, Subcommand};
use measure::ChildReport;
use plan::Plan;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use workload::{Kind, Task};

/// What goes wrong in a contender or around it; told, never handled.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Measures keepwarm beside other caches and stores: tables on the output, JSON lines and plots in
/// a folder.
///
/// Wants a machine that does nothing else. Exits with 1 if keepwarm lost or altered something.
#[derive(Debug, Parser)]
#[command(
    name = "keepwarm-bench-compare",
    version,
    args_conflicts_with_subcommands = true
)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Args {
    /// A taste of everything in two minutes; its numbers mean nothing
    #[arg(long)]
    quick: bool,

    /// Only this workload, or all that begin with it, as `open`; may be given several times
    #[arg(long, value_name = "WORKLOAD")]
    only: Vec<String>,

    /// Only this contender; may be given several times
    #[arg(long, value_name = "NAME")]
    contender: Vec<String>,

    /// How often each contender is measured [default: 5; quick: 2]
    #[arg(long)]
    rounds: Option<u64>,

    /// Keys, contents and orders follow from it
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Where directories are made [default: the folder for temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Where tables, JSON lines and plots are written
    #[arg(long, default_value = "target/bench-compare")]
    out: PathBuf,

    /// Do not count system calls
    #[arg(long)]
    no_strace: bool,

    /// Count instructions with callgrind; some minutes more
    #[arg(long)]
    instructions: bool,

    /// List workloads and contenders
    #[arg(long)]
    list: bool,

    #[command(subcommand)]
    command: Option<Mode>,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// One measurement
    #[command(hide = true)]
    Child(ChildArgs),
    /// Fills the directory for later measurements
    #[command(hide = true)]
    Fill(ChildArgs),
    /// One of several processes of a measurement
    #[command(hide = true)]
    Worker {
        #[command(flatten)]
        child: ChildArgs,
        #[command(flatten)]
        place: workload::processes::Place,
    },
}

#[derive(Debug, clap::Args)]
struct ChildArgs {
    #[arg(long)]
    workload: String,
    #[arg(long)]
    contender: String,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    round: u64,
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    traced: Option<u64>,
}

impl ChildArgs {
    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed,
            round: self.round,
            quick: self.quick,
            dir: self.dir.clone(),
            traced: self.traced,
        }
    }
}

/// What [`ChildArgs`] reads.
pub(crate) fn child_arguments(workload: &str, contender: &str, plan: &Plan) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
        "--workload".into(),
        workload.into(),
        "--contender".into(),
        contender.into(),
        "--seed".into(),
        plan.seed.to_string().into(),
        "--round".into(),
        plan.round.to_string().into(),
        "--dir".into(),
        plan.dir.clone().into(),
    ];
    if plan.quick {
        arguments.push("--quick".into());
    }
    if let Some(traced) = plan.traced {
        arguments.extend(["--traced".into(), traced.to_string().into()]);
    }
    arguments
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Mode::Child(child)) => tell(measure_one(child)),
        Some(Mode::Fill(child)) => tell(fill(child).map(|()| Vec::new())),
        Some(Mode::Worker { child, place }) => {
            task(child, |task| workload::processes::work(task, *place))
        }
        None if args.list => {
            list();
            Ok(())
        }
        None => match run::run(&args) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keepwarm-bench-compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// Failures of a contender are part of the result.
fn tell(measured: Result<Vec<measure::Reading>, Fault>) -> Result<(), Fault> {
    let report = match measured {
        Ok(readings) => ChildReport {
            readings,
            failure: None,
        },
        Err(error) => ChildReport {
            readings: Vec::new(),
            failure: Some(error.to_string()),
        },
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Calls `run` with what a child of a disk workload is to do.
fn task<T>(args: &ChildArgs, run: impl FnOnce(&Task<'_>) -> Result<T, Fault>) -> Result<T, Fault> {
    let Kind::Disk { data, .. } = workload::find(&args.workload)?.kind else {
        return Err(format!("{} uses no directory", args.workload).into());
    };
    let plan = args.plan();
    let contender = disk::find(&args.contender)?;
    run(&Task {
        contender,
        plan: &plan,
        data: data(plan.quick).stream(plan.seed),
    })
}

fn measure_one(args: &ChildArgs) -> Result<Vec<measure::Reading>, Fault> {
    match workload::find(&args.workload)?.kind {
        Kind::Memory { run, .. } => run(&args.contender, &args.plan()),
        Kind::Disk { run, .. } => task(args, run),
    }
}

/// Some contenders would take minutes for a million entries: they are told apart, not waited for.
fn fill(args: &ChildArgs) -> Result<(), Fault> {
    task(args, |task| {
        let limit = Duration::from_secs(task.plan.scaled(60, 15));
        let start = Instant::now();
        let store = task.open()?;
        let mut filled = 0;
        let data = task.data;
        let numbers = (0..data.count).take_while(|_| start.elapsed() < limit);
        store.fill(&mut numbers.map(|n| {
            filled = n + 1;
            (data.key(n), data.bytes(n))
        }))?;
        store.settle()?;
        store.close()?;
        if filled < data.count {
            let count = data.count;
            return Err(format!("only {filled} of {count} artifacts were put in {limit:?}").into());
        }
        Ok(())
    })
}

fn list() {
    println!("workloads");
    for workload in workload::WORKLOADS {
        println!("  {:<18} {}", workload.name, workload.about);
    }
    println!("\ncontenders in memory");
    for contender in memory::CONTENDERS {
        println!("  {:<22} {}", contender.name, contender.about);
    }
    println!("\ncontenders on disk");
    for contender in disk::CONTENDERS {
        println!("  {:<22} {}", contender.name, contender.about);
    }
}
