//! A clock that costs next to nothing to read.

/// Counts nanoseconds since it was started. It may stand still for some milliseconds, and never runs
/// backwards.
///
/// On Linux it reads what the kernel noted at its last tick, which takes a tenth of the time that
/// reading the hardware does: that would be a third of a put into memory.
#[derive(Debug)]
pub(crate) struct CoarseClock {
    start: platform::Moment,
}

impl CoarseClock {
    pub(crate) fn start() -> Self {
        let start = platform::now();
        Self { start }
    }

    #[inline]
    pub(crate) fn elapsed(&self) -> u64 {
        platform::since(self.start)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use libc::{CLOCK_MONOTONIC_COARSE, clock_gettime, timespec};

    const SECOND: u64 = 1_000_000_000;

    /// Nanoseconds since the machine was started.
    pub(super) type Moment = u64;

    #[inline]
    #[expect(unsafe_code, reason = "S4 in docs/safety.md")]
    pub(super) fn now() -> Moment {
        let mut now = timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the pointer is to a `timespec` of this frame, which the call writes and does not keep.
        // Were the clock not known (before Linux 2.6.32) it would stay as it is.
        unsafe { clock_gettime(CLOCK_MONOTONIC_COARSE, &raw mut now) };
        // Their width is the platform's; neither is negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds * SECOND + u64::try_from(now.tv_nsec).unwrap_or(0)
    }

    #[inline]
    pub(super) fn since(start: Moment) -> u64 {
        now().saturating_sub(start)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod platform {
    use std::time::Instant;

    pub(super) type Moment = Instant;

    pub(super) fn now() -> Moment {
        Instant::now()
    }

    pub(super) fn since(start: Moment) -> u64 {
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_counts_nanoseconds_but_for_its_ticks() {
        let clock = CoarseClock::start();
        let exact = std::time::Instant::now();
        std::thread::sleep(Duration::from_millis(50));
        let coarse = clock.elapsed();
        let most = exact.elapsed() + Duration::from_millis(20);
        assert!(coarse >= 30_000_000 && u128::from(coarse) <= most.as_nanos());
        assert!(clock.elapsed() >= coarse);
    }
}
