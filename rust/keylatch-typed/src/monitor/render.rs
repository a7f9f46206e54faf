//! The report as text: its layout, its durations and its date.

use super::report::{LockEntry, LockReport, LockStatus, ManagerEntry};
use crate::id::{LockId, write_escaped};
use keylatch::TopKey;
use std::fmt::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From when on the buffer of the report is full.
const FULL: usize = 16 * 1024;
/// What most locks take less than.
const MOST_OF_A_LOCK: usize = 1024;

impl fmt::Display for LockReport {
    /// The date is UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("=== Lock Performance Report ===\nGenerated at: ")?;
        write_date(f, self.generated_at)?;
        f.write_str("\n\n")?;
        // Composed in a buffer that stays in the processor's cache, and handed over when it is full.
        let mut text = String::with_capacity(FULL + MOST_OF_A_LOCK);
        for lock in &self.locks {
            write_lock(&mut text, lock)?;
            if text.len() >= FULL {
                f.write_str(&text)?;
                text.clear();
            }
        }
        self.managers.iter().try_for_each(|manager| write_manager(&mut text, manager))?;
        f.write_str(&text)?;
        let summary = &self.summary;
        write!(
            f,
            "Summary:\n  Total locks: {}\n  Total acquisitions: {}\n  Total timeouts: {}\n  Critical locks: {}",
            summary.total_locks, summary.total_acquisitions, summary.total_timeouts, summary.critical_locks
        )
    }
}

impl LockStatus {
    const fn words(self) -> &'static str {
        match self {
            Self::Healthy => "✅ Healthy",
            Self::HighContention => "⚠️  High contention detected",
            Self::Critical => "❌ Critical contention detected",
        }
    }
}

impl fmt::Display for LockStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// What locks and managers have in common.
struct Figures<'a> {
    id: &'a LockId,
    number: u32,
    acquisitions: u64,
    timeouts: u64,
    timeout_ratio: f64,
    /// The mean and the longest.
    waits: [Duration; 2],
    holds: Option<[Duration; 2]>,
    waiters: u64,
}

fn write_lock(text: &mut String, lock: &LockEntry) -> fmt::Result {
    let figures = &lock.figures;
    text.push_str("Lock: ");
    write_figures(
        text,
        &Figures {
            id: &lock.id,
            number: lock.number,
            acquisitions: figures.total_acquisitions,
            timeouts: figures.timeout_count,
            timeout_ratio: figures.timeout_ratio(),
            waits: [figures.avg_wait_time, figures.max_wait_time],
            holds: Some([figures.avg_hold_time, figures.max_hold_time]),
            waiters: figures.current_waiters.into(),
        },
    )?;
    text.push_str("  Status: ");
    text.push_str(lock.status.words());
    text.push_str("\n\n");
    Ok(())
}

fn write_manager(text: &mut String, manager: &ManagerEntry) -> fmt::Result {
    let sums = &manager.metrics.shard_metrics;
    text.push_str("Manager: ");
    write_figures(
        text,
        &Figures {
            id: &manager.id,
            number: 1,
            acquisitions: sums.acquisitions(),
            timeouts: sums.timeouts,
            timeout_ratio: sums.timeout_rate(),
            waits: [sums.avg_wait_time(), sums.max_wait_time],
            holds: None,
            waiters: sums.waiters,
        },
    )?;
    writeln!(text, "  Current holders: {}", sums.holders)?;
    if !manager.hottest_keys.is_empty() {
        text.push_str("  Hottest keys:\n");
        manager.hottest_keys.iter().try_for_each(|key| write_key(text, key))?;
    }
    write!(text, "  Status: {}\n\n", manager.status)
}

fn write_key(text: &mut String, hot: &TopKey) -> fmt::Result {
    text.push_str("    ");
    write_escaped(text, &hot.key.to_string())?;
    write!(text, ": {} waiting, the first for ", hot.waiters)?;
    push_duration(text, hot.longest_wait);
    if let Some(holder) = &hot.holder {
        text.push_str(", held by ");
        write_escaped(text, &holder.owner)?;
        text.push_str(" for ");
        push_duration(text, holder.held_for);
    }
    text.push('\n');
    Ok(())
}

fn write_figures(text: &mut String, figures: &Figures<'_>) -> fmt::Result {
    figures.id.write(text)?;
    if figures.number > 1 {
        text.push_str(" #");
        push_number(text, figures.number.into());
    }
    text.push_str("\n  Total acquisitions: ");
    push_number(text, figures.acquisitions);
    text.push_str("\n  Timeouts: ");
    push_number(text, figures.timeouts);
    push_percentage(text, figures.timeout_ratio);
    let [average, longest] = figures.waits;
    text.push_str("  Avg wait time: ");
    push_duration(text, average);
    text.push_str("\n  Max wait time: ");
    push_duration(text, longest);
    if let Some([average, longest]) = figures.holds {
        text.push_str("\n  Avg hold time: ");
        push_duration(text, average);
        text.push_str("\n  Max hold time: ");
        push_duration(text, longest);
    }
    text.push_str("\n  Current waiters: ");
    push_number(text, figures.waiters);
    text.push('\n');
    Ok(())
}

/// Appends a number.
///
/// The formatting machinery would take most of the time of a report of many locks.
#[inline]
fn push_number(text: &mut String, number: u64) {
    if number >= 10 {
        push_tens(text, number / 10);
    }
    text.push(char::from(b'0' + (number % 10) as u8));
}

fn push_tens(text: &mut String, number: u64) {
    push_number(text, number);
}

/// Appends ` (0.08%)`, a share from 0 to 1.
fn push_percentage(text: &mut String, share: f64) {
    // Most locks have no timeouts.
    if share == 0.0 {
        return text.push_str(" (0.00%)\n");
    }
    // Adding a half and cutting off: rounding proper is a call where the processor's instruction is not assumed.
    let hundredths = (share * 10_000.0 + 0.5) as u64;
    text.push_str(" (");
    push_number(text, hundredths / 100);
    text.push('.');
    push_number(text, hundredths / 10 % 10);
    push_number(text, hundredths % 10);
    text.push_str("%)\n");
}

/// Appends `2.3ms`, `145ms`, `890us`, `5.2s`: one decimal below ten, none above.
fn push_duration(text: &mut String, duration: Duration) {
    // Each unit begins where the one before would round to a thousand.
    match u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX) {
        nanos @ 0..1_000 => {
            push_number(text, nanos);
            text.push_str("ns");
        }
        nanos @ 1_000..999_500 => push_rounded::<1_000>(text, nanos, "us"),
        nanos @ 999_500..999_500_000 => push_rounded::<1_000_000>(text, nanos, "ms"),
        nanos => push_rounded::<1_000_000_000>(text, nanos, "s"),
    }
}

/// Appends nanoseconds in a unit of `SIZE` of them.
///
/// A constant, because dividing by a variable would take most of the time.
fn push_rounded<const SIZE: u64>(text: &mut String, nanos: u64, unit: &str) {
    let tenths = nanos.saturating_add(SIZE / 20) / (SIZE / 10);
    if tenths < 100 {
        push_number(text, tenths / 10);
        if !tenths.is_multiple_of(10) {
            text.push('.');
            push_number(text, tenths % 10);
        }
    } else {
        push_number(text, nanos.saturating_add(SIZE / 2) / SIZE);
    }
    text.push_str(unit);
}

/// Writes `2026-02-12 10:30:00`.
fn write_date(f: &mut impl Write, time: SystemTime) -> fmt::Result {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March, in cycles of 400 years: a leap day is the last day of its year.
    let day = days + 719_468;
    let (cycle, day_of_cycle) = (day / 146_097, day % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    write!(f, "{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_the_layout() {
        let table = [
            (0, "0ns"),
            (999, "999ns"),
            (1000, "1us"),
            (890_000, "890us"),
            (999_499, "999us"),
            (999_501, "1ms"),
            (2_300_000, "2.3ms"),
            (9_949_999, "9.9ms"),
            (9_950_001, "10ms"),
            (145_000_000, "145ms"),
            (999_600_000, "1s"),
            (5_200_000_000, "5.2s"),
            (86_400_000_000_000, "86400s"),
        ];
        for (nanos, expected) in table {
            let mut text = String::new();
            push_duration(&mut text, Duration::from_nanos(nanos));
            assert_eq!(text, expected, "{nanos}");
        }
    }

    #[test]
    fn dates_follow_the_calendar() {
        let table = [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_770_892_200, "2026-02-12 10:30:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ];
        for (seconds, expected) in table {
            let mut text = String::new();
            write_date(&mut text, UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
            assert_eq!(text, expected);
        }
    }
}
