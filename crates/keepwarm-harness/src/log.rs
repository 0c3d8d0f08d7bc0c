//! What a worker said it did: a file of records outside of the directory under test.
//!
//! Every record is one `write`, so that what a killed worker said is there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What happened. The discriminant is the byte in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Opened = 1,
    PutStart,
    PutOk,
    PutErr,
    RemoveStart,
    RemoveOk,
    RemoveErr,
    FlushStart,
    FlushOk,
    FlushErr,
    /// A get gave bytes that were never put under the key.
    Wrong,
    /// A get gave something older than what this worker alone had put.
    Stale,
    /// A get missed what this worker alone had put, and nothing was to be evicted.
    Lost,
    /// Something failed that should not.
    Error,
    /// A get was right.
    Got,
    /// Something was evicted to stay within the budget: misses are fair from now on.
    Evicted,
    /// A put was told to be stored and could not be got.
    Dropped,
    /// A put failed although there was room.
    Stuck,
    /// A call took so long that somebody must have waited without a bound.
    Slow,
    Done,
}

const OPS: [Op; 20] = [
    Op::Opened,
    Op::PutStart,
    Op::PutOk,
    Op::PutErr,
    Op::RemoveStart,
    Op::RemoveOk,
    Op::RemoveErr,
    Op::FlushStart,
    Op::FlushOk,
    Op::FlushErr,
    Op::Wrong,
    Op::Stale,
    Op::Lost,
    Op::Error,
    Op::Got,
    Op::Evicted,
    Op::Dropped,
    Op::Stuck,
    Op::Slow,
    Op::Done,
];

/// One line of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) op: Op,
    pub(crate) key: u32,
    pub(crate) generation: u64,
}

/// Bytes a record.
const RECORD: usize = 16;

/// The writing end.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    pub(crate) fn say(&mut self, op: Op, key: u32, generation: u64) -> io::Result<()> {
        let mut record = [0; RECORD];
        record[0] = op as u8;
        record[4..8].copy_from_slice(&key.to_le_bytes());
        record[8..].copy_from_slice(&generation.to_le_bytes());
        self.0.write_all(&record)
    }
}

/// The reading end, which remembers how far it read.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    at: u64,
}

impl Reader {
    /// Creates the file, for the worker may not have started.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(path)?;
        Ok(Self { file, at: 0 })
    }

    /// The records since the last call of [`records`](Self::records), which will be read again.
    pub(crate) fn peek(&mut self) -> io::Result<Vec<Record>> {
        let at = self.at;
        let records = self.records();
        self.at = at;
        records
    }

    /// The records since the last call.
    pub(crate) fn records(&mut self) -> io::Result<Vec<Record>> {
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        let records: Vec<Record> = bytes.chunks_exact(RECORD).filter_map(decode).collect();
        self.at += (bytes.len() / RECORD * RECORD) as u64;
        Ok(records)
    }
}

fn decode(bytes: &[u8]) -> Option<Record> {
    let op = OPS.get(usize::from(bytes[0]).checked_sub(1)?)?;
    Some(Record {
        op: *op,
        key: u32::from_le_bytes(bytes[4..8].try_into().ok()?),
        generation: u64::from_le_bytes(bytes[8..16].try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut reader = Reader::open(&path).unwrap();
        let mut log = Log::open(&path).unwrap();
        for op in OPS {
            log.say(op, 7, 1 << 40).unwrap();
        }
        let read = reader.records().unwrap();
        assert!(read.iter().map(|record| record.op).eq(OPS));
        assert!(read.iter().all(|r| (r.key, r.generation) == (7, 1 << 40)));
        assert!(reader.records().unwrap().is_empty());
    }
}
