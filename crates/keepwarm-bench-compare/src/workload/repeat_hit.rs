//! Artifacts that the process has read before: only the handle, and with every byte read.

use super::{Task, get_all};
use crate::Fault;
use crate::content::shuffled;
use crate::disk::DiskStore;
use crate::measure::{Basis, Clock, Cost, Reading};

pub(super) const MAIN: &str = "get, handle only";

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let store = task.open()?;
    let all = shuffled(&mut task.random(2), task.data.count);
    get_all(&*store, &task.data, &all)?;
    if let Some(gets) = task.plan.traced {
        let order: Vec<u64> = all
            .into_iter()
            .cycle()
            .take(usize::try_from(gets)?)
            .collect();
        let cost = get_handles(&*store, task, &order)?;
        store.close()?;
        return Ok(vec![cost.per(gets, MAIN, Basis::Cpu)]);
    }
    let times = task.plan.scaled(5, 2);
    let (mut handles, mut bytes) = (Cost::default(), Cost::default());
    for time in 0..times {
        let order = shuffled(&mut task.random(3 + time), task.data.count);
        handles = handles + get_handles(&*store, task, &order)?;
    }
    for time in 0..times {
        let order = shuffled(&mut task.random(100 + time), task.data.count);
        bytes = bytes + get_all(&*store, &task.data, &order)?;
    }
    store.close()?;
    let gets = times * task.data.count;
    let bytes = bytes.per(gets, "get, every byte read", Basis::Cpu);
    Ok(vec![handles.per(gets, MAIN, Basis::Cpu), bytes])
}

/// The bytes are looked at by nobody but the store itself, if it verifies.
pub(super) fn get_handles(
    store: &dyn DiskStore,
    task: &Task<'_>,
    order: &[u64],
) -> Result<Cost, Fault> {
    let mut lens = Vec::with_capacity(order.len());
    let clock = Clock::start();
    for n in order {
        let mut len = 0;
        if !store.get(&task.data.key(*n), &mut |bytes| len = bytes.len())? {
            return Err(format!("lost artifact {n}").into());
        }
        lens.push(len);
    }
    let cost = clock.stop();
    match order
        .iter()
        .zip(lens)
        .find(|(n, len)| task.data.len(**n) != *len)
    {
        Some((n, _)) => Err(format!("altered the length of artifact {n}").into()),
        None => Ok(cost),
    }
}
