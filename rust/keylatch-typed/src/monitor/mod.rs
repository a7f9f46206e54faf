//! The monitor: all registered locks and managers in one report.

mod openmetrics;
mod registered;
mod render;
mod report;
mod reporter;
mod series;

pub use report::{LockEntry, LockReport, LockStatus, ManagerEntry, ReportSummary, StatusLimits};
pub use reporter::Reporter;
pub use series::MOST_LOCKS;

use crate::id::LockId;
use crate::stats::LockStats;
use keylatch::{FastObjectLockManager, TopBy, TopKey};
use parking_lot::Mutex;
use registered::{Registered, RegisteredLock};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How many of a manager's hottest keys a report shows.
const HOTTEST_KEYS: usize = 10;

/// Collects the statistics of locks, and reports on them.
///
/// Clones are handles to the same monitor. The monitor keeps statistics and not the locked values; a lock that was
/// dropped leaves the next report. Locks with one id are all kept; the report numbers them.
///
/// ```
/// use keylatch_typed::{AsyncRwLock, LockId, LockMonitor};
/// use std::time::Duration;
///
/// let monitor = LockMonitor::new();
/// let data = AsyncRwLock::new(vec![1, 2, 3], Duration::from_secs(5));
/// monitor.register_lock(LockId::new("memory/service.rs", "data"), data.stats().clone());
///
/// drop(data.try_write());
/// let report = monitor.generate_report();
/// assert_eq!(report.summary.total_acquisitions, 1);
/// assert!(report.to_string().contains("Lock: memory/service.rs:data\n  Total acquisitions: 1\n"));
/// assert!(monitor.detect_contention(Duration::from_millis(100)).is_empty());
/// ```
#[derive(Clone, Default)]
pub struct LockMonitor {
    registered: Arc<Mutex<Registered>>,
}

/// Which waits and timeouts decide on a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    /// Those since the last reset.
    All,
    /// Waits of the last minute, and timeouts since the last periodic report.
    Lately,
}

impl LockMonitor {
    /// Makes a monitor that knows no lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a lock by what its `stats()` returns.
    ///
    /// The same lock under the same id is added once. Another lock under an id that is in use is added beside the first:
    /// reports show `#2` and so on behind the id. A lock that was made without an id gets this one, for its errors too.
    /// From now on the lock sorts its holds by how long they take, for [`to_openmetrics`](Self::to_openmetrics).
    pub fn register_lock(&self, id: LockId, stats: Arc<LockStats>) {
        stats.begin_watch(&id);
        self.registered.lock().register(id, stats);
    }

    /// Adds a manager of object locks. Its entry in the report names its hottest keys.
    pub fn register_manager(&self, id: LockId, manager: Arc<FastObjectLockManager>) {
        let mut registered = self.registered.lock();
        if !registered.managers.iter().any(|(other, known)| *other == id && Arc::ptr_eq(known, &manager)) {
            registered.managers.push((id, manager));
        }
    }

    /// Removes all locks and managers of this id. Returns how many there were.
    ///
    /// What the locks have counted stays in [`to_openmetrics`](Self::to_openmetrics).
    pub fn unregister(&self, id: &LockId) -> usize {
        let mut registered = self.registered.lock();
        let managers: Vec<_> = registered.managers.extract_if(.., |(other, _)| other == id).collect();
        let removed = registered.remove(id) + managers.len();
        drop(registered);
        // The last handle of a manager ends its threads: not under the mutex.
        drop(managers);
        removed
    }

    /// Returns the statistics of the lock that was registered last under this id.
    pub fn get_stats(&self, id: &LockId) -> Option<Arc<LockStats>> {
        self.registered.lock().get(id).map(|lock| Arc::clone(&lock.stats))
    }

    /// Reports on all locks and managers in the order of their registration.
    ///
    /// The default [`StatusLimits`] judge them.
    pub fn generate_report(&self) -> LockReport {
        self.generate_report_with(&StatusLimits::default())
    }

    /// Reports on all locks and managers, with these limits of a healthy lock.
    pub fn generate_report_with(&self, limits: &StatusLimits) -> LockReport {
        self.report(limits, Judged::All)
    }

    fn report(&self, limits: &StatusLimits, judged: Judged) -> LockReport {
        let (locks, managers) = {
            let mut registered = self.registered.lock();
            registered.remove_dropped();
            let entry = |lock: &mut RegisteredLock| {
                let figures = lock.stats.figures();
                let status = match judged {
                    Judged::All => limits.status_of(&figures),
                    Judged::Lately => limits.status_of_late(&figures, lock.requests_since_report()),
                };
                LockEntry { id: lock.id.clone(), number: lock.number, figures, status }
            };
            (registered.locks.iter_mut().map(entry).collect(), registered.managers.clone())
        };
        // Outside: the listing of a manager walks its table.
        let entry = |(id, manager): (LockId, Arc<FastObjectLockManager>)| {
            let metrics = manager.get_metrics();
            let hottest_keys = manager.top(HOTTEST_KEYS, TopBy::Waiters);
            let oldest_wait = longest_wait(&hottest_keys);
            let status = match judged {
                Judged::All => limits.status_of_manager(&metrics, oldest_wait),
                Judged::Lately => limits.status_of_manager_of_late(&metrics, oldest_wait),
            };
            ManagerEntry { id, metrics, hottest_keys, status }
        };
        LockReport::new(SystemTime::now(), locks, managers.into_iter().map(entry).collect())
    }

    /// Returns the ids of locks and managers with a wait of at least this long.
    ///
    /// Waits count since the last reset, and those that go on count until now.
    pub fn detect_contention(&self, threshold: Duration) -> Vec<LockId> {
        self.contended(threshold, Judged::All)
    }

    fn contended(&self, threshold: Duration, judged: Judged) -> Vec<LockId> {
        let (mut contended, managers) = {
            let mut registered = self.registered.lock();
            registered.remove_dropped();
            let is_contended = |lock: &&RegisteredLock| {
                let figures = lock.stats.figures();
                let longest = if judged == Judged::All { figures.max_wait_time } else { figures.recent_max_wait_time };
                longest >= threshold
            };
            let contended: Vec<_> = registered.locks.iter().filter(is_contended).map(|lock| lock.id.clone()).collect();
            (contended, registered.managers.clone())
        };
        let is_contended = |manager: &FastObjectLockManager| {
            let metrics = manager.get_metrics();
            let ended = match judged {
                Judged::All => metrics.shard_metrics.max_wait_time,
                Judged::Lately => metrics.health().max_wait_time,
            };
            ended.max(longest_wait(&manager.top(HOTTEST_KEYS, TopBy::Waiters))) >= threshold
        };
        contended.extend(managers.into_iter().filter(|(_, manager)| is_contended(manager)).map(|(id, _)| id));
        contended
    }

    /// Begins a new period of statistics for every registered lock.
    ///
    /// The figures of managers go on, and so do the counters of [`to_openmetrics`](Self::to_openmetrics).
    pub fn reset_stats(&self) {
        for lock in &self.registered.lock().locks {
            lock.stats.reset();
        }
    }

    /// Emits the report as one `tracing` event.
    ///
    /// A warning if a lock is not healthy of late, otherwise information. Unlike
    /// [`generate_report`](Self::generate_report) it judges waits of the last minute, or since the last look if that is longer ago, and timeouts since the last such event,
    /// so a lock is healthy again when its trouble is over. The figures are those since the last reset.
    pub fn log_report(&self) {
        let report = self.report(&StatusLimits::default(), Judged::Lately);
        match report.summary.worst_status {
            LockStatus::Healthy => tracing::info!("{report}"),
            LockStatus::HighContention | LockStatus::Critical => tracing::warn!("{report}"),
        }
    }
}

/// Returns the longest wait that goes on, of the keys with the longest lines.
fn longest_wait(hottest_keys: &[TopKey]) -> Duration {
    hottest_keys.iter().map(|key| key.longest_wait).max().unwrap_or_default()
}

impl std::fmt::Debug for LockMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (locks, managers) = {
            let registered = self.registered.lock();
            (registered.locks.len(), registered.managers.len())
        };
        f.debug_struct("LockMonitor").field("locks", &locks).field("managers", &managers).finish()
    }
}
