//! Events of the `tracing` feature: each thing is told once, by whoever did it.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use keepwarm::{Cache, Fingerprint};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps the message of every event of this crate.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

struct Message<'a>(&'a mut Vec<String>);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.push(format!("{value:?}"));
        }
    }
}

impl Subscriber for Messages {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "keepwarm"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message(&mut self.0.lock().unwrap()));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Messages {
    fn count(&self, message: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|m| m.contains(message))
            .count()
    }
}

fn key(n: u64) -> Fingerprint {
    Fingerprint::builder("events")
        .field("n", n.to_le_bytes())
        .finish()
}

#[test]
fn evictions_promotions_demotions_and_corruption_are_told_once() {
    let messages = Messages::default();
    // The only test of this binary: the writer's thread is heard as well.
    tracing::subscriber::set_global_default(messages.clone()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::builder()
        .memory_budget(1000)
        .open(dir.path())
        .unwrap();
    for n in 0..5 {
        cache.put(&key(n), vec![u8::try_from(n).unwrap(); 400]);
    }
    cache.flush().unwrap();
    assert_eq!(messages.count("demoted"), 5);
    assert_eq!(
        messages.count("evicted"),
        3,
        "{messages:?}",
        messages = messages.0
    );
    assert!(cache.get(&key(0)).is_some());
    assert_eq!(messages.count("promoted"), 1);
    assert_eq!(messages.count("evicted"), 4);
    // An object of 100,000 bytes is larger than memory: every get loads it.
    cache.put(&key(9), vec![9; 300_000]);
    cache.flush().unwrap();
    let path = cache.get(&key(9)).unwrap().path().unwrap().to_path_buf();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, vec![8; 300_000]).unwrap();
    assert!(cache.get(&key(9)).is_none());
    assert_eq!(
        messages.count("damaged"),
        1,
        "{messages:?}",
        messages = messages.0
    );
}
