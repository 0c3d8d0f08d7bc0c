//! Mappings of simulated files.

use super::files::Node;
use crate::sync::{IndexWord, switch};
use std::sync::Arc;

/// An object: it never changes, so a copy shows the same.
#[derive(Debug)]
pub(crate) struct ObjectMap(pub(super) Vec<u8>);

impl ObjectMap {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The index or a pack.
#[derive(Debug)]
pub(crate) struct SharedMap {
    pub(super) node: Arc<Node>,
    pub(super) len: usize,
}

impl SharedMap {
    pub(crate) fn words(&self) -> &[IndexWord] {
        &self.node.words()[..self.len / 8]
    }

    pub(crate) fn copy_to(&self, offset: usize, buf: &mut [u8]) -> Option<()> {
        if offset.checked_add(buf.len())? > self.len {
            return None;
        }
        let middle = buf.len() / 2;
        let (front, back) = buf.split_at_mut(middle);
        for (at, part) in [(offset, front), (offset + middle, back)] {
            switch();
            assert!(
                self.node.copy(at, part),
                "a mapping was read beyond the end of its file"
            );
        }
        Some(())
    }

    pub(crate) fn copy(&self, offset: usize, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.copy_to(offset, &mut bytes).map(|()| bytes)
    }
}
