//! Many artifacts of 512 bytes: what each costs to put, to get and on disk. The bytes for each are
//! told at several counts, since what a store allocates ahead shows differently in each; the store
//! is closed for that, and opened again, while no clock runs.

use super::{Task, artifacts, get_all, put_all};
use crate::Fault;
use crate::measure::{Basis, Cost, Reading, Unit, disk_usage, precise};

pub(super) const MAIN: &str = "put";

/// The bytes on disk for each when all are there.
pub(crate) const ALL: &str = "on disk, each of all";

const STEPS: [&str; 5] = [
    "on disk, each of 1/5",
    "on disk, each of 2/5",
    "on disk, each of 3/5",
    "on disk, each of 4/5",
    ALL,
];

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let data = task.data;
    if let Some(puts) = task.plan.traced {
        let store = task.open()?;
        let cost = put_all(&*store, artifacts(&data, 0..puts))?;
        store.close()?;
        return Ok(vec![cost.per(puts, MAIN, Basis::Cpu)]);
    }
    let mut cost = Cost::default();
    let mut sizes = Vec::new();
    for (step, metric) in (0..).zip(STEPS) {
        let steps = STEPS.len() as u64;
        let numbers = data.count * step / steps..data.count * (step + 1) / steps;
        let count = numbers.end;
        let store = task.open()?;
        cost = cost + put_all(&*store, artifacts(&data, numbers))?;
        store.close()?;
        let each = precise(disk_usage(&task.plan.dir)?) / precise(count);
        sizes.push(Reading::number(metric, Unit::Bytes, each));
    }
    let store = task.open()?;
    let got = get_all(&*store, &data, &task.order())?;
    store.close()?;
    let mut readings = vec![
        cost.per(data.count, MAIN, Basis::Cpu),
        got.per(data.count, "first hit, every byte read", Basis::Cpu),
    ];
    readings.extend(sizes);
    Ok(readings)
}
