//! Every `unsafe` of the crate but for a clock: read-only views of files. The proofs are in `docs/safety.md`.
//!
//! Two kinds, because two different things are true of the files behind them:
//! - [`ObjectMap`]: a file that is published whole and never changed afterwards: a byte slice.
//! - [`SharedMap`]: a file that other processes write while it is mapped (the index, a pack): no
//!   reference to its bytes is ever made; words are read as atomics, bytes are copied out.

use crate::sync::IndexWord;
use memmap2::{Mmap, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;

/// An immutable file, mapped whole.
#[derive(Debug)]
pub(crate) struct ObjectMap(Mmap);

impl ObjectMap {
    /// Maps the first `len` bytes of `file`, which must be an object: published, never rewritten.
    ///
    /// The caller has seen by `fstat` that the file is at least that long.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len);
        #[expect(unsafe_code, reason = "S1 in docs/safety.md")]
        // SAFETY: the file is an object (S1): it is only ever published whole under a new name
        // and unlinked, never written or truncated by keepwarm. A user who rewrites it in place
        // steps outside what the crate documents; `Mapping::IndexOnly` is for them.
        let map = unsafe { options.map(file) }?;
        Ok(Self(map))
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A file that other processes write while it is mapped.
#[derive(Debug)]
pub(crate) struct SharedMap {
    map: MmapRaw,
    len: usize,
}

impl SharedMap {
    /// Maps `len` bytes of `file` for reading; the mapping may reach beyond the end of the file
    /// where the platform allows that, and must not be read there.
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
        Ok(Self { map, len })
    }

    /// The mapping as words, to be loaded only: the pages are read-only.
    ///
    /// Only for a file that never shrinks and whose length was checked to be at least
    /// what was mapped: the index.
    pub(crate) fn words(&self) -> &[IndexWord] {
        #[expect(unsafe_code, reason = "S2 in docs/safety.md")]
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
        // SAFETY: the mapping is page-aligned, `len` bytes long and lives as long as `self`
        // (S2). An `IndexWord` is an `AtomicU64`, which has the layout of `u64`, every bit pattern is valid, other processes'
        // stores to the pages are seen as relaxed atomic stores of some width, and the words are
        // only ever loaded, relaxed, on targets where that is a plain read.
        unsafe {
            std::slice::from_raw_parts(self.map.as_ptr().cast::<IndexWord>(), self.len / 8)
        }
    }

    /// Copies `buf.len()` bytes from `offset`; the caller has seen by `fstat` that the file
    /// reaches that far. `None` if the range is outside the mapping.
    pub(crate) fn copy_to(&self, offset: usize, buf: &mut [u8]) -> Option<()> {
        let end = offset.checked_add(buf.len())?;
        if end > self.len {
            return None;
        }
        #[expect(unsafe_code, reason = "S3 in docs/safety.md")]
        // SAFETY: the range is inside the mapping (checked above), `buf` is exclusive memory of
        // this process, and no reference to the mapped bytes is formed (S3). What is copied is
        // checked after the copy, so bytes that change meanwhile are at worst refused.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.map.as_ptr().add(offset),
                buf.as_mut_ptr(),
                buf.len(),
            );
        }
        Some(())
    }

    /// The same into new memory, which is not filled with zeros before; `None` also if there is none.
    pub(crate) fn copy(&self, offset: usize, len: usize) -> Option<Vec<u8>> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        #[expect(unsafe_code, reason = "S3 in docs/safety.md")]
        // SAFETY: as in `copy_to`; the vector has room for `len` bytes, all of which the copy fills.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.as_ptr().add(offset), bytes.as_mut_ptr(), len);
            bytes.set_len(len);
        }
        Some(bytes)
    }
}
