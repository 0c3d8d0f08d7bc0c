//! Keeping within the budget on request, and freeing what a pass by itself would leave for later.

use super::DiskStore;
use super::evict::PASSES;
use super::header::Field;
use super::inner::Inner;
use crate::error::Result;
use crate::stats::Eviction;

impl DiskStore {
    /// Enforces the budgets now, and frees all space that can be had without evicting anything: of
    /// entries that went, in packs with little in them, of large artifacts that no key needs for
    /// ten minutes, and what killed processes left behind.
    ///
    /// Nobody has to call it: puts see to the budgets, and free space when that is worth the writing.
    /// It is for a directory that is about to be packed up, or of which nobody else takes care.
    /// Tells what was evicted.
    ///
    /// # Errors
    ///
    /// If the directory cannot be changed, or another process evicts for longer than
    /// [`lock_wait`](crate::DiskStoreBuilder::lock_wait).
    ///
    /// ```
    /// use keepwarm::{DiskStore, Fingerprint, Store, StoreExt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// let key = Fingerprint::from_bytes([1; 32]);
    /// store.put_bytes(&key, vec![1; 1000])?;
    /// store.remove(&key)?;
    /// assert!(store.collect()?.is_empty());
    /// assert!(store.stats().cached_bytes < 1000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn collect(&self) -> Result<Vec<Eviction>> {
        self.inner.collect()
    }
}

impl Inner {
    fn collect(&self) -> Result<Vec<Eviction>> {
        let _right = self.right_to_prune("collect what is not needed in")?;
        let mut reports = Vec::new();
        for _ in 0..PASSES {
            let before = self.index().field(Field::DiskBytes);
            let (evicted, within_budget) = self.evict_pass()?;
            let in_vain = evicted.is_empty() && self.index().field(Field::DiskBytes) >= before;
            reports.extend(evicted);
            if within_budget || in_vain {
                break;
            }
        }
        self.sweep()?;
        // What eviction freed is compacted down to the budget only.
        self.empty_packs(0)?;
        self.recount()?;
        Ok(reports)
    }
}
