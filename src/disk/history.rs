//! The history of a directory: what all processes did with it over time, sampled by whoever writes
//! anyway, and kept in one small file.
//!
//! A word in the header of the index says when the last sample was taken; who finds under the lock
//! that this is long enough ago sets it and takes the next one. So a look costs a load, most often,
//! and a directory is sampled once in a while however many use it. The file is written aside,
//! without the lock, and renamed. Best effort: what is not there or damaged is begun anew.

use super::DiskStore;
use super::header::Field;
use super::inner::{Inner, now};
use super::life::{DirectoryStats, stats_of};
use super::pack::is_absent;
use super::samples::{Decoded, LONGEST, Samples};
use crate::error::{Error, Result};
use crate::sync::Arc;
use crate::sys::Access;
use std::io;
use std::time::{Duration, SystemTime};

/// How long it takes from one sample to the next, at least.
const INTERVAL: Duration = Duration::from_secs(300);
const NANOS: u64 = 1_000_000_000;

/// What all processes had done with a directory at some moment; see [`DiskStore::history`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistorySample {
    /// When it was taken, to the second, by the clock of who took it.
    pub at: SystemTime,
    /// Entries and bytes at this moment, and sums since the history began. They never fall:
    /// zeroing the counters does not touch them. `since` is `None`.
    pub stats: DirectoryStats,
}

impl DiskStore {
    /// What all processes did with the directory over time, the oldest sample first. The last one
    /// is the present moment, taken for this call.
    ///
    /// A directory that is used is sampled every five minutes at most. Of the last day all samples
    /// are kept, of the last month one an hour, and before that one a day for a year. What was done
    /// between two of them is the difference of their sums. A directory that was made less than
    /// five minutes ago has no sample but the present.
    ///
    /// It is for people, as [`directory_stats`](Self::directory_stats) is: a clock that was wrong,
    /// a lost index or a lost file make holes in it. A damaged history reads as none.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// use keepwarm::{DiskStore, Fingerprint, Store, StoreExt};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// let store = DiskStore::open(dir.path())?;
    /// store.put_bytes(&Fingerprint::from_bytes([1; 32]), vec![1])?;
    /// let history = store.history()?;
    /// let now = history.last().expect("it has the present");
    /// assert_eq!((history.len(), now.stats.puts), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn history(&self) -> Result<Vec<HistorySample>> {
        let stats = self.inner.directory_stats()?;
        let samples = match self.inner.read_history()? {
            Decoded::Samples(samples) => samples,
            Decoded::Nothing | Decoded::Newer => Samples::default(),
        };
        let present = samples.next(now() / NANOS, &stats);
        let all = samples.kept().iter().chain([&present]);
        let all = all.map(|sample| HistorySample {
            at: sample.time(),
            stats: sample.stats(),
        });
        Ok(all.collect())
    }
}

impl Inner {
    /// Takes a sample if it is time to: a look at the index, which is most often mapped, if it is not.
    pub(super) fn sample(&self) -> Result<()> {
        self.sample_at(now())
    }

    /// Takes the next sample as if it were time to.
    #[cfg(any(test, fuzzing))]
    pub(super) fn sample_next(&self) -> Result<()> {
        let last = self.index().field(Field::Sampled);
        let interval = u64::try_from(INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        self.sample_at(last.saturating_add(interval))
    }

    fn sample_at(&self, now: u64) -> Result<()> {
        if next(self.index().field(Field::Sampled), now) == Next::Wait {
            return Ok(());
        }
        let io = |e| self.error("take a sample of the counters", e);
        let stats = {
            let locked = self.locked()?;
            let next = next(locked.index.field(Field::Sampled), now);
            if next == Next::Wait {
                return Ok(());
            }
            locked.index.set_field(Field::Sampled, now).map_err(io)?;
            if next == Next::Begin {
                return Ok(());
            }
            stats_of(&locked.index.totals().map_err(io)?)
        };
        self.write_sample(now / NANOS, &stats)
    }

    fn write_sample(&self, now: u64, stats: &DirectoryStats) -> Result<()> {
        let mut samples = match self.read_history()? {
            Decoded::Samples(samples) => samples,
            Decoded::Nothing => Samples::default(),
            // A newer version takes samples of its own.
            Decoded::Newer => return Ok(()),
        };
        samples.take(now, stats);
        let path = self.files.layout.history();
        let write = || -> io::Result<()> {
            let temp = self.tmp.file(&self.files, Access::CreateNew)?;
            let file = Arc::clone(temp.as_file());
            file.write_at(&samples.encode(), 0)?;
            // Before it has the name: a power cut must not take a year for five minutes.
            file.sync()?;
            self.files.fs.rename(temp.path(), &path)?;
            self.tmp.published(temp);
            Ok(())
        };
        write().map_err(|e| Error::io("write the history", &path, e))
    }

    fn read_history(&self) -> Result<Decoded> {
        let path = self.files.layout.history();
        let read = || {
            let file = self.files.fs.open(&path, Access::Read)?;
            let length = usize::try_from(file.meta()?.id.len).ok();
            let length = length.filter(|length| *length <= LONGEST);
            let mut bytes = vec![0; length.ok_or(io::ErrorKind::InvalidInput)?];
            file.read_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Samples::decode(&bytes)),
            // Nobody changes it in place: one that is shorter than it said is none.
            Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Decoded::Nothing)
            }
            Err(e) => Err(Error::io("read the history", &path, e)),
        }
    }
}

/// What is to be done at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wait,
    Sample,
    /// Begin to wait anew: the clock was set back, or was ahead. Only if it goes on like this for
    /// an interval is it believed.
    Begin,
}

/// `last` is when a sample was taken, `now` the present, both in nanoseconds since 1970.
fn next(last: u64, now: u64) -> Next {
    match now.checked_sub(last).map(Duration::from_nanos) {
        None => Next::Begin,
        Some(age) if age < INTERVAL => Next::Wait,
        Some(_) => Next::Sample,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprint;
    use crate::store::{Store as _, StoreExt as _};
    use std::path::Path;

    const KEY: Fingerprint = Fingerprint::from_bytes([1; 32]);
    const MINUTE: u64 = 60 * NANOS;

    /// A store with one key whose janitor does nothing.
    fn store(dir: &Path) -> DiskStore {
        let store = DiskStore::open(dir).unwrap();
        while store.is_rebuilding() {
            std::thread::yield_now();
        }
        store.put_bytes(&KEY, [1]).unwrap();
        store.janitor.stop();
        store
    }

    /// The hits that are told, and the minutes since `begin` at which they were sampled.
    fn told(store: &DiskStore, begin: u64) -> Vec<(u64, u64)> {
        let history = store.history().unwrap();
        let samples = history[..history.len() - 1].iter();
        samples
            .map(|s| {
                let minutes = crate::store::nanos(s.at).saturating_sub(begin) / MINUTE;
                (minutes, s.stats.hits)
            })
            .collect()
    }

    fn hit(store: &DiskStore, times: u64) {
        for _ in 0..times {
            store.get(&KEY).unwrap().unwrap();
        }
        store.inner.tell_life().unwrap();
    }

    #[test]
    fn samples_are_taken_every_five_minutes_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let begin = store.inner.index().field(Field::Sampled) / NANOS * NANOS;
        assert!(begin > 0, "a new directory begins to wait");
        for minute in 0..16 {
            hit(&store, 1);
            let at = begin + minute * MINUTE + NANOS;
            store.inner.sample_at(at).unwrap();
            store.inner.sample_at(at).unwrap();
        }
        assert_eq!(told(&store, begin), [(5, 6), (10, 11), (15, 16)]);
        store.zero_directory_stats().unwrap();
        hit(&store, 2);
        assert_eq!(store.directory_stats().unwrap().hits, 2);
        let history = store.history().unwrap();
        assert_eq!(history.last().unwrap().stats.hits, 18, "zeroing is no loss");
        store.clear().unwrap();
        assert_eq!(told(&store, begin).len(), 3, "nor is a clear");
        drop(store);
        let reader = DiskStore::builder().read_only(true).open(dir.path());
        assert_eq!(told(&reader.unwrap(), begin).len(), 3);
        let store = DiskStore::open(dir.path()).unwrap();
        assert!(store.verification().run().unwrap().is_sound());
    }

    #[test]
    fn of_many_handles_one_takes_the_sample() {
        let dir = tempfile::tempdir().unwrap();
        let stores: Vec<_> = (0..4).map(|_| store(dir.path())).collect();
        let begin = stores[0].inner.index().field(Field::Sampled) / NANOS * NANOS;
        for n in 1..=3 {
            std::thread::scope(|scope| {
                for store in &stores {
                    scope.spawn(move || {
                        store.inner.sample_at(begin + n * 6 * MINUTE).unwrap();
                    });
                }
            });
        }
        let minutes: Vec<u64> = told(&stores[0], begin).iter().map(|(m, _)| *m).collect();
        assert_eq!(minutes, [6, 12, 18]);
    }

    #[test]
    fn two_that_write_at_once_lose_a_sample_and_no_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let at = now() / NANOS;
        let other = DiskStore::open(dir.path()).unwrap();
        std::thread::scope(|scope| {
            for n in 0..2 {
                let store = [&store, &other][n];
                scope.spawn(move || {
                    for i in 0..30 {
                        let stats = store.directory_stats().unwrap();
                        store.inner.write_sample(at + i, &stats).unwrap();
                    }
                });
            }
        });
        let Decoded::Samples(samples) = store.inner.read_history().unwrap() else {
            panic!("the file is not whole");
        };
        assert!(!samples.kept().is_empty());
        assert_eq!(store.history().unwrap().last().unwrap().stats.puts, 1);
    }

    #[test]
    fn a_clock_that_was_set_back_waits_before_it_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let begin = store.inner.index().field(Field::Sampled) / NANOS * NANOS;
        store.inner.sample_at(begin + 6 * MINUTE).unwrap();
        let back = begin - 1000 * MINUTE;
        store.inner.sample_at(back).unwrap();
        store.inner.sample_at(back + MINUTE).unwrap();
        assert_eq!(told(&store, begin).len(), 1);
        // It was right again before the time was up.
        store.inner.sample_at(begin + 12 * MINUTE).unwrap();
        assert_eq!(told(&store, begin).len(), 2);
        store.inner.sample_at(back).unwrap();
        store.inner.sample_at(back + 6 * MINUTE).unwrap();
        assert_eq!(told(&store, back), [(6, 0)]);
    }

    #[test]
    fn a_damaged_history_is_begun_anew_and_a_newer_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let path = store.inner.files.layout.history();
        let at = store.inner.index().field(Field::Sampled) + 6 * MINUTE;
        store.inner.sample_at(at).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for (n, bytes) in [b"".to_vec(), vec![7; LONGEST + 1], whole[..40].to_vec()]
            .into_iter()
            .enumerate()
        {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(store.history().unwrap().len(), 1);
            let at = at + (n as u64 + 1) * 6 * MINUTE;
            store.inner.sample_at(at).unwrap();
            assert_eq!(store.history().unwrap().len(), 2);
        }
        let mut newer = whole;
        newer[8] = 2;
        std::fs::write(&path, &newer).unwrap();
        store.inner.sample_at(at + 100 * MINUTE).unwrap();
        assert_eq!(store.history().unwrap().len(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), newer);
    }

    #[test]
    fn who_only_opens_a_directory_takes_no_sample_and_who_uses_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let first = store(dir.path());
        let long_ago = now() - 60 * MINUTE;
        first
            .inner
            .index()
            .set_field(Field::Sampled, long_ago)
            .unwrap();
        drop(DiskStore::open(dir.path()).unwrap());
        assert_eq!(first.history().unwrap().len(), 1);
        let user = DiskStore::open(dir.path()).unwrap();
        user.get(&KEY).unwrap().unwrap();
        drop(user);
        let history = first.history().unwrap();
        assert_eq!((history.len(), history[0].stats.hits), (2, 1));
    }
}
