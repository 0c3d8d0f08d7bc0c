//! What cannot be seen through the public API in one process.

#![allow(clippy::unwrap_used, reason = "for tests only")]

use super::*;
use std::sync::Mutex;

/// Keeps one entry, and counts what it is asked to change.
#[derive(Debug, Default)]
struct One {
    entry: Mutex<Option<Entry>>,
    changes: Mutex<usize>,
}

#[deny(clippy::missing_trait_methods)]
impl Store for One {
    fn get(&self, _: &Fingerprint) -> Result<Option<Entry>> {
        Ok(self.entry.lock().unwrap().clone())
    }
    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        Ok(self.get(key)?.is_some())
    }
    fn put(&self, _: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        *self.changes.lock().unwrap() += 1;
        *self.entry.lock().unwrap() = Some(entry);
        Ok(PutOutcome::new(PutStatus::Stored))
    }
    fn remove(&self, _: &Fingerprint) -> Result<bool> {
        *self.changes.lock().unwrap() += 1;
        Ok(self.entry.lock().unwrap().take().is_some())
    }
    fn touch(&self, _: &[Fingerprint]) -> Result<()> {
        *self.changes.lock().unwrap() += 1;
        Ok(())
    }
    fn clear(&self) -> Result<()> {
        *self.changes.lock().unwrap() += 1;
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        *self.changes.lock().unwrap() += 1;
        Ok(())
    }
    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }
}

#[test]
fn a_forked_child_reads_but_changes_nothing_below() {
    let key = Fingerprint::from_bytes([1; 32]);
    let lower = Arc::new(One::default());
    let mut tiered = Tiered::builder(One::default(), Arc::clone(&lower))
        .write_policy(WritePolicy::OnEviction)
        .build();
    let _ = tiered.put(&key, vec![1].into()).unwrap();
    // No writer was started yet, so nobody else holds this.
    let shared = Arc::get_mut(&mut tiered.shared).unwrap();
    shared.queue.pretend_forked();
    assert!(tiered.get(&key).unwrap().is_some());
    let errors = [
        tiered.put(&key, vec![2].into()).unwrap_err(),
        tiered.remove(&key).unwrap_err(),
        tiered.clear().unwrap_err(),
        tiered.flush().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Closed);
    }
    assert!(!tiered.writer.was_started(), "a thread in the child");
    drop(tiered);
    assert_eq!(*lower.changes.lock().unwrap(), 0);
}
