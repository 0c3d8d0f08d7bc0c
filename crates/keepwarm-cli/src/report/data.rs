//! What a report tells, gathered from a directory in one walk. Its size is bounded, however much
//! the directory holds.

use super::buckets::Buckets;
use crate::context::Context;
use crate::counters::Counters;
use crate::failure::{Failure, Result};
use crate::item::{self, Names};
use crate::units;
use keepwarm::{DiskStore, EntryInfo, NamespaceId, StoredAs};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::SystemTime;

/// So many namespaces are told one by one.
const NAMESPACES: usize = 24;
/// So many artifacts are.
const LARGEST: usize = 100;

/// What `--format json` prints. Members may be added, never changed.
#[derive(Debug, Serialize)]
pub(crate) struct Data {
    pub(crate) directory: String,
    pub(crate) made_at: String,
    pub(crate) mode: &'static str,
    pub(crate) rebuilding: bool,
    /// Why not all entries could be looked at.
    pub(crate) incomplete: Option<String>,
    pub(crate) max_size: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) since: Option<String>,
    pub(crate) counters: Counters,
    pub(crate) content: Content,
    pub(crate) sizes: Buckets,
    pub(crate) ages: Buckets,
    pub(crate) unused: Buckets,
    pub(crate) namespaces: Vec<Space>,
    pub(crate) other_namespaces: Others,
    pub(crate) largest: Vec<Large>,
    pub(crate) history: Vec<Interval>,
    #[serde(skip)]
    pub(crate) now: SystemTime,
}

/// What the entries add up to, from a look at each.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Content {
    pub(crate) entries: u64,
    pub(crate) artifact_bytes: u64,
    pub(crate) inline: Part,
    pub(crate) objects: Part,
    pub(crate) shared: Part,
    pub(crate) dead_bytes: u64,
    pub(crate) build_nanos: u64,
}

/// Entries that are stored in one way: their artifacts, and what they take on disk.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Part {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    pub(crate) disk_bytes: u64,
}

impl Part {
    fn add(&mut self, info: &EntryInfo) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(info.length);
        self.disk_bytes = self.disk_bytes.saturating_add(info.disk_bytes);
    }
}

/// A namespace.
#[derive(Debug, Serialize)]
pub(crate) struct Space {
    pub(crate) name: Option<String>,
    pub(crate) id: Option<String>,
    #[serde(flatten)]
    pub(crate) part: Part,
    pub(crate) build_nanos: u64,
    pub(crate) last_used: String,
    #[serde(skip)]
    pub(crate) used: SystemTime,
    /// For people.
    #[serde(skip)]
    pub(crate) shown: String,
    #[serde(skip)]
    pub(crate) key: NamespaceId,
}

/// The namespaces that are not told one by one.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Others {
    pub(crate) namespaces: u64,
    #[serde(flatten)]
    pub(crate) part: Part,
}

/// One of the entries that take most on disk.
#[derive(Debug, Serialize)]
pub(crate) struct Large {
    pub(crate) key: String,
    pub(crate) length: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) namespace: Option<String>,
    pub(crate) build_nanos: u64,
    pub(crate) last_used: String,
    #[serde(skip)]
    pub(crate) used: SystemTime,
    #[serde(skip)]
    pub(crate) shown: String,
    #[serde(skip)]
    pub(crate) space: NamespaceId,
}

/// What was done between two looks at the directory, and what there was at the second.
#[derive(Debug, Serialize)]
pub(crate) struct Interval {
    from: String,
    to: String,
    entries: u64,
    disk_bytes: u64,
    #[serde(flatten)]
    pub(crate) counters: Counters,
    #[serde(skip)]
    pub(crate) begin: SystemTime,
    #[serde(skip)]
    pub(crate) end: SystemTime,
}

/// What a walk over the entries adds up.
struct Walk {
    now: SystemTime,
    content: Content,
    sizes: Buckets,
    ages: Buckets,
    unused: Buckets,
    spaces: HashMap<NamespaceId, Sum>,
    /// The smallest of the largest is on top.
    largest: BinaryHeap<Reverse<Ranked>>,
}

struct Sum {
    part: Part,
    build_nanos: u64,
    used: SystemTime,
}

/// An entry by what it takes.
struct Ranked(EntryInfo);

impl Ranked {
    fn rank(&self) -> (u64, u64, [u8; 32]) {
        let info = &self.0;
        (info.disk_bytes, info.length, *info.key.as_bytes())
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl Walk {
    fn new(now: SystemTime) -> Self {
        Self {
            now,
            content: Content::default(),
            sizes: Buckets::of_sizes(),
            ages: Buckets::of_ages(),
            unused: Buckets::of_ages(),
            spaces: HashMap::new(),
            largest: BinaryHeap::new(),
        }
    }

    fn add(&mut self, info: EntryInfo) {
        let content = &mut self.content;
        match info.stored_as {
            StoredAs::Inline => content.inline.add(&info),
            StoredAs::Object => content.objects.add(&info),
            _ => content.shared.add(&info),
        }
        content.entries += 1;
        content.artifact_bytes = content.artifact_bytes.saturating_add(info.length);
        let cost = units::nanos(info.build_cost);
        content.build_nanos = content.build_nanos.saturating_add(cost);
        let seconds = |at| self.now.duration_since(at).unwrap_or_default().as_secs();
        self.sizes.add(info.length, info.length);
        self.ages.add(seconds(info.put_at), info.length);
        self.unused.add(seconds(info.last_used), info.length);
        let sum = self.spaces.entry(info.namespace).or_insert(Sum {
            part: Part::default(),
            build_nanos: 0,
            used: info.last_used,
        });
        sum.part.add(&info);
        sum.build_nanos = sum.build_nanos.saturating_add(cost);
        sum.used = sum.used.max(info.last_used);
        self.largest.push(Reverse(Ranked(info)));
        if self.largest.len() > LARGEST {
            self.largest.pop();
        }
    }

    fn largest(&mut self, names: &mut Names<'_>) -> Result<Vec<Large>> {
        let mut all: Vec<_> = self
            .largest
            .drain()
            .map(|Reverse(Ranked(info))| info)
            .collect();
        all.sort_by_key(|info| Reverse((info.disk_bytes, info.length, info.key)));
        let large = |info: EntryInfo| {
            Ok(Large {
                key: info.key.to_string(),
                length: info.length,
                disk_bytes: info.disk_bytes,
                namespace: names.get(info.namespace)?,
                build_nanos: units::nanos(info.build_cost),
                last_used: units::timestamp(info.last_used),
                used: info.last_used,
                shown: names.shown(info.namespace)?,
                space: info.namespace,
            })
        };
        all.into_iter().map(large).collect()
    }

    fn namespaces(&mut self, names: &mut Names<'_>) -> Result<(Vec<Space>, Others)> {
        let mut all: Vec<_> = self.spaces.drain().collect();
        all.sort_by_key(|(id, sum)| (Reverse(sum.part.disk_bytes), *id));
        let mut others = Others::default();
        for (_, sum) in all.iter().skip(NAMESPACES) {
            others.namespaces += 1;
            others.part.entries += sum.part.entries;
            others.part.bytes = others.part.bytes.saturating_add(sum.part.bytes);
            let disk_bytes = others.part.disk_bytes.saturating_add(sum.part.disk_bytes);
            others.part.disk_bytes = disk_bytes;
        }
        all.truncate(NAMESPACES);
        let space = |(id, sum): (NamespaceId, Sum)| {
            let name = names.get(id)?;
            Ok(Space {
                shown: item::shown(id, name.as_deref()),
                name,
                id: units::namespace_id(id),
                part: sum.part,
                build_nanos: sum.build_nanos,
                last_used: units::timestamp(sum.used),
                used: sum.used,
                key: id,
            })
        };
        let spaces: Result<Vec<Space>> = all.into_iter().map(space).collect();
        Ok((spaces?, others))
    }
}

impl Data {
    /// Looks at everything once. What cannot be read makes it incomplete, not impossible.
    pub(crate) fn gather(store: &DiskStore, context: &Context) -> Result<Self> {
        let now = SystemTime::now();
        let life = store.directory_stats()?;
        let mut walk = Walk::new(now);
        let mut incomplete = None;
        for info in store.entries() {
            match info {
                Ok(info) => walk.add(info),
                Err(e) => {
                    incomplete = Some(Failure::from(e).what().to_owned());
                    break;
                }
            }
        }
        let mut names = Names::new(store);
        let largest = walk.largest(&mut names)?;
        let (namespaces, other_namespaces) = walk.namespaces(&mut names)?;
        let mut content = walk.content;
        let parts = [content.inline, content.objects, content.shared];
        let live = parts.iter().map(|part| part.disk_bytes);
        let live = live.fold(0, u64::saturating_add);
        content.dead_bytes = life.cached_bytes.saturating_sub(live);
        Ok(Self {
            directory: store.path().display().to_string(),
            made_at: units::timestamp(now),
            mode: context.settings().mode.name(),
            rebuilding: store.is_rebuilding(),
            incomplete,
            max_size: context.settings().max_size,
            disk_bytes: life.cached_bytes,
            entries: life.entries,
            since: life.since.map(units::timestamp),
            counters: Counters::new(&life),
            content,
            sizes: walk.sizes,
            ages: walk.ages,
            unused: walk.unused,
            namespaces,
            other_namespaces,
            largest,
            history: history(store)?,
            now,
        })
    }
}

fn history(store: &DiskStore) -> Result<Vec<Interval>> {
    let samples = store.history()?;
    let between = samples.windows(2).filter_map(|pair| {
        let [before, after] = pair else {
            return None;
        };
        let counters = Counters::new(&after.stats).since(&Counters::new(&before.stats))?;
        Some(Interval {
            from: units::timestamp(before.at),
            to: units::timestamp(after.at),
            entries: after.stats.entries,
            disk_bytes: after.stats.cached_bytes,
            counters,
            begin: before.at,
            end: after.at,
        })
    });
    Ok(between.collect())
}

/// An interval in which so many hits were served.
#[cfg(test)]
pub(crate) fn interval(begin: u64, end: u64, hits: u64) -> Interval {
    let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    Interval {
        from: String::new(),
        to: String::new(),
        entries: 0,
        disk_bytes: 0,
        counters: Counters {
            disk_hits: hits,
            ..Counters::default()
        },
        begin: at(begin),
        end: at(end),
    }
}
