//! What happened so far, a shard at a time and altogether.
//!
//! What the figures are and what follows from them; `engine::figures` reads them. Those of one snapshot are read one
//! after the other while others go on, so that two of them may differ by what happened in between.

use crate::listed::TopKey;
use std::fmt;
use std::time::Duration;

use super::{AdaptiveState, Health, HoldTimes, RecentFigures, WaitHistogram, WaitOutcomes};

/// Figures of one shard, or of all of them together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardMetrics {
    /// Locks taken with one compare-and-swap, without any mutex.
    pub fast: u64,
    /// Locks taken under the mutex of their shard, without a wait.
    ///
    /// Mostly those that brought their key into the table.
    pub inserted: u64,
    /// Locks that were waited for.
    pub slow: u64,
    /// Locks released.
    pub releases: u64,
    /// Requests that had to queue.
    pub waits: u64,
    /// Requests whose time was over before they had the lock.
    pub timeouts: u64,
    /// Waits that were cancelled, or ended by closing the manager.
    pub cancelled: u64,
    /// Waits that ended with `LockError::Deadlock`.
    pub deadlocks: u64,
    /// Attempts without waiting that found the lock held.
    ///
    /// One with a timeout of zero counts as a timeout instead.
    pub refused: u64,
    /// Time waited altogether, by requests whose wait is over.
    pub wait_time: Duration,
    /// The longest wait.
    pub max_wait_time: Duration,
    /// How long the waits were.
    pub wait_histogram: WaitHistogram,
    /// Locks held now, each reader counted.
    ///
    /// While locks come and go it may be off by as many as there are threads.
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

    /// Returns the share of locks taken without a wait, from 0 to 1.
    ///
    /// 1 when none was taken.
    #[must_use]
    pub fn fast_path_rate(&self) -> f64 {
        share(self.fast + self.inserted, self.acquisitions()).unwrap_or(1.0)
    }

    /// Returns the share of requests that timed out, from 0 to 1.
    #[must_use]
    pub fn timeout_rate(&self) -> f64 {
        share(self.timeouts, self.acquisitions() + self.timeouts).unwrap_or(0.0)
    }

    /// Returns the mean time that those waited who had to wait.
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
    ///
    /// Of more than 1,024 shards those with the same number modulo 1,024 are one row.
    pub shards: Vec<ShardMetrics>,
    /// How long the manager has existed.
    pub uptime: Duration,
    /// Bytes of memory the manager uses.
    pub bytes: u64,
    /// What was learned of waits, if the manager is set to do so.
    pub adaptive: Option<AdaptiveState>,
    /// The latest stretch of time, which [`health`](Self::health) judges.
    pub recent: RecentFigures,
    /// How waits ended, by what was waited for.
    pub wait_outcomes: WaitOutcomes,
    /// How long shared locks were held, as far as holds are timed:
    /// [`EventOptions::hold_above`](crate::EventOptions::hold_above).
    pub shared_holds: HoldTimes,
    /// The same of exclusive locks.
    pub exclusive_holds: HoldTimes,
    /// Holds that were revoked because their lease ran out.
    pub expired_leases: u64,
    /// Holds that were released by force.
    pub forced_releases: u64,
    /// Events that subscribers did not get because their queue was full.
    pub events_dropped: u64,
    /// The keys that most requests wait for; empty unless
    /// [asked for](crate::FastObjectLockManager::get_metrics_with_hottest_keys).
    pub hottest_keys: Vec<TopKey>,
    /// `LockConfig::max_locks`; 0 if there is no limit.
    pub max_locks: u64,
    /// Keys that are pinned, see [`PinnedKey`](crate::PinnedKey).
    pub pinned_keys: u64,
    /// Requests that can wait at a time; 0 if there is no limit.
    pub max_waiters: u64,
}

impl LockMetrics {
    pub(crate) fn from_shards(shards: Vec<ShardMetrics>, uptime: Duration, bytes: u64) -> Self {
        let mut all = ShardMetrics::default();
        shards.iter().for_each(|shard| all.add(shard));
        // Of managers that know no window: since they were made, and each grant that was not immediate waited.
        let mut waits = WaitOutcomes::default();
        (waits.exclusive.granted, waits.exclusive.timed_out) = (all.slow, all.timeouts);
        let recent = RecentFigures {
            window: uptime,
            immediate: all.fast + all.inserted,
            waits,
            timeouts: all.timeouts,
            wait_time: all.wait_time,
            max_wait_time: all.max_wait_time,
        };
        Self {
            shard_metrics: all,
            shards,
            uptime,
            bytes,
            adaptive: None,
            recent,
            wait_outcomes: WaitOutcomes::default(),
            shared_holds: HoldTimes::default(),
            exclusive_holds: HoldTimes::default(),
            expired_leases: 0,
            forced_releases: 0,
            events_dropped: 0,
            hottest_keys: Vec::new(),
            max_locks: 0,
            pinned_keys: 0,
            max_waiters: 0,
        }
    }

    /// Returns the share of the table that is in use, from 0 to 1.
    #[must_use]
    pub fn table_fill(&self) -> f64 {
        share(self.shard_metrics.entries, self.max_locks).unwrap_or(0.0)
    }

    /// Locks taken a second, on average since the manager was made.
    ///
    /// For a shorter time take the difference of two snapshots.
    #[must_use]
    pub fn ops_per_second(&self) -> f64 {
        let seconds = self.uptime.as_secs_f64();
        if seconds > 0.0 { self.shard_metrics.acquisitions() as f64 / seconds } else { 0.0 }
    }

    /// Returns whether the manager has been doing well lately; an idle one has.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.health().healthy
    }

    /// Whether the manager has been doing well lately, and what is wrong if not.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::of(&self.recent)
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
            "revoked          {} leases ran out, {} released by force",
            self.expired_leases, self.forced_releases
        )?;
        let health = self.health();
        write!(f, "last {:<11.0?} ", health.window)?;
        if health.healthy {
            writeln!(f, "healthy (longest wait {:?})", health.max_wait_time)?;
        } else {
            writeln!(f, "unhealthy: {}", health.problems.join("; "))?;
        }
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
