//! What happened so far, a shard at a time and altogether.
//!
//! What the figures are and what follows from them; `engine::figures` reads them. Those of one snapshot are read one
//! after the other while others go on, so that two of them may differ by what happened in between.

use crate::table::WAIT_BUCKETS;
use std::fmt;
use std::time::Duration;

use super::{AdaptiveState, Health};

/// Figures of one shard, or of all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardMetrics {
    /// Locks taken with one compare-and-swap, without any mutex.
    pub fast: u64,
    /// Locks taken at once by bringing their key into the table.
    pub inserted: u64,
    /// Locks taken otherwise: found held, or waited for.
    pub slow: u64,
    /// Locks released.
    pub releases: u64,
    /// Requests that had to queue.
    pub waits: u64,
    /// Waits that ended because their time was over.
    pub timeouts: u64,
    /// Waits that were cancelled, or ended by closing the manager.
    pub cancelled: u64,
    /// Waits of sessions that ended with [`LockError::Deadlock`](crate::LockError::Deadlock) so that others could go on.
    pub deadlocks: u64,
    /// Attempts without waiting that found the lock held.
    pub refused: u64,
    /// Time waited altogether, by requests whose wait is over.
    pub wait_time: Duration,
    /// The longest wait.
    pub max_wait_time: Duration,
    /// How long the waits were.
    pub wait_histogram: WaitHistogram,
    /// Locks held now, each reader counted.
    pub holders: u64,
    /// Requests waiting now.
    pub waiters: u64,
    /// Keys in the table now, a few idle ones included.
    pub entries: u64,
}

impl ShardMetrics {
    /// Locks taken.
    #[must_use]
    pub fn acquisitions(&self) -> u64 {
        self.fast + self.inserted + self.slow
    }

    /// The share of locks taken at once, from 0 to 1: nobody was in the way. 1 when none was taken.
    #[must_use]
    pub fn fast_path_rate(&self) -> f64 {
        share(self.fast + self.inserted, self.acquisitions()).unwrap_or(1.0)
    }

    /// The share of requests that timed out, from 0 to 1.
    #[must_use]
    pub fn timeout_rate(&self) -> f64 {
        share(self.timeouts, self.acquisitions() + self.timeouts).unwrap_or(0.0)
    }

    /// The mean time that those waited who had to wait.
    #[must_use]
    pub fn avg_wait_time(&self) -> Duration {
        let mean = nanos(self.wait_time).checked_div(self.wait_histogram.count());
        mean.map_or(Duration::ZERO, Duration::from_nanos)
    }

    fn add(&mut self, other: &Self) {
        self.fast += other.fast;
        self.inserted += other.inserted;
        self.slow += other.slow;
        self.releases += other.releases;
        self.waits += other.waits;
        self.timeouts += other.timeouts;
        self.cancelled += other.cancelled;
        self.deadlocks += other.deadlocks;
        self.refused += other.refused;
        self.wait_time += other.wait_time;
        self.max_wait_time = self.max_wait_time.max(other.max_wait_time);
        self.holders += other.holders;
        self.waiters += other.waiters;
        self.entries += other.entries;
        for (sum, bucket) in self.wait_histogram.buckets.iter_mut().zip(&other.wait_histogram.buckets) {
            *sum += bucket;
        }
    }
}

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

    /// Upper bound and number of waits of each bucket, shortest first; the last one has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        (0u32..).zip(&self.buckets).map(|(position, count)| (Self::bound(position), *count))
    }

    /// A bound that at least this share of waits (0 to 1) stayed below; `None` if there were none, or it has no bound.
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

/// Figures of a manager.
///
/// ```
/// # fn main() -> Result<(), keylatch::LockError> {
/// let locks = keylatch::FastObjectLockManager::new();
/// for _ in 0..100 {
///     drop(locks.acquire_write_lock_blocking("b", "o", "me")?);
/// }
/// let metrics = locks.get_metrics();
/// assert_eq!(metrics.shard_metrics.acquisitions(), 100);
/// assert_eq!(metrics.shard_metrics.holders, 0);
/// assert!(metrics.is_healthy());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LockMetrics {
    /// All shards together.
    pub shard_metrics: ShardMetrics,
    /// Each shard.
    pub shards: Vec<ShardMetrics>,
    /// How long the manager has existed.
    pub uptime: Duration,
    /// Bytes of memory the manager uses.
    pub bytes: u64,
    /// What was learned of waits, if the manager is set to do so.
    pub adaptive: Option<AdaptiveState>,
}

impl LockMetrics {
    pub(crate) fn from_shards(shards: Vec<ShardMetrics>, uptime: Duration, bytes: u64) -> Self {
        let mut all = ShardMetrics::default();
        shards.iter().for_each(|shard| all.add(shard));
        Self { shard_metrics: all, shards, uptime, bytes, adaptive: None }
    }

    /// Locks taken a second, on average since the manager was made. For a shorter time take the difference of two
    /// snapshots.
    #[must_use]
    pub fn ops_per_second(&self) -> f64 {
        let seconds = self.uptime.as_secs_f64();
        if seconds > 0.0 { self.shard_metrics.acquisitions() as f64 / seconds } else { 0.0 }
    }

    /// Whether the manager is doing well; an idle one is.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health().healthy
    }

    /// Whether the manager is doing well, and what is wrong if not.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(&self.shard_metrics)
    }
}

/// A report for people.
impl fmt::Display for LockMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = &self.shard_metrics;
        let percent = |share: f64| share * 100.0;
        writeln!(f, "locks taken      {} ({:.0} a second)", all.acquisitions(), self.ops_per_second())?;
        writeln!(f, "fast path        {:.2} %", percent(all.fast_path_rate()))?;
        writeln!(
            f,
            "waits            {} (mean {:?}, longest {:?})",
            all.waits,
            all.avg_wait_time(),
            all.max_wait_time
        )?;
        writeln!(f, "timeouts         {} ({:.2} %)", all.timeouts, percent(all.timeout_rate()))?;
        if let Some(adaptive) = &self.adaptive {
            writeln!(f, "default timeout  {:?} (learned from {} waits)", adaptive.timeout, adaptive.samples)?;
        }
        writeln!(f, "deadlocks        {}", all.deadlocks)?;
        writeln!(
            f,
            "now              {} held, {} waiting, {} keys in the table",
            all.holders, all.waiters, all.entries
        )?;
        write!(f, "memory           {} KiB", self.bytes / 1024)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::engine::hand_off::wait_bucket;

    #[test]
    fn a_wait_lies_below_the_bound_of_its_bucket_and_not_below_the_one_before() {
        for nanos in [0, 1, 999, 1000, 1001, 1999, 2000, 5_000_000, 1 << 35, u64::MAX] {
            let bucket = wait_bucket(nanos) as u32;
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
        histogram.buckets[wait_bucket(500)] = 90;
        histogram.buckets[wait_bucket(3_000_000)] = 10;
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_micros(1)));
        assert_eq!(histogram.quantile(0.99), Some(Duration::from_micros(4096)));
        histogram.buckets[WAIT_BUCKETS - 1] = 1000;
        assert_eq!(histogram.quantile(0.99), None);
    }
}
