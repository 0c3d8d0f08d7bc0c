//! The command line, whole; `docs/cli.md` has every line of it, which a test checks.

use crate::cmd;
use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER: &str = "\
Environment:
  KEEPWARM_DIR       the cache directory, where -C does not say
  KEEPWARM_MAX_SIZE  how large the directory may be on disk, such as 5G [default: 5G]
  KEEPWARM_MODE      read-write, read-only or off [default: read-write]
  KEEPWARM_SHARING   who else may write to it: private, group or unchecked [default: private]
  NO_COLOR           no colour, whatever the terminal

Sizes: 5G and 5GiB are 5 * 1024^3 bytes, 5GB is 5 * 1000^3, a bare number is bytes.
Ages: 90s, 30m, 12h, 7d, 2w, or several: '1d 12h'.
Exit codes: 0 done, 1 a failure or a finding, 2 the command line is wrong.";

/// Looks into a cache of compiled artifacts, and keeps it in shape.
#[derive(Debug, Parser)]
#[command(name = "keepwarm", version, after_help = AFTER, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every sub-command understands.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// The cache directory [default: $KEEPWARM_DIR, else `keepwarm` in the platform's folder for
    /// caches]
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub(crate) directory: Option<PathBuf>,

    /// How to print what is found
    #[arg(long, value_name = "FORMAT", global = true, default_value = "text")]
    pub(crate) format: Format,
}

/// One variant a sub-command, in the order of the help; its arguments stand in its file.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Stats(cmd::stats::Stats),
    Ls(cmd::ls::Ls),
    Show(cmd::show::Show),
    Path(cmd::path::PathCommand),
    Namespaces(cmd::namespaces::Namespaces),
    Report(cmd::report::ReportCommand),
    Get(cmd::get::Get),
    Put(cmd::put::Put),
    Exec(cmd::exec::Exec),
    Remove(cmd::remove::Remove),
    Mark(cmd::mark::MarkCommand),
    Gc(cmd::gc::Gc),
    Prune(cmd::prune::PruneCommand),
    Verify(cmd::verify::Verify),
    Rebuild(cmd::rebuild::Rebuild),
    Clear(cmd::clear::Clear),
    Export(cmd::export::Export),
    Import(cmd::import::Import),
    Merge(cmd::merge::Merge),
    Ci(cmd::ci::Ci),
    Completions(cmd::completions::Completions),
    Man(cmd::completions::Man),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_sub_command_and_flag_is_documented() {
        let docs = include_str!("../../../docs/cli.md");
        let command = Cli::command();
        for sub in command.get_subcommands() {
            let name = sub.get_name();
            if sub.has_subcommands() {
                for below in sub.get_subcommands() {
                    is_documented(docs, &format!("{name} {}", below.get_name()), below);
                }
            } else {
                is_documented(docs, name, sub);
            }
        }
        for arg in command.get_arguments() {
            let long = arg.get_long().expect("every global flag has a long name");
            assert!(docs.contains(&format!("--{long}")), "{long}");
        }
    }
    fn is_documented(docs: &str, name: &str, command: &clap::Command) {
        let heading = format!("### `keepwarm {name}");
        let at = docs.find(&heading);
        let at = at.unwrap_or_else(|| panic!("docs/cli.md has no heading {heading:?}"));
        let section = &docs[at + heading.len()..];
        let section = &section[..section.find("\n### ").unwrap_or(section.len())];
        for arg in command.get_arguments() {
            let text = match (arg.get_long(), arg.get_value_names()) {
                (Some(long), _) => format!("--{long}"),
                (None, Some([name, ..])) => name.to_string(),
                _ => panic!("an argument of {name} without a name"),
            };
            assert!(
                section.contains(&text),
                "{name}: {text} is not in docs/cli.md"
            );
        }
    }
}
