//! Runs inside runs: `keepwarm exec -- make` where `make` runs `keepwarm exec -- cc`. What the inner
//! one writes is written by the outer one's command, so neither is in the other's way; and a run of
//! the same key inside itself must not wait for itself.
//!
//! The names of the outer runs' claims and their keys are in a variable, which commands inherit.

use keepwarm::Fingerprint;
use std::collections::BTreeSet;

/// Where a run tells those inside its command what is around them.
pub(super) const VARIABLE: &str = "KEEPWARM_EXEC_WITHIN";

/// What is around this run.
#[derive(Debug)]
pub(crate) struct Within(BTreeSet<String>);

impl Within {
    /// As the environment says it.
    pub(crate) fn from_env() -> Self {
        let all = std::env::var(VARIABLE).unwrap_or_default();
        Self(all.split_terminator(':').map(str::to_owned).collect())
    }

    /// Whether the claim of this name, or the run of this key, is around this run.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// What is around a command that this run starts.
    pub(crate) fn with(
        &self,
        key: Option<&Fingerprint>,
        claims: impl Iterator<Item = String>,
    ) -> String {
        let key = key.map(ToString::to_string);
        let all = self.0.iter().cloned().chain(key).chain(claims);
        all.collect::<Vec<_>>().join(":")
    }
}
