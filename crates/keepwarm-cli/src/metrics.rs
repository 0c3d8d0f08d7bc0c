//! Statistics as OpenMetrics text.

use crate::cmd::stats::Report;
use crate::failure::{Failure, Result};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A number with its name and help, and where in a report it is.
type Number = (&'static str, &'static str, fn(&Report) -> u64);

const GAUGES: [Number; 1] = [("entries", "Keys that are bound", |r| r.entries)];

const GAUGES_IN_BYTES: [Number; 2] = [
    ("disk", "What packs and objects take", |r| r.disk_bytes),
    ("disk_budget", "What they may take", |r| r.max_size),
];

const COUNTERS: [Number; 8] = [
    ("memory_hits", "Hits that memory served", |r| {
        r.counters.memory_hits
    }),
    ("disk_hits", "Hits that the directory served", |r| {
        r.counters.disk_hits
    }),
    ("misses", "Look-ups that found nothing", |r| {
        r.counters.misses
    }),
    ("puts", "Artifacts that were bound", |r| r.counters.puts),
    ("promotions", "Artifacts handed up to memory", |r| {
        r.counters.promotions
    }),
    ("evictions", "Entries evicted, expired or pruned", |r| {
        r.counters.evictions
    }),
    ("corrupt", "Artifacts found damaged, and not served", |r| {
        r.counters.corrupt
    }),
    ("builds", "Artifacts that were built", |r| r.counters.builds),
];

const COUNTERS_IN_BYTES: [Number; 2] = [
    ("evicted", "Artifacts of evicted entries", |r| {
        r.counters.evicted_bytes
    }),
    ("deduplicated", "What was stored already", |r| {
        r.counters.deduplicated_bytes
    }),
];

const COUNTERS_IN_NANOS: [Number; 2] = [
    ("build", "Time spent building", |r| r.counters.build_nanos),
    (
        "build_saved",
        "Build time of everything that was a hit",
        |r| r.counters.build_nanos_saved,
    ),
];

/// The whole exposition. Metrics may be added, never changed.
pub(crate) fn text(report: &Report) -> Result<String> {
    let mut all = Registry::with_prefix("keepwarm");
    for (unit, numbers) in [(None, &GAUGES[..]), (Some(Unit::Bytes), &GAUGES_IN_BYTES)] {
        for (name, help, of) in numbers {
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(of(report)).unwrap_or(i64::MAX));
            register(&mut all, (name, help, unit.clone()), gauge);
        }
    }
    for (unit, numbers) in [
        (None, &COUNTERS[..]),
        (Some(Unit::Bytes), &COUNTERS_IN_BYTES),
    ] {
        for (name, help, of) in numbers {
            let counter = Counter::<u64>::default();
            counter.inc_by(of(report));
            register(&mut all, (name, help, unit.clone()), counter);
        }
    }
    for (name, help, of) in COUNTERS_IN_NANOS {
        let counter = Counter::<f64, AtomicU64>::default();
        counter.inc_by(Duration::from_nanos(of(report)).as_secs_f64());
        register(&mut all, (name, help, Some(Unit::Seconds)), counter);
    }
    let mut text = String::new();
    encode(&mut text, &all)
        .map_err(|e| Failure::failed(format!("could not print metrics: {e}")))?;
    Ok(text)
}

fn register(
    all: &mut Registry,
    (name, help, unit): (&str, &str, Option<Unit>),
    metric: impl Metric,
) {
    match unit {
        Some(unit) => all.register_with_unit(name, help, unit, metric),
        None => all.register(name, help, metric),
    }
}
