//! Hurts a directory of keepwarm in every way that can be thought of, with processes that really
//! die, and counts what came of it. Controls, stores broken on purpose, must be caught.
//!
//! `scenario/` has one file a way to hurt, `child/` what runs in processes of its own, `content` what
//! is put, `log` what a child said it did, `mount` file systems, `model` what must then be there, `stores` what is under
//! test, `tally` the counters.

mod child;
mod content;
mod log;
mod model;
mod mount;
mod process;
mod scenario;
mod stores;
mod tally;

use child::Child;
use clap::{Parser, Subcommand};
use mount::Sweeper;
use scenario::{Context, SCENARIOS, Skip};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Runs fault scenarios against keepwarm; one line of counters each.
///
/// Exits with 1 if anything that must be zero is not, or if a control was not caught.
#[derive(Debug, Parser)]
#[command(
    name = "keepwarm-harness",
    version,
    args_conflicts_with_subcommands = true
)]
struct Args {
    /// A scenario's name, or `all`
    #[arg(long, default_value = "all")]
    scenario: String,

    /// Everything random follows from it, but for the moments at which processes are hit
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How often each scenario hits [default: the scenario's own]
    #[arg(long)]
    rounds: Option<u64>,

    /// Fewer rounds, and nothing that needs root: about 90 s in all
    #[arg(long)]
    short: bool,

    /// Of the runs of a scenario only those whose names (as in their lines) contain this
    #[arg(long, value_name = "PART")]
    only: Option<String>,

    /// Where to work [default: a temporary directory]
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Let scenarios install what they need with apt-get
    #[arg(long)]
    install: bool,

    /// List the scenarios
    #[arg(long)]
    list: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the harness starts itself
    #[command(hide = true)]
    Child {
        #[command(subcommand)]
        child: Child,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Command::Child { child }) => process::limit_memory()
            .map_err(Into::into)
            .and_then(|()| child::run(child))
            .map(|()| true),
        None => run(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("keepwarm-harness: {error}: {error:?}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| args.scenario == "all" || args.scenario == scenario.name)
        .collect();
    if chosen.is_empty() || args.list {
        for scenario in SCENARIOS {
            println!("{:<10} {}", scenario.name, scenario.about);
        }
        return if args.list {
            Ok(true)
        } else {
            Err(format!("there is no scenario {}", args.scenario).into())
        };
    }
    let mut good = true;
    for scenario in chosen {
        let temp = tempfile::Builder::new()
            .prefix("keepwarm-harness-")
            .tempdir_in(args.dir.clone().unwrap_or_else(std::env::temp_dir))?;
        let context = Context {
            seed: args.seed,
            rounds: args.rounds,
            short: args.short,
            install: args.install,
            only: args.only.clone(),
            temp: temp.path().to_owned(),
        };
        let _sweeper = Sweeper::start(temp.path())?;
        let start = Instant::now();
        match (scenario.run)(&context) {
            Ok(tallies) => {
                good &= tallies.iter().all(tally::Tally::is_as_expected);
                println!("{:<28} {} s", scenario.name, start.elapsed().as_secs());
            }
            Err(error) => {
                if let Some(Skip(why)) = error.downcast_ref() {
                    println!("!!! SKIPPED {}: {why}", scenario.name);
                } else {
                    good = false;
                    println!("{:<28} FAILED: the harness: {error}", scenario.name);
                }
            }
        }
    }
    Ok(good)
}
