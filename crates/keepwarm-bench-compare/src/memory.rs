//! Caches in memory, behind one small trait.
//!
//! Contenders are called without indirection: at fifty nanoseconds a hit, a virtual call would be
//! seen. All of them are given the same hash of a key (`rustc-hash`), which is cheaper than what
//! some come with and good enough for keys that are digests.

mod bound;
mod foyer;
mod keepwarm;
mod moka;
mod quick_cache;
mod sharded_lru;

use crate::Fault;
use crate::content::Key;
use crate::measure::Reading;
use crate::plan::Plan;

/// What a cache may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Entries(u64),
    /// Bytes of values, and about how many values that will be.
    Bytes {
        bytes: u64,
        about: u64,
    },
}

impl Limit {
    /// About how many entries there will be.
    pub(crate) fn about(self) -> usize {
        let (Self::Entries(entries) | Self::Bytes { about: entries, .. }) = self;
        usize::try_from(entries).unwrap_or(usize::MAX)
    }

    /// The capacity, in units of [`weight`](Self::weight).
    pub(crate) fn capacity(self) -> u64 {
        let (Self::Entries(capacity)
        | Self::Bytes {
            bytes: capacity, ..
        }) = self;
        capacity
    }

    /// What a value of so many bytes takes of the capacity.
    pub(crate) fn weight(self, len: usize) -> u64 {
        match self {
            Self::Entries(_) => 1,
            Self::Bytes { .. } => len as u64,
        }
    }
}

/// A cache in memory.
pub(crate) trait MemoryCache: Sized + Sync {
    /// What is kept, cheap to clone: as a user of this cache would keep an artifact.
    type Value: Clone + Send + Sync;
    /// What a hit gives.
    type Hit: AsRef<[u8]>;

    fn new(limit: Limit) -> Self;
    /// One copy of the bytes, in the contender's own shape.
    fn value(bytes: &[u8]) -> Self::Value;
    fn get(&self, key: &Key) -> Option<Self::Hit>;
    fn put(&self, key: &Key, value: Self::Value);

    /// Lets work that was put off be done; before something is measured, never while.
    fn settle(&mut self) {}
}

/// What is measured of a cache in memory.
pub(crate) trait MemoryWorkload {
    fn run<C: MemoryCache>(&self, plan: &Plan) -> Result<Vec<Reading>, Fault>;
}

/// A contender's name and what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

macro_rules! contenders {
    ($($name:literal => $contender:ty, $about:literal;)*) => {
        /// All of them, keepwarm first and the bound last.
        pub(crate) const CONTENDERS: &[About] = &[$(About { name: $name, about: $about }),*];

        /// Runs a workload on the contender of this name.
        pub(crate) fn run(
            workload: &impl MemoryWorkload,
            contender: &str,
            plan: &Plan,
        ) -> Result<Vec<Reading>, Fault> {
            match contender {
                $($name => workload.run::<$contender>(plan),)*
                _ => Err(format!("there is no cache in memory named {contender}").into()),
            }
        }
    };
}

contenders! {
    "keepwarm-memory" => keepwarm::Keepwarm, "keepwarm's MemoryStore";
    "quick_cache" => quick_cache::QuickCache, "quick_cache::sync::Cache";
    "moka" => moka::Moka, "moka::sync::Cache";
    "foyer-memory" => foyer::Foyer, "foyer::Cache";
    "sharded-lru" => sharded_lru::ShardedLru, "Mutex<lru::LruCache> in shards";
    "bound-map" => bound::Bound, "bound: a sharded map that is only read";
}

/// The name of what no cache can be faster than: it takes no lock and keeps no order, and can only
/// be read once it was filled.
pub(crate) const BOUND: &str = "bound-map";

/// Four shards for each core, a power of two: for contenders that leave the number to their user.
fn shards() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores * 4).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Dataset, Random};

    const DATA: Dataset = Dataset {
        name: "test",
        seed: 1,
        count: 500,
        least: 10,
        most: 1000,
        contents: u64::MAX,
    };

    struct PutAndGet;

    impl MemoryWorkload for PutAndGet {
        fn run<C: MemoryCache>(&self, _: &Plan) -> Result<Vec<Reading>, Fault> {
            let mut cache = C::new(Limit::Entries(2 * DATA.count));
            for n in 0..DATA.count {
                cache.put(&DATA.key(n), C::value(&DATA.bytes(n)));
            }
            cache.settle();
            for n in 0..DATA.count {
                let hit = cache.get(&DATA.key(n)).ok_or("lost")?;
                assert_eq!(hit.as_ref(), DATA.bytes(n));
            }
            assert!(cache.get(&DATA.absent(1)).is_none());
            Ok(Vec::new())
        }
    }

    #[test]
    fn every_contender_gives_what_was_put() {
        for contender in CONTENDERS {
            run(&PutAndGet, contender.name, &Plan::quick()).expect(contender.name);
        }
    }

    struct StaysInItsBudget;

    impl MemoryWorkload for StaysInItsBudget {
        fn run<C: MemoryCache>(&self, _: &Plan) -> Result<Vec<Reading>, Fault> {
            let (count, len) = (20_000_u64, 100_u64);
            let bytes = count * len / 10;
            let mut cache = C::new(Limit::Bytes {
                bytes,
                about: count / 10,
            });
            let value = C::value(&vec![1; usize::try_from(len)?]);
            let mut random = Random::new(1, 1);
            for n in 0..count {
                cache.put(&DATA.key(n), value.clone());
                // Something that is used again and again is kept by any policy.
                let _ = cache.get(&DATA.key(random.below(100)));
            }
            cache.settle();
            let kept = (0..count)
                .filter(|n| cache.get(&DATA.key(*n)).is_some())
                .count() as u64;
            assert!(kept * len <= bytes + bytes / 20, "{kept} of {count} kept");
            assert!(kept * len >= bytes / 2, "{kept} of {count} kept");
            Ok(Vec::new())
        }
    }

    #[test]
    fn every_contender_but_the_bound_stays_in_its_budget_and_uses_it() {
        for contender in CONTENDERS
            .iter()
            .filter(|contender| contender.name != BOUND)
        {
            run(&StaysInItsBudget, contender.name, &Plan::quick()).expect(contender.name);
        }
    }
}
