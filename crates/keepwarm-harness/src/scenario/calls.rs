//! Which system calls are made to fail, and whether the list is whole.

use super::syscall::{ROOMY, SMALL};
use super::{Context, Outcome, Target, Writers, arg, finish};
use crate::child::script::Act;
use crate::model::{Model, Promise};
use crate::process::{End, Running};
use crate::stores::Kind;
use crate::tally::{Expect, Fault, Tally};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// What changes the directory, looks at it, or waits. Not every machine has all of them.
pub(super) const CALLS: [&str; 32] = [
    "pwritev",
    "pwritev2",
    "pwrite64",
    "pread64",
    "openat",
    "openat2",
    "readlink",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "getdents64",
    "newfstatat",
    "fstat",
    "statx",
    "statfs",
    "fstatfs",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "fchmod",
    "flock",
    "fcntl",
    "close",
    "mmap",
];

/// By which records are appended.
pub(super) const APPENDS: [&str; 2] = ["pwritev", "pwritev2"];

/// Which may say that they did one byte: a short read or write.
pub(super) const LIARS: [&str; 4] = ["pwritev", "pwritev2", "pwrite64", "pread64"];

/// Runs every act once without a fault. It must do what it is for; and a call that names something in the directory must be in the
/// list: else the library was changed to make one that no fault ever hits.
pub(super) fn guard(context: &Context, acts: &[Act], tallies: &mut Vec<Tally>) -> Outcome<()> {
    let watched = [Fault::Error, Fault::Crash, Fault::Hang];
    let mut tally = Tally::new("syscall list", Expect::Clean, &watched);
    if !context.wants(&tally) {
        return Ok(());
    }
    let mut target = Target {
        kind: Kind::Disk,
        // A name that no path has that is not meant.
        dir: context.temp.join("guarded-cache"),
        budget: ROOMY,
        keys: 24,
    };
    let mut seen = BTreeSet::new();
    for act in acts {
        // As in a run with faults: prepared, but where it is opened for the first time.
        fs::remove_dir_all(&target.dir).ok();
        target.budget = ROOMY;
        if *act != Act::Open {
            traced(context, &target, Act::Prepare, &mut tally, &mut seen)?;
        }
        if *act == Act::Rebuild {
            fs::remove_file(target.dir.join("v1/index"))?;
        }
        if *act == Act::Evict {
            target.budget = SMALL;
        }
        traced(context, &target, *act, &mut tally, &mut seen)?;
    }
    fs::remove_dir_all(&target.dir).ok();
    for call in &seen {
        if !CALLS.contains(&call.as_str()) {
            let what = format_args!("{call} is made in the directory and not in the list of calls");
            tally.fault(Fault::Error, what);
        }
    }
    if !APPENDS.iter().any(|call| seen.contains(*call)) {
        tally.fault(Fault::Error, "no call is known that appends a record");
    }
    tally.add("acts", acts.len() as u64);
    tally.add("calls", seen.len() as u64);
    finish(tallies, tally);
    Ok(())
}

/// Runs an act and gathers the names of its calls in the directory.
fn traced(
    context: &Context,
    target: &Target,
    act: Act,
    tally: &mut Tally,
    seen: &mut BTreeSet<String>,
) -> Outcome<()> {
    let mut logs = Writers::new(context, 1)?;
    let trace = context.temp.join("trace");
    let name = trace.to_string_lossy();
    // With `-y` a descriptor comes with its path.
    let wrapper = ["strace", "-f", "-y", "-qq", "-o", &name].map(str::to_owned);
    let mut args = target.args("script", context.seed);
    arg(&mut args, "--log", context.log(0).display());
    arg(&mut args, "--act", act.name());
    let mut child = Running::start(&wrapper, &args, &context.temp.join("script"))?;
    let said = || format!("{} without a fault", act.name());
    match child.wait(Duration::from_secs(90))? {
        End::Fine => {}
        End::Hung => tally.fault(Fault::Hang, said()),
        end => tally.fault(Fault::Crash, format_args!("{}: {end:?}", said())),
    }
    let mut model = Model::new(Promise::Ack);
    logs.follow(&mut model, &mut tally.only(&[]))?;
    if act == Act::Evict && !model.evicted {
        tally.fault(Fault::Error, "nothing was evicted: is the budget small?");
    }
    let dir = target.dir.file_name().unwrap_or_default().to_string_lossy();
    let trace = fs::read_to_string(&trace)?;
    let calls = trace.lines().filter_map(|line| call_in(line, &dir));
    seen.extend(calls.map(str::to_owned));
    Ok(())
}

/// The name of a call in a line of a trace, if it names something in `dir`. (The second half of one
/// that another thread interrupted has no name; its first half has.)
fn call_in<'a>(line: &'a str, dir: &str) -> Option<&'a str> {
    let (id, rest) = line.trim_start().split_once(' ')?;
    let (call, given) = rest.trim_start().split_once('(')?;
    let is_call = id.bytes().all(|b| b.is_ascii_digit())
        && call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    // What starts the program names the directory as an argument.
    (is_call && call != "execve" && given.contains(dir)).then_some(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_the_directory_are_seen_and_no_others() {
        for (line, call) in [
            (
                "12 pwritev(6</t/dir/v1/packs/8f>, [{iov_base=\"a\"}], 1, 0) = 1",
                Some("pwritev"),
            ),
            (
                "12  mkdir(\"/t/dir/v1\", 0777 <unfinished ...>",
                Some("mkdir"),
            ),
            ("12 <... openat2 resumed>)  = 7</t/dir/v1/builds>", None),
            ("12 write(3</t/log0>, \"a\", 1) = 1", None),
            (
                "12 execve(\"/bin/x\", [\"x\", \"--dir\", \"/t/dir\"], 0x7) = 0",
                None,
            ),
            ("12 +++ exited with 0 +++", None),
        ] {
            assert_eq!(call_in(line, "/dir"), call, "{line}");
        }
    }
}
