//! Medians, and the numbers of all rounds put together.

use crate::measure::{Basis, Reading, Unit};

/// The median; of an even number the mean of the two in the middle. NaN of nothing.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// A metric of a contender over all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) unit: Unit,
    pub(crate) basis: Basis,
    pub(crate) wall: f64,
    pub(crate) cpu: Option<f64>,
    /// Of what is compared.
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) rounds: usize,
}

impl Summary {
    /// `None` of no reading.
    pub(crate) fn of(readings: &[Reading]) -> Option<Self> {
        let first = readings.first()?;
        let values: Vec<f64> = readings.iter().map(Reading::value).collect();
        let walls: Vec<f64> = readings.iter().map(|reading| reading.wall).collect();
        let cpus: Option<Vec<f64>> = readings.iter().map(|reading| reading.cpu).collect();
        Some(Self {
            unit: first.unit,
            basis: first.basis,
            wall: median(&walls),
            cpu: cpus.as_deref().map(median),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            rounds: readings.len(),
        })
    }

    /// What contenders are compared by.
    pub(crate) fn value(&self) -> f64 {
        match (self.basis, self.cpu) {
            (Basis::Cpu, Some(cpu)) => cpu,
            _ => self.wall,
        }
    }
}

/// A number with three digits that matter, in a unit that a person reads.
pub(crate) fn text(number: f64, unit: Unit) -> String {
    let scale = |steps: &[(f64, &str)]| {
        let (size, name) = steps
            .iter()
            .find(|(size, _)| number.abs() >= *size)
            .or(steps.last())
            .copied()
            .unwrap_or((1.0, ""));
        format!("{} {name}", digits(number / size))
    };
    match unit {
        _ if !number.is_finite() => "?".into(),
        Unit::Nanoseconds => scale(&[(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")]),
        Unit::Bytes => scale(&[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")]),
        Unit::Percent => format!("{number:.2} %"),
        Unit::Times => format!("{} x", digits(number)),
    }
}

fn digits(number: f64) -> String {
    match number.abs() {
        n if n >= 99.95 => format!("{number:.0}"),
        n if n >= 9.995 => format!("{number:.1}"),
        n if n >= 0.0995 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_in_whatever_order_numbers_come() {
        assert!((median(&[9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 100.0]) - 3.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_summary_compares_by_the_basis_of_its_readings() {
        let reading = |wall, cpu| Reading {
            metric: "m".into(),
            unit: Unit::Nanoseconds,
            basis: Basis::Cpu,
            wall,
            cpu: Some(cpu),
        };
        let readings = [reading(10.0, 3.0), reading(30.0, 2.0), reading(20.0, 1.0)];
        let summary = Summary::of(&readings).unwrap();
        assert!((summary.value() - 2.0).abs() < 1e-9);
        assert!((summary.wall - 20.0).abs() < 1e-9);
        assert!((summary.least - 1.0).abs() < 1e-9 && (summary.most - 3.0).abs() < 1e-9);
        assert!(Summary::of(&[]).is_none());
    }

    #[test]
    fn numbers_are_written_with_three_digits() {
        assert_eq!(text(1234.0, Unit::Nanoseconds), "1.23 us");
        assert_eq!(text(56.78, Unit::Nanoseconds), "56.8 ns");
        assert_eq!(text(0.5, Unit::Nanoseconds), "0.50 ns");
        assert_eq!(text(999_000_000.0, Unit::Nanoseconds), "999 ms");
        assert_eq!(text(4096.0, Unit::Bytes), "4.10 kB");
        assert_eq!(text(0.0, Unit::Bytes), "0.000 B");
        assert_eq!(text(f64::NAN, Unit::Bytes), "?");
    }
}
