//! Everything that was measured, as it comes in.

use crate::measure::Reading;
use crate::stats::Summary;
use std::collections::BTreeMap;

/// System calls or instructions of one operation, counted from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Calls {
    pub(crate) each: f64,
    /// By name, the most frequent first.
    pub(crate) names: Vec<(String, f64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Results {
    /// By workload and contender, metrics in the order in which they were told.
    readings: BTreeMap<(String, String), Vec<Reading>>,
    failures: BTreeMap<(String, String), String>,
    calls: BTreeMap<(String, String), Calls>,
    instructions: BTreeMap<(String, String), f64>,
}

fn at(workload: &str, contender: &str) -> (String, String) {
    (workload.into(), contender.into())
}

impl Results {
    pub(crate) fn add(&mut self, workload: &str, contender: &str, readings: Vec<Reading>) {
        self.readings
            .entry(at(workload, contender))
            .or_default()
            .extend(readings);
    }

    /// From now on the contender has no numbers in this workload.
    pub(crate) fn fail(&mut self, workload: &str, contender: &str, why: String) {
        self.failures.entry(at(workload, contender)).or_insert(why);
    }

    pub(crate) fn failure(&self, workload: &str, contender: &str) -> Option<&str> {
        self.failures
            .get(&at(workload, contender))
            .map(String::as_str)
    }

    pub(crate) fn set_calls(&mut self, workload: &str, contender: &str, calls: Calls) {
        self.calls.insert(at(workload, contender), calls);
    }

    pub(crate) fn calls(&self, workload: &str, contender: &str) -> Option<&Calls> {
        self.calls.get(&at(workload, contender))
    }

    pub(crate) fn set_instructions(&mut self, workload: &str, contender: &str, each: f64) {
        self.instructions.insert(at(workload, contender), each);
    }

    pub(crate) fn instructions(&self, workload: &str, contender: &str) -> Option<f64> {
        self.instructions.get(&at(workload, contender)).copied()
    }

    /// The metrics of a workload, in the order of whoever told most.
    pub(crate) fn metrics(&self, workload: &str) -> Vec<String> {
        let mut metrics: Vec<String> = Vec::new();
        for (_, readings) in self
            .readings
            .iter()
            .filter(|((name, _), _)| name == workload)
        {
            for reading in readings {
                if !metrics.contains(&reading.metric) {
                    metrics.push(reading.metric.clone());
                }
            }
        }
        metrics
    }

    /// `None` where nothing was measured, or the contender failed.
    pub(crate) fn summary(&self, workload: &str, contender: &str, metric: &str) -> Option<Summary> {
        if self.failure(workload, contender).is_some() {
            return None;
        }
        let readings = self.readings.get(&at(workload, contender))?;
        let of: Vec<Reading> = readings
            .iter()
            .filter(|reading| reading.metric == metric)
            .cloned()
            .collect();
        Summary::of(&of)
    }

    /// How many times the peer's number keepwarm's is: below 1 is better, whatever is counted.
    pub(crate) fn ratio(
        &self,
        workload: &str,
        metric: &str,
        ours: &str,
        theirs: &str,
    ) -> Option<f64> {
        let ours = self.summary(workload, ours, metric)?.value();
        let theirs = self.summary(workload, theirs, metric)?.value();
        (theirs > 0.0).then_some(ours / theirs)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measure::Unit;

    pub(crate) fn number(metric: &str, number: f64) -> Reading {
        Reading::number(metric, Unit::Nanoseconds, number)
    }

    #[test]
    fn a_ratio_is_of_medians_and_below_one_where_we_are_faster() {
        let mut results = Results::default();
        for (ours, theirs) in [(10.0, 20.0), (12.0, 24.0), (900.0, 1.0)] {
            results.add("w", "we", vec![number("m", ours)]);
            results.add("w", "they", vec![number("m", theirs)]);
        }
        let ratio = results.ratio("w", "m", "we", "they").unwrap();
        assert!((ratio - 12.0 / 20.0).abs() < 1e-9, "{ratio}");
        assert!(results.ratio("w", "other", "we", "they").is_none());
        assert!(results.ratio("other", "m", "we", "they").is_none());
    }

    #[test]
    fn a_contender_that_failed_once_has_no_numbers() {
        let mut results = Results::default();
        results.add("w", "they", vec![number("m", 1.0)]);
        results.fail("w", "they", "lost artifact 3".into());
        results.fail("w", "they", "later".into());
        assert!(results.summary("w", "they", "m").is_none());
        assert_eq!(results.failure("w", "they"), Some("lost artifact 3"));
        assert!(results.failure("w", "we").is_none());
    }
}
