//! The bytes of an entry: everything a command wrote, in one piece.
//!
//! Numbers are little-endian.
//!
//! | at | size | what |
//! |---|---|---|
//! | 0 | 8 | `KWEXEC1` and a zero |
//! | 8 | 8 | how many outputs there are |
//! | 16 | 8 | length of standard output |
//! | 24 | 8 | length of standard error |
//! | 32 | 16 each | an output: its mode in 8 bytes, its length in 8 |
//! | then | | standard output, standard error, the outputs |
//!
//! An output of 64 KiB and more begins at the next multiple of 4096, so that file systems which share
//! blocks can; zeros fill the gap. No name is kept: outputs are those of the command line, in its
//! order, so an entry can name no other file. What is read is hostile until it was checked.

use std::ops::Range;

const MAGIC: [u8; 8] = *b"KWEXEC1\0";
const HEAD: usize = 32;
const RECORD: usize = 16;
/// Outputs of this size and more begin at multiples of [`ALIGNMENT`].
pub(super) const ALIGNED_FROM: usize = 64 << 10;
const ALIGNMENT: usize = 4096;

/// Bits of a mode that are kept; others make an output that is not kept.
pub(crate) const MODE_BITS: u32 = 0o777;

/// A file that the command wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output<B> {
    pub(crate) mode: u32,
    pub(crate) content: B,
}

/// Everything that a command wrote.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Package<B> {
    pub(crate) stdout: B,
    pub(crate) stderr: B,
    pub(crate) outputs: Vec<Output<B>>,
}

fn start_of(at: usize, length: usize) -> Option<usize> {
    if length < ALIGNED_FROM {
        return Some(at);
    }
    at.checked_next_multiple_of(ALIGNMENT)
}

/// The bytes of an entry.
pub(crate) fn encode(package: &Package<Vec<u8>>) -> Vec<u8> {
    let number = |n: usize| (n as u64).to_le_bytes();
    let mut bytes = MAGIC.to_vec();
    bytes.extend(number(package.outputs.len()));
    bytes.extend(number(package.stdout.len()));
    bytes.extend(number(package.stderr.len()));
    for output in &package.outputs {
        bytes.extend(u64::from(output.mode).to_le_bytes());
        bytes.extend(number(output.content.len()));
    }
    bytes.extend(&package.stdout);
    bytes.extend(&package.stderr);
    for output in &package.outputs {
        let start = start_of(bytes.len(), output.content.len());
        bytes.resize(start.unwrap_or(bytes.len()), 0);
        bytes.extend(&output.content);
    }
    bytes
}

/// Where in an entry everything is; `None` if these are not the bytes of one with so many outputs.
pub(crate) fn decode(bytes: &[u8], outputs: usize) -> Option<Package<Range<usize>>> {
    let number = |at: usize| -> Option<u64> {
        let field = bytes.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(field.try_into().ok()?))
    };
    let length = |at: usize| number(at).and_then(|n| usize::try_from(n).ok());
    if bytes.get(..8)? != MAGIC || length(8)? != outputs {
        return None;
    }
    let take = |at: usize, length: usize| -> Option<Range<usize>> {
        let range = at..at.checked_add(length)?;
        bytes.get(range.clone()).map(|_| range)
    };
    let records = take(HEAD, outputs.checked_mul(RECORD)?)?;
    let stdout = take(records.end, length(16)?)?;
    let stderr = take(stdout.end, length(24)?)?;
    let mut end = stderr.end;
    let mut found = Vec::new();
    for record in records.step_by(RECORD) {
        let mode = u32::try_from(number(record)?).ok()?;
        let length = length(record.checked_add(8)?)?;
        let content = take(start_of(end, length)?, length)?;
        if mode & !MODE_BITS != 0 {
            return None;
        }
        end = content.end;
        found.push(Output { mode, content });
    }
    (end == bytes.len()).then_some(Package {
        stdout,
        stderr,
        outputs: found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(large: usize) -> Package<Vec<u8>> {
        let output = |mode, content| Output { mode, content };
        Package {
            stdout: b"out".to_vec(),
            stderr: Vec::new(),
            outputs: vec![
                output(0o755, vec![1; 5]),
                output(0o600, vec![2; large]),
                output(0o644, Vec::new()),
            ],
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_and_large_outputs_are_aligned() {
        for large in [0, 7, ALIGNED_FROM - 1, ALIGNED_FROM, ALIGNED_FROM + 1] {
            let package = sample(large);
            let bytes = encode(&package);
            let found = decode(&bytes, 3).unwrap();
            assert_eq!(bytes[found.stdout], package.stdout);
            assert_eq!(bytes[found.stderr], package.stderr);
            for (found, output) in found.outputs.iter().zip(&package.outputs) {
                assert_eq!(found.mode, output.mode);
                assert_eq!(bytes[found.content.clone()], output.content);
                assert!(found.content.len() < ALIGNED_FROM || found.content.start % ALIGNMENT == 0);
            }
        }
    }

    #[test]
    fn what_is_cut_or_longer_or_lies_about_lengths_is_refused() {
        let bytes = encode(&sample(9));
        for outputs in [0, 2, 4, usize::MAX] {
            assert_eq!(decode(&bytes, outputs), None);
        }
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end], 3), None, "{end}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer, 3), None);
        for at in [0, 8, 16, 24, 40, 56, 72] {
            for lie in [u64::MAX, u64::MAX / 2, 1 << 40, 1_000] {
                let mut lying = bytes.clone();
                lying[at..at + 8].copy_from_slice(&lie.to_le_bytes());
                assert_eq!(decode(&lying, 3), None, "{at} {lie}");
            }
        }
        // Bits of a mode that give rights.
        let mut setuid = bytes;
        setuid[HEAD..HEAD + 8].copy_from_slice(&0o4755_u64.to_le_bytes());
        assert_eq!(decode(&setuid, 3), None);
    }
}
