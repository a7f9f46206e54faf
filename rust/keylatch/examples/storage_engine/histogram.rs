//! How long things took, to about six per cent, in a few kilobytes.

use std::time::Duration;

/// Each power of two of nanoseconds is split into this many buckets.
const PARTS_LOG2: u32 = 4;
const PARTS: u64 = 1 << PARTS_LOG2;
const BUCKETS: usize = ((64 - PARTS_LOG2 as usize) + 1) << PARTS_LOG2;

/// Counts of durations.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// Returns what this share of them (0 to 1) did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        Duration::from_nanos(reached.map_or(0, |position| upper_bound(position).min(self.max)))
    }
}

/// The bucket of a time: one a nanosecond below `PARTS`, above by leading bits.
///
/// The bits after the first one choose among `PARTS` buckets.
fn bucket(nanos: u64) -> usize {
    if nanos < PARTS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - PARTS_LOG2;
    ((u64::from(shift + 1) << PARTS_LOG2) + ((nanos >> shift) - PARTS)) as usize
}

/// Returns the longest duration in a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let shift = (bucket >> PARTS_LOG2) - 1;
    let first = (PARTS + bucket % PARTS) << shift;
    first + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_lie_in_narrow_buckets() {
        let mut nanos = 0;
        while nanos < u64::MAX / 2 {
            let place = bucket(nanos);
            assert!(upper_bound(place) >= nanos, "{nanos}");
            assert!(place == 0 || upper_bound(place - 1) < nanos, "{nanos}");
            assert!(upper_bound(place) - nanos <= nanos / PARTS, "{nanos}");
            nanos += 1 + nanos / 7;
        }
        assert!(bucket(u64::MAX) < BUCKETS);
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        for (share, micros) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let found = histogram.quantile(share).as_secs_f64() * 1e6;
            assert!((found - micros).abs() <= micros / 16.0, "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), histogram.max());
    }
}
