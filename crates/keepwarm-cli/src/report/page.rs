//! The page: the frame filled with what there is to see.

use super::data::Data;
use super::markup::{fill, percent, text};
use super::ranges::{Range, ranges};
use super::svg::{self, Screen};
use super::tables;
use super::treemap::treemap;
use crate::units;
use std::fmt::Write as _;
use std::time::Duration;

const FRAME: &str = include_str!("page.html");
const LOOKS: &str = include_str!("page.css");
/// The SHA-256 of the looks: nothing else may say how the page looks. A test has the right one.
const LOOKS_HASH: &str = "sha256-DAS844JkIHMIlEGZlCq2d/GSxbfRUtZaLrJtok4vF0o=";

/// The page, whole.
pub(crate) fn page(data: &Data) -> String {
    let ranges = ranges(&data.history, data.now);
    fill(FRAME, |what| match what {
        "looks" => LOOKS.to_owned(),
        "looks hash" => LOOKS_HASH.to_owned(),
        "directory" => text(&data.directory),
        "made at" => text(&minute(&data.made_at)),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        "notices" => notices(data),
        "hit rate" => rate(data),
        "hit rate told" => rate_told(data),
        "saved" => text(&duration(data.counters.build_nanos_saved)),
        "saved told" => text(&saved_told(data)),
        "disk" => text(&units::size(data.disk_bytes)),
        "disk told" => text(&disk_told(data)),
        "disk bar" => svg::meter(&[("bar", data.disk_bytes)], data.max_size),
        "entries" => units::count(data.entries),
        "entries told" => text(&entries_told(data)),
        "since" => text(&since(data)),
        "answered" => answered(data),
        "budget" => budget(data),
        "history" => history(&ranges),
        "space" => space(data),
        "sizes" => tables::histogram("Size of artifacts", &data.sizes),
        "ages" => tables::histogram("Put how long ago", &data.ages),
        "unused" => tables::histogram("Not used for", &data.unused),
        "counters" => tables::counters(data),
        _ => String::new(),
    })
}

/// A time for people, from one for programs.
fn minute(time: &str) -> String {
    let short = time.get(..16).unwrap_or(time);
    format!("{} UTC", short.replace('T', " "))
}

fn duration(nanos: u64) -> String {
    units::duration(Duration::from_nanos(nanos))
}

fn notices(data: &Data) -> String {
    let mut html = String::new();
    let mut notice = |what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(html, "<p class=\"notice\" role=\"note\">{}</p>", text(what));
    };
    if data.rebuilding {
        notice("The index is being rebuilt: some entries are not counted yet.");
    }
    if let Some(why) = &data.incomplete {
        notice(&format!("Not all entries could be looked at: {why}"));
    }
    if data.counters.corrupt > 0 {
        let found = units::count(data.counters.corrupt);
        notice(&format!(
            "{found} artifacts were found damaged, and not served. `keepwarm verify` tells more."
        ));
    }
    if data.entries == 0 && data.content.entries == 0 {
        notice("Nothing is cached here yet.");
    }
    if data.disk_bytes > data.max_size {
        notice("More is on disk than the budget allows. `keepwarm gc` enforces it.");
    }
    html
}

fn hits(data: &Data) -> u64 {
    let c = &data.counters;
    c.memory_hits.saturating_add(c.disk_hits)
}

fn rate(data: &Data) -> String {
    let rate = data.counters.hit_rate_ppm;
    rate.map_or_else(|| "–".to_owned(), units::percent)
}

fn rate_told(data: &Data) -> String {
    let asked = hits(data).saturating_add(data.counters.misses);
    if asked == 0 {
        return "nothing was asked for yet".to_owned();
    }
    format!(
        "{} of {} requests",
        units::count(hits(data)),
        units::count(asked)
    )
}

fn saved_told(data: &Data) -> String {
    let c = &data.counters;
    match c.builds {
        0 => "by what was found instead of built".to_owned(),
        builds => format!(
            "{} spent on {} builds",
            duration(c.build_nanos),
            units::count(builds)
        ),
    }
}

fn disk_told(data: &Data) -> String {
    let part = percent(data.disk_bytes, data.max_size);
    format!("{part} of {}", units::size(data.max_size))
}

fn entries_told(data: &Data) -> String {
    let artifacts = units::size(data.content.artifact_bytes);
    let named = data.namespaces.iter().filter(|space| space.id.is_some());
    let count = (named.count() as u64).saturating_add(data.other_namespaces.namespaces);
    match count {
        0 => format!("{artifacts} of artifacts"),
        1 => format!("{artifacts} of artifacts, 1 namespace"),
        n => format!("{artifacts} of artifacts, {} namespaces", units::count(n)),
    }
}

fn since(data: &Data) -> String {
    match &data.since {
        None => "Counted since the directory was made.".to_owned(),
        Some(time) => format!("Counted since {}.", minute(time)),
    }
}

fn answered(data: &Data) -> String {
    let c = &data.counters;
    let part = |class, what, n| (class, what, n, units::count(n));
    let whole = hits(data).saturating_add(c.misses);
    tables::parts(
        &[
            part("memory", "in memory", c.memory_hits),
            part("disk", "on disk", c.disk_hits),
            part("missed", "missed", c.misses),
        ],
        whole,
    )
}

fn budget(data: &Data) -> String {
    let content = &data.content;
    let part = |class, what, n| (class, what, n, units::size(n));
    let free = data.max_size.saturating_sub(data.disk_bytes);
    tables::parts(
        &[
            part("packed", "in packs", content.inline.disk_bytes),
            part("filed", "in files", content.objects.disk_bytes),
            part("shared", "equal to another", content.shared.disk_bytes),
            part("dead", "dead space", content.dead_bytes),
            part("free", "free", free),
        ],
        data.max_size.max(data.disk_bytes),
    )
}

/// The charts over time, one of which is shown; without looks all are.
fn history(ranges: &[Range]) -> String {
    if ranges.is_empty() {
        return "<p>There is no history yet. The first point appears once the cache was used for \
                five minutes.</p>\n"
            .to_owned();
    }
    let mut html = String::from("<div class=\"legend\">");
    for (class, what) in [
        ("memory", "in memory"),
        ("disk", "on disk"),
        ("missed", "missed"),
        ("saved", "time saved"),
    ] {
        let _ = write!(html, "<span>{}{what}</span>", tables::swatch(class));
    }
    html.push_str("</div>\n<div class=\"ranges\">\n");
    for (n, range) in ranges.iter().enumerate() {
        // A month tells most, where there is one.
        let checked = if n == usize::min(1, ranges.len() - 1) {
            " checked"
        } else {
            ""
        };
        let _ = writeln!(
            html,
            "<input type=\"radio\" name=\"range\" id=\"range-{0}\"{checked}><label for=\"range-{0}\">{1}</label>",
            range.id, range.name
        );
    }
    for range in ranges {
        let _ = writeln!(html, "<div class=\"range {}\">", range.id);
        for screen in Screen::BOTH {
            html.push_str(&svg::timeline(range, screen));
        }
        html.push_str("<details><summary>The numbers</summary>\n");
        html.push_str(&tables::history(range));
        html.push_str("</details></div>\n");
    }
    html.push_str("</div>\n");
    html
}

fn space(data: &Data) -> String {
    if data.namespaces.is_empty() {
        return "<p>Nothing takes space.</p>\n".to_owned();
    }
    let mut html = String::new();
    for screen in Screen::BOTH {
        html.push_str(&treemap(data, screen));
    }
    let _ = write!(
        html,
        "<div class=\"spaces\">{}</div>",
        tables::namespaces(data)
    );
    html.push_str("<details><summary>The largest artifacts</summary>\n");
    html.push_str(&tables::largest(data));
    html.push_str("</details>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_allows_the_looks_that_it_has() {
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(LOOKS.as_bytes());
        let right = format!("sha256-{}", base64(&hash));
        assert_eq!(
            LOOKS_HASH, right,
            "page.css was changed: this is its hash now"
        );
        assert!(!LOOKS.contains('<') && !LOOKS.contains("url(") && !LOOKS.contains('\r'));
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().chain([&0, &0]).take(3);
            let word = word.fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
            for n in 0..4 {
                let digit = DIGITS[(word >> (18 - 6 * n) & 63) as usize];
                text.push(if n <= chunk.len() { digit.into() } else { '=' });
            }
        }
        text
    }

    #[test]
    fn every_place_in_the_frame_is_filled() {
        let places = FRAME.split("{{").skip(1);
        let places: Vec<&str> = places
            .filter_map(|rest| Some(rest.split_once("}}")?.0))
            .collect();
        let source = include_str!("page.rs");
        for place in &places {
            assert!(source.contains(&format!("\"{place}\" =>")), "{place}");
        }
        assert!(places.len() > 20);
    }
}
