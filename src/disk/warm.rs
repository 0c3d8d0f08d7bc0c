//! Reading what was used last, for a tier above that wants it before it is asked: verified as a get
//! does, and neither counted nor used.

use super::DiskStore;
use super::envelope::Kind;
use super::inner::Inner;
use super::lookup::Content;
use super::slot::{Place, SlotKind};
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::store::Entry;

/// Where a binding was when the table was looked through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recent(Place);

/// What is found under a key when nobody asks for it.
#[derive(Debug)]
pub(crate) enum Quiet {
    Entry(Entry),
    /// Nothing, or what is too old.
    Nothing,
    /// Found damaged, and put aside.
    Damaged,
}

impl DiskStore {
    /// The bindings of the directory, those used last first.
    pub(crate) fn most_recent(&self) -> Result<Vec<Recent>> {
        let io = |e| self.inner.error("look for what was used last", e);
        // A hint as well; who may not write goes by what others wrote.
        self.inner.write_touches().ok();
        let mut found = Vec::new();
        let index = self.inner.live_index();
        index
            .for_each(|_, slot| {
                if slot.kind == SlotKind::Key && slot.content != 0 {
                    found.push((slot.last_use, slot.place));
                }
            })
            .map_err(io)?;
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found.into_iter().map(|(_, place)| Recent(place)).collect())
    }

    /// The key and the length of a binding; `None` if it is gone or too old.
    pub(crate) fn peek(&self, at: Recent) -> Result<Option<(Fingerprint, u64)>> {
        let found = self.inner.envelope(at.0);
        let found = found.map_err(|e| self.inner.error("look at an entry", e))?;
        let Some((_, envelope, true)) = found else {
            return Ok(None);
        };
        let is_any = envelope.kind != Kind::Namespace && !self.inner.is_expired(&envelope);
        Ok(is_any.then_some((envelope.key, envelope.length)))
    }

    /// The entry under a key, verified; this counts as no lookup and as no use.
    pub(crate) fn load_quietly(&self, key: &Fingerprint) -> Result<Quiet> {
        self.inner.load_quietly(key)
    }
}

impl Inner {
    fn load_quietly(&self, key: &Fingerprint) -> Result<Quiet> {
        let io = |e| self.error("load an entry", e);
        let index = self.live_index();
        let found = self.settled_bindings(&index, key).map_err(io)?.live.pop();
        let Some(binding) = found.filter(|binding| !self.is_expired(&binding.envelope)) else {
            return Ok(Quiet::Nothing);
        };
        Ok(match self.load(&index, &binding).map_err(io)? {
            Content::Artifact(artifact) => {
                Quiet::Entry(super::entry_of(artifact, &binding.envelope))
            }
            Content::Gone => Quiet::Nothing,
            Content::Corrupt => {
                self.quarantine(&binding);
                Quiet::Damaged
            }
        })
    }
}
