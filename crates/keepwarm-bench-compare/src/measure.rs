//! Clocks, and what a child tells of what it measured.

use crate::Fault;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the number of a reading counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    Percent,
    /// A ratio, such as bytes on disk to bytes put.
    Times,
}

/// Which of two times a comparison is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Basis {
    /// Processor time of the whole process, background threads included: steadier, and what is
    /// left for the user's own work.
    Cpu,
    /// Time that passed: where threads or processes meet, or the medium is waited for.
    Wall,
}

/// One number about one contender.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) metric: String,
    pub(crate) unit: Unit,
    pub(crate) basis: Basis,
    /// Of one operation, where it is a time.
    pub(crate) wall: f64,
    pub(crate) cpu: Option<f64>,
}

impl Reading {
    pub(crate) fn number(metric: impl Into<String>, unit: Unit, number: f64) -> Self {
        Self {
            metric: metric.into(),
            unit,
            basis: Basis::Wall,
            wall: number,
            cpu: None,
        }
    }

    /// What contenders are compared by.
    pub(crate) fn value(&self) -> f64 {
        match (self.basis, self.cpu) {
            (Basis::Cpu, Some(cpu)) => cpu,
            _ => self.wall,
        }
    }
}

/// What a child process prints, as one line of JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ChildReport {
    pub(crate) readings: Vec<Reading>,
    /// Why the contender failed: something lost, something altered, an error.
    pub(crate) failure: Option<String>,
}

/// A clock that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Instant,
    cpu: Duration,
}

/// What passed on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Of all threads of this process.
#[cfg(unix)]
fn processor_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};

    let time = clock_gettime(ClockId::ProcessCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

/// Where it cannot be told so simply, the time that passes.
#[cfg(not(unix))]
fn processor_time() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            cpu: processor_time(),
            wall: Instant::now(),
        }
    }

    pub(crate) fn stop(self) -> Cost {
        let wall = self.wall.elapsed();
        Cost {
            wall,
            cpu: processor_time().saturating_sub(self.cpu),
        }
    }
}

impl std::ops::Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            wall: self.wall + other.wall,
            cpu: self.cpu + other.cpu,
        }
    }
}

impl Cost {
    /// The cost of each of so many operations.
    pub(crate) fn per(self, operations: u64, metric: impl Into<String>, basis: Basis) -> Reading {
        let each = |time: Duration| time.as_secs_f64() * 1e9 / precise(operations.max(1));
        Reading {
            metric: metric.into(),
            unit: Unit::Nanoseconds,
            basis,
            wall: each(self.wall),
            cpu: Some(each(self.cpu)),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and bytes are far below 2^53"
)]
pub(crate) fn precise(count: u64) -> f64 {
    count as f64
}

/// What the heap and the stacks of this process hold in memory, in bytes; 0 where it cannot be told.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

/// What a directory takes on the disk, in bytes, folders included: blocks, not lengths, so that
/// holes cost nothing and what is allocated ahead counts.
pub(crate) fn disk_usage(path: &Path) -> Result<u64, Fault> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // A temporary file that went meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = allocated(&metadata);
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += disk_usage(&entry?.path())?;
        }
    }
    Ok(bytes)
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_divided_by_its_operations_and_read_by_its_basis() {
        let cost = Cost {
            wall: Duration::from_micros(10),
            cpu: Duration::from_micros(4),
        };
        let wall = cost.per(10, "a", Basis::Wall);
        assert!((wall.value() - 1000.0).abs() < 1e-6);
        assert!((cost.per(10, "a", Basis::Cpu).value() - 400.0).abs() < 1e-6);
    }

    #[test]
    fn work_shows_in_processor_time() {
        let clock = Clock::start();
        let mut n = 1_u64;
        for _ in 0..10_000_000 {
            n = std::hint::black_box(n.wrapping_mul(3));
        }
        assert!(clock.stop().cpu > Duration::ZERO);
    }

    #[test]
    fn holes_take_no_space_and_files_do() {
        let dir = tempfile::tempdir().unwrap();
        let empty = disk_usage(dir.path()).unwrap();
        std::fs::File::create(dir.path().join("hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        std::fs::write(dir.path().join("full"), vec![1; 100_000]).unwrap();
        let used = disk_usage(dir.path()).unwrap() - empty;
        assert!((100_000..1_000_000).contains(&used), "{used}");
    }
}
