//! Builds once per machine: who leads the build of a key in this process asks for its lease, and
//! waits for the process that has it.
//!
//! Invariant: the lease is asked for before the last look and given up only after the artifact is
//! below. So who gets the lease finds what its last holder put.

use super::inner::{Backend, Inner};
use crate::disk::lease::{BuildLease, LeaseRequest};
use crate::fingerprint::Fingerprint;
use crate::store::Entry;
use crate::sync::sleep;
use std::time::{Duration, Instant};

/// The first pause between two looks, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// What there is to do for who leads a build in this process.
pub(super) enum Claim {
    /// Build; with the lease, if one could be had.
    Build(Option<BuildLease>),
    /// Nothing: the artifact is there.
    Found(Entry),
    /// Nothing: another process built it meanwhile.
    Shared(Entry),
}

impl Inner {
    /// Asks for the lease of `key`, and waits for who has it until `deadline`. Past that, and
    /// where waiting would not end, it is time to build all the same. Calls `looking` before each
    /// look.
    pub(super) fn claim(&self, key: &Fingerprint, deadline: Instant, looking: &dyn Fn()) -> Claim {
        looking();
        if let Some(found) = self.look_again(key) {
            return Claim::Found(found);
        }
        let Some(mut request) = self.request(key) else {
            return Claim::Build(None);
        };
        match self.or_fault(request.poll()) {
            None => Claim::Build(None),
            Some(Some(lease)) => {
                looking();
                match self.look_afresh(key) {
                    Some(found) => Claim::Found(found),
                    None => Claim::Build(Some(lease)),
                }
            }
            Some(None) => self.wait(key, &mut request, (deadline, looking)),
        }
    }

    fn request(&self, key: &Fingerprint) -> Option<LeaseRequest<'_>> {
        match &self.backend {
            Backend::Tiers(tiers) => tiers.lower().request_build(key),
            Backend::Off | Backend::Memory(_) => None,
        }
    }

    /// Another process has the lease.
    fn wait(
        &self,
        key: &Fingerprint,
        request: &mut LeaseRequest<'_>,
        (deadline, looking): (Instant, &dyn Fn()),
    ) -> Claim {
        let start = Instant::now();
        if start >= deadline || request.is_in_a_circle() {
            self.counters.lone_builds.add(1);
            return Claim::Build(None);
        }
        let claim = self.wait_since(start, key, request, (deadline, looking));
        self.counters.process_waits.add(1);
        self.counters.process_wait_nanos.add_time(start.elapsed());
        if let Claim::Shared(entry) = &claim {
            self.counters.process_shared_builds.add(1);
            self.counters
                .process_shared_nanos
                .add_time(entry.build_cost);
        }
        claim
    }

    fn wait_since(
        &self,
        start: Instant,
        key: &Fingerprint,
        request: &mut LeaseRequest<'_>,
        (deadline, looking): (Instant, &dyn Fn()),
    ) -> Claim {
        let mut now = start;
        let mut pause = PAUSES.0;
        loop {
            sleep(pause.min(deadline.saturating_duration_since(now)));
            pause = (pause * 2).min(PAUSES.1);
            // In this order: what was put before the lease was given up is found after it is had.
            let polled = self.or_fault(request.poll());
            looking();
            if let Some(found) = self.look_afresh(key) {
                return Claim::Shared(found);
            }
            match polled {
                None => return Claim::Build(None),
                Some(Some(lease)) => return Claim::Build(Some(lease)),
                Some(None) => {}
            }
            now = Instant::now();
            if now >= deadline || request.is_in_a_circle() {
                self.counters.lone_builds.add(1);
                return Claim::Build(None);
            }
        }
    }

    /// A second look, which most often finds nothing: one that the tiers' counters do not see.
    pub(super) fn look_again(&self, key: &Fingerprint) -> Option<Entry> {
        if self.contains(key) {
            self.look(key)
        } else {
            None
        }
    }

    /// The same, and the index's path is looked at first: who waits must not miss what another
    /// process put into an index that took the place of a lost one.
    fn look_afresh(&self, key: &Fingerprint) -> Option<Entry> {
        if let Backend::Tiers(tiers) = &self.backend {
            tiers.lower().look_afresh();
        }
        self.look_again(key)
    }
}
