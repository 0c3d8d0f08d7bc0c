//! The command `keepwarm`: looks into a cache of compiled artifacts, and keeps it in shape.
//!
//! | file | what it is |
//! |---|---|
//! | `cli` | the command line, whole |
//! | `settings` | what the environment says |
//! | `context` | which directory, and opening it |
//! | `failure` | what went wrong, what to do about it, the exit code |
//! | `output` | text for people, JSON for programs |
//! | `units` | sizes, ages and times, read and written |
//! | `files` | files that are not the cache's |
//! | `keys` | keys, whole or by their first digits |
//! | `item`, `counters`, `metrics` | entries and statistics, as programs read them |
//! | `marks` | moments that have a name |
//! | `progress`, `interrupt` | long work on a terminal; Ctrl-C |
//! | `archive/`, `fetch`, `arrival` | archives of entries; reading what is copied; which of two entries stays |
//! | `wrap/` | what `exec` is made of |
//! | `report/` | what `report` is made of |
//! | `cmd/` | one file a sub-command |
//!
//! `README.md` beside this crate says how to add a sub-command.

#![allow(
    clippy::doc_markdown,
    reason = "doc comments of arguments are the help that people read"
)]

mod archive;
mod arrival;
mod cli;
mod cmd;
mod context;
mod counters;
mod failure;
mod fetch;
mod files;
mod interrupt;
mod item;
mod keys;
mod marks;
mod metrics;
mod output;
mod progress;
mod report;
mod settings;
mod units;
mod wrap;

use clap::Parser as _;
use cli::Cli;
use context::Context;
use failure::{Failure, Outcome, Result};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    interrupt::install();
    match run(&cli) {
        Ok(outcome) => outcome.into(),
        Err(failure) => failure.report(),
    }
}

fn run(cli: &Cli) -> Result<Outcome> {
    let context = Context::new(cli)?;
    let mut out = Output::new(cli.global.format);
    let outcome = cmd::run(&context, &cli.command, &mut out);
    // What was printed before a failure is printed.
    let flushed = out.flush().map_err(Failure::output);
    let outcome = outcome?;
    flushed?;
    Ok(outcome)
}
