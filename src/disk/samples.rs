//! The history of a directory as bytes, and what of it is kept. Pure: no file, no clock.
//!
//! A sample has a time, what there is then, and sums of what was done until then. Sums never fall:
//! counters that were zeroed, or lost with the index, are added up over that. So any sample may be
//! left out, and the difference of two is what was done between them.

use super::life::DirectoryStats;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file is never longer, in bytes.
pub(super) const LONGEST: usize = 96 << 10;

const MAGIC: [u8; 8] = *b"KWhist\r\n";
const FORMAT: u16 = 1;
/// Magic, format, zeros, and the check over all that follows.
const HEADER: usize = 32;
/// What is older than so many seconds is kept only once in so many, and so often.
const FINE: Span = Span::new(0, 300);
const MIDDLE: Span = Span::new(24 * 3600, 3600);
const COARSE: Span = Span::new(30 * 24 * 3600, 24 * 3600);
/// Samples kept of those that are kept once a day.
const DAYS: usize = 366;
/// No time is later, in seconds since 1970: a date with five digits of a year.
const LATEST: u64 = 1 << 40;

#[derive(Clone, Copy)]
struct Span {
    older_than: u64,
    step: u64,
}

impl Span {
    const fn new(older_than: u64, step: u64) -> Self {
        Self { older_than, step }
    }

    fn of(age: u64) -> Self {
        let all = [COARSE, MIDDLE];
        let found = all.into_iter().find(|span| age > span.older_than);
        found.unwrap_or(FINE)
    }
}

/// How many counters are added up.
const SUMMED: usize = 12;

/// What is added up, in the order of the file.
fn summed(stats: &DirectoryStats) -> [u64; SUMMED] {
    [
        stats.lookups,
        stats.hits,
        stats.hits_above,
        stats.promotions,
        stats.puts,
        stats.evictions,
        stats.evicted_bytes,
        stats.deduplicated_bytes,
        stats.corrupt,
        stats.builds,
        nanos(stats.build_time),
        nanos(stats.build_time_saved),
    ]
}

/// One look at the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Seconds since 1970.
    pub(super) at: u64,
    entries: u64,
    bytes: u64,
    sums: [u64; SUMMED],
}

impl Sample {
    /// When it was taken.
    pub(super) fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.at.min(LATEST))
    }

    /// What it says, in the form of counters that were never zeroed.
    pub(super) fn stats(&self) -> DirectoryStats {
        let [
            lookups,
            hits,
            hits_above,
            promotions,
            puts,
            evictions,
            evicted_bytes,
            deduplicated_bytes,
            corrupt,
            builds,
            build_nanos,
            saved_nanos,
        ] = self.sums;
        DirectoryStats {
            since: None,
            entries: self.entries,
            cached_bytes: self.bytes,
            lookups,
            hits,
            hits_above,
            promotions,
            puts,
            evictions,
            evicted_bytes,
            deduplicated_bytes,
            corrupt,
            builds,
            build_time: Duration::from_nanos(build_nanos),
            build_time_saved: Duration::from_nanos(saved_nanos),
        }
    }
}

/// What the counters of the directory said at the last sample: what is new is counted from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// When they were zeroed, in nanoseconds since 1970.
    since: u64,
    counters: [u64; SUMMED],
}

/// All samples, the oldest first, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Samples {
    seen: Seen,
    kept: Vec<Sample>,
}

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Samples(Samples),
    /// Damaged, or something else.
    Nothing,
    /// Of a newer version, which is left alone.
    Newer,
}

impl Samples {
    pub(super) fn kept(&self) -> &[Sample] {
        &self.kept
    }

    /// The sample that would be taken at `now`, in seconds since 1970.
    pub(super) fn next(&self, now: u64, stats: &DirectoryStats) -> Sample {
        let counters = summed(stats);
        let before = self.seen.counters;
        let fell = counters.iter().zip(before).any(|(now, then)| *now < then);
        let anew = fell || since(stats) != self.seen.since;
        let last = self.kept.last();
        let mut sums = last.map_or([0; SUMMED], |last| last.sums);
        for ((sum, now), then) in sums.iter_mut().zip(counters).zip(before) {
            let new = if anew { now } else { now.saturating_sub(then) };
            *sum = sum.saturating_add(new);
        }
        Sample {
            at: now.max(last.map_or(0, |last| last.at)).min(LATEST),
            entries: stats.entries,
            bytes: stats.cached_bytes,
            sums,
        }
    }

    /// Takes a sample, and thins out the others.
    ///
    /// What a clock said that was ahead of this one is given up. The age of samples is counted from
    /// the one before this: a clock that jumps far ahead, once, costs nothing but its own sample.
    pub(super) fn take(&mut self, now: u64, stats: &DirectoryStats) {
        let now = now.min(LATEST);
        let sample = Sample {
            at: now,
            ..self.next(now, stats)
        };
        self.kept.retain(|sample| sample.at <= now);
        self.thin();
        self.kept.push(sample);
        self.seen = Seen {
            since: since(stats),
            counters: summed(stats),
        };
    }

    fn thin(&mut self) {
        let newest = self.kept.last().map_or(0, |newest| newest.at);
        // The last one of each step stays: it has the sums of all of it.
        let step = |sample: &Sample| {
            let span = Span::of(newest.saturating_sub(sample.at));
            (span.step, sample.at / span.step)
        };
        let mut thinned: Vec<Sample> = Vec::with_capacity(self.kept.len() + 1);
        for sample in &self.kept {
            match thinned.last_mut() {
                Some(last) if step(last) == step(sample) => *last = *sample,
                _ => thinned.push(*sample),
            }
        }
        let coarse = thinned.partition_point(|sample| step(sample).0 == COARSE.step);
        thinned.drain(..coarse.saturating_sub(DAYS));
        self.kept = thinned;
    }

    /// The bytes of the file, never more than [`LONGEST`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut kept = self.kept.clone();
        loop {
            let bytes = self.encode_some(&kept);
            if bytes.len() <= LONGEST {
                return bytes;
            }
            // Only numbers beyond all reason are so long: every second one goes, never the last.
            let odd = kept.len() % 2;
            let mut n = 0;
            kept.retain(|_| {
                n += 1;
                n % 2 == odd
            });
        }
    }

    fn encode_some(&self, kept: &[Sample]) -> Vec<u8> {
        let mut body = Vec::new();
        let mut number = |n: u64| put_number(&mut body, n);
        number(self.seen.since);
        self.seen.counters.into_iter().for_each(&mut number);
        let (mut at, mut sums) = (0, [0; SUMMED]);
        for sample in kept {
            number(sample.at.saturating_sub(at));
            number(sample.entries);
            number(sample.bytes);
            for (sum, before) in sample.sums.into_iter().zip(sums) {
                number(sum.saturating_sub(before));
            }
            (at, sums) = (sample.at, sample.sums);
        }
        sealed(&body)
    }

    /// Reads a file, which may hold anything. Times and sums cannot fall: only what is added is
    /// written.
    pub(super) fn decode(bytes: &[u8]) -> Decoded {
        let Some((header, body)) = bytes.split_at_checked(HEADER) else {
            return Decoded::Nothing;
        };
        let format = u16::from_le_bytes([header[8], header[9]]);
        if header[..8] == MAGIC && format > FORMAT {
            return Decoded::Newer;
        }
        let known = header[..8] == MAGIC && format == FORMAT && header[10..16] == [0; 6];
        if !known || bytes.len() > LONGEST || header[16..] != check(body) {
            return Decoded::Nothing;
        }
        Self::decode_body(body).map_or(Decoded::Nothing, Decoded::Samples)
    }

    fn decode_body(mut body: &[u8]) -> Option<Self> {
        let mut seen = Seen {
            since: take_number(&mut body)?,
            ..Seen::default()
        };
        for counter in &mut seen.counters {
            *counter = take_number(&mut body)?;
        }
        let (mut at, mut sums) = (0_u64, [0_u64; SUMMED]);
        let mut kept = Vec::new();
        while !body.is_empty() {
            at = at.checked_add(take_number(&mut body)?)?;
            let (entries, bytes) = (take_number(&mut body)?, take_number(&mut body)?);
            for sum in &mut sums {
                *sum = sum.checked_add(take_number(&mut body)?)?;
            }
            if at > LATEST {
                return None;
            }
            kept.push(Sample {
                at,
                entries,
                bytes,
                sums,
            });
        }
        Some(Self { seen, kept })
    }
}

/// A file with this body.
pub(super) fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(&check(body));
    bytes.extend_from_slice(body);
    bytes
}

fn since(stats: &DirectoryStats) -> u64 {
    stats.since.map_or(0, crate::store::nanos)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn check(body: &[u8]) -> [u8; 16] {
    let mut check = [0; 16];
    check.copy_from_slice(&blake3::hash(body).as_bytes()[..16]);
    check
}

/// Writes a number in as few groups of seven bits as it takes, the lowest first (LEB128).
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Takes such a number off the front; `None` if there is none that fits.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        if group << shift >> shift != group {
            return None;
        }
        number |= group << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn stats(hits: u64) -> DirectoryStats {
        DirectoryStats {
            lookups: hits * 2,
            hits,
            entries: 7,
            cached_bytes: 1000,
            build_time_saved: Duration::from_millis(hits),
            ..DirectoryStats::default()
        }
    }

    fn hits(samples: &Samples) -> Vec<u64> {
        samples.kept.iter().map(|s| s.stats().hits).collect()
    }

    fn round_trip(samples: &Samples) {
        let decoded = Samples::decode(&samples.encode());
        assert_eq!(decoded, Decoded::Samples(samples.clone()));
    }

    #[test]
    fn sums_never_fall_though_counters_do() {
        let mut samples = Samples::default();
        samples.take(1000, &stats(5));
        samples.take(2000, &stats(8));
        // Lost with the index.
        samples.take(3000, &stats(2));
        let mut zeroed = stats(6);
        zeroed.since = Some(UNIX_EPOCH + Duration::from_secs(3500));
        samples.take(4000, &zeroed);
        assert_eq!(hits(&samples), [5, 8, 10, 16]);
        zeroed.hits = 7;
        let next = samples.next(4100, &zeroed);
        assert_eq!((next.stats().hits, next.at), (17, 4100));
        assert_eq!((next.stats().entries, next.stats().cached_bytes), (7, 1000));
        assert_eq!(next.stats().since, None);
        round_trip(&samples);
    }

    #[test]
    fn a_year_and_more_is_thinned_out_and_stays_small() {
        let mut samples = Samples::default();
        let begin = 1_700_000_000;
        let end = begin + 500 * DAY;
        let mut n = 0;
        let mut at = begin;
        while at < end {
            n += 1;
            samples.take(at, &stats(n * 1000));
            // Hours apart while it will not show.
            at += if at + 32 * DAY < end { 3 * HOUR } else { 301 };
        }
        let newest = samples.kept.last().unwrap().at;
        let younger = |age: u64| {
            let since = newest - age;
            samples.kept.iter().filter(|s| s.at > since).count()
        };
        assert!((280..=290).contains(&younger(DAY)), "{}", younger(DAY));
        let month = younger(30 * DAY) - younger(DAY);
        assert!((29 * 24 - 2..=29 * 24 + 2).contains(&month), "{month}");
        let days = samples.kept.len() - younger(30 * DAY);
        assert!((DAYS - 1..=DAYS + 1).contains(&days), "{days}");
        let first = samples.kept[0].at;
        let span = (newest - first) / DAY;
        assert!((394..397).contains(&span), "{span}");
        assert!(
            samples.encode().len() < 48 << 10,
            "{}",
            samples.encode().len()
        );
        round_trip(&samples);
    }

    #[test]
    fn a_clock_that_jumps_costs_little() {
        let mut samples = Samples::default();
        for n in 0..100 {
            samples.take(10 * DAY + n * 300, &stats(n));
        }
        let before = samples.clone();
        // Ten years ahead, once: only its own sample goes again, and no count.
        samples.take(4000 * DAY, &stats(150));
        assert_eq!(samples.kept.len(), 101);
        assert_eq!(
            samples.next(11 * DAY, &stats(151)).at,
            4000 * DAY,
            "never back"
        );
        samples.take(11 * DAY, &stats(160));
        assert_eq!(samples.kept[..100], before.kept[..]);
        assert_eq!(hits(&samples)[99..], [99, 160]);
        // Back, and for good: what was ahead is given up, what was counted is not.
        samples.take(10 * DAY + 301, &stats(170));
        assert_eq!(hits(&samples), [0, 1, 170]);
        samples.take(u64::MAX, &stats(171));
        assert_eq!(samples.kept.last().unwrap().at, LATEST);
        round_trip(&samples);
    }

    #[test]
    fn numbers_beyond_all_reason_make_no_long_file() {
        let mut samples = Samples::default();
        let mut all = DirectoryStats {
            entries: u64::MAX,
            cached_bytes: u64::MAX,
            ..DirectoryStats::default()
        };
        for n in 0..5000 {
            // Zeroed each time, so that the sums saturate.
            all.lookups = u64::MAX - n;
            all.since = Some(UNIX_EPOCH + Duration::from_nanos(u64::MAX - n));
            samples.take(n * 20_000, &all);
        }
        let mut wide = samples.clone();
        for (n, sample) in wide.kept.iter_mut().enumerate() {
            sample.sums = [(n as u64 + 1) << 53; SUMMED];
        }
        for samples in [samples, wide] {
            let bytes = samples.encode();
            assert!(bytes.len() <= LONGEST);
            let Decoded::Samples(read) = Samples::decode(&bytes) else {
                panic!("it is not read back");
            };
            assert_eq!(read.kept.last(), samples.kept.last());
            assert!(read.kept.len() > 300, "{}", read.kept.len());
        }
    }

    #[test]
    fn a_damaged_file_is_none_and_a_newer_one_is_known() {
        let mut samples = Samples::default();
        for n in 0..5 {
            samples.take(n * 400, &stats(n * 100));
        }
        let bytes = samples.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let newer = at == 8 || at == 9;
            let expected = if newer {
                Decoded::Newer
            } else {
                Decoded::Nothing
            };
            assert_eq!(Samples::decode(&damaged), expected, "{at}");
            assert_eq!(Samples::decode(&bytes[..at]), Decoded::Nothing, "{at}");
        }
        assert_eq!(Samples::decode(&vec![0; LONGEST + 1]), Decoded::Nothing);
    }

    proptest! {
        /// With a check that holds, as whoever may write to the directory can make one.
        #[test]
        fn any_body_is_refused_or_read_in_order(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            crate::disk::fuzzing::history(&body);
        }

        #[test]
        fn numbers_are_read_back(number: u64) {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            let mut left = &bytes[..];
            prop_assert_eq!(take_number(&mut left), Some(number));
            prop_assert!(left.is_empty());
        }
    }
}
