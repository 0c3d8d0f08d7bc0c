//! The lease of a build: of all processes that miss a key, one builds it.
//!
//! A file in `builds/` whose lock shows that somebody builds the key. The kernel gives it up when
//! its holder dies, so no lease is ever judged by its age. Whoever is done unlinks the file and
//! then gives the lock up; so who gets a lock compares what is locked with what is at the path.
//! Leases save work and decide nothing: where none can be had, who asked just builds.
//!
//! # Builds that wait for one another
//!
//! A builder may ask for other keys. While it does, the lease of the innermost build of its thread
//! carries a *mark*: the key that is asked for. Following the marks from a wanted key, from file to
//! file, leads through processes and threads to whatever that build waits for in the end. Where it
//! leads round in a circle, waiting would only end with the bound: then who wanted the key builds
//! it. A mark is a hint. One that is late, torn, old or forged costs a second build, or a wait up
//! to the bound.

use super::inner::Inner;
use super::layout::Layout;
use super::pack::{Files, is_absent};
use super::put::into_io;
use super::right::make_way;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::sync::Arc;
use crate::sys::{Access, FileSystem, RawFile};
use std::cell::RefCell;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files are found unlinked or replaced so often in a row before the lease counts as taken.
const TRIES: usize = 8;
/// A chain of marks that is longer than this counts as a circle.
const LONGEST_CHAIN: usize = 32;
/// A sweep leaves younger files alone: somebody may have opened one and be about to lock it.
const GRACE: Duration = Duration::from_secs(60);
/// A mark: whether there is one, and the key.
const MARK: usize = 33;

/// A wish to build a key, made known again and again until it is granted.
#[derive(Debug)]
pub(crate) struct LeaseRequest<'a> {
    inner: &'a Inner,
    key: Fingerprint,
    path: PathBuf,
    /// The file that somebody else had locked.
    busy: Option<Arc<dyn RawFile>>,
}

/// The right to build a key. Given up when dropped, which takes a few system calls.
#[derive(Debug)]
pub(crate) struct BuildLease {
    file: Arc<dyn RawFile>,
    path: PathBuf,
    fs: Arc<dyn FileSystem>,
    process: u32,
}

impl<'a> LeaseRequest<'a> {
    pub(super) fn new(inner: &'a Inner, key: &Fingerprint) -> Self {
        Self {
            inner,
            key: *key,
            path: inner.files.layout.build_lease(key),
            busy: None,
        }
    }

    /// The lease, or `None` while somebody else has it. Never waits.
    pub(crate) fn poll(&mut self) -> Result<Option<BuildLease>> {
        self.try_take()
            .map_err(|e| Error::io("take the lease of a build", &self.path, e))
    }

    fn try_take(&mut self) -> io::Result<Option<BuildLease>> {
        let fs = &self.inner.files.fs;
        for _ in 0..TRIES {
            let file = match self.busy.take() {
                Some(file) => file,
                None => self.open()?,
            };
            if !file.try_lock()? {
                self.busy = Some(file);
                break;
            }
            let locked = file.meta()?;
            let named = match fs.stat(&self.path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                named => named?,
            };
            if locked.same_file(&named) && locked.links > 1 {
                // Somebody's file under another name: nothing is written into it.
                fs.remove_file(&self.path)?;
            } else if locked.same_file(&named) {
                if locked.id.len > 0 {
                    // The mark of somebody who was killed. If it stays, so be it.
                    write_mark(&*file, None).ok();
                }
                return Ok(Some(BuildLease {
                    file,
                    path: self.path.clone(),
                    fs: Arc::clone(fs),
                    process: std::process::id(),
                }));
            }
        }
        Ok(None)
    }

    fn open(&self) -> io::Result<Arc<dyn RawFile>> {
        let files = &self.inner.files;
        let open = || files.fs.open(&self.path, Access::Create);
        match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // Somebody deleted the folder, or all of the directory. Of folders that others put into
                // they have to know that they are new.
                match files.fs.create_dir(&files.layout.builds()) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {
                        self.inner.heal_directories().map_err(into_io)?;
                    }
                    done => done?,
                }
                open()
            }
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::PermissionDenied => {
                // What is no file makes way, and what a member of the group left without its mode.
                make_way(files, &self.path)?;
                open()
            }
            file => file,
        }
    }

    /// Whether who has the lease waits, through however many others, for something that is waited
    /// for already: it, or who waits for it, will not come to an end.
    pub(crate) fn is_in_a_circle(&self) -> bool {
        let Some(file) = &self.busy else {
            return false;
        };
        let files = &self.inner.files;
        let mut next = read_mark(&**file);
        for _ in 0..LONGEST_CHAIN {
            let Some(key) = next else { return false };
            if key == self.key {
                return true;
            }
            let path = files.layout.build_lease(&key);
            let file = files.fs.open(&path, Access::Read);
            next = file.ok().and_then(|file| read_mark(&*file));
        }
        true
    }
}

impl Drop for BuildLease {
    fn drop(&mut self) {
        // A forked child shares the lock, and the file is its parent's.
        if std::process::id() != self.process {
            return;
        }
        // Somebody may have deleted the file, and another one taken its place. What cannot be
        // unlinked stays for the next holder, or for a sweep.
        if let Ok(held) = self.file.meta() {
            let named = self.fs.stat(&self.path);
            if named.is_ok_and(|named| held.same_file(&named)) {
                self.fs.remove_file(&self.path).ok();
            }
        }
        // Closing the file would not do it where a forked child has it open too.
        self.file.unlock().ok();
    }
}

thread_local! {
    /// The leases under which this thread builds, the innermost last.
    static BUILDING: RefCell<Vec<(u32, Arc<dyn RawFile>)>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, its thread builds under a lease. Stays on that thread.
#[derive(Debug)]
#[must_use = "the thread counts as building until this is dropped"]
pub(crate) struct Building<'a>(PhantomData<(&'a BuildLease, *const ())>);

impl BuildLease {
    /// Tells that this thread runs the builder now.
    pub(crate) fn build(&self) -> Building<'_> {
        // A thread that is ending has no locals any more: its marks are missing then.
        let _ = BUILDING.try_with(|building| {
            let entry = (self.process, Arc::clone(&self.file));
            building.borrow_mut().push(entry);
        });
        Building(PhantomData)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        let _ = BUILDING.try_with(|building| building.borrow_mut().pop());
    }
}

/// While it lives, the build that its thread was in carries a mark.
#[derive(Debug)]
#[must_use = "the mark is taken off when this is dropped"]
pub(crate) struct Marked(Option<Arc<dyn RawFile>>);

/// Marks the innermost build of this thread, if there is one: it asks for `key`.
pub(crate) fn mark(key: &Fingerprint) -> Marked {
    let innermost = BUILDING.try_with(|building| building.borrow().last().cloned());
    let own = |(process, file)| (process == std::process::id()).then_some(file);
    let file: Option<Arc<dyn RawFile>> = innermost.ok().flatten().and_then(own);
    if let Some(file) = &file {
        // A full disk: then a circle ends with the bound.
        write_mark(&**file, Some(key)).ok();
    }
    Marked(file)
}

impl Drop for Marked {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            write_mark(&**file, None).ok();
        }
    }
}

fn write_mark(file: &dyn RawFile, key: Option<&Fingerprint>) -> io::Result<()> {
    let mut mark = [0; MARK];
    if let Some(key) = key {
        mark[0] = 1;
        mark[1..].copy_from_slice(key.as_bytes());
    }
    file.write_at(&mark, 0)
}

/// `None` also where locks are mandatory (Windows) and keep others from reading.
fn read_mark(file: &dyn RawFile) -> Option<Fingerprint> {
    let mut mark = [0; MARK];
    file.read_at(&mut mark, 0).ok()?;
    let key = mark[1..].try_into().ok()?;
    (mark[0] == 1).then(|| Fingerprint::from_bytes(key))
}

/// Removes the leases of processes that died. Best effort.
pub(super) fn sweep(files: &Files) {
    let folder = files.layout.builds();
    for name in files.fs.read_dir(&folder).unwrap_or_default() {
        if Layout::is_build_lease(&name) {
            remove_if_left(files, &folder.join(name)).ok();
        }
    }
}

fn remove_if_left(files: &Files, path: &Path) -> io::Result<()> {
    let found = files.fs.stat(path)?;
    let age = found
        .modified
        .and_then(|at| SystemTime::now().duration_since(at).ok());
    if !found.is_file || age.is_none_or(|age| age < GRACE) {
        return Ok(());
    }
    let file = files.fs.open(path, Access::Write)?;
    if !file.try_lock()? {
        return Ok(());
    }
    if file.meta()?.same_file(&files.fs.stat(path)?) {
        files.fs.remove_file(path)?;
    }
    file.unlock()
}

// Miri knows no `openat2`.
#[cfg(test)]
#[cfg(not(miri))]
mod tests {
    use super::*;
    use crate::disk::DiskStore;
    use crate::sys::fault::{FaultFs, Plan};
    use crate::sys::real::RealFs;

    const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const OTHER: Fingerprint = Fingerprint::from_bytes([2; 32]);

    fn open(dir: &tempfile::TempDir, fs: Arc<dyn FileSystem>) -> DiskStore {
        let root = dir.path().canonicalize().unwrap();
        DiskStore::builder().open_with(root, fs).unwrap()
    }

    fn here() -> (tempfile::TempDir, DiskStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, Arc::new(RealFs::UNCHECKED));
        (dir, store)
    }

    fn take(store: &DiskStore, key: &Fingerprint) -> Option<BuildLease> {
        store.request_build(key).unwrap().poll().unwrap()
    }

    #[test]
    fn a_lease_is_had_by_one_at_a_time_and_leaves_no_file() {
        let (dir, store) = here();
        let other = open(&dir, Arc::new(RealFs::UNCHECKED));
        let lease = take(&store, &KEY).unwrap();
        assert!(lease.path.exists());
        assert!(take(&store, &OTHER).is_some(), "of another key");
        let mut waiting = other.request_build(&KEY).unwrap();
        assert!(waiting.poll().unwrap().is_none());
        assert!(waiting.poll().unwrap().is_none());
        drop(lease);
        let lease = waiting.poll().unwrap().unwrap();
        assert!(lease.path.exists(), "what it locked has a name");
        assert!(take(&store, &KEY).is_none());
        drop(lease);
        let left = store
            .inner
            .files
            .fs
            .read_dir(&store.inner.files.layout.builds());
        assert!(
            left.unwrap()
                .iter()
                .all(|name| !Layout::is_build_lease(name))
        );
    }

    #[test]
    fn a_lease_whose_file_was_replaced_leaves_the_new_one_alone() {
        let (_dir, store) = here();
        let first = take(&store, &KEY).unwrap();
        std::fs::remove_file(&first.path).unwrap();
        let second = take(&store, &KEY).unwrap();
        drop(first);
        assert!(second.path.exists());
        assert!(take(&store, &KEY).is_none());
    }

    #[test]
    fn a_forked_child_neither_asks_for_leases_nor_gives_up_those_of_its_parent() {
        let (_dir, store) = here();
        let mut lease = take(&store, &KEY).unwrap();
        let (path, parent) = (lease.path.clone(), Arc::clone(&lease.file));
        let building = lease.build();
        drop(mark(&OTHER));
        assert_eq!(lease.file.meta().unwrap().id.len, MARK as u64);
        drop(building);
        lease.process = lease.process.wrapping_add(1);
        let building = lease.build();
        let marked = mark(&OTHER);
        assert_eq!(read_mark(&*parent), None, "written by a child");
        drop(marked);
        drop(building);
        drop(lease);
        assert!(path.exists());
        assert!(take(&store, &KEY).is_none(), "unlocked by a child");
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_has_another_name_is_not_written_to() {
        let (dir, store) = here();
        let (file, path) = (
            dir.path().join("file"),
            store.inner.files.layout.build_lease(&KEY),
        );
        for content in ["", "somebody's"] {
            std::fs::write(&file, content).unwrap();
            std::fs::hard_link(&file, &path).unwrap();
            let lease = take(&store, &KEY).unwrap();
            let building = lease.build();
            drop(mark(&OTHER));
            drop(building);
            drop(lease);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), content);
            assert!(!path.exists());
        }
    }

    #[test]
    fn marks_tell_of_circles_and_of_nothing_else() {
        let (_dir, store) = here();
        let keys: Vec<_> = (10..14).map(|n| Fingerprint::from_bytes([n; 32])).collect();
        let held: Vec<_> = keys.iter().map(|key| take(&store, key).unwrap()).collect();
        let is_in_a_circle = |key| {
            let mut request = store.request_build(key).unwrap();
            assert!(request.poll().unwrap().is_none());
            request.is_in_a_circle()
        };
        let wait = |n: usize, for_key| write_mark(&*held[n].file, for_key).unwrap();
        assert!(!is_in_a_circle(&keys[0]));
        for n in 0..3 {
            wait(n, Some(&keys[n + 1]));
        }
        assert!(keys.iter().all(|key| !is_in_a_circle(key)));
        wait(3, Some(&OTHER));
        assert!(!is_in_a_circle(&keys[0]), "nobody builds that");
        wait(3, Some(&keys[1]));
        assert!(is_in_a_circle(&keys[1]) && is_in_a_circle(&keys[3]));
        assert!(
            is_in_a_circle(&keys[0]),
            "it waits for who waits in a circle"
        );
        wait(3, None);
        assert!(keys.iter().all(|key| !is_in_a_circle(key)));
        // What is no mark.
        held[3].file.write_at(&[7; MARK], 0).unwrap();
        assert!(!is_in_a_circle(&keys[0]));
    }

    #[test]
    fn a_builder_inside_a_builder_is_marked_one_by_one() {
        let (_dir, store) = here();
        let (outer, inner) = (take(&store, &KEY).unwrap(), take(&store, &OTHER).unwrap());
        drop(mark(&KEY));
        assert_eq!(outer.file.meta().unwrap().id.len, 0, "nobody builds here");
        let outer_builds = outer.build();
        let asks = mark(&OTHER);
        assert_eq!(read_mark(&*outer.file), Some(OTHER));
        {
            let _inner_builds = inner.build();
            let _asks = mark(&KEY);
            assert_eq!(read_mark(&*inner.file), Some(KEY));
            assert_eq!(read_mark(&*outer.file), Some(OTHER));
        }
        assert_eq!(read_mark(&*inner.file), None);
        drop(asks);
        assert_eq!(read_mark(&*outer.file), None);
        drop(outer_builds);
        drop(mark(&KEY));
        assert_eq!(read_mark(&*outer.file), None);
    }

    /// Whichever call fails, the answer is a lease, none, or an error, and all is well afterwards.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_failing_call_costs_a_lease_at_most() {
        use rustix::io::Errno;
        let dir = tempfile::tempdir().unwrap();
        let plan = Arc::new(Plan::default());
        let store = open(&dir, Arc::new(FaultFs::real(&plan)));
        let mut failures = 0;
        for errno in [
            Errno::MFILE,
            Errno::ACCESS,
            Errno::NOENT,
            Errno::IO,
            Errno::NOTDIR,
        ] {
            for n in 1..24 {
                for lasting in [false, true] {
                    let held = (n % 2 == 0).then(|| take(&store, &KEY).unwrap());
                    plan.fail(n, lasting, errno.raw_os_error());
                    let mut request = store.request_build(&KEY).unwrap();
                    let polled = request.poll();
                    request.is_in_a_circle();
                    if held.is_some() {
                        assert!(!matches!(polled, Ok(Some(_))), "two have it");
                    }
                    drop(request);
                    drop(polled);
                    drop(held);
                    sweep(&store.inner.files);
                    failures += plan.stop();
                    assert!(take(&store, &KEY).is_some(), "{errno} {n} {lasting}");
                }
            }
        }
        assert!(failures > 50, "{failures}");
    }
}
