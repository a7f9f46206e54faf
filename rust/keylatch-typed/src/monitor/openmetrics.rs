//! The typed locks of a monitor as text that monitoring systems read: OpenMetrics 1.0.
//!
//! Locks differ by the id that the program gave them. Ids may be made at run time, so only the first [`MOST_LOCKS`] have
//! time series of their own. All others are summed up as one.
//!
//! [`MOST_LOCKS`]: super::MOST_LOCKS

use super::LockMonitor;
use super::series::{Gauges, Sample};
use crate::lock::EndedWaits;
use crate::stats::Counters;
use std::fmt::{self, Write as _};

/// A counter: its name, unit and help, and how it is read.
type Counter = (&'static str, &'static str, &'static str, fn(&Counters) -> f64);
/// The same of a gauge.
type Gauge = (&'static str, &'static str, &'static str, fn(&Gauges) -> f64);

const COUNTERS: [Counter; 5] = [
    ("acquisitions", "", "Locks taken.", |counters| counters.acquisitions() as f64),
    ("waits", "", "Waits that are over.", |counters| counters.waits() as f64),
    ("timeouts", "", "Requests that timed out, refusals among them.", |counters| counters.timeouts() as f64),
    ("refusals", "", "Requests that must not wait and timed out.", |counters| counters.refusals() as f64),
    ("cancellations", "", "Waits that were cancelled.", |counters| counters.cancellations() as f64),
];

const GAUGES: [Gauge; 7] = [
    ("waiters", "", "Requests waiting now.", |gauges| gauges.waiters as f64),
    ("holders", "", "Holders now.", |gauges| gauges.holders as f64),
    ("oldest_wait_seconds", "seconds", "How long the first in line has waited.", |gauges| {
        gauges.oldest_wait.as_secs_f64()
    }),
    ("max_wait_seconds", "seconds", "The longest wait.", |gauges| gauges.max_wait.as_secs_f64()),
    ("max_hold_seconds", "seconds", "The longest hold.", |gauges| gauges.max_hold.as_secs_f64()),
    ("recent_max_wait_seconds", "seconds", "The longest wait of the last minute.", |gauges| {
        gauges.recent_max_wait.as_secs_f64()
    }),
    ("recent_max_hold_seconds", "seconds", "The longest hold that ended within the last minute.", |gauges| {
        gauges.recent_max_hold.as_secs_f64()
    }),
];

impl LockMonitor {
    /// Returns the figures of the typed locks as OpenMetrics text, for
    /// [`OPENMETRICS_CONTENT_TYPE`](keylatch::OPENMETRICS_CONTENT_TYPE).
    ///
    /// The first 100 ids that are registered name their locks, and those of one id are summed up; all others are summed
    /// up as `(others)`. Counters begin with the registration of a lock, go on across a reset, and keep what locks counted
    /// that are gone. Managers are not part of it: serve their own
    /// [`to_openmetrics`](keylatch::LockMetrics::to_openmetrics).
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
        let (locks, series) = {
            let mut registered = self.registered.lock();
            registered.remove_dropped();
            (registered.locks.len(), registered.sample())
        };
        let mut text = String::with_capacity(4096 + series.len() * 4096);
        // Writing to a string cannot fail.
        let _ = write_all(&mut text, locks, &series);
        text
    }
}

fn write_all(text: &mut String, locks: usize, series: &[Sample]) -> fmt::Result {
    let (version, arch, os) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS);
    writeln!(text, "# TYPE keylatch_build info\n# HELP keylatch_build The library that the figures are of.")?;
    writeln!(text, "keylatch_build_info{{version=\"{version}\",arch=\"{arch}\",os=\"{os}\"}} 1")?;
    writeln!(
        text,
        "# TYPE keylatch_locks gauge\n# HELP keylatch_locks Registered typed locks.\nkeylatch_locks {locks}"
    )?;
    for (name, unit, help, figure) in COUNTERS {
        head(text, (name, "counter", unit, help))?;
        for Sample { label, counters, .. } in series {
            writeln!(text, "keylatch_lock_{name}_total{{lock=\"{label}\"}} {}", figure(counters))?;
        }
    }
    head(text, ("wait_time_seconds", "counter", "seconds", "Time waited."))?;
    for Sample { label, times, .. } in series {
        let seconds = times.waited.as_secs_f64();
        writeln!(text, "keylatch_lock_wait_time_seconds_total{{lock=\"{label}\"}} {seconds}")?;
    }
    for (name, unit, help, figure) in GAUGES {
        head(text, (name, "gauge", unit, help))?;
        for Sample { label, gauges, .. } in series {
            writeln!(text, "keylatch_lock_{name}{{lock=\"{label}\"}} {}", figure(gauges))?;
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
fn write_waits_ended(text: &mut String, series: &[Sample]) -> fmt::Result {
    head(text, ("waits_ended", "counter", "", "Waits by mode and by how they ended; refusals are timeouts."))?;
    for Sample { label, counters, .. } in series {
        let (shared, exclusive) = counters.ended();
        for (mode, waits) in [("shared", shared), ("exclusive", exclusive)] {
            let EndedWaits { granted, timed_out, cancelled } = waits;
            for (outcome, figure) in [("granted", granted), ("timeout", timed_out), ("cancelled", cancelled)] {
                let labels = format_args!("lock=\"{label}\",mode=\"{mode}\",outcome=\"{outcome}\"");
                writeln!(text, "keylatch_lock_waits_ended_total{{{labels}}} {figure}")?;
            }
        }
    }
    Ok(())
}

fn write_holds(text: &mut String, series: &[Sample]) -> fmt::Result {
    head(text, ("hold_seconds", "histogram", "seconds", "How long locks were held, of holds that were timed."))?;
    for Sample { label, counters: Counters { holds, .. }, times, .. } in series {
        for (bound, count) in holds.cumulative() {
            let bound = bound.as_secs_f64();
            writeln!(text, "keylatch_lock_hold_seconds_bucket{{lock=\"{label}\",le=\"{bound}\"}} {count}")?;
        }
        let count = holds.count();
        writeln!(text, "keylatch_lock_hold_seconds_bucket{{lock=\"{label}\",le=\"+Inf\"}} {count}")?;
        writeln!(text, "keylatch_lock_hold_seconds_count{{lock=\"{label}\"}} {count}")?;
        writeln!(text, "keylatch_lock_hold_seconds_sum{{lock=\"{label}\"}} {}", times.held.as_secs_f64())?;
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{AsyncMutex, AsyncRwLock, LockId, LockMonitor};
    use std::collections::HashMap;
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

    /// Returns the counters of a scrape: `_total`, `_bucket`, `_count` and `_sum`.
    fn counters(monitor: &LockMonitor) -> HashMap<String, f64> {
        let text = monitor.to_openmetrics();
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let is_counter =
            |name: &str| ["_total{", "_bucket{", "_count{", "_sum{"].iter().any(|part| name.contains(part));
        let counters = samples.filter(|(name, _)| is_counter(name));
        counters.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    #[test]
    fn counters_never_fall_as_locks_come_and_go() {
        let monitor = LockMonitor::new();
        let lock = |number: usize| {
            let lock = AsyncMutex::new(0, Duration::ZERO);
            let history = if number.is_multiple_of(2) { 50 } else { 0 };
            (0..history).for_each(|_| drop(lock.try_lock()));
            monitor.register_lock(LockId::new("file.rs", &format!("lock-{number}")), lock.stats().clone());
            (0..=number).for_each(|_| drop(lock.try_lock()));
            lock
        };
        let mut locks: Vec<_> = (0..150).map(lock).collect();
        let mut before = counters(&monitor);
        let mut scrape = || {
            let after = counters(&monitor);
            for (name, value) in &before {
                assert!(after.get(name).is_some_and(|after| after >= value), "{name} {value} {:?}", after.get(name));
            }
            before = after.clone();
            after
        };
        let acquisitions = |counters: &HashMap<String, f64>, label: &str| {
            counters[&format!("keylatch_lock_acquisitions_total{{lock=\"{label}\"}}")]
        };
        let others: usize = (101..=150).sum();
        assert_eq!(acquisitions(&scrape(), "(others)"), others as f64, "since their registration");
        // Waited for the longest of all.
        let held = locks[149].try_lock();
        assert!(locks[149].blocking_lock_with_custom_timeout(Duration::from_millis(5)).is_err());
        drop(held);
        assert_eq!(acquisitions(&scrape(), "(others)"), others as f64 + 1.0);
        // One that is named, and one that is not.
        drop((locks.remove(120), locks.remove(7)));
        let after = scrape();
        assert_eq!(
            (acquisitions(&after, "(others)"), acquisitions(&after, "file.rs:lock-7")),
            (others as f64 + 1.0, 8.0)
        );
        monitor.reset_stats();
        locks.push(lock(7));
        assert_eq!(acquisitions(&scrape(), "file.rs:lock-7"), 16.0, "its series goes on");
        monitor.unregister(&LockId::new("file.rs", "lock-130"));
        let after = scrape();
        assert_eq!(after.keys().filter(|name| name.starts_with("keylatch_lock_waits_total")).count(), 101);
    }

    #[test]
    fn ids_that_look_the_same_are_one_series() {
        let monitor = LockMonitor::new();
        let ids = [
            ("a\"b.rs", "x\ny"),
            ("a\"b.rs", "x\ny"),
            ("a:b", "c"),
            ("a", "b:c"),
            ("x", "y"),
            ("x", "y"),
            ("x", "y#2"),
        ];
        let locks = ids.map(|(file, name)| (LockId::new(file, name), AsyncMutex::new(0, Duration::from_secs(5))));
        for (id, lock) in &locks {
            monitor.register_lock(id.clone(), lock.stats().clone());
            drop(lock.try_lock());
        }
        let text = monitor.to_openmetrics();
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("keylatch_")), "{text}");
        for (label, count) in [("a\\\"b.rs:x\\\\u{a}y", 2), ("a:b:c", 2), ("x:y", 2), ("x:y#2", 1)] {
            let sample = format!("keylatch_lock_acquisitions_total{{lock=\"{label}\"}} {count}\n");
            assert_eq!(text.matches(&sample).count(), 1, "{sample}{text}");
        }
        let families = text.lines().filter(|line| line.starts_with("# TYPE")).count();
        assert_eq!(families, 17);
        // A report tells them apart.
        let report = monitor.generate_report().to_string();
        assert!(report.contains("Lock: a:b:c\n") && report.contains("Lock: a:b:c #2\n"), "{report}");
    }

    #[test]
    fn nothing_registered_is_no_series() {
        let text = LockMonitor::new().to_openmetrics();
        assert!(text.contains("keylatch_locks 0\n") && !text.contains("lock="), "{text}");
    }
}
