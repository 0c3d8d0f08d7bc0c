//! Whole trials: histories, faults, and what a fuzzer says.

use super::{KEYS, Op, Setup, Trial, Verdict};
use crate::disk::fuzzing::Bytes;
use crate::sys::crash::{Cut, Rng};
use crate::sys::fault::{ANY, Fault, When};

/// One history, with the cuts of one in `stride` of its steps.
pub(crate) fn history(
    seed: u64,
    (ops, stride): (usize, usize),
    prepare: impl FnOnce(&Trial),
) -> Verdict<usize> {
    let mut rng = Rng(seed);
    let setup = Setup::any(&mut rng);
    let context = |e: String| format!("history {seed}, {setup:?}: {e}");
    let mut trial = Trial::begin(setup).map_err(context)?;
    prepare(&trial);
    for i in 0..ops {
        let op = Op::any(&mut rng);
        trial
            .run(op, rng.below(2))
            .map_err(|e| context(format!("operation {i}, {op:?}: {e}")))?;
    }
    trial.check().map_err(context)?;
    cut_everywhere(&trial, stride, &mut rng).map_err(context)
}

/// Cuts the power at one in `stride` of the steps; tells how many cuts that were.
pub(crate) fn cut_everywhere(trial: &Trial, stride: usize, rng: &mut Rng) -> Verdict<usize> {
    let mut replay = trial.fs.replay();
    let mut cuts = 0;
    let mut step = rng.below(stride);
    while step <= trial.fs.steps() {
        trial.fs.advance(&mut replay, step);
        let how = Cut::ALL[rng.below(Cut::ALL.len() + 3).min(Cut::ALL.len() - 1)];
        trial.cut(&replay, (step, how, rng.chance(8)), rng)?;
        cuts += 1;
        step += stride;
    }
    Ok(cuts)
}

/// A directory with some of everything in it, flushed and not.
pub(crate) fn furnished() -> Verdict<Trial> {
    let setup = Setup {
        bytes: 1 << 20,
        entries: 1000,
        handles: 1,
    };
    let mut trial = Trial::begin(setup)?;
    // Inline, shared, objects; numbers that end in 0 are large.
    let flushed = [
        Op::Put(0, 2),
        Op::Put(1, 2),
        Op::Put(2, 130),
        Op::Put(3, 140),
        Op::Put(4, 5),
        Op::Put(5, 6),
    ];
    let later = [
        Op::Flush,
        Op::Put(4, 7),
        Op::Remove(5),
        Op::Put(6, 130),
        Op::Put(7, 8),
        Op::Put(8, 150),
    ];
    for op in flushed.into_iter().chain(later) {
        trial.run(op, 0)?;
    }
    Ok(trial)
}

/// Does `ops` while calls fail as `fault` says, and a flush; then all must be well. Tells whether a
/// call failed.
pub(crate) fn under_fault(ops: &[Op], fault: Fault, rng: &mut Rng) -> Verdict<bool> {
    let context = |e: String| format!("{ops:?} under {fault:?}: {e}");
    let mut trial = furnished()?;
    trial.fail(fault);
    for op in ops {
        trial.run(*op, 0).map_err(context)?;
    }
    for n in 0..KEYS {
        trial.run(Op::Get(n), 0).map_err(context)?;
    }
    trial.run(Op::Flush, 0).map_err(context)?;
    let before = trial.fs.steps();
    let failed = trial.recover().map_err(context)?;
    let mut replay = trial.fs.replay();
    for step in [before, trial.fs.steps()] {
        trial.fs.advance(&mut replay, step);
        for how in [Cut::Nothing, Cut::Random] {
            trial
                .cut(&replay, (step, how, false), rng)
                .map_err(context)?;
        }
    }
    Ok(failed > 0)
}

/// A sequence of operations out of a fuzzer's bytes, with failing calls in between and power cuts
/// at the end.
pub(crate) fn fuzz(input: &[u8]) -> Verdict {
    let mut bytes = Bytes::new(input);
    let mut rng = Rng(bytes.word());
    let setup = Setup::any(&mut rng);
    let mut trial = Trial::begin(setup)?;
    for _ in 0..64 {
        if bytes.is_empty() {
            break;
        }
        let (kind, key, number) = (bytes.byte(), usize::from(bytes.byte()) % KEYS, bytes.byte());
        let number = 1 + u64::from(number % 60);
        let handle = usize::from(kind >> 7);
        let op = match kind % 16 {
            0..=4 => match kind & 0x60 {
                0x20 => Op::Begin(key, number),
                0x40 => Op::Finish(key, number),
                _ => Op::Put(key, number),
            },
            5 | 6 => Op::Remove(key),
            7 => Op::Get(key),
            8 => Op::Touch(key),
            9 | 10 => Op::Flush,
            11 => Op::Clear,
            12 => Op::Grow,
            13 => Op::Empty(key),
            14 if number % 2 == 0 => Op::Sample,
            14 => Op::LoseIndex,
            _ => Op::Reopen,
        };
        if kind & 0x60 == 0x60 && setup.entries > KEYS as u64 {
            let when = [When::Once, When::From, When::Every][usize::from(bytes.byte() % 3)];
            let fault = Fault {
                when: when(1 + u64::from(bytes.byte())),
                errno: [5, 28, 24, 13, 30, 4, 12, 11][usize::from(bytes.byte() % 8)],
                calls: ANY,
                short: kind & 0x10 != 0,
            };
            trial.fail(fault);
            trial.run(op, handle)?;
            trial.recover()?;
        } else {
            trial.run(op, handle)?;
        }
    }
    trial.check()?;
    let stride = 1 + trial.fs.steps() / 8;
    cut_everywhere(&trial, stride, &mut rng).map(drop)
}
