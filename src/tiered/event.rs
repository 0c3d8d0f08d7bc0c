//! What a composition tells its owner while it works.

use crate::events;
use crate::fingerprint::Fingerprint;
use crate::panics::discard;
use crate::stats::Eviction;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Something that happened inside a [`Tiered`](crate::Tiered); see
/// [`TieredBuilder::on_event`](crate::TieredBuilder::on_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TierEvent {
    /// An entry of the lower tier was handed up.
    Promoted {
        /// Its key.
        key: Fingerprint,
        /// Its length in bytes.
        bytes: u64,
    },
    /// An entry was written below.
    Demoted {
        /// Its key.
        key: Fingerprint,
        /// Its length in bytes.
        bytes: u64,
    },
    /// Entries left a tier to make room.
    Evicted(Eviction),
    /// An entry could not be written below and is not there; the next flush will fail.
    WriteFailed {
        /// Its key.
        key: Fingerprint,
        /// What the lower tier said.
        error: String,
    },
}

/// Who is told.
pub(super) type Listener = Arc<dyn Fn(&TierEvent) + Send + Sync>;

/// Hands events to the listener and to `tracing`, on the thread where they happen.
#[derive(Clone, Default)]
pub(super) struct Reporter(pub(super) Option<Listener>);

impl Reporter {
    /// Reports one event. Never called under a lock.
    pub(super) fn report(&self, event: &TierEvent) {
        match event {
            TierEvent::Promoted { key, bytes } => events::promoted(key, *bytes),
            TierEvent::Demoted { key, bytes } => events::demoted(key, *bytes),
            // Told by the store that evicted.
            TierEvent::Evicted(_) => {}
            TierEvent::WriteFailed { key, error } => events::write_failed(key, error),
        }
        if let Some(listener) = &self.0 {
            // A listener that panics loses this event; the store is in no way concerned.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| listener(event))) {
                discard(payload);
            }
        }
    }

    /// Reports evictions.
    pub(super) fn evictions(&self, evictions: &[Eviction]) {
        for eviction in evictions {
            self.report(&TierEvent::Evicted(*eviction));
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listening = self.0.is_some();
        f.debug_struct("Reporter")
            .field("listening", &listening)
            .finish()
    }
}
