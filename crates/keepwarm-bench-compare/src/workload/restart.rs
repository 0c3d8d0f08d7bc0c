//! A program starts and takes back its whole working set: the directory is opened, every artifact is
//! loaded, read and kept. Stores that give a view for as long as a transaction lasts make a copy.

use super::{SAMPLED, Task};
use crate::Fault;
use crate::content::sum;
use crate::measure::{Basis, Clock, Reading};

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let order = task.order();
    let mut kept = Vec::with_capacity(order.len());
    let clock = Clock::start();
    let store = task.open()?;
    for n in &order {
        let Some(artifact) = store.load(&task.data.key(*n))? else {
            return Err(format!("lost artifact {n}").into());
        };
        let read = sum((*artifact).as_ref());
        kept.push((artifact, read));
    }
    let cost = clock.stop();
    for (n, (artifact, read)) in order.iter().zip(&kept).step_by(SAMPLED) {
        let bytes = task.data.bytes(*n);
        if (**artifact).as_ref() != bytes || sum(&bytes) != *read {
            return Err(format!("altered artifact {n}").into());
        }
    }
    drop(kept);
    store.close()?;
    Ok(vec![cost.per(1, "open and load everything", Basis::Wall)])
}
