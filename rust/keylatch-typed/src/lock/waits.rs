//! What a lock counts of the requests that did not get it on their first try: plain data behind the lock's mutex.

use super::words::Mode;

/// The requests that did not get the lock on their first try, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waits {
    pub(crate) shared: EndedWaits,
    pub(crate) exclusive: EndedWaits,
    /// Requests among the timeouts that must not wait.
    pub(crate) refused: u64,
    /// Ticks that requests waited, however that ended.
    pub(crate) ticks: u64,
    /// The longest of these waits since the last reset.
    pub(crate) longest: u64,
    /// The longest since the last turn of the window.
    pub(crate) recent: u64,
}

/// Requests of one mode that had to wait, by how that ended.
///
/// Apart from the type of this name in `keylatch`, whose waits can end in more ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedWaits {
    /// Those that waited and then got the lock.
    pub granted: u64,
    /// Those whose time was over, also before they could wait.
    pub timed_out: u64,
    /// Those that `cancel_waiters` ended, and those whose future was dropped.
    pub cancelled: u64,
}

impl Waits {
    /// Notes how long a wait took that is over.
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
    /// Waits that ended, and requests that must not wait and timed out.
    pub(crate) const fn all(&self) -> u64 {
        self.granted + self.timed_out + self.cancelled
    }

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
