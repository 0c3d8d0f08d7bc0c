//! A process that is stopped while it has the right to evict.

use crate::Fingerprint;
use crate::disk::DiskStore;
use crate::disk::header::Field;
use crate::store::StoreExt;
use std::time::{Duration, Instant};

const BUDGET: u64 = 1 << 20;

#[test]
fn a_stopped_evictor_does_not_switch_the_budget_off() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DiskStore::builder().byte_budget(BUDGET).open(dir.path());
    let (stopped, store) = (open().unwrap(), open().unwrap());
    let _lease = stopped.inner.eviction_lease().unwrap().unwrap();
    let mut number = 0u64;
    let mut put = || {
        number += 1;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        let bytes = vec![key[0]; 50_000 + key[0] as usize];
        store
            .put_bytes(&Fingerprint::from_bytes(key), bytes)
            .unwrap();
    };
    let inner = &store.inner;
    let size = || inner.index().field(Field::DiskBytes);
    while size() <= BUDGET {
        put();
    }
    // The first wait that is in vain begins to count the time.
    let started = {
        let seen = inner.evictor.lock().unwrap();
        seen.as_ref().unwrap().since
    };
    assert!(started.elapsed() < Duration::from_secs(10));
    put();
    assert!(size() > BUDGET, "not stopped for long");
    let long_ago = Instant::now().checked_sub(Duration::from_secs(11)).unwrap();
    inner.evictor.lock().unwrap().as_mut().unwrap().since = long_ago;
    put();
    assert!(size() <= BUDGET);
    assert_ne!(inner.index().field(Field::Evictions), 0);
}
