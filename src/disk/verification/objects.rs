//! Every object: is it what its name says, and does anybody need it?

use super::{Fault, Walk};
use crate::digest::Digest;
use crate::disk::counters::Counters;
use crate::disk::envelope::{KeyId, Kind};
use crate::disk::evict::ORPHAN_AGE;
use crate::disk::header::{Field, REBUILDING};
use crate::disk::index::Index;
use crate::disk::inner::Inner;
use crate::disk::layout::Layout;
use crate::disk::lookup::Binding;
use crate::disk::object::{self, Seen};
use crate::error::Result;
use crate::sys::Meta;
use std::ffi::OsStr;
use std::io;
use std::time::SystemTime;

/// An object that changes under the walk is looked at this often.
const LOOKS: usize = 4;

impl Walk<'_> {
    /// Hashes every object.
    pub(super) fn objects(&mut self) -> Result<()> {
        let folder = self.inner.files.layout.objects();
        let keys = self.inner.all_key_ids().map_err(|e| self.error(e))?;
        for dir in self.names(&folder)? {
            let path = folder.join(&dir);
            if !Layout::is_object_dir(&dir) {
                self.find(Fault::Foreign, None, path, false);
                continue;
            }
            for name in self.names(&path)? {
                self.named_object(&dir, &name, &keys)?;
                if self.report.cancelled {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn named_object(&mut self, dir: &OsStr, name: &OsStr, keys: &[KeyId]) -> Result<()> {
        let Some(digest) = Layout::object_digest(dir, name) else {
            let path = self.inner.files.layout.objects().join(dir).join(name);
            self.find(Fault::Foreign, None, path, false);
            return Ok(());
        };
        let path = self.inner.files.layout.object(&digest);
        let mut last: Option<Meta> = None;
        for _ in 0..LOOKS {
            let mut cancelled = false;
            let seen = object::examine(&self.inner.files, &digest, |bytes| {
                cancelled = !self.advance(bytes);
                !cancelled
            });
            if cancelled {
                return Ok(());
            }
            match seen {
                Err(_) => {
                    self.find(Fault::Unreadable, None, path, false);
                    return Ok(());
                }
                Ok(Seen::Gone) => return Ok(()),
                Ok(Seen::Whole(length)) => {
                    self.report.bytes = self.report.bytes.saturating_add(length);
                    return self.orphan(&digest, keys);
                }
                // Another one took its place since the last look: that one counts.
                Ok(Seen::Damaged(meta)) if last.is_none_or(|last| !last.is_unchanged(&meta)) => {
                    last = Some(meta);
                }
                Ok(Seen::Damaged(meta)) => return self.damaged_object(&digest, &meta),
            }
        }
        Ok(())
    }

    fn damaged_object(&mut self, digest: &Digest, meta: &Meta) -> Result<()> {
        let path = self.inner.files.layout.object(digest);
        let index = self.inner.live_index();
        let users = self
            .inner
            .users_of_object(&index, digest)
            .map_err(|e| self.error(e))?;
        let repaired = self.repair && self.inner.retire_object(digest, meta)?;
        if users.is_empty() {
            self.find(Fault::Damaged, None, path, repaired);
            return Ok(());
        }
        for user in users {
            self.find(
                Fault::Damaged,
                Some(user.envelope.key),
                path.clone(),
                repaired,
            );
        }
        Ok(())
    }

    fn orphan(&mut self, digest: &Digest, keys: &[KeyId]) -> Result<()> {
        if !self.is_orphan(digest, keys).map_err(|e| self.error(e))? {
            return Ok(());
        }
        let locked = self.settle();
        // Somebody may have brought another secret meanwhile.
        let keys = self.inner.all_key_ids().map_err(|e| self.error(e))?;
        let is_still = self.is_orphan(digest, &keys).map_err(|e| self.error(e))?;
        if !is_still || self.inner.refresh().has_flag(REBUILDING) {
            return Ok(());
        }
        let mut repaired = false;
        if let (true, Some(_)) = (self.repair, &locked) {
            repaired = object::unlink(&self.inner.files, digest).map_err(|e| self.error(e))?;
        }
        drop(locked);
        let path = self.inner.files.layout.object(digest);
        self.find(Fault::Orphan, None, path, repaired);
        Ok(())
    }

    /// Whether nothing names an object, and nobody can be about to.
    fn is_orphan(&self, digest: &Digest, keys: &[KeyId]) -> io::Result<bool> {
        let index = self.inner.index();
        if Inner::is_object_named(&index, digest, keys)? {
            return Ok(false);
        }
        let meta = self
            .inner
            .files
            .fs
            .stat(&self.inner.files.layout.object(digest));
        let modified = meta.ok().and_then(|meta| meta.modified);
        let age = modified.and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_none_or(|age| age <= ORPHAN_AGE) {
            return Ok(false);
        }
        let tags = Inner::tags_of_keys(&index)?;
        Ok(!Inner::is_object_among(&index, digest, keys, &tags))
    }
}

impl Inner {
    /// The bindings of ours to an object; the same bytes may also be stored inline, and whole.
    pub(in crate::disk) fn users_of_object(
        &self,
        index: &Index,
        digest: &Digest,
    ) -> io::Result<Vec<Binding>> {
        let mut users = self.users(index, digest)?;
        users.retain(|user| user.envelope.kind == Kind::Object);
        Ok(users)
    }

    /// Unbinds what is bound to a damaged object and unlinks it, if it is still the file that was
    /// seen; tells whether it was.
    fn retire_object(&self, digest: &Digest, seen: &Meta) -> Result<bool> {
        let io = |e| self.error("retire a damaged artifact", e);
        let locked = self.locked()?;
        match self.files.fs.stat(&self.files.layout.object(digest)) {
            Ok(now) if now.is_unchanged(seen) => {}
            _ => return Ok(false),
        }
        Counters::add(&self.counters.corrupt, 1);
        crate::events::corrupt(&self.files.layout.object(digest), "content");
        let index = &locked.index;
        index.add(Field::Corrupt, 1).map_err(io)?;
        self.drop_object(index, digest).map_err(io)?;
        let content = self.content(index, digest).map_err(io)?;
        if let Some(content) = content.filter(|content| content.slot.content == 1) {
            index.vacate(content.at, &content.slot, false).map_err(io)?;
            let freed = content.slot.allocated.bytes();
            index.subtract(Field::DiskBytes, freed).map_err(io)?;
        }
        object::unlink(&self.files, digest).map_err(io)
    }
}
