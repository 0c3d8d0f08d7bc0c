//! A cache that has seen something.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use crate::support::{Place, content, key};
use keepwarm::{DiskStore, Entry, Store};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What a name may look like that wants to be more than text.
pub const HOSTILE: &str = "</bdi></td><script>alert(1)</script><img src=//x.y onerror=alert(1)>&amp;\"' {{entries}}\u{1b}\u{202e}\u{fdd0}";

/// Makes the next process that uses the directory take a sample: the word of the index that says
/// when the last one was taken is set back.
fn let_time_pass(cache: &Path) {
    let index = cache.join("v1/index");
    let mut bytes = std::fs::read(&index).unwrap();
    let at = 29 * 8;
    let word = u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let ago = word - 400_000_000_000;
    bytes[at..at + 8].copy_from_slice(&ago.to_ne_bytes());
    // In place: the index knows its own inode.
    std::fs::write(&index, bytes).unwrap();
}

/// Several namespaces, ages, sizes and costs, and a history of two intervals.
pub fn lived_in() -> Place {
    let place = Place::empty();
    let store = DiskStore::open(place.cache_dir()).unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    let mut large = Entry::from(vec![7; 400_000]).with_put_at(long_ago);
    large.build_cost = Duration::from_secs(5);
    assert!(!store.put(&key(1000), large).unwrap().is_rejected());
    drop(store);
    for round in 0..3_u64 {
        if round > 0 {
            let_time_pass(&place.cache_dir());
        }
        let cache = place.cache();
        for n in 0..20 {
            let space = cache.namespace(["naga", "dxc", HOSTILE][usize::try_from(n % 3).unwrap()]);
            let build = || Ok::<_, std::io::Error>(content(n + round));
            space.get_or_insert_with(&key(n + round), build).unwrap();
            assert!(space.get(&key(n + round)).is_some());
        }
        cache.close().unwrap();
    }
    place
}
