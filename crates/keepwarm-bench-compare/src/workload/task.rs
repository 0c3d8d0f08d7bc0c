//! What a child of a disk workload is given, and the loops that most of them share: puts and gets by a
//! clock, and the comparison of what came back with what was put.

use crate::Fault;
use crate::content::{Dataset, Key, Random, shuffled, sum};
use crate::disk::{Contender, DiskStore, Setup};
use crate::measure::{Clock, Cost};
use crate::plan::Plan;

/// What a child of a disk workload does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task<'a> {
    pub(crate) contender: &'static Contender,
    pub(crate) plan: &'a Plan,
    pub(crate) data: Dataset,
}

impl Task<'_> {
    pub(crate) fn open(&self) -> Result<Box<dyn DiskStore>, Fault> {
        (self.contender.open)(&self.plan.dir, &setup(&self.data))
    }

    pub(super) fn random(&self, stream: u64) -> Random {
        Random::new(self.plan.seed ^ self.plan.round << 32, stream)
    }

    /// All artifacts once, or as many as are traced, in an order of this round.
    pub(super) fn order(&self) -> Vec<u64> {
        let mut order = shuffled(&mut self.random(1), self.data.count);
        let most = self.plan.traced.unwrap_or(u64::MAX);
        order.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        order
    }
}

fn setup(data: &Dataset) -> Setup {
    Setup {
        bytes: data.count * data.most,
        largest: data.most,
    }
}

/// Artifacts that are about to be put, made beforehand.
pub(super) fn artifacts(data: &Dataset, numbers: std::ops::Range<u64>) -> Vec<(Key, Vec<u8>)> {
    numbers.map(|n| (data.key(n), data.bytes(n))).collect()
}

/// Puts them and waits until none of them is in this process only.
pub(super) fn put_all(
    store: &dyn DiskStore,
    artifacts: Vec<(Key, Vec<u8>)>,
) -> Result<Cost, Fault> {
    let clock = Clock::start();
    for (key, artifact) in artifacts {
        store.put(&key, artifact)?;
    }
    store.settle()?;
    Ok(clock.stop())
}

/// Every how many gets one is compared with what was put.
pub(super) const SAMPLED: usize = 8;

/// Gets them in this order and reads every byte; what a sample gave is checked afterwards.
pub(super) fn get_all(store: &dyn DiskStore, data: &Dataset, order: &[u64]) -> Result<Cost, Fault> {
    let mut sums = Vec::with_capacity(order.len());
    let clock = Clock::start();
    for n in order {
        let mut read = 0;
        if !store.get(&data.key(*n), &mut |bytes| read = sum(bytes))? {
            return Err(format!("lost artifact {n}").into());
        }
        sums.push(read);
    }
    let cost = clock.stop();
    for (n, read) in order.iter().zip(sums).step_by(SAMPLED) {
        if sum(&data.bytes(*n)) != read {
            return Err(format!("altered artifact {n}").into());
        }
    }
    Ok(cost)
}

/// Compares a sample byte by byte.
pub(super) fn check(store: &dyn DiskStore, data: &Dataset, order: &[u64]) -> Result<(), Fault> {
    for n in order.iter().step_by((order.len() / 64).max(1)) {
        let mut is_right = false;
        if !store.get(&data.key(*n), &mut |bytes| {
            is_right = bytes == data.bytes(*n);
        })? {
            return Err(format!("lost artifact {n}").into());
        }
        if !is_right {
            return Err(format!("altered artifact {n}").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives nothing, or one wrong byte.
    struct Broken(Option<Dataset>);

    impl DiskStore for Broken {
        fn put(&self, _: &Key, _: Vec<u8>) -> Result<(), Fault> {
            Ok(())
        }
        fn get(&self, key: &Key, read: &mut dyn FnMut(&[u8])) -> Result<bool, Fault> {
            let Some(data) = self.0 else { return Ok(false) };
            let n = (0..data.count)
                .find(|n| data.key(*n) == *key)
                .ok_or("no such key")?;
            let mut bytes = data.bytes(n);
            bytes[0] ^= 1;
            read(&bytes);
            Ok(true)
        }
        fn remove(&self, _: &Key) -> Result<(), Fault> {
            Ok(())
        }
        fn flush(&self) -> Result<bool, Fault> {
            Ok(true)
        }
    }

    #[test]
    fn a_store_that_loses_or_alters_something_is_caught() {
        let data = Dataset {
            name: "test",
            seed: 1,
            count: 20,
            least: 10,
            most: 100,
            contents: u64::MAX,
        };
        let order: Vec<u64> = (0..20).collect();
        for (store, word) in [(Broken(None), "lost"), (Broken(Some(data)), "altered")] {
            for error in [
                get_all(&store, &data, &order).unwrap_err(),
                check(&store, &data, &order).unwrap_err(),
            ] {
                assert!(error.to_string().starts_with(word), "{error}");
            }
        }
    }
}
