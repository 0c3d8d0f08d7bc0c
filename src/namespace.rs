//! The short name of a namespace, kept with every entry.

use std::fmt;

/// Which namespace (driver, compiler, ABI ...) an entry belongs to: the first 8 bytes of the
/// BLAKE3 of the namespace's name.
///
/// ```
/// use keepwarm::NamespaceId;
///
/// assert_eq!(NamespaceId::of("driver 1"), NamespaceId::of("driver 1"));
/// assert_ne!(NamespaceId::of("driver 1"), NamespaceId::of("driver 2"));
/// assert_eq!(NamespaceId::default(), NamespaceId::NONE);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(u64);

impl NamespaceId {
    /// Entries outside every namespace.
    pub const NONE: Self = Self(0);

    /// The id of the namespace called `name`; any string is a name.
    ///
    /// ```
    /// # use keepwarm::NamespaceId;
    /// assert_ne!(NamespaceId::of(""), NamespaceId::NONE);
    /// ```
    pub fn of(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        Self(crate::hex::words(hash.as_bytes())[0])
    }

    /// The id as a number, as it is kept on disk.
    ///
    /// ```
    /// # use keepwarm::NamespaceId;
    /// let id = NamespaceId::of("x");
    /// assert_eq!(NamespaceId::from_u64(id.as_u64()), id);
    /// ```
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The inverse of [`as_u64`](Self::as_u64).
    ///
    /// ```
    /// # use keepwarm::NamespaceId;
    /// assert_eq!(NamespaceId::from_u64(0), NamespaceId::NONE);
    /// ```
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Debug for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NamespaceId({:016x})", self.0)
    }
}
