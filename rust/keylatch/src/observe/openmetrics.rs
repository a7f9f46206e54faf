//! The figures as text that monitoring systems read: OpenMetrics 1.0.
//!
//! Labels are modes, outcomes and paths: a fixed number of time series, whatever the keys. Keys come in only where
//! the hottest were asked for, at most [`HOTTEST_KEYS`] of them.

use super::{EndedWaits, LockMetrics, WaitHistogram};
use crate::inspect::TopKey;
use crate::key::KeyRef;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// The media type for an answer with [`LockMetrics::to_openmetrics`].
pub const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How many keys [`LockMetrics::hottest_keys`] has at most.
pub const HOTTEST_KEYS: usize = 10;

impl LockMetrics {
    /// Returns the figures of all shards together as OpenMetrics text.
    ///
    /// Serve it with [`OPENMETRICS_CONTENT_TYPE`].
    ///
    /// Shards are not separated: a thousand time series of each figure are more than most monitoring wants, and
    /// [`shards`](Self::shards) has them. Keys are not named either, unless there are
    /// [`hottest_keys`](Self::hottest_keys).
    ///
    /// ```
    /// let locks = keylatch::FastObjectLockManager::new();
    /// let text = locks.get_metrics().to_openmetrics();
    /// assert!(text.contains("keylatch_holders 0\n") && text.ends_with("# EOF\n"));
    /// ```
    #[must_use]
    pub fn to_openmetrics(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string cannot fail.
        let _ = self.write_openmetrics(&mut text);
        text
    }

    fn write_openmetrics(&self, text: &mut String) -> fmt::Result {
        build_info(text)?;
        self.write_counters(text)?;
        self.write_waits_ended(text)?;
        head(text, "wait_seconds", "histogram", "seconds", "How long requests waited whose wait is over.")?;
        histogram(text, "wait_seconds", "", &self.shard_metrics.wait_histogram, self.shard_metrics.wait_time)?;
        head(text, "hold_seconds", "histogram", "seconds", "How long locks were held, while holds are timed.")?;
        for (mode, holds) in [("shared", &self.shared_holds), ("exclusive", &self.exclusive_holds)] {
            histogram(text, "hold_seconds", &format!("mode=\"{mode}\""), &holds.histogram, holds.time)?;
        }
        self.write_gauges(text)?;
        if let Some(adaptive) = &self.adaptive {
            head(text, "adaptive_samples", "counter", "", "Waits that the default timeout was learned from.")?;
            writeln!(text, "keylatch_adaptive_samples_total {}", adaptive.samples)?;
            let help = "How long a request waits now that names no timeout.";
            head(text, "adaptive_timeout_seconds", "gauge", "seconds", help)?;
            writeln!(text, "keylatch_adaptive_timeout_seconds {}", adaptive.timeout.as_secs_f64())?;
        }
        hottest_keys(text, &self.hottest_keys)?;
        text.push_str("# EOF\n");
        Ok(())
    }

    fn write_counters(&self, text: &mut String) -> fmt::Result {
        let all = &self.shard_metrics;
        let help = "Locks taken, by how: with one swap, by bringing the key into the table, otherwise.";
        head(text, "acquisitions", "counter", "", help)?;
        for (path, figure) in [("fast", all.fast), ("inserted", all.inserted), ("slow", all.slow)] {
            writeln!(text, "keylatch_acquisitions_total{{path=\"{path}\"}} {figure}")?;
        }
        for (name, help, figure) in [
            ("releases", "Locks released.", all.releases),
            ("waits", "Requests that had to wait in line.", all.waits),
            ("timeouts", "Waits that ended because their time was over.", all.timeouts),
            ("cancellations", "Waits that were cancelled, or ended by closing the manager.", all.cancelled),
            ("deadlocks", "Waits that ended so that a circle of sessions could go on.", all.deadlocks),
            ("refusals", "Attempts without waiting that found the lock held.", all.refused),
            ("lease_losses", "Holds that were revoked because their lease ran out.", self.expired_leases),
            ("forced_releases", "Holds that were released by force.", self.forced_releases),
            ("events_dropped", "Events that a subscriber had no room for.", self.events_dropped),
        ] {
            head(text, name, "counter", "", help)?;
            writeln!(text, "keylatch_{name}_total {figure}")?;
        }
        Ok(())
    }

    fn write_waits_ended(&self, text: &mut String) -> fmt::Result {
        head(text, "waits_ended", "counter", "", "Waits that are over, by what was waited for and how they ended.")?;
        let waits = &self.wait_outcomes;
        for (mode, ended) in [("shared", waits.shared), ("exclusive", waits.exclusive), ("upgrade", waits.upgrade)] {
            let EndedWaits { granted, timed_out, cancelled, deadlocked } = ended;
            for (outcome, figure) in
                [("granted", granted), ("timeout", timed_out), ("cancelled", cancelled), ("deadlock", deadlocked)]
            {
                writeln!(text, "keylatch_waits_ended_total{{mode=\"{mode}\",outcome=\"{outcome}\"}} {figure}")?;
            }
        }
        Ok(())
    }

    fn write_gauges(&self, text: &mut String) -> fmt::Result {
        let (all, health) = (&self.shard_metrics, self.health());
        for (name, unit, help, figure) in [
            ("max_wait_seconds", "seconds", "The longest wait so far.", all.max_wait_time.as_secs_f64()),
            (
                "recent_max_wait_seconds",
                "seconds",
                "The longest wait that ended within the window that health is judged by.",
                health.max_wait_time.as_secs_f64(),
            ),
            ("health_window_seconds", "seconds", "The window that health is judged by.", health.window.as_secs_f64()),
            (
                "recent_fast_path_ratio",
                "ratio",
                "Locks had without a wait, of all in the window.",
                health.fast_path_rate,
            ),
            ("recent_timeout_ratio", "ratio", "Requests that timed out, of all in the window.", health.timeout_rate),
            ("holders", "", "Locks held now, each reader counted.", all.holders as f64),
            ("waiters", "", "Requests waiting now.", all.waiters as f64),
            ("max_waiters", "", "Requests that can wait at a time; 0 for no limit.", self.max_waiters as f64),
            ("entries", "", "Keys in the table now, a few idle ones included.", all.entries as f64),
            ("max_locks", "", "Keys that the table has room for; 0 for no limit.", self.max_locks as f64),
            ("pinned_keys", "", "Keys that are pinned in the table.", self.pinned_keys as f64),
            ("table_fill_ratio", "ratio", "The share of the table that is in use.", self.table_fill()),
            ("memory_bytes", "bytes", "Memory that the manager uses.", self.bytes as f64),
            ("uptime_seconds", "seconds", "How long the manager has existed.", self.uptime.as_secs_f64()),
            ("healthy", "", "1 if the manager does well in the window, 0 if not.", f64::from(u8::from(health.healthy))),
        ] {
            head(text, name, "gauge", unit, help)?;
            writeln!(text, "keylatch_{name} {figure}")?;
        }
        Ok(())
    }
}

fn head(text: &mut String, name: &str, kind: &str, unit: &str, help: &str) -> fmt::Result {
    writeln!(text, "# TYPE keylatch_{name} {kind}")?;
    if !unit.is_empty() {
        writeln!(text, "# UNIT keylatch_{name} {unit}")?;
    }
    writeln!(text, "# HELP keylatch_{name} {help}")
}

fn build_info(text: &mut String) -> fmt::Result {
    head(text, "build", "info", "", "The library that the figures are of.")?;
    let (version, arch, os) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, std::env::consts::OS);
    writeln!(text, "keylatch_build_info{{version=\"{version}\",arch=\"{arch}\",os=\"{os}\"}} 1")
}

/// Writes the samples of a histogram.
///
/// A bucket counts the times up to its bound, those of all shorter buckets included.
fn histogram(text: &mut String, name: &str, label: &str, times: &WaitHistogram, sum: Duration) -> fmt::Result {
    let mut count = 0;
    let comma = if label.is_empty() { "" } else { "," };
    for (bound, times) in times.buckets() {
        count += times;
        write!(text, "keylatch_{name}_bucket{{{label}{comma}")?;
        match bound {
            Some(bound) => writeln!(text, "le=\"{}\"}} {count}", bound.as_secs_f64())?,
            None => writeln!(text, "le=\"+Inf\"}} {count}")?,
        }
    }
    let labels = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
    writeln!(text, "keylatch_{name}_count{labels} {count}")?;
    writeln!(text, "keylatch_{name}_sum{labels} {}", sum.as_secs_f64())
}

fn hottest_keys(text: &mut String, keys: &[TopKey]) -> fmt::Result {
    if keys.is_empty() {
        return Ok(());
    }
    head(text, "hot_key_waiters", "gauge", "", "Requests waiting now for the keys that most wait for.")?;
    for key in keys {
        writeln!(text, "keylatch_hot_key_waiters{{{}}} {}", KeyLabels(key.key.as_ref()), key.waiters)?;
    }
    head(text, "hot_key_longest_wait_seconds", "gauge", "seconds", "How long the first of them has waited.")?;
    for key in keys {
        let seconds = key.longest_wait.as_secs_f64();
        writeln!(text, "keylatch_hot_key_longest_wait_seconds{{{}}} {seconds}", KeyLabels(key.key.as_ref()))?;
    }
    Ok(())
}

/// The parts of a key as labels; two keys never have the same.
///
/// Two keys never have the same: a key without a version lacks the label.
struct KeyLabels<'k>(KeyRef<'k>);

impl fmt::Display for KeyLabels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket=\"{}\",object=\"{}\"", Escaped(self.0.bucket()), Escaped(self.0.object()))?;
        match self.0.version() {
            Some(version) => write!(f, ",version=\"{}\"", Escaped(version)),
            None => Ok(()),
        }
    }
}

/// Bytes as the value of a label, escaped.
///
/// Quotes, backslashes and ends of lines are escaped, what is not UTF-8 is `\\xNN`.
struct Escaped<'b>(&'b [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    other => f.write_char(other)?,
                }
            }
            for byte in chunk.invalid() {
                // The backslash is escaped, so that it reads as one.
                write!(f, "\\\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::observe::ShardMetrics;
    use std::collections::HashSet;

    fn figures() -> LockMetrics {
        let mut shard = ShardMetrics { fast: 5, slow: 2, releases: 6, holders: 1, ..ShardMetrics::default() };
        shard.wait_time = Duration::from_millis(1500);
        shard.wait_histogram.buckets[0] = 3;
        shard.wait_histogram.buckets[2] = 4;
        let last = shard.wait_histogram.buckets.len() - 1;
        shard.wait_histogram.buckets[last] = 1;
        let (floor, ceiling) = (Duration::from_millis(10), Duration::from_secs(30));
        let policy = crate::AdaptiveTimeout { floor, ceiling, ..Default::default() };
        let adaptive = crate::measure::Adaptive::new(policy, Some(Duration::from_millis(2500))).state(1);
        let figures = LockMetrics::from_shards(vec![shard], Duration::from_secs(90), 4096);
        LockMetrics { adaptive: Some(adaptive), ..figures }
    }

    #[test]
    fn samples_follow_their_family() {
        let text = figures().to_openmetrics();
        let (mut family, mut kind, mut seen) = (String::new(), String::new(), HashSet::new());
        for line in text.lines() {
            if let Some(described) = line.strip_prefix("# TYPE ") {
                let (name, of_kind) = described.split_once(' ').unwrap();
                assert!(seen.insert(name.to_owned()), "{name} twice");
                (family, kind) = (name.to_owned(), of_kind.to_owned());
            } else if let Some(described) = line.strip_prefix("# UNIT ") {
                let (name, unit) = described.split_once(' ').unwrap();
                assert!(name == family && name.ends_with(&format!("_{unit}")), "{line}");
            } else if let Some(described) = line.strip_prefix("# HELP ") {
                assert!(described.starts_with(&format!("{family} ")) && described.ends_with('.'), "{line}");
            } else if line != "# EOF" {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} in {family}"));
                let allowed: &[&str] = match kind.as_str() {
                    "counter" => &["_total"],
                    "histogram" => &["_bucket", "_count", "_sum"],
                    "info" => &["_info"],
                    _ => &[""],
                };
                assert!(allowed.contains(&suffix), "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
        assert!(!text.contains("\n\n"));
    }

    #[test]
    fn buckets_are_in_seconds_and_add_up() {
        let text = figures().to_openmetrics();
        for line in [
            "keylatch_acquisitions_total{path=\"fast\"} 5",
            "keylatch_releases_total 6",
            "keylatch_wait_seconds_bucket{le=\"0.000001\"} 3",
            "keylatch_wait_seconds_bucket{le=\"0.000002\"} 3",
            "keylatch_wait_seconds_bucket{le=\"0.000004\"} 7",
            "keylatch_wait_seconds_bucket{le=\"+Inf\"} 8",
            "keylatch_wait_seconds_count 8",
            "keylatch_wait_seconds_sum 1.5",
            "keylatch_uptime_seconds 90",
            "keylatch_holders 1",
            "keylatch_adaptive_timeout_seconds 2.5",
            "keylatch_adaptive_samples_total 0",
            "keylatch_hold_seconds_bucket{mode=\"shared\",le=\"0.000001\"} 0",
            "keylatch_hold_seconds_count{mode=\"exclusive\"} 0",
            "keylatch_waits_ended_total{mode=\"upgrade\",outcome=\"deadlock\"} 0",
            "keylatch_lease_losses_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn keys_are_labels_only_where_asked_for() {
        let locks = crate::FastObjectLockManager::new();
        let _held = locks.acquire_write_lock_blocking("a\"b\\", "o\n\u{e9}", "x").unwrap();
        let bytes = crate::KeyRef::new(b"\xffz".as_slice(), "o").with_version("1");
        let _other = locks.lock(crate::LockRequest::write(bytes)).blocking().unwrap();
        let ask = |request: crate::LockRequest<'_>| {
            assert!(locks.lock(request.timeout(Duration::from_millis(1))).blocking().is_err())
        };
        ask(crate::LockRequest::read(bytes));
        assert!(!locks.get_metrics().to_openmetrics().contains("hot_key"));
        assert!(locks.get_metrics_with_hottest_keys().hottest_keys.is_empty(), "no request waits");
        let key = crate::KeyRef::new("a\"b\\", "o\n\u{e9}");
        assert_eq!(KeyLabels(key).to_string(), "bucket=\"a\\\"b\\\\\",object=\"o\\n\u{e9}\"");
        assert_eq!(KeyLabels(bytes).to_string(), "bucket=\"\\\\xffz\",object=\"o\",version=\"1\"");
    }
}
