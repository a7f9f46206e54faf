//! The typed locks of a report as text that monitoring systems read: OpenMetrics 1.0.
//!
//! Locks are told apart by the id that the program gave them. Ids may be made at run time, so only [`MOST_LOCKS`] have
//! time series of their own: those that were waited for the longest. All others are summed up as one.

use super::report::{LockEntry, LockReport};
use crate::stats::LockFigures;
use std::cmp::Reverse;
use std::fmt::{self, Write as _};

/// How many locks have time series of their own at most.
pub const MOST_LOCKS: usize = 100;
/// The label of all others; no id looks like this, for each has a colon.
const OTHERS: &str = "(others)";

/// A figure, its kind, unit and help, and how it is read.
type Family = (&'static str, &'static str, &'static str, &'static str, fn(&LockFigures) -> f64);

const FAMILIES: [Family; 9] = [
    ("acquisitions", "counter", "", "Locks taken.", |figures| figures.total_acquisitions as f64),
    ("waits", "counter", "", "Requests that had to wait.", |figures| figures.waited_count as f64),
    ("timeouts", "counter", "", "Requests that timed out.", |figures| figures.timeout_count as f64),
    ("cancellations", "counter", "", "Waits that were cancelled.", |figures| figures.cancelled_count as f64),
    ("timed_holds", "counter", "", "Holds that were timed.", |figures| figures.timed_holds as f64),
    ("waiters", "gauge", "", "Requests waiting now.", |figures| f64::from(figures.current_waiters)),
    ("holders", "gauge", "", "Holders now.", |figures| figures.current_holders as f64),
    ("max_wait_seconds", "gauge", "seconds", "The longest wait.", |figures| figures.max_wait_time.as_secs_f64()),
    ("max_hold_seconds", "gauge", "seconds", "The longest hold.", |figures| figures.max_hold_time.as_secs_f64()),
];

const TIMES: [Family; 2] = [
    ("wait_time_seconds", "counter", "seconds", "Time waited.", |figures| figures.total_wait_time.as_secs_f64()),
    ("hold_time_seconds", "counter", "seconds", "Time held, of holds that were timed.", |figures| {
        figures.total_hold_time.as_secs_f64()
    }),
];

impl LockReport {
    /// Returns the figures of the typed locks as OpenMetrics text, for
    /// [`OPENMETRICS_CONTENT_TYPE`](keylatch::OPENMETRICS_CONTENT_TYPE).
    ///
    /// The 100 locks that were waited for the longest are named by their ids, all others are summed up. Managers are not
    /// part of it: serve their own [`to_openmetrics`](keylatch::LockMetrics::to_openmetrics).
    ///
    /// ```
    /// use keylatch_typed::{AsyncMutex, LockId, LockMonitor};
    /// use std::time::Duration;
    ///
    /// let monitor = LockMonitor::new();
    /// let skills = AsyncMutex::new(0, Duration::from_secs(5));
    /// monitor.register_lock(LockId::new("skill/manager.rs", "skills"), skills.stats().clone());
    /// drop(skills.try_lock());
    /// let text = monitor.generate_report().to_openmetrics();
    /// assert!(text.contains("keylatch_lock_acquisitions_total{lock=\"skill/manager.rs:skills\"} 1\n"));
    /// ```
    #[must_use]
    pub fn to_openmetrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_openmetrics(&mut text);
        text
    }

    fn write_openmetrics(&self, text: &mut String) -> fmt::Result {
        let series = self.series();
        let (version, arch, os) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS);
        writeln!(text, "# TYPE keylatch_build info\n# HELP keylatch_build The library that the figures are of.")?;
        writeln!(text, "keylatch_build_info{{version=\"{version}\",arch=\"{arch}\",os=\"{os}\"}} 1")?;
        writeln!(text, "# TYPE keylatch_locks gauge\n# HELP keylatch_locks Registered typed locks.")?;
        writeln!(text, "keylatch_locks {}", self.locks.len())?;
        for (name, kind, unit, help, figure) in FAMILIES.into_iter().chain(TIMES) {
            writeln!(text, "# TYPE keylatch_lock_{name} {kind}")?;
            if !unit.is_empty() {
                writeln!(text, "# UNIT keylatch_lock_{name} {unit}")?;
            }
            writeln!(text, "# HELP keylatch_lock_{name} {help}")?;
            let suffix = if kind == "counter" { "_total" } else { "" };
            for (lock, figures) in &series {
                writeln!(text, "keylatch_lock_{name}{suffix}{{lock=\"{lock}\"}} {}", figure(figures))?;
            }
        }
        text.push_str("# EOF\n");
        Ok(())
    }

    /// The label and the figures of each time series.
    fn series(&self) -> Vec<(String, LockFigures)> {
        let mut locks: Vec<&LockEntry> = self.locks.iter().collect();
        locks.sort_by_key(|lock| Reverse(lock.figures.total_wait_time));
        let (named, others) = locks.split_at(locks.len().min(MOST_LOCKS));
        let mut series: Vec<_> = named.iter().map(|lock| (label(lock), lock.figures)).collect();
        if !others.is_empty() {
            let mut sum = LockFigures::default();
            others.iter().for_each(|lock| add(&mut sum, &lock.figures));
            series.push((OTHERS.to_owned(), sum));
        }
        series
    }
}

/// The id as the value of a label. Ids show control characters escaped, so only quotes and backslashes are left.
fn label(lock: &LockEntry) -> String {
    let id = lock.id.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    if lock.number > 1 { format!("{id}#{}", lock.number) } else { id }
}

/// Adds what the families show; means have none.
fn add(sum: &mut LockFigures, figures: &LockFigures) {
    sum.total_acquisitions += figures.total_acquisitions;
    sum.waited_count += figures.waited_count;
    sum.timeout_count += figures.timeout_count;
    sum.cancelled_count += figures.cancelled_count;
    sum.timed_holds += figures.timed_holds;
    sum.current_waiters = sum.current_waiters.saturating_add(figures.current_waiters);
    sum.current_holders += figures.current_holders;
    sum.max_wait_time = sum.max_wait_time.max(figures.max_wait_time);
    sum.max_hold_time = sum.max_hold_time.max(figures.max_hold_time);
    sum.total_wait_time = sum.total_wait_time.saturating_add(figures.total_wait_time);
    sum.total_hold_time = sum.total_hold_time.saturating_add(figures.total_hold_time);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{AsyncMutex, LockId, LockMonitor};
    use std::time::Duration;

    #[test]
    fn locks_beyond_the_hundredth_are_summed_up() {
        let monitor = LockMonitor::new();
        let locks: Vec<_> = (0..250).map(|_| AsyncMutex::new(0, Duration::from_secs(5))).collect();
        for (number, lock) in locks.iter().enumerate() {
            monitor.register_lock(LockId::new("file.rs", &format!("lock-{number}")), lock.stats().clone());
            drop(lock.try_lock());
        }
        let text = monitor.generate_report().to_openmetrics();
        assert_eq!(text.matches("keylatch_lock_acquisitions_total{").count(), 101);
        assert!(text.contains("keylatch_lock_acquisitions_total{lock=\"(others)\"} 150\n"), "{text}");
        assert!(text.contains("keylatch_locks 250\n") && text.ends_with("# EOF\n"));
    }

    #[test]
    fn ids_are_escaped_and_doubles_told_apart() {
        let monitor = LockMonitor::new();
        let locks = [(); 2].map(|()| AsyncMutex::new(0, Duration::from_secs(5)));
        for lock in &locks {
            monitor.register_lock(LockId::new("a\"b.rs", "x\ny"), lock.stats().clone());
        }
        let text = monitor.generate_report().to_openmetrics();
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("keylatch_")), "{text}");
        assert!(text.contains("lock=\"a\\\"b.rs:x\\\\u{a}y\"}") && text.contains("#2\"}"), "{text}");
        let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(families, 13);
    }

    #[test]
    fn nothing_registered_is_no_series() {
        let text = LockMonitor::new().generate_report().to_openmetrics();
        assert!(text.contains("keylatch_locks 0\n") && !text.contains("lock="), "{text}");
    }
}
