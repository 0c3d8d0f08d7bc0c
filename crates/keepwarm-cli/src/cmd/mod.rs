//! One file a sub-command: its arguments, which clap reads, and `run`.

pub(crate) mod ci;
pub(crate) mod clear;
pub(crate) mod completions;
pub(crate) mod exec;
pub(crate) mod export;
pub(crate) mod gc;
pub(crate) mod get;
pub(crate) mod import;
pub(crate) mod ls;
pub(crate) mod mark;
pub(crate) mod merge;
pub(crate) mod namespaces;
pub(crate) mod path;
pub(crate) mod prune;
pub(crate) mod put;
pub(crate) mod rebuild;
pub(crate) mod remove;
pub(crate) mod report;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod verify;

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
        Command::Show(args) => args.run(context, out),
        Command::Path(args) => args.run(context, out),
        Command::Namespaces(args) => args.run(context, out),
        Command::Report(args) => args.run(context, out),
        Command::Get(args) => args.run(context, out),
        Command::Put(args) => args.run(context, out),
        Command::Remove(args) => args.run(context, out),
        Command::Mark(args) => args.run(context, out),
        Command::Exec(args) => args.run(context, out),
        Command::Gc(args) => args.run(context, out),
        Command::Prune(args) => args.run(context, out),
        Command::Verify(args) => args.run(context, out),
        Command::Rebuild(args) => args.run(context, out),
        Command::Clear(args) => args.run(context, out),
        Command::Export(args) => args.run(context, out),
        Command::Import(args) => args.run(context, out),
        Command::Merge(args) => args.run(context, out),
        Command::Ci(args) => args.run(context, out),
        Command::Completions(args) => args.run(out),
        Command::Man(args) => args.run(out),
    }
}
