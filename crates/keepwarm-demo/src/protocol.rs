//! What a child tells its parent: one JSON object a line on its standard output.

use serde::{Deserialize, Serialize};

/// Raised with every change, so that a child and a parent of different builds notice.
pub(crate) const PROTOCOL: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    /// The first one: the cache is open.
    Open { protocol: u32, open_ns: u64 },
    /// One shader was got.
    Got(Got),
    /// The last one: the cache is closed, everything is written.
    Closed(Summary),
}

/// One shader as it came out of the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Got {
    /// Which round of this process: 0 or 1.
    pub(crate) round: usize,
    pub(crate) shader: String,
    pub(crate) from: Source,
    /// How long `get_or_insert_with` took.
    pub(crate) nanos: u64,
    pub(crate) bytes: u64,
    /// BLAKE3 of the bytes that were served, hashed anew by the child after the get.
    pub(crate) digest: String,
}

/// Where the cache took a shader from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Compiled,
    Disk,
    Memory,
    /// Evicted from memory and still waiting to be written to disk.
    Queue,
}

impl Source {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Compiled => "compiled",
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Queue => "queue",
        }
    }
}

/// The counters of one process at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// How long the fingerprints of all shaders took, once.
    pub(crate) fingerprint_ns: u64,
    /// How long writing what was left and closing took.
    pub(crate) close_ns: u64,
    pub(crate) counters: Counters,
}

/// The part of the cache's statistics that the demo shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) builds: u64,
    pub(crate) memory_hits: u64,
    pub(crate) disk_hits: u64,
    pub(crate) promotions: u64,
    pub(crate) demotions: u64,
    pub(crate) memory_evictions: u64,
    pub(crate) memory_rejected: u64,
    pub(crate) disk_entries: u64,
    pub(crate) faults: u64,
    pub(crate) corrupt: u64,
    pub(crate) build_ns: u64,
    pub(crate) build_saved_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let line = Line::Got(Got {
            round: 1,
            shader: "fine".into(),
            from: Source::Disk,
            nanos: 12,
            bytes: 3,
            digest: "ab".into(),
        });
        let text = serde_json::to_string(&line).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
        assert!(serde_json::from_str::<Line>("{\"line\":\"got\"}").is_err());
    }
}
