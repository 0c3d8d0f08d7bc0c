//! What the benchmarks share: keys, rounds, medians, printing.
//!
//! A group of cases is measured in interleaved rounds, each case once a round, so that whatever
//! else the machine does meets all of them alike. What is printed is the median of the rounds,
//! with the fastest and the slowest. `--quick` measures less, to see that everything runs; a word
//! on the command line chooses the cases whose name has it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each benchmark uses a part of it"
)]

use keepwarm::Fingerprint;
use std::sync::{Barrier, LazyLock};
use std::thread;
use std::time::Instant;

const ROUNDS: usize = 9;

/// Whether only a taste is wanted: `--quick`, or `KEEPWARM_BENCH_QUICK` in the environment.
pub fn is_quick() -> bool {
    // Asked in the midst of what is measured: looked up once.
    static QUICK: LazyLock<bool> = LazyLock::new(|| {
        std::env::args().any(|arg| arg == "--quick")
            || std::env::var_os("KEEPWARM_BENCH_QUICK").is_some()
    });
    *QUICK
}

/// `full`, or a fiftieth of it in a quick run; at least 2.
pub fn scaled(full: u64) -> u64 {
    if is_quick() { (full / 50).max(2) } else { full }
}

/// Whether a name was asked for.
pub fn is_wanted(name: &str) -> bool {
    let mut words = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word))
}

/// Whether a case of a group may have been asked for.
pub fn is_group_wanted(name: &str) -> bool {
    let mut words = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .peekable();
    words.peek().is_none() || words.any(|word| name.contains(&word) || word.contains(name))
}

/// The key of a number, as uniform as a builder makes them, and made without touching memory.
pub fn key(n: u64) -> Fingerprint {
    let mut bytes = [0; 32];
    for (at, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
        chunk.copy_from_slice(&mixed(n.wrapping_mul(4) + at).to_le_bytes());
    }
    Fingerprint::from_bytes(bytes)
}

/// A number below `count`, in an order that no prefetcher follows.
pub fn any(n: u64, count: u64) -> u64 {
    mixed(n) % count
}

fn mixed(n: u64) -> u64 {
    // The finish of SplitMix64.
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// Something to measure: given the number of the round, the nanoseconds of one call.
pub struct Case<'a> {
    name: String,
    round: Box<dyn FnMut(u64) -> f64 + 'a>,
}

impl<'a> Case<'a> {
    pub fn new(name: impl Into<String>, round: impl FnMut(u64) -> f64 + 'a) -> Self {
        Self {
            name: name.into(),
            round: Box::new(round),
        }
    }

    /// `calls` calls a round on each of `threads` threads; each is given a number of its own.
    pub fn calls(
        name: impl Into<String>,
        threads: u64,
        calls: u64,
        call: impl Fn(u64) + Sync + 'a,
    ) -> Self {
        let name = match threads {
            1 => name.into(),
            _ => format!("{}, {threads} threads", name.into()),
        };
        Self::new(name, move |round| {
            in_threads(threads, |thread| {
                let first = (round * threads + thread) * calls;
                per_call(first..first + calls, &call)
            })
        })
    }
}

/// The nanoseconds of one call.
pub fn per_call(numbers: std::ops::Range<u64>, call: impl Fn(u64)) -> f64 {
    let count = numbers.end - numbers.start;
    let start = Instant::now();
    numbers.for_each(call);
    nanoseconds(start) / precise(count)
}

/// Since `start`.
pub fn nanoseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e9
}

#[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
pub fn precise(count: u64) -> f64 {
    count as f64
}

/// What the slowest of so many threads tells, which begin together.
pub fn in_threads(threads: u64, run: impl Fn(u64) -> f64 + Sync) -> f64 {
    if threads == 1 {
        return run(0);
    }
    let barrier = Barrier::new(usize::try_from(threads).unwrap_or(1));
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, run) = (&barrier, &run);
                scope.spawn(move || {
                    barrier.wait();
                    run(thread)
                })
            })
            .collect();
        let times = handles.into_iter().map(thread::ScopedJoinHandle::join);
        times
            .map(|time| time.expect("no call panics"))
            .fold(0.0, f64::max)
    })
}

/// Measures the cases that were asked for, and prints them.
pub fn measure(mut cases: Vec<Case<'_>>) {
    cases.retain(|case| is_wanted(&case.name));
    let rounds = if is_quick() { 2 } else { ROUNDS };
    let mut times = vec![Vec::new(); cases.len()];
    for round in 0..=rounds {
        for (case, times) in cases.iter_mut().zip(&mut times) {
            let time = (case.round)(round as u64);
            // The first warms up.
            if round > 0 {
                times.push(time);
            }
        }
    }
    for (case, times) in cases.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let (least, most) = (times[0], times[times.len() - 1]);
        print_time(&case.name, times[times.len() / 2], Some((least, most)));
    }
}

/// Prints a time in nanoseconds.
pub fn print_time(name: &str, median: f64, range: Option<(f64, f64)>) {
    let range = range.map_or(String::new(), |(least, most)| {
        format!("  ({} .. {})", text(least), text(most))
    });
    println!("{name:<44} {:>10}{range}", text(median));
}

fn text(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e4 => format!("{n:.0} ns"),
        n if n < 1e7 => format!("{:.1} us", n / 1e3),
        n => format!("{:.1} ms", n / 1e6),
    }
}
