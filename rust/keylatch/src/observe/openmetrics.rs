//! The figures as text that monitoring systems read: OpenMetrics 1.0.

use super::{LockMetrics, ShardMetrics};
use std::fmt::{self, Write as _};

/// The media type that a server names when it answers with [`LockMetrics::to_openmetrics`].
pub const OPENMETRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl LockMetrics {
    /// The figures of all shards together as OpenMetrics text, ready to be served with
    /// [`OPENMETRICS_CONTENT_TYPE`]. Shards are not told apart: a thousand time series of each figure are more than
    /// most monitoring wants, and [`shards`](Self::shards) has them.
    ///
    /// ```
    /// let locks = keylatch::FastObjectLockManager::new();
    /// let text = locks.get_metrics().to_openmetrics();
    /// assert!(text.contains("keylatch_holders 0\n") && text.ends_with("# EOF\n"));
    /// ```
    #[must_use]
    pub fn to_openmetrics(&self) -> String {
        let mut text = String::with_capacity(6 * 1024);
        // Writing to a string cannot fail.
        let _ = self.write_openmetrics(&mut text);
        text
    }

    fn write_openmetrics(&self, text: &mut String) -> fmt::Result {
        let all = &self.shard_metrics;
        acquisitions(text, all)?;
        for (name, help, figure) in [
            ("releases", "Locks released.", all.releases),
            ("waits", "Requests that had to wait in line.", all.waits),
            ("timeouts", "Waits that ended because their time was over.", all.timeouts),
            ("cancellations", "Waits that were cancelled, or ended by closing the manager.", all.cancelled),
            ("deadlocks", "Waits that ended so that a circle of sessions could go on.", all.deadlocks),
            ("refusals", "Attempts without waiting that found the lock held.", all.refused),
        ] {
            head(text, name, "counter", "", help)?;
            writeln!(text, "keylatch_{name}_total {figure}")?;
        }
        wait_seconds(text, all)?;
        for (name, unit, help, figure) in [
            ("max_wait_seconds", "seconds", "The longest wait so far.", all.max_wait_time.as_secs_f64()),
            ("holders", "", "Locks held now, each reader counted.", all.holders as f64),
            ("waiters", "", "Requests waiting now.", all.waiters as f64),
            ("entries", "", "Keys in the table now, a few idle ones included.", all.entries as f64),
            ("memory_bytes", "bytes", "Memory that the manager uses.", self.bytes as f64),
            ("uptime_seconds", "seconds", "How long the manager has existed.", self.uptime.as_secs_f64()),
            ("healthy", "", "1 if the manager is doing well, 0 if not.", f64::from(u8::from(self.is_healthy()))),
        ] {
            head(text, name, "gauge", unit, help)?;
            writeln!(text, "keylatch_{name} {figure}")?;
        }
        if let Some(adaptive) = &self.adaptive {
            head(text, "adaptive_samples", "counter", "", "Waits that the default timeout was learned from.")?;
            writeln!(text, "keylatch_adaptive_samples_total {}", adaptive.samples)?;
            let help = "How long a request waits now that names no timeout.";
            head(text, "adaptive_timeout_seconds", "gauge", "seconds", help)?;
            writeln!(text, "keylatch_adaptive_timeout_seconds {}", adaptive.timeout.as_secs_f64())?;
        }
        text.push_str("# EOF\n");
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

fn acquisitions(text: &mut String, all: &ShardMetrics) -> fmt::Result {
    head(
        text,
        "acquisitions",
        "counter",
        "",
        "Locks taken, by how: at once, by bringing the key into the table, otherwise.",
    )?;
    for (path, figure) in [("fast", all.fast), ("inserted", all.inserted), ("slow", all.slow)] {
        writeln!(text, "keylatch_acquisitions_total{{path=\"{path}\"}} {figure}")?;
    }
    Ok(())
}

/// The histogram. A bucket counts the waits up to its bound, those of all shorter buckets included.
fn wait_seconds(text: &mut String, all: &ShardMetrics) -> fmt::Result {
    head(
        text,
        "wait_seconds",
        "histogram",
        "seconds",
        "How long those waited who had to wait and whose wait is over.",
    )?;
    let mut waits = 0;
    for (bound, count) in all.wait_histogram.buckets() {
        waits += count;
        match bound {
            Some(bound) => writeln!(text, "keylatch_wait_seconds_bucket{{le=\"{}\"}} {waits}", bound.as_secs_f64())?,
            None => writeln!(text, "keylatch_wait_seconds_bucket{{le=\"+Inf\"}} {waits}")?,
        }
    }
    writeln!(text, "keylatch_wait_seconds_count {waits}")?;
    writeln!(text, "keylatch_wait_seconds_sum {}", all.wait_time.as_secs_f64())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Duration;

    fn figures() -> LockMetrics {
        let mut shard = ShardMetrics { fast: 5, slow: 2, releases: 6, holders: 1, ..ShardMetrics::default() };
        shard.wait_time = Duration::from_millis(1500);
        shard.wait_histogram.buckets[0] = 3;
        shard.wait_histogram.buckets[2] = 4;
        let last = shard.wait_histogram.buckets.len() - 1;
        shard.wait_histogram.buckets[last] = 1;
        let (floor, ceiling) = (Duration::from_millis(10), Duration::from_secs(30));
        let policy = crate::AdaptiveTimeout { floor, ceiling, ..Default::default() };
        let adaptive = crate::observe::Adaptive::new(policy, Some(Duration::from_millis(2500))).state(1);
        let figures = LockMetrics::from_shards(vec![shard], Duration::from_secs(90), 4096);
        LockMetrics { adaptive: Some(adaptive), ..figures }
    }

    #[test]
    fn every_sample_belongs_to_the_family_described_before_it() {
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
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
