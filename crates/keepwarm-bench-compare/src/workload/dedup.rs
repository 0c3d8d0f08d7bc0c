//! Ten keys for each content, as many drivers and options compile to the same bytes.

use super::{Task, artifacts, check, put_all};
use crate::Fault;
use crate::measure::{Basis, Reading, Unit, disk_usage, precise};

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let data = task.data;
    let store = task.open()?;
    let cost = put_all(&*store, artifacts(&data, 0..data.count))?;
    store.close()?;
    let ratio = precise(disk_usage(&task.plan.dir)?) / precise(data.unique_bytes());
    check(&*task.open()?, &data, &task.order())?;
    Ok(vec![
        Reading::number("bytes on disk to different bytes", Unit::Times, ratio),
        cost.per(data.count, "put", Basis::Cpu),
    ])
}
