//! A file system that notes every call which changes something, or locks.

use super::mapping::{ObjectMap, SharedMap};
use super::real::RealFs;
use super::{Access, FileSystem, Meta, RawFile};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What was called, in order.
pub(crate) type Notes = Arc<Mutex<Vec<String>>>;

/// The file system: the real one, which would do what it is asked to.
#[derive(Debug)]
pub(crate) struct SpyFs(pub(crate) RealFs, pub(crate) Notes);

#[derive(Debug)]
struct SpyFile(Arc<dyn RawFile>, Notes);

fn note(notes: &Notes, call: &str, path: &Path) {
    let call = format!("{call} {}", path.display());
    notes.lock().unwrap().push(call);
}

impl SpyFile {
    fn note(&self, call: &str) {
        note(&self.1, call, Path::new("of an open file"));
    }
}

impl RawFile for SpyFile {
    fn meta(&self) -> io::Result<Meta> {
        self.0.meta()
    }
    fn stat_below(&self, name: &OsStr) -> io::Result<Meta> {
        self.0.stat_below(name)
    }
    fn links(&self) -> io::Result<u64> {
        self.0.links()
    }
    fn is_trusted_dir(&self, name: &OsStr) -> bool {
        self.0.is_trusted_dir(name)
    }
    fn read_some(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_some(buf, offset)
    }
    fn write_some(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.note("write");
        self.0.write_some(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.note("sync");
        self.0.sync()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.note("lock");
        self.0.try_lock()
    }
    fn unlock(&self) -> io::Result<()> {
        self.note("unlock");
        self.0.unlock()
    }
    fn map_shared(&self, len: usize) -> io::Result<SharedMap> {
        self.0.map_shared(len)
    }
    fn map_object(&self, len: usize) -> io::Result<ObjectMap> {
        self.0.map_object(len)
    }
}

impl SpyFs {
    fn wrap(&self, file: Arc<dyn RawFile>) -> Arc<dyn RawFile> {
        Arc::new(SpyFile(file, Arc::clone(&self.1)))
    }
}

impl FileSystem for SpyFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn RawFile>> {
        if access != Access::Read {
            note(&self.1, "open for writing", path);
        }
        self.0.open(path, access).map(|file| self.wrap(file))
    }
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn RawFile>> {
        self.0.open_dir(path).map(|file| self.wrap(file))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        note(&self.1, "create", path);
        self.0.create_dir(path)
    }
    fn stat(&self, path: &Path) -> io::Result<Meta> {
        self.0.stat(path)
    }
    fn glance(&self, path: &Path) -> io::Result<Meta> {
        self.0.glance(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.0.read_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        note(&self.1, "rename", from);
        self.0.rename(from, to)
    }
    fn rename_no_replace(&self, from: &Path, to: &Path) -> io::Result<bool> {
        note(&self.1, "rename", from);
        self.0.rename_no_replace(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        note(&self.1, "remove", path);
        self.0.remove_file(path)
    }
    fn remove_tree(&self, path: &Path) -> io::Result<()> {
        note(&self.1, "remove", path);
        self.0.remove_tree(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        note(&self.1, "sync", path);
        self.0.sync_dir(path)
    }
}
