//! The history by the bars of a chart: the last day, the last month, the last year.

use super::data::Interval;
use crate::counters::Counters;
use crate::units;
use std::time::{Duration, SystemTime};

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// A stretch of time that ends now.
#[derive(Clone, Copy, Debug)]
struct Kind {
    id: &'static str,
    name: &'static str,
    /// Of a bar, in seconds.
    step: u64,
    bars: usize,
    /// Where in a time, as RFC 3339 has it, the name of a bar is.
    label: (usize, usize),
    /// What one bar is called.
    unit: &'static str,
}

const KINDS: [Kind; 3] = [
    Kind {
        id: "day",
        name: "Last day",
        step: 30 * MINUTE,
        bars: 48,
        label: (11, 16),
        unit: "half an hour",
    },
    Kind {
        id: "month",
        name: "Last 30 days",
        step: DAY,
        bars: 30,
        label: (5, 10),
        unit: "a day",
    },
    Kind {
        id: "year",
        name: "Last year",
        step: 7 * DAY,
        bars: 53,
        label: (0, 10),
        unit: "a week",
    },
];

/// A chart's worth of history.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) bars: Vec<Bar>,
}

/// What was done in one step of time.
#[derive(Debug)]
pub(crate) struct Bar {
    /// When it began, to be written below it.
    pub(crate) label: String,
    /// The same, whole.
    pub(crate) begin: String,
    pub(crate) counters: Counters,
}

impl Bar {
    /// All that was asked for.
    pub(crate) fn requests(&self) -> u64 {
        self.hits().saturating_add(self.counters.misses)
    }

    pub(crate) fn hits(&self) -> u64 {
        let c = &self.counters;
        c.memory_hits.saturating_add(c.disk_hits)
    }
}

/// The ranges worth showing: each that goes further back than the one before it, as far as there is
/// anything; none where nothing was sampled yet.
pub(crate) fn ranges(history: &[Interval], now: SystemTime) -> Vec<Range> {
    let used = |interval: &&Interval| interval.counters != Counters::default();
    let Some(first) = history.iter().find(used) else {
        return Vec::new();
    };
    let mut covered = 0;
    let mut all = Vec::new();
    for kind in KINDS {
        let since = now.checked_sub(Duration::from_secs(covered));
        if covered == 0 || since.is_some_and(|since| first.begin < since) {
            all.push(range(&kind, history, now));
        }
        covered = kind.step * kind.bars as u64;
    }
    all
}

fn range(kind: &Kind, history: &[Interval], now: SystemTime) -> Range {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Bars begin at whole steps; the last one is the step that it is now.
    let last = now.as_secs() / kind.step;
    let first = (last + 1).saturating_sub(kind.bars as u64);
    let mut bars: Vec<Bar> = (first..=last)
        .map(|n| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n * kind.step);
            let begin = units::timestamp(at);
            Bar {
                label: begin
                    .get(kind.label.0..kind.label.1)
                    .unwrap_or_default()
                    .to_owned(),
                begin: begin.replace('T', " "),
                counters: Counters::default(),
            }
        })
        .collect();
    for interval in history {
        // What was sampled at the very end of a step was done in it.
        let end = interval
            .end
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let n = end.as_secs().saturating_sub(1) / kind.step;
        let at = n.checked_sub(first).and_then(|n| usize::try_from(n).ok());
        if let Some(bar) = at.and_then(|at| bars.get_mut(at)) {
            bar.counters = bar.counters.plus(&interval.counters);
        }
    }
    Range {
        id: kind.id,
        name: kind.name,
        unit: kind.unit,
        bars,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::data::interval;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const NOW: u64 = 1_000 * DAY + 100;

    #[test]
    fn bars_hold_what_was_done_in_them_and_nothing_twice() {
        let history = [
            interval(NOW - 40 * DAY, NOW - 39 * DAY, 1),
            interval(NOW - 20 * DAY, NOW - 19 * DAY, 10),
            interval(NOW - DAY, NOW - DAY / 2, 100),
            interval(NOW - 300, NOW, 1000),
        ];
        let ranges = ranges(&history, at(NOW));
        let ids: Vec<_> = ranges.iter().map(|range| range.id).collect();
        assert_eq!(ids, ["day", "month", "year"]);
        let sums: Vec<u64> = ranges
            .iter()
            .map(|range| range.bars.iter().map(Bar::hits).sum())
            .collect();
        assert_eq!(sums, [1100, 1110, 1111]);
        let day = &ranges[0].bars;
        assert_eq!((day.len(), day[47].hits()), (48, 1000));
        assert_eq!(day[47].label, "00:00");
        assert_eq!(ranges[2].bars.len(), 53);
    }

    #[test]
    fn what_has_no_history_has_no_range_and_a_young_one_only_a_day() {
        assert!(ranges(&[], at(NOW)).is_empty());
        let idle = [interval(NOW - 400, NOW, 0)];
        assert!(ranges(&idle, at(NOW)).is_empty());
        let young = [interval(NOW - 400, NOW, 7)];
        assert_eq!(ranges(&young, at(NOW)).len(), 1);
        // A clock before its time, and one after it.
        assert_eq!(ranges(&young, at(0)).len(), 1);
        assert_eq!(ranges(&young, at(NOW * 1000)).len(), 3);
    }
}
