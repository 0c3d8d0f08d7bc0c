//! Histograms: how many entries, and how many bytes, of which size and age.

use serde::Serialize;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Where the buckets of sizes begin, in bytes, with their names.
const SIZES: [(u64, &str); 8] = [
    (0, "under 1 KiB"),
    (KIB, "1 KiB"),
    (4 * KIB, "4 KiB"),
    (16 * KIB, "16 KiB"),
    (64 * KIB, "64 KiB"),
    (256 * KIB, "256 KiB"),
    (MIB, "1 MiB"),
    (16 * MIB, "16 MiB +"),
];

/// Where the buckets of ages begin, in seconds.
const AGES: [(u64, &str); 8] = [
    (0, "under 1 hour"),
    (HOUR, "1 hour"),
    (6 * HOUR, "6 hours"),
    (DAY, "1 day"),
    (3 * DAY, "3 days"),
    (7 * DAY, "1 week"),
    (30 * DAY, "30 days"),
    (90 * DAY, "90 days +"),
];

/// Entries whose size or age is at least `from` and less than `below`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Bucket {
    from: u64,
    /// `None`: no limit.
    below: Option<u64>,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    #[serde(skip)]
    pub(crate) name: &'static str,
}

/// A histogram.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Buckets(Vec<Bucket>);

impl Buckets {
    /// One of sizes in bytes.
    pub(crate) fn of_sizes() -> Self {
        Self::new(&SIZES)
    }

    /// One of ages in seconds.
    pub(crate) fn of_ages() -> Self {
        Self::new(&AGES)
    }

    fn new(limits: &[(u64, &'static str)]) -> Self {
        let below = limits.iter().skip(1).map(|(from, _)| Some(*from));
        let all = limits.iter().zip(below.chain([None]));
        let bucket = |((from, name), below): (&(u64, &'static str), Option<u64>)| Bucket {
            from: *from,
            below,
            entries: 0,
            bytes: 0,
            name,
        };
        Self(all.map(bucket).collect())
    }

    /// Counts an entry of so many bytes.
    pub(crate) fn add(&mut self, at: u64, bytes: u64) {
        let found = self.0.iter_mut().rev().find(|bucket| bucket.from <= at);
        if let Some(bucket) = found {
            bucket.entries += 1;
            bucket.bytes = bucket.bytes.saturating_add(bytes);
        }
    }

    pub(crate) fn all(&self) -> &[Bucket] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_bucket_that_says_so() {
        for mut buckets in [Buckets::of_sizes(), Buckets::of_ages()] {
            let limits: Vec<u64> = buckets.all().iter().map(|b| b.from).collect();
            assert!(limits.is_sorted() && limits[0] == 0);
            for limit in &limits {
                buckets.add(*limit, 1);
                buckets.add(limit.saturating_sub(1), 1);
            }
            buckets.add(u64::MAX, u64::MAX);
            let entries: Vec<u64> = buckets.all().iter().map(|b| b.entries).collect();
            assert_eq!(entries, [3, 2, 2, 2, 2, 2, 2, 2]);
            let last = buckets.all().last().unwrap();
            assert_eq!((last.below, last.bytes), (None, u64::MAX));
        }
    }
}
