//! `keepwarm exec -- COMMAND`: runs a command, or gives back what it wrote before.

use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::output::{Format, Output};
use crate::units;
use crate::wrap::child::{self, Input, Task};
use crate::wrap::claims::Claim;
use crate::wrap::nearest;
use crate::wrap::outputs::{self, NotRestored};
use crate::wrap::package::{self, Package};
use crate::wrap::parts::{self, Asked, Part};
use crate::wrap::tee::{Printed, Unseen};
use crate::wrap::voice::{self, Voice};
use crate::wrap::within::Within;
use clap::Args;
use keepwarm::{Cache, Fingerprint, Namespace};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of all that a command writes is kept, in bytes.
const MOST: u64 = 1 << 30;
/// How long another run may be waited for: what a cache can be told.
const LONGEST_WAIT: Duration = Duration::from_secs(12 * 3_600);
/// The folder in the cache directory where runs tell one another what they write.
const CLAIMS: &str = "exec";

const EXAMPLES: &str = "\
Examples:
  keepwarm exec --input 'src/*.h' --output a.o -- cc -c src/a.c -o a.o
  keepwarm exec --output a.spv -- glslangValidator -V a.frag -o a.spv
  keepwarm exec --no-output --env LANG --input '*.txt' -- ./check.sh";

/// Run a command, or give back what it wrote when it ran before
///
/// It is run unless it ran before with the same program, arguments, inputs and variables; then the
/// outputs are written as it wrote them, and what it printed is printed. Only what succeeded is
/// kept. Files that are arguments are inputs, unless they are outputs. Its standard input is empty,
/// unless --stdin is given. A fault of the cache never fails the command.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "one a flag")]
pub(crate) struct Exec {
    /// Files that the command reads; `*`, `?`, `[...]` and `**` stand for names
    #[arg(long = "input", value_name = "GLOB", num_args = 1.., value_parser = parts::parse_pattern)]
    inputs: Vec<String>,

    /// Files that the command writes, from the inputs alone
    #[arg(long = "output", value_name = "FILE", num_args = 1.., required_unless_present = "no_output")]
    outputs: Vec<PathBuf>,

    /// The command writes no file: what it prints is kept
    #[arg(long, conflicts_with = "outputs")]
    no_output: bool,

    /// Variables that the command depends on
    #[arg(long = "env", value_name = "NAME", num_args = 1.., value_parser = parts::parse_variable)]
    variables: Vec<OsString>,

    /// The command reads standard input and depends on it; it is read to its end first
    #[arg(long)]
    stdin: bool,

    /// The command depends on the current directory
    #[arg(long)]
    cwd: bool,

    /// Keep it in this namespace
    #[arg(long, value_name = "NAME", default_value = "exec")]
    namespace: String,

    /// How long to wait for another run of the same before running it as well, up to 12h
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = parse_wait)]
    wait: Duration,

    /// Say on standard error whether the command was run, and why
    #[arg(long)]
    explain: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    words: Vec<OsString>,
}

/// For clap.
fn parse_wait(text: &str) -> Result<Duration, String> {
    let wait = units::parse_age(text)?;
    if wait > LONGEST_WAIT {
        return Err("expected no more than 12h".to_owned());
    }
    Ok(wait)
}

impl Exec {
    pub(crate) fn run(&self, context: &Context, out: &Output) -> Result<Outcome> {
        if out.format() != Format::Text {
            return Err(Failure::usage("`exec` prints what the command prints"));
        }
        if let Some((pattern, output)) = parts::overlap(&self.inputs, &self.outputs) {
            let output = output.display();
            let what = format!("--input {pattern} matches the output {output}");
            return Err(Failure::usage(what).advise(
                "Use a pattern that matches only what the command reads, or write the output elsewhere.",
            ));
        }
        let name = self.words.first().map_or(OsStr::new(""), |name| name);
        let program = match parts::find_program(name) {
            Ok(program) => program,
            Err((code, why)) => {
                voice::say(&format!("the command {} {why}", name.to_string_lossy()));
                return Ok(Outcome::Exit(code));
            }
        };
        let mut run = Run {
            exec: self,
            program: &program,
            umask: outputs::umask(),
            // Not read where it makes no key.
            input: if self.stdin {
                Input::Inherited
            } else {
                Input::Nothing
            },
            claims: None,
            within: Within::from_env(),
            voice: Voice::new(self.explain),
        };
        let cache = match context.cache(self.wait) {
            Ok(Some(cache)) => cache,
            Ok(None) => return Ok(run.plainly()),
            Err(failure) => {
                run.voice.warn(&format!("not cached: {}", failure.what()));
                return Ok(run.plainly());
            }
        };
        let outcome = run.with(&cache, context.settings().max_size.min(MOST));
        if let Err(e) = cache.close() {
            let why = Failure::from(e);
            run.voice.warn(&format!("not cached: {}", why.what()));
        }
        Ok(outcome)
    }
}

/// A command, with the cache or without.
#[derive(Debug)]
struct Run<'a> {
    exec: &'a Exec,
    program: &'a Path,
    umask: u32,
    input: Input,
    /// Where to tell which outputs are written, if there is a directory that may be written to.
    claims: Option<PathBuf>,
    within: Within,
    voice: Voice,
}

impl Run<'_> {
    fn with(&mut self, cache: &Cache, limit: u64) -> Outcome {
        let exec = self.exec;
        if exec.stdin {
            self.input = Input::read();
        }
        let disk = cache.disk().filter(|disk| !disk.is_read_only());
        self.claims = disk.map(|disk| disk.path().join(CLAIMS));
        let stdin = match self.input.whole() {
            Ok(stdin) => stdin,
            Err(why) => {
                self.voice.warn(&format!("not cached: {why}"));
                return self.plainly();
            }
        };
        let asked = Asked {
            program: self.program,
            words: &exec.words,
            inputs: &exec.inputs,
            outputs: &exec.outputs,
            variables: &exec.variables,
            stdin,
            folder: exec.cwd,
            umask: self.umask,
        };
        match parts::gather(&asked) {
            Ok(parts) => Job {
                run: self,
                key: parts::key(&parts),
                asked,
                parts,
                within: cache.namespace(&exec.namespace),
                limit,
            }
            .run(),
            Err(why) => {
                self.voice.warn(&format!("not cached: {why}"));
                self.plainly()
            }
        }
    }

    /// As if there were no cache, but that others are told what is written.
    fn plainly(&self) -> Outcome {
        let claim = self.claim();
        match self.task(None, claim.as_ref()).run() {
            Ok(status) => Outcome::Exit(child::exit_code(status)),
            Err(e) => self.cannot_run(&e),
        }
    }

    /// Tells others that the outputs are being written; `None` where nobody can be told, and
    /// nothing is kept.
    fn claim(&self) -> Option<io::Result<Claim>> {
        let claims = self.claims.as_ref();
        claims.map(|folder| Claim::new(folder, &self.exec.outputs, &self.within))
    }

    fn task(&self, key: Option<&Fingerprint>, claim: Option<&io::Result<Claim>>) -> Task<'_> {
        let claims = claim.iter().flat_map(|claim| claim.iter());
        Task {
            program: self.program,
            words: &self.exec.words,
            input: &self.input,
            within: self.within.with(key, claims.flat_map(Claim::names)),
        }
    }

    fn cannot_run(&self, e: &io::Error) -> Outcome {
        voice::say(&format!("could not run {}: {e}", self.program.display()));
        Outcome::Exit(126)
    }

    fn name(&self) -> &OsStr {
        self.program.file_name().unwrap_or_default()
    }
}

/// A run that has a key.
struct Job<'a> {
    run: &'a Run<'a>,
    asked: Asked<'a>,
    parts: Vec<Part>,
    key: Fingerprint,
    within: Namespace,
    limit: u64,
}

impl Job<'_> {
    fn run(&self) -> Outcome {
        let (run, paths) = (self.run, &self.run.exec.outputs);
        if run.within.contains(&self.key.to_string()) {
            run.voice.warn("not cached: the command runs itself");
            return run.plainly();
        }
        let mut ran = None;
        let waiting = run.voice.explain_waiting();
        let found = self.within.get_or_insert_with(&self.key, || {
            drop(waiting);
            let (outcome, bytes) = self.build();
            ran = Some(outcome);
            bytes.ok_or(())
        });
        if let Some(outcome) = ran {
            if found.is_ok() {
                nearest::remember(&self.within, run.name(), paths, &self.parts);
            }
            return outcome;
        }
        let claim = run.claim();
        let given = found.as_ref().map(|bytes| outputs::restore(bytes, paths));
        drop(claim);
        let why = match given {
            Ok(Ok((stdout, stderr))) => {
                run.voice.explain("found");
                return print(stdout, stderr);
            }
            Ok(Err(NotRestored::Unwritten(path, e))) => format!("{}: {e}", path.display()),
            Ok(Err(NotRestored::Malformed)) | Err(()) => {
                // Else it would be in the way for ever; if it stays, the command runs each time.
                drop(self.within.remove(&self.key));
                "the entry is not one of this command".into()
            }
        };
        let what = format!("could not give the outputs back: {why}");
        run.voice.warn(&what);
        run.plainly()
    }

    /// Runs the command; what is to be kept of it, if it is.
    fn build(&self) -> (Outcome, Option<Vec<u8>>) {
        let (run, exec) = (self.run, self.run.exec);
        if exec.explain {
            let lines = nearest::explain(&self.within, run.name(), &exec.outputs, &self.parts);
            for line in lines {
                run.voice.explain(&line);
            }
        }
        let claim = run.claim();
        let before = outputs::stamps(&exec.outputs);
        let ended = match run.task(Some(&self.key), claim.as_ref()).listen() {
            Ok(ended) => ended,
            Err(e) => return (run.cannot_run(&e), None),
        };
        let mut code = child::exit_code(ended.status);
        let unwritten = unwritten(&ended.printed);
        if let Some(e) = unwritten {
            voice::say(&format!("could not write what the command printed: {e}"));
            code = code.max(1);
        }
        let outcome = Outcome::Exit(code);
        // Where it was written before is not where it is; who is not told keeps nothing.
        let Some(claim) = claim.filter(|_| code == 0 && !ended.interrupted) else {
            return (outcome, None);
        };
        let kept = self.package(ended.printed, &before);
        let kept = kept.and_then(|bytes| match claim {
            Ok(claim) if claim.is_undisturbed() => Ok(bytes),
            Ok(_) => Err("another run wrote the same output meanwhile".into()),
            Err(e) => Err(format!("could not tell others what is written: {e}")),
        });
        if let Err(why) = &kept {
            run.voice.warn(&format!("not cached: {why}"));
        }
        (outcome, kept.ok())
    }

    fn package(
        &self,
        printed: Printed,
        before: &[Option<outputs::Stamp>],
    ) -> Result<Vec<u8>, String> {
        let (stdout, stderr) = printed.map_err(|why| why.to_string())?;
        let outputs = outputs::read(&self.run.exec.outputs, before, self.limit)?;
        // What was hashed is what the command read only if it is the same still.
        if parts::gather(&self.asked)? != self.parts {
            return Err("an input changed while the command ran".into());
        }
        let bytes = package::encode(&Package {
            stdout,
            stderr,
            outputs,
        });
        if bytes.len() as u64 > self.limit {
            return Err(outputs::too_large("what it wrote", self.limit));
        }
        Ok(bytes)
    }
}

/// Why what the command printed was not passed on, if that is a fault.
fn unwritten(printed: &Printed) -> Option<&io::Error> {
    match printed {
        Err(Unseen::Unwritten(e)) if e.kind() != io::ErrorKind::BrokenPipe => Some(e),
        _ => None,
    }
}

/// Prints what the command printed; who does not read it does not want it.
fn print(stdout: &[u8], stderr: &[u8]) -> Outcome {
    let mut to = io::stdout().lock();
    let printed = to.write_all(stdout).and_then(|()| to.flush());
    let printed = printed.and(io::stderr().lock().write_all(stderr));
    match printed {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            voice::say(&format!("could not write what the command printed: {e}"));
            Outcome::Exit(1)
        }
        _ => Outcome::Exit(0),
    }
}
