//! The key of an artifact: 32 bytes that name everything its content depends on.

use crate::fold::fold;
use crate::hex;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The context string that separates fingerprints from every other use of BLAKE3.
const CONTEXT: &str = "keepwarm 2026-11 fingerprint of labelled fields v1";
const NAMESPACE_CONTEXT: &str = "keepwarm 2026-11 fingerprint within a namespace v1";

/// The 32-byte key of an artifact.
///
/// Made with [`Fingerprint::builder`] out of everything the artifact depends on: source, options,
/// compiler version, target. Equal on every machine, operating system and byte order.
///
/// It is a different type from [`Digest`](crate::Digest), which names content; there is no
/// conversion between the two.
///
/// ```
/// use keepwarm::Fingerprint;
///
/// let key = Fingerprint::builder("wgsl-to-spirv")
///     .field("compiler", "naga 30.0.1")
///     .field("source", "@compute @workgroup_size(1) fn main() {}")
///     .finish();
/// let parsed: Fingerprint = key.to_string().parse()?;
/// assert_eq!(parsed, key);
/// # Ok::<(), keepwarm::ParseHexError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Starts a fingerprint in `domain`, a name that separates one use from every other.
    ///
    /// Fields are hashed with their labels and lengths, in the order given, so two different
    /// lists of fields never give the same fingerprint by concatenation.
    ///
    /// ```
    /// use keepwarm::Fingerprint;
    ///
    /// let a = Fingerprint::builder("demo").field("x", "ab").field("y", "c").finish();
    /// let b = Fingerprint::builder("demo").field("x", "a").field("y", "bc").finish();
    /// assert_ne!(a, b);
    /// ```
    pub fn builder(domain: &str) -> FingerprintBuilder {
        let mut builder = FingerprintBuilder {
            hasher: blake3::Hasher::new_derive_key(CONTEXT),
            fields: 0,
        };
        builder.push(domain.as_bytes());
        builder
    }

    /// Takes 32 bytes that are a key already, such as another system's hash.
    ///
    /// They need not be uniform: zero-padded counters are as good as hashes.
    ///
    /// ```
    /// use keepwarm::Fingerprint;
    ///
    /// assert_eq!(Fingerprint::from_bytes([7; 32]).as_bytes(), &[7; 32]);
    /// ```
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    ///
    /// ```
    /// # use keepwarm::Fingerprint;
    /// assert_eq!(Fingerprint::from_bytes([1; 32]).as_bytes().len(), 32);
    /// ```
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key that stands for this one inside the namespace called `name`.
    ///
    /// [`Cache::namespace`](crate::Cache::namespace) does this for every call.
    ///
    /// ```
    /// # use keepwarm::Fingerprint;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// assert_ne!(key.within("driver 1"), key.within("driver 2"));
    /// ```
    #[must_use]
    pub fn within(&self, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(NAMESPACE_CONTEXT);
        hasher.update(&self.0);
        hasher.update(name.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Not word by word: under FxHash, big-endian counters would share a few places of a map.
        state.write_u64(fold(&self.0));
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, ParseHexError> {
        hex::parse(text).map(Self)
    }
}

/// Gathers the fields of a [`Fingerprint`]; see [`Fingerprint::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `finish`"]
pub struct FingerprintBuilder {
    hasher: blake3::Hasher,
    fields: u64,
}

impl FingerprintBuilder {
    /// Adds one thing that the artifact depends on.
    ///
    /// ```
    /// # use keepwarm::Fingerprint;
    /// let one = Fingerprint::builder("d").field("opt", [1]).finish();
    /// assert_ne!(one, Fingerprint::builder("d").field("opt", [2]).finish());
    /// ```
    pub fn field(mut self, label: &str, value: impl AsRef<[u8]>) -> Self {
        self.push(label.as_bytes());
        self.push(value.as_ref());
        self.fields += 1;
        self
    }

    /// The fingerprint of all fields added so far.
    ///
    /// ```
    /// # use keepwarm::Fingerprint;
    /// let empty = Fingerprint::builder("d").finish();
    /// assert_ne!(empty, Fingerprint::builder("d").field("", "").finish());
    /// ```
    pub fn finish(mut self) -> Fingerprint {
        self.hasher.update(&self.fields.to_le_bytes());
        Fingerprint(*self.hasher.finalize().as_bytes())
    }

    fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseHexError;

impl fmt::Display for ParseHexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected exactly 64 hexadecimal digits")
    }
}

impl std::error::Error for ParseHexError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_same_on_every_machine() {
        // Recorded once; a change here would make every existing directory cold.
        let key = Fingerprint::builder("test")
            .field("a", "1")
            .field("b", [0, 255])
            .finish();
        assert_eq!(
            key.to_string(),
            "7dbdc745d09ed07036abf6bc6713b268a0b32cf4846e0f9c88e49213e1cd2385"
        );
    }

    #[test]
    fn field_lists_never_collide_by_concatenation() {
        let lists: &[&[(&str, &str)]] = &[
            &[],
            &[("", "")],
            &[("a", "b")],
            &[("ab", "")],
            &[("", "ab")],
            &[("a", ""), ("b", "")],
            &[("", "a"), ("", "b")],
            &[("a", "b"), ("", "")],
        ];
        let mut seen = std::collections::HashSet::new();
        for domain in ["", "a", "ab"] {
            for list in lists {
                let mut builder = Fingerprint::builder(domain);
                for (label, value) in *list {
                    builder = builder.field(label, value);
                }
                assert!(seen.insert(builder.finish()), "{domain:?} {list:?}");
            }
        }
    }

    #[test]
    fn hex_is_parsed_in_either_case_and_nothing_else_is() {
        let key = Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let text = key.to_string();
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_uppercase().parse(), Ok(key));
        for bad in [
            "",
            &text[1..],
            &format!("{text}0"),
            &text.replace('0', "g"),
            "é",
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(ParseHexError), "{bad:?}");
        }
    }
}
