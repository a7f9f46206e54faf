//! Everything that a lock has counted since it was made; a reset keeps a copy and clears nothing.

use crate::lock::EndedWaits;

/// Totals since the lock was made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) acquisitions: u64,
    pub(super) shared: EndedWaits,
    pub(super) exclusive: EndedWaits,
    pub(super) refused: u64,
    pub(super) wait_ticks: u64,
    pub(super) holds: u64,
    pub(super) hold_ticks: u64,
}

impl Totals {
    /// Returns what was added since an earlier moment.
    pub(super) fn since(&self, origin: &Self) -> Self {
        Self {
            acquisitions: self.acquisitions - origin.acquisitions,
            shared: self.shared.since(&origin.shared),
            exclusive: self.exclusive.since(&origin.exclusive),
            refused: self.refused - origin.refused,
            wait_ticks: self.wait_ticks - origin.wait_ticks,
            holds: self.holds - origin.holds,
            hold_ticks: self.hold_ticks - origin.hold_ticks,
        }
    }

    /// Adds those of another lock.
    pub(super) const fn add(&mut self, other: &Self) {
        self.acquisitions += other.acquisitions;
        self.shared.add(&other.shared);
        self.exclusive.add(&other.exclusive);
        self.refused += other.refused;
        self.wait_ticks += other.wait_ticks;
        self.holds += other.holds;
        self.hold_ticks += other.hold_ticks;
    }
}
