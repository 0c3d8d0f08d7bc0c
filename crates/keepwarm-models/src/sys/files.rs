//! Simulated files; see the module above.

use super::mapping::{ObjectMap, SharedMap};
use super::{Access, FileId, FileSystem, Meta, RawFile};
use crate::sync::{AtomicU64, IndexWord, Ordering, Released, forget_loads, switch};
use shuttle::rand::Rng as _;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::SystemTime;

// All threads of an execution are tasks on one thread of the system.
thread_local! {
    static DISK: RefCell<Option<Arc<Disk>>> = const { RefCell::new(None) };
    static NUMBER: Cell<u64> = const { Cell::new(0) };
    static FAIL_INDEX_SYNC: Cell<bool> = const { Cell::new(false) };
}

/// Begins with an empty file system; a model's first step.
pub(crate) fn format() {
    FAIL_INDEX_SYNC.set(false);
    NUMBER.set(0);
    forget_loads();
    let root = Node::new(Kind::Directory);
    let disk = Disk {
        names: Mutex::new(BTreeMap::from([(PathBuf::from("/"), root)])),
        order: AtomicU64::new(0),
    };
    DISK.set(Some(Arc::new(disk)));
}

/// Makes the next sync of a file named `index` fail: whoever asked for it writes the table anew and
/// puts it in the place of the old one, as one does who makes it grow.
pub(crate) fn fail_next_index_sync() {
    FAIL_INDEX_SYNC.set(true);
}

fn number() -> u64 {
    NUMBER.set(NUMBER.get() + 1);
    NUMBER.get()
}

/// A system call: another thread may run first, and it comes after all calls on `order` before it.
fn step(order: &AtomicU64) {
    order.fetch_add(1, Ordering::SeqCst);
}

/// Something that this thread does and nobody knows of yet; and what it had done before.
fn private_step() -> Released {
    let released = Arc::new(AtomicU64::new(0));
    step(&released);
    released
}

fn shuffle<T>(all: &mut [T]) {
    for i in (1..all.len()).rev() {
        all.swap(i, shuttle::rand::thread_rng().gen_range(0..=i));
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(|e| e.into_inner())
}

#[derive(Debug)]
struct Disk {
    names: Mutex<BTreeMap<PathBuf, Arc<Node>>>,
    order: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// An inode.
#[derive(Debug)]
pub(crate) struct Node {
    inode: u64,
    kind: Kind,
    order: AtomicU64,
    state: Mutex<State>,
    words: OnceLock<Box<[IndexWord]>>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// What `fstat` tells: `bytes` may be ahead of it.
    len: usize,
    links: u64,
    locked_by: Option<u64>,
}

impl Node {
    fn new(kind: Kind) -> Arc<Self> {
        Arc::new(Self {
            inode: number(),
            kind,
            order: AtomicU64::new(0),
            state: Mutex::new(State {
                links: 1,
                ..State::default()
            }),
            words: OnceLock::new(),
        })
    }

    fn meta(&self) -> Meta {
        let state = held(&self.state);
        Meta {
            id: FileId {
                device: 1,
                inode: self.inode,
                len: state.len as u64,
            },
            links: state.links,
            is_file: self.kind == Kind::File,
            is_dir: self.kind == Kind::Directory,
            // No folder of a model is older than the model; files may be taken for left over.
            modified: Some(match self.kind {
                Kind::Directory => SystemTime::now(),
                Kind::File => SystemTime::UNIX_EPOCH,
            }),
            changed: None,
        }
    }

    pub(super) fn copy(&self, at: usize, buf: &mut [u8]) -> bool {
        let state = held(&self.state);
        let found = state.bytes.get(at..at + buf.len());
        found.map(|found| buf.copy_from_slice(found)).is_some()
    }

    pub(super) fn words(&self) -> &[IndexWord] {
        self.words.get_or_init(|| {
            let state = held(&self.state);
            let words = crate::hex::native_words(&state.bytes);
            words.map(IndexWord::new).collect()
        })
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        let mut state = held(&self.state);
        let end = at + bytes.len();
        if state.bytes.len() < end {
            state.bytes.resize(end, 0);
        }
        state.bytes[at..end].copy_from_slice(bytes);
    }

    /// Stores the words that a write touches, in any order.
    fn write_words(&self, words: &[IndexWord], (at, bytes): (usize, &[u8]), released: &Released) {
        let mut touched: Vec<usize> = (at / 8..(at + bytes.len()).div_ceil(8)).collect();
        let mut random = shuttle::rand::thread_rng();
        shuffle(&mut touched);
        for i in touched {
            let (from, to) = (at.max(i * 8), (at + bytes.len()).min(i * 8 + 8));
            let mut word = words[i].newest().to_ne_bytes();
            let new = &bytes[from - at..to - at];
            let part = random.gen_range(0..8 * new.len());
            if part < new.len() {
                // Its first bytes only, at first.
                word[from - i * 8..][..part].copy_from_slice(&new[..part]);
                words[i].store(u64::from_ne_bytes(word), released);
                self.put(i * 8, &word);
                switch();
            }
            word[from - i * 8..][..new.len()].copy_from_slice(new);
            words[i].store(u64::from_ne_bytes(word), released);
            self.put(i * 8, &word);
            switch();
        }
    }
}

/// An open file.
#[derive(Debug)]
struct Open {
    node: Arc<Node>,
    handle: u64,
    path: PathBuf,
}

impl Drop for Open {
    fn drop(&mut self) {
        if held(&self.node.state).locked_by == Some(self.handle) {
            if !std::thread::panicking() {
                step(&self.node.order);
            }
            held(&self.node.state).locked_by = None;
        }
    }
}

impl RawFile for Open {
    fn meta(&self) -> io::Result<Meta> {
        step(&self.node.order);
        Ok(self.node.meta())
    }

    fn stat_below(&self, name: &OsStr) -> io::Result<Meta> {
        let disk = disk();
        step(&disk.order);
        let names = held(&disk.names);
        let mut all = names.iter();
        let own = all.find(|(_, node)| Arc::ptr_eq(node, &self.node));
        let found = own.and_then(|(path, _)| names.get(&path.join(name)));
        found.map(|node| node.meta()).ok_or_else(not_found)
    }

    fn is_trusted_dir(&self, name: &OsStr) -> bool {
        self.stat_below(name).is_ok_and(|meta| meta.is_dir)
    }

    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        step(&self.node.order);
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if at.saturating_add(buf.len()) > held(&self.node.state).len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let middle = buf.len() / 2;
        let (front, back) = buf.split_at_mut(middle);
        self.node.copy(at, front);
        switch();
        self.node.copy(at + middle, back);
        Ok(middle + back.len())
    }

    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        // Nobody who was told of what came before knows of this.
        let released = private_step();
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut random = shuttle::rand::thread_rng();
        if let Some(words) = self.node.words.get() {
            self.node.write_words(words, (at, buf), &released);
        } else {
            let middle = random.gen_range(0..=buf.len());
            let (front, back) = buf.split_at(middle);
            let mut parts = [(at, front), (at + middle, back)];
            shuffle(&mut parts);
            for (at, part) in parts {
                self.node.put(at, part);
                switch();
            }
        }
        step(&self.node.order);
        let mut state = held(&self.node.state);
        state.len = state.len.max(at + buf.len());
        Ok(buf.len())
    }

    fn sync(&self) -> io::Result<()> {
        step(&self.node.order);
        let is_index = self.path.ends_with("index") || self.node.words.get().is_some();
        if is_index && FAIL_INDEX_SYNC.take() {
            return Err(io::ErrorKind::Other.into());
        }
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        step(&self.node.order);
        let mut state = held(&self.node.state);
        let holder = *state.locked_by.get_or_insert(self.handle);
        Ok(holder == self.handle)
    }

    fn unlock(&self) -> io::Result<()> {
        step(&self.node.order);
        let mut state = held(&self.node.state);
        if state.locked_by == Some(self.handle) {
            state.locked_by = None;
        }
        Ok(())
    }

    fn map_shared(&self, len: usize) -> io::Result<SharedMap> {
        step(&self.node.order);
        let node = Arc::clone(&self.node);
        if len == held(&node.state).len {
            node.words();
        }
        Ok(SharedMap { node, len })
    }

    fn map_object(&self, len: usize) -> io::Result<ObjectMap> {
        step(&self.node.order);
        Ok(ObjectMap(held(&self.node.state).bytes[..len].to_vec()))
    }
}

/// What the library takes for the real file system.
#[derive(Debug)]
pub(crate) struct RealFs;

impl RealFs {
    #[cfg(test)]
    pub(crate) const UNCHECKED: Self = Self;

    pub(crate) fn new(_: super::trust::Trust) -> Self {
        Self
    }

    /// A model writes nothing through it: there is nothing to refuse.
    pub(crate) fn read_only(_: super::trust::Trust) -> Self {
        Self
    }
}

fn disk() -> Arc<Disk> {
    let disk = DISK.with_borrow(Option::clone);
    disk.unwrap_or_else(|| panic!("a model formats the disk first"))
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

type Names = BTreeMap<PathBuf, Arc<Node>>;

fn on_names<R>(run: impl FnOnce(&mut Names) -> R) -> R {
    let disk = disk();
    step(&disk.order);
    run(&mut held(&disk.names))
}

/// Where a new name may be made.
fn has_parent(names: &Names, path: &Path) -> bool {
    let parent = path.parent().and_then(|parent| names.get(parent));
    parent.is_some_and(|parent| parent.kind == Kind::Directory)
}

/// Takes `path`, and what is below it, out of the names.
fn take(names: &mut Names, path: &Path) -> Vec<(PathBuf, Arc<Node>)> {
    let all: Vec<PathBuf> = names
        .keys()
        .filter(|name| name.starts_with(path))
        .cloned()
        .collect();
    all.into_iter()
        .filter_map(|name| names.remove_entry(&name))
        .collect()
}

fn unlink(nodes: Vec<(PathBuf, Arc<Node>)>) -> io::Result<()> {
    let were_there = !nodes.is_empty();
    for (_, node) in nodes {
        held(&node.state).links = 0;
    }
    were_there.then_some(()).ok_or_else(not_found)
}

fn rename(names: &mut Names, from: &Path, to: &Path) -> io::Result<()> {
    if !names.contains_key(from) || !has_parent(names, to) {
        return Err(not_found());
    }
    if let Some(old) = names.get(to) {
        if old.kind == Kind::Directory {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        held(&old.state).links = 0;
    }
    for (path, node) in take(names, from) {
        let below = path.strip_prefix(from).unwrap_or(Path::new(""));
        let path = if below.as_os_str().is_empty() {
            to.to_path_buf()
        } else {
            to.join(below)
        };
        names.insert(path, node);
    }
    Ok(())
}

impl FileSystem for RealFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn RawFile>> {
        let node = on_names(|names| {
            let creates = !matches!(access, Access::Read | Access::Write);
            let must_be_new = matches!(access, Access::CreateNew | Access::CreateReadOnly);
            match names.get(path) {
                Some(_) if must_be_new => Err(io::ErrorKind::AlreadyExists.into()),
                Some(node) if node.kind == Kind::Directory => {
                    Err(io::ErrorKind::InvalidInput.into())
                }
                Some(node) => Ok(Arc::clone(node)),
                None if creates && has_parent(names, path) => {
                    let node = Node::new(Kind::File);
                    names.insert(path.to_path_buf(), Arc::clone(&node));
                    Ok(node)
                }
                None => Err(not_found()),
            }
        })?;
        Ok(Arc::new(Open {
            node,
            handle: number(),
            path: path.to_path_buf(),
        }))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn RawFile>> {
        let node = on_names(|names| names.get(path).cloned()).ok_or_else(not_found)?;
        Ok(Arc::new(Open {
            node,
            handle: number(),
            path: path.to_path_buf(),
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        on_names(|names| match names.get(path) {
            Some(node) if node.kind == Kind::Directory => Ok(()),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
            None if has_parent(names, path) => {
                names.insert(path.to_path_buf(), Node::new(Kind::Directory));
                Ok(())
            }
            None => Err(not_found()),
        })
    }

    fn stat(&self, path: &Path) -> io::Result<Meta> {
        on_names(|names| names.get(path).map(|node| node.meta())).ok_or_else(not_found)
    }

    fn glance(&self, path: &Path) -> io::Result<Meta> {
        self.stat(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        on_names(|names| {
            if !names.contains_key(path) {
                return Err(not_found());
            }
            let below = names.keys().filter(|name| name.parent() == Some(path));
            Ok(below
                .filter_map(|name| name.file_name())
                .map(OsStr::to_os_string)
                .collect())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        on_names(|names| rename(names, from, to))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<bool> {
        on_names(|names| {
            if names.contains_key(to) {
                return Ok(false);
            }
            rename(names, from, to).map(|()| true)
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        on_names(|names| unlink(names.remove_entry(path).into_iter().collect()))
    }

    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        on_names(|names| unlink(take(names, path)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        on_names(|names| names.contains_key(path).then_some(()).ok_or_else(not_found))
    }
}
