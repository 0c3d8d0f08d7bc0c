//! The name of content: the BLAKE3 of an artifact's bytes.

use crate::fingerprint::ParseHexError;
use crate::hex;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The BLAKE3 of an artifact's bytes; what `b3sum` prints for them.
///
/// It is a different type from [`Fingerprint`](crate::Fingerprint), which names what an artifact
/// was made from; there is no conversion between the two.
///
/// ```
/// use keepwarm::Digest;
///
/// let digest = Digest::of(b"");
/// assert_eq!(&digest.to_string()[..16], "af1349b9f5f9a1a6");
/// assert_eq!(digest.to_string().parse(), Ok(digest));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    ///
    /// ```
    /// # use keepwarm::Digest;
    /// assert_ne!(Digest::of(b"a"), Digest::of(b"b"));
    /// ```
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Takes 32 bytes that are a BLAKE3 digest already.
    ///
    /// ```
    /// # use keepwarm::Digest;
    /// let digest = Digest::of(b"a");
    /// assert_eq!(Digest::from_bytes(*digest.as_bytes()), digest);
    /// ```
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    ///
    /// ```
    /// # use keepwarm::Digest;
    /// assert_eq!(Digest::of(b"a").as_bytes().len(), 32);
    /// ```
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in hex::words(&self.0) {
            state.write_u64(word);
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        hex::parse(text).map(Self)
    }
}
