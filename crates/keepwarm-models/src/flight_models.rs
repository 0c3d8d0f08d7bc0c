//! What single flight promises, under every schedule. Waits in these models do not end by time,
//! so a waiter that nobody wakes is a deadlock, which the checker reports.
//!
//! Not modelled, and left to the unit tests of `flight.rs`: a wait that ends by time, and a builder
//! that panics (the checker switches no threads while a panic unwinds; the drop that hands over is
//! the one that a failing builder runs).
#![allow(clippy::missing_panics_doc, reason = "that is how a model says no")]

use crate::Thread;
use crate::flight::{Flights, Turn};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use std::collections::HashMap;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

/// A cache with single flight in front, as small as can be.
struct Model {
    flights: Flights<u8, u32>,
    cache: Mutex<HashMap<u8, u32>>,
    /// How many builds of a key are led now, and how many there were.
    led: Mutex<HashMap<u8, (u32, u32)>>,
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flights: Flights::new(),
            cache: Mutex::default(),
            led: Mutex::default(),
        })
    }

    fn look(&self, key: u8) -> Option<u32> {
        self.cache.lock().ok()?.get(&key).copied()
    }

    fn count(&self, key: u8, change: impl FnOnce(&mut (u32, u32))) {
        if let Ok(mut led) = self.led.lock() {
            change(led.entry(key).or_default());
        }
    }

    fn put(&self, key: u8, value: u32) {
        if let Ok(mut cache) = self.cache.lock() {
            cache.insert(key, value);
        }
    }

    /// What `Cache::get_or_insert_with` does.
    fn get(&self, key: u8, build: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let turn = loop {
            if let Some(found) = self.look(key) {
                return Some(found);
            }
            match self.flights.join(key, LONG).0 {
                Turn::Look => {}
                turn => break turn,
            }
        };
        match turn {
            Turn::Landed(value) => Some(value),
            Turn::Alone | Turn::Look => {
                let value = build()?;
                self.put(key, value);
                Some(value)
            }
            Turn::Lead(lead) => {
                lead.mark();
                if let Some(found) = self.look(key) {
                    lead.land(found);
                    return Some(found);
                }
                self.count(key, |(now, all)| {
                    assert_eq!(*now, 0, "two builds of one key at once");
                    (*now, *all) = (1, *all + 1);
                });
                thread::yield_now();
                let built = build();
                self.count(key, |(now, _)| *now = 0);
                let value = built?;
                lead.mark();
                self.put(key, value);
                lead.land(value);
                Some(value)
            }
        }
    }

    fn builds(&self, key: u8) -> u32 {
        self.led
            .lock()
            .map_or(0, |led| led.get(&key).map_or(0, |(_, all)| *all))
    }
}

fn at_once(threads: u8, run: impl Fn(u8) + Send + Sync + 'static) {
    let run = Arc::new(run);
    let thread = |n| -> Thread {
        let run = Arc::clone(&run);
        Box::new(move || run(n))
    };
    crate::at_once((0..threads).map(thread).collect(), || ());
}

/// However threads interleave, a missing key is built once and all receive it.
pub fn one_build_for_all() {
    let model = Model::new();
    let shared = Arc::clone(&model);
    at_once(3, move |n| {
        let got = shared.get(1, || Some(u32::from(n)));
        assert_eq!(got, shared.look(1), "not what was built");
    });
    assert_eq!(model.builds(1), 1);
}

/// Nobody is given what was removed before it asked, not by a flight that has not landed either.
pub fn what_was_removed_is_not_shared() {
    let model = Model::new();
    at_once(2, move |n| {
        if n == 0 {
            model.get(1, || Some(1));
        } else if model.look(1).is_some() {
            if let Ok(mut cache) = model.cache.lock() {
                cache.remove(&1);
            }
            assert_eq!(model.get(1, || Some(2)), Some(2), "removed before");
        }
    });
}

/// Failing leaders hand over until one succeeds; nobody is left waiting, and nobody builds after.
pub fn failures_hand_over() {
    let model = Model::new();
    let (shared, tries) = (Arc::clone(&model), Mutex::new(0));
    at_once(4, move |_| {
        let mut failed = false;
        let got = shared.get(1, || {
            let Ok(mut tries) = tries.lock() else {
                return None;
            };
            *tries += 1;
            failed = *tries <= 2;
            (!failed).then_some(7)
        });
        assert_eq!(
            got,
            (!failed).then_some(7),
            "a failure that is not its caller's"
        );
    });
    assert_eq!(model.builds(1), 3);
}

/// Builders that ask for one another in a ring never wait for ever, and neither do bystanders.
pub fn rings_end() {
    let model = Model::new();
    at_once(4, move |n| {
        let key = n % 3;
        let next = (key + 1) % 3;
        let got = model.get(key, || {
            let part = model.get(next, || model.get(key, || Some(u32::from(key))).map(|_| 1));
            part.map(|_| u32::from(key))
        });
        assert!(got.is_some());
    });
}

/// Rings whose builders fail: hand-over and cycles together.
pub fn failing_rings_end() {
    let model = Model::new();
    at_once(3, move |n| {
        let (key, next) = (n % 2, (n + 1) % 2);
        let inner = || (n != 1).then_some(1);
        let got = model.get(key, || model.get(next, inner).filter(|_| n != 0));
        assert!(got.is_none_or(|value| value == 1));
    });
}

/// A builder that asks for its own key, at any depth, builds alone.
pub fn re_entrance_ends() {
    let model = Model::new();
    at_once(3, move |n| {
        let inner = || model.get(1, || model.get(1, || Some(7)));
        let got = model.get(n % 2, || model.get(1 - n % 2, inner));
        assert_eq!(got, Some(7));
    });
}
