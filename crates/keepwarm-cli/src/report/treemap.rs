//! What takes the space, as areas: namespaces, and in them the artifacts that take most.
//!
//! The layout is "squarified": M. Bruls, K. Huizing, J. van Wijk, Squarified Treemaps, 2000.

use super::data::{Data, Large};
use super::markup::{number, shortened, text};
use super::svg::Screen;
use crate::units;
use std::fmt::Write as _;

/// So many namespaces have an area of their own.
const GROUPS: usize = 12;
/// So many colours there are.
const COLOURS: usize = 8;
/// The line above the artifacts of a namespace, where its name is.
const HEAD: f64 = 19.0;
/// About how wide a character is.
const CHARACTER: f64 = 6.8;

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Area {
    /// Without an edge of so much.
    fn inset(self, edge: f64) -> Self {
        Self {
            x: self.x + edge,
            y: self.y + edge,
            width: (self.width - 2.0 * edge).max(0.0),
            height: (self.height - 2.0 * edge).max(0.0),
        }
    }

    /// What is below so much.
    fn below(self, head: f64) -> Self {
        Self {
            y: self.y + head,
            height: (self.height - head).max(0.0),
            ..self
        }
    }
}

/// Something with an area: an artifact, or several.
struct Cell {
    bytes: u64,
    label: String,
    told: String,
}

/// A namespace.
struct Group {
    bytes: u64,
    name: String,
    cells: Vec<Cell>,
}

/// The chart; empty where nothing takes space.
pub(super) fn treemap(data: &Data, screen: Screen) -> String {
    let groups = groups(data);
    let whole = Area {
        x: 0.0,
        y: 0.0,
        width: screen.width(),
        height: if screen == Screen::Wide { 440.0 } else { 420.0 },
    };
    let areas = squarify(&groups.iter().map(|g| g.bytes).collect::<Vec<_>>(), whole);
    let mut svg = format!(
        "<svg class=\"chart {}\" viewBox=\"0 0 {} {}\" role=\"img\" \
         aria-label=\"Space on disk by namespace and artifact: tables below have the numbers\">",
        screen.class(),
        number(whole.width),
        number(whole.height)
    );
    for (n, (group, area)) in groups.iter().zip(areas).enumerate() {
        svg.push_str(&draw_group(group, area.inset(1.5), n % COLOURS));
    }
    svg.push_str("</svg>\n");
    svg
}

fn groups(data: &Data) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for space in data.namespaces.iter().take(GROUPS) {
        let large = data.largest.iter().filter(|large| large.space == space.key);
        let mut cells: Vec<Cell> = large.map(cell).collect();
        let told: u64 = cells.iter().map(|cell| cell.bytes).sum();
        let left = space.part.entries.saturating_sub(cells.len() as u64);
        let label = if cells.is_empty() {
            units::entries(left)
        } else {
            format!("{} more", units::count(left))
        };
        let bytes = space.part.disk_bytes.saturating_sub(told);
        if bytes > 0 {
            cells.push(Cell {
                bytes,
                told: format!("{label} in {}: {}", space.shown, units::size(bytes)),
                label,
            });
        }
        let name = match &space.id {
            None => "no namespace".to_owned(),
            Some(_) => space.shown.clone(),
        };
        groups.push(Group {
            bytes: space.part.disk_bytes,
            name,
            cells,
        });
    }
    let rest = data.namespaces.iter().skip(GROUPS);
    let (mut count, mut bytes) = (
        data.other_namespaces.namespaces,
        data.other_namespaces.part.disk_bytes,
    );
    for space in rest {
        count += 1;
        bytes = bytes.saturating_add(space.part.disk_bytes);
    }
    if bytes > 0 {
        let name = format!("{} more namespaces", units::count(count));
        let cells = vec![Cell {
            bytes,
            told: format!("{name}: {}", units::size(bytes)),
            label: String::new(),
        }];
        groups.push(Group { bytes, name, cells });
    }
    groups.retain(|group| group.bytes > 0);
    groups.sort_by_key(|group| std::cmp::Reverse(group.bytes));
    groups
}

fn cell(large: &Large) -> Cell {
    let key = large.key.get(..8).unwrap_or_default();
    Cell {
        bytes: large.disk_bytes,
        label: key.to_owned(),
        told: format!(
            "{} in {}: {} on disk, took {} to build",
            large.key.get(..16).unwrap_or_default(),
            large.shown,
            units::size(large.disk_bytes),
            units::cost(std::time::Duration::from_nanos(large.build_nanos))
        ),
    }
}

fn draw_group(group: &Group, area: Area, colour: usize) -> String {
    let mut svg = String::new();
    let named = area.width >= 50.0 && area.height >= 2.0 * HEAD;
    let inner = if named { area.below(HEAD) } else { area };
    if named {
        let name = fitting(
            &format!("{} · {}", group.name, units::size(group.bytes)),
            area.width,
        );
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{}\">{}</text>",
            number(area.x + 2.0),
            number(area.y + 13.5),
            text(&name)
        );
    }
    let mut cells: Vec<&Cell> = group.cells.iter().collect();
    cells.sort_by_key(|cell| std::cmp::Reverse(cell.bytes));
    let areas = squarify(
        &cells.iter().map(|cell| cell.bytes).collect::<Vec<_>>(),
        inner,
    );
    for (cell, area) in cells.iter().zip(areas) {
        svg.push_str(&draw_cell(cell, area.inset(0.75), colour));
    }
    svg
}

fn draw_cell(cell: &Cell, area: Area, colour: usize) -> String {
    let [x, y, width, height] = [area.x, area.y, area.width, area.height].map(number);
    let mut svg = format!(
        "<g class=\"cell c{colour}\"><title>{}</title>\
         <rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"2\"/>",
        text(&shortened(&cell.told, 200))
    );
    let lines = [cell.label.clone(), units::size(cell.bytes)];
    let mut at = area.y + 14.0;
    for line in lines.iter().filter(|line| !line.is_empty()) {
        let fits = fitting(line, area.width) == *line;
        if fits && at + 3.0 <= area.y + area.height {
            let (x, y) = (number(area.x + 5.0), number(at));
            let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\">{}</text>", text(line));
            at += 14.0;
        }
    }
    svg.push_str("</g>");
    svg
}

/// What of a text has room in so much width.
fn fitting(text: &str, width: f64) -> String {
    let room = ((width - 8.0) / CHARACTER).clamp(0.0, 1000.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 1000"
    )]
    shortened(text, room as usize)
}

/// Shares `whole` among the weights, the largest of which comes first, in areas that are as square
/// as can be.
fn squarify(weights: &[u64], whole: Area) -> Vec<Area> {
    let sum: f64 = weights.iter().copied().map(float).sum();
    let scale = if sum > 0.0 {
        whole.width * whole.height / sum
    } else {
        0.0
    };
    let sizes: Vec<f64> = weights.iter().map(|w| float(*w) * scale).collect();
    let mut areas = Vec::with_capacity(sizes.len());
    let (mut left, mut rest) = (&sizes[..], whole);
    while !left.is_empty() {
        let side = rest.width.min(rest.height);
        let mut taken = 1;
        while taken < left.len() && worst(&left[..=taken], side) <= worst(&left[..taken], side) {
            taken += 1;
        }
        let (row, after) = left.split_at(taken);
        rest = lay_row(row, rest, &mut areas);
        left = after;
    }
    areas
}

#[expect(clippy::cast_precision_loss, reason = "it becomes an area on a screen")]
fn float(n: u64) -> f64 {
    n as f64
}

/// How far from square the worst of a row is that stands along a side of this length.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let thick = sum / side;
    let ratio = |size: &f64| {
        let long = size / thick;
        (thick / long).max(long / thick)
    };
    row.iter().map(ratio).fold(0.0, f64::max)
}

/// Lays a row along the shorter side, and gives what is left.
fn lay_row(row: &[f64], rest: Area, areas: &mut Vec<Area>) -> Area {
    let sum: f64 = row.iter().sum();
    let tall = rest.width >= rest.height;
    let side = if tall { rest.height } else { rest.width };
    let thick = if side > 0.0 { sum / side } else { 0.0 };
    let mut at = 0.0;
    for size in row {
        let long = if thick > 0.0 { size / thick } else { 0.0 };
        areas.push(if tall {
            Area {
                x: rest.x,
                y: rest.y + at,
                width: thick,
                height: long,
            }
        } else {
            Area {
                x: rest.x + at,
                y: rest.y,
                width: long,
                height: thick,
            }
        });
        at += long;
    }
    if tall {
        Area {
            x: rest.x + thick,
            width: (rest.width - thick).max(0.0),
            ..rest
        }
    } else {
        Area {
            y: rest.y + thick,
            height: (rest.height - thick).max(0.0),
            ..rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Area = Area {
        x: 10.0,
        y: 20.0,
        width: 600.0,
        height: 400.0,
    };

    #[test]
    fn areas_are_in_proportion_and_fill_the_whole_without_overlap() {
        for weights in [
            vec![1],
            vec![6, 6, 4, 3, 2, 2, 1],
            (1..60).rev().collect(),
            vec![u64::MAX, 1 << 60, 1 << 59],
        ] {
            let areas = squarify(&weights, WHOLE);
            assert_eq!(areas.len(), weights.len());
            let sum: f64 = weights.iter().copied().map(float).sum();
            for (n, (a, weight)) in areas.iter().zip(&weights).enumerate() {
                let expected = float(*weight) / sum * 240_000.0;
                assert!((a.width * a.height - expected).abs() < 0.5, "{a:?}");
                assert!(a.x >= 9.99 && a.x + a.width <= 610.01, "{a:?}");
                assert!(a.y >= 19.99 && a.y + a.height <= 420.01, "{a:?}");
                for b in &areas[..n] {
                    let wide = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
                    let high = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
                    assert!(wide < 0.01 || high < 0.01, "{a:?} {b:?}");
                }
            }
        }
        // The example of the paper: its first two fill half the height of the left.
        let areas = squarify(
            &[6, 6, 4, 3, 2, 2, 1],
            Area {
                x: 0.0,
                y: 0.0,
                width: 6.0,
                height: 4.0,
            },
        );
        assert!((areas[0].width - 3.0).abs() < 1e-9 && (areas[0].height - 2.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_and_no_room_make_no_trouble() {
        assert!(squarify(&[], WHOLE).is_empty());
        let flat = Area {
            height: 0.0,
            ..WHOLE
        };
        for area in squarify(&[3, 2, 1, 0], flat)
            .iter()
            .chain(&squarify(&[0, 0], WHOLE))
        {
            assert!(
                !number(area.width).contains('-') && area.height.abs() < 0.001,
                "{area:?}"
            );
        }
    }
}
