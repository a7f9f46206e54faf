//! What the engine counts for the whole manager, off the fast path.

use super::histogram::{WaitHistogram, bucket_of};
use super::wait_window::WaitWindow;
use crate::hold::Lost;
use crate::mode::Mode;
use crate::table::WAIT_BUCKETS;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters that only grow, and the window of waits.
///
/// Plain ones of std also under the model checker: no path depends on them.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) waits: WaitWindow,
    shared_holds: TimeCounters,
    exclusive_holds: TimeCounters,
    expired: AtomicU64,
    forced: AtomicU64,
}

#[derive(Debug)]
struct TimeCounters {
    buckets: [AtomicU64; WAIT_BUCKETS],
    nanos: AtomicU64,
}

/// How long locks were held, as far as holds were timed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldTimes {
    /// How many holds were how long.
    pub histogram: WaitHistogram,
    /// Time held altogether.
    pub time: Duration,
}

impl TimeCounters {
    fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; WAIT_BUCKETS], nanos: AtomicU64::new(0) }
    }

    fn add(&self, nanos: u64) {
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn read(&self) -> HoldTimes {
        HoldTimes {
            histogram: WaitHistogram { buckets: self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed)) },
            time: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
        }
    }
}

impl Tally {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            waits: WaitWindow::new(window),
            shared_holds: TimeCounters::new(),
            exclusive_holds: TimeCounters::new(),
            expired: AtomicU64::new(0),
            forced: AtomicU64::new(0),
        }
    }

    /// Counts the end of a hold that was timed.
    pub(crate) fn hold_ended(&self, mode: Mode, nanos: u64) {
        match mode {
            Mode::Shared => self.shared_holds.add(nanos),
            Mode::Exclusive => self.exclusive_holds.add(nanos),
        }
    }

    /// Counts holds that were revoked.
    pub(crate) fn revoked(&self, why: Lost, holds: usize) {
        let counter = match why {
            Lost::Expired | Lost::Permit => &self.expired,
            Lost::Forced => &self.forced,
        };
        counter.fetch_add(holds as u64, Ordering::Relaxed);
    }

    pub(crate) fn shared_holds(&self) -> HoldTimes {
        self.shared_holds.read()
    }

    pub(crate) fn exclusive_holds(&self) -> HoldTimes {
        self.exclusive_holds.read()
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    pub(crate) fn forced(&self) -> u64 {
        self.forced.load(Ordering::Relaxed)
    }
}
