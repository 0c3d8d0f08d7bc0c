//! The settings of a composition.

use super::Tiered;
use super::event::{Listener, Reporter, TierEvent};
use crate::store::Store;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// When an entry is written to the lower tier; see [`TieredBuilder::write_policy`] and
/// [`CacheBuilder::write_policy`](crate::CacheBuilder::write_policy), which have examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WritePolicy {
    /// Every put is queued at once for a background writer: it is below milliseconds later, and a
    /// `kill -9` after that loses nothing. A demotion then finds the entry below and drops it.
    #[default]
    OnInsert,
    /// A put is written when the upper tier displaces it, and at a flush or drop: what is
    /// replaced or removed before that is never written. A `kill -9` loses what was not displaced.
    /// What [`Cache::get_or_insert_with`](crate::Cache::get_or_insert_with) built is written at
    /// once all the same: other processes may wait for it.
    ///
    /// Made for an upper tier that hands back what it displaces. With one that drops it instead
    /// (a disk, a composition), what was put stays in memory until the next flush.
    OnEviction,
}

/// Settings of a [`Tiered`]; see [`Tiered::builder`].
#[must_use = "a builder does nothing until `build`"]
pub struct TieredBuilder<U, L> {
    pub(super) upper: U,
    pub(super) lower: L,
    pub(super) policy: WritePolicy,
    pub(super) queue_bytes: u64,
    pub(super) wait_limit: Duration,
    pub(super) touch_interval: Duration,
    pub(super) reporter: Reporter,
    pub(super) max_age: Option<Duration>,
}

/// A year: longer settings are cut, so that no sum of instants overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl<U: Store, L: Store + 'static> TieredBuilder<U, L> {
    pub(super) fn new(upper: U, lower: L) -> Self {
        Self {
            upper,
            lower,
            policy: WritePolicy::OnInsert,
            queue_bytes: 64 << 20,
            wait_limit: Duration::from_secs(30),
            touch_interval: Duration::from_secs(60),
            reporter: Reporter::default(),
            max_age: None,
        }
    }

    /// When entries are written below; [`WritePolicy::OnInsert`] unless set.
    ///
    /// ```
    /// use keepwarm::{MemoryStore, Tiered, WritePolicy};
    ///
    /// let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower)
    ///     .write_policy(WritePolicy::OnEviction)
    ///     .build();
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn write_policy(mut self, policy: WritePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// How many bytes may wait to be written below, about 256 for each entry included; 64 MiB
    /// unless set.
    ///
    /// A put that finds the queue full waits for room. An entry larger than the bound waits until
    /// everything before it is written.
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Tiered};
    /// # let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower).queue_bytes(1 << 20).build();
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn queue_bytes(mut self, bytes: u64) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// How long anything waits; 30 seconds unless set, at most a year.
    ///
    /// A put that finds no room in the queue for so long writes to the lower tier itself. A put,
    /// remove or clear that waits so long for another one of the same key, or for a write in
    /// flight, fails with [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) and changes nothing.
    /// A flush or drop gives up when nothing at all was written for so long.
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Tiered};
    /// # use std::time::Duration;
    /// # let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower).wait_limit(Duration::from_secs(5)).build();
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = limit.min(LONGEST);
        self
    }

    /// How often the lower tier learns which keys the upper one serves, so that it does not evict
    /// them; a minute unless set, at most a year, zero for every hit at once.
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Tiered};
    /// # use std::time::Duration;
    /// # let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower).touch_interval(Duration::ZERO).build();
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn touch_interval(mut self, interval: Duration) -> Self {
        self.touch_interval = interval.min(LONGEST);
        self
    }

    /// How old an entry that waits to be written may be when it is served, counted from when it was
    /// [put](crate::store::Entry::put_at); any age unless set. Set the same for both tiers, which see to theirs.
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Tiered};
    /// # use std::time::Duration;
    /// let hour = Duration::from_secs(60 * 60);
    /// let memory = || MemoryStore::builder().max_age(hour).build();
    /// let tiered = Tiered::builder(memory()?, memory()?).max_age(hour).build();
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Who is told what happens, on the thread where it happens and under no lock.
    ///
    /// A listener should return soon: the writer, a put or a get waits for it. It may read the
    /// store; whatever writes or flushes may wait, as long as the [limit](Self::wait_limit), for
    /// the very thread it is called on. A panic of the listener is caught and forgotten.
    ///
    /// ```
    /// use keepwarm::{MemoryStore, TierEvent, Tiered};
    /// use std::sync::Arc;
    ///
    /// let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower)
    ///     .on_event(Arc::new(|event: &TierEvent| {
    ///         if let TierEvent::WriteFailed { key, error } = event {
    ///             eprintln!("{key} is not below: {error}");
    ///         }
    ///     }))
    ///     .build();
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn on_event(mut self, listener: Arc<dyn Fn(&TierEvent) + Send + Sync>) -> Self {
        let listener: Listener = listener;
        self.reporter = Reporter(Some(listener));
        self
    }

    /// The composition. Starts no thread: the first write does.
    ///
    /// ```
    /// # use keepwarm::{MemoryStore, Store, Tiered};
    /// # let (upper, lower) = (MemoryStore::builder().build()?, MemoryStore::builder().build()?);
    /// let tiered = Tiered::builder(upper, lower).build();
    /// assert_eq!(tiered.stats().entries, 0);
    /// # Ok::<(), keepwarm::Error>(())
    /// ```
    pub fn build(self) -> Tiered<U, L> {
        Tiered::new(self)
    }
}

impl<U: fmt::Debug, L: fmt::Debug> fmt::Debug for TieredBuilder<U, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredBuilder")
            .field("upper", &self.upper)
            .field("lower", &self.lower)
            .field("policy", &self.policy)
            .field("queue_bytes", &self.queue_bytes)
            .finish_non_exhaustive()
    }
}
