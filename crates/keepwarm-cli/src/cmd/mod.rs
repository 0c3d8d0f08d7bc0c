//! One file a sub-command: its arguments, which clap reads, and `run`.

pub(crate) mod get;
pub(crate) mod ls;
pub(crate) mod put;
pub(crate) mod stats;

use crate::cli::Command;
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::output::{Format, Output};

/// Runs what was asked for.
pub(crate) fn run(context: &Context, command: &Command, out: &mut Output) -> Result<Outcome> {
    if out.format() == Format::Openmetrics && !matches!(command, Command::Stats(_)) {
        return Err(Failure::usage(
            "only `keepwarm stats` has the format openmetrics",
        ));
    }
    match command {
        Command::Stats(args) => args.run(context, out),
        Command::Ls(args) => args.run(context, out),
        Command::Get(args) => args.run(context, out),
        Command::Put(args) => args.run(context, out),
    }
}
