//! A process is killed at the n-th call of a kind, or that call fails, for every n.

use super::calls::{self, APPENDS, CALLS, LIARS};
use super::{
    Context, Outcome, Scenario, Skip, Target, Writers, arg, cores, finish, judge, litter,
    look_at_evictions, verify,
};
use crate::child::script::{Act, GROWTH};
use crate::model::{Model, Promise};
use crate::mount::need;
use crate::process::{End, Running, tool};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "syscall",
    about: "killed at the n-th system call, every call fails in turn, or lies (strace)",
    run,
};

const WATCHED: [Fault; 9] = [
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Litter,
    Fault::Memory,
];

/// The fact of how many faults hit the append of a record.
const APPEND_POINTS: &str = "append_points";

/// Where only a kill makes a difference, or every program dies of a failure.
const ONLY_KILLED: [&str; 2] = ["close", "mmap"];

/// A budget, in bytes, that makes nobody evict.
pub(super) const ROOMY: u64 = 1 << 30;
/// One that does.
pub(super) const SMALL: u64 = 250_000;

const ACTS: [Act; 9] = [
    Act::Put,
    Act::Evict,
    Act::Flush,
    Act::Grow,
    Act::Rebuild,
    Act::Open,
    Act::Remove,
    Act::Clear,
    Act::Get,
];

/// What a call says instead, and whether it may say so for ever.
const ERRORS: [(&str, bool); 9] = [
    ("error=EIO", true),
    ("error=ENOSPC", true),
    ("error=EMFILE", true),
    ("error=ENOMEM", true),
    ("error=EACCES", true),
    ("error=EDQUOT", true),
    ("error=EROFS", true),
    // Whoever is interrupted tries again.
    ("error=EINTR", false),
    ("error=EAGAIN", false),
];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    need(context, &[("strace", "strace")])?;
    if tool("strace", &["-o", "/dev/null", "true"]).is_err() {
        return Err(Skip("strace may not trace here".into()).into());
    }
    let mut tallies = Vec::new();
    let acts = if context.is_short() {
        &ACTS[..5]
    } else {
        &ACTS[..]
    };
    calls::guard(context, acts, &mut tallies)?;
    for &act in acts {
        let name = format!("syscall {} signal=KILL", act.name());
        one(
            context,
            act,
            Kind::Disk,
            ("signal=KILL", &name),
            &mut tallies,
        )?;
    }
    // Of the errors in short form one.
    let errors = if context.is_short() { 1 } else { ERRORS.len() };
    for (error, _) in &ERRORS[..errors] {
        for &act in acts {
            let name = format!("syscall {} {error}", act.name());
            one(context, act, Kind::Disk, (error, &name), &mut tallies)?;
        }
    }
    // A call that says it wrote, or read, a byte, and did nothing: a medium that lies may lose, but
    // what is served must be right.
    for act in [Act::Flush, Act::Get, Act::Put, Act::Evict, Act::Rebuild] {
        if context.is_short() && act != Act::Flush {
            break;
        }
        let name = format!("syscall {} lies", act.name());
        one(context, act, Kind::Disk, ("retval=1", &name), &mut tallies)?;
    }
    for (act, kind, what) in [
        (Act::Put, Kind::InPlace, "signal=KILL"),
        (Act::Flush, Kind::Deaf, "error=ENOSPC"),
    ] {
        let name = format!("syscall {} {what} {}", act.name(), kind.name());
        one(context, act, kind, (what, &name), &mut tallies)?;
    }
    Ok(tallies)
}

/// One act, one fault, at every point.
fn one(
    context: &Context,
    act: Act,
    kind: Kind,
    (what, name): (&str, &str),
    tallies: &mut Vec<Tally>,
) -> Outcome<()> {
    let expect = match kind {
        Kind::InPlace => Expect::Caught(Fault::Wrong),
        Kind::Deaf => Expect::Caught(Fault::Stale),
        _ => Expect::Clean,
    };
    let lies = what.starts_with("retval");
    let watched: Vec<Fault> = WATCHED
        .into_iter()
        // Who is lied to cannot keep promises, and the caller of a lying `put` has no error.
        .filter(|fault| !lies || matches!(fault, Fault::Wrong | Fault::Crash | Fault::Hang))
        .collect();
    let mut tally = Tally::new(name, expect, &watched);
    if !context.wants(&tally) {
        return Ok(());
    }
    let control = kind != Kind::Disk;
    let calls: Vec<&str> = CALLS
        .into_iter()
        .filter(|call| !lies || LIARS.contains(call))
        .filter(|call| what == "signal=KILL" || !ONLY_KILLED.contains(call))
        .chain(control.then_some("write"))
        .collect();
    let keys = if act == Act::Grow {
        measure(context)?
    } else {
        24
    };
    let points = Points {
        context,
        act,
        kind,
        keys,
        what,
        calls,
    };
    points.all(&mut tally)?;
    // Every act but one appends: if no fault ever meets that, the list has no name for it any more.
    if !control && act != Act::Get && tally.fact(APPEND_POINTS) == 0 {
        tally.fault(Fault::Error, "no fault was met at an append");
    }
    finish(tallies, tally);
    Ok(())
}

/// How many keys there may be before the index grows.
fn measure(context: &Context) -> Outcome<u32> {
    let target = Target {
        kind: Kind::Disk,
        dir: context.temp.join("measured"),
        budget: ROOMY,
        keys: 0,
    };
    let mut args = target.args("script", 0);
    arg(&mut args, "--log", context.log(0).display());
    arg(&mut args, "--act", Act::Measure.name());
    args.push("--tiny".into());
    let mut child = Running::start(&[], &args, &context.temp.join("measure"))?;
    child.wait(Duration::from_secs(60))?;
    let keys: u32 = child.stdout().trim().parse()?;
    fs::remove_dir_all(&target.dir)?;
    Ok(keys.saturating_sub(GROWTH / 2))
}

struct Points<'a> {
    context: &'a Context,
    act: Act,
    kind: Kind,
    keys: u32,
    what: &'a str,
    calls: Vec<&'a str>,
}

impl Points<'_> {
    fn all(&self, tally: &mut Tally) -> Outcome<()> {
        // Points of one kind of call that are tried; between them others are left out.
        let most = match (self.what, self.kind) {
            (_, kind) if kind != Kind::Disk => self.context.rounds(24, 60, 60),
            ("signal=KILL", _) => self.context.rounds(3, u64::MAX, u64::MAX),
            _ => self.context.rounds(1, 8, u64::MAX),
        };
        let lasting = ERRORS
            .iter()
            .any(|(error, lasting)| *error == self.what && *lasting);
        // The name is printed also where nothing is met.
        tally.add(APPEND_POINTS, 0);
        for call in &self.calls {
            for suffix in if lasting { &["", "+"][..] } else { &[""] } {
                self.of(call, suffix, most, tally)?;
            }
        }
        Ok(())
    }

    /// From the first on, in steps that grow with `n`, to where it is not hit any more; several at
    /// once.
    fn of(&self, call: &str, suffix: &str, most: u64, tally: &mut Tally) -> Outcome<()> {
        let (done, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let work = |number: usize| -> Result<Tally, String> {
            let mut tally = tally.fresh();
            let context = self.context.thread(number).map_err(|e| e.to_string())?;
            loop {
                let point = done.fetch_add(1, Ordering::Relaxed);
                if point >= most || over.load(Ordering::Relaxed) {
                    return Ok(tally);
                }
                let when = format!("{}{suffix}", nth(point, most));
                let met = self.point(&context, call, &when, &mut tally);
                if !met.map_err(|e| format!("{call} {when}: {e}"))? {
                    over.store(true, Ordering::Relaxed);
                }
            }
        };
        let work = &work;
        let counted: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores())
                .map(|number| scope.spawn(move || work(number)))
                .collect();
            threads
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect()
        });
        for counted in counted {
            counted.map_err(|_| "a thread panicked")??.pour_into(tally);
        }
        Ok(())
    }

    fn wrapper(&self, trace: &Path, call: &str, when: &str) -> Vec<String> {
        let trace = trace.to_string_lossy();
        let calls = format!("trace=?{call}");
        let inject = format!("inject=?{call}:{}:when={when}", self.what);
        [
            "strace", "-f", "-qq", "-o", &trace, "-e", &calls, "-e", &inject,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn script(&self, context: &Context, target: &Target, act: Act) -> Vec<String> {
        let mut args = target.args("script", context.seed);
        arg(&mut args, "--log", context.log(0).display());
        arg(&mut args, "--act", act.name());
        if self.act == Act::Grow {
            args.push("--tiny".into());
        }
        args
    }

    /// Whether the fault was met.
    fn point(&self, context: &Context, call: &str, when: &str, tally: &mut Tally) -> Outcome<bool> {
        let hint = format!("{} {call} when={when}", self.what);
        let mut target = Target {
            kind: self.kind,
            dir: context.temp.join("cache"),
            budget: ROOMY,
            keys: self.keys,
        };
        let mut logs = Writers::new(context, 1)?;
        self.prepare(context, &target)?;
        if self.act == Act::Evict {
            target.budget = SMALL;
        }
        let trace = context.temp.join("trace");
        let wrapper = self.wrapper(&trace, call, when);
        let args = self.script(context, &target, self.act);
        let mut child = Running::start(&wrapper, &args, &context.temp.join("script"))?;
        let end = child.wait(Duration::from_secs(90))?;
        let met = self.met(&end, &trace)?;
        self.look_at_end(&end, &child.stderr(), &hint, tally);
        let mut model = Model::new(self.promise());
        // What fails is told: of the workers' own counters only wrong bytes are faults.
        let mut told = Tally::new("", Expect::Clean, &[Fault::Wrong]);
        logs.follow(&mut model, &mut told)?;
        if !told.is_as_expected() {
            tally.fault(Fault::Wrong, format_args!("{hint}: while it ran"));
        }
        look_at_evictions(&model, &target, &hint, tally);
        // Who is killed while it evicts does not live to tell.
        model.evicted |= target.budget < ROOMY;
        if self.act == Act::Grow {
            target.keys += GROWTH;
        }
        let seen = verify(context, &target.args("verify", 1), &hint, tally)?;
        judge(&model, &seen, &hint, tally);
        for file in litter(&target.dir)? {
            tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
        }
        tally.add("points", u64::from(met));
        if APPENDS.contains(&call) {
            tally.add(APPEND_POINTS, u64::from(met));
        }
        Ok(met)
    }

    fn promise(&self) -> Promise {
        if self.what == "signal=KILL" {
            Promise::Ack
        } else {
            Promise::Flush
        }
    }

    fn prepare(&self, context: &Context, target: &Target) -> Outcome<()> {
        if target.dir.exists() {
            fs::remove_dir_all(&target.dir)?;
        }
        if self.act == Act::Open {
            return Ok(());
        }
        let args = self.script(context, target, Act::Prepare);
        let mut child = Running::start(&[], &args, &context.temp.join("script"))?;
        if child.wait(Duration::from_secs(60))? != End::Fine {
            return Err(format!("could not prepare: {}", child.stderr()).into());
        }
        if self.act == Act::Rebuild {
            fs::remove_file(target.dir.join("v1/index"))?;
        }
        Ok(())
    }

    fn met(&self, end: &End, trace: &Path) -> Outcome<bool> {
        Ok(match end {
            End::Hung => true,
            End::Crashed(_) if self.what == "signal=KILL" => true,
            _ => fs::read_to_string(trace)?.contains("(INJECTED)"),
        })
    }

    fn look_at_end(&self, end: &End, said: &str, hint: &str, tally: &mut Tally) {
        let crashed = matches!(end, End::Crashed(_)) && self.what != "signal=KILL";
        if *end == End::Hung {
            tally.fault(Fault::Hang, hint);
        }
        if said.contains("panicked") || crashed {
            tally.fault(Fault::Crash, format_args!("{hint}: {said}"));
        }
    }
}

/// The number, from 1, of a point of `most`.
fn nth(point: u64, most: u64) -> u64 {
    if most == u64::MAX {
        return point + 1;
    }
    (0..point).fold(1, |n, _| n + 1 + n / (most / 3).max(1))
}
