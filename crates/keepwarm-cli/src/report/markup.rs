//! Text made safe for a page, and the template.

use crate::units;
use std::fmt::Write as _;

/// A text for a page, in an element or in a quoted attribute: whatever it holds, it is text there.
/// What no document may hold is replaced.
pub(super) fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in units::printable(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ if is_no_character(c) => safe.push(char::REPLACEMENT_CHARACTER),
            _ => safe.push(c),
        }
    }
    safe
}

/// The numbers that Unicode keeps out of documents.
fn is_no_character(c: char) -> bool {
    let c = u32::from(c);
    c & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&c)
}

/// A text of at most so many characters, the last of which says that there was more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let text = units::printable(text);
    if text.chars().count() <= most {
        return text;
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A name that others chose, in a line, safe: its direction does not reach what is around it.
pub(super) fn name(name: &str) -> String {
    format!("<bdi>{}</bdi>", text(&shortened(name, 80)))
}

/// A coordinate or length, to a tenth.
pub(super) fn number(n: f64) -> String {
    let n = if n.is_finite() { n } else { 0.0 };
    let mut text = format!("{n:.1}");
    if text.ends_with(".0") {
        text.truncate(text.len() - 2);
    }
    text
}

/// A part of a whole, between 0 and 1; 0 of nothing.
#[expect(
    clippy::cast_precision_loss,
    reason = "it becomes a length on a screen"
)]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64).min(1.0)
}

/// A part of a whole in percent, for people; `-` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let ppm = (u128::from(part) * 1_000_000).checked_div(u128::from(whole));
    let ppm = ppm.and_then(|ppm| u32::try_from(ppm).ok());
    ppm.map_or_else(|| "-".to_owned(), units::percent)
}

/// A template with `{{NAME}}` replaced by what `value` says of each name. What is put in is not
/// looked through again.
pub(super) fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut page = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else {
            break;
        };
        page.push_str(before);
        page.push_str(&value(name));
        rest = after;
    }
    page.push_str(rest);
    page
}

/// A table whose numbers stand in columns on the right. Cells are markup; a heading that begins with
/// `>` is that of a column of numbers.
pub(super) fn table(caption: &str, columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table>\
         <caption>{0}</caption>\n<thead><tr>",
        text(caption)
    );
    let class = |n: usize| match columns.get(n) {
        Some(column) if column.starts_with('>') => " class=\"n\"",
        _ => "",
    };
    for (n, column) in columns.iter().enumerate() {
        let column = text(column.trim_start_matches('>'));
        // Writing to a string cannot fail.
        let _ = write!(html, "<th scope=\"col\"{}>{column}</th>", class(n));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (n, cell) in row.iter().enumerate() {
            let _ = if n == 0 {
                write!(html, "<th scope=\"row\">{cell}</th>")
            } else {
                write!(html, "<td{}>{cell}</td>", class(n))
            };
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_name_holds_it_is_text() {
        assert_eq!(
            text("<a href='x'>\"&\u{1b}\n\u{ffff}\u{fdd0}"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\\u{1b}\\n\u{fffd}\u{fffd}"
        );
        assert_eq!(
            name(&"<".repeat(100)),
            format!("<bdi>{}…</bdi>", "&lt;".repeat(79))
        );
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }

    #[test]
    fn what_is_put_into_a_template_is_not_looked_through() {
        let twice = |name: &str| format!("<{{{{{name}}}}}>");
        assert_eq!(fill("a{{x}}b{{y}}c{{", twice), "a<{{x}}>b<{{y}}>c{{");
    }

    #[test]
    fn numbers_are_numbers() {
        assert_eq!(number(1.25 + 0.01), "1.3");
        assert_eq!((number(2.0), number(f64::NAN)), ("2".into(), "0".into()));
        assert_eq!(
            (percent(1, 3), percent(1, 0)),
            ("33.3 %".into(), "-".into())
        );
        assert!(ratio(u64::MAX, 1) <= 1.0 && ratio(1, 0) == 0.0);
    }
}
