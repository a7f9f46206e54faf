//! Holds by how long they took.

use super::totals::Totals;
use crate::clock;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The buckets; the last one has no bound.
pub(crate) const HOLD_BUCKETS: usize = 13;

/// Counts of holds, each bucket up to four times as long as the one before.
///
/// Holds of the first bucket are not counted here: they are all that the lock counts but those of the others. So a short
/// hold, where a read-modify-write would be felt, does without one.
#[derive(Debug)]
pub(super) struct HoldTimes {
    longer: [AtomicU64; HOLD_BUCKETS - 1],
    /// What was returned for the first bucket at most, so that it never decreases.
    shown: AtomicU64,
    /// What the lock had counted before.
    holds_before: u64,
    ticks_before: u64,
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
    pub(super) fn new(before: &Totals) -> Self {
        static BOUNDS: OnceLock<[u64; HOLD_BUCKETS - 1]> = OnceLock::new();
        let bounds = BOUNDS.get_or_init(|| std::array::from_fn(|bucket| clock::ticks_of(bound(bucket))));
        Self {
            longer: std::array::from_fn(|_| AtomicU64::new(0)),
            shown: AtomicU64::new(0),
            holds_before: before.holds,
            ticks_before: before.hold_ticks,
            recent: AtomicU64::new(0),
            bounds,
        }
    }

    /// Counts a hold. Caller holds: the lock.
    #[inline]
    pub(super) fn add(&self, ticks: u64) {
        if ticks > self.bounds[0] {
            self.add_longer(ticks);
        }
        if ticks > self.recent.load(Ordering::Relaxed) {
            self.recent.fetch_max(ticks, Ordering::Relaxed);
        }
    }

    #[cold]
    fn add_longer(&self, ticks: u64) {
        let bucket = self.bounds[1..].iter().position(|bound| ticks <= *bound).unwrap_or(HOLD_BUCKETS - 2);
        self.longer[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the longest hold since the last turn, in ticks.
    pub(super) fn recent(&self) -> u64 {
        self.recent.load(Ordering::Relaxed)
    }

    /// Begins a window anew, and returns the longest hold of the old one.
    pub(super) fn turn(&self) -> u64 {
        self.recent.swap(0, Ordering::Relaxed)
    }

    /// Returns the holds of each bucket but the first.
    pub(super) fn sorted(&self) -> [u64; HOLD_BUCKETS - 1] {
        self.longer.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Returns all buckets, from what `sorted` returned and from later totals.
    ///
    /// A hold that was sorted and is not over yet is missing among the totals. The first bucket then stays as it was shown.
    pub(super) fn counts(&self, sorted: [u64; HOLD_BUCKETS - 1], totals: &Totals) -> HoldCounts {
        let first = (totals.holds - self.holds_before).saturating_sub(sorted.iter().sum());
        let mut counts = [0; HOLD_BUCKETS];
        counts[0] = first.max(self.shown.fetch_max(first, Ordering::Relaxed));
        counts[1..].copy_from_slice(&sorted);
        HoldCounts { counts, total: clock::duration(totals.hold_ticks - self.ticks_before) }
    }
}

impl HoldCounts {
    /// Returns what was added since an earlier moment.
    pub(super) fn since(&self, before: &Self) -> Self {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].saturating_sub(before.counts[bucket]));
        Self { counts, total: self.total.saturating_sub(before.total) }
    }

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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn holds_lie_within_their_bounds() {
        let before = Totals { holds: 100, hold_ticks: 1_000_000, ..Totals::default() };
        let (times, mut totals) = (HoldTimes::new(&before), before);
        for ticks in times.bounds.iter().flat_map(|bound| [*bound, *bound + 1]) {
            times.add(ticks);
            (totals.holds, totals.hold_ticks) = (totals.holds + 1, totals.hold_ticks + ticks);
        }
        let counts = times.counts(times.sorted(), &totals);
        assert_eq!(counts.counts, [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
        let expected = 2 * (HOLD_BUCKETS as u64 - 1);
        assert_eq!(
            (counts.count(), counts.cumulative().last()),
            (expected, Some((Duration::from_micros(8_388_608), 23)))
        );
        let whole = clock::duration(totals.hold_ticks - 1_000_000);
        assert!(counts.total.abs_diff(whole) <= whole / 100, "the clock's rate is still being measured");
        assert_eq!(times.turn(), times.bounds[HOLD_BUCKETS - 2] + 1);
        assert_eq!((times.turn(), times.counts(times.sorted(), &totals).count()), (0, expected));
    }

    #[test]
    fn threads_sort_every_hold() {
        const HOLDS: u64 = 100_000;
        let (times, long) = (HoldTimes::new(&Totals::default()), clock::ticks_of(Duration::from_secs(1)));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..HOLDS).for_each(|_| times.add(long)));
            }
        });
        assert_eq!(times.sorted().iter().sum::<u64>(), 3 * HOLDS);
    }

    #[test]
    fn first_bucket_never_decreases() {
        let (times, long) = (HoldTimes::new(&Totals::default()), clock::ticks_of(Duration::from_secs(1)));
        let totals = Totals { holds: 5, ..Totals::default() };
        assert_eq!(times.counts(times.sorted(), &totals).counts[0], 5);
        // Sorted and not released yet.
        times.add(long);
        let counts = times.counts(times.sorted(), &totals);
        assert_eq!((counts.counts[0], counts.count()), (5, 6));
        let counts = times.counts(times.sorted(), &Totals { holds: 6, ..Totals::default() });
        assert_eq!((counts.counts[0], counts.count()), (5, 6));
    }
}
