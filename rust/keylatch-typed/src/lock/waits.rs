//! What a lock counts of the requests that did not get it on their first try: plain data behind the lock's mutex.

use super::words::Mode;

/// The requests that did not get the lock on their first try, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) shared: EndedWaits,
    pub(crate) exclusive: EndedWaits,
    /// Ticks that requests waited, granted or timed out.
    pub(crate) ticks: u64,
    /// The longest of these waits since the last reset.
    pub(crate) longest: u64,
    /// The longest since the last turn of the window.
    pub(crate) recent: u64,
}

/// Requests of one mode that had to wait, by how that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedWaits {
    /// Those that waited and then got the lock.
    pub granted: u64,
    /// Those whose time was over, also before they could wait.
    pub timed_out: u64,
    /// Those that `cancel_waiters` ended.
    pub cancelled: u64,
}

impl Waits {
    /// Notes a wait that is over and was not cancelled.
    pub(super) fn add(&mut self, ticks: u64) {
        self.ticks += ticks;
        self.longest = self.longest.max(ticks);
        self.recent = self.recent.max(ticks);
    }

    /// Returns the counts of one mode.
    pub(super) const fn of(&mut self, mode: Mode) -> &mut EndedWaits {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }
}

impl EndedWaits {
    /// Those that came after an earlier moment.
    pub(crate) const fn since(&self, origin: &Self) -> Self {
        Self {
            granted: self.granted - origin.granted,
            timed_out: self.timed_out - origin.timed_out,
            cancelled: self.cancelled - origin.cancelled,
        }
    }

    /// Adds those of another lock.
    pub(crate) const fn add(&mut self, other: &Self) {
        self.granted += other.granted;
        self.timed_out += other.timed_out;
        self.cancelled += other.cancelled;
    }
}
