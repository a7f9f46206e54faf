//! What only grows: all that a lock has counted, for sums over locks and time.

use super::hold_times::HoldCounts;
use super::totals::Totals;
use crate::clock;
use crate::lock::EndedWaits;
use std::time::Duration;

/// Totals, and the holds by how long they took. A reset changes nothing here.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(super) totals: Totals,
    pub(crate) holds: HoldCounts,
}

impl Counters {
    pub(crate) const fn acquisitions(&self) -> u64 {
        self.totals.acquisitions
    }

    pub(crate) const fn timeouts(&self) -> u64 {
        self.totals.shared.timed_out + self.totals.exclusive.timed_out
    }

    pub(crate) const fn cancellations(&self) -> u64 {
        self.totals.shared.cancelled + self.totals.exclusive.cancelled
    }

    /// Returns the requests that must not wait and timed out.
    pub(crate) const fn refusals(&self) -> u64 {
        self.totals.refused
    }

    /// Returns the waits that are over.
    pub(crate) const fn waits(&self) -> u64 {
        self.totals.shared.all() + self.totals.exclusive.all() - self.totals.refused
    }

    pub(crate) fn wait_time(&self) -> Duration {
        clock::duration(self.totals.wait_ticks)
    }

    /// Returns how waits ended, of readers and of others.
    pub(crate) const fn ended(&self) -> (EndedWaits, EndedWaits) {
        (self.totals.shared, self.totals.exclusive)
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.acquisitions() == 0 && self.timeouts() == 0 && self.waits() == 0 && self.holds.count() == 0
    }

    /// Returns what was added since an earlier moment.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self { totals: self.totals.since(&before.totals), holds: self.holds.since(&before.holds) }
    }

    /// Adds those of another lock.
    pub(crate) fn add(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        self.holds.add(&other.holds);
    }
}
