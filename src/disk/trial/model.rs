//! What may be found in the directory of a trial, now and after a power cut.

use super::KEYS;

/// What happened to a key, in the order of the history.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) handle: usize,
    /// The content it was bound to; `None`: it was unbound, or perhaps lost.
    pub(super) value: Option<u64>,
    /// Whether the operation said that it was done. What failed may have been done.
    pub(super) sure: bool,
    /// The first step of the operation.
    pub(super) begin: usize,
}

/// A flush that said yes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushed {
    pub(super) handle: usize,
    /// How many events every key had when it began.
    pub(super) events: [usize; KEYS],
    /// The step at which it had returned.
    pub(super) end: usize,
}

/// What may be found, and what must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(super) events: [Vec<Event>; KEYS],
    pub(super) flushes: Vec<Flushed>,
}

impl Model {
    pub(super) fn add(&mut self, key: usize, event: Event) {
        self.events[key].push(event);
    }

    /// Keys that a handle loses if its flush fails: those that it put since it last flushed, or that anybody
    /// bound since to what it put. (Also what another one found bound and flushed: see the known limits.)
    pub(super) fn unflushed(&self, handle: usize) -> Vec<usize> {
        let since = self.flushes.iter().rfind(|flush| flush.handle == handle);
        let since = since.map_or([0; KEYS], |flush| flush.events);
        let later = |key: usize| self.events[key][since[key]..].iter();
        let put: Vec<_> = (0..KEYS)
            .flat_map(later)
            .filter(|e| e.handle == handle)
            .filter_map(|e| e.value)
            .collect();
        let is_unflushed = |key: &usize| {
            later(*key)
                .filter_map(|e| e.value)
                .any(|value| put.contains(&value))
        };
        (0..KEYS).filter(is_unflushed).collect()
    }

    /// What may be found now, while everything runs.
    pub(super) fn now(&self, key: usize) -> Vec<Option<u64>> {
        self.allowed(
            key,
            usize::MAX,
            self.events[key].iter().rposition(|e| e.sure),
        )
    }

    /// What may be found after a power cut at `step`.
    pub(super) fn after_cut(&self, key: usize, step: usize) -> Vec<Option<u64>> {
        self.allowed(key, step, self.durable(key, step))
    }

    /// The last event of a key that a flush has promised at `step`.
    fn durable(&self, key: usize, step: usize) -> Option<usize> {
        let events = &self.events[key];
        let flushed = self.flushes.iter().filter(|flush| flush.end <= step);
        let durable = flushed.filter_map(|flush| {
            let before = &events[..flush.events[key]];
            before
                .iter()
                .rposition(|e| e.sure && e.handle == flush.handle)
        });
        durable.max()
    }

    /// The value of `base`, which is not undone, and of everything that began after it.
    fn allowed(&self, key: usize, step: usize, base: Option<usize>) -> Vec<Option<u64>> {
        let events = &self.events[key];
        let first = base.and_then(|base| events[base].value);
        let later = &events[base.map_or(0, |base| base + 1)..];
        let later = later.iter().filter(|e| e.begin < step).map(|e| e.value);
        let mut allowed: Vec<_> = std::iter::once(first).chain(later).collect();
        allowed.sort_unstable();
        allowed.dedup();
        allowed
    }
}
