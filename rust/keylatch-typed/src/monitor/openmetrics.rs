//! The typed locks of a monitor as text that monitoring systems read: OpenMetrics 1.0.
//!
//! Locks differ by the id that the program gave them. Ids may be made at run time, so only [`MOST_LOCKS`] have
//! time series of their own: those that were waited for the longest. All others are summed up as one.

use super::LockMonitor;
use crate::id::LockId;
use crate::stats::{EndedWaits, HoldCounts, LockFigures, LockStats};
use std::cmp::Reverse;
use std::fmt::{self, Write as _};

/// How many locks have time series of their own at most.
pub const MOST_LOCKS: usize = 100;
/// The label of all others; no id looks like this, for each has a colon.
const OTHERS: &str = "(others)";

/// A figure, its kind, unit and help, and how it is read.
type Family = (&'static str, &'static str, &'static str, &'static str, fn(&LockFigures) -> f64);

const FAMILIES: [Family; 11] = [
    ("acquisitions", "counter", "", "Locks taken.", |figures| figures.total_acquisitions as f64),
    ("waits", "counter", "", "Requests that had to wait.", |figures| figures.waited_count as f64),
    ("timeouts", "counter", "", "Requests that timed out.", |figures| figures.timeout_count as f64),
    ("cancellations", "counter", "", "Waits that were cancelled.", |figures| figures.cancelled_count as f64),
    ("wait_time_seconds", "counter", "seconds", "Time waited.", |figures| figures.total_wait_time.as_secs_f64()),
    ("waiters", "gauge", "", "Requests waiting now.", |figures| f64::from(figures.current_waiters)),
    ("holders", "gauge", "", "Holders now.", |figures| figures.current_holders as f64),
    ("max_wait_seconds", "gauge", "seconds", "The longest wait.", |figures| figures.max_wait_time.as_secs_f64()),
    ("max_hold_seconds", "gauge", "seconds", "The longest hold.", |figures| figures.max_hold_time.as_secs_f64()),
    ("recent_max_wait_seconds", "gauge", "seconds", "The longest wait that ended within the last minute.", |figures| {
        figures.recent_max_wait_time.as_secs_f64()
    }),
    ("recent_max_hold_seconds", "gauge", "seconds", "The longest hold that ended within the last minute.", |figures| {
        figures.recent_max_hold_time.as_secs_f64()
    }),
];

/// A registered lock.
struct Watched<'a> {
    id: &'a LockId,
    number: u32,
    stats: &'a LockStats,
    figures: LockFigures,
}

/// What has one label.
#[derive(Default)]
struct Series {
    label: String,
    figures: LockFigures,
    holds: HoldCounts,
}

impl LockMonitor {
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
    /// let text = monitor.to_openmetrics();
    /// assert!(text.contains("keylatch_lock_acquisitions_total{lock=\"skill/manager.rs:skills\"} 1\n"));
    /// assert!(text.contains("keylatch_lock_hold_seconds_count{lock=\"skill/manager.rs:skills\"} 1\n"));
    /// ```
    #[must_use]
    pub fn to_openmetrics(&self) -> String {
        let (locks, series) = self.series();
        let mut text = String::with_capacity(4096 + series.len() * 4096);
        // Writing to a string cannot fail.
        let _ = write_all(&mut text, locks, &series);
        text
    }

    /// Returns the number of locks, and the time series.
    fn series(&self) -> (usize, Vec<Series>) {
        let mut registered = self.registered.lock();
        registered.remove_dropped();
        let mut locks: Vec<_> = (registered.locks.iter().zip(registered.numbers()))
            .map(|((id, stats), number)| Watched { id, number, stats, figures: stats.figures() })
            .collect();
        locks.sort_by_key(|lock| Reverse(lock.figures.total_wait_time));
        let (named, others) = locks.split_at(locks.len().min(MOST_LOCKS));
        let mut series: Vec<_> = named.iter().map(|lock| lock.series(lock.label())).collect();
        if !others.is_empty() {
            let mut sum = Series { label: OTHERS.to_owned(), ..Series::default() };
            others.iter().for_each(|lock| sum.add(lock));
            series.push(sum);
        }
        (locks.len(), series)
    }
}

impl Watched<'_> {
    /// Returns the id as the value of a label.
    ///
    /// Ids show control characters escaped, so only quotes and backslashes are left.
    fn label(&self) -> String {
        let id = self.id.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        if self.number > 1 { format!("{id}#{}", self.number) } else { id }
    }

    fn series(&self, label: String) -> Series {
        Series { label, figures: self.figures, holds: self.stats.hold_counts() }
    }
}

fn write_all(text: &mut String, locks: usize, series: &[Series]) -> fmt::Result {
    let (version, arch, os) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS);
    writeln!(text, "# TYPE keylatch_build info\n# HELP keylatch_build The library that the figures are of.")?;
    writeln!(text, "keylatch_build_info{{version=\"{version}\",arch=\"{arch}\",os=\"{os}\"}} 1")?;
    writeln!(
        text,
        "# TYPE keylatch_locks gauge\n# HELP keylatch_locks Registered typed locks.\nkeylatch_locks {locks}"
    )?;
    for (name, kind, unit, help, figure) in FAMILIES {
        head(text, (name, kind, unit, help))?;
        let suffix = if kind == "counter" { "_total" } else { "" };
        for Series { label, figures, .. } in series {
            writeln!(text, "keylatch_lock_{name}{suffix}{{lock=\"{label}\"}} {}", figure(figures))?;
        }
    }
    write_waits_ended(text, series)?;
    write_holds(text, series)?;
    text.push_str("# EOF\n");
    Ok(())
}

fn head(text: &mut String, (name, kind, unit, help): (&str, &str, &str, &str)) -> fmt::Result {
    writeln!(text, "# TYPE keylatch_lock_{name} {kind}")?;
    if !unit.is_empty() {
        writeln!(text, "# UNIT keylatch_lock_{name} {unit}")?;
    }
    writeln!(text, "# HELP keylatch_lock_{name} {help}")
}

/// Modes and outcomes have the names that they have among a manager's figures.
fn write_waits_ended(text: &mut String, series: &[Series]) -> fmt::Result {
    head(text, ("waits_ended", "counter", "", "Requests that had to wait, by mode and by how that ended."))?;
    for Series { label, figures, .. } in series {
        for (mode, waits) in [("shared", figures.shared_waits), ("exclusive", figures.exclusive_waits)] {
            let EndedWaits { granted, timed_out, cancelled } = waits;
            for (outcome, figure) in [("granted", granted), ("timeout", timed_out), ("cancelled", cancelled)] {
                let labels = format_args!("lock=\"{label}\",mode=\"{mode}\",outcome=\"{outcome}\"");
                writeln!(text, "keylatch_lock_waits_ended_total{{{labels}}} {figure}")?;
            }
        }
    }
    Ok(())
}

fn write_holds(text: &mut String, series: &[Series]) -> fmt::Result {
    head(text, ("hold_seconds", "histogram", "seconds", "How long locks were held, of holds that were timed."))?;
    for Series { label, holds, .. } in series {
        for (bound, count) in holds.cumulative() {
            let bound = bound.as_secs_f64();
            writeln!(text, "keylatch_lock_hold_seconds_bucket{{lock=\"{label}\",le=\"{bound}\"}} {count}")?;
        }
        let count = holds.count();
        writeln!(text, "keylatch_lock_hold_seconds_bucket{{lock=\"{label}\",le=\"+Inf\"}} {count}")?;
        writeln!(text, "keylatch_lock_hold_seconds_count{{lock=\"{label}\"}} {count}")?;
        writeln!(text, "keylatch_lock_hold_seconds_sum{{lock=\"{label}\"}} {}", holds.total.as_secs_f64())?;
    }
    Ok(())
}

impl Series {
    /// Adds what the families show; means have none.
    fn add(&mut self, other: &Watched<'_>) {
        let (sum, figures) = (&mut self.figures, &other.figures);
        sum.total_acquisitions += figures.total_acquisitions;
        sum.waited_count += figures.waited_count;
        sum.timeout_count += figures.timeout_count;
        sum.cancelled_count += figures.cancelled_count;
        sum.current_waiters = sum.current_waiters.saturating_add(figures.current_waiters);
        sum.current_holders += figures.current_holders;
        sum.max_wait_time = sum.max_wait_time.max(figures.max_wait_time);
        sum.max_hold_time = sum.max_hold_time.max(figures.max_hold_time);
        sum.recent_max_wait_time = sum.recent_max_wait_time.max(figures.recent_max_wait_time);
        sum.recent_max_hold_time = sum.recent_max_hold_time.max(figures.recent_max_hold_time);
        sum.total_wait_time = sum.total_wait_time.saturating_add(figures.total_wait_time);
        sum.shared_waits.add(&figures.shared_waits);
        sum.exclusive_waits.add(&figures.exclusive_waits);
        self.holds.add(&other.stats.hold_counts());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{AsyncMutex, AsyncRwLock, LockId, LockMonitor};
    use std::time::Duration;

    #[test]
    fn locks_beyond_the_hundredth_are_summed_up() {
        let monitor = LockMonitor::new();
        let locks: Vec<_> = (0..250).map(|_| AsyncMutex::new(0, Duration::from_secs(5))).collect();
        for (number, lock) in locks.iter().enumerate() {
            monitor.register_lock(LockId::new("file.rs", &format!("lock-{number}")), lock.stats().clone());
            drop(lock.try_lock());
        }
        let text = monitor.to_openmetrics();
        assert_eq!(text.matches("keylatch_lock_acquisitions_total{").count(), 101);
        assert!(text.contains("keylatch_lock_acquisitions_total{lock=\"(others)\"} 150\n"), "{text}");
        assert!(text.contains("keylatch_lock_hold_seconds_count{lock=\"(others)\"} 150\n"), "{text}");
        assert!(text.contains("keylatch_locks 250\n") && text.ends_with("# EOF\n"));
    }

    #[test]
    fn waits_are_counted_by_mode_and_outcome() {
        let monitor = LockMonitor::new();
        let lock = AsyncRwLock::new(0, Duration::ZERO);
        monitor.register_lock(LockId::new("a.rs", "b"), lock.stats().clone());
        let held = lock.try_read();
        assert!(lock.blocking_write_with_timeout().is_err());
        drop(held);
        let held = lock.try_write();
        (0..2).for_each(|_| assert!(lock.blocking_read_with_timeout().is_err()));
        drop(held);
        let text = monitor.to_openmetrics();
        for (labels, count) in [
            ("mode=\"shared\",outcome=\"timeout\"", 2),
            ("mode=\"exclusive\",outcome=\"timeout\"", 1),
            ("mode=\"exclusive\",outcome=\"granted\"", 0),
            ("mode=\"shared\",outcome=\"cancelled\"", 0),
        ] {
            let line = format!("keylatch_lock_waits_ended_total{{lock=\"a.rs:b\",{labels}}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }

    #[test]
    fn holds_are_sorted_by_how_long_they_took() {
        let monitor = LockMonitor::new();
        let lock = AsyncMutex::new(0, Duration::ZERO);
        drop(lock.try_lock());
        monitor.register_lock(LockId::new("a.rs", "b"), lock.stats().clone());
        let held = lock.try_lock();
        std::thread::sleep(Duration::from_millis(9));
        drop(held);
        let text = monitor.to_openmetrics();
        let sample = |le: &str| format!("keylatch_lock_hold_seconds_bucket{{lock=\"a.rs:b\",le=\"{le}\"}}");
        assert!(text.contains(&format!("{} 0\n", sample("0.008192"))), "{text}");
        assert!(text.contains(&format!("{} 1\n", sample("+Inf"))), "only holds since the registration: {text}");
        assert!(text.contains("keylatch_lock_hold_seconds_sum{lock=\"a.rs:b\"} 0.0"), "{text}");
        assert!(text.contains("keylatch_lock_recent_max_hold_seconds{lock=\"a.rs:b\"} 0.0"), "{text}");
    }

    #[test]
    fn ids_are_escaped_and_doubles_numbered() {
        let monitor = LockMonitor::new();
        let locks = [(); 2].map(|()| AsyncMutex::new(0, Duration::from_secs(5)));
        for lock in &locks {
            monitor.register_lock(LockId::new("a\"b.rs", "x\ny"), lock.stats().clone());
        }
        let text = monitor.to_openmetrics();
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("keylatch_")), "{text}");
        assert!(text.contains("lock=\"a\\\"b.rs:x\\\\u{a}y\"}") && text.contains("#2\"}"), "{text}");
        let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(families, 15);
    }

    #[test]
    fn nothing_registered_is_no_series() {
        let text = LockMonitor::new().to_openmetrics();
        assert!(text.contains("keylatch_locks 0\n") && !text.contains("lock="), "{text}");
    }
}
