//! Immutable bytes that are cheap to share.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::{self, FileId, mapping::ObjectMap};
use std::fmt;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Immutable bytes, on the heap or memory-mapped; cloning it copies a pointer.
///
/// An artifact stays valid and unchanged however long it is held: after its eviction or
/// replacement, after [`clear`](crate::Store::clear), after another process deleted its file.
///
/// ```
/// use keepwarm::Artifact;
///
/// let artifact = Artifact::from(vec![1, 2, 3]);
/// assert_eq!(&artifact[1..], [2, 3]);
/// assert_eq!(artifact.clone().to_vec(), vec![1, 2, 3]);
/// ```
///
/// # The one limit
///
/// A mapped artifact shows what is in its file. keepwarm never rewrites a file it published, but
/// somebody with the same rights who rewrites or truncates it **in place** while it is mapped
/// changes the bytes, or makes the process receive SIGBUS.
/// [`Mapping::IndexOnly`](crate::Mapping::IndexOnly) copies every payload instead.
#[derive(Clone)]
pub struct Artifact(Arc<Inner>);

// With its two counters it is 72 bytes: there may be millions of them.
struct Inner {
    bytes: Bytes,
    digest: OnceLock<Digest>,
}

enum Bytes {
    Heap(Box<[u8]>),
    /// What is mapped, or is all there is in a file: it is large, and so may be what is known of it.
    Large(Box<Large>),
}

struct Large {
    bytes: LargeBytes,
    file: Option<(PathBuf, FileId)>,
}

enum LargeBytes {
    Heap(Box<[u8]>),
    Mapped(ObjectMap),
}

impl Artifact {
    fn new(bytes: Bytes, digest: Option<Digest>) -> Self {
        let cell = OnceLock::new();
        if let Some(digest) = digest {
            cell.get_or_init(|| digest);
        }
        Self(Arc::new(Inner {
            bytes,
            digest: cell,
        }))
    }

    /// Bytes copied from disk, with their digest if it was just computed.
    pub(crate) fn from_heap(
        bytes: Box<[u8]>,
        digest: Option<Digest>,
        file: Option<(PathBuf, FileId)>,
    ) -> Self {
        if file.is_none() {
            return Self::new(Bytes::Heap(bytes), digest);
        }
        let bytes = LargeBytes::Heap(bytes);
        Self::new(Bytes::Large(Box::new(Large { bytes, file })), digest)
    }

    /// A mapped object, with its digest if it was just computed.
    pub(crate) fn from_map(
        map: ObjectMap,
        digest: Option<Digest>,
        file: Option<(PathBuf, FileId)>,
    ) -> Self {
        let bytes = LargeBytes::Mapped(map);
        Self::new(Bytes::Large(Box::new(Large { bytes, file })), digest)
    }

    fn large(&self) -> Option<&Large> {
        match &self.0.bytes {
            Bytes::Heap(_) => None,
            Bytes::Large(large) => Some(large),
        }
    }

    fn file(&self) -> Option<&(PathBuf, FileId)> {
        self.large()?.file.as_ref()
    }

    /// The bytes; what `Deref` gives.
    ///
    /// ```
    /// # use keepwarm::Artifact;
    /// assert_eq!(Artifact::from(*b"ab").as_slice(), b"ab");
    /// ```
    pub fn as_slice(&self) -> &[u8] {
        match &self.0.bytes {
            Bytes::Heap(bytes) => bytes,
            Bytes::Large(large) => match &large.bytes {
                LargeBytes::Heap(bytes) => bytes,
                LargeBytes::Mapped(map) => map.bytes(),
            },
        }
    }

    /// The length in bytes.
    ///
    /// ```
    /// # use keepwarm::Artifact;
    /// assert_eq!(Artifact::from(vec![0; 10]).len(), 10);
    /// ```
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are no bytes; an empty artifact is an artifact like any other.
    ///
    /// ```
    /// # use keepwarm::Artifact;
    /// assert!(Artifact::from(Vec::new()).is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The BLAKE3 of the bytes, computed by the first caller and remembered by all clones.
    ///
    /// ```
    /// # use keepwarm::{Artifact, Digest};
    /// assert_eq!(Artifact::from(*b"ab").digest(), Digest::of(b"ab"));
    /// ```
    pub fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| Digest::of(self.as_slice()))
    }

    /// Whether the bytes are a file's pages rather than heap memory.
    ///
    /// ```
    /// # use keepwarm::Artifact;
    /// assert!(!Artifact::from(*b"ab").is_mapped());
    /// ```
    pub fn is_mapped(&self) -> bool {
        let large = self.large();
        large.is_some_and(|large| matches!(large.bytes, LargeBytes::Mapped(_)))
    }

    /// Where the file is whose whole content this artifact is, if it lives in one of its own.
    ///
    /// The file is read-only and must stay so; it may be gone at any moment (eviction), which
    /// [`open`](Self::open) tells. Small artifacts share files and have no path.
    ///
    /// ```
    /// # use keepwarm::Artifact;
    /// assert_eq!(Artifact::from(*b"ab").path(), None);
    /// ```
    pub fn path(&self) -> Option<&Path> {
        self.file().map(|(path, _)| path.as_path())
    }

    /// Opens the file of an artifact that lives in one of its own, for code that maps or receives
    /// files itself.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if it has no file, or the file is gone or is not the one that was
    /// verified any more.
    ///
    /// ```
    /// # use keepwarm::Artifact;
    /// assert!(Artifact::from(*b"ab").open().is_err());
    /// ```
    pub fn open(&self) -> Result<File> {
        let Some((path, id)) = self.file() else {
            return Err(Error::new(
                ErrorKind::Io,
                "open an artifact that has no file of its own",
            ));
        };
        let (file, found) = sys::open_for_reading(path)
            .map_err(|e| Error::io("open the file of an artifact", path, e))?;
        if found != *id {
            let action = "open the file of an artifact, which was replaced meanwhile";
            return Err(Error::new(ErrorKind::Io, action).with_path(path));
        }
        Ok(file)
    }
}

impl Deref for Artifact {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Artifact {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Vec<u8>> for Artifact {
    fn from(bytes: Vec<u8>) -> Self {
        bytes.into_boxed_slice().into()
    }
}

impl From<Box<[u8]>> for Artifact {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::new(Bytes::Heap(bytes), None)
    }
}

impl From<&[u8]> for Artifact {
    fn from(bytes: &[u8]) -> Self {
        Box::<[u8]>::from(bytes).into()
    }
}

impl<const N: usize> From<[u8; N]> for Artifact {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<&[u8; N]> for Artifact {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

/// Many compilers make text; its bytes are UTF-8.
impl From<String> for Artifact {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Artifact {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl PartialEq for Artifact {
    /// Whether the bytes are equal.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_slice() == other.as_slice()
    }
}

impl Eq for Artifact {}

impl PartialEq<[u8]> for Artifact {
    /// Whether these are the bytes.
    fn eq(&self, other: &[u8]) -> bool {
        self.as_slice() == other
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifact")
            .field("len", &self.len())
            .field("mapped", &self.is_mapped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn an_artifact_adds_72_bytes_to_its_bytes() {
        assert_eq!(2 * size_of::<usize>() + size_of::<Inner>(), 72);
    }
}
