//! Whether a manager is doing well.

use super::ShardMetrics;
use std::time::Duration;

/// Of all locks taken, more than this share has to be had at once.
const MIN_FAST_PATH_RATE: f64 = 0.8;
/// Of all requests, less than this share may time out.
const MAX_TIMEOUT_RATE: f64 = 0.05;
/// Who has to wait waits less than this on average.
const MAX_AVG_WAIT: Duration = Duration::from_millis(10);

/// A judgement, and the figures it rests on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// More than 80 % of locks were had at once, fewer than 5 % of requests timed out, and waits were shorter than 10 ms
    /// on average. A manager that did nothing is healthy.
    pub healthy: bool,
    /// The share of locks that were had at once.
    pub fast_path_rate: f64,
    /// The share of requests that timed out.
    pub timeout_rate: f64,
    /// The mean wait.
    pub avg_wait_time: Duration,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
}

impl Health {
    pub(crate) fn of(figures: &ShardMetrics) -> Self {
        let (fast_path_rate, timeout_rate) = (figures.fast_path_rate(), figures.timeout_rate());
        let avg_wait_time = figures.avg_wait_time();
        let mut problems = Vec::new();
        if fast_path_rate <= MIN_FAST_PATH_RATE {
            let percent = fast_path_rate * 100.0;
            problems.push(format!("only {percent:.1} % of locks were had at once (more than 80 % is healthy)"));
        }
        if timeout_rate >= MAX_TIMEOUT_RATE {
            problems.push(format!("{:.1} % of requests timed out (under 5 % is healthy)", timeout_rate * 100.0));
        }
        if avg_wait_time >= MAX_AVG_WAIT {
            problems.push(format!("waits took {avg_wait_time:?} on average (under 10 ms is healthy)"));
        }
        Self { healthy: problems.is_empty(), fast_path_rate, timeout_rate, avg_wait_time, problems }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_idle_manager_is_healthy() {
        assert!(Health::of(&ShardMetrics::default()).healthy);
    }

    #[test]
    fn each_criterion_counts_by_itself() {
        let good = ShardMetrics { fast: 900, slow: 100, ..Default::default() };
        assert!(Health::of(&good).healthy);
        let slow = ShardMetrics { fast: 800, slow: 200, ..Default::default() };
        assert_eq!(Health::of(&slow).problems.len(), 1);
        let late = ShardMetrics { fast: 950, timeouts: 50, ..Default::default() };
        assert_eq!(Health::of(&late).problems.len(), 1);
        let barely = ShardMetrics { fast: 951, timeouts: 49, ..Default::default() };
        assert!(Health::of(&barely).healthy);
    }
}
