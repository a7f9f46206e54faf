//! What a report contains, and when a lock is healthy.

use crate::id::LockId;
use crate::stats::LockFigures;
use keylatch::{LockMetrics, TopKey};
use std::time::{Duration, SystemTime};

/// A report on all registered locks; its `Display` is the text for people.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LockReport {
    /// When it was made.
    pub generated_at: SystemTime,
    /// The typed locks.
    pub locks: Vec<LockEntry>,
    /// The managers of object locks.
    pub managers: Vec<ManagerEntry>,
    /// The sums.
    pub summary: ReportSummary,
}

/// One typed lock.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LockEntry {
    /// The id that it was registered under.
    pub id: LockId,
    /// Which lock that is shown under this id it is: 1 for the first.
    ///
    /// It stays the same for as long as the lock is registered.
    pub number: u32,
    /// Its statistics.
    pub figures: LockFigures,
    /// The verdict.
    pub status: LockStatus,
}

/// One manager of object locks.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ManagerEntry {
    /// The id that it was registered under.
    pub id: LockId,
    /// Its figures.
    pub metrics: LockMetrics,
    /// The keys that most requests wait for now.
    pub hottest_keys: Vec<TopKey>,
    /// The verdict.
    pub status: LockStatus,
}

/// The sums of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportSummary {
    /// Locks and managers.
    pub total_locks: usize,
    /// Acquisitions of all of them.
    pub total_acquisitions: u64,
    /// Timeouts of all of them.
    pub total_timeouts: u64,
    /// Those that are critical.
    pub critical_locks: usize,
    /// The worst verdict of all.
    pub worst_status: LockStatus,
}

/// How a lock is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LockStatus {
    /// Waits are short.
    #[default]
    Healthy,
    /// Waits are long, or requests time out.
    HighContention,
    /// Waits are far too long, or many requests time out.
    Critical,
}

/// From when on a lock is not healthy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatusLimits {
    /// A wait as long as this is high contention.
    ///
    /// Default 100 ms. One timeout is as well.
    pub long_wait: Duration,
    /// A wait as long as this is critical. Default 1 s.
    pub critical_wait: Duration,
    /// This share of requests timing out is critical, from 0 to 1. Default 0.01.
    pub critical_timeout_ratio: f64,
}

impl Default for StatusLimits {
    fn default() -> Self {
        Self {
            long_wait: Duration::from_millis(100),
            critical_wait: Duration::from_secs(1),
            critical_timeout_ratio: 0.01,
        }
    }
}

impl StatusLimits {
    pub(super) fn status_of(&self, figures: &LockFigures) -> LockStatus {
        self.status(figures.max_wait_time, figures.timeout_count, figures.timeout_ratio())
    }

    /// Judges the last minute's waits, and these acquisitions and timeouts.
    pub(super) fn status_of_late(&self, figures: &LockFigures, (acquisitions, timeouts): (u64, u64)) -> LockStatus {
        let ratio = timeouts as f64 / (acquisitions + timeouts).max(1) as f64;
        self.status(figures.recent_max_wait_time, timeouts, ratio)
    }

    pub(super) fn status_of_manager(&self, metrics: &LockMetrics, oldest_wait: Duration) -> LockStatus {
        let sums = &metrics.shard_metrics;
        self.status(sums.max_wait_time.max(oldest_wait), sums.timeouts, sums.timeout_rate())
    }

    pub(super) fn status_of_manager_of_late(&self, metrics: &LockMetrics, oldest_wait: Duration) -> LockStatus {
        let health = metrics.health();
        self.status(health.max_wait_time.max(oldest_wait), metrics.recent.timeouts, health.timeout_rate)
    }

    fn status(&self, longest_wait: Duration, timeouts: u64, timeout_ratio: f64) -> LockStatus {
        if longest_wait >= self.critical_wait || (timeouts > 0 && timeout_ratio >= self.critical_timeout_ratio) {
            LockStatus::Critical
        } else if longest_wait >= self.long_wait || timeouts > 0 {
            LockStatus::HighContention
        } else {
            LockStatus::Healthy
        }
    }
}

impl LockReport {
    pub(super) fn new(generated_at: SystemTime, locks: Vec<LockEntry>, managers: Vec<ManagerEntry>) -> Self {
        let mut summary = ReportSummary { total_locks: locks.len() + managers.len(), ..ReportSummary::default() };
        let of_locks =
            locks.iter().map(|lock| (lock.figures.total_acquisitions, lock.figures.timeout_count, lock.status));
        let of_managers = managers.iter().map(|manager| {
            let sums = &manager.metrics.shard_metrics;
            (sums.acquisitions(), sums.timeouts, manager.status)
        });
        for (acquisitions, timeouts, status) in of_locks.chain(of_managers) {
            summary.total_acquisitions += acquisitions;
            summary.total_timeouts += timeouts;
            summary.critical_locks += usize::from(status == LockStatus::Critical);
            summary.worst_status = summary.worst_status.max(status);
        }
        Self { generated_at, locks, managers, summary }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn old_wait_is_judged_since_the_reset_only() {
        let long = Duration::from_millis(150);
        let mut figures = LockFigures { max_wait_time: long, total_acquisitions: 10, ..LockFigures::default() };
        let limits = StatusLimits::default();
        assert_eq!(limits.status_of(&figures), LockStatus::HighContention);
        assert_eq!(limits.status_of_late(&figures, (10, 0)), LockStatus::Healthy);
        figures.recent_max_wait_time = long;
        assert_eq!(limits.status_of_late(&figures, (10, 0)), LockStatus::HighContention);
        assert_eq!(limits.status_of_late(&LockFigures::default(), (99, 1)), LockStatus::Critical);
        assert_eq!(limits.status_of_late(&LockFigures::default(), (0, 0)), LockStatus::Healthy);
    }
}
