//! What the disk tier promises when threads and processes meet in one directory. The whole tier
//! runs, on simulated files (see [`crate::sys`]); a second handle of the directory is a second
//! process, with an index, locks and packs of its own.
//!
//! What is at stake is the protocol between gets, which take no lock and read the words of the
//! index one by one, and those who write it under the lock: slots inserted, emptied, overwritten
//! in place (a content's), bindings marked live and dead, keys rebound, replaced bindings buried
//! by a flush, the table written anew elsewhere, packs emptied, everything cleared.
//!
//! In each model a value says which key it was put under and how many-th it is. Checked is that
//! 1. no get returns another key's value, or anything that was not put;
//! 2. no get returns an older value than one that began after the newer one was seen, in either
//!    process, nor a miss where nothing removes;
//! 3. when a put or remove has returned, the next get sees it, in either process.
#![allow(clippy::missing_panics_doc, reason = "that is how a model says no")]

use crate::{DiskStore, Fingerprint, Mapping, Store, Thread, at_once, sys};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU8, Ordering::SeqCst};
use shuttle::thread::yield_now;

const BUDGET: u64 = 1 << 20;

fn key(n: u8) -> Fingerprint {
    Fingerprint::from_bytes([n; 32])
}

fn open(budget: u64, mapping: Mapping) -> DiskStore {
    let builder = DiskStore::builder().byte_budget(budget).mapping(mapping);
    // The root of the simulated files; it is there in the real ones too, which stay untouched.
    builder.open("/").unwrap_or_else(|e| panic!("open: {e:?}"))
}

/// One directory, open in two processes.
struct Model {
    one: DiskStore,
    two: DiskStore,
    /// The newest version of key 1 that somebody has seen.
    seen: AtomicU8,
}

/// Which process.
#[derive(Clone, Copy)]
enum In {
    One,
    Two,
}
use In::{One, Two};

impl Model {
    fn new(budget: u64, mapping: Mapping) -> Arc<Self> {
        sys::format();
        let one = open(budget, Mapping::Large);
        while one.is_rebuilding() {
            yield_now();
        }
        let two = open(budget, mapping);
        let seen = AtomicU8::new(0);
        Arc::new(Self { one, two, seen })
    }

    fn store(&self, process: In) -> &DiskStore {
        match process {
            One => &self.one,
            Two => &self.two,
        }
    }

    fn put_long(&self, process: In, n: u8, version: u8, len: usize) {
        let mut value = vec![version; len];
        value[0] = n;
        let put = self.store(process).put(&key(n), value.into());
        assert!(put.is_ok(), "a put failed: {:?}", put.err());
    }

    fn put(&self, process: In, n: u8, version: u8) {
        self.put_long(process, n, version, 300);
    }

    fn get(&self, process: In, n: u8) -> Option<u8> {
        let found = self.store(process).get(&key(n));
        let found = found.unwrap_or_else(|e| panic!("a get failed: {e:?}"))?;
        let bytes = found.artifact.as_slice();
        assert_eq!(bytes[0], n, "another key's value");
        assert!(bytes[1..].iter().all(|b| *b == bytes[1]), "a torn value");
        Some(bytes[1])
    }

    fn remove(&self, process: In, n: u8) {
        let removed = self.store(process).remove(&key(n));
        assert!(removed.is_ok(), "a remove failed: {:?}", removed.err());
    }

    fn flush(&self, process: In) {
        let flushed = self.store(process).flush();
        assert!(flushed.is_ok(), "a flush failed: {:?}", flushed.err());
    }

    /// A get of key 1, which nobody removes: it finds what was seen before it began, or newer.
    fn look(&self, process: In) {
        let at_least = self.seen.load(SeqCst);
        let found = self.get(process, 1);
        assert!(found >= Some(at_least), "{found:?} after {at_least}");
        self.seen.fetch_max(found.unwrap_or(0), SeqCst);
    }

    /// A put of key 1 that is known to everybody when it returns.
    fn put_seen(&self, process: In, version: u8) {
        self.put(process, 1, version);
        self.seen.fetch_max(version, SeqCst);
    }

    /// Both processes find the same, and count it right once a pass has counted.
    fn agree(&self, keys: std::ops::Range<u8>) -> u64 {
        let mut found = 0;
        for n in keys {
            let version = self.get(One, n);
            assert_eq!(version, self.get(Two, n), "of key {n}");
            found += u64::from(version.is_some());
        }
        found
    }
}

fn thread(model: &Arc<Model>, run: impl FnOnce(&Model) + Send + 'static) -> Thread {
    let model = Arc::clone(model);
    Box::new(move || run(&model))
}

fn newest_wins(mapping: Mapping, flushes: bool) {
    let model = Model::new(BUDGET, mapping);
    model.put_seen(One, 1);
    let writer = thread(&model, move |model| {
        model.put_seen(One, 2);
        if flushes {
            model.flush(One);
        }
        model.put_seen(One, 3);
    });
    let reader = |process| {
        thread(&model, move |model| {
            model.look(process);
            model.look(process);
        })
    };
    at_once(vec![writer, reader(One), reader(Two)], || {
        assert_eq!(model.get(One, 1), Some(3));
        assert_eq!(model.get(Two, 1), Some(3));
        assert_eq!(model.one.stats().entries, 1);
    });
}

/// Rebinding a key: see [`newest_wins`].
pub fn no_older_value_after_a_newer_one() {
    newest_wins(Mapping::Large, false);
    newest_wins(Mapping::Never, false);
}

/// A key that is rebound and buried all the while moves from one bucket to the other and back: a
/// reader that nobody tells anything finds it each time, and never goes back.
fn rebound_is_found(mapping: Mapping) {
    let model = Model::new(BUDGET, mapping);
    model.put(One, 1, 1);
    let writer = thread(&model, |model| {
        for version in 2..5 {
            model.put(One, 1, version);
            model.flush(One);
        }
    });
    let reader = thread(&model, |model| {
        let mut last = Some(1);
        for _ in 0..4 {
            let found = model.get(Two, 1);
            assert!(found >= last, "{found:?} after {last:?}");
            last = found;
        }
    });
    at_once(vec![writer, reader], || {
        assert_eq!(model.get(Two, 1), Some(4));
    });
}

/// A flush buries what was replaced, under the eyes of readers.
pub fn burying_replaced_values_hides_no_newer_one() {
    newest_wins(Mapping::Large, true);
    rebound_is_found(Mapping::Large);
    rebound_is_found(Mapping::Never);
}

/// Two processes put one key: the later generation wins for both, and stays.
pub fn two_writers_agree() {
    let model = Model::new(BUDGET, Mapping::Large);
    let writer = |process, version| {
        thread(&model, move |model: &Model| {
            model.put(process, 1, version);
            assert!(model.get(process, 1).is_some());
        })
    };
    let reader = thread(&model, |model| {
        model.get(One, 1);
        model.get(Two, 1);
    });
    at_once(vec![writer(One, 1), writer(Two, 2), reader], || {
        assert_eq!(model.agree(1..2), 1);
        assert_eq!(model.one.stats().entries, 1, "miscounted");
    });
}

/// What was removed is not found again, while a flush buries and another key takes the slot.
pub fn no_value_after_its_removal() {
    let model = Model::new(BUDGET, Mapping::Large);
    model.put(One, 1, 1);
    model.put(Two, 1, 2);
    let remover = thread(&model, |model| {
        model.remove(Two, 1);
        model.seen.store(1, SeqCst);
        model.put(Two, 2, 1);
    });
    let flusher = thread(&model, |model| model.flush(One));
    let reader = |process| {
        thread(&model, move |model| {
            for _ in 0..2 {
                let gone = model.seen.load(SeqCst) == 1;
                let found = model.get(process, 1);
                assert!(!gone || found.is_none(), "came back");
                assert_ne!(found, Some(1), "older than what was put last");
                if found.is_none() {
                    model.seen.store(1, SeqCst);
                }
            }
        })
    };
    at_once(vec![remover, flusher, reader(One), reader(Two)], || {
        assert_eq!(model.agree(1..2), 0, "came back");
        assert_eq!(model.agree(2..3), 1);
    });
}

/// Keys share content, inline and as an object; one is removed while another is bound to it.
fn shared(len: usize, budget: u64) {
    let model = Model::new(budget, Mapping::Large);
    let bytes = move || vec![7_u8; len];
    let put = move |store: &DiskStore, n| assert!(store.put(&key(n), bytes().into()).is_ok());
    let has = move |store: &DiskStore, n| {
        let found = store.get(&key(n)).ok().flatten();
        found.is_some_and(|entry| *entry.artifact == *bytes())
    };
    put(&model.one, 1);
    let binder = thread(&model, move |model| {
        put(&model.two, 2);
        assert!(has(&model.two, 2) && has(&model.one, 2), "lost");
    });
    let remover = thread(&model, |model| {
        model.remove(One, 1);
        assert!(model.one.get(&key(1)).is_ok_and(|found| found.is_none()));
    });
    at_once(vec![binder, remover], || {
        assert!(has(&model.one, 2) && has(&model.two, 2), "lost");
    });
}

/// See [`shared`].
pub fn shared_content_outlives_the_key_it_came_with() {
    shared(300, BUDGET);
    shared(5000, BUDGET);
    // So much garbage that the removal collects it: the object goes, unless it is bound again.
    shared(9000, 1 << 16);
}

/// A slot passes from key to key and back, so that a reader may put one together from the words of
/// two: each key finds its own value, or nothing.
pub fn a_slot_that_changes_hands_leads_nobody_astray() {
    let model = Model::new(BUDGET, Mapping::Large);
    model.put(One, 1, 1);
    let writer = thread(&model, |model| {
        for version in 2..4 {
            model.remove(One, 1);
            model.put(One, 2, version);
            model.remove(One, 2);
            model.put(One, 1, version);
        }
    });
    let reader = thread(&model, |model| {
        for _ in 0..4 {
            model.get(Two, 1);
            model.get(Two, 2);
        }
    });
    at_once(vec![writer, reader], || {
        assert_eq!(model.get(Two, 1), Some(3));
        assert_eq!(model.agree(2..3), 0, "came back");
    });
}

/// The table is written anew elsewhere while others read and write: nothing is lost, nothing older
/// is found. So it is when a table grows.
pub fn a_table_that_is_replaced_loses_nothing() {
    let model = Model::new(BUDGET, Mapping::Large);
    model.put_seen(One, 1);
    let mover = thread(&model, |model| {
        sys::fail_next_index_sync();
        model.flush(One);
    });
    let writer = thread(&model, |model| {
        model.put_seen(Two, 2);
        model.put(Two, 2, 1);
    });
    let reader = |process| {
        thread(&model, move |model| {
            model.look(process);
            model.look(process);
        })
    };
    at_once(vec![mover, writer, reader(One), reader(Two)], || {
        assert_eq!(model.get(One, 1), Some(2));
        assert_eq!(model.agree(1..3), 2);
    });
}

/// A table grows while others read and write: nothing is lost, nothing older is found.
pub fn a_table_that_grows_loses_nothing() {
    let model = Model::new(BUDGET, Mapping::Large);
    model.put_seen(One, 1);
    // The models begin with 32 slots, and a table grows with the 27th: two a key.
    (10..22).for_each(|n| model.put(One, n, 1));
    let grower = thread(&model, |model| (22..25).for_each(|n| model.put(One, n, 1)));
    let writer = thread(&model, |model| {
        model.put_seen(Two, 2);
        model.remove(Two, 10);
    });
    let reader = |process| {
        thread(&model, move |model| {
            model.look(process);
            model.look(process);
        })
    };
    at_once(vec![grower, writer, reader(One), reader(Two)], || {
        assert_eq!(model.get(One, 1), Some(2));
        assert_eq!(model.agree(1..2), 1);
        assert_eq!(model.agree(10..11), 0, "came back");
        assert_eq!(model.agree(11..25), 14);
        assert_eq!(model.one.stats().entries, 15, "miscounted");
    });
}

/// A pack with little in it is emptied while its last entry is read and put again.
pub fn an_emptied_pack_loses_nothing() {
    // Packs of 4 KiB, and a pass when 8 KiB were removed.
    let model = Model::new(1 << 16, Mapping::Large);
    model.put_seen(One, 1);
    for n in 10..19 {
        model.put_long(One, n, 1, 1000);
    }
    for n in 10..18 {
        model.remove(One, n);
    }
    let remover = thread(&model, |model| model.remove(One, 18));
    let writer = thread(&model, |model| model.put_seen(Two, 2));
    let reader = |process| {
        thread(&model, move |model| {
            model.look(process);
            model.look(process);
        })
    };
    at_once(vec![remover, writer, reader(One), reader(Two)], || {
        assert_eq!(model.agree(1..2), 1);
        assert_eq!(model.agree(10..19), 0, "came back");
    });
}

/// Puts beyond the budget evict while others read: a value is its own, or a miss.
pub fn eviction_gives_no_wrong_answer() {
    let model = Model::new(1 << 14, Mapping::Large);
    for n in 10..20 {
        model.put_long(One, n, 1, 1000);
    }
    let writer = |process, keys: std::ops::Range<u8>| {
        thread(&model, move |model| {
            for n in keys {
                model.put_long(process, n, 2, 1000);
            }
        })
    };
    let reader = thread(&model, |model| {
        for n in 10..22 {
            model.get(Two, n);
        }
    });
    let threads = vec![writer(One, 20..24), writer(Two, 24..27), reader];
    at_once(threads, || {
        model.put_long(One, 30, 1, 1000);
        let found = model.agree(10..31);
        assert!(found > 0, "evicted everything");
        // A pack that a process has claimed nobody else empties: 4 KiB each.
        let bytes = model.one.stats().cached_bytes;
        assert!(bytes <= (1 << 14) + 2 * 4096, "{bytes} bytes are too many");
    });
}

/// What a clear has taken does not come back, and what is put meanwhile is there or not, for all.
pub fn a_clear_takes_everything() {
    let model = Model::new(BUDGET, Mapping::Large);
    model.put(One, 1, 1);
    model.put(Two, 2, 1);
    let clearer = thread(&model, |model| {
        let cleared = model.one.clear();
        assert!(cleared.is_ok(), "a clear failed: {:?}", cleared.err());
        model.seen.store(1, SeqCst);
    });
    let writer = thread(&model, |model| {
        model.put(Two, 3, 1);
        let cleared = model.seen.load(SeqCst) == 1;
        model.put(Two, 4, 1);
        assert!(
            !cleared || model.get(One, 4).is_some(),
            "lost after the clear"
        );
    });
    let reader = thread(&model, |model| {
        let cleared = model.seen.load(SeqCst) == 1;
        let found = model.get(Two, 1);
        assert!(!cleared || found.is_none(), "came back");
    });
    at_once(vec![clearer, writer, reader], || {
        assert_eq!(model.agree(1..3), 0, "came back");
        let found = model.agree(3..5);
        assert_eq!(model.one.stats().entries, found, "miscounted");
    });
}
