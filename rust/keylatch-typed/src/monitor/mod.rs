//! The monitor: all registered locks and managers in one report.

mod openmetrics;
mod render;
mod report;
mod reporter;

pub use openmetrics::MOST_LOCKS;
pub use report::{LockEntry, LockReport, LockStatus, ManagerEntry, ReportSummary, StatusLimits};
pub use reporter::Reporter;

use crate::id::LockId;
use crate::stats::LockStats;
use keylatch::{FastObjectLockManager, TopBy};
use parking_lot::Mutex;
use std::collections::HashMap;
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

#[derive(Default)]
struct Registered {
    locks: Vec<(LockId, Arc<LockStats>)>,
    /// Where the latest lock of an id is.
    latest: HashMap<LockId, usize>,
    managers: Vec<(LockId, Arc<FastObjectLockManager>)>,
}

impl LockMonitor {
    /// Makes a monitor that knows no lock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a lock by what its `stats()` returns.
    ///
    /// The same lock under the same id is added once. Another lock under an id that is in use is added beside the first: reports show `#2` and so on behind the id.
    /// From now on the lock sorts its holds by how long they take, for [`to_openmetrics`](Self::to_openmetrics).
    pub fn register_lock(&self, id: LockId, stats: Arc<LockStats>) {
        stats.begin_watch();
        let mut registered = self.registered.lock();
        if registered.latest.contains_key(&id)
            && registered.locks.iter().any(|(other, known)| *other == id && Arc::ptr_eq(known, &stats))
        {
            return;
        }
        let index = registered.locks.len();
        registered.latest.insert(id.clone(), index);
        registered.locks.push((id, stats));
    }

    /// Adds a manager of object locks. Its entry in the report names its hottest keys.
    pub fn register_manager(&self, id: LockId, manager: Arc<FastObjectLockManager>) {
        let mut registered = self.registered.lock();
        if !registered.managers.iter().any(|(other, known)| *other == id && Arc::ptr_eq(known, &manager)) {
            registered.managers.push((id, manager));
        }
    }

    /// Removes all locks and managers of this id. Returns how many there were.
    pub fn unregister(&self, id: &LockId) -> usize {
        let mut registered = self.registered.lock();
        let before = registered.locks.len() + registered.managers.len();
        registered.locks.retain(|(other, _)| other != id);
        let managers: Vec<_> = registered.managers.extract_if(.., |(other, _)| other == id).collect();
        registered.index();
        let removed = before - registered.locks.len() - registered.managers.len();
        drop(registered);
        // The last handle of a manager ends its threads: not under the mutex.
        drop(managers);
        removed
    }

    /// Returns the statistics of the lock that was registered last under this id.
    pub fn get_stats(&self, id: &LockId) -> Option<Arc<LockStats>> {
        let registered = self.registered.lock();
        registered.latest.get(id).map(|index| Arc::clone(&registered.locks[*index].1))
    }

    /// Reports on all locks and managers in the order of their registration.
    ///
    /// The default [`StatusLimits`] judge them.
    pub fn generate_report(&self) -> LockReport {
        self.generate_report_with(&StatusLimits::default())
    }

    /// Reports on all locks and managers, with these limits of a healthy lock.
    pub fn generate_report_with(&self, limits: &StatusLimits) -> LockReport {
        let (locks, managers) = {
            let mut registered = self.registered.lock();
            registered.remove_dropped();
            let numbers = registered.numbers();
            let entry = |((id, stats), number): (&(LockId, Arc<LockStats>), u32)| {
                let figures = stats.figures();
                LockEntry { id: id.clone(), number, figures, status: limits.status_of(&figures) }
            };
            (registered.locks.iter().zip(numbers).map(entry).collect(), registered.managers.clone())
        };
        // Outside: the listing of a manager walks its table.
        let entry = |(id, manager): (LockId, Arc<FastObjectLockManager>)| {
            let metrics = manager.get_metrics();
            let hottest_keys = manager.top(HOTTEST_KEYS, TopBy::Waiters);
            let status = limits.status_of_manager(&metrics);
            ManagerEntry { id, metrics, hottest_keys, status }
        };
        LockReport::new(SystemTime::now(), locks, managers.into_iter().map(entry).collect())
    }

    /// Returns the ids of locks and managers with a wait of at least this long.
    ///
    /// Waits count since the last reset.
    pub fn detect_contention(&self, threshold: Duration) -> Vec<LockId> {
        let (mut contended, managers) = {
            let mut registered = self.registered.lock();
            registered.remove_dropped();
            let is_contended = |(_, stats): &&(LockId, Arc<LockStats>)| stats.max_wait_time() >= threshold;
            let contended: Vec<_> = registered.locks.iter().filter(is_contended).map(|(id, _)| id.clone()).collect();
            (contended, registered.managers.clone())
        };
        let is_contended =
            |manager: &FastObjectLockManager| manager.get_metrics().shard_metrics.max_wait_time >= threshold;
        contended.extend(managers.into_iter().filter(|(_, manager)| is_contended(manager)).map(|(id, _)| id));
        contended
    }

    /// Begins a new period of statistics for every registered lock.
    ///
    /// The figures of managers go on.
    pub fn reset_stats(&self) {
        for (_, stats) in &self.registered.lock().locks {
            stats.reset();
        }
    }

    /// Emits the report as one `tracing` event.
    ///
    /// A warning if a lock is not healthy, otherwise information.
    pub fn log_report(&self) {
        let report = self.generate_report();
        match report.summary.worst_status {
            LockStatus::Healthy => tracing::info!("{report}"),
            LockStatus::HighContention | LockStatus::Critical => tracing::warn!("{report}"),
        }
    }
}

impl Registered {
    /// Removes the locks that are gone: only the monitor still knows their statistics.
    fn remove_dropped(&mut self) {
        let before = self.locks.len();
        self.locks.retain(|(_, stats)| Arc::strong_count(stats) > 1);
        if self.locks.len() != before {
            self.index();
        }
    }

    fn index(&mut self) {
        self.latest = self.locks.iter().enumerate().map(|(index, (id, _))| (id.clone(), index)).collect();
    }

    /// For each lock, which one of its id it is: 1 for the first.
    fn numbers(&self) -> Vec<u32> {
        if self.latest.len() == self.locks.len() {
            return vec![1; self.locks.len()];
        }
        let mut seen: HashMap<&LockId, u32> = HashMap::new();
        self.locks
            .iter()
            .map(|(id, _)| {
                let count = seen.entry(id).or_default();
                *count += 1;
                *count
            })
            .collect()
    }
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
