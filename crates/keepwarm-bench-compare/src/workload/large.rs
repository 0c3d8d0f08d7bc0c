//! First hits of artifacts from 1 to 32 MiB: only the handle, as for code that hands a file on or
//! reads a part of it, and with every byte read.

use super::repeat_hit::get_handles;
use super::{Task, check, get_all};
use crate::Fault;
use crate::measure::{Basis, Reading};

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let order = task.order();
    let store = task.open()?;
    let handles = get_handles(&*store, task, &order)?;
    store.close()?;
    let store = task.open()?;
    let bytes = get_all(&*store, &task.data, &order)?;
    check(&*store, &task.data, &order[..2])?;
    store.close()?;
    let count = task.data.count;
    Ok(vec![
        handles.per(count, "handle only", Basis::Cpu),
        bytes.per(count, "every byte read", Basis::Cpu),
    ])
}
