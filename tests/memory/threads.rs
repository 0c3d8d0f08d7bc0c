//! Many threads on one store.

use super::{key, store};
use keepwarm::{Entry, Store};
use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;

const THREADS: u64 = 4;
const PUTS: u64 = 3000;

#[test]
fn no_entry_is_lost_and_the_budgets_hold() {
    const ANY: u64 = u64::MAX;
    for (entries, bytes, shards) in [(50, ANY, 8), (ANY, 700, 16), (1, ANY, 4), (30, 300, 8)] {
        let store = store(entries, bytes, shards);
        let barrier = Barrier::new(THREADS as usize);
        let put_all = |thread: u64| {
            let mut displaced = Vec::new();
            barrier.wait();
            for n in (thread * PUTS)..((thread + 1) * PUTS) {
                let entry = Entry::from(vec![n as u8; 1 + (n % 20) as usize]);
                displaced.extend(store.put(&key(n), entry).unwrap().displaced);
                store.get(&key(n / 2)).unwrap();
            }
            displaced
        };
        let displaced: Vec<_> = thread::scope(|scope| {
            let put_all = &put_all;
            let run = |thread| scope.spawn(move || put_all(thread));
            let handles: Vec<_> = (0..THREADS).map(run).collect();
            handles
                .into_iter()
                .flat_map(|h| h.join().unwrap())
                .collect()
        });

        assert!(store.len() as u64 <= entries && store.cached_bytes() <= bytes);
        if bytes == ANY {
            assert_eq!(
                store.len() as u64,
                entries,
                "no more is evicted than must be"
            );
        }
        // Every entry is in exactly one place, whole.
        let mut places: HashMap<_, u64> = HashMap::new();
        let mut kept_bytes = 0;
        for n in 0..THREADS * PUTS {
            if let Some(entry) = store.get(&key(n)).unwrap() {
                assert_eq!(
                    entry.artifact.as_slice(),
                    vec![n as u8; 1 + (n % 20) as usize]
                );
                kept_bytes += entry.artifact.len() as u64;
                *places.entry(key(n)).or_default() += 1;
            }
        }
        assert_eq!(
            (places.len(), kept_bytes),
            (store.len(), store.cached_bytes())
        );
        for displaced in displaced {
            *places.entry(displaced.key).or_default() += 1;
        }
        assert_eq!(places.len() as u64, THREADS * PUTS);
        assert!(places.values().all(|times| *times == 1));
        let stats = store.stats();
        assert_eq!(stats.puts, THREADS * PUTS);
        assert_eq!(stats.evictions + stats.entries, THREADS * PUTS);
    }
}

#[test]
fn puts_removes_and_clears_leave_the_gauges_right() {
    let store = store(30, 500, 4);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for n in 0..PUTS {
                    let n = n.wrapping_mul(thread * 2 + 7) % 60;
                    match n % 5 {
                        0 => drop(store.remove(&key(n / 2)).unwrap()),
                        1 if n == 31 => store.clear().unwrap(),
                        _ => drop(store.put(&key(n), vec![1; n as usize].into()).unwrap()),
                    }
                }
            });
        }
    });
    let kept: Vec<u64> = (0..60)
        .filter(|n| store.contains(&key(*n)).unwrap())
        .collect();
    assert_eq!(store.len(), kept.len());
    assert_eq!(store.cached_bytes(), kept.iter().sum::<u64>());
    assert!(store.len() <= 30 && store.cached_bytes() <= 500);
    store.clear().unwrap();
    assert_eq!((store.len(), store.cached_bytes()), (0, 0));
}
