//! A new directory is filled, one artifact a put, and then made durable. What a store does in the
//! background before the artifacts are in the operating system's hands counts as part of the puts.

use super::{Task, artifacts, check, put_all};
use crate::Fault;
use crate::measure::{Basis, Clock, Reading};

pub(super) const MAIN: &str = "put";

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let count = task.plan.traced.unwrap_or(u64::MAX).min(task.data.count);
    let data = task.data.stream(task.plan.round);
    let artifacts = artifacts(&data, 0..count);
    let store = task.open()?;
    let puts = put_all(&*store, artifacts)?;
    let mut readings = vec![puts.per(count, MAIN, Basis::Cpu)];
    if task.plan.traced.is_some() {
        store.close()?;
        return Ok(readings);
    }
    let clock = Clock::start();
    let is_durable = store.flush()?;
    let flush = clock.stop();
    if is_durable {
        readings.push(flush.per(1, "flush of all of it", Basis::Wall));
        readings.push((puts + flush).per(count, "put and its share of the flush", Basis::Wall));
    }
    store.close()?;
    check(&*task.open()?, &data, &task.order())?;
    Ok(readings)
}
