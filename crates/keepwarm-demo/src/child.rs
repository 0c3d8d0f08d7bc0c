//! One of the two processes: gets every shader through the cache, in two rounds, and tells the
//! parent what came out, from where, and how fast.

use crate::compile::{self, Shader};
use crate::protocol::{Counters, Got, Line, PROTOCOL, Source, Summary};
use keepwarm::{Cache, Digest, Fingerprint};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs the child on `dir`; `memory` is its memory budget in bytes, if not the library's.
pub(crate) fn run(dir: &Path, memory: Option<u64>) -> Result<(), Box<dyn Error>> {
    let opening = Instant::now();
    let mut builder = Cache::builder();
    if let Some(bytes) = memory {
        builder = builder.memory_budget(bytes);
    }
    let cache = builder.open(dir)?;
    say(&Line::Open {
        protocol: PROTOCOL,
        open_ns: nanos(opening.elapsed()),
    })?;

    let fingerprinting = Instant::now();
    let mut keyed: Vec<_> = compile::shaders()
        .into_iter()
        .map(|shader| (compile::fingerprint(shader), shader))
        .collect();
    let fingerprint_ns = nanos(fingerprinting.elapsed());

    for round in 0..2 {
        for (key, shader) in &keyed {
            say(&Line::Got(get(&cache, key, *shader, round)?))?;
        }
        // Backwards the second time: with a small memory, what was used last is still there.
        keyed.reverse();
    }

    let closing = Instant::now();
    cache.flush()?;
    let counters = counters(&cache);
    cache.close()?;
    say(&Line::Closed(Summary {
        fingerprint_ns,
        close_ns: nanos(closing.elapsed()),
        counters,
    }))
}

/// Gets one shader; only the get itself is timed.
fn get(
    cache: &Cache,
    key: &Fingerprint,
    shader: Shader,
    round: usize,
) -> Result<Got, Box<dyn Error>> {
    let before = counters(cache);
    let start = Instant::now();
    let spirv = cache.get_or_insert_with(key, || compile::compile(shader))?;
    let nanos = nanos(start.elapsed());
    let after = counters(cache);
    Ok(Got {
        round,
        shader: shader.name.to_owned(),
        from: source(&before, &after),
        nanos,
        bytes: spirv.len() as u64,
        // Not `spirv.digest()`, which may remember what the disk tier hashed.
        digest: Digest::of(&spirv).to_string(),
    })
}

/// Where the one get between two readings of the counters was served from.
fn source(before: &Counters, after: &Counters) -> Source {
    if after.builds > before.builds {
        Source::Compiled
    } else if after.memory_hits > before.memory_hits {
        Source::Memory
    } else if after.disk_hits > before.disk_hits {
        Source::Disk
    } else {
        Source::Queue
    }
}

/// Reads the cache's statistics.
fn counters(cache: &Cache) -> Counters {
    let stats = cache.stats();
    let (memory, disk) = (stats.memory, stats.disk.unwrap_or_default());
    Counters {
        builds: stats.builds,
        memory_hits: memory.hits,
        disk_hits: disk.hits,
        promotions: stats.promotions,
        demotions: stats.demotions,
        memory_evictions: memory.evictions,
        memory_rejected: memory.rejected_puts,
        disk_entries: disk.entries,
        faults: stats.faults,
        corrupt: disk.corrupt,
        build_ns: nanos(stats.build_time),
        build_saved_ns: nanos(stats.build_time_saved),
    }
}

fn say(line: &Line) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
