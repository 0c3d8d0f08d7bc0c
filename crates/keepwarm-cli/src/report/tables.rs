//! Numbers in rows: beside bars, and for who cannot see a chart.

use super::buckets::Buckets;
use super::data::{Data, Large, Space};
use super::markup::{self, name, percent, text};
use super::ranges::{Bar, Range};
use super::svg;
use crate::units;
use std::time::Duration;

fn duration(nanos: u64) -> String {
    units::duration(Duration::from_nanos(nanos))
}

/// Parts of a whole: a bar, and below it what its colours mean and how much each is. `parts` are
/// classes, names, amounts, and amounts for people.
pub(super) fn parts(parts: &[(&str, &str, u64, String)], whole: u64) -> String {
    let amounts: Vec<(&str, u64)> = parts.iter().map(|(class, _, n, _)| (*class, *n)).collect();
    let mut html = svg::meter(&amounts, whole);
    html.push_str("<table class=\"parts\"><tbody>\n");
    for (class, what, amount, shown) in parts {
        let row = format!(
            "<tr><th scope=\"row\">{}{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
            swatch(class),
            text(what),
            text(shown),
            percent(*amount, whole)
        );
        html.push_str(&row);
    }
    html.push_str("</tbody></table>\n");
    html
}

/// A patch of a colour.
pub(super) fn swatch(class: &str) -> String {
    format!(
        "<svg class=\"swatch\" viewBox=\"0 0 10 10\" aria-hidden=\"true\" focusable=\"false\">\
         <rect class=\"{class}\" width=\"10\" height=\"10\" rx=\"2\"/></svg>"
    )
}

/// A histogram: a bar a bucket, as long as its entries are many.
pub(super) fn histogram(caption: &str, buckets: &Buckets) -> String {
    let most = buckets.all().iter().map(|b| b.entries).max().unwrap_or(0);
    let rows: Vec<Vec<String>> = buckets
        .all()
        .iter()
        .map(|bucket| {
            vec![
                text(bucket.name),
                svg::meter(&[("bar", bucket.entries)], most),
                units::count(bucket.entries),
                units::size(bucket.bytes),
            ]
        })
        .collect();
    markup::table(caption, &["from", "", ">entries", ">bytes"], &rows)
}

/// The namespaces, the largest first.
pub(super) fn namespaces(data: &Data) -> String {
    let whole = data
        .namespaces
        .first()
        .map_or(0, |space| space.part.disk_bytes);
    let row = |space: &Space| {
        let shown = match &space.id {
            None => "no namespace".to_owned(),
            Some(_) => name(&space.shown),
        };
        vec![
            shown,
            svg::meter(&[("bar", space.part.disk_bytes)], whole),
            units::size(space.part.disk_bytes),
            units::count(space.part.entries),
            units::cost(Duration::from_nanos(space.build_nanos)),
            units::age(space.used, data.now),
        ]
    };
    let mut rows: Vec<Vec<String>> = data.namespaces.iter().map(row).collect();
    let others = &data.other_namespaces;
    if others.namespaces > 0 {
        rows.push(vec![
            format!("{} more", units::count(others.namespaces)),
            svg::meter(&[("bar", others.part.disk_bytes)], whole),
            units::size(others.part.disk_bytes),
            units::count(others.part.entries),
            String::new(),
            String::new(),
        ]);
    }
    let columns = [
        "namespace",
        "",
        ">on disk",
        ">entries",
        ">took to build",
        ">used",
    ];
    markup::table("Namespaces, the largest first", &columns, &rows)
}

/// The artifacts that take most.
pub(super) fn largest(data: &Data) -> String {
    let row = |large: &Large| {
        let key = text(large.key.get(..16).unwrap_or_default());
        vec![
            format!("<code>{key}</code>"),
            units::size(large.length),
            units::size(large.disk_bytes),
            units::cost(Duration::from_nanos(large.build_nanos)),
            units::age(large.used, data.now),
            if large.namespace.is_none() && large.shown == "-" {
                "-".to_owned()
            } else {
                name(&large.shown)
            },
        ]
    };
    let rows: Vec<Vec<String>> = data.largest.iter().take(20).map(row).collect();
    let columns = [
        "key",
        ">size",
        ">on disk",
        ">took to build",
        ">used",
        "namespace",
    ];
    markup::table("Artifacts that take most", &columns, &rows)
}

/// The numbers of a chart over time; steps in which nothing was asked for are left out.
pub(super) fn history(range: &Range) -> String {
    let row = |bar: &Bar| {
        let c = &bar.counters;
        vec![
            text(bar.begin.trim_end_matches(":00Z")),
            c.hit_rate_ppm.map(units::percent).unwrap_or_default(),
            units::count(c.memory_hits),
            units::count(c.disk_hits),
            units::count(c.misses),
            units::count(c.puts),
            duration(c.build_nanos_saved),
        ]
    };
    let asked = range.bars.iter().rev().filter(|bar| bar.requests() > 0);
    let rows: Vec<Vec<String>> = asked.map(row).collect();
    let columns = [
        "from (UTC)",
        ">hit rate",
        ">in memory",
        ">on disk",
        ">missed",
        ">put",
        ">time saved",
    ];
    markup::table(
        &format!("{}, by {}", range.name, range.unit),
        &columns,
        &rows,
    )
}

/// Everything that is counted.
pub(super) fn counters(data: &Data) -> String {
    let rows: Vec<Vec<String>> = data
        .counters
        .lines()
        .into_iter()
        .map(|(what, value)| vec![text(what), text(&value)])
        .collect();
    markup::table("All counters", &["what", ">how much"], &rows)
}
