//! What a lock was made with, in one word.

use std::time::Duration;

/// How much of its holds a lock measures.
///
/// Acquisitions, waits, timeouts and waiters are exact in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Statistics {
    /// Every hold is timed.
    #[default]
    Exact,
    /// One hold in 64 is timed.
    Sampled,
    /// No hold is timed.
    Off,
}

/// The default timeout in nanoseconds, above the bits of the statistics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings(u64);

const STATISTICS: u64 = 0b11;
const EXACT: u64 = 0;
const SAMPLED: u64 = 1;
const OFF: u64 = 2;
const ONE_NANO: u64 = STATISTICS + 1;
/// Stands for every timeout that is longer, some 146 years.
const FOREVER: u64 = u64::MAX / ONE_NANO;
/// Sampled holds are those whose count has none of these bits.
const SAMPLING: u64 = 63;

impl Settings {
    pub(super) fn new(statistics: Statistics, timeout: Duration) -> Self {
        let statistics = match statistics {
            Statistics::Exact => EXACT,
            Statistics::Sampled => SAMPLED,
            Statistics::Off => OFF,
        };
        let nanos = u64::try_from(timeout.as_nanos()).map_or(FOREVER, |nanos| nanos.min(FOREVER));
        Self((nanos * ONE_NANO) | statistics)
    }

    /// Returns whether every hold is timed.
    #[inline]
    pub(super) const fn is_exact(self) -> bool {
        self.0 & STATISTICS == EXACT
    }

    /// Returns whether the hold with this count is timed.
    #[inline]
    pub(super) const fn times(self, count: u64) -> bool {
        self.is_exact() || (self.0 & STATISTICS == SAMPLED && count & SAMPLING == 0)
    }

    /// Returns the default timeout.
    ///
    /// [`Duration::MAX`] stands for every one that ends after more than 146 years.
    pub(super) const fn timeout(self) -> Duration {
        match self.0 / ONE_NANO {
            FOREVER => Duration::MAX,
            nanos => Duration::from_nanos(nanos),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn settings_keep_both_parts() {
        let hundred_years = Duration::from_secs(100 * 365 * 86_400);
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(5), hundred_years, Duration::MAX] {
            for (statistics, timed) in [(Statistics::Exact, 128), (Statistics::Sampled, 2), (Statistics::Off, 0)] {
                let settings = Settings::new(statistics, timeout);
                assert_eq!(settings.timeout(), timeout);
                assert_eq!((1..=128).filter(|count| settings.times(*count)).count(), timed);
                assert_eq!(settings.is_exact(), statistics == Statistics::Exact);
            }
        }
        let longest = Duration::from_nanos(FOREVER - 1);
        assert_eq!(Settings::new(Statistics::Off, longest).timeout(), longest);
        assert_eq!(Settings::new(Statistics::Off, longest + Duration::from_nanos(1)).timeout(), Duration::MAX);
    }
}
