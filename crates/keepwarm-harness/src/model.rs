//! What a directory must hold, given what the workers said.
//!
//! A key belongs to one worker, so that its history is a sequence. Of that, an observation after a
//! fault is judged by two things: the lowest generation that may be seen, and whether a miss may be.

use crate::log::{Op, Record};
use std::collections::BTreeMap;

/// What must be there.
#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    /// Everything older was replaced or removed.
    generation: u64,
    must_exist: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    /// What was acknowledged.
    current: Floor,
    /// What was acknowledged and is meant to survive.
    floor: Floor,
    /// The highest generation of which a put was begun.
    highest: u64,
    /// What was begun before the model was [relaxed](Model::relax) binds nobody.
    began: bool,
}

impl Key {
    /// What could not be made durable is taken back when that is told, and with it what it had
    /// replaced, for nobody may see something older after something newer.
    fn take_back(&mut self, promise: Promise) {
        if promise == Promise::Flush && self.current.generation != self.floor.generation {
            self.current.must_exist = false;
            self.floor.must_exist = false;
        }
    }
}

/// How an observation is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    Fine,
    /// Never put.
    Wrong,
    /// Older than what must be there, or back from the dead.
    Stale,
    Lost,
}

/// What makes an acknowledgement binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// The acknowledgement itself: processes die, the machine lives on.
    Ack,
    /// The next flush.
    Flush,
}

/// The histories of all keys.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    promise: Promise,
    keys: BTreeMap<u32, Key>,
    /// Something was evicted: every miss is fair.
    pub(crate) evicted: bool,
}

impl Model {
    pub(crate) fn new(promise: Promise) -> Self {
        Self {
            promise,
            keys: BTreeMap::new(),
            evicted: false,
        }
    }

    /// Follows what one worker said; `mine` tells which keys are its.
    pub(crate) fn follow(&mut self, records: &[Record], mine: impl Fn(u32) -> bool) {
        for record in records {
            if record.op == Op::FlushOk {
                for (_, key) in self.keys.iter_mut().filter(|(key, _)| mine(**key)) {
                    key.floor = key.current;
                }
            }
            if record.op == Op::FlushErr || record.op == Op::PutErr {
                for (_, key) in self.keys.iter_mut().filter(|(key, _)| mine(**key)) {
                    key.take_back(self.promise);
                }
            }
            self.evicted |= record.op == Op::Evicted;
            if matches!(
                record.op,
                Op::PutStart
                    | Op::PutOk
                    | Op::PutErr
                    | Op::RemoveStart
                    | Op::RemoveOk
                    | Op::RemoveErr
            ) {
                self.step(record);
            }
        }
    }

    /// Follows what was said after a fault hit: it may have happened before, or not.
    pub(crate) fn loosen(&mut self, records: &[Record]) {
        for record in records {
            match record.op {
                Op::PutStart => {
                    let key = self.keys.entry(record.key).or_default();
                    key.highest = key.highest.max(record.generation);
                }
                Op::PutErr | Op::RemoveStart => {
                    self.keys.entry(record.key).or_default().floor.must_exist = false;
                }
                Op::Evicted => self.evicted = true,
                _ => {}
            }
        }
    }

    fn step(&mut self, record: &Record) {
        let key = self.keys.entry(record.key).or_default();
        match record.op {
            Op::PutStart => {
                key.highest = key.highest.max(record.generation);
                key.began = true;
            }
            Op::RemoveStart => {
                key.began = true;
                key.current.must_exist = false;
                key.floor.must_exist = false;
            }
            Op::PutOk | Op::RemoveOk if !key.began => {}
            Op::PutOk => {
                key.current = Floor {
                    generation: record.generation,
                    must_exist: true,
                }
            }
            Op::RemoveOk => {
                key.current = Floor {
                    generation: key.highest + 1,
                    must_exist: false,
                }
            }
            // Begun, or failed: the key may be gone.
            _ => {
                key.current.must_exist = false;
                key.floor.must_exist = false;
            }
        }
        if self.promise == Promise::Ack {
            key.floor = key.current;
        }
    }

    /// Somebody took away, or put back, who knows what: nothing said so far holds any more.
    /// Generations up to `highest` may turn up.
    pub(crate) fn relax(&mut self, keys: u32, highest: u64) {
        for key in 0..keys {
            let known = self.keys.entry(key).or_default();
            *known = Key {
                highest: known.highest.max(highest),
                ..Key::default()
            };
        }
    }

    /// Judges what was seen after a fault, `None` being a miss.
    pub(crate) fn judge(&self, key: u32, seen: Option<u64>) -> Judgement {
        let known = self.keys.get(&key).copied().unwrap_or_default();
        match seen {
            None if known.floor.must_exist && !self.evicted => Judgement::Lost,
            Some(generation) if generation > known.highest => Judgement::Wrong,
            Some(generation) if generation < known.floor.generation => Judgement::Stale,
            None | Some(_) => Judgement::Fine,
        }
    }

    /// What is known of a key, for a report.
    pub(crate) fn describe(&self, key: u32) -> String {
        format!("{:?}", self.keys.get(&key).copied().unwrap_or_default())
    }

    /// What was seen, when nobody was alive, is what there is from now on: what was evicted before
    /// excuses no miss after that.
    pub(crate) fn settle(&mut self, seen: &BTreeMap<u32, Option<u64>>) {
        for (key, seen) in seen {
            let known = self.keys.entry(*key).or_default();
            known.floor = Floor {
                generation: seen.unwrap_or(known.highest + 1),
                must_exist: seen.is_some(),
            };
            known.current = known.floor;
        }
        self.evicted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(promise: Promise, ops: &[(Op, u64)]) -> Model {
        let mut model = Model::new(promise);
        let records: Vec<Record> = ops
            .iter()
            .map(|&(op, generation)| Record {
                op,
                key: 1,
                generation,
            })
            .collect();
        model.follow(&records, |_| true);
        model
    }

    #[test]
    fn a_flushed_put_must_be_there_and_nothing_older() {
        use Op::{FlushOk, PutOk, PutStart};
        let model = model(
            Promise::Flush,
            &[
                (PutStart, 1),
                (PutOk, 1),
                (PutStart, 2),
                (PutOk, 2),
                (FlushOk, 0),
                (PutStart, 3),
            ],
        );
        assert_eq!(model.judge(1, None), Judgement::Lost);
        assert_eq!(model.judge(1, Some(1)), Judgement::Stale);
        assert_eq!(model.judge(1, Some(2)), Judgement::Fine);
        assert_eq!(model.judge(1, Some(3)), Judgement::Fine);
        assert_eq!(model.judge(1, Some(4)), Judgement::Wrong);
        assert_eq!(model.judge(2, Some(1)), Judgement::Wrong);
    }

    #[test]
    fn a_flush_that_fails_takes_back_what_was_put_since_the_last_and_no_more() {
        use Op::{FlushErr, FlushOk, PutOk, PutStart};
        let put = [(PutStart, 1), (PutOk, 1), (FlushOk, 0)];
        let untouched = [&put[..], &[(FlushErr, 0), (FlushOk, 0)]].concat();
        let untouched = model(Promise::Flush, &untouched);
        assert_eq!(untouched.judge(1, None), Judgement::Lost);
        let again = [(PutStart, 2), (PutOk, 2), (FlushErr, 0), (FlushOk, 0)];
        let replaced = model(Promise::Flush, &[&put[..], &again].concat());
        assert_eq!(replaced.judge(1, None), Judgement::Fine);
    }

    #[test]
    fn what_was_begun_before_a_relaxation_binds_nobody() {
        use Op::{PutOk, PutStart};
        let mut model = model(Promise::Ack, &[(PutStart, 1), (PutOk, 1), (PutStart, 2)]);
        model.relax(2, 0);
        let said = |op, generation| Record {
            op,
            key: 1,
            generation,
        };
        model.follow(&[said(PutOk, 2)], |_| true);
        assert_eq!(model.judge(1, None), Judgement::Fine);
        assert_eq!(model.judge(1, Some(1)), Judgement::Fine);
        assert_eq!(model.judge(1, Some(3)), Judgement::Wrong);
        model.follow(&[said(PutStart, 3), said(PutOk, 3)], |_| true);
        assert_eq!(model.judge(1, None), Judgement::Lost);
    }

    #[test]
    fn an_eviction_excuses_misses_until_somebody_looked() {
        use Op::{Evicted, PutOk, PutStart};
        let ops = [(PutStart, 1), (PutOk, 1), (Evicted, 0)];
        let mut model = model(Promise::Ack, &ops);
        assert_eq!(model.judge(1, None), Judgement::Fine);
        model.settle(&[(1, Some(1))].into());
        assert_eq!(model.judge(1, None), Judgement::Lost);
        assert_eq!(model.judge(1, Some(1)), Judgement::Fine);
    }

    #[test]
    fn what_was_removed_stays_away() {
        use Op::{PutOk, PutStart, RemoveOk, RemoveStart};
        let put = [(PutStart, 1), (PutOk, 1)];
        let begun = [put[0], put[1], (RemoveStart, 0)];
        let removed = [begun[0], begun[1], begun[2], (RemoveOk, 0)];
        assert_eq!(model(Promise::Ack, &put).judge(1, None), Judgement::Lost);
        assert_eq!(model(Promise::Flush, &put).judge(1, None), Judgement::Fine);
        assert_eq!(
            model(Promise::Ack, &begun).judge(1, Some(1)),
            Judgement::Fine
        );
        assert_eq!(
            model(Promise::Ack, &removed).judge(1, Some(1)),
            Judgement::Stale
        );
    }
}
