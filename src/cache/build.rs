//! Look up or build: where a miss becomes at most one build at a time.

use super::claim::Claim;
use super::counters::Attempt;
use super::inner::{Backend, Inner};
use super::{Cache, Namespace};
use crate::artifact::Artifact;
use crate::disk::lease::{self, BuildLease};
use crate::fingerprint::Fingerprint;
use crate::flight::{Lead, Turn};
use crate::store::Entry;
use crate::tiered::Hold;
use std::time::{Duration, Instant};

impl Cache {
    /// The artifact under `key`, which `build` makes and the cache keeps if it is missing.
    ///
    /// The time that `build` takes is kept with the artifact, and counted as saved by every later
    /// hit. Conversion of what it returns into an [`Artifact`] is part of the build.
    ///
    /// # One build at a time
    ///
    /// Threads that ask for the same missing artifact wait for the one that builds it and receive
    /// that very artifact. If its builder fails or panics, the thread that waited longest builds
    /// with its own, so every caller gets its own error and errors need not be `Clone`.
    ///
    /// So do processes that share a directory: one builds, the others find what it built on disk.
    /// If it fails, is killed, or its artifact cannot be kept on disk, the next one builds.
    ///
    /// `build` runs on this thread and may ask this cache for other artifacts, even for the same
    /// one. Where waiting would never end (this very key is being built further down this thread's
    /// stack, or the builders of two threads or processes ask for what the other builds) it runs
    /// beside the other build; so it does when the other takes longer than
    /// [`CacheBuilder::build_wait`](crate::CacheBuilder::build_wait). Waiting saves work and never
    /// decides what is returned.
    ///
    /// A put of the same key while it is being built does not end the build; what is put last
    /// stays, which is what was built if the builder ends after the put.
    ///
    /// # Errors
    ///
    /// Those of `build`, and no others.
    ///
    /// ```
    /// use keepwarm::{Cache, Fingerprint};
    ///
    /// let cache = Cache::builder().memory_only()?;
    /// let key = Fingerprint::builder("demo").field("n", "1").finish();
    ///
    /// let failed = cache.get_or_insert_with(&key, || Err::<Vec<u8>, _>("no compiler"));
    /// assert_eq!(failed, Err("no compiler"));
    ///
    /// let built = cache.get_or_insert_with(&key, || Ok::<_, String>(vec![1, 2]))?;
    /// let found = cache.get_or_insert_with(&key, || -> Result<Vec<u8>, String> {
    ///     unreachable!("it is there")
    /// })?;
    /// assert_eq!(built, found);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_or_insert_with<T, E>(
        &self,
        key: &Fingerprint,
        build: impl FnOnce() -> Result<T, E>,
    ) -> Result<Artifact, E>
    where
        T: Into<Artifact>,
    {
        self.0.get_or_build(key, None, build)
    }
}

impl Inner {
    /// Every path through here counts one lookup: a hit if the cache had the artifact, else a
    /// miss.
    pub(super) fn get_or_build<T: Into<Artifact>, E>(
        &self,
        key: &Fingerprint,
        within: Option<&Namespace>,
        build: impl FnOnce() -> Result<T, E>,
    ) -> Result<Artifact, E> {
        let build = || self.run(build);
        if matches!(self.backend, Backend::Off) {
            self.counters.miss();
            return Ok(build()?.artifact);
        }
        if let Some(found) = self.look(key) {
            return Ok(self.found(found));
        }
        let start = Instant::now();
        // Of a build that this one is part of: others see what it waits for.
        let mark = lease::mark(key);
        let turn = loop {
            let left = self.build_wait.saturating_sub(start.elapsed());
            let (turn, waited) = self.flights.join(*key, left);
            if matches!(turn, Turn::Look) {
                // It was built already, and waited for to be put.
                if let Some(found) = self.look_again(key) {
                    return Ok(self.found(found));
                }
                continue;
            }
            if let Some(time) = waited {
                self.counters.waits.add(1);
                self.counters.wait_nanos.add_time(time);
            }
            break turn;
        };
        match turn {
            Turn::Landed(entry) => Ok(self.shared(entry)),
            Turn::Lead(lead) => {
                // Not all of it: what this process then builds itself, its other threads share.
                let deadline = start + self.build_wait / 2;
                let claim = self.claim(key, deadline, &|| lead.mark());
                if matches!(claim, Claim::Build(None)) {
                    drop(mark);
                }
                self.build_as_leader(lead, (key, claim), within, build)
            }
            Turn::Alone | Turn::Look => {
                if let Some(found) = self.look_again(key) {
                    return Ok(self.found(found));
                }
                self.counters.miss();
                self.counters.lone_builds.add(1);
                drop(mark);
                let entry = build()?;
                self.put(key, within, entry.clone(), None);
                Ok(entry.artifact)
            }
        }
    }

    /// Any way out but the last hands the build over to the next caller, of this process and of
    /// others: an error, and a panic.
    fn build_as_leader<E>(
        &self,
        lead: Lead<'_, Fingerprint, Entry>,
        (key, claim): (&Fingerprint, Claim),
        within: Option<&Namespace>,
        build: impl FnOnce() -> Result<Entry, E>,
    ) -> Result<Artifact, E> {
        let lease = match claim {
            Claim::Build(lease) => lease,
            Claim::Found(entry) => {
                lead.land(entry.clone());
                return Ok(self.found(entry));
            }
            Claim::Shared(entry) => {
                lead.land(entry.clone());
                self.counters.miss();
                return Ok(entry.artifact);
            }
        };
        self.counters.miss();
        let building = lease.as_ref().map(BuildLease::build);
        let entry = build()?;
        drop(building);
        // In the cache before it lands: whoever comes too late to follow must find it. The lease
        // goes with it until it is on disk, where other processes find it.
        lead.mark();
        let hold = lease.map(|lease| Box::new(lease) as Hold);
        self.put(key, within, entry.clone(), hold);
        lead.land(entry.clone());
        Ok(entry.artifact)
    }

    fn found(&self, entry: Entry) -> Artifact {
        self.counters.hit(entry.build_cost);
        entry.artifact
    }

    fn shared(&self, entry: Entry) -> Artifact {
        self.counters.miss();
        self.counters.shared_builds.add(1);
        self.counters.shared_nanos.add_time(entry.build_cost);
        entry.artifact
    }

    fn run<T: Into<Artifact>, E>(&self, build: impl FnOnce() -> Result<T, E>) -> Result<Entry, E> {
        let attempt = Attempt::start(&self.counters);
        let mut entry = Entry::from(build()?.into());
        // Never zero, which would say that nobody knows.
        entry.build_cost = attempt.succeed().max(Duration::from_nanos(1));
        Ok(entry)
    }
}
