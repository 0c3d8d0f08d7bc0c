//! A process is killed at the n-th call of a kind, or that call fails, for every n.

use super::{Context, Outcome, Scenario, Target, Writers, arg, finish, judge, litter, verify};
use crate::model::{Model, Promise};
use crate::mount::need;
use crate::process::{End, Running, tool};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::fs;
use std::path::Path;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "syscall",
    about: "killed at the n-th system call, every call fails in turn (strace)",
    run,
};

const WATCHED: [Fault; 8] = [
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Unusable,
    Fault::Crash,
    Fault::Hang,
    Fault::Error,
    Fault::Litter,
];

/// What changes the directory, or waits.
const CALLS: [&str; 20] = [
    "pwrite64",
    "pread64",
    "openat",
    "openat2",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "getdents64",
    "newfstatat",
    "statx",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "flock",
    "mmap",
];

/// A budget, in bytes, that makes nobody evict.
const ROOMY: u64 = 1 << 30;

/// Calls whose failure is not one of the store: a process cannot run without.
const VITAL: [&str; 1] = ["mmap"];

fn run(context: &Context) -> Outcome<Vec<Tally>> {
    need(context, &[("strace", "strace")])?;
    if tool("strace", &["-o", "/dev/null", "true"]).is_err() {
        return Err(super::Skip("strace may not trace here".into()).into());
    }
    // Of every so many points one, so many in all for each kind of call.
    let most = context.rounds(60, 4);
    let mut tallies = Vec::new();
    for (name, budget, tiny) in [
        ("roomy", ROOMY, 0),
        ("small", 1_500_000, 0),
        ("grow", ROOMY, 400),
        ("rebuild", ROOMY, 0),
    ] {
        for (what, promise) in [
            ("signal=KILL", Promise::Ack),
            ("error=EIO", Promise::Flush),
            ("error=ENOSPC", Promise::Flush),
        ] {
            let mut tally = Tally::new(format!("syscall {name} {what}"), Expect::Clean, &WATCHED);
            if !context.wants(&tally) {
                continue;
            }
            let points = Points {
                context,
                lose_index: name == "rebuild",
                budget,
                tiny,
                what,
                promise,
            };
            for call in CALLS {
                if what == "signal=KILL" || !VITAL.contains(&call) {
                    points.of(call, most, &mut tally)?;
                }
            }
            finish(&mut tallies, tally);
            if context.short && what == "error=EIO" {
                break;
            }
        }
        if context.short {
            break;
        }
    }
    Ok(tallies)
}

struct Points<'a> {
    context: &'a Context,
    budget: u64,
    tiny: u32,
    lose_index: bool,
    what: &'static str,
    promise: Promise,
}

impl Points<'_> {
    /// From the first on, in steps that grow with `n`, to where it is not hit any more.
    fn of(&self, call: &str, most: u64, tally: &mut Tally) -> Outcome<()> {
        let mut n = 1;
        for done in 0..most {
            // At once, and from then on.
            let lasting = !self.what.starts_with("signal") && done % 3 == 2;
            let when = format!("{n}{}", if lasting { "+" } else { "" });
            if !self.point(call, &when, tally)? {
                break;
            }
            n += 1 + n / (most / 3).max(1);
        }
        Ok(())
    }

    fn wrapper(&self, trace: &Path, call: &str, when: &str) -> Vec<String> {
        let trace = trace.to_string_lossy();
        let calls = format!("trace={call}");
        let inject = format!("inject={call}:{}:when={when}", self.what);
        [
            "strace", "-f", "-qq", "-o", &trace, "-e", &calls, "-e", &inject,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Whether the fault was met.
    fn point(&self, call: &str, when: &str, tally: &mut Tally) -> Outcome<bool> {
        let hint = format!("{} {call} when={when} budget {}", self.what, self.budget);
        let target = Target {
            kind: Kind::Disk,
            dir: self.context.temp.join("cache"),
            budget: self.budget,
            keys: 24,
        };
        if target.dir.exists() {
            fs::remove_dir_all(&target.dir)?;
        }
        let trace = self.context.temp.join("trace");
        let wrapper = self.wrapper(&trace, call, when);
        let mut logs = Writers::new(self.context, 1)?;
        let mut args = target.args("script", self.context.seed);
        arg(&mut args, "--log", self.context.log(0).display());
        arg(&mut args, "--tiny", self.tiny);
        if self.lose_index {
            args.push("--lose-index".into());
        }
        let output = self.context.temp.join("script");
        let mut child = Running::start(&wrapper, &args, &output)?;
        let end = child.wait(Duration::from_secs(90))?;
        let said = child.stderr();
        let met = match end {
            End::Hung => {
                tally.fault(Fault::Hang, &hint);
                true
            }
            End::Crashed(_) if self.what == "signal=KILL" => true,
            _ => fs::read_to_string(&trace)?.contains("(INJECTED)"),
        };
        if said.contains("panicked")
            || (matches!(end, End::Crashed(_)) && self.what != "signal=KILL")
        {
            tally.fault(Fault::Crash, format_args!("{hint}: {said}"));
        }
        let mut model = Model::new(self.promise);
        // Who is killed while it evicts does not live to tell.
        model.evicted = self.budget < ROOMY;
        // What fails is told: of the workers' own counters only wrong bytes are faults.
        let mut told = Tally::new("", Expect::Clean, &[Fault::Wrong]);
        logs.follow(&mut model, &mut told)?;
        if !told.is_as_expected() {
            tally.fault(Fault::Wrong, format_args!("{hint}: while it ran"));
        }
        let seen = verify(self.context, &target.args("verify", 1), &hint, tally)?;
        judge(&model, &seen, &hint, tally);
        for file in litter(&target.dir)? {
            tally.fault(Fault::Litter, format_args!("{hint}: {}", file.display()));
        }
        tally.add("points", 1);
        Ok(met)
    }
}
