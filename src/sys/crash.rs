//! A file system that forgets: it records every change in its order, and lays out directories that
//! a power cut at any moment might have left.
//!
//! What is promised after a cut is what `docs/design.md` assumes of the medium, and nothing more:
//! a synced file has the bytes it had when it was synced, a synced folder the names. Of what was not
//! synced any part may be there: bytes in any state they went through since, a sector of 512 bytes at
//! a time, or zeros, the length of any moment; names in any order, but each change whole.

use super::mapping::{ObjectMap, SharedMap};
use super::{Access, FileSystem, Meta, RawFile};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

const PAGE: usize = 4096;
const SECTOR: usize = 512;
const ROOT: Node = 1;
/// A second number for every file, as a copy of the directory has.
const COPIED: Node = 1 << 32;

/// How often the machine was started.
static BOOTS: AtomicU64 = AtomicU64::new(1);

/// Stands for an inode.
type Node = u64;
/// A folder and a name in it.
type Name = (Node, OsString);

/// Numbers that look random and are the same every time (`SplitMix64` by Guy Steele and others).
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

#[derive(Clone, Debug)]
enum Step {
    Make {
        node: Node,
        is_dir: bool,
        at: Name,
    },
    Move {
        node: Node,
        from: Name,
        to: Name,
    },
    Drop {
        node: Node,
        at: Name,
    },
    Write {
        node: Node,
        write: Write,
    },
    Sync {
        node: Node,
    },
    /// The kernel gave the pages up: a later sync says nothing of them.
    SyncFailed {
        node: Node,
    },
    SyncDir {
        node: Node,
    },
}

#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    bytes: Arc<[u8]>,
}

impl Write {
    fn apply(&self, file: &mut Vec<u8>) {
        let end = self.offset + self.bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[self.offset..end].copy_from_slice(&self.bytes);
    }

    fn pages(&self) -> impl Iterator<Item = Self> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let offset = self.offset + at;
            let len = (PAGE - offset % PAGE).min(self.bytes.len() - at);
            let bytes = self.bytes[at..at + len].into();
            at += len;
            (len > 0).then_some(Self { offset, bytes })
        })
    }

    fn touches_page_of(&self, other: &Self) -> bool {
        let first = |w: &Self| w.offset / PAGE;
        let last = |w: &Self| (w.offset + w.bytes.len()).saturating_sub(1) / PAGE;
        first(self) <= last(other) && first(other) <= last(self)
    }
}

/// What is on the medium.
#[derive(Clone, Debug, Default)]
struct Image {
    names: BTreeMap<Name, Node>,
    dirs: BTreeSet<Node>,
    files: HashMap<Node, Arc<Vec<u8>>>,
}

impl Image {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Make { node, is_dir, at } => {
                self.names.insert(at.clone(), *node);
                if *is_dir {
                    self.dirs.insert(*node);
                }
            }
            Step::Move { node, from, to } => {
                if self.names.get(from) == Some(node) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *node);
            }
            Step::Drop { node, at } if self.names.get(at) == Some(node) => {
                self.names.remove(at);
            }
            _ => {}
        }
    }

    fn lay_out(&self, dir: Node, path: &Path) -> io::Result<()> {
        for ((_, name), node) in self.children(dir) {
            let path = path.join(name);
            if self.dirs.contains(node) {
                RealDir::create(&path)?;
                self.lay_out(*node, &path)?;
            } else {
                let empty = Arc::default();
                std::fs::write(&path, &**self.files.get(node).unwrap_or(&empty))?;
            }
        }
        Ok(())
    }

    /// Forgets what no path leads to.
    fn forget_unnamed(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            for (_, node) in self.children(dir) {
                if reached.insert(*node) && self.dirs.contains(node) {
                    dirs.push(*node);
                }
            }
        }
        self.names.retain(|(dir, _), _| reached.contains(dir));
        self.dirs.retain(|node| reached.contains(node));
        self.files.retain(|node, _| reached.contains(node));
    }

    fn children(&self, dir: Node) -> impl Iterator<Item = (&Name, &Node)> {
        self.names
            .range((dir, OsString::new())..(dir + 1, OsString::new()))
    }
}

struct RealDir;

impl RealDir {
    fn create(path: &Path) -> io::Result<()> {
        super::real::RealFs::UNCHECKED.create_dir(path)
    }
}

/// The names a step speaks of, and the file.
fn touched(step: &Step) -> (Vec<&Name>, Node) {
    match step {
        Step::Make { node, at, .. } | Step::Drop { node, at } => (vec![at], *node),
        Step::Move { node, from, to } => (vec![from, to], *node),
        Step::Write { node, .. }
        | Step::Sync { node }
        | Step::SyncFailed { node }
        | Step::SyncDir { node } => (Vec::new(), *node),
    }
}

/// How much of what was not synced is found after the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing.
    Nothing,
    /// Everything: a kill.
    Everything,
    /// The names, and files as long as they were, with zeros in them.
    Zeros,
    /// The names, and files as they were synced: mostly empty.
    Names,
    /// The bytes and no name.
    Bytes,
    /// Changes up to some moment: what a file system with one journal for all leaves.
    Prefix,
    /// Any part of anything.
    Random,
}

impl Cut {
    pub(crate) const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Everything,
        Self::Zeros,
        Self::Names,
        Self::Bytes,
        Self::Prefix,
        Self::Random,
    ];
}

/// A history that is gone through from its begin.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    durable: Image,
    names: Vec<Step>,
    writes: HashMap<Node, Vec<Write>>,
    lost: HashMap<Node, Vec<Write>>,
    /// All that was not synced in its order, for [`Cut::Prefix`].
    done: usize,
}

impl Replay {
    fn step(&mut self, step: &Step) {
        self.done += 1;
        match step {
            Step::Write { node, write } => {
                let writes = self.writes.entry(*node).or_default();
                // A page that is written to again is dirty again, all of it.
                let lost = self.lost.remove(node).unwrap_or_default();
                let (dirty, lost) = lost.into_iter().partition(|old| old.touches_page_of(write));
                self.lost.insert(*node, lost);
                Vec::append(writes, &mut { dirty });
                writes.push(write.clone());
            }
            Step::Sync { node } => {
                let writes = self.writes.remove(node).unwrap_or_default();
                let file = Arc::make_mut(self.durable.files.entry(*node).or_default());
                for write in &writes {
                    write.apply(file);
                }
            }
            Step::SyncFailed { node } => {
                let writes = self.writes.remove(node).unwrap_or_default();
                let lost = self.lost.entry(*node).or_default();
                lost.extend(writes.iter().flat_map(Write::pages));
            }
            Step::SyncDir { node } => {
                let is_in = |step: &Step| touched(step).0.iter().any(|(dir, _)| dir == node);
                let durable = closed(&self.names, |_, step| is_in(step));
                let mut at = 0;
                let image = &mut self.durable;
                self.names.retain(|step| {
                    if durable[at] {
                        image.apply(step);
                    }
                    at += 1;
                    !durable[at - 1]
                });
            }
            names => self.names.push(names.clone()),
        }
    }

    /// One of the states that a power cut now may leave.
    fn cut(&self, how: Cut, rng: &mut Rng) -> Image {
        let mut image = self.durable.clone();
        let kept = match how {
            Cut::Nothing | Cut::Bytes => vec![false; self.names.len()],
            Cut::Everything | Cut::Zeros | Cut::Names => vec![true; self.names.len()],
            Cut::Prefix => {
                let len = rng.below(self.names.len() + 1);
                (0..self.names.len()).map(|i| i < len).collect()
            }
            Cut::Random => {
                let one_in = 1 + rng.below(4);
                closed(&self.names, |_, _| rng.chance(one_in))
            }
        };
        let names = self.names.iter().zip(&kept);
        names
            .filter(|(_, kept)| **kept)
            .for_each(|(step, _)| image.apply(step));
        let mut dirty: BTreeMap<Node, Vec<&Write>> = BTreeMap::new();
        for (node, writes) in self.lost.iter().chain(&self.writes) {
            dirty.entry(*node).or_default().extend(writes);
        }
        for (node, writes) in dirty {
            if !writes.is_empty() {
                let before = image.files.get(&node).cloned().unwrap_or_default();
                image
                    .files
                    .insert(node, Arc::new(survivors(&before, &writes, how, rng)));
            }
        }
        image
    }
}

/// The chosen changes of names, and those before them that these build on: each change of a name
/// is whole, and a file is not moved before it is made.
fn closed(names: &[Step], mut choose: impl FnMut(usize, &Step) -> bool) -> Vec<bool> {
    let mut kept: Vec<bool> = names
        .iter()
        .enumerate()
        .map(|(i, step)| choose(i, step))
        .collect();
    for later in (0..names.len()).rev() {
        if !kept[later] {
            continue;
        }
        let (keys, node) = touched(&names[later]);
        for earlier in 0..later {
            let (other_keys, other) = touched(&names[earlier]);
            if node == other || other_keys.iter().any(|key| keys.contains(key)) {
                kept[earlier] = true;
            }
        }
    }
    kept
}

/// What may be found in a file that had `before` when it was synced, and was written to since.
fn survivors(before: &[u8], writes: &[&Write], how: Cut, rng: &mut Rng) -> Vec<u8> {
    let after = |count: usize| {
        let mut file = before.to_vec();
        writes[..count]
            .iter()
            .for_each(|write| write.apply(&mut file));
        file
    };
    let all = writes.len();
    match how {
        Cut::Nothing | Cut::Names => before.to_vec(),
        Cut::Everything | Cut::Bytes => after(all),
        Cut::Zeros => {
            let mut file = before.to_vec();
            file.resize(after(all).len(), 0);
            file
        }
        Cut::Prefix => after(rng.below(all + 1)),
        Cut::Random => {
            let states = [before.to_vec(), after(rng.below(all + 1)), after(all)];
            let lens: Vec<usize> = states.iter().map(Vec::len).collect();
            let len = lens[rng.below(3)];
            let unit = [SECTOR, PAGE][rng.below(2)];
            let bias = rng.below(4);
            let mut file = vec![0; len];
            for (i, part) in file.chunks_mut(unit).enumerate() {
                let state = &states[if bias < 3 && rng.chance(2) {
                    bias
                } else {
                    rng.below(3)
                }];
                let from = state.get(i * unit..).unwrap_or_default();
                let n = from.len().min(part.len());
                part[..n].copy_from_slice(&from[..n]);
            }
            file
        }
    }
}

/// A control: what is believed to be durable and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    Nothing,
    Syncs,
    Folders,
    /// Of files with this name.
    SyncsOf(&'static str),
}

#[derive(Debug)]
struct Disk {
    start: Image,
    now: Image,
    steps: Vec<Step>,
    next: Node,
    ignored: Ignored,
}

impl Disk {
    fn record(&mut self, step: Step) {
        self.now.apply(&step);
        if !self.is_ignored(&step) {
            self.steps.push(step);
        }
    }

    fn is_ignored(&self, step: &Step) -> bool {
        match (self.ignored, step) {
            (Ignored::Syncs, Step::Sync { .. } | Step::SyncDir { .. })
            | (Ignored::Folders, Step::SyncDir { .. }) => true,
            (Ignored::SyncsOf(name), Step::Sync { node }) => {
                let is_it = |((_, named), n): (&Name, &Node)| n == node && named == name;
                self.now.names.iter().any(is_it)
            }
            _ => false,
        }
    }

    fn make(&mut self, at: Name, is_dir: bool) -> Node {
        if let Some(known) = self.now.names.get(&at) {
            return *known;
        }
        let node = self.next;
        self.next += 1;
        self.record(Step::Make { node, is_dir, at });
        node
    }

    fn drop_tree(&mut self, at: &Name) {
        let Some(node) = self.now.names.get(at).copied() else {
            return;
        };
        let below: Vec<Name> = self
            .now
            .children(node)
            .map(|(name, _)| name.clone())
            .collect();
        for name in &below {
            self.drop_tree(name);
        }
        self.record(Step::Drop {
            node,
            at: at.clone(),
        });
    }
}

/// The file system below one root, over another one that does the work.
#[derive(Clone, Debug)]
pub(crate) struct CrashFs {
    root: PathBuf,
    inner: Arc<dyn FileSystem>,
    disk: Arc<Mutex<Disk>>,
    /// Another one after each cut.
    boot: u64,
}

#[derive(Debug)]
struct CrashFile {
    file: Arc<dyn RawFile>,
    node: Node,
    disk: Arc<Mutex<Disk>>,
}

impl CrashFs {
    /// Over an empty directory, a canonical path.
    pub(crate) fn new(root: &Path, inner: Arc<dyn FileSystem>) -> Self {
        Self::with(root, inner, Image::default())
    }

    fn with(root: &Path, inner: Arc<dyn FileSystem>, start: Image) -> Self {
        let next = start.names.values().max().map_or(ROOT + 1, |last| last + 1);
        let disk = Disk {
            now: start.clone(),
            start,
            steps: Vec::new(),
            next,
            ignored: Ignored::Nothing,
        };
        Self {
            root: root.into(),
            inner,
            disk: Arc::new(Mutex::new(disk)),
            boot: BOOTS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// From now on some syncs do nothing, and say that they did.
    pub(crate) fn ignore(&self, ignored: Ignored) {
        self.disk().ignored = ignored;
    }

    /// How many changes and syncs there were.
    pub(crate) fn steps(&self) -> usize {
        self.disk().steps.len()
    }

    /// The history in words, a line a step.
    pub(crate) fn story(&self) -> String {
        let disk = self.disk();
        let line = |(i, step): (usize, &Step)| match step {
            Step::Write { node, write } => {
                let bytes = &write.bytes[..write.bytes.len().min(8)];
                let len = write.bytes.len();
                format!(
                    "{i} Write {node} at {} of {len}: {bytes:02x?}\n",
                    write.offset
                )
            }
            step => format!("{i} {step:?}\n"),
        };
        disk.steps.iter().enumerate().map(line).collect()
    }

    /// The history, before its first step.
    pub(crate) fn replay(&self) -> Replay {
        Replay {
            durable: self.disk().start.clone(),
            names: Vec::new(),
            writes: HashMap::new(),
            lost: HashMap::new(),
            done: 0,
        }
    }

    /// Goes through the history up to a moment.
    pub(crate) fn advance(&self, replay: &mut Replay, to: usize) {
        let disk = self.disk();
        while replay.done < to.min(disk.steps.len()) {
            replay.step(&disk.steps[replay.done]);
        }
    }

    /// Lays out in the empty directory `root` what a power cut may leave. `copied` gives every file
    /// another inode.
    pub(crate) fn after_cut(
        replay: &Replay,
        (how, copied): (Cut, bool),
        rng: &mut Rng,
        root: &Path,
    ) -> io::Result<Self> {
        let mut image = replay.cut(how, rng);
        if copied {
            let other = |node: Node| if node == ROOT { ROOT } else { node + COPIED };
            image.names = image
                .names
                .into_iter()
                .map(|((dir, name), node)| ((other(dir), name), other(node)))
                .collect();
            image.dirs = image.dirs.into_iter().map(other).collect();
            image.files = image
                .files
                .into_iter()
                .map(|(n, f)| (other(n), f))
                .collect();
        }
        image.forget_unnamed();
        image.lay_out(ROOT, root)?;
        Ok(Self::with(
            root,
            Arc::new(super::real::RealFs::UNCHECKED),
            image,
        ))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk
            .lock()
            .expect("the lock of the recorded history is poisoned")
    }

    /// The folder and the name; `None` for what is not below the root.
    fn name(&self, disk: &Disk, path: &Path) -> Option<Name> {
        let parent = self.node(disk, path.parent()?)?;
        Some((parent, path.file_name()?.into()))
    }

    fn node(&self, disk: &Disk, path: &Path) -> Option<Node> {
        let mut node = ROOT;
        for name in path.strip_prefix(&self.root).ok()? {
            node = *disk.now.names.get(&(node, name.into()))?;
        }
        Some(node)
    }

    fn wrap(&self, file: Arc<dyn RawFile>, node: Node) -> Arc<dyn RawFile> {
        let disk = Arc::clone(&self.disk);
        Arc::new(CrashFile { file, node, disk })
    }
}

fn with_node(mut meta: Meta, node: Option<Node>) -> Meta {
    meta.id.inode = node.unwrap_or(meta.id.inode);
    meta
}

impl FileSystem for CrashFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn RawFile>> {
        let mut disk = self.disk();
        let file = self.inner.open(path, access)?;
        let name = self.name(&disk, path).ok_or(io::ErrorKind::NotFound)?;
        let node = disk.make(name, false);
        Ok(self.wrap(file, node))
    }
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn RawFile>> {
        let disk = self.disk();
        let file = self.inner.open_dir(path)?;
        let node = self.node(&disk, path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.wrap(file, node))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        self.inner.create_dir(path)?;
        if let Some(name) = self.name(&disk, path) {
            disk.make(name, true);
        }
        Ok(())
    }
    fn stat(&self, path: &Path) -> io::Result<Meta> {
        let disk = self.disk();
        let meta = self.inner.stat(path)?;
        Ok(with_node(meta, self.node(&disk, path)))
    }
    fn boot(&self) -> Option<u64> {
        Some(self.boot)
    }

    fn glance(&self, path: &Path) -> io::Result<Meta> {
        let disk = self.disk();
        let meta = self.inner.glance(path)?;
        Ok(with_node(meta, self.node(&disk, path)))
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.inner.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        self.inner.rename(from, to)?;
        self.moved(&mut disk, from, to);
        Ok(())
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<bool> {
        let mut disk = self.disk();
        let moved = self.inner.rename_no_replace(from, to)?;
        if moved {
            self.moved(&mut disk, from, to);
        }
        Ok(moved)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        self.inner.remove_file(path)?;
        if let Some(name) = self.name(&disk, path) {
            disk.drop_tree(&name);
        }
        Ok(())
    }
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        self.inner.remove_tree(path)?;
        if let Some(name) = self.name(&disk, path) {
            disk.drop_tree(&name);
        }
        Ok(())
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        self.inner.sync_dir(path)?;
        if let Some(node) = self.node(&disk, path) {
            disk.record(Step::SyncDir { node });
        }
        Ok(())
    }
}

impl CrashFs {
    fn moved(&self, disk: &mut Disk, from: &Path, to: &Path) {
        let names = (self.name(disk, from), self.name(disk, to));
        if let (Some(from), Some(to)) = names {
            if let Some(node) = disk.now.names.get(&from).copied() {
                disk.record(Step::Move { node, from, to });
            }
        }
    }
}

impl CrashFile {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk
            .lock()
            .expect("the lock of the recorded history is poisoned")
    }
}

impl RawFile for CrashFile {
    fn meta(&self) -> io::Result<Meta> {
        Ok(with_node(self.file.meta()?, Some(self.node)))
    }
    fn stat_below(&self, name: &OsStr) -> io::Result<Meta> {
        let disk = self.disk();
        let meta = self.file.stat_below(name)?;
        let node = disk.now.names.get(&(self.node, name.into())).copied();
        Ok(with_node(meta, node))
    }
    fn links(&self) -> io::Result<u64> {
        self.file.links()
    }
    fn is_trusted_dir(&self, name: &OsStr) -> bool {
        self.file.is_trusted_dir(name)
    }
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_some(buf, offset)
    }
    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk();
        let written = self.file.write_some(buf, offset)?;
        let write = Write {
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            bytes: buf[..written].into(),
        };
        let node = self.node;
        disk.record(Step::Write { node, write });
        Ok(written)
    }
    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk();
        let node = self.node;
        let done = self.file.sync();
        disk.record(match done {
            Ok(()) => Step::Sync { node },
            Err(_) => Step::SyncFailed { node },
        });
        done
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
    }
    fn map_shared(&self, len: usize) -> io::Result<SharedMap> {
        self.file.map_shared(len)
    }
    fn map_object(&self, len: usize) -> io::Result<ObjectMap> {
        self.file.map_object(len)
    }
}
