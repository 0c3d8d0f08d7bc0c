//! A process that needs one artifact: it opens the directory and gets it. Some times in a row, each
//! another artifact; closing is not measured.

use super::Task;
use crate::Fault;
use crate::measure::{Basis, Clock, Cost, Reading};
use std::time::Duration;

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let most = task.plan.scaled(20, 3);
    let mut times = 0;
    let mut random = task.random(1);
    let mut cost = Cost::default();
    // Whoever needs long for it shows that in fewer times, too.
    while times < most && cost.wall < Duration::from_secs(1) {
        times += 1;
        let n = random.below(task.data.count);
        let expected = task.data.bytes(n);
        let mut is_right = false;
        let clock = Clock::start();
        let store = task.open()?;
        let found = store.get(&task.data.key(n), &mut |bytes| is_right = bytes == expected)?;
        cost = cost + clock.stop();
        store.close()?;
        match (found, is_right) {
            (false, _) => return Err(format!("lost artifact {n}").into()),
            (true, false) => return Err(format!("altered artifact {n}").into()),
            (true, true) => {}
        }
    }
    Ok(vec![cost.per(times, "open + first hit", Basis::Wall)])
}
