//! `keepwarm mark [NAME]`: moments to count from.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::marks;
use crate::output::{Output, Table};
use crate::units;
use clap::Args;
use serde::Serialize;
use std::time::SystemTime;

/// Mark the present moment under a name, or list the marks
///
/// For `stats --since NAME` and `prune --unused-since NAME`. A mark of the same name is replaced.
/// The mark itself, 16 hexadecimal digits, is printed.
#[derive(Args, Debug)]
pub(crate) struct MarkCommand {
    /// The name; without one the marks are listed
    #[arg(value_name = "NAME", value_parser = marks::parse_name)]
    name: Option<String>,

    /// Remove the mark of that name
    #[arg(long, requires = "name")]
    remove: bool,
}

/// A mark as `--format json` prints it. Members may be added, never changed.
#[derive(Debug, Serialize)]
struct Item {
    name: String,
    mark: String,
    time: String,
}

impl MarkCommand {
    pub(crate) fn run(&self, context: &Context, out: &mut Output) -> Result<Outcome> {
        if context.is_off() {
            return out.nothing(Outcome::Done);
        }
        match &self.name {
            None => list(context, out),
            Some(name) if self.remove => {
                let store = context.change()?;
                if marks::remove(&store, name)? {
                    return Ok(Outcome::Done);
                }
                Err(Failure::failed(format!("there is no mark called {name}"))
                    .advise("`keepwarm mark` lists those there are."))
            }
            Some(name) => {
                // Before the first job there may be no directory yet.
                let mark = marks::save(&context.create()?, name)?;
                let item = Item {
                    name: name.clone(),
                    mark: mark.to_string(),
                    time: units::timestamp(mark.time()),
                };
                out.report(&item, |item| format!("{}\n", item.mark))?;
                Ok(Outcome::Done)
            }
        }
    }
}

fn list(context: &Context, out: &mut Output) -> Result<Outcome> {
    let store = context.look()?;
    let mut items = Vec::new();
    let mut table = Table::with_header(&["NAME", "MARK", ">AGE"]);
    for name in marks::names(&store)? {
        // One that is damaged says so when it is asked for.
        let Ok(mark) = marks::resolve(&store, &name) else {
            continue;
        };
        let age = units::age(mark.time(), SystemTime::now());
        table.row([name.clone(), mark.to_string(), age]);
        items.push(Item {
            name,
            mark: mark.to_string(),
            time: units::timestamp(mark.time()),
        });
    }
    out.report(&items, |_| table.render())?;
    Ok(Outcome::Done)
}
