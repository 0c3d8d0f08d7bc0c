//! Two stores as one: a fast one in front of a large one.
//!
//! # Who may hold what, in this order
//!
//! 1. a [stripe](stripes) (all of them for `clear`), across calls of the two tiers;
//! 2. a claim on a key in the [unwritten table](unwritten), by the writer or a remover, across
//!    calls of the lower tier;
//! 3. the [lock](queue) of that table, across nothing.
//!
//! # Why no get sees an older entry after a newer one
//!
//! A get asks upper, table, lower, in this order. A put binds table, then upper; the write below
//! follows, and only then the table forgets. A remove goes the other way: lower, table, upper.
//! Puts, removes and promotions of a key exclude each other by its stripe, and a promotion that
//! began to look before the last of them is dropped. Hence:
//!
//! * *Table and lower together never go back.* The table holds the newest put until it is below.
//! * *The upper tier never goes back.* It may lose an entry at any moment, not get an older one.
//! * *Nothing newer than what the upper tier holds is seen below it.* A get that missed above and
//!   finds that the key's stripe was held since (so that an entry may have come above behind its
//!   back, and a newer one into the table) asks above once more, and what is there wins. If it
//!   misses again, what it found below was put before anything that may come above now.

mod builder;
mod counters;
mod event;
mod queue;
mod stripes;
#[cfg(test)]
mod tests;
mod touches;
mod unwritten;
mod upkeep;
mod writer;

pub use builder::{TieredBuilder, WritePolicy};
pub use event::TierEvent;
pub(crate) use unwritten::Hold;

use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Fingerprint;
use crate::stats::{Durability, StoreStats};
use crate::store::{Displaced, Entry, PutOutcome, PutStatus, Store};
use crate::sync::Arc;
use counters::{Counters, count};
use queue::{Lookup, Queue};
use std::hash::{Hash, Hasher};
use stripes::Stripes;
use touches::{Noted, Touches};
use unwritten::Job;
use writer::{Shared, Writer};

/// A fast store in front of a large one, as one [`Store`].
///
/// Either may be any store, a composition included, so tiers nest.
///
/// * A **get** asks the upper tier, then what is not yet written, then the lower tier. What the
///   lower tier has is *promoted*: the same artifact is handed up (a mapped one stays mapped).
/// * A **put** goes to the upper tier, and to the lower one by a background writer, when the
///   [`WritePolicy`] says. An entry that the upper tier refuses goes below only.
/// * What the upper tier **displaces** is written below if it never was, and dropped otherwise:
///   a demotion never undoes what another process put or removed below since.
/// * A **failed write** is tried once more, then reported ([`TierEvent::WriteFailed`]), counted, and
///   what it would have replaced is removed, so that nothing older comes to light. The next
///   [`flush`](Store::flush) fails. A refusal by the lower tier is no failure.
/// * A **failed remove or clear** of the lower tier leaves everything as it was.
/// * A lower tier that is [read-only](crate::StoreStats::read_only) when the composition is built
///   is never written to. What is put is in the upper tier alone, and comes back in the outcome if
///   that refuses or displaces it; what the lower tier has is promoted as ever. A remove of a key
///   that the lower tier has fails; where the upper tier alone loses a key (an eviction, or a
///   remove through another handle), the lower tier's entry comes to light again.
/// * **Dropping** writes everything below but reports nothing and does not sync;
///   [`close`](Self::close) does both.
/// * A **forked child** has no writer: there, everything that writes fails with
///   [`ErrorKind::Closed`](crate::ErrorKind::Closed), and dropping touches nothing.
///
/// # Counters
///
/// [`stats`](Store::stats) counts look-ups and puts of the composition; `demotions` are writes
/// below, `rejected_puts` writes that the lower tier refused, `evictions` those of the lower tier
/// (what left the upper one only is still there). `entries` and `cached_bytes` are what the lower
/// tier has and what is unwritten, or what the upper tier has if that is more: an entry that
/// replaces one below counts twice until it is written. What was written to media, deduplicated
/// or found damaged is the sum of both tiers.
///
/// ```
/// use keepwarm::{Fingerprint, MemoryStore, StoreExt, Tiered};
///
/// let small = MemoryStore::builder().byte_budget(2).build()?;
/// let large = MemoryStore::builder().build()?;
/// let tiered = Tiered::builder(small, large).build();
///
/// let key = |n| Fingerprint::from_bytes([n; 32]);
/// for n in 0..10 {
///     tiered.put_bytes(&key(n), [n])?;
/// }
/// assert_eq!(tiered.get_artifact(&key(3))?.unwrap().as_slice(), [3]);
/// tiered.close()?;
/// # Ok::<(), keepwarm::Error>(())
/// ```
#[derive(Debug)]
pub struct Tiered<U: Store, L: Store + 'static> {
    upper: U,
    shared: Arc<Shared<L>>,
    stripes: Stripes,
    writer: Writer,
    policy: WritePolicy,
    /// Whether nothing is ever written below.
    reads_below: bool,
    wait_limit: std::time::Duration,
    max_age: Option<std::time::Duration>,
}

/// A cheap hash of all 32 bytes; its low bits choose the stripe.
fn fold(key: &Fingerprint) -> u64 {
    let mut hasher = rustc_hash::FxHasher::default();
    key.hash(&mut hasher);
    let hash = hasher.finish();
    hash ^ (hash >> 32)
}

impl<U: Store, L: Store + 'static> Tiered<U, L> {
    /// Starts a composition of `upper` in front of `lower`.
    ///
    /// ```
    /// use keepwarm::{MemoryStore, Store, Tiered};
    ///
    /// let memory = || MemoryStore::builder().build();
    /// let inner = Tiered::builder(memory()?, memory()?).build();
    /// let nested = Tiered::builder(memory()?, Box::new(inner) as Box<dyn Store>).build();
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn builder(upper: U, lower: L) -> TieredBuilder<U, L> {
        TieredBuilder::new(upper, lower)
    }

    fn new(settings: TieredBuilder<U, L>) -> Self {
        let reads_below = settings.lower.stats().read_only;
        let shared = Shared {
            lower: settings.lower,
            queue: Queue::new(settings.queue_bytes, settings.wait_limit),
            touches: Touches::new(settings.touch_interval),
            reporter: settings.reporter,
            counters: Counters::new(),
        };
        Self {
            upper: settings.upper,
            shared: Arc::new(shared),
            stripes: Stripes::new(),
            writer: Writer::default(),
            policy: settings.policy,
            reads_below,
            wait_limit: settings.wait_limit,
            max_age: settings.max_age,
        }
    }

    /// The tier in front. What is changed there directly is not ordered with anything here.
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Tiered};
    /// # let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower).build();
    /// assert!(tiered.upper().is_empty());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn upper(&self) -> &U {
        &self.upper
    }

    /// The tier behind. What is changed there directly is like what another process does: the
    /// upper tier does not learn of it.
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Tiered};
    /// # let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower).build();
    /// assert!(tiered.lower().is_empty());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn lower(&self) -> &L {
        &self.shared.lower
    }

    /// What is not in the lower tier yet, and writes that failed since the last flush.
    ///
    /// `unsynced_files` is zero: ask the lower tier.
    ///
    /// ```
    /// use keepwarm::{MemoryStore, Store, Tiered};
    ///
    /// let memory = || MemoryStore::builder().build();
    /// let tiered = Tiered::builder(memory()?, memory()?).build();
    /// tiered.flush()?;
    /// assert!(tiered.durability().survives_a_kill());
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn durability(&self) -> Durability {
        self.shared.queue.durability()
    }

    /// Writes everything below, flushes, and reports what went wrong.
    ///
    /// # Errors
    ///
    /// Those of [`flush`](Store::flush).
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Tiered};
    /// # let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// Tiered::builder(upper, lower).build().close()?;
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn close(self) -> Result<()> {
        self.flush()
    }

    fn check_process(&self, action: &str) -> Result<()> {
        if self.shared.queue.is_forked() {
            return Err(Error::new(ErrorKind::Closed, action));
        }
        Ok(())
    }

    /// Sees to it that what is queued is written.
    fn start_writer(&self) {
        if !self.writer.was_started() && self.shared.queue.is_forked() {
            return;
        }
        if !self.writer.start(&self.shared) {
            self.shared.run_here();
        }
    }

    /// Notes that the upper tier serves a key.
    fn note_hit(&self, key: &Fingerprint, fold: u64) {
        if self.reads_below {
            return;
        }
        let (touches, queue) = (&self.shared.touches, &self.shared.queue);
        match touches.note(key, fold, || queue.is_forked()) {
            Noted::Nothing => return,
            Noted::First => queue.touch_after(touches.interval()),
            Noted::Many => queue.touch_now(),
        }
        self.start_writer();
    }

    /// Whether an entry that is not below yet is older than entries may be. (The tiers see to it
    /// for what they hold.)
    fn is_expired(&self, entry: &Entry) -> bool {
        self.max_age.is_some_and(|age| entry.is_older_than(age))
    }

    /// What is not in the upper tier: in the table, or (`true`) in the lower tier.
    fn find_below(&self, key: &Fingerprint) -> Result<(Option<Entry>, bool)> {
        match self.shared.queue.get(key) {
            Lookup::Found(entry) if self.is_expired(&entry) => {
                // The upper tier dropped it for its age and hands it to nobody.
                if !self.shared.queue.demote(std::iter::once(*key)).is_empty() {
                    self.start_writer();
                }
                Ok((None, false))
            }
            Lookup::Found(entry) => Ok((Some(entry), false)),
            Lookup::Hidden => Ok((None, false)),
            Lookup::Clean => Ok((self.shared.lower.get(key)?, true)),
        }
    }

    /// A get that missed above, since the stripe of the key had that version.
    fn get_below(&self, key: &Fingerprint, fold: u64, version: u64) -> Result<Option<Entry>> {
        let (found, promote) = self.find_below(key)?;
        if !self.stripes.is_quiet_since(fold, version) {
            // The module's documentation says why.
            if let Ok(Some(entry)) = self.upper.get(key) {
                return Ok(Some(entry));
            }
        } else if let (Some(entry), true) = (&found, promote) {
            self.promote(key, fold, version, entry);
        }
        Ok(found)
    }

    /// Hands an entry of the lower tier up, unless the key changed since `version`. Never waits.
    fn promote(&self, key: &Fingerprint, fold: u64, version: u64, entry: &Entry) {
        // It may displace what is dirty, and a get must not wait for room.
        if self.policy == WritePolicy::OnEviction && self.shared.queue.is_full() {
            return;
        }
        let Some(stripe) = self.stripes.acquire_if(fold, version) else {
            return;
        };
        let outcome = self.upper.put(key, entry.clone());
        drop(stripe);
        // A failed promotion does not fail the get.
        let Ok(outcome) = outcome else { return };
        if !self.demote(&outcome.displaced).is_empty() {
            self.start_writer();
        }
        let stays = !outcome.displaced.iter().any(|d| d.key == *key);
        if outcome.status == PutStatus::Stored && stays {
            let (key, bytes) = (*key, entry.artifact.len() as u64);
            self.shared.counters.promoted(bytes);
            let event = TierEvent::Promoted { key, bytes };
            self.shared.reporter.report(&event);
        }
        self.shared.reporter.evictions(&outcome.evictions);
    }

    /// Queues what the upper tier displaced and the lower one does not have; returns the keys.
    ///
    /// Membership of the table decides, not the identity of what was displaced: the table always
    /// holds the newest put of a key until it is below, so queueing that is right whatever left.
    fn demote(&self, displaced: &[Displaced]) -> Vec<Fingerprint> {
        if displaced.is_empty() || self.policy == WritePolicy::OnInsert {
            return Vec::new();
        }
        self.shared.queue.demote(displaced.iter().map(|d| d.key))
    }

    /// [`put`](Store::put), with something to be dropped when the entry is below, or when it is
    /// certain that it never will be: whoever waits for that then finds the entry there, or not at
    /// all. Under either policy it is queued at once.
    pub(crate) fn put_holding(
        &self,
        key: &Fingerprint,
        entry: Entry,
        hold: Option<Hold>,
    ) -> Result<PutOutcome> {
        let (above, queued) = self.put_above(key, entry, hold).inspect_err(|_| {
            count(&self.shared.counters.failed_puts);
            self.start_writer();
        })?;
        count(&self.shared.counters.puts);
        if self.reads_below {
            return Ok(self.put_alone(above));
        }
        let mut keys = self.demote(&above.displaced);
        if queued {
            keys.push(*key);
        }
        self.make_room(&keys);
        self.shared.reporter.evictions(&above.evictions);
        Ok(PutOutcome::new(match above.status {
            PutStatus::Rejected(_) => PutStatus::Stored,
            status => status,
        }))
    }

    /// Binds a key in the table and in the upper tier; tells whether it is queued.
    fn put_above(
        &self,
        key: &Fingerprint,
        entry: Entry,
        hold: Option<Hold>,
    ) -> Result<(PutOutcome, bool)> {
        let queue = &self.shared.queue;
        self.check_process("put into a store of the parent process")?;
        let _stripe = self.stripes.acquire(fold(key), queue.deadline())?;
        if self.reads_below {
            return Ok((self.upper.put(key, entry)?, false));
        }
        let at_once = self.policy == WritePolicy::OnInsert;
        let queued = queue.insert(*key, entry.clone(), at_once, hold)?;
        let outcome = self.upper.put(key, entry).inspect_err(|_| {
            // It may still hold what the table has something newer for.
            drop(self.upper.remove(key));
            queue.demote(std::iter::once(*key));
        })?;
        Ok((outcome, queued))
    }

    /// What a put says that goes to the upper tier only.
    fn put_alone(&self, mut above: PutOutcome) -> PutOutcome {
        self.shared.reporter.evictions(&above.evictions);
        above.evictions.clear();
        above
    }

    /// Waits for room after a put that queued `keys`; past the bound, writes them itself.
    fn make_room(&self, keys: &[Fingerprint]) {
        if keys.is_empty() {
            return;
        }
        self.start_writer();
        if self.shared.queue.wait_for_room(keys).is_err() {
            for key in keys {
                if let Some(job) = self.shared.queue.claim_queued(key) {
                    self.shared.write(&job);
                }
            }
        }
    }

    /// Writes below everything put before the call.
    fn drain(&self) -> Result<()> {
        let names = self.shared.queue.queue_all()?;
        if !names.is_empty() {
            self.start_writer();
        }
        self.shared.queue.wait_for(names)
    }

    fn try_remove(&self, key: &Fingerprint) -> Result<bool> {
        let queue = &self.shared.queue;
        self.check_process("remove from a store of the parent process")?;
        let _stripe = self.stripes.acquire(fold(key), queue.deadline())?;
        let job = queue.claim_for_removal(key)?;
        let removal = Removal { queue, job };
        // From below upwards: see the module's documentation.
        let below = self.shared.lower.remove(key)?;
        let unwritten = removal.finish();
        let above = self.upper.remove(key)?;
        Ok(below || unwritten || above)
    }

    fn try_flush(&self) -> Result<()> {
        self.check_process("flush a store of the parent process")?;
        let reported = self.shared.queue.reported()?;
        self.drain()?;
        // What fails from here on was put since, and is for a flush that begins since.
        let failed = self.shared.queue.report_failures(reported)?;
        // What could be written is flushed even if something could not.
        let lower = self.shared.lower.flush();
        let upper = self.upper.flush();
        lower.and(upper)?;
        if failed {
            let action = "write everything that was put to the lower tier";
            return Err(Error::new(ErrorKind::WriteFailed, action));
        }
        Ok(())
    }
}

/// A claim on a key that is being removed: given back unless the removal succeeds.
struct Removal<'a> {
    queue: &'a Queue,
    job: Option<Job>,
}

impl Removal<'_> {
    /// The key is gone below; tells whether it was unwritten.
    fn finish(mut self) -> bool {
        let Some(job) = self.job.take() else {
            return false;
        };
        self.queue.settle(&job);
        job.content.is_some()
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.queue.give_back(&job);
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<U: Store, L: Store + 'static> Store for Tiered<U, L> {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let fold = fold(key);
        let version = self.stripes.version(fold);
        let above = self.upper.get(key);
        if let Ok(Some(entry)) = above {
            self.shared.counters.lookup(fold, true);
            self.note_hit(key, fold);
            return Ok(Some(entry));
        }
        let below = self.get_below(key, fold, version);
        let hit = matches!(below, Ok(Some(_)));
        self.shared.counters.lookup(fold, hit);
        // Where the upper tier could not tell, the lower one may; a miss would be a guess.
        if hit { below } else { above.and(below) }
    }

    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        if self.upper.contains(key)? {
            return Ok(true);
        }
        match self.shared.queue.get(key) {
            Lookup::Found(entry) => Ok(!self.is_expired(&entry)),
            Lookup::Hidden => Ok(false),
            Lookup::Clean => self.shared.lower.contains(key),
        }
    }

    /// Binds the key above and queues the write below.
    ///
    /// Waits for room in the queue. The outcome hands nothing back and tells of no eviction: what
    /// the upper tier displaced goes below. [`TierEvent::Evicted`] tells of both tiers.
    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        self.put_holding(key, entry, None)
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        let removed = self.try_remove(key);
        if removed.is_err() && !self.reads_below {
            // What was queued, or was to be, is so again.
            self.start_writer();
        }
        removed
    }

    fn touch(&self, keys: &[Fingerprint]) -> Result<()> {
        let upper = self.upper.touch(keys);
        self.shared.lower.touch(keys).and(upper)
    }

    fn clear(&self) -> Result<()> {
        let queue = &self.shared.queue;
        self.check_process("clear a store of the parent process")?;
        let _stripes = self.stripes.acquire_all(queue.deadline())?;
        let paused = queue.pause()?;
        self.shared.lower.clear()?;
        let forgotten = paused.forget_all()?;
        drop(paused);
        drop(forgotten);
        self.upper.clear()
    }

    /// Writes everything below, then flushes the lower tier.
    fn flush(&self) -> Result<()> {
        let result = self.try_flush();
        self.shared.counters.flushed(result.is_ok());
        result
    }

    fn stats(&self) -> StoreStats {
        let durability = self.durability();
        let unwritten = (durability.unwritten_entries, durability.unwritten_bytes);
        let (upper, lower) = (self.upper.stats(), self.shared.lower.stats());
        self.shared.counters.snapshot(unwritten, upper, lower)
    }
}

impl<U: Store, L: Store + 'static> Drop for Tiered<U, L> {
    fn drop(&mut self) {
        if self.shared.queue.is_forked() {
            return;
        }
        // Bounded, and nobody is left to be told what went wrong: `close` tells.
        drop(self.drain());
        self.shared.queue.close();
        if !self.writer.was_started() {
            drop(self.shared.write_touches(true));
        }
        self.writer.wait(self.wait_limit);
    }
}
