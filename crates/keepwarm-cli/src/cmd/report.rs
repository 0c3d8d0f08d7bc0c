//! `keepwarm report`: the cache as a page to look at.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::files;
use crate::output::{Format, Output};
use crate::report::{data::Data, page};
use clap::Args;
use std::path::{Path, PathBuf};

/// Write a page to look at: how full, how useful, what takes the space
///
/// One HTML file that needs nothing else: no network, no script. It shows the budget and what it is
/// used for, hit rate and time saved over time, namespaces and the largest artifacts, sizes and
/// ages. With `--format json` the same data is printed.
#[derive(Args, Debug)]
pub(crate) struct ReportCommand {
    /// The file, such as report.html; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl ReportCommand {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        let json = out.format() == Format::Json;
        let to_stdout = self.output.as_deref() == Some(Path::new("-"));
        match self.output {
            None if !json => {
                return Err(
                    Failure::usage("`report` needs to know where to write the page")
                        .advise("Say -o report.html, or -o - for standard output."),
                );
            }
            Some(_) if json && to_stdout => {
                return Err(Failure::usage(
                    "`report --format json` needs -o FILE, or none: standard output is for the JSON",
                ));
            }
            _ => {}
        }
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        let store = context.look()?;
        let data = Data::gather(&store, context)?;
        match &self.output {
            Some(_) if to_stdout => out.bytes(page(&data).as_bytes())?,
            Some(file) => files::write(file, page(&data).as_bytes())?,
            None => {}
        }
        if json {
            out.json(&data)?;
        }
        Ok(Outcome::Done)
    }
}
