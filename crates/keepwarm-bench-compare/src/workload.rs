//! What is measured, one file a workload; the table of all of them is here.
//!
//! Sizes and counts are written in this file and nowhere else, full and quick. Every number of a
//! reading is of one operation, unless its metric says otherwise.

mod dedup;
mod eviction;
mod first_hit;
mod footprint;
mod get_or_insert;
mod insert_full;
mod large;
mod memory_footprint;
mod memory_hit;
mod miss;
mod open;
mod populate;
pub(crate) mod processes;
mod repeat_hit;
mod restart;
pub(crate) mod small;
mod task;

use crate::Fault;
use crate::content::Dataset;
use crate::disk::{self, Contender, REDB_SHARED, Role};
use crate::measure::Reading;
use crate::memory::{self, About};
use crate::plan::Plan;
pub(crate) use task::Task;
use task::{SAMPLED, artifacts, check, get_all, put_all};

/// One kind of use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    /// The metric whose system calls and instructions may be counted from outside.
    pub(crate) traced: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Memory {
        run: fn(&str, &Plan) -> Result<Vec<Reading>, Fault>,
        takes: fn(&About) -> bool,
    },
    Disk {
        run: fn(&Task<'_>) -> Result<Vec<Reading>, Fault>,
        takes: fn(&Contender) -> bool,
        data: fn(bool) -> Dataset,
        /// Whether the directory holds the data before the first round; else it is empty in each.
        fixture: bool,
    },
}

const SEED: u64 = 0x6b65_6570_7761_726d;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const fn dataset(name: &'static str, count: u64, sizes: [u64; 2]) -> Dataset {
    let [least, most] = sizes;
    Dataset {
        name,
        seed: SEED,
        count,
        least,
        most,
        contents: u64::MAX,
    }
}

fn pick(quick: bool, full: u64, taste: u64) -> u64 {
    if quick { taste } else { full }
}

/// A working set as programs have it.
fn mixed(quick: bool) -> Dataset {
    dataset("mixed", pick(quick, 2000, 150), [KIB, 256 * KIB])
}

/// What processes share: small enough to be used many times in a short time.
fn shared(quick: bool) -> Dataset {
    dataset("shared", pick(quick, 1000, 100), [KIB, 64 * KIB])
}

fn duplicates(quick: bool) -> Dataset {
    let count = pick(quick, 10_000, 500);
    Dataset {
        contents: count / 10,
        ..dataset("duplicates", count, [KIB, 64 * KIB])
    }
}

fn small_ones(quick: bool) -> Dataset {
    dataset("small", pick(quick, 50_000, 1000), [512, 512])
}

fn evicted(quick: bool) -> Dataset {
    dataset("evicted", pick(quick, 5000, 200), [KIB, 64 * KIB])
}

fn large_ones(quick: bool) -> Dataset {
    dataset("large", pick(quick, 24, 4), [MIB, 32 * MIB])
}

const TINY: [u64; 2] = [64, 64];

/// Those that are for several processes only, too.
fn in_processes(contender: &Contender) -> bool {
    !is_mapping_bound(contender) && !is_policy(contender)
}

/// Whatever one process may use, and nothing that is for several only.
fn usual(contender: &Contender) -> bool {
    usual_and_policies(contender) && !is_policy(contender)
}

/// Those, and keepwarm where it does not hash all that it reads: for what is read again and again
/// from a directory that was filled before.
fn usual_and_policies(contender: &Contender) -> bool {
    contender.name != REDB_SHARED && !is_mapping_bound(contender)
}

/// keepwarm with another policy of verifying than its default.
fn is_policy(contender: &Contender) -> bool {
    contender.role == Role::Keepwarm && !contender.verifies
}

/// Bounds that read what another contender wrote.
fn is_mapping_bound(contender: &Contender) -> bool {
    contender.role == Role::Bound && contender.family != contender.name
}

fn usual_and_mapped(contender: &Contender) -> bool {
    contender.name != REDB_SHARED
}

/// Opened without a walk over all of its content, and filled with many entries in tolerable time
/// and space: foyer gives each of them 4 KiB, cacache two files, files a file. A digest over 64
/// bytes would tell nothing.
fn of_many(contender: &Contender) -> bool {
    usual(contender)
        && contender.role != Role::Bound
        && !["foyer-hybrid", "cacache", "files-blake3", "lmdb-blake3"].contains(&contender.name)
}

fn of_few(contender: &Contender) -> bool {
    usual(contender) && contender.role != Role::Bound
}

fn of_misses(contender: &Contender) -> bool {
    of_many(contender) || contender.name == "bound-log"
}

const fn disk(
    name: &'static str,
    about: &'static str,
    run: fn(&Task<'_>) -> Result<Vec<Reading>, Fault>,
    data: fn(bool) -> Dataset,
) -> Workload {
    let kind = Kind::Disk {
        run,
        takes: usual,
        data,
        fixture: false,
    };
    Workload {
        name,
        about,
        kind,
        traced: None,
    }
}

impl Workload {
    /// On a directory that was filled before.
    const fn on_fixture(mut self) -> Self {
        if let Kind::Disk {
            ref mut fixture, ..
        } = self.kind
        {
            *fixture = true;
        }
        self
    }

    const fn of(mut self, which: fn(&Contender) -> bool) -> Self {
        if let Kind::Disk { ref mut takes, .. } = self.kind {
            *takes = which;
        }
        self
    }

    const fn traced(mut self, metric: &'static str) -> Self {
        self.traced = Some(metric);
        self
    }

    /// The names of the contenders that take part, in their order.
    pub(crate) fn contenders(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Memory { takes, .. } => {
                let all = memory::CONTENDERS.iter();
                all.filter(|contender| takes(contender))
                    .map(|contender| contender.name)
                    .collect()
            }
            Kind::Disk { takes, .. } => {
                let all = disk::CONTENDERS.iter();
                all.filter(|contender| takes(contender))
                    .map(|contender| contender.name)
                    .collect()
            }
        }
    }
}

const fn memory_only(
    name: &'static str,
    about: &'static str,
    run: fn(&str, &Plan) -> Result<Vec<Reading>, Fault>,
    takes: fn(&About) -> bool,
) -> Workload {
    let kind = Kind::Memory { run, takes };
    Workload {
        name,
        about,
        kind,
        traced: None,
    }
}

fn caches(contender: &About) -> bool {
    contender.name != memory::BOUND
}

/// All of them, in the order in which they are run.
pub(crate) const WORKLOADS: &[Workload] = &[
    memory_only(
        "memory-hit",
        "hits among 100,000 entries, Zipf 0.99",
        |contender, plan| memory::run(&memory_hit::MemoryHit, contender, plan),
        |_| true,
    )
    .traced(memory_hit::MAIN),
    memory_only(
        "get-or-insert",
        "get, and on a miss build and put: Zipf 0.9, 256 B to 16 KiB, room for 10 % of the bytes",
        |contender, plan| memory::run(&get_or_insert::GetOrInsert, contender, plan),
        caches,
    ),
    memory_only(
        "insert-full",
        "inserts of new keys into a cache that is full",
        |contender, plan| memory::run(&insert_full::InsertFull, contender, plan),
        caches,
    ),
    memory_only(
        "memory-footprint",
        "memory beyond the 64 bytes of each value",
        |contender, plan| memory::run(&memory_footprint::MemoryFootprint, contender, plan),
        |_| true,
    ),
    disk(
        "populate",
        "puts of 1 to 256 KiB, incompressible, into an empty directory; then the durable flush",
        populate::run,
        mixed,
    )
    .traced(populate::MAIN),
    disk(
        "first-hit",
        "each artifact once, by a process that just opened the directory; warm page cache",
        first_hit::run,
        mixed,
    )
    .of(usual_and_policies)
    .on_fixture()
    .traced(first_hit::MAIN),
    disk(
        "repeat-hit",
        "artifacts that this process has read before",
        repeat_hit::run,
        mixed,
    )
    .of(usual_and_policies)
    .on_fixture()
    .traced(repeat_hit::MAIN),
    disk(
        "restart",
        "open and load the whole working set, every byte read, all of it kept",
        restart::run,
        mixed,
    )
    .of(usual_and_mapped)
    .on_fixture(),
    disk("open-1k", "open + first hit, 1,000 entries of 64 B", open::run, |quick| {
        dataset("tiny-1k", pick(quick, 1000, 200), TINY)
    })
    .of(of_few)
    .on_fixture(),
    disk("open-20k", "open + first hit, 20,000 entries of 64 B", open::run, |quick| {
        dataset("tiny-20k", pick(quick, 20_000, 400), TINY)
    })
    .of(of_few)
    .on_fixture(),
    disk("open-200k", "open + first hit, 200,000 entries of 64 B", open::run, |quick| {
        dataset("tiny-200k", pick(quick, 200_000, 1000), TINY)
    })
    .of(of_many)
    .on_fixture(),
    disk("open-1m", "open + first hit, 1,000,000 entries of 64 B", open::run, |quick| {
        dataset("tiny-1m", pick(quick, 1_000_000, 2000), TINY)
    })
    .of(of_many)
    .on_fixture(),
    disk("miss-4k", "keys that are not there, 4,000 entries", miss::run, |quick| {
        dataset("tiny-4k", pick(quick, 4000, 400), TINY)
    })
    .on_fixture()
    .traced(miss::MAIN),
    disk("miss-500k", "keys that are not there, 500,000 entries", miss::run, |quick| {
        dataset("tiny-500k", pick(quick, 500_000, 2000), TINY)
    })
    .of(of_misses)
    .on_fixture(),
    disk(
        "processes",
        "1, 2 and 4 processes on one directory: 90 % gets (Zipf 0.99, every byte read), 10 % puts of new keys; time of one operation of all processes together",
        processes::run,
        shared,
    )
    .of(in_processes)
    .on_fixture(),
    disk(
        "dedup",
        "10 keys for each content: bytes on disk to bytes of different contents",
        dedup::run,
        duplicates,
    ),
    disk("small", "artifacts of 512 B: put, get, bytes on disk for each", small::run, small_ones)
        .traced(small::MAIN),
    disk("large", "first hits of 1 to 32 MiB", large::run, large_ones)
        .of(usual_and_mapped)
        .on_fixture(),
    disk(
        "footprint",
        "what an idle store takes, and what it adds to each artifact of 512 B",
        footprint::run,
        |quick| dataset("footprint", pick(quick, 20_000, 1000), [512, 512]),
    ),
    // Last: removing many files makes some file systems slow to create others for a while.
    disk(
        "eviction",
        "puts into a new directory, and right after as many were evicted",
        eviction::run,
        evicted,
    ),
];

pub(crate) fn find(name: &str) -> Result<&'static Workload, Fault> {
    let found = WORKLOADS.iter().find(|workload| workload.name == name);
    found.ok_or_else(|| format!("there is no workload named {name}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_workload_has_keepwarm_and_a_peer() {
        for (at, workload) in WORKLOADS.iter().enumerate() {
            assert!(
                WORKLOADS[at + 1..]
                    .iter()
                    .all(|other| other.name != workload.name)
            );
            let contenders = workload.contenders();
            assert!(contenders[0].starts_with("keepwarm"), "{}", workload.name);
            assert!(contenders.len() > 4, "{}", workload.name);
        }
    }
}
