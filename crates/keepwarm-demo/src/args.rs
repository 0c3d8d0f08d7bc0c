//! What the command line says.

use clap::Parser;
use std::path::PathBuf;

/// Compiles real compute shaders from WGSL to SPIR-V through a keepwarm cache, in two processes
/// one after the other: the first compiles cold, the second finds everything warm.
///
/// Exits with 1 if one byte differs from a compile outside the cache, if the second process
/// compiled anything, or if the first lost anything.
#[derive(Debug, Parser)]
#[command(name = "keepwarm-demo", version)]
pub(crate) struct Args {
    /// Directory of the cache, kept afterwards [default: a fresh temporary one, removed afterwards]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Memory budget in bytes, or `small` for a third of the set, which makes memory evict to disk
    /// and promote from it [default: the library's]
    #[arg(long, value_name = "BYTES|small", value_parser = parse_memory)]
    pub(crate) memory: Option<Memory>,

    /// Run as one of the two processes and write lines for the parent
    #[arg(long, hide = true, requires = "dir")]
    pub(crate) child: bool,
}

/// A memory budget as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// So many bytes.
    Bytes(u64),
    /// Smaller than the set, whatever the set is.
    Small,
}

impl Memory {
    /// The budget in bytes, for a set of `set` bytes.
    pub(crate) fn bytes(self, set: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Small => set / 3,
        }
    }
}

fn parse_memory(text: &str) -> Result<Memory, String> {
    if text == "small" {
        return Ok(Memory::Small);
    }
    text.parse()
        .map(Memory::Bytes)
        .map_err(|_| "expected a whole number of bytes, or `small`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn memory_is_a_number_of_bytes_or_small() {
        assert_eq!(parse_memory("4096"), Ok(Memory::Bytes(4096)));
        assert_eq!(parse_memory("small"), Ok(Memory::Small));
        for bad in ["", "-1", "1.5", "4k", "Small", "99999999999999999999"] {
            assert!(parse_memory(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_small_memory_is_smaller_than_the_set() {
        assert!(Memory::Small.bytes(1000) < 1000);
        assert_eq!(Memory::Bytes(7).bytes(1000), 7);
    }
}
