//! Times in buckets that double.

use crate::table::WAIT_BUCKETS;
use std::time::Duration;

/// How many waits were how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitHistogram {
    pub(crate) buckets: [u64; WAIT_BUCKETS],
}

impl WaitHistogram {
    /// Waits altogether.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Upper bound and number of waits of each bucket, shortest first.
    ///
    /// The last one has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        (0u32..).zip(&self.buckets).map(|(position, count)| (Self::bound(position), *count))
    }

    /// Returns a bound that at least this share of waits (0 to 1) stayed below.
    ///
    /// `None` if there were no waits, or it has no bound.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = self.count() as f64 * share.clamp(0.0, 1.0);
        let mut seen = 0;
        self.buckets().find_map(|(bound, count)| {
            seen += count;
            (seen > 0 && seen as f64 >= wanted).then_some(bound)
        })?
    }

    fn bound(position: u32) -> Option<Duration> {
        (position as usize + 1 < WAIT_BUCKETS).then(|| Duration::from_micros(1 << position))
    }
}

/// Returns the bucket of a time.
pub(crate) fn bucket_of(nanos: u64) -> usize {
    let micros = nanos / 1000;
    let bucket = if micros == 0 { 0 } else { micros.ilog2() as usize + 1 };
    bucket.min(WAIT_BUCKETS - 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn time_lies_within_the_bounds_of_its_bucket() {
        for nanos in [0, 1, 999, 1000, 1001, 1999, 2000, 5_000_000, 1 << 35, u64::MAX] {
            let bucket = bucket_of(nanos) as u32;
            if let Some(bound) = WaitHistogram::bound(bucket) {
                assert!(Duration::from_nanos(nanos) < bound, "{nanos}");
            }
            if bucket > 0 {
                let below = WaitHistogram::bound(bucket - 1).unwrap();
                assert!(Duration::from_nanos(nanos) >= below, "{nanos}");
            }
        }
    }

    #[test]
    fn quantiles_are_bounds() {
        let mut histogram = WaitHistogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.buckets[bucket_of(500)] = 90;
        histogram.buckets[bucket_of(3_000_000)] = 10;
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(1)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_micros(4096)));
        histogram.buckets[WAIT_BUCKETS - 1] = 1000;
        assert_eq!(histogram.quantile(0.99), None);
    }
}
