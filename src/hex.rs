//! Hexadecimal text of 32-byte names, and the names as machine words.

use crate::fingerprint::ParseHexError;
use std::fmt;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes `bytes` in lower case.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for byte in bytes {
        f.write_str(digits(*byte).as_str())?;
    }
    Ok(())
}

/// The lower-case text of `bytes`.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| digits(*byte))
        .fold(String::new(), |all, two| all + two.as_str())
}

/// Reads 64 digits of either case.
pub(crate) fn parse(text: &str) -> Result<[u8; 32], ParseHexError> {
    let text: &[u8; 64] = text.as_bytes().try_into().map_err(|_| ParseHexError)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16).ok_or(ParseHexError)?;
        let low = char::from(pair[1]).to_digit(16).ok_or(ParseHexError)?;
        *byte = u8::try_from(high << 4 | low).map_err(|_| ParseHexError)?;
    }
    Ok(bytes)
}

/// The four little-endian words of a 32-byte name.
pub(crate) fn words(bytes: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|i| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
        u64::from_le_bytes(word)
    })
}

struct Digits([u8; 2]);

fn digits(byte: u8) -> Digits {
    Digits([
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ])
}

impl Digits {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Bytes as words in this machine's order.
pub(crate) fn native_words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).map(|chunk| {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}
