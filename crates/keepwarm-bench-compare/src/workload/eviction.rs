//! A put right after as many artifacts were evicted: unlinking many files can make a file system
//! slow for a while, and reusing their space costs some stores more than new space.
//!
//! keepwarm evicts by its own budget: the directory is opened with room for one entry, as by a user
//! who lowered it. The others have no budget that works so; each artifact is removed.

use super::{Task, artifacts, check, put_all};
use crate::Fault;
use crate::disk::Role;
use crate::measure::{Basis, Reading, Unit};
use keepwarm::{DiskStore, Entry, Fingerprint, Store as _};

pub(super) fn run(task: &Task<'_>) -> Result<Vec<Reading>, Fault> {
    let (before, after) = (task.data, task.data.stream(1));
    let store = task.open()?;
    let fresh = put_all(&*store, artifacts(&before, 0..before.count))?;
    let later = artifacts(&after, 0..after.count);
    let store = if task.contender.role == Role::Keepwarm {
        store.close()?;
        evict_all(task)?;
        task.open()?
    } else {
        for n in 0..before.count {
            store.remove(&before.key(n))?;
        }
        store.settle()?;
        store
    };
    let again = put_all(&*store, later)?;
    for n in (0..before.count).step_by(50) {
        if store.get(&before.key(n), &mut |_| ())? {
            return Err(format!("still has artifact {n}, which was evicted").into());
        }
    }
    check(&*store, &after, &task.order())?;
    store.close()?;
    let fresh = fresh.per(before.count, "put, new directory", Basis::Cpu);
    let again = again.per(after.count, "put, after as many evictions", Basis::Cpu);
    let ratio = again.value() / fresh.value();
    Ok(vec![
        fresh,
        again,
        Reading::number("after to new", Unit::Times, ratio),
    ])
}

/// Leaves at most the one entry that is put here.
fn evict_all(task: &Task<'_>) -> Result<(), Fault> {
    let store = DiskStore::builder().entry_budget(1).open(&task.plan.dir)?;
    let key = Fingerprint::from_bytes(task.data.absent(0).0);
    for n in 0..64_u8 {
        drop(store.put(&key, Entry::from(vec![n]))?);
        if store.stats().entries <= 1 {
            return Ok(());
        }
    }
    Err(format!(
        "still has {} entries of 1 that its budget allows",
        store.stats().entries
    )
    .into())
}
