//! Holds by how long they took.

use crate::clock;
use crate::lock::Mode;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The buckets; the last one has no bound.
pub(crate) const HOLD_BUCKETS: usize = 13;

/// Counts of holds, each bucket up to four times as long as the one before.
#[derive(Debug)]
pub(super) struct HoldTimes {
    counts: [AtomicU64; HOLD_BUCKETS],
    ticks: AtomicU64,
    /// The longest since the last turn of the window.
    recent: AtomicU64,
    /// The bounds in ticks.
    bounds: &'static [u64; HOLD_BUCKETS - 1],
}

/// A copy of the counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HoldCounts {
    pub(crate) counts: [u64; HOLD_BUCKETS],
    pub(crate) total: Duration,
}

impl HoldTimes {
    pub(super) fn new() -> Self {
        static BOUNDS: OnceLock<[u64; HOLD_BUCKETS - 1]> = OnceLock::new();
        let bounds = BOUNDS.get_or_init(|| std::array::from_fn(|bucket| clock::ticks_of(bound(bucket))));
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            ticks: AtomicU64::new(0),
            recent: AtomicU64::new(0),
            bounds,
        }
    }

    /// Counts a hold. Caller holds: the lock, in this mode.
    pub(super) fn add(&self, mode: Mode, ticks: u64) {
        let bucket = self.bounds.iter().position(|bound| ticks <= *bound).unwrap_or(HOLD_BUCKETS - 1);
        add(&self.counts[bucket], 1, mode);
        add(&self.ticks, ticks, mode);
        if ticks > self.recent.load(Ordering::Relaxed) {
            self.recent.fetch_max(ticks, Ordering::Relaxed);
        }
    }

    /// The longest hold since the last turn, in ticks.
    pub(super) fn recent(&self) -> u64 {
        self.recent.load(Ordering::Relaxed)
    }

    /// Begins a window anew, and returns the longest hold of the old one.
    pub(super) fn turn(&self) -> u64 {
        self.recent.swap(0, Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> HoldCounts {
        HoldCounts {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            total: clock::duration(self.ticks.load(Ordering::Relaxed)),
        }
    }
}

impl HoldCounts {
    /// Adds those of another lock.
    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.total = self.total.saturating_add(other.total);
    }

    /// The bound of each bucket but the last, and the holds that took no longer.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut sum = 0;
        (0..HOLD_BUCKETS - 1).zip(self.counts).map(move |(bucket, count)| {
            sum += count;
            (bound(bucket), sum)
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Every second bound of the manager's histograms, from 2 us to 8.4 s.
const fn bound(bucket: usize) -> Duration {
    Duration::from_micros(2 << (2 * bucket))
}

/// Adds to a counter that holders write before they release.
#[inline]
fn add(counter: &AtomicU64, amount: u64, mode: Mode) {
    match mode {
        Mode::Exclusive => {
            // No other holder adds meanwhile. Pairs with: the release of the lock, which publishes this.
            counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
        }
        Mode::Shared => {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn holds_lie_within_their_bounds() {
        let times = HoldTimes::new();
        let expected = 2 * (HOLD_BUCKETS as u64 - 1);
        for bound in times.bounds {
            times.add(Mode::Shared, *bound);
            times.add(Mode::Exclusive, *bound + 1);
        }
        let counts = times.counts();
        assert_eq!(counts.counts, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
        assert_eq!(
            (counts.count(), counts.cumulative().last()),
            (expected, Some((Duration::from_micros(8_388_608), 23)))
        );
        assert_eq!(times.turn(), times.bounds[HOLD_BUCKETS - 2] + 1);
        assert_eq!((times.turn(), times.counts().count()), (0, expected));
    }
}
