//! What a lock keeps from the moment on that a monitor knows it, or that it is reset: its period, its window, and its
//! holds by how long they took. Other locks do without this memory.

use super::hold_times::HoldTimes;
use super::totals::Totals;
use crate::clock;
use crate::sync::Mutex;
use keylatch::LearnedTimeout;
use std::time::Duration;

/// Half of the window of the recent maxima.
///
/// The window is the half that is over and the one that goes on.
const HALF_WINDOW: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Watch {
    /// What the lock has learned for its timeout, if it learns.
    pub(super) learned: Option<Box<LearnedTimeout>>,
    pub(super) holds: HoldTimes,
    pub(super) period: Mutex<Period>,
}

/// What changes when a person or a scrape looks.
pub(super) struct Period {
    /// The totals at the last reset.
    pub(super) origin: Totals,
    /// The longest wait and hold of the half of the window that is over, in ticks.
    pub(super) last_wait: u64,
    pub(super) last_hold: u64,
    turned_at: u64,
}

impl Watch {
    /// Begins with what the lock has counted so far.
    pub(super) fn new(learned: Option<Box<LearnedTimeout>>, before: &Totals) -> Self {
        let period = Period { origin: Totals::default(), last_wait: 0, last_hold: 0, turned_at: clock::ticks() };
        Self { learned, holds: HoldTimes::new(before), period: Mutex::new(period) }
    }
}

impl Period {
    /// Returns whether the half of the window is over.
    pub(super) fn is_over(&self, now: u64) -> bool {
        clock::duration(now.saturating_sub(self.turned_at)) >= HALF_WINDOW
    }

    /// Forgets the half that is over if the one that goes on is longer than the window.
    ///
    /// So a figure that is read seldom is of the time since the last look.
    pub(super) fn forget_old(&mut self, now: u64) {
        if clock::duration(now.saturating_sub(self.turned_at)) >= HALF_WINDOW * 2 {
            (self.last_wait, self.last_hold) = (0, 0);
        }
    }

    /// Begins the next half.
    pub(super) fn turn(&mut self, now: u64, longest_wait: u64, longest_hold: u64) {
        (self.turned_at, self.last_wait, self.last_hold) = (now, longest_wait, longest_hold);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn old_half_is_forgotten_after_the_window() {
        let mut period = Period { origin: Totals::default(), last_wait: 7, last_hold: 8, turned_at: 1 };
        period.forget_old(1 + clock::ticks_of(HALF_WINDOW));
        assert_eq!((period.last_wait, period.last_hold), (7, 8));
        period.forget_old(1 + clock::ticks_of(HALF_WINDOW * 3));
        assert_eq!((period.last_wait, period.last_hold), (0, 0));
    }
}
