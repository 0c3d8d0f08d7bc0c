//! `keepwarm exec -- COMMAND`: runs a command, or gives back what it wrote before.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::output::{Format, Output, note};
use crate::wrap::child::{self, Input};
use crate::wrap::nearest;
use crate::wrap::outputs::{self, NotRestored};
use crate::wrap::package::{self, Package};
use crate::wrap::parts::{self, Asked, Part};
use clap::Args;
use keepwarm::{Cache, Fingerprint, Namespace};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// How much of standard input, and of all outputs, is kept, in bytes.
const MOST: u64 = 1 << 30;

const EXAMPLES: &str = "\
Examples:
  keepwarm exec --input 'src/*.h' --output a.o -- cc -c src/a.c -o a.o
  keepwarm exec --output a.spv -- glslangValidator -V a.frag -o a.spv
  keepwarm exec --no-output --env LANG --input '*.txt' -- ./check.sh";

/// Run a command, or give back what it wrote when it ran before
///
/// It is run unless it ran before with the same program, arguments, inputs and variables; then the
/// outputs are written as it wrote them, and what it printed is printed. Only what succeeded is
/// kept. Files that are arguments are inputs, unless they are outputs. A fault of the cache never
/// fails the command.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "one a flag")]
pub(crate) struct Exec {
    /// Files that the command reads; `*`, `?`, `[...]` and `**` stand for names
    #[arg(long = "input", value_name = "GLOB", num_args = 1..)]
    inputs: Vec<String>,

    /// Files that the command writes, from the inputs alone
    #[arg(long = "output", value_name = "FILE", num_args = 1.., required_unless_present = "no_output")]
    outputs: Vec<PathBuf>,

    /// The command writes no file: what it prints is kept
    #[arg(long, conflicts_with = "outputs")]
    no_output: bool,

    /// Variables that the command depends on
    #[arg(long = "env", value_name = "NAME", num_args = 1..)]
    variables: Vec<OsString>,

    /// The command depends on what it reads from standard input
    #[arg(long)]
    stdin: bool,

    /// The command depends on the current directory
    #[arg(long)]
    cwd: bool,

    /// Keep it in this namespace
    #[arg(long, value_name = "NAME", default_value = "exec")]
    namespace: String,

    /// Say on standard error whether the command was run, and why
    #[arg(long)]
    explain: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    words: Vec<OsString>,
}

/// A run that is ready, with its key.
struct Job<'a> {
    exec: &'a Exec,
    asked: Asked<'a>,
    parts: Vec<Part>,
    key: Fingerprint,
    within: Namespace,
    limit: u64,
}

impl Exec {
    pub(crate) fn run(&self, context: &Context, out: &Output) -> Result<Outcome> {
        if out.format() != Format::Text {
            return Err(Failure::usage("`exec` prints what the command prints"));
        }
        let name = self.words.first().map_or(OsStr::new(""), |name| name);
        let program = match parts::find_program(name) {
            Ok(program) => program,
            Err(code) => {
                let why = if code == 126 {
                    "cannot be run"
                } else {
                    "was not found"
                };
                note(&format!(
                    "keepwarm: the command {} {why}",
                    name.to_string_lossy()
                ));
                return Ok(Outcome::Exit(code));
            }
        };
        let cache = match context.cache() {
            Ok(Some(cache)) => cache,
            Ok(None) => return Ok(self.plainly(&program, None)),
            Err(failure) => {
                note(&format!("keepwarm: not cached: {}", failure.what()));
                return Ok(self.plainly(&program, None));
            }
        };
        let outcome = self.with(&cache, context.settings().max_size.min(MOST), &program);
        if let Err(e) = cache.close() {
            note(&format!(
                "keepwarm: not cached: {}",
                Failure::from(e).what()
            ));
        }
        Ok(outcome)
    }

    fn with(&self, cache: &Cache, limit: u64, program: &Path) -> Outcome {
        let stdin = self.stdin.then(|| read_stdin(limit));
        let given = match stdin.transpose() {
            Ok(given) => given,
            Err(given) => {
                note("keepwarm: not cached: standard input could not be read whole");
                return self.plainly(program, Some(given));
            }
        };
        let asked = Asked {
            program,
            words: &self.words,
            inputs: &self.inputs,
            outputs: &self.outputs,
            variables: &self.variables,
            stdin: given.as_deref(),
            folder: self.cwd,
        };
        let parts = match parts::gather(&asked) {
            Ok(parts) => parts,
            Err(why) => {
                note(&format!("keepwarm: not cached: {why}"));
                return self.plainly(program, given.clone());
            }
        };
        let (key, within) = (parts::key(&parts), cache.namespace(&self.namespace));
        let exec = self;
        Job {
            exec,
            asked,
            parts,
            key,
            within,
            limit,
        }
        .run()
    }

    /// As if there were no cache.
    fn plainly(&self, program: &Path, given: Option<Vec<u8>>) -> Outcome {
        match child::run(program, &self.words, input(given)) {
            Ok(status) => Outcome::Exit(child::exit_code(status)),
            Err(e) => cannot_run(program, &e),
        }
    }
}

impl Job<'_> {
    fn run(&self) -> Outcome {
        let mut ran = None;
        let found = self.within.get_or_insert_with(&self.key, || {
            let (outcome, bytes) = self.build();
            ran = Some(outcome);
            bytes.ok_or(())
        });
        if let Some(outcome) = ran {
            if found.is_ok() {
                nearest::remember(&self.within, self.name(), &self.exec.outputs, &self.parts);
            }
            return outcome;
        }
        let why = match found
            .as_ref()
            .map(|bytes| outputs::restore(bytes, &self.exec.outputs))
        {
            Ok(Ok((stdout, stderr))) => {
                self.explain(&["found".into()]);
                return print(stdout, stderr);
            }
            Ok(Err(NotRestored::Unwritten(path, e))) => format!("{}: {e}", path.display()),
            Ok(Err(NotRestored::Malformed)) | Err(()) => {
                // Else it would be in the way for ever; if it stays, the command runs each time.
                drop(self.within.remove(&self.key));
                "the entry is not one of this command".into()
            }
        };
        note(&format!("keepwarm: could not give the outputs back: {why}"));
        let given = self.asked.stdin.map(<[u8]>::to_vec);
        self.exec.plainly(self.asked.program, given)
    }

    fn name(&self) -> &OsStr {
        self.asked.program.file_name().unwrap_or_default()
    }

    fn explain(&self, lines: &[String]) {
        for line in lines.iter().filter(|_| self.exec.explain) {
            note(&format!("keepwarm: {line}"));
        }
    }

    /// Runs the command; what is to be kept of it, if it is.
    fn build(&self) -> (Outcome, Option<Vec<u8>>) {
        if self.exec.explain {
            let outputs = &self.exec.outputs;
            self.explain(&nearest::explain(
                &self.within,
                self.name(),
                outputs,
                &self.parts,
            ));
        }
        let before = outputs::stamps(&self.exec.outputs);
        let given = input(self.asked.stdin.map(<[u8]>::to_vec));
        let ended = match child::listen(self.asked.program, &self.exec.words, given) {
            Ok(ended) => ended,
            Err(e) => return (cannot_run(self.asked.program, &e), None),
        };
        let outcome = Outcome::Exit(child::exit_code(ended.status));
        if !ended.status.success() || ended.interrupted {
            return (outcome, None);
        }
        let kept = self.package(ended.printed, &before);
        if let Err(why) = &kept {
            note(&format!("keepwarm: not cached: {why}"));
        }
        (outcome, kept.ok())
    }

    fn package(
        &self,
        printed: Option<(Vec<u8>, Vec<u8>)>,
        before: &[Option<outputs::Stamp>],
    ) -> Result<Vec<u8>, String> {
        let (stdout, stderr) = printed.ok_or("what the command printed was not seen whole")?;
        let outputs = outputs::read(&self.exec.outputs, before, self.limit)?;
        // What was hashed is what the command read only if it is the same still.
        if parts::gather(&self.asked)? != self.parts {
            return Err("an input changed while the command ran".into());
        }
        Ok(package::encode(&Package {
            stdout,
            stderr,
            outputs,
        }))
    }
}

fn input(given: Option<Vec<u8>>) -> Input {
    given.map_or(Input::Inherited, Input::Read)
}

fn cannot_run(program: &Path, e: &io::Error) -> Outcome {
    note(&format!(
        "keepwarm: could not run {}: {e}",
        program.display()
    ));
    Outcome::Exit(126)
}

/// All of standard input; or what was read of it.
fn read_stdin(limit: u64) -> Result<Vec<u8>, Vec<u8>> {
    let mut bytes = Vec::new();
    let most = limit.saturating_add(1);
    let done = io::stdin().lock().take(most).read_to_end(&mut bytes);
    if done.is_ok() && bytes.len() as u64 <= limit {
        Ok(bytes)
    } else {
        Err(bytes)
    }
}

/// Prints what the command printed; who does not read it does not want it.
fn print(stdout: &[u8], stderr: &[u8]) -> Outcome {
    let mut to = io::stdout().lock();
    let done = to.write_all(stdout).and_then(|()| to.flush());
    drop(io::stderr().lock().write_all(stderr));
    match done {
        Ok(()) => Outcome::Exit(0),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Outcome::Exit(0),
        Err(_) => Outcome::Exit(1),
    }
}
