//! Keys that nobody put: what a program that has something to build asks first.

use super::{Task, check};
use crate::Fault;
use crate::measure::{Basis, Clock, Reading};

pub(super) const MAIN: &str = "miss";

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let store = task.open()?;
    // One hit, so that whatever is done once is done.
    check(&*store, &task.data, &[0])?;
    let calls = task.plan.traced.unwrap_or(task.plan.scaled(50_000, 2000));
    let mut hits = 0_u64;
    let first = task.plan.round << 32;
    let clock = Clock::start();
    for n in first..first + calls {
        hits += u64::from(store.get(&task.data.absent(n), &mut |_| ())?);
    }
    let cost = clock.stop();
    store.close()?;
    if hits > 0 {
        return Err("gave what was never put".into());
    }
    Ok(vec![cost.per(calls, MAIN, Basis::Cpu)])
}
