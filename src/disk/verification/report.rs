//! What a verification found.

use crate::fingerprint::Fingerprint;
use std::path::PathBuf;

/// Findings that a report lists; more are counted.
const LISTED: usize = 1000;

/// What is wrong with something in the directory.
///
/// None of it can make a get return a wrong byte. ([`Verify::Never`](crate::Verify::Never) aside.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The bytes of an artifact are not those that were put. Repair: its keys become misses.
    Damaged,
    /// A key is bound to content that is not there. Repair: the key becomes a miss.
    Missing,
    /// A sound record that the index does not lead to, or to whose content it does not. Repair: the
    /// index is [rebuilt](crate::DiskStore::rebuild); what is not the newest of its key is ended then.
    Unindexed,
    /// A slot of the index that leads to nothing. Repair: it is cleared.
    Dangling,
    /// A large artifact that no key needs, for at least ten minutes. Repair: it is unlinked.
    Orphan,
    /// A file that has the name of a pack and is none. Repair: it is unlinked.
    NoPack,
    /// A file or folder that keepwarm did not make. It is left alone.
    Foreign,
    /// The totals of entries or bytes disagree with what is there by more than what may be under
    /// way. Repair: they are counted anew.
    Totals,
    /// A file that the operating system did not let us read. It is left alone.
    Unreadable,
}

const FAULTS: usize = Fault::Unreadable as usize + 1;

/// One thing that a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// Which key is concerned, where that is known.
    pub key: Option<Fingerprint>,
    /// In which file.
    pub path: PathBuf,
    /// Whether it was repaired.
    pub repaired: bool,
}

/// What [`Verification::run`](crate::Verification::run) saw.
///
/// ```
/// use keepwarm::{DiskStore, Fault, Fingerprint, StoreExt};
///
/// # let dir = tempfile::tempdir()?;
/// let store = DiskStore::open(dir.path())?;
/// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1, 2, 3])?;
/// let report = store.verification().run()?;
/// assert!(report.is_sound());
/// assert_eq!((report.entries, report.bytes), (1, 3));
/// assert_eq!(report.count(Fault::Damaged), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerificationReport {
    /// Bindings of keys that were looked at. A key that was bound to something else since the last
    /// flush counts twice.
    pub entries: u64,
    /// Bytes of artifacts that were hashed.
    pub bytes: u64,
    /// Packs of processes with another secret, which cannot be verified without it.
    pub packs_of_others: u64,
    /// What was found, in the order in which it was; the first 1,000, the others are counted only.
    pub findings: Vec<Finding>,
    /// Findings that were repaired.
    pub repaired: u64,
    /// Whether the progress callback put an end to it before all was seen.
    pub cancelled: bool,
    /// Whether the index was replaced, or being rebuilt, meanwhile: then what it leads to was not
    /// looked at, and another run tells.
    pub index_changed: bool,
    counts: [u64; FAULTS],
}

impl VerificationReport {
    /// How often `fault` was found.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// let report = store.verification().run()?;
    /// assert_eq!(report.count(keepwarm::Fault::Orphan), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// Whether everything was seen and nothing was wrong.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = keepwarm::DiskStore::open(dir.path())?;
    /// assert!(store.verification().run()?.is_sound());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_sound(&self) -> bool {
        !self.cancelled && !self.index_changed && self.counts.iter().all(|count| *count == 0)
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.counts[finding.fault as usize] += 1;
        self.repaired += u64::from(finding.repaired);
        if self.findings.len() < LISTED {
            self.findings.push(finding);
        }
    }
}
