//! Both distributions side by side, and whether they are what they should be.

use crate::load::Asked;
use crate::measures::{Measures, Summary};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The wait for a lock that the registry of before has to show.
const SYMPTOM: Duration = Duration::from_secs(1);
const SELECTION_P999: Duration = Duration::from_millis(1);
const SELECTION_MAX: Duration = Duration::from_millis(10);
const HEARTBEAT_P99: Duration = Duration::from_millis(5);
const STALENESS_P99: Duration = Duration::from_millis(50);
const COPIES_PER_SECOND: f64 = 20.0;

/// Everything that was found of one registry.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) asked_late: Summary,
    pub(crate) selection: Summary,
    pub(crate) answering: Summary,
    pub(crate) heartbeat: Summary,
    pub(crate) lock_wait: Summary,
    pub(crate) staleness: Summary,
    pub(crate) copies_per_second: f64,
    pub(crate) fallbacks: u64,
    pub(crate) asked: Asked,
}

impl Found {
    pub(crate) fn new(measures: &Measures, asked: Asked) -> Self {
        Self {
            asked_late: measures.asked_late.summary(),
            selection: measures.selection.summary(),
            answering: measures.answering.summary(),
            heartbeat: measures.heartbeat.summary(),
            lock_wait: measures.lock_wait.summary(),
            staleness: measures.staleness.summary(),
            // The first copy begins the time that the others are counted in.
            copies_per_second: measures.copies.load(Ordering::Relaxed).saturating_sub(1) as f64
                / asked.took.as_secs_f64(),
            fallbacks: measures.fallbacks.load(Ordering::Relaxed),
            asked,
        }
    }
}

/// Returns what one has, or a dash.
fn column(found: Option<&Found>, of: impl Fn(&Found) -> Option<String>) -> String {
    found.and_then(of).unwrap_or_else(|| "-".to_owned())
}

/// A line: its name, the distribution, the time that it shows, and the goal.
type Row = (&'static str, fn(&Found) -> &Summary, Quantile, &'static str);
/// A time of a distribution that has some.
type Quantile = fn(&Summary) -> Duration;
const P50: Quantile = |times| times.p50;
const P99: Quantile = |times| times.p99;
const P999: Quantile = |times| times.p999;
const MAX: Quantile = |times| times.max;

/// Returns the table: each line before, after, and of nothing at all.
pub(crate) fn table(before: Option<&Found>, after: Option<&Found>, floor: &Found) -> String {
    let mut text = format!("{:<29}{:>12}{:>12}{:>12}\n", "", "before", "after", "floor");
    let mut line = |name: &str, of: &dyn Fn(&Found) -> Option<String>, goal: &str| {
        let columns = [before, after, Some(floor)].map(|found| column(found, of));
        let line = format!("{name:<29}{:>12}{:>12}{:>12}   {goal}", columns[0], columns[1], columns[2]);
        let _ = writeln!(text, "{}", line.trim_end());
    };
    let distributions: [Row; 17] = [
        ("asked late p50", |found| &found.asked_late, P50, "the machine's part of each latency"),
        ("asked late p99.9", |found| &found.asked_late, P999, ""),
        ("asked late max", |found| &found.asked_late, MAX, ""),
        ("selection p50", |found| &found.selection, P50, ""),
        ("selection p99", |found| &found.selection, P99, ""),
        ("selection p99.9", |found| &found.selection, P999, "after: at most 1 ms"),
        ("selection max", |found| &found.selection, MAX, "after: at most 10 ms"),
        ("selection p99.9, once asked", |found| &found.answering, P999, ""),
        ("selection max, once asked", |found| &found.answering, MAX, ""),
        ("heartbeat answer p50", |found| &found.heartbeat, P50, ""),
        ("heartbeat answer p99", |found| &found.heartbeat, P99, "after: at most 5 ms"),
        ("heartbeat answer max", |found| &found.heartbeat, MAX, ""),
        ("wait for a lock p99", |found| &found.lock_wait, P99, ""),
        ("wait for a lock max", |found| &found.lock_wait, MAX, "before: above 1 s"),
        ("staleness p50", |found| &found.staleness, P50, ""),
        ("staleness p99", |found| &found.staleness, P99, "after: at most 50 ms"),
        ("staleness max", |found| &found.staleness, MAX, ""),
    ];
    for (name, times, quantile, goal) in distributions {
        line(name, &|found| (times(found).count > 0).then(|| time(quantile(times(found)))), goal);
    }
    line("copies a second", &|found| Some(format!("{:.1}", found.copies_per_second)), "after: at most 20");
    line("fallbacks to a snapshot", &|found| Some(found.fallbacks.to_string()), "");
    line("selections due", &|found| Some(found.asked.selections.to_string()), "");
    line("selections recorded", &|found| Some(found.selection.count.to_string()), "");
    line("heartbeats due", &|found| Some(found.asked.heartbeats.to_string()), "");
    line("given up after the end", &|found| Some(found.asked.given_up.to_string()), "");
    text
}

/// What is measured, the time of it, and how long that may be.
type Goal = (&'static str, fn(&Found) -> Duration, Duration);

/// What became of the goals, a sentence for each that was not reached.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Missed, and the registry is why.
    pub(crate) missed: Vec<String>,
    /// Missed, and by the floor, too: this machine cannot show them.
    pub(crate) hidden: Vec<String>,
}

/// Compares what was found with the goals.
///
/// Where the floor misses one, the registry may add as much as the goal to it.
pub(crate) fn verdict(before: Option<&Found>, after: Option<&Found>, floor: &Found) -> Verdict {
    let mut verdict = Verdict::default();
    let missed = &mut verdict.missed;
    if let Some(before) = before
        && before.lock_wait.max <= SYMPTOM
    {
        missed.push(format!("before waited for a lock for at most {}: no symptom", time(before.lock_wait.max)));
    }
    let Some(after) = after else { return verdict };
    let goals: [Goal; 4] = [
        ("selection p99.9", |found| found.selection.p999, SELECTION_P999),
        ("selection max", |found| found.selection.max, SELECTION_MAX),
        ("heartbeat answer p99", |found| found.heartbeat.p99, HEARTBEAT_P99),
        ("staleness p99", |found| found.staleness.p99, STALENESS_P99),
    ];
    for (what, of, goal) in goals {
        let (found, least) = (of(after), of(floor));
        let text = || format!("after: {what} is {}, more than {}", time(found), time(goal));
        if found > goal && least > goal && found <= least + goal {
            verdict.hidden.push(format!("{}; answered by nothing it is {}", text(), time(least)));
        } else if found > goal {
            missed.push(text());
        }
    }
    if after.copies_per_second > COPIES_PER_SECOND {
        missed.push(format!("after: {:.1} copies a second, more than 20", after.copies_per_second));
    }
    if after.asked.given_up > 0 {
        missed.push(format!("after: {} requests were not answered", after.asked.given_up));
    }
    verdict
}

/// Returns a time with three digits.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    for (factor, unit) in [(1.0, "s"), (1e3, "ms"), (1e6, "us")] {
        let value = seconds * factor;
        if value >= 1.0 {
            let digits = if value >= 100.0 { 0 } else { 2 - value.log10() as usize };
            return format!("{value:.digits$} {unit}");
        }
    }
    format!("{} ns", time.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(selection: u64, lock_wait: u64) -> Found {
        let measures = Measures::new();
        measures.selection.record(Duration::from_micros(selection));
        measures.lock_wait.record(Duration::from_micros(lock_wait));
        let asked = Asked { selections: 1, heartbeats: 0, given_up: 0, took: Duration::from_secs(1) };
        Found::new(&measures, asked)
    }

    #[test]
    fn symptoms_and_goals_are_checked() {
        let (bad, good, floor) = (found(2_000_000, 1_500_000), found(100, 10), found(1, 1));
        let missed = |before, after| verdict(before, after, &floor).missed.len();
        assert_eq!(missed(Some(&bad), Some(&good)), 0);
        assert_eq!(missed(Some(&good), Some(&good)), 1, "no symptom");
        assert_eq!(missed(Some(&bad), Some(&bad)), 2, "p99.9 and max");
        assert_eq!(missed(None, Some(&found(5_000, 1))), 1, "p99.9 alone");
    }

    #[test]
    fn what_the_floor_misses_counts_from_the_floor() {
        let lengths = |after, floor| {
            let verdict = verdict(None, Some(&found(after, 1)), &found(floor, 1));
            (verdict.missed.len(), verdict.hidden.len())
        };
        assert_eq!(lengths(2_100, 2_000), (0, 1), "the machine");
        assert_eq!(lengths(3_200, 2_000), (1, 0), "more than the machine");
        assert_eq!(lengths(2_100, 900), (1, 0), "a floor that reaches the goal excuses nothing");
    }

    #[test]
    fn table_has_both_side_by_side() {
        let text = table(Some(&found(2_000_000, 1)), Some(&found(100, 10)), &found(1, 1));
        assert!(text.lines().next().unwrap().ends_with("      before       after       floor"), "{text}");
        let line = text.lines().find(|line| line.starts_with("selection max")).unwrap();
        assert!(line.contains("2.00 s") && line.contains("100 us") && line.contains("at most 10 ms"), "{line}");
        assert!(table(None, Some(&found(1, 1)), &found(1, 1)).contains("-"));
    }

    #[test]
    fn times_have_three_digits() {
        for (nanos, text) in
            [(0, "0 ns"), (999, "999 ns"), (1_500, "1.50 us"), (45_600_000, "45.6 ms"), (123_400_000, "123 ms")]
        {
            assert_eq!(time(Duration::from_nanos(nanos)), text);
        }
    }
}
