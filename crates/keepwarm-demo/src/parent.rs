//! The parent: compiles a reference outside the cache, runs the two processes, gathers what they
//! say.

use crate::compile::{self, CompileError, Shader};
use crate::protocol::{Got, Line, PROTOCOL, Source, Summary};
use indicatif::{ProgressBar, ProgressStyle};
use keepwarm::Digest;
use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// One shader as it compiles outside any cache.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) shader: &'static str,
    pub(crate) bytes: u64,
    pub(crate) digest: String,
}

/// Everything one process said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) open_ns: u64,
    /// In the order they came: two rounds over all shaders.
    pub(crate) got: Vec<Got>,
    pub(crate) summary: Summary,
}

impl Run {
    /// How `shader` came in `round`.
    pub(crate) fn of(&self, round: usize, shader: &str) -> Option<&Got> {
        self.round(round).find(|got| got.shader == shader)
    }

    /// All shaders of one round.
    pub(crate) fn round(&self, round: usize) -> impl Iterator<Item = &Got> {
        self.got.iter().filter(move |got| got.round == round)
    }

    /// How many shaders came from `source` in one round.
    pub(crate) fn count(&self, round: usize, source: Source) -> usize {
        self.round(round).filter(|got| got.from == source).count()
    }
}

/// Compiles every shader outside the cache, to compare with.
pub(crate) fn reference(shaders: &[Shader]) -> Result<Vec<Reference>, CompileError> {
    let bar = progress("reference", shaders.len());
    let mut all = Vec::with_capacity(shaders.len());
    for shader in shaders {
        bar.set_message(shader.name);
        let spirv = compile::compile(*shader)?;
        all.push(Reference {
            shader: shader.name,
            bytes: spirv.len() as u64,
            digest: Digest::of(&spirv).to_string(),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(all)
}

/// Runs one process to its end on `dir`.
pub(crate) fn run(
    name: &'static str,
    dir: &Path,
    memory: Option<u64>,
    shaders: usize,
) -> Result<Run, Box<dyn Error>> {
    let mut child = spawn(dir, memory)?;
    let bar = progress(name, 2 * shaders);
    let said = listen(&mut child, &bar);
    bar.finish_and_clear();
    if said.is_err() {
        // Whatever it still wants to say would block it on a full pipe.
        child.kill()?;
    }
    let status = child.wait()?;
    let run = said.map_err(|e| format!("the {name} {e} (it ended with {status})"))?;
    if !status.success() {
        return Err(format!("the {name} ended with {status}").into());
    }
    Ok(run)
}

fn spawn(dir: &Path, memory: Option<u64>) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("--child").arg("--dir").arg(dir);
    if let Some(bytes) = memory {
        command.arg("--memory").arg(bytes.to_string());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// Reads and checks the lines of one process; an error completes the sentence "the process ...".
fn listen(child: &mut Child, bar: &ProgressBar) -> Result<Run, String> {
    let stdout = child.stdout.take().ok_or("has no output")?;
    let mut lines = BufReader::new(stdout).lines().map(|line| {
        let line = line.map_err(|e| format!("could not be read: {e}"))?;
        serde_json::from_str(&line).map_err(|e| format!("said {line:?}: {e}"))
    });
    let mut run = Run::default();
    match lines.next().transpose()? {
        Some(Line::Open { protocol, open_ns }) if protocol == PROTOCOL => run.open_ns = open_ns,
        Some(line) => return Err(format!("began with {line:?}")),
        None => return Err("said nothing".into()),
    }
    loop {
        match lines.next().transpose()? {
            Some(Line::Got(got)) => {
                bar.set_message(got.shader.clone());
                bar.inc(1);
                run.got.push(got);
            }
            Some(Line::Closed(summary)) => {
                run.summary = summary;
                break;
            }
            Some(line @ Line::Open { .. }) => return Err(format!("said {line:?} again")),
            None => return Err("stopped in the middle".into()),
        }
    }
    match lines.next() {
        None => Ok(run),
        Some(line) => Err(format!("went on after its end: {line:?}")),
    }
}

/// A bar on standard error; hidden by `indicatif` where that is no terminal.
fn progress(name: &'static str, steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>15} [{bar:30}] {pos:>2}/{len} {msg}");
    let bar = ProgressBar::new(steps as u64).with_prefix(name);
    match style {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
