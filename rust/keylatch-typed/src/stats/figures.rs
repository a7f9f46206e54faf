//! A copy of a lock's statistics.

use crate::lock::EndedWaits;
use std::time::Duration;

/// The statistics of one lock at one moment, since its last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockFigures {
    /// How often the lock was acquired.
    pub total_acquisitions: u64,
    /// How many requests timed out.
    pub timeout_count: u64,
    /// The mean wait of all requests, those that did not wait included.
    pub avg_wait_time: Duration,
    /// The longest wait, however it ended.
    ///
    /// That of the first in line counts until now.
    pub max_wait_time: Duration,
    /// The mean of the holds that are over.
    pub avg_hold_time: Duration,
    /// The longest hold that is over.
    pub max_hold_time: Duration,
    /// How many requests wait now.
    pub current_waiters: u32,
    /// How long the first in line has waited until now.
    pub oldest_wait_time: Duration,
    /// How many holders there are now.
    pub current_holders: u64,
    /// How many waits are over: granted, timed out or cancelled.
    pub waited_count: u64,
    /// How many waits were cancelled, by `cancel_waiters` or by dropping the future.
    pub cancelled_count: u64,
    /// How many of the timeouts were of requests that must not wait.
    pub refused_count: u64,
    /// How many holds the hold times are of.
    pub timed_holds: u64,
    /// The sum of all waits.
    pub total_wait_time: Duration,
    /// The sum of all holds that were timed.
    pub total_hold_time: Duration,
    /// How the waits of readers ended.
    pub shared_waits: EndedWaits,
    /// How the waits for an exclusive lock ended.
    pub exclusive_waits: EndedWaits,
    /// The longest wait that ended lately, or that of the first in line.
    ///
    /// For what is late, see [`recent_max_hold_time`](Self::recent_max_hold_time).
    pub recent_max_wait_time: Duration,
    /// The longest hold that ended lately.
    ///
    /// Lately is within the last minute, if a monitor knows the lock and its figures are read twice a minute. If they are read
    /// less often it is since the last look, or the last but one within two minutes. Of other locks it is since the last reset.
    pub recent_max_hold_time: Duration,
}

impl LockFigures {
    /// Returns the share of requests that timed out, from 0 to 1.
    pub fn timeout_ratio(&self) -> f64 {
        let requests = self.total_acquisitions + self.timeout_count;
        if requests == 0 { 0.0 } else { self.timeout_count as f64 / requests as f64 }
    }
}
