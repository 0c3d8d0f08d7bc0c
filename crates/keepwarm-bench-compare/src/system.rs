//! Child processes, what counts their system calls and instructions, and what machine this is.

use crate::Fault;
use crate::measure::ChildReport;
use crate::results::Calls;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// No measurement takes nearly as long; whoever does hangs.
const LIMIT: Duration = Duration::from_mins(4);

/// Runs this program again with these arguments, below a `tracer` if there is one.
///
/// A child that crashes or hangs has failed, as one that says so has.
pub(crate) fn child(
    tracer: &[OsString],
    arguments: &[OsString],
    log: &Path,
) -> Result<ChildReport, Fault> {
    let this = std::env::current_exe()?.into_os_string();
    let (program, before) = match tracer {
        [] => (&this, tracer),
        [program, rest @ ..] => (program, rest),
    };
    let mut command = Command::new(program);
    command.args(before);
    if !tracer.is_empty() {
        command.arg(&this);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log)?);
    let mut child = command.spawn()?;
    let mut stdout = child.stdout.take().ok_or("a child has no output")?;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        // Nobody waits any more if it took too long.
        let _ = sender.send(read.map(|_| text));
    });
    let Ok(text) = receiver.recv_timeout(LIMIT) else {
        child.kill()?;
        child.wait()?;
        let failure = Some(format!("took longer than {} s", LIMIT.as_secs()));
        return Ok(ChildReport {
            failure,
            ..ChildReport::default()
        });
    };
    let status = child.wait()?;
    reader
        .join()
        .map_err(|_| "the reader of a child's output panicked")?;
    serde_json::from_str(&text?).or_else(|_| {
        let log = fs::read_to_string(log).unwrap_or_default();
        let line = log
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        let failure = Some(format!("ended with {status}: {line}"));
        Ok(ChildReport {
            failure,
            ..ChildReport::default()
        })
    })
}

/// Whether a program can be started; `argument` makes it end at once.
fn works(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

pub(crate) fn has_strace() -> bool {
    works("strace", "-V")
}

pub(crate) fn has_valgrind() -> bool {
    works("valgrind", "--version")
}

/// Counts the calls of all threads and writes the table to `table`.
pub(crate) fn strace(table: &Path) -> Vec<OsString> {
    let mut tracer: Vec<OsString> = ["strace", "-f", "-c", "-o"].map(Into::into).into();
    tracer.push(table.into());
    tracer
}

pub(crate) fn callgrind() -> Vec<OsString> {
    [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
    ]
    .map(Into::into)
    .into()
}

/// How often each call was made, from a table of `strace -c`.
pub(crate) fn parse_strace(table: &str) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Share, seconds, microseconds a call, calls, errors where there were some, name.
        let ([_, _, _, count, name] | [_, _, _, count, _, name]) = words[..] else {
            continue;
        };
        if let (Ok(count), true) = (count.parse(), name != "total") {
            calls.insert(name.to_owned(), count);
        }
    }
    calls
}

/// What so many operations added to a run without any.
pub(crate) fn calls_each(
    without: &BTreeMap<String, u64>,
    with: &BTreeMap<String, u64>,
    operations: u64,
) -> Calls {
    let each = |name: &str, count: u64| {
        let before = without.get(name).copied().unwrap_or(0);
        // Both are far below 2^53; a run may by chance make fewer.
        crate::measure::precise(count.saturating_sub(before)) / crate::measure::precise(operations)
    };
    let mut names: Vec<(String, f64)> = with
        .iter()
        .map(|(name, count)| (name.clone(), each(name, *count)))
        .collect();
    names.retain(|(_, each)| *each > 0.0);
    names.sort_by(|a, b| b.1.total_cmp(&a.1));
    Calls {
        // Not `sum`, which gives -0 for nothing.
        each: names.iter().fold(0.0, |sum, (_, each)| sum + each),
        names,
    }
}

/// Instructions from what callgrind says at its end.
pub(crate) fn parse_callgrind(log: &str) -> Option<u64> {
    let line = log
        .lines()
        .find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

/// So much memory is used and given back before each turn, in bytes.
const TOUCHED: usize = 256 << 20;

/// Writes back everything of this folder's file system that is dirty, so that no measurement pays for
/// the one before it. A virtual machine may give memory that is free back to its host: whoever gets it next waits
/// for each page of it, whichever contender that is. So there is free memory that was just in use.
#[cfg_attr(
    not(target_os = "linux"),
    expect(unused_variables, reason = "only Linux syncs one file system")
)]
pub(crate) fn settle(dir: &Path) -> Result<(), Fault> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(File::open(dir)?)?;
    #[cfg(all(unix, not(target_os = "linux")))]
    rustix::fs::sync();
    let mut memory = Vec::new();
    memory.resize(TOUCHED, 1_u8);
    std::hint::black_box(&memory);
    Ok(())
}

/// What the numbers were measured on, in a few words each.
pub(crate) fn machine(dir: &Path) -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        value.trim_start_matches([' ', '\t', ':']).trim().to_owned()
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    // The number; what follows is whoever built it.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let system = format!("{} {kernel}", std::env::consts::OS);
    let load = read("/proc/loadavg")
        .split(' ')
        .next()
        .unwrap_or_default()
        .to_owned();
    vec![
        ("processor", format!("{processor}, {cores} cores")),
        ("memory", memory),
        ("system", system),
        ("file system", file_system(&read("/proc/self/mounts"), dir)),
        ("load before", load),
    ]
}

/// The kind of file system that a folder is on: of the mounts above it, the deepest.
fn file_system(mounts: &str, dir: &Path) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((Path::new(words.next()?), words.next()?))
    });
    let above = mounts.filter(|(place, _)| dir.starts_with(place));
    let deepest = above.max_by_key(|(place, _)| place.as_os_str().len());
    deepest.map_or_else(|| "unknown".into(), |(_, kind)| kind.into())
}

/// Versions of the peers, as this program was built with.
pub(crate) fn versions() -> Vec<(&'static str, String)> {
    const LOCK: &str = include_str!("../../../Cargo.lock");
    let peers = [
        "quick_cache",
        "moka",
        "foyer",
        "lru",
        "cacache",
        "heed",
        "redb",
        "rusqlite",
        "fjall",
    ];
    let version = |name: &str| {
        let head = format!("name = \"{name}\"\nversion = \"");
        // Where a peer depends on an older one of another peer, the last is ours.
        let rest = LOCK.rsplit_once(&head).map_or("?", |(_, rest)| rest);
        rest.split('"').next().unwrap_or("?").to_owned()
    };
    peers.map(|name| (name, version(name))).into()
}

/// A folder with more entries than this is not removed while something is still to be measured.
const MANY: usize = 100;

/// Removes a folder that a child filled, or moves it into `trash`, where it stays until the end.
///
/// Some file systems are slow to create files for a minute or more after many were unlinked (ext4
/// looks for inodes that were not freed just now): whoever came next would pay for it.
pub(crate) fn discard(dir: &Path, trash: &Path) -> Result<(), Fault> {
    if entries(dir, MANY + 1)? <= MANY {
        return Ok(fs::remove_dir_all(dir)?);
    }
    fs::create_dir_all(trash)?;
    let place = tempfile::Builder::new().tempdir_in(trash)?.keep();
    Ok(fs::rename(dir, place)?)
}

/// How many files and folders are below `dir`; counts no further than to about `most`.
fn entries(dir: &Path, most: usize) -> Result<usize, Fault> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        count += 1;
        if entry.file_type()?.is_dir() {
            count += entries(&entry.path(), most.saturating_sub(count))?;
        }
        if count >= most {
            break;
        }
    }
    Ok(count)
}

/// A first argument and what follows it.
pub(crate) fn with(first: impl AsRef<OsStr>, rest: Vec<OsString>) -> Vec<OsString> {
    let mut arguments = vec![first.as_ref().to_owned()];
    arguments.extend(rest);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200           pwrite64
 40.00    0.000400           2       210        10 openat
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           2       410        10 total
";

    #[test]
    fn calls_of_an_operation_are_what_operations_add_to_a_run_without_them() {
        let with = parse_strace(TABLE);
        assert_eq!(with.len(), 2);
        let without = BTreeMap::from([("openat".into(), 10), ("mmap".into(), 5)]);
        let calls = calls_each(&without, &with, 100);
        assert!((calls.each - 4.0).abs() < 1e-9, "{calls:?}");
        assert_eq!(calls.names.len(), 2);
    }

    #[test]
    fn instructions_are_read_from_callgrinds_last_lines() {
        let log = "==1== Events    : Ir\n==1== Collected : 123456\n==1==\n";
        assert_eq!(parse_callgrind(log), Some(123_456));
        assert_eq!(parse_callgrind("nothing"), None);
    }

    #[test]
    fn the_deepest_mount_tells_the_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmpfs xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/tmpx")), "ext4");
    }

    #[test]
    fn a_folder_with_many_files_is_kept_aside_and_a_small_one_removed() {
        let temp = tempfile::tempdir().unwrap();
        let (small, large, trash) = (
            temp.path().join("small"),
            temp.path().join("large"),
            temp.path().join("trash"),
        );
        for (dir, count) in [(&small, 10), (&large, 200)] {
            fs::create_dir_all(dir.join("below")).unwrap();
            for n in 0..count {
                fs::write(dir.join("below").join(n.to_string()), "x").unwrap();
            }
            discard(dir, &trash).unwrap();
            assert!(!dir.exists());
        }
        assert_eq!(entries(&trash, usize::MAX).unwrap(), 202);
    }

    #[test]
    fn the_lock_file_names_every_peer() {
        for (name, version) in versions() {
            assert!(
                version.starts_with(|c: char| c.is_ascii_digit()),
                "{name}: {version}"
            );
        }
    }
}
