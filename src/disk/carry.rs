//! Entries that come from another directory, and bring the time of their last use.

use super::DiskStore;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::store::{Entry, PutOutcome, nanos};
use std::time::SystemTime;

impl DiskStore {
    /// As [`put`](crate::Store::put), for an entry that is carried here from elsewhere: it counts as last
    /// used at `last_used`, not now, so that it neither outlives what is used here nor counts as
    /// used since a [mark](Self::mark).
    ///
    /// A time in the future counts as now. If exactly this entry is stored already, the later of
    /// both last uses stays. If the budget is used up, what comes may itself be what goes.
    ///
    /// # Errors
    ///
    /// As of [`put`](crate::Store::put).
    ///
    /// ```
    /// use keepwarm::{DiskStore, Entry, Fingerprint};
    /// use std::time::{Duration, SystemTime};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
    /// let entry = Entry::from(vec![1]).with_put_at(yesterday);
    /// assert!(!store.put_used_at(&key, entry, yesterday)?.is_rejected());
    /// assert_eq!(store.info(&key)?.unwrap().last_used, yesterday);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_used_at(
        &self,
        key: &Fingerprint,
        entry: Entry,
        last_used: SystemTime,
    ) -> Result<PutOutcome> {
        self.put_with(key, entry, Some(nanos(last_used).max(1)))
    }

    /// As [`touch`](crate::Store::touch), for keys that were used elsewhere, at the time beside each: the
    /// later of that and of what is known here stays. A time in the future counts as now, and a key
    /// that is not there is passed over.
    ///
    /// # Errors
    ///
    /// If the index cannot be written.
    ///
    /// ```
    /// use keepwarm::{DiskStore, Entry, Fingerprint};
    /// use std::time::{Duration, SystemTime};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// let (now, hour) = (SystemTime::now(), Duration::from_secs(60 * 60));
    /// let _ = store.put_used_at(&key, vec![1].into(), now - 2 * hour)?;
    /// store.touch_at(&[(key, now - hour), (key, now - 3 * hour)])?;
    /// assert_eq!(store.info(&key)?.unwrap().last_used, now - hour);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn touch_at(&self, uses: &[(Fingerprint, SystemTime)]) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let uses: Vec<_> = uses.iter().map(|(key, at)| (*key, nanos(*at))).collect();
        self.inner.touch_at(&uses)
    }
}
