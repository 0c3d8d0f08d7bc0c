//! Charts as inline SVG. Colours are classes, so that the page's looks decide; what a chart shows is
//! also in a table.

use super::markup::{number, ratio, text};
use super::ranges::{Bar, Range};
use crate::units;
use std::fmt::Write as _;
use std::time::Duration;

/// How wide a chart is drawn: text in it has the same size on every screen, so each is drawn twice,
/// and the looks show one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Screen {
    Wide,
    Narrow,
}

impl Screen {
    pub(super) const BOTH: [Self; 2] = [Self::Wide, Self::Narrow];

    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }

    pub(super) fn width(self) -> f64 {
        match self {
            Self::Wide => 960.0,
            Self::Narrow => 328.0,
        }
    }
}

/// A bar of parts one after the other, as long as its place is; `parts` are classes and amounts.
/// Only for who sees it: the numbers stand beside it.
pub(super) fn meter(parts: &[(&str, u64)], whole: u64) -> String {
    let mut svg = "<svg class=\"meter\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" \
                   aria-hidden=\"true\" focusable=\"false\">"
        .to_owned();
    let mut x = 0.0;
    for (class, amount) in parts {
        let width = ratio(*amount, whole) * 1000.0;
        if width > 0.0 {
            // What is there at all can be seen.
            let width = width.max(4.0).min(1000.0 - x);
            svg.push_str(&rect(class, [x, 0.0, width, 10.0]));
            x += width;
        }
    }
    svg.push_str("</svg>");
    svg
}

fn rect(class: &str, [x, y, width, height]: [f64; 4]) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
        number(x),
        number(y),
        number(width.max(0.0)),
        number(height.max(0.0))
    )
}

fn label(class: &str, x: f64, y: f64, content: &str) -> String {
    let (x, y) = (number(x), number(y));
    format!(
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>",
        text(content)
    )
}

fn line(class: &str, [x1, y1, x2, y2]: [f64; 4]) -> String {
    let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(number);
    format!("<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>")
}

/// The panels of a chart over time, from the top: where each begins and how high it is.
const RATE: (f64, f64) = (26.0, 120.0);
const REQUESTS: (f64, f64) = (188.0, 110.0);
const SAVED: (f64, f64) = (340.0, 80.0);
const HEIGHT: f64 = 446.0;
/// Room for the scale.
const LEFT: f64 = 42.0;

/// Where the bars of a chart stand.
struct Grid {
    width: f64,
    step: f64,
}

impl Grid {
    fn new(screen: Screen, bars: usize) -> Self {
        let width = screen.width();
        let bars = u32::try_from(bars.max(1)).unwrap_or(u32::MAX);
        Self {
            width,
            step: (width - LEFT) / f64::from(bars),
        }
    }

    fn x(&self, n: usize) -> f64 {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        LEFT + self.step * f64::from(n)
    }

    /// A bar in a panel, from one height to another, of 1.
    fn bar(&self, n: usize, class: &str, panel: (f64, f64), span: (f64, f64)) -> String {
        let (top, height) = panel;
        let gap = (self.step * 0.15).min(2.0);
        let (low, high) = span;
        let y = top + height * (1.0 - high);
        rect(
            class,
            [
                self.x(n) + gap,
                y,
                self.step - 2.0 * gap,
                height * (high - low),
            ],
        )
    }
}

/// Hit rate, requests and saved time, one below the other.
pub(super) fn timeline(range: &Range, screen: Screen) -> String {
    let grid = Grid::new(screen, range.bars.len());
    let mut svg = format!(
        "<svg class=\"chart {}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">",
        screen.class(),
        number(grid.width),
        number(HEIGHT),
        text(&format!(
            "Hit rate, requests and build time saved, {}: a table below has the numbers",
            range.name.to_lowercase()
        ))
    );
    svg.push_str(&rates(&range.bars, &grid));
    svg.push_str(&requests(range, &grid));
    svg.push_str(&saved(range, &grid));
    svg.push_str(&times(range, &grid, screen));
    for (n, bar) in range.bars.iter().enumerate() {
        // Fingers do not hover.
        if screen == Screen::Wide && bar.requests() > 0 {
            svg.push_str(&hint(n, bar, &grid));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn rates(bars: &[Bar], grid: &Grid) -> String {
    let (top, height) = RATE;
    let mut svg = label("head", 0.0, top - 12.0, "Hit rate");
    for (part, name) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        let y = top + height * (1.0 - part);
        svg.push_str(&line("grid", [LEFT, y, grid.width, y]));
        svg.push_str(&label("scale", LEFT - 6.0, y + 4.0, name));
    }
    let point = |(n, bar): (usize, &Bar)| {
        let rate = (bar.requests() > 0).then(|| ratio(bar.hits(), bar.requests()))?;
        let y = top + height * (1.0 - rate);
        Some((grid.x(n) + grid.step / 2.0, y))
    };
    let points: Vec<Option<(f64, f64)>> = bars.iter().enumerate().map(point).collect();
    // A line breaks where nobody asked.
    for run in points.split(Option::is_none) {
        let run: Vec<(f64, f64)> = run.iter().flatten().copied().collect();
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        let mut path = String::new();
        for (x, y) in &run {
            let _ = write!(path, "{},{} ", number(*x), number(*y));
        }
        let floor = number(top + height);
        let (from, to) = (number(first.0), number(last.0));
        let _ = write!(
            svg,
            "<polygon class=\"area\" points=\"{from},{floor} {path}{to},{floor}\"/>\
             <polyline class=\"line\" points=\"{}\"/>",
            path.trim_end()
        );
        for (x, y) in run {
            let (x, y) = (number(x), number(y));
            let _ = write!(
                svg,
                "<circle class=\"dot\" cx=\"{x}\" cy=\"{y}\" r=\"2.2\"/>"
            );
        }
    }
    svg
}

fn requests(range: &Range, grid: &Grid) -> String {
    let (top, height) = REQUESTS;
    let most = range.bars.iter().map(Bar::requests).max().unwrap_or(0);
    let title = format!("Requests, at most {} in {}", units::count(most), range.unit);
    let mut svg = label("head", 0.0, top - 12.0, &title);
    let floor = top + height;
    svg.push_str(&line("grid", [LEFT, floor, grid.width, floor]));
    for (n, bar) in range.bars.iter().enumerate() {
        let c = &bar.counters;
        let mut low = 0.0;
        for (class, amount) in [
            ("memory", c.memory_hits),
            ("disk", c.disk_hits),
            ("missed", c.misses),
        ] {
            let high = (low + ratio(amount, most)).min(1.0);
            if amount > 0 {
                svg.push_str(&grid.bar(n, class, REQUESTS, (low, high)));
            }
            low = high;
        }
    }
    svg
}

fn saved(range: &Range, grid: &Grid) -> String {
    let (top, height) = SAVED;
    let of = |bar: &Bar| bar.counters.build_nanos_saved;
    let most = range.bars.iter().map(of).max().unwrap_or(0);
    let longest = units::duration(Duration::from_nanos(most));
    let title = format!("Build time saved, at most {longest} in {}", range.unit);
    let mut svg = label("head", 0.0, top - 12.0, &title);
    let floor = top + height;
    svg.push_str(&line("grid", [LEFT, floor, grid.width, floor]));
    for (n, bar) in range.bars.iter().enumerate() {
        if of(bar) > 0 {
            svg.push_str(&grid.bar(n, "saved", SAVED, (0.0, ratio(of(bar), most))));
        }
    }
    svg
}

/// The times below, as many as there is room for.
fn times(range: &Range, grid: &Grid, screen: Screen) -> String {
    let shown = if screen == Screen::Wide { 8 } else { 3 };
    let every = range.bars.len().div_ceil(shown).max(1);
    let y = SAVED.0 + SAVED.1 + 18.0;
    let labelled = range.bars.iter().enumerate().step_by(every);
    labelled
        .map(|(n, bar)| label("time", grid.x(n), y, &bar.label))
        .collect()
}

/// What a pointer over a bar is told.
fn hint(n: usize, bar: &Bar, grid: &Grid) -> String {
    let c = &bar.counters;
    let rate = c.hit_rate_ppm.map(units::percent).unwrap_or_default();
    let told = format!(
        "from {}: {rate} hits; {} in memory, {} on disk, {} missed; saved {}",
        bar.begin,
        units::count(c.memory_hits),
        units::count(c.disk_hits),
        units::count(c.misses),
        units::duration(Duration::from_nanos(c.build_nanos_saved))
    );
    let height = SAVED.0 + SAVED.1 - RATE.0;
    let over = rect("hint", [grid.x(n), RATE.0, grid.step, height]);
    let over = over.trim_end_matches("/>");
    format!("{over}><title>{}</title></rect>", text(&told))
}
