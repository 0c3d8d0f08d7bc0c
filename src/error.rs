//! What went wrong, where, and what to do about it.
//!
//! [`Error::fmt`](std::fmt::Display) prints this level only; the cause, where there is one, is
//! behind [`std::error::Error::source`].

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of a store operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure an [`Error`] is.
///
/// ```
/// use keepwarm::{Error, ErrorKind};
///
/// fn is_worth_another_try(error: &Error) -> bool {
///     matches!(error.kind(), ErrorKind::Timeout | ErrorKind::StorageFull)
/// }
/// # assert!(is_worth_another_try(&Error::new(ErrorKind::Timeout, "x")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An operating system call failed; the cause says which way.
    Io,
    /// The device, a quota or the inode table is full.
    StorageFull,
    /// The directory or a file in it may not be read or written by this process.
    PermissionDenied,
    /// Something other than a directory stands where the cache directory should be.
    NotADirectory,
    /// The directory was written by a newer, unknown version of the format.
    UnsupportedFormat,
    /// The directory is on a network file system, which gives no coherent shared mapping.
    NetworkFileSystem,
    /// A setting is out of its range.
    InvalidConfig,
    /// A lock or a place in a queue was not to be had within the time allowed.
    Timeout,
    /// An earlier write failed, so not everything that was put is durable.
    WriteFailed,
    /// The handle was closed, or belongs to the parent of this forked process.
    Closed,
    /// The store was opened for reading only.
    ReadOnly,
    /// The directory belongs to somebody else, or others than it should may write to it; see
    /// [`Sharing`](crate::Sharing).
    Untrusted,
}

impl ErrorKind {
    const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Io | Self::InvalidConfig => None,
            Self::StorageFull => {
                Some("free some space or inodes, or lower the disk budget; nothing is damaged")
            }
            Self::PermissionDenied => Some(
                "make the directory readable and writable for this user, choose another one, \
                 or open it with `read_only`",
            ),
            Self::NotADirectory => Some("choose another path, or move away what is there"),
            Self::UnsupportedFormat => {
                Some("use a newer keepwarm, another directory, or delete this one")
            }
            Self::NetworkFileSystem => Some(
                "choose a local directory and copy it, or set `allow_network_file_system` \
                 if only one machine uses it",
            ),
            Self::Timeout => Some(
                "somebody holds it for unusually long; see whether a process is stopped or the disk hangs",
            ),
            Self::WriteFailed => Some("put again what must be kept, then flush again"),
            Self::Closed => Some("open the cache again in this process"),
            Self::ReadOnly => Some("open the directory without `read_only` to change it"),
            Self::Untrusted => Some(
                "choose a directory of this user alone; if this one is, run `chmod -R go-w` on it; \
                 or say with `Sharing::Group` or `Sharing::Unchecked` who else may write to it",
            ),
        }
    }
}

/// A failure of a store: what was being done, to which path, and why it did not work.
///
/// ```
/// use keepwarm::{DiskStore, ErrorKind};
///
/// let error = DiskStore::open("/dev/null/cache").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotADirectory);
/// assert!(error.to_string().contains("/dev/null"));
/// ```
pub struct Error(Box<Repr>);

struct Repr {
    kind: ErrorKind,
    action: String,
    path: Option<PathBuf>,
    source: Option<io::Error>,
}

impl Error {
    /// An error of `kind`; `action` completes the sentence "could not ...".
    ///
    /// For authors of their own [`Store`](crate::Store).
    ///
    /// ```
    /// use keepwarm::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Timeout, "reach the bucket in time");
    /// assert!(error.to_string().starts_with("could not reach the bucket in time"));
    /// ```
    pub fn new(kind: ErrorKind, action: impl Into<String>) -> Self {
        Self(Box::new(Repr {
            kind,
            action: action.into(),
            path: None,
            source: None,
        }))
    }

    /// An error from the operating system; its kind is derived from `source`.
    ///
    /// For authors of their own [`Store`](crate::Store).
    ///
    /// ```
    /// use keepwarm::{Error, ErrorKind};
    ///
    /// let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    /// let error = Error::io("write an artifact", "/mnt/cache", full);
    /// assert_eq!(error.kind(), ErrorKind::StorageFull);
    /// ```
    pub fn io(action: impl Into<String>, path: impl AsRef<Path>, source: io::Error) -> Self {
        let kind = match source.kind() {
            _ if Untrusted::is_behind(&source) => ErrorKind::Untrusted,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::PermissionDenied
            }
            io::ErrorKind::NotADirectory => ErrorKind::NotADirectory,
            io::ErrorKind::TimedOut => ErrorKind::Timeout,
            _ => ErrorKind::Io,
        };
        Self(Box::new(Repr {
            kind,
            action: action.into(),
            path: Some(path.as_ref().to_path_buf()),
            source: Some(source),
        }))
    }

    /// The same error, naming the path it is about.
    ///
    /// ```
    /// # use keepwarm::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Io, "look").with_path("/mnt/cache");
    /// assert!(error.to_string().contains("(/mnt/cache)"));
    /// ```
    #[must_use]
    pub fn with_path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// The class of the failure.
    ///
    /// ```
    /// # use keepwarm::{Error, ErrorKind};
    /// assert_eq!(Error::new(ErrorKind::Io, "look").kind(), ErrorKind::Io);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was being done, as the end of the sentence "could not ...".
    ///
    /// ```
    /// # use keepwarm::{Error, ErrorKind};
    /// assert_eq!(Error::new(ErrorKind::Io, "look").action(), "look");
    /// ```
    pub fn action(&self) -> &str {
        &self.0.action
    }

    /// The path it was being done to, if there is one.
    ///
    /// ```
    /// # use keepwarm::{Error, ErrorKind};
    /// assert_eq!(Error::new(ErrorKind::Io, "look").path(), None);
    /// ```
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}", self.0.action)?;
        if let Some(path) = &self.0.path {
            write!(f, " ({})", path.display())?;
        }
        if let Some(advice) = self.0.kind.advice() {
            write!(f, ": {advice}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("action", &self.0.action)
            .field("path", &self.0.path)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

/// Why a file or folder is not used, as the cause of an `io::Error`.
#[derive(Debug)]
#[cfg_attr(not(unix), allow(dead_code, reason = "only Unix has owners to check"))]
pub(crate) struct Untrusted(pub(crate) &'static str);

impl Untrusted {
    fn is_behind(e: &io::Error) -> bool {
        e.get_ref()
            .is_some_and(<dyn StdError + Send + Sync>::is::<Self>)
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Untrusted {}
