//! Waits of the last minute, and how all waits ended.
//!
//! Time is cut into slots of a twelfth of the window. A wait that ends is added to its slot, by whichever thread ends
//! it; the first wait of a new slot empties the slot of one window ago into the totals. So the totals are exact, and the
//! sum of the slots is the window.
//!
//! Grants without a wait read no clock, so no slot counts them. The window keeps *looks* instead: how many grants there
//! were at which moment, whenever the figures were read or a request began to wait, at most one a slot. Grants
//! within the window are those since the latest look that is at least a window old. That may be more than there were,
//! if there was no look for long, and is never fewer: a busy manager is not called slow because it was not watched.
//!
//! Counters and mutexes are plain ones also under the model checker: no path depends on them.

use crate::mode::Mode;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Slots of a window.
const SLOTS: usize = 12;
/// Outcomes of a wait.
const OUTCOMES: usize = 4;
/// What can be waited for.
const KINDS: usize = 3;

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitKind {
    Shared,
    Exclusive,
    /// Shared is held, and exclusive wanted.
    Upgrade,
}

impl WaitKind {
    pub(crate) fn of(mode: Mode, upgrade: bool) -> Self {
        match mode {
            _ if upgrade => Self::Upgrade,
            Mode::Shared => Self::Shared,
            Mode::Exclusive => Self::Exclusive,
        }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    Granted,
    TimedOut,
    Cancelled,
    Deadlocked,
}

/// How waits of one kind ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndedWaits {
    /// With the lock.
    pub granted: u64,
    /// Because their time was over.
    pub timed_out: u64,
    /// Because they were cancelled, or the manager was closed.
    pub cancelled: u64,
    /// So that a circle of sessions could go on.
    pub deadlocked: u64,
}

impl EndedWaits {
    /// Waits that ended, however they did.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.granted + self.timed_out + self.cancelled + self.deadlocked
    }

    fn of(counts: &[u64; OUTCOMES]) -> Self {
        let [granted, timed_out, cancelled, deadlocked] = *counts;
        Self { granted, timed_out, cancelled, deadlocked }
    }
}

/// How waits ended, by what was waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WaitOutcomes {
    /// Waits for shared locks.
    pub shared: EndedWaits,
    /// Waits for exclusive locks.
    pub exclusive: EndedWaits,
    /// Waits of shared holders for exclusive locks.
    pub upgrade: EndedWaits,
}

impl WaitOutcomes {
    /// Waits of all kinds.
    #[must_use]
    pub fn all(&self) -> EndedWaits {
        let sum = |of: fn(&EndedWaits) -> u64| [self.shared, self.exclusive, self.upgrade].iter().map(of).sum();
        EndedWaits {
            granted: sum(|waits| waits.granted),
            timed_out: sum(|waits| waits.timed_out),
            cancelled: sum(|waits| waits.cancelled),
            deadlocked: sum(|waits| waits.deadlocked),
        }
    }

    fn of(counts: &[[u64; OUTCOMES]; KINDS]) -> Self {
        let [shared, exclusive, upgrade] = counts.each_ref().map(EndedWaits::of);
        Self { shared, exclusive, upgrade }
    }
}

/// Figures of the latest stretch of time, for the verdict of [`Health`].
///
/// [`Health`]: crate::Health
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentFigures {
    /// How long the stretch is: the health window, or the manager's age.
    ///
    /// See [`LockConfig::health_window`](crate::LockConfig::health_window).
    pub window: Duration,
    /// Locks had without a wait.
    ///
    /// If the figures were not read for longer than the window, all since then.
    pub immediate: u64,
    /// Waits that ended, by what was waited for.
    pub waits: WaitOutcomes,
    /// Requests that timed out, also those whose time was over before they could wait.
    pub timeouts: u64,
    /// Time that these waits took altogether.
    pub wait_time: Duration,
    /// The longest of them.
    pub max_wait_time: Duration,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct WaitWindow {
    slots: [Slot; SLOTS],
    /// Nanoseconds.
    window: u64,
    slot_nanos: u64,
    totals: Mutex<Totals>,
    looks: Mutex<VecDeque<Look>>,
    /// When the latest look was, so that most need not ask the mutex.
    looked_at: AtomicU64,
}

/// Waits that ended within one slot of time.
#[derive(Debug, Default)]
struct Slot {
    /// Which one, counted from 1; 0 for none yet. Changes under `totals` alone.
    number: AtomicU64,
    outcomes: [[AtomicU64; OUTCOMES]; KINDS],
    /// Requests that timed out without a wait.
    late: AtomicU64,
    nanos: AtomicU64,
    max_nanos: AtomicU64,
}

/// What is not in a slot any more.
#[derive(Debug, Default)]
struct Totals {
    outcomes: [[u64; OUTCOMES]; KINDS],
}

/// Grants that there were at a moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: u64,
    grants: u64,
    /// Those of them that came after a wait.
    waited: u64,
}

impl WaitWindow {
    pub(crate) fn new(window: Duration) -> Self {
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX).max(SLOTS as u64);
        Self {
            slots: Default::default(),
            window,
            slot_nanos: window / SLOTS as u64,
            totals: Mutex::default(),
            looks: Mutex::default(),
            looked_at: AtomicU64::new(0),
        }
    }

    fn number(&self, now: u64) -> u64 {
        now / self.slot_nanos + 1
    }

    /// Counts a wait that ended now.
    pub(crate) fn ended(&self, kind: WaitKind, outcome: WaitOutcome, waited: u64, now: u64) {
        let slot = self.slot(now);
        slot.outcomes[kind as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        slot.nanos.fetch_add(waited, Ordering::Relaxed);
        if slot.max_nanos.load(Ordering::Relaxed) < waited {
            slot.max_nanos.fetch_max(waited, Ordering::Relaxed);
        }
    }

    /// Counts a request whose time was over before it could wait.
    pub(crate) fn late(&self, now: u64) {
        self.slot(now).late.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the slot of this moment, begun.
    fn slot(&self, now: u64) -> &Slot {
        let number = self.number(now);
        let slot = &self.slots[(number % SLOTS as u64) as usize];
        // Acquire, Pairs with: the Release of `begin`. A slot is counted in after it was emptied. A thread that is held
        // up for a whole window between here and there counts in a later slot: the totals stay exact.
        if slot.number.load(Ordering::Acquire) < number {
            self.begin(slot, number);
        }
        slot
    }

    #[cold]
    fn begin(&self, slot: &Slot, number: u64) {
        let mut totals = self.totals.lock();
        if slot.number.load(Ordering::Relaxed) >= number {
            return;
        }
        for (total, count) in totals.outcomes.as_flattened_mut().iter_mut().zip(slot.outcomes.as_flattened()) {
            *total += count.swap(0, Ordering::Relaxed);
        }
        slot.late.store(0, Ordering::Relaxed);
        slot.nanos.store(0, Ordering::Relaxed);
        slot.max_nanos.store(0, Ordering::Relaxed);
        // Release, Pairs with: the Acquire in `ended`.
        slot.number.store(number, Ordering::Release);
    }

    /// Returns how all waits ended so far.
    pub(crate) fn outcomes(&self) -> WaitOutcomes {
        let totals = self.totals.lock();
        let mut all = totals.outcomes;
        self.slots.iter().for_each(|slot| slot.add_to(&mut all));
        WaitOutcomes::of(&all)
    }

    /// Returns whether a look at the grants is due.
    #[inline]
    pub(crate) fn is_look_due(&self, now: u64) -> bool {
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        now.saturating_sub(looked_at) >= self.slot_nanos || looked_at == 0
    }

    /// Remembers how many grants there were, and forgets looks that are not needed.
    ///
    /// Those are looks that no window begins at.
    pub(crate) fn look(&self, grants: u64, now: u64) {
        let waited = self.waited();
        let mut looks = self.looks.lock();
        if !self.is_look_due(now) {
            return;
        }
        looks.push_back(Look { at: now, grants, waited });
        self.looked_at.store(now, Ordering::Relaxed);
        while looks.get(1).is_some_and(|next| next.at <= now.saturating_sub(self.window)) {
            looks.pop_front();
        }
    }

    /// Grants after a wait. An upgrade is none: its lock was granted before.
    fn waited(&self) -> u64 {
        let outcomes = self.outcomes();
        outcomes.shared.granted + outcomes.exclusive.granted
    }

    /// The figures of the window that ends now, `grants` having been given altogether.
    pub(crate) fn recent(&self, grants: u64, now: u64) -> RecentFigures {
        let number = self.number(now);
        let (mut outcomes, mut late, mut nanos, mut max_nanos) = ([[0; OUTCOMES]; KINDS], 0, 0u64, 0);
        for slot in &self.slots {
            if number.saturating_sub(slot.number.load(Ordering::Relaxed)) < SLOTS as u64 {
                slot.add_to(&mut outcomes);
                late += slot.late.load(Ordering::Relaxed);
                nanos = nanos.saturating_add(slot.nanos.load(Ordering::Relaxed));
                max_nanos = max_nanos.max(slot.max_nanos.load(Ordering::Relaxed));
            }
        }
        let before = self.look_before(now.saturating_sub(self.window));
        // Two figures that are read one after the other may differ by what happened in between.
        let immediate =
            grants.saturating_sub(before.grants).saturating_sub(self.waited().saturating_sub(before.waited));
        RecentFigures {
            window: Duration::from_nanos(self.window.min(now)),
            immediate,
            timeouts: WaitOutcomes::of(&outcomes).all().timed_out + late,
            waits: WaitOutcomes::of(&outcomes),
            wait_time: Duration::from_nanos(nanos),
            max_wait_time: Duration::from_nanos(max_nanos),
        }
    }

    /// The latest look that is as old as this, or that of the manager's beginning.
    fn look_before(&self, at: u64) -> Look {
        let looks = self.looks.lock();
        looks.iter().rev().find(|look| look.at <= at).copied().unwrap_or(Look { at: 0, grants: 0, waited: 0 })
    }
}

impl Slot {
    fn add_to(&self, sums: &mut [[u64; OUTCOMES]; KINDS]) {
        for (sum, count) in sums.as_flattened_mut().iter_mut().zip(self.outcomes.as_flattened()) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MILLISECOND;

    fn minute() -> WaitWindow {
        WaitWindow::new(Duration::from_secs(60))
    }

    fn granted(window: &WaitWindow, waited: u64, at: u64) {
        window.ended(WaitKind::Exclusive, WaitOutcome::Granted, waited, at);
    }

    #[test]
    fn old_waits_leave_the_window_not_the_totals() {
        let window = minute();
        granted(&window, 3 * SECOND, SECOND);
        window.ended(WaitKind::Shared, WaitOutcome::TimedOut, 5 * SECOND, 50 * SECOND);
        let recent = window.recent(1, 55 * SECOND);
        assert_eq!((recent.waits.all().all(), recent.wait_time), (2, Duration::from_secs(8)));
        assert_eq!(recent.max_wait_time, Duration::from_secs(5));
        let recent = window.recent(1, 70 * SECOND);
        assert_eq!((recent.waits.exclusive.granted, recent.waits.shared.timed_out), (0, 1));
        assert_eq!(recent.max_wait_time, Duration::from_secs(5));
        let recent = window.recent(1, 200 * SECOND);
        assert_eq!((recent.waits, recent.max_wait_time), (WaitOutcomes::default(), Duration::ZERO));
        // Its slot is used again, long after.
        granted(&window, MILLISECOND, 601 * SECOND);
        assert_eq!(window.recent(2, 602 * SECOND).wait_time, Duration::from_millis(1));
        assert_eq!((window.outcomes().exclusive.granted, window.outcomes().shared.timed_out), (2, 1));
    }

    #[test]
    fn window_holds_a_minute_at_every_moment() {
        let window = minute();
        // One wait a second, for ten minutes: the window has the last 55 to 60.
        for second in 1..600 {
            granted(&window, MILLISECOND, second * SECOND);
            let count = window.recent(0, second * SECOND).waits.exclusive.granted;
            assert!(count <= 60 && count >= second.min(55), "{count} at {second}");
        }
        assert_eq!(window.outcomes().exclusive.granted, 599);
    }

    #[test]
    fn grants_count_from_the_look_before_the_window() {
        let window = minute();
        assert!(window.is_look_due(SECOND));
        window.look(1000, SECOND);
        assert!(!window.is_look_due(2 * SECOND), "one a slot is enough");
        window.look(9999, 2 * SECOND);
        window.look(5000, 30 * SECOND);
        assert_eq!(window.recent(6000, 59 * SECOND).immediate, 6000, "all since the beginning");
        assert_eq!(window.recent(6000, 61 * SECOND).immediate, 5000, "since the first look");
        assert_eq!(window.recent(6000, 90 * SECOND).immediate, 1000, "since the second");
        assert_eq!(window.recent(6000, 900 * SECOND).immediate, 1000, "and there was no later look");
    }

    #[test]
    fn grants_after_a_wait_are_not_immediate() {
        let window = minute();
        (0..4).for_each(|_| granted(&window, SECOND, SECOND));
        window.ended(WaitKind::Upgrade, WaitOutcome::Granted, SECOND, SECOND);
        assert_eq!(window.recent(10, SECOND).immediate, 6);
        window.look(10, 10 * SECOND);
        granted(&window, SECOND, 80 * SECOND);
        assert_eq!(window.recent(13, 80 * SECOND).immediate, 2);
    }

    #[test]
    fn burst_after_a_quiet_time_counts_whole() {
        let window = minute();
        window.look(1, SECOND);
        // An hour later a hundred locks are taken, and then a request waits and has the grants looked at.
        window.look(101, 3600 * SECOND);
        granted(&window, SECOND, 3601 * SECOND);
        assert_eq!(window.recent(102, 3601 * SECOND).immediate, 100);
    }

    #[test]
    fn late_requests_time_out_without_a_wait() {
        let window = minute();
        window.ended(WaitKind::Shared, WaitOutcome::TimedOut, SECOND, SECOND);
        window.late(SECOND);
        let recent = window.recent(0, 2 * SECOND);
        assert_eq!((recent.timeouts, recent.waits.all().all()), (2, 1));
        assert_eq!(window.recent(0, 90 * SECOND).timeouts, 0);
        granted(&window, SECOND, 61 * SECOND);
        assert_eq!(window.recent(0, 61 * SECOND).timeouts, 0, "its slot was emptied");
    }

    #[test]
    fn looks_are_forgotten() {
        let window = minute();
        (1..10_000).for_each(|second| window.look(second, second * SECOND));
        assert!(window.looks.lock().len() <= SLOTS + 2);
        assert_eq!(window.recent(10_000, 10_000 * SECOND).immediate / 10, 6);
    }

    #[test]
    fn threads_that_begin_slots_lose_no_wait() {
        let window = WaitWindow::new(Duration::from_nanos(1200));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let window = &window;
                scope.spawn(move || (0..20_000).for_each(|at| granted(window, 1, at + thread * 50)));
            }
        });
        assert_eq!(window.outcomes().exclusive.granted, 80_000);
    }

    #[test]
    fn tiny_and_huge_windows_work() {
        for window in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
            let window = WaitWindow::new(window);
            granted(&window, 1, u64::MAX - 1);
            window.look(5, u64::MAX - 1);
            assert_eq!(window.recent(5, u64::MAX - 1).waits.exclusive.granted, 1);
        }
    }
}
