//! What a store takes when it does nothing: memory after it was opened, disk when it is empty; and
//! what it adds on disk to each artifact of 512 bytes.

use super::{Task, artifacts, put_all};
use crate::Fault;
use crate::measure::{Reading, Unit, disk_usage, precise, resident};

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let data = task.data;
    let folder = disk_usage(&task.plan.dir)?;
    let before = resident();
    let store = task.open()?;
    store.settle()?;
    let idle = resident().saturating_sub(before);
    store.flush()?;
    store.close()?;
    let empty = disk_usage(&task.plan.dir)? - folder;
    let store = task.open()?;
    let batch = data.count / 20;
    for step in 0..20 {
        put_all(&*store, artifacts(&data, step * batch..(step + 1) * batch))?;
    }
    store.close()?;
    let full = disk_usage(&task.plan.dir)? - folder;
    let added = precise(full.saturating_sub(empty)) / precise(20 * batch);
    Ok(vec![
        Reading::number("memory, open and idle", Unit::Bytes, precise(idle)),
        Reading::number("disk, empty directory", Unit::Bytes, precise(empty)),
        Reading::number(
            "disk, beyond the bytes of an artifact",
            Unit::Bytes,
            added - 512.0,
        ),
    ])
}
