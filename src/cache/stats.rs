//! The snapshot that a user of [`Cache`](crate::Cache) sees.

use crate::stats::{StoreStats, hit_rate_ppm};
use std::fmt;
use std::time::Duration;

/// What a [`Cache`](crate::Cache) did since it was opened by this process; every counter
/// saturates.
///
/// A lookup is one call of `get`, `get_entry` or `get_or_insert_with`, on the cache or on one of
/// its namespaces. The counters of the tiers tell how often *they* were asked.
///
/// Printing it gives a few readable lines:
///
/// ```
/// use keepwarm::{Cache, Fingerprint};
///
/// let cache = Cache::builder().memory_only()?;
/// let key = Fingerprint::from_bytes([1; 32]);
/// assert!(cache.get(&key).is_none());
/// cache.put(&key, vec![0; 100]);
/// assert!(cache.get(&key).is_some());
///
/// let text = cache.stats().to_string();
/// assert!(text.starts_with("2 lookups: 1 hit (50.00 %), 1 miss"), "{text}");
/// # Ok::<(), keepwarm::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Whether the cache is on; see [`CacheBuilder::enabled`](crate::CacheBuilder::enabled).
    pub enabled: bool,
    /// Why there is less of a cache than was asked for, if so; see
    /// [`CacheBuilder::open_or_memory`](crate::CacheBuilder::open_or_memory).
    pub degraded: Option<String>,
    /// Times an artifact was asked for.
    pub lookups: u64,
    /// Times it was there.
    pub hits: u64,
    /// Times it was not, or the cache could not tell.
    pub misses: u64,
    /// Artifacts that were put, by the caller or because they were built.
    pub puts: u64,
    /// Builders that ran and gave an artifact.
    pub builds: u64,
    /// Builders that gave an error or panicked.
    pub failed_builds: u64,
    /// Time spent in builders, failed ones included, over all threads.
    pub build_time: Duration,
    /// Build time of everything that was a hit: what building it again would have taken.
    pub build_time_saved: Duration,
    /// Times a thread waited for another one's build of the same artifact.
    pub waits: u64,
    /// Time spent so.
    pub wait_time: Duration,
    /// Waits that ended with the other thread's artifact.
    pub shared_builds: u64,
    /// Build time of these: what building them twice would have taken.
    pub build_time_shared: Duration,
    /// Builds that ran beside another one of the same artifact, of this or of another process,
    /// because waiting for it would never have ended or had taken too long.
    pub lone_builds: u64,
    /// Times a thread waited for the build of the same artifact by another process, or by another
    /// cache that this process opened on the directory.
    pub process_waits: u64,
    /// Time spent so.
    pub process_wait_time: Duration,
    /// Waits that ended with the other process's artifact.
    pub process_shared_builds: u64,
    /// Build time of these: what building them here as well would have taken.
    pub process_build_time_shared: Duration,
    /// Failures of the cache that were made misses, or that lost an artifact on its way to disk.
    pub faults: u64,
    /// What the latest of these was.
    pub last_fault: Option<String>,
    /// Panics of the eviction listener, which were contained.
    pub listener_panics: u64,
    /// Artifacts found on disk that were handed up to memory.
    pub promotions: u64,
    /// Their bytes.
    pub promoted_bytes: u64,
    /// Artifacts in memory that were written to disk.
    pub demotions: u64,
    /// Their bytes.
    pub demoted_bytes: u64,
    /// Calls of `flush` that succeeded.
    pub flushes: u64,
    /// Calls of `flush` that failed.
    pub flush_errors: u64,
    /// The memory tier.
    pub memory: StoreStats,
    /// The disk tier, if there is one.
    pub disk: Option<StoreStats>,
}

impl Stats {
    /// Hits in a million lookups, rounded down; `None` before the first lookup.
    ///
    /// ```
    /// # use keepwarm::{Cache, Fingerprint};
    /// let cache = Cache::builder().memory_only()?;
    /// assert_eq!(cache.stats().hit_rate_ppm(), None);
    /// assert!(cache.get(&Fingerprint::from_bytes([1; 32])).is_none());
    /// assert_eq!(cache.stats().hit_rate_ppm(), Some(0));
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn hit_rate_ppm(&self) -> Option<u32> {
        hit_rate_ppm(self.hits, self.lookups)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}",
            many(self.lookups, "lookup"),
            many(self.hits, "hit")
        )?;
        if let Some(ppm) = self.hit_rate_ppm() {
            write!(f, " ({}.{:02} %)", ppm / 10_000, ppm / 100 % 100)?;
        }
        writeln!(f, ", {}", count(self.misses, "miss", "misses"))?;
        writeln!(
            f,
            "builds: {} took {:.1?}, {} failed; {:.1?} saved by hits",
            self.builds, self.build_time, self.failed_builds, self.build_time_saved
        )?;
        if self.waits > 0 || self.lone_builds > 0 {
            writeln!(
                f,
                "sharing: {} took {:.1?}, {} shared, {:.1?} saved; {} alone",
                many(self.waits, "wait"),
                self.wait_time,
                many(self.shared_builds, "build"),
                self.build_time_shared,
                self.lone_builds
            )?;
        }
        if self.process_waits > 0 {
            writeln!(
                f,
                "other processes: {} took {:.1?}, {} shared, {:.1?} saved",
                many(self.process_waits, "wait"),
                self.process_wait_time,
                many(self.process_shared_builds, "build"),
                self.process_build_time_shared
            )?;
        }
        if !self.enabled {
            return write!(f, "the cache is off{}", because(self.degraded.as_deref()));
        }
        self.fmt_tiers(f)
    }
}

impl Stats {
    fn fmt_tiers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_store(f, "memory", &self.memory)?;
        f.write_str("\n")?;
        let Some(disk) = &self.disk else {
            write!(f, "disk: none{}", because(self.degraded.as_deref()))?;
            return self.fmt_faults(f);
        };
        fmt_store(f, "disk", disk)?;
        write!(
            f,
            "\nmoves: {} up ({}), {} down ({})",
            self.promotions,
            Bytes(self.promoted_bytes),
            self.demotions,
            Bytes(self.demoted_bytes)
        )?;
        self.fmt_faults(f)
    }

    fn fmt_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.faults > 0 {
            let last = self.last_fault.as_deref().unwrap_or("unknown");
            write!(f, "\nfaults: {}, the last: {last}", self.faults)?;
        }
        if self.listener_panics > 0 {
            let panics = many(self.listener_panics, "panic");
            write!(f, "\nfaults: {panics} of the eviction listener")?;
        }
        Ok(())
    }
}

fn fmt_store(f: &mut fmt::Formatter<'_>, name: &str, stats: &StoreStats) -> fmt::Result {
    let entries = count(stats.entries, "entry", "entries");
    let read_only = if stats.read_only { " (read-only)" } else { "" };
    let bytes = Bytes(stats.cached_bytes);
    write!(f, "{name}{read_only}: {entries}, {bytes}; ")?;
    write!(f, "{}, ", many(stats.hits, "hit"))?;
    write!(f, "{}, ", count(stats.misses, "miss", "misses"))?;
    write!(
        f,
        "{} evicted ({})",
        stats.evictions,
        Bytes(stats.evicted_bytes)
    )?;
    for (number, what) in [
        (stats.rejected_puts, "refused"),
        (stats.failed_puts, "failed to be put"),
        (stats.corrupt, "damaged"),
    ] {
        if number > 0 {
            write!(f, ", {number} {what}")?;
        }
    }
    Ok(())
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(" ({reason})"))
}

fn many(number: u64, noun: &str) -> String {
    count(number, noun, &format!("{noun}s"))
}

fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A number of bytes for people, with one decimal, rounded down.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let power = self.0.ilog2() / 10;
        let unit = UNITS[power as usize - 1]; // 1..=6: a u64 is less than 2^64
        let tenths = (u128::from(self.0) * 10) >> (power * 10);
        write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (256 << 20, "256.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn a_summary_says_everything_that_happened() {
        let stats = Stats {
            enabled: true,
            lookups: 3,
            hits: 2,
            misses: 1,
            builds: 1,
            build_time: Duration::from_millis(1500),
            build_time_saved: Duration::from_secs(3),
            waits: 1,
            shared_builds: 1,
            process_waits: 2,
            process_wait_time: Duration::from_millis(40),
            process_shared_builds: 1,
            process_build_time_shared: Duration::from_secs(2),
            faults: 1,
            last_fault: Some("could not read".into()),
            listener_panics: 1,
            disk: Some(StoreStats {
                corrupt: 2,
                ..StoreStats::default()
            }),
            ..Stats::default()
        };
        let text = stats.to_string();
        assert_eq!(
            text,
            "3 lookups: 2 hits (66.66 %), 1 miss\n\
             builds: 1 took 1.5s, 0 failed; 3.0s saved by hits\n\
             sharing: 1 wait took 0.0ns, 1 build shared, 0.0ns saved; 0 alone\n\
             other processes: 2 waits took 40.0ms, 1 build shared, 2.0s saved\n\
             memory: 0 entries, 0 B; 0 hits, 0 misses, 0 evicted (0 B)\n\
             disk: 0 entries, 0 B; 0 hits, 0 misses, 0 evicted (0 B), 2 damaged\n\
             moves: 0 up (0 B), 0 down (0 B)\n\
             faults: 1, the last: could not read\n\
             faults: 1 panic of the eviction listener"
        );
    }

    #[test]
    fn a_summary_says_why_there_is_no_disk() {
        let mut stats = Stats {
            enabled: true,
            degraded: Some("no room".into()),
            ..Stats::default()
        };
        assert!(stats.to_string().ends_with("\ndisk: none (no room)"));
        stats.enabled = false;
        assert!(stats.to_string().ends_with("\nthe cache is off (no room)"));
    }
}
