//! What a child is to do.

use std::path::PathBuf;

/// One measurement of one contender.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything that looks random follows from it and from the round.
    pub(crate) seed: u64,
    pub(crate) round: u64,
    /// A taste, to see that everything runs.
    pub(crate) quick: bool,
    /// The contender's directory: the fixture where the workload has one, else empty.
    pub(crate) dir: PathBuf,
    /// So many operations of the workload's main metric and nothing else: somebody counts system
    /// calls or instructions from outside.
    pub(crate) traced: Option<u64>,
}

impl Plan {
    /// `full`, or `quick` in a quick run.
    pub(crate) fn scaled<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    #[cfg(test)]
    pub(crate) fn quick() -> Self {
        Self {
            seed: 1,
            round: 0,
            quick: true,
            dir: PathBuf::new(),
            traced: None,
        }
    }
}
