//! What came of it, for people.

use crate::histogram::Histogram;
use crate::jobs::Kind;
use crate::options::Options;
use crate::results::{JobResults, Results};
use crate::store::Store;
use crate::tasks::TASKS;
use keylatch::LockMetrics;
use std::fmt::Write as _;
use std::time::Duration;

/// Whether the lock manager kept its promises.
#[derive(Debug)]
pub(crate) struct Verdict {
    violations: u64,
    still_held: u64,
    still_waiting: u64,
}

impl Verdict {
    /// To be asked when all work has ended.
    pub(crate) fn of(metrics: &LockMetrics, store: &Store) -> Self {
        let all = &metrics.shard_metrics;
        Self { violations: store.violations(), still_held: all.holders, still_waiting: all.waiters }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.violations == 0 && self.still_held == 0 && self.still_waiting == 0
    }
}

/// Returns the whole report.
pub(crate) fn text(
    options: &Options,
    metrics: &LockMetrics,
    results: &Results,
    verdict: &Verdict,
    took: Duration,
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_table(&mut text, options, results, took);
    let _ = write_summary(&mut text, metrics, verdict, took);
    text
}

fn write_table(out: &mut String, options: &Options, results: &Results, took: Duration) -> std::fmt::Result {
    writeln!(
        out,
        "\n{:.1} s of {} threads and {TASKS} tasks on {} objects; {} fairness, {} shards\n",
        took.as_secs_f64(),
        options.threads,
        count(u64::from(options.objects)),
        options.fairness_name(),
        count(u64::from(options.shards))
    )?;
    writeln!(out, "{:46} waited for the lock{:13} held it", "", "")?;
    let quantiles = format!("{:>7} {:>7} {:>7} {:>7}", "p50", "p90", "p99", "max");
    writeln!(out, "{:20} {:>12} {:>9}  {quantiles}  {quantiles}", "job", "done/s", "gave up")?;
    for kind in Kind::ALL {
        write_row(out, kind.name(), results.of(*kind), took)?;
    }
    write_row(out, "all", &results.together(), took)
}

fn write_row(out: &mut String, name: &str, job: &JobResults, took: Duration) -> std::fmt::Result {
    let per_second = job.done as f64 / took.as_secs_f64();
    write!(out, "{name:20} {:>12} {:>9}", count(per_second as u64), count(job.gave_up))?;
    writeln!(out, "  {}  {}", quantiles(&job.wait), quantiles(&job.hold))
}

fn quantiles(histogram: &Histogram) -> String {
    let [p50, p90, p99] = [0.5, 0.9, 0.99].map(|share| time(histogram.quantile(share)));
    format!("{p50:>7} {p90:>7} {p99:>7} {:>7}", time(histogram.max()))
}

fn write_summary(out: &mut String, metrics: &LockMetrics, verdict: &Verdict, took: Duration) -> std::fmt::Result {
    let all = &metrics.shard_metrics;
    let taken = all.acquisitions();
    let per_second = (taken as f64 / took.as_secs_f64()) as u64;
    writeln!(out, "\nthroughput     {} locks/s ({} locks)", count(per_second), count(taken))?;
    writeln!(out, "fast path      {} of them", percent(all.fast_path_rate()))?;
    writeln!(
        out,
        "waits          {} (mean {}, longest {})",
        count(all.waits),
        time(all.avg_wait_time()),
        time(all.max_wait_time)
    )?;
    writeln!(out, "timeouts       {} ({} of all requests)", count(all.timeouts), percent(all.timeout_rate()))?;
    writeln!(out, "cancelled      {}", count(all.cancelled))?;
    writeln!(out, "memory         {} KiB, {} keys still warm", count(metrics.bytes / 1024), count(all.entries))?;
    let health = metrics.health();
    let judgement = if health.healthy { "good".to_owned() } else { health.problems.join("; ") };
    writeln!(out, "health         {judgement}")?;
    writeln!(out, "left behind    {} held, {} waiting", count(verdict.still_held), count(verdict.still_waiting))?;
    let judgement = if verdict.is_good() { "" } else { "   <-- the lock manager is broken, or was sabotaged" };
    write!(out, "violations     {}{judgement}", count(verdict.violations))
}

/// Returns a number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a share from 0 to 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// Returns a duration in at most seven characters.
fn time(duration: Duration) -> String {
    let nanos = duration.as_nanos() as f64;
    let (value, unit) = match nanos {
        0.0..1e3 => (nanos, "ns"),
        1e3..1e6 => (nanos / 1e3, "us"),
        1e6..1e9 => (nanos / 1e6, "ms"),
        _ => (nanos / 1e9, "s"),
    };
    let decimals = usize::from(value < 99.95 && unit != "ns");
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let counts = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in counts {
            assert_eq!(count(number), text);
        }
        let times =
            [(7, "7 ns"), (1_500, "1.5 us"), (250_000, "250 us"), (12_340_000, "12.3 ms"), (3_000_000_000, "3.0 s")];
        for (nanos, text) in times {
            assert_eq!(time(Duration::from_nanos(nanos)), text);
        }
    }
}
