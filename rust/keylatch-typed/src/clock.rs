//! The clock of the statistics: the processor's time stamp counter where it is steady, `Instant` elsewhere.
//!
//! A hold takes two readings, so a reading has to be cheaper than the lock. Readings are kept as ticks; they become
//! durations when a person looks. The rate comes from comparing with `Instant` over at least a millisecond, so nothing is
//! calibrated up front. Timeouts do not use this clock.

use std::time::Duration;

/// Reads the clock. Never 0.
#[inline]
pub(crate) fn ticks() -> u64 {
    imp::ticks() | 1
}

/// Ticks since an earlier reading.
#[inline]
pub(crate) fn ticks_since(earlier: u64) -> u64 {
    imp::since(earlier)
}

/// Turns ticks into a duration.
pub(crate) fn duration(ticks: u64) -> Duration {
    rate().duration(ticks)
}

/// Returns the present rate, for those who turn many ticks into durations.
#[inline]
pub(crate) fn rate() -> Rate {
    Rate(imp::nanos_per_tick())
}

/// Nanoseconds a tick.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate(f64);

impl Rate {
    #[inline]
    pub(crate) fn duration(self, ticks: u64) -> Duration {
        // Many figures of a report are zero.
        if ticks == 0 {
            return Duration::ZERO;
        }
        // Adding a half and cutting off: rounding proper is a call where the processor's instruction is not assumed.
        Duration::from_nanos((ticks as f64 * self.0 + 0.5) as u64)
    }
}

/// Turns a duration into ticks.
pub(crate) fn ticks_of(duration: Duration) -> u64 {
    (duration.as_nanos() as f64 / rate().0 + 0.5) as u64
}

#[cfg(all(target_arch = "x86_64", not(loom)))]
mod imp {
    use crate::sync::OnceLock;
    use std::arch::x86_64::{__cpuid, _rdtsc};
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::time::{Duration, Instant};

    /// How long the rate is measured over before it is kept for good, and at least.
    const KEPT_AFTER: Duration = Duration::from_millis(100);
    const AT_LEAST: Duration = Duration::from_millis(1);

    const UNKNOWN: u8 = 0;
    const COUNTER: u8 = 1;
    const INSTANT: u8 = 2;
    static SOURCE: AtomicU8 = AtomicU8::new(UNKNOWN);

    /// Two readings of one moment.
    #[derive(Clone, Copy)]
    struct Start {
        counter: u64,
        instant: Instant,
    }

    /// How far apart the two readings of one moment are, at most.
    const TIGHT: Duration = Duration::from_micros(2);
    /// After this many attempts the closest will do.
    const ATTEMPTS: usize = 32;

    impl Start {
        fn now() -> Self {
            Self::of(Instant::now, counter)
        }

        /// Reads both clocks, until no pause of the thread lies between.
        ///
        /// One that did would be part of the rate for the life of the process.
        fn of(mut now: impl FnMut() -> Instant, mut counter: impl FnMut() -> u64) -> Self {
            let mut attempt = || {
                let (before, counter, after) = (now(), counter(), now());
                let apart = after.duration_since(before);
                (apart, Self { counter, instant: before + apart / 2 })
            };
            let mut closest = attempt();
            for _ in 1..ATTEMPTS {
                if closest.0 <= TIGHT {
                    break;
                }
                let next = attempt();
                if next.0 < closest.0 {
                    closest = next;
                }
            }
            closest.1
        }
    }

    static START: OnceLock<Start> = OnceLock::new();
    static RATE: OnceLock<f64> = OnceLock::new();

    fn counter() -> u64 {
        // SAFETY: every x86-64 processor has the instruction, and it only reads.
        unsafe { _rdtsc() }
    }

    #[inline]
    pub(super) fn ticks() -> u64 {
        match SOURCE.load(Ordering::Relaxed) {
            COUNTER => counter(),
            _ => ticks_slow(),
        }
    }

    #[inline]
    pub(super) fn since(earlier: u64) -> u64 {
        // Cores may differ by a few ticks.
        ticks().saturating_sub(earlier)
    }

    #[cold]
    #[inline(never)]
    fn ticks_slow() -> u64 {
        let start = START.get_or_init(Start::now);
        if SOURCE.load(Ordering::Relaxed) == UNKNOWN {
            SOURCE.store(if is_steady() { COUNTER } else { INSTANT }, Ordering::Relaxed);
        }
        match SOURCE.load(Ordering::Relaxed) {
            COUNTER => counter(),
            _ => u64::try_from(start.instant.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Returns whether the counter has one rate on all cores and in every power state.
    #[allow(unused_unsafe)]
    fn is_steady() -> bool {
        const HIGHEST: u32 = 0x8000_0000;
        const POWER: u32 = 0x8000_0007;
        // SAFETY: every x86-64 processor has the instruction; the second leaf is read if the first says that it exists.
        unsafe { __cpuid(HIGHEST).eax >= POWER && __cpuid(POWER).edx & (1 << 8) != 0 }
    }

    pub(super) fn nanos_per_tick() -> f64 {
        ticks();
        if SOURCE.load(Ordering::Relaxed) == INSTANT {
            return 1.0;
        }
        if let Some(rate) = RATE.get() {
            return *rate;
        }
        let start = START.get_or_init(Start::now);
        loop {
            let now = Start::now();
            let counted = now.counter.saturating_sub(start.counter);
            let elapsed = now.instant.saturating_duration_since(start.instant);
            if elapsed >= AT_LEAST && counted > 0 {
                let rate = elapsed.as_nanos() as f64 / counted as f64;
                return if elapsed >= KEPT_AFTER { *RATE.get_or_init(|| rate) } else { rate };
            }
            // Only in the first millisecond of the first lock.
            std::thread::yield_now();
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::cell::Cell;

        #[test]
        fn pause_between_the_readings_is_noticed() {
            // A clock of whole microseconds, and a thread that is paused for a second in its first two attempts.
            let (origin, passed, readings) = (Instant::now(), Cell::new(0), Cell::new(0));
            let now = || origin + Duration::from_micros(passed.replace(passed.get() + 1));
            let counter = || {
                readings.set(readings.get() + 1);
                let counted = passed.get();
                passed.set(counted + if readings.get() <= 2 { 1_000_000 } else { 0 });
                counted
            };
            let start = Start::of(now, counter);
            let at = start.instant.duration_since(origin);
            assert!(at.abs_diff(Duration::from_micros(start.counter)) <= TIGHT, "{at:?} {}", start.counter);
            assert_eq!(readings.get(), 3);
            // Where every pair is apart, the closest is taken.
            let far = || origin + Duration::from_millis(passed.replace(passed.get() + 1));
            let start = Start::of(far, || 7);
            assert_eq!(start.counter, 7);
        }
    }
}

#[cfg(all(not(target_arch = "x86_64"), not(loom)))]
mod imp {
    use crate::sync::OnceLock;
    use std::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();

    pub(super) fn ticks() -> u64 {
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn since(earlier: u64) -> u64 {
        ticks().saturating_sub(earlier)
    }

    pub(super) fn nanos_per_tick() -> f64 {
        1.0
    }
}

#[cfg(loom)]
mod imp {
    //! Stands still, so that every execution of a model sees the same times. Every span is one tick long.

    pub(super) fn ticks() -> u64 {
        1
    }

    pub(super) fn since(_earlier: u64) -> u64 {
        1
    }

    pub(super) fn nanos_per_tick() -> f64 {
        1.0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn duration_agrees_with_instant() {
        let (before, began) = (Instant::now(), ticks());
        std::thread::sleep(Duration::from_millis(20));
        let counted = ticks_since(began);
        let at_most = before.elapsed();
        let measured = duration(counted);
        assert!(measured >= Duration::from_micros(19_900) && measured <= at_most + at_most / 100, "{measured:?}");
    }
}
