//! The monotonic clock since some moment.

#[cfg(not(loom))]
pub(crate) use real::Clock;

#[cfg(loom)]
pub(crate) use modelled::Clock;

#[cfg(not(loom))]
mod real {
    use std::time::{Duration, Instant};

    /// See the module.
    #[derive(Debug)]
    pub(crate) struct Clock(Instant);

    impl Clock {
        pub(crate) fn start() -> Self {
            Self(Instant::now())
        }

        #[inline]
        pub(crate) fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }

        /// Returns the moment at this time; `None` if the clock cannot reach it.
        pub(crate) fn moment(&self, elapsed: Duration) -> Option<Instant> {
            self.0.checked_add(elapsed)
        }
    }
}

#[cfg(loom)]
mod modelled {
    //! Moves on by a nanosecond with each look, so that the same execution sees the same times.

    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    #[derive(Debug)]
    pub(crate) struct Clock(AtomicU64, Instant);

    impl Clock {
        pub(crate) fn start() -> Self {
            Self(AtomicU64::new(0), Instant::now())
        }

        pub(crate) fn elapsed(&self) -> Duration {
            Duration::from_nanos(self.0.fetch_add(1, Ordering::Relaxed) + 1)
        }

        pub(crate) fn moment(&self, elapsed: Duration) -> Option<Instant> {
            self.1.checked_add(elapsed)
        }
    }
}
