//! A store of one's own, complete: an ordered map behind a lock, checked by the suite that every
//! store must pass.
//!
//! `cargo run --features conformance --example custom_store`

use keepwarm::conformance::Suite;
use keepwarm::{Entry, Fingerprint, PutOutcome, PutStatus, Result, Store, StoreExt, StoreStats};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Keeps every entry until it is removed; has no budget.
#[derive(Debug, Default)]
struct MapStore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Fingerprint, Entry>,
    stats: StoreStats,
}

impl MapStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .expect("no call panics while it holds the lock")
    }
}

impl Store for MapStore {
    fn get(&self, key: &Fingerprint) -> Result<Option<Entry>> {
        let mut state = self.state();
        let found = state.entries.get(key).cloned();
        state.stats.lookups += 1;
        match found {
            Some(_) => state.stats.hits += 1,
            None => state.stats.misses += 1,
        }
        Ok(found)
    }

    fn contains(&self, key: &Fingerprint) -> Result<bool> {
        Ok(self.state().entries.contains_key(key))
    }

    fn put(&self, key: &Fingerprint, entry: Entry) -> Result<PutOutcome> {
        let mut state = self.state();
        state.stats.puts += 1;
        let replaced = state.entries.insert(*key, entry);
        drop(state);
        // What was replaced is freed here, outside the lock. It is not handed back: only what was
        // evicted may be kept by somebody else.
        drop(replaced);
        Ok(PutOutcome::new(PutStatus::Stored))
    }

    fn remove(&self, key: &Fingerprint) -> Result<bool> {
        let removed = self.state().entries.remove(key);
        Ok(removed.is_some())
    }

    fn touch(&self, _keys: &[Fingerprint]) -> Result<()> {
        Ok(()) // It evicts nothing, so recency is of no use to it.
    }

    fn clear(&self) -> Result<()> {
        let all = std::mem::take(&mut self.state().entries);
        drop(all);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.state().stats.flushes += 1;
        Ok(()) // It keeps nothing beyond the process.
    }

    fn stats(&self) -> StoreStats {
        let state = self.state();
        let bytes = state
            .entries
            .values()
            .map(|entry| entry.artifact.len() as u64);
        let mut stats = state.stats.clone();
        stats.entries = state.entries.len() as u64;
        stats.cached_bytes = bytes.sum();
        stats
    }
}

/// The suite, told what this store does not have.
fn suite() -> Suite {
    Suite::new(|_| MapStore::default())
        .without_entry_budget()
        .without_byte_budget()
}

fn main() -> Result<()> {
    suite().run();
    println!("MapStore keeps every promise of a store");

    let store = MapStore::default();
    let key = Fingerprint::builder("custom-store")
        .field("n", "1")
        .finish();
    store.put_bytes(&key, *b"an artifact")?;
    let found = store.get_artifact(&key)?;
    println!(
        "{key}: {} bytes",
        found.map_or(0, |artifact| artifact.len())
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_store_of_ones_own_conforms() {
        super::suite().run();
    }
}
