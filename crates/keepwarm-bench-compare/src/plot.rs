//! A plot a workload: a panel for each metric, a dot for each contender at its median, a whisker
//! from its fastest to its slowest round. The scale is logarithmic, since contenders differ by
//! factors of hundreds, which bars would hide or exaggerate.
//!
//! Written by hand: dots, lines and text are all there is, and a library that draws them is larger
//! than this file a hundred times over.

use crate::disk::Role;
use crate::measure::Unit;
use crate::report::role;
use crate::results::Results;
use crate::stats::{Summary, text};
use crate::workload::Workload;
use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
/// Where the scale begins and ends.
const LEFT: f64 = 190.0;
const RIGHT: f64 = 740.0;
const ROW: f64 = 20.0;
/// Above the rows of a panel, for its title, and below, for its scale.
const TITLE: f64 = 34.0;
const SCALE: f64 = 30.0;

/// Numbers to places on a logarithmic scale.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    /// Whole decades around all numbers above zero.
    fn around(rows: &[(&str, Summary)]) -> Option<Self> {
        let numbers = rows.iter().flat_map(|(_, s)| [s.least, s.most, s.value()]);
        let numbers = numbers.filter(|number| *number > 0.0 && number.is_finite());
        let (least, most) = numbers.fold((f64::INFINITY, 0.0), |(a, b), n| {
            (f64::min(a, n), f64::max(b, n))
        });
        if most == 0.0 {
            return None;
        }
        let least = 10_f64.powf(least.log10().floor());
        let most = 10_f64.powf(most.log10().ceil()).max(least * 10.0);
        Some(Self { least, most })
    }

    /// What is not above zero is at the left end.
    fn place(&self, number: f64) -> f64 {
        let part = (number.max(self.least) / self.least).log10() / (self.most / self.least).log10();
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn decades(&self) -> Vec<f64> {
        let mut decades = vec![self.least];
        // Room for rounding: the last one is the end of the scale.
        while let Some(last) = decades.last().filter(|last| **last * 5.0 < self.most) {
            decades.push(last * 10.0);
        }
        decades
    }
}

/// The plot, as the text of an SVG file.
pub(crate) fn svg(results: &Results, workload: &Workload) -> String {
    let mut body = String::new();
    let mut top = 34.0;
    for metric in results.metrics(workload.name) {
        let rows: Vec<(&str, Summary)> = workload
            .contenders()
            .into_iter()
            .filter_map(|name| Some((name, results.summary(workload.name, name, &metric)?)))
            .collect();
        // Percents are near one another: the table tells them better.
        let is_percent = rows.iter().any(|(_, s)| s.unit == Unit::Percent);
        if let (Some(scale), false) = (Scale::around(&rows), is_percent) {
            top = panel(&mut body, top, &metric, &rows, &scale);
        }
    }
    let title = escaped(workload.name);
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="12" y="22" font-size="15" font-weight="bold">{title}</text>
<text x="{RIGHT}" y="22" text-anchor="end" fill="#666666">median, fastest to slowest round; further left is better</text>
{body}</svg>
"##
    )
}

/// Draws one metric below `top`; gives where the next one begins.
fn panel(
    body: &mut String,
    top: f64,
    metric: &str,
    rows: &[(&str, Summary)],
    scale: &Scale,
) -> f64 {
    let first = top + TITLE;
    #[expect(clippy::cast_precision_loss, reason = "a few contenders")]
    let end = first + rows.len() as f64 * ROW;
    // Writing to a string does not fail.
    let _ = writeln!(
        body,
        r#"<text x="{LEFT}" y="{:.0}" font-weight="bold">{}</text>"#,
        top + 20.0,
        escaped(metric)
    );
    let unit = rows.first().map_or(Unit::Times, |(_, s)| s.unit);
    for decade in scale.decades() {
        let (x, label) = (scale.place(decade), text(decade, unit));
        let _ = writeln!(
            body,
            r##"<line x1="{x:.1}" y1="{first:.0}" x2="{x:.1}" y2="{end:.0}" stroke="#dddddd"/>
<text x="{x:.1}" y="{:.0}" text-anchor="middle" fill="#666666" font-size="10">{label}</text>"##,
            end + 14.0
        );
    }
    let mut y = first + ROW / 2.0;
    for (name, s) in rows {
        let (color, weight) = match role(name) {
            Role::Keepwarm => ("#c0392b", "bold"),
            Role::Peer => ("#2c5f8a", "normal"),
            Role::Bound => ("#888888", "normal"),
        };
        let (dot, from, to) = (
            scale.place(s.value()),
            scale.place(s.least),
            scale.place(s.most),
        );
        let _ = writeln!(
            body,
            r#"<text x="{:.0}" y="{:.1}" text-anchor="end" fill="{color}" font-weight="{weight}">{}</text>
<line x1="{from:.1}" y1="{y:.1}" x2="{to:.1}" y2="{y:.1}" stroke="{color}" stroke-width="2"/>
<circle cx="{dot:.1}" cy="{y:.1}" r="4" fill="{color}"/>
<text x="{:.0}" y="{:.1}" fill="{color}">{}</text>"#,
            LEFT - 10.0,
            y + 4.0,
            escaped(name),
            RIGHT + 12.0,
            y + 4.0,
            text(s.value(), unit),
        );
        y += ROW;
    }
    end + SCALE
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::number;
    use crate::workload;

    #[test]
    fn a_plot_has_a_dot_for_each_contender_further_right_for_a_larger_number() {
        let mut results = Results::default();
        for (name, value) in [("keepwarm-memory", 50.0), ("quick_cache", 5000.0)] {
            results.add("memory-hit", name, vec![number("1 thread", value)]);
        }
        let svg = svg(&results, workload::find("memory-hit").unwrap());
        let dots: Vec<f64> = svg
            .lines()
            .filter_map(|line| {
                line.strip_prefix("<circle cx=\"")?
                    .split('"')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect();
        assert_eq!(dots.len(), 2);
        assert!(dots[0] < dots[1]);
        assert!(svg.contains("50.0 ns") && svg.contains("5.00 us"));
    }

    #[test]
    fn a_scale_ends_with_whole_decades_and_holds_zero() {
        let mut results = Results::default();
        for value in [0.0, 30.0, 700.0] {
            results.add("w", "we", vec![number("m", value)]);
        }
        let rows = [("we", results.summary("w", "we", "m").unwrap())];
        let scale = Scale::around(&rows).unwrap();
        let decades: Vec<f64> = scale.decades().into_iter().map(f64::round).collect();
        assert_eq!(decades, [10.0, 100.0, 1000.0]);
        assert!((scale.place(0.0) - LEFT).abs() < 1e-9);
        assert!((scale.place(1000.0) - RIGHT).abs() < 1e-6);
    }
}
