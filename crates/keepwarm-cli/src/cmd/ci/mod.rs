//! `keepwarm ci`: what a job of continuous integration needs; `docs/ci.md` has recipes.

mod key;
mod summary;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::output::Output;
use clap::{Args, Subcommand};

/// For jobs of continuous integration
#[derive(Args, Debug)]
pub(crate) struct Ci {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Key(key::Key),
    Summary(summary::Summary),
}

impl Ci {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        match &self.command {
            Command::Key(args) => args.run(context, out),
            Command::Summary(args) => args.run(context, out),
        }
    }
}
