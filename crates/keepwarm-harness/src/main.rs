//! Hurts a directory of keepwarm in every way that can be thought of, with processes that really
//! die, and counts what came of it. Controls, stores broken on purpose, must be caught.
//!
//! `scenario/` has one file a way to hurt, `child/` what runs in processes of its own, `content` what
//! is put, `log` what a child said it did, `mount` file systems, `model` what must then be there, `stores` what is under
//! test, `controls` what is broken, `tally` the counters, `report` where they go.

mod child;
mod content;
mod controls;
mod log;
mod model;
mod mount;
mod process;
mod report;
mod scenario;
mod stores;
mod tally;

use child::Child;
use clap::{Parser, Subcommand};
use mount::Sweeper;
use report::Report;
use scenario::{Context, Form, Runs, SCENARIOS, Scenario, Skip};
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Runs fault scenarios against keepwarm; one line of counters each.
///
/// Exits with 1 if anything that must be zero is not, or if a control was not caught; with 2 if what
/// was asked for makes no sense.
#[derive(Debug, Parser)]
#[command(
    name = "keepwarm-harness",
    version,
    args_conflicts_with_subcommands = true
)]
struct Args {
    /// Names of scenarios, with commas in between, or `all`
    #[arg(long, default_value = "all", value_delimiter = ',')]
    scenario: Vec<String>,

    /// Everything random follows from it, but for the moments at which processes are hit
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How often each scenario hits, at least once [default: the scenario's own]
    #[arg(long)]
    rounds: Option<u64>,

    #[command(flatten)]
    form: Forms,

    /// Append a line of JSON to this file for each run
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Fill in the rows of the runs in this document, such as docs/reliability.md
    #[arg(long, value_name = "FILE")]
    fill: Option<PathBuf>,

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

/// How much is run.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Forms {
    /// Fewer rounds, and nothing that needs root: about 200 s in all
    #[arg(long, conflicts_with_all = ["ci", "full"])]
    short: bool,

    /// What every change should pass; this is the default
    #[arg(long, conflicts_with = "full")]
    ci: bool,

    /// What was promised to be done once: hours
    #[arg(long)]
    full: bool,
}

impl Forms {
    fn form(self) -> Form {
        match self {
            Self { short: true, .. } => Form::Short,
            Self { full: true, .. } => Form::Full,
            _ => Form::Ci,
        }
    }
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

/// What was asked for makes no sense; says what would.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Usage {}

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
            if error.is::<Usage>() {
                eprintln!("keepwarm-harness: {error}");
            } else {
                eprintln!("keepwarm-harness: {error}: {error:?}");
            }
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let unknown = |name: &&String| {
        let known = |scenario: &Scenario| scenario.name == name.as_str();
        *name != "all" && !SCENARIOS.iter().any(known)
    };
    let unknown = args.scenario.iter().find(unknown);
    if unknown.is_some() || args.list {
        for scenario in SCENARIOS {
            println!("{:<10} {}", scenario.name, scenario.about);
        }
    }
    if let Some(name) = unknown {
        let what = format!("there is no scenario {name}; --list tells which there are");
        return Err(Usage(what).into());
    }
    if args.rounds == Some(0) {
        let what = "--rounds 0 would hurt nothing, and find nothing: without it each scenario of \
                    --list takes its own number";
        return Err(Usage(what.into()).into());
    }
    let wanted = |name: &str| args.scenario.iter().any(|asked| asked == name);
    let runs = Arc::new(Runs::default());
    let mut failures = Vec::new();
    for scenario in SCENARIOS {
        if !args.list && (wanted("all") || wanted(scenario.name)) {
            failures.extend(run_one(args, scenario, &runs)?);
        }
    }
    let good = failures.is_empty();
    if !good {
        // Once more: whoever reads only the end must see what it was.
        println!("\nwhat failed:\n{}", failures.join("\n"));
    }
    match &args.only {
        // Green because nothing was run would be a lie.
        Some(part) if good && !args.list && !runs.were_any() => Err(nothing(part, &runs).into()),
        _ => Ok(good),
    }
}

/// No run was asked for.
fn nothing(part: &str, runs: &Runs) -> Usage {
    let names = match runs.names() {
        names if names.is_empty() => "there is none that could have been run".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    };
    Usage(format!(
        "no run of these scenarios has \"{part}\" in its name, so nothing was run; {names}; --list \
         tells which scenarios there are"
    ))
}

/// Tells what did not come out as it must.
fn run_one(
    args: &Args,
    scenario: &Scenario,
    runs: &Arc<Runs>,
) -> Result<Vec<String>, Box<dyn Error>> {
    let temp = tempfile::Builder::new()
        .prefix("keepwarm-harness-")
        .tempdir_in(args.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let context = Context {
        seed: args.seed,
        rounds: args.rounds,
        form: args.form.form(),
        install: args.install,
        only: args.only.clone(),
        runs: Arc::clone(runs),
        temp: temp.path().to_owned(),
    };
    let report = Report {
        json: args.json.clone(),
        fill: args.fill.clone(),
    };
    let _sweeper = Sweeper::start(temp.path())?;
    let start = Instant::now();
    match (scenario.run)(&context) {
        Ok(tallies) => {
            report.tell(&context, scenario.name, &tallies)?;
            println!("{:<28} {} s", scenario.name, start.elapsed().as_secs());
            let bad = tallies.iter().filter(|tally| !tally.is_as_expected());
            Ok(bad.map(tally::Tally::summary).collect())
        }
        Err(error) => {
            if let Some(Skip(why)) = error.downcast_ref::<Skip>() {
                println!("!!! SKIPPED {}: {why}", scenario.name);
                return Ok(Vec::new());
            }
            let failed = format!("{:<28} FAILED: the harness: {error}", scenario.name);
            println!("{failed}");
            Ok(vec![failed])
        }
    }
}
