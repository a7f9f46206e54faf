//! Whether a manager has been doing well lately.

use super::RecentFigures;
use std::time::Duration;

/// Of all locks taken, more than this share has to be had without a wait.
const MIN_FAST_PATH_RATE: f64 = 0.8;
/// Of all requests, less than this share may time out.
const MAX_TIMEOUT_RATE: f64 = 0.05;
/// Requests that wait do so for less than this on average.
const MAX_AVG_WAIT: Duration = Duration::from_millis(10);

/// A judgement of the latest stretch of time, and the figures it rests on.
///
/// The stretch is [`LockConfig::health_window`](crate::LockConfig::health_window), one minute by default: what happened
/// before counts neither for a manager nor against it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Health {
    /// Whether all three figures are good; a manager that did nothing is healthy.
    ///
    /// More than 80 % of locks were had without a wait, fewer than 5 % of requests timed out, and waits were shorter than
    /// 10 ms on average.
    pub healthy: bool,
    /// The share of locks that were had without a wait.
    pub fast_path_rate: f64,
    /// The share of requests that timed out.
    pub timeout_rate: f64,
    /// The mean wait.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::written::seconds::serialize"))]
    pub avg_wait_time: Duration,
    /// The longest wait.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::written::seconds::serialize"))]
    pub max_wait_time: Duration,
    /// The stretch of time that is judged.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::written::seconds::serialize"))]
    pub window: Duration,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

impl Health {
    pub(crate) fn of(recent: &RecentFigures) -> Self {
        let waits = recent.waits.all();
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let locks = recent.immediate + waits.granted;
        let fast_path_rate = 1.0 - share(waits.granted, locks);
        let timeout_rate = share(recent.timeouts, locks + recent.timeouts);
        let avg_wait_time = match waits.all() {
            0 => Duration::ZERO,
            ended => Duration::from_secs_f64(recent.wait_time.as_secs_f64() / ended as f64),
        };
        let mut problems = Vec::new();
        if fast_path_rate <= MIN_FAST_PATH_RATE {
            let percent = fast_path_rate * 100.0;
            problems.push(format!("only {percent:.1} % of locks were had without a wait (more than 80 % is healthy)"));
        }
        if timeout_rate >= MAX_TIMEOUT_RATE {
            problems.push(format!("{:.1} % of requests timed out (under 5 % is healthy)", timeout_rate * 100.0));
        }
        if avg_wait_time >= MAX_AVG_WAIT {
            problems.push(format!("waits took {avg_wait_time:?} on average (under 10 ms is healthy)"));
        }
        let (max_wait_time, window) = (recent.max_wait_time, recent.window);
        let healthy = problems.is_empty();
        Self { healthy, fast_path_rate, timeout_rate, avg_wait_time, max_wait_time, window, problems }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::observe::WaitOutcomes;

    fn recent(immediate: u64, granted: u64, timed_out: u64) -> RecentFigures {
        let mut waits = WaitOutcomes::default();
        (waits.shared.granted, waits.exclusive.timed_out) = (granted, timed_out);
        RecentFigures { immediate, waits, timeouts: timed_out, ..RecentFigures::default() }
    }

    #[test]
    fn idle_manager_is_healthy() {
        assert!(Health::of(&RecentFigures::default()).healthy);
    }

    #[test]
    fn each_criterion_counts_by_itself() {
        assert!(Health::of(&recent(900, 100, 0)).healthy);
        assert_eq!(Health::of(&recent(800, 200, 0)).problems.len(), 1);
        assert_eq!(Health::of(&recent(950, 0, 50)).problems.len(), 1);
        assert!(Health::of(&recent(951, 0, 49)).healthy);
        let late = RecentFigures { wait_time: Duration::from_secs(1), ..recent(900, 100, 0) };
        assert_eq!(Health::of(&late).problems.len(), 1);
        let barely = RecentFigures { wait_time: Duration::from_millis(999), ..recent(900, 100, 0) };
        assert!(Health::of(&barely).healthy);
    }
}
