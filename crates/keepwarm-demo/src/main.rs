//! Real shaders, compiled cold by one process and served warm to the next.
//!
//! `args` says what is asked for, `compile` is the work worth caching, `child` is one of the two
//! processes, `protocol` what it says, `parent` listens, `verdict` judges, `report` prints.

mod args;
mod child;
mod compile;
mod parent;
mod protocol;
mod report;
mod verdict;

use args::Args;
use clap::Parser;
use parent::Run;
use report::Report;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        // Whoever reads the output had enough (`| head`); nothing was judged, so not a success.
        Err(error) if is_broken_pipe(&*error) => ExitCode::FAILURE,
        Err(error) => {
            eprint!("keepwarm-demo: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                eprint!(": {error}");
                source = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    if let (true, Some(dir)) = (args.child, &args.dir) {
        child::run(dir, args.memory.map(|memory| memory.bytes(0)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(dir) = &args.dir {
        return demo(args, dir);
    }
    let dir = tempfile::Builder::new()
        .prefix("keepwarm-demo-")
        .tempdir()?;
    let code = demo(args, dir.path())?;
    dir.close()?;
    Ok(code)
}

/// Runs both processes on `dir`, reports and judges.
fn demo(args: &Args, dir: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let shaders = compile::shaders();
    let mut out = io::stdout().lock();
    introduce(&mut out, shaders.len(), dir)?;
    let reference = parent::reference(&shaders)?;
    let set: u64 = reference.iter().map(|r| r.bytes).sum();
    let memory = args.memory.map(|memory| memory.bytes(set));
    if let Some(budget) = memory {
        let (budget, set) = (report::bytes(budget), report::bytes(set));
        writeln!(out, "memory budget: {budget}, for a set of {set}")?;
    }
    let first = parent::run("first process", dir, memory, shaders.len())?;
    told(&mut out, "first process", &first)?;
    let second = parent::run("second process", dir, memory, shaders.len())?;
    told(&mut out, "second process", &second)?;

    let report = Report {
        reference: &reference,
        first: &first,
        second: &second,
        disk: report::disk_use(dir)?,
    };
    report.write(&mut out)?;
    let failures = verdict::failures(&reference, memory, &first, &second);
    if failures.is_empty() {
        let served = first.got.len() + second.got.len();
        writeln!(
            out,
            "all {served} artifacts served are byte for byte what naga gives outside the cache"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    out.flush()?;
    for failure in &failures {
        eprintln!("FAILED: {failure}");
    }
    Ok(ExitCode::FAILURE)
}

fn introduce(out: &mut impl Write, shaders: usize, dir: &Path) -> io::Result<()> {
    writeln!(
        out,
        "{shaders} compute shaders of vello_shaders, WGSL to SPIR-V by naga {}, cache in {}",
        compile::NAGA_VERSION,
        dir.display()
    )?;
    if shaders != compile::EXPECTED_SHADERS {
        let expected = compile::EXPECTED_SHADERS;
        writeln!(
            out,
            "(this vello_shaders carries {shaders}, not {expected})"
        )?;
    }
    if cfg!(debug_assertions) {
        writeln!(out, "(a debug build: its times say little, use --release)")?;
    }
    Ok(())
}

/// One plain line on what a process did in its first round.
fn told(out: &mut impl Write, name: &str, run: &Run) -> io::Result<()> {
    let (compiled, served) = (run.summary.counters.builds, run.round(0).count());
    writeln!(out, "{name}: {served} shaders, {compiled} compiled")
}
