//! What all processes did with a directory, as it is printed, and kept with a mark.

use crate::failure::{Failure, Result};
use crate::marks;
use crate::output;
use crate::units;
use keepwarm::{DirectoryStats, DiskStore, Mark};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What all processes did since the directory was made, the counters were zeroed, or a mark. Members
/// may be added, never changed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(crate) struct Counters {
    pub(crate) memory_hits: u64,
    pub(crate) disk_hits: u64,
    pub(crate) misses: u64,
    pub(crate) hit_rate_ppm: Option<u32>,
    pub(crate) puts: u64,
    pub(crate) promotions: u64,
    pub(crate) evictions: u64,
    pub(crate) evicted_bytes: u64,
    pub(crate) deduplicated_bytes: u64,
    pub(crate) corrupt: u64,
    pub(crate) builds: u64,
    pub(crate) build_nanos: u64,
    pub(crate) build_nanos_saved: u64,
}

impl Counters {
    pub(crate) fn new(life: &DirectoryStats) -> Self {
        let counters = Self {
            memory_hits: life.hits_above,
            disk_hits: life.hits,
            misses: life.lookups.saturating_sub(life.hits),
            hit_rate_ppm: None,
            puts: life.puts,
            promotions: life.promotions,
            evictions: life.evictions,
            evicted_bytes: life.evicted_bytes,
            deduplicated_bytes: life.deduplicated_bytes,
            corrupt: life.corrupt,
            builds: life.builds,
            build_nanos: units::nanos(life.build_time),
            build_nanos_saved: units::nanos(life.build_time_saved),
        };
        counters.rated()
    }

    /// What was counted since `before`; `None` if the counters began anew in between.
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        let difference = Self {
            memory_hits: self.memory_hits.checked_sub(before.memory_hits)?,
            disk_hits: self.disk_hits.checked_sub(before.disk_hits)?,
            misses: self.misses.checked_sub(before.misses)?,
            hit_rate_ppm: None,
            puts: self.puts.checked_sub(before.puts)?,
            promotions: self.promotions.checked_sub(before.promotions)?,
            evictions: self.evictions.checked_sub(before.evictions)?,
            evicted_bytes: self.evicted_bytes.checked_sub(before.evicted_bytes)?,
            deduplicated_bytes: self
                .deduplicated_bytes
                .checked_sub(before.deduplicated_bytes)?,
            corrupt: self.corrupt.checked_sub(before.corrupt)?,
            builds: self.builds.checked_sub(before.builds)?,
            build_nanos: self.build_nanos.checked_sub(before.build_nanos)?,
            build_nanos_saved: self
                .build_nanos_saved
                .checked_sub(before.build_nanos_saved)?,
        };
        Some(difference.rated())
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let sum = |a: u64, b: u64| a.saturating_add(b);
        let sum = Self {
            memory_hits: sum(self.memory_hits, other.memory_hits),
            disk_hits: sum(self.disk_hits, other.disk_hits),
            misses: sum(self.misses, other.misses),
            hit_rate_ppm: None,
            puts: sum(self.puts, other.puts),
            promotions: sum(self.promotions, other.promotions),
            evictions: sum(self.evictions, other.evictions),
            evicted_bytes: sum(self.evicted_bytes, other.evicted_bytes),
            deduplicated_bytes: sum(self.deduplicated_bytes, other.deduplicated_bytes),
            corrupt: sum(self.corrupt, other.corrupt),
            builds: sum(self.builds, other.builds),
            build_nanos: sum(self.build_nanos, other.build_nanos),
            build_nanos_saved: sum(self.build_nanos_saved, other.build_nanos_saved),
        };
        sum.rated()
    }

    /// The same with the hit rate, exact, in hits of a million.
    fn rated(mut self) -> Self {
        let hits = u128::from(self.memory_hits) + u128::from(self.disk_hits);
        let rate = (hits * 1_000_000).checked_div(hits + u128::from(self.misses));
        self.hit_rate_ppm = rate.and_then(|ppm| u32::try_from(ppm).ok());
        self
    }

    /// Names and values for people.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let count = units::count;
        let time = |nanos| units::duration(Duration::from_nanos(nanos));
        let with = |number: u64, what: String| match number {
            0 => "0".to_owned(),
            _ => format!("{} ({what})", count(number)),
        };
        let rate = self.hit_rate_ppm.map(units::percent);
        vec![
            ("hits in memory", count(self.memory_hits)),
            ("hits on disk", count(self.disk_hits)),
            ("misses", count(self.misses)),
            ("hit rate", rate.unwrap_or_else(|| "-".to_owned())),
            ("promoted to memory", count(self.promotions)),
            ("put", count(self.puts)),
            ("not stored twice", units::size(self.deduplicated_bytes)),
            (
                "evicted",
                with(self.evictions, units::size(self.evicted_bytes)),
            ),
            ("found damaged", count(self.corrupt)),
            ("built", with(self.builds, time(self.build_nanos))),
            ("build time saved", time(self.build_nanos_saved)),
        ]
    }
}

/// What was counted, and since when.
#[derive(Debug)]
pub(crate) struct Counted {
    /// A time for programs; `None` if it is since the directory was made.
    pub(crate) since: Option<String>,
    pub(crate) counters: Counters,
    /// The mark that was asked for.
    pub(crate) mark: Option<Mark>,
}

/// What was counted since the mark of that name; without one, since the counters began.
pub(crate) fn counted(
    store: &DiskStore,
    life: &DirectoryStats,
    since: Option<&str>,
) -> Result<Counted> {
    let now = Counters::new(life);
    let mut counted = Counted {
        since: life.since.map(units::timestamp),
        counters: now,
        mark: None,
    };
    let Some(name) = since else {
        return Ok(counted);
    };
    if marks::parse_name(name).is_err() {
        return Err(Failure::usage(format!("{name} is no name of a mark"))
            .advise("Counters are kept with marks that have a name: `keepwarm mark NAME`."));
    }
    let saved = marks::load(store, name)?;
    counted.mark = Some(saved.mark()?);
    let at = saved.time()?;
    let difference = now.since(&saved.counters);
    let difference = difference.filter(|_| life.since.is_none_or(|zeroed| zeroed <= at));
    if let Some(difference) = difference {
        counted.since = Some(units::timestamp(at));
        counted.counters = difference;
    } else {
        output::note("the counters began anew after the mark: what came before is missing");
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_has_a_hit_rate_of_its_own() {
        let before = Counters {
            disk_hits: 10,
            misses: 90,
            ..Counters::default()
        };
        let after = Counters {
            disk_hits: 12,
            misses: 91,
            ..Counters::default()
        };
        let difference = after.since(&before).unwrap();
        assert_eq!((difference.disk_hits, difference.misses), (2, 1));
        assert_eq!(difference.hit_rate_ppm, Some(666_666));
        assert_eq!(before.since(&before).unwrap().hit_rate_ppm, None);
        assert_eq!(before.since(&after), None, "they began anew");
        assert_eq!(before.rated().plus(&difference), after.rated());
    }
}
