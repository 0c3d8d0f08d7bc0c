//! Sizes, ages and times, as they are read and written.

use humansize::{BINARY, format_size};
use keepwarm::NamespaceId;
use std::time::{Duration, SystemTime};

/// Reads a size: `5G` and `5GiB` are binary, `5GB` is decimal, a bare number is bytes; parts of a
/// unit may be given (`1.5G`).
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let size = unit_bytes(unit.trim()).and_then(|unit| times(number, unit));
    size.ok_or_else(|| "expected a size such as 500M, 5G, 5GiB or 5GB".to_owned())
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "" | "b") {
        return Some(1);
    }
    let power = "kmgtpe".find(unit.chars().next()?)?;
    let base: u64 = match &unit[1..] {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    base.checked_pow(u32::try_from(power).ok()? + 1)
}

/// A decimal number times `unit`, rounded down.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().ok()?;
    // More digits than bytes tell nothing.
    let part = part.get(..18).unwrap_or(part);
    let scale = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let part = u128::from(part.parse::<u64>().ok()?) * u128::from(unit) / scale;
    let part = u64::try_from(part).ok()?;
    whole.checked_mul(unit)?.checked_add(part)
}

/// Reads an age: `90s`, `30m`, `12h`, `7d`, `2w`, or several of them.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "expected an age such as 30m, 12h, 7d or '1d 12h'".to_owned())
}

/// A size for people: `1.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    format_size(bytes, BINARY)
}

/// A count for people, by thousands: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many entries, for people.
pub(crate) fn entries(number: u64) -> String {
    let noun = if number == 1 { "entry" } else { "entries" };
    format!("{} {noun}", count(number))
}

/// How long something took or takes, for people, in one or two units: `1m 5s`, `843ms`.
pub(crate) fn duration(time: Duration) -> String {
    let precision = match time {
        t if t < Duration::from_micros(1) => Duration::from_nanos(1),
        t if t < Duration::from_millis(1) => Duration::from_micros(1),
        t if t < Duration::from_secs(10) => Duration::from_millis(1),
        _ => Duration::from_secs(1),
    };
    let nanos = time.as_nanos() / precision.as_nanos() * precision.as_nanos();
    let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    let text = humantime::format_duration(time).to_string();
    let parts: Vec<&str> = text.split(' ').take(2).collect();
    parts.join(" ")
}

/// How long ago something was, for people, in one unit: `5m`, `3h`, `12d`. What is in the future
/// was just now.
pub(crate) fn age(at: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(at).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time for programs, and for people who want to know exactly: RFC 3339 in UTC, to the second.
pub(crate) fn timestamp(at: SystemTime) -> String {
    // What the format cannot say is damage, or a clock in another era.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(at.clamp(SystemTime::UNIX_EPOCH, latest)).to_string()
}

/// A name that others chose, safe to print on a terminal, in one line: nothing in it moves the
/// cursor, or turns the direction of what follows.
pub(crate) fn printable(name: &str) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut text = String::new();
    for c in name.chars() {
        if c.is_control() || turns(c) {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// The id of a namespace as 16 hexadecimal digits; `None` for what is outside every namespace.
pub(crate) fn namespace_id(id: NamespaceId) -> Option<String> {
    (id != NamespaceId::NONE).then(|| format!("{:016x}", id.as_u64()))
}

/// A time in nanoseconds, as programs read it; about 584 years at most.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What something took to build, for people.
pub(crate) fn cost(time: Duration) -> String {
    if time.is_zero() {
        return "-".to_owned();
    }
    duration(time)
}

/// How the space on disk changed, for people.
pub(crate) fn change(before: u64, after: u64) -> String {
    format!("on disk {}, before {}", size(after), size(before))
}

/// How much of a budget is used, in brackets; nothing where there is no budget.
pub(crate) fn part(bytes: u64, budget: u64) -> String {
    let ppm = (u128::from(bytes) * 1_000_000).checked_div(u128::from(budget));
    let ppm = ppm.and_then(|ppm| u32::try_from(ppm).ok());
    ppm.map(|ppm| format!(" ({})", percent(ppm)))
        .unwrap_or_default()
}

/// A rate in percent with one decimal, rounded down: `66.6 %`.
pub(crate) fn percent(ppm: u32) -> String {
    format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_but_for_those_that_end_in_b_alone() {
        for (text, bytes) in [
            ("0", 0),
            ("1234", 1234),
            ("1234B", 1234),
            ("5G", 5 << 30),
            ("5g", 5 << 30),
            ("5GiB", 5 << 30),
            ("5 GiB", 5 << 30),
            ("5GB", 5_000_000_000),
            ("1.5k", 1536),
            ("1.5KB", 1500),
            ("0.1k", 102),
            ("2T", 2 << 40),
            ("15E", 15 << 60),
            ("1.0000000000000000000000000000001M", 1 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "", "G", "-1", "1.2.3", "5X", "5GiBs", "5GI", "16E", "1e3", "1,5G", ".", "é", "5é",
            "+5",
        ] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ages_have_a_unit() {
        let hours = |n: u64| Ok(Duration::from_secs(n * 3600));
        assert_eq!(parse_age("12h"), hours(12));
        assert_eq!(parse_age("7d"), hours(7 * 24));
        assert_eq!(parse_age("1d 12h"), hours(36));
        for bad in ["", "7", "d", "-1d", "7 parsecs"] {
            assert!(parse_age(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_people_read_is_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1536), "1.50 KiB");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(duration(Duration::ZERO), "0s");
        assert_eq!(duration(Duration::from_micros(1_234_567)), "1s 234ms");
        assert_eq!(duration(Duration::from_secs(3_725)), "1h 2m");
        assert_eq!(percent(666_666), "66.6 %");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(age(now + Duration::from_secs(5), now), "0s");
        assert_eq!(age(now - Duration::from_secs(7_200), now), "2h");
        assert_eq!(timestamp(now), "1970-01-12T13:46:40Z");
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(printable("é\u{202e}b"), "é\\u{202e}b");
    }
}
