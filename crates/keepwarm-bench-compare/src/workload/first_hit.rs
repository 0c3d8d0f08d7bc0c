//! A process opens a directory and gets each artifact once, in no order; every byte is read.

use super::{Task, check, get_all};
use crate::Fault;
use crate::measure::{Basis, Reading};

pub(super) const MAIN: &str = "get, every byte read";

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let store = task.open()?;
    let order = task.order();
    let cost = get_all(&*store, &task.data, &order)?;
    if task.plan.traced.is_none() {
        check(&*store, &task.data, &order)?;
    }
    store.close()?;
    Ok(vec![cost.per(order.len() as u64, MAIN, Basis::Cpu)])
}
