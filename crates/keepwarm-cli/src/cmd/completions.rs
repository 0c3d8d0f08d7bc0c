//! `keepwarm completions SHELL`, `keepwarm man`: made from the command line's own definition.

use crate::cli::Cli;
use crate::failure::{Failure, Outcome, Result};
use crate::output::Output;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print a script that completes this command in a shell
///
/// Such as `keepwarm completions bash > ~/.local/share/bash-completion/completions/keepwarm`.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, out: &mut Output) -> Result<Outcome> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "keepwarm", &mut script);
        out.bytes(&script)?;
        Ok(Outcome::Done)
    }
}

/// Print the manual page, or write those of all sub-commands
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// A directory in which keepwarm.1, keepwarm-ls.1 and so on are written
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, out: &mut Output) -> Result<Outcome> {
        if let Some(dir) = &self.output {
            std::fs::create_dir_all(dir)
                .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
                .map_err(|e| Failure::io("write manual pages to", dir, &e))?;
            return Ok(Outcome::Done);
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|e| Failure::failed(format!("could not make the manual page: {e}")))?;
        out.bytes(&page)?;
        Ok(Outcome::Done)
    }
}
