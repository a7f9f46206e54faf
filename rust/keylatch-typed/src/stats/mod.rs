//! What a lock knows of itself: counts, waits and holds, and where it was acquired last.
//!
//! The lock's state and its statistics are one allocation. The count of acquisitions and the sum of the holds are fields of
//! the lock's words, so they cost no atomic operation of their own, and the count is exact in every mode. Waits are counted
//! under the mutex that a waiter takes anyway.
//!
//! A reset clears no counter, because a holder could be adding to it. It keeps the present totals as the origin of the
//! next period instead. So the periods add up to the whole, however busy the lock is.
//!
//! A lock that a monitor knows also sorts its holds by how long they took, and has a window for the longest wait and hold
//! of late. The window turns when a person or a scrape looks, so holders do nothing for it.

mod counters;
mod figures;
mod hold_times;
mod identity;
mod owned;
mod settings;
mod totals;
mod watch;

pub use crate::lock::EndedWaits;
pub(crate) use counters::Counters;
pub use figures::LockFigures;
pub(crate) use owned::OwnedStats;
pub use settings::Statistics;

use crate::clock;
use crate::error::{HeldBy, LockTimeoutError, LockType, TimeoutDetails};
use crate::id::LockId;
use crate::lock::{Counts, Look, Mode, RawLock, Refusal};
use crate::sync::LazyBox;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use identity::Identity;
use keylatch::{AdaptiveState, LearnedTimeout};
use settings::Settings;
use std::fmt;
use std::panic::Location;
use std::time::Duration;
use totals::Totals;
use watch::{Period, Watch};

/// A lock's statistics, live.
///
/// [`figures`](Self::figures) returns all of them at one moment.
///
/// `Arc<LockStats>` comes from `stats()` of a lock and goes to a [`LockMonitor`](crate::LockMonitor).
pub struct LockStats {
    raw: RawLock,
    /// Holds that were timed and are over.
    ///
    /// Counted while sampling only, where the acquisitions do not say it.
    timed: AtomicU64,
    longest_hold: AtomicU64,
    /// Where the lock was acquired last, or `GONE`.
    holder: AtomicPtr<Location<'static>>,
    settings: Settings,
    identity: Identity,
    /// Made by the first reset or registration.
    ///
    /// A lock that learns its timeout is made with it.
    watch: LazyBox<Watch>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<LockStats>() <= 80, "what a lock keeps on the heap before it is waited for");

/// Stands for the place of the last acquisition when the lock is gone.
///
/// No reference is at this address.
const GONE: *mut Location<'static> = std::ptr::without_provenance_mut(1);

/// The longest wait and hold of late, in ticks.
#[derive(Debug, Clone, Copy)]
struct Longest {
    wait: u64,
    hold: u64,
}

/// Part of a hold: when it began, in ticks; 0 if it is not timed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HoldStart(u64);

impl LockStats {
    pub(crate) fn new(
        id: Option<LockId>,
        statistics: Statistics,
        timeout: Duration,
        learned: Option<LearnedTimeout>,
        made_at: &'static Location<'static>,
    ) -> Self {
        let stats = Self {
            raw: RawLock::new(),
            timed: AtomicU64::new(0),
            longest_hold: AtomicU64::new(0),
            holder: AtomicPtr::new(std::ptr::null_mut()),
            settings: Settings::new(statistics, timeout),
            identity: Identity::new(id, made_at),
            watch: LazyBox::new(),
        };
        if let Some(learned) = learned {
            stats.watch.get_or_init(|| Watch::new(Some(Box::new(learned)), &Totals::default()));
        }
        stats
    }

    #[inline]
    pub(crate) const fn raw(&self) -> &RawLock {
        &self.raw
    }

    /// Returns what a lock that learns its timeout has learned.
    fn learned(&self) -> Option<&LearnedTimeout> {
        self.watch.get()?.learned.as_deref()
    }

    /// Returns the timeout of requests that name none.
    pub(crate) fn default_timeout(&self) -> Duration {
        self.learned().map_or_else(|| self.settings.timeout(), LearnedTimeout::timeout)
    }

    /// Notes a wait that is over, in ticks.
    ///
    /// Every wait counts, also of requests that named their own timeout.
    pub(crate) fn observe_wait(&self, waited: u64, ended: WaitEnd) {
        match (self.learned(), ended) {
            (None, _) => {}
            (Some(learned), WaitEnd::Granted) => learned.observe(clock::duration(waited)),
            (Some(learned), WaitEnd::TimedOut) => learned.observe_timeout(clock::duration(waited)),
        }
    }

    /// Returns what the lock has learned for its timeout; `None` if that is fixed.
    pub fn adaptive_timeout(&self) -> Option<AdaptiveState> {
        self.learned().map(LearnedTimeout::state)
    }

    /// Notes a hold that begins with this count of acquisitions.
    #[inline]
    pub(crate) fn begin_hold(&self, count: u64, caller: &'static Location<'static>) -> HoldStart {
        self.holder.store(std::ptr::from_ref(caller).cast_mut(), Ordering::Relaxed);
        HoldStart(if self.settings.times(count) { clock::ticks() } else { 0 })
    }

    /// Notes a hold that ends, and releases the lock.
    #[inline]
    pub(crate) fn end_hold(&self, mode: Mode, start: HoldStart) {
        let mut ticks = 0;
        if start.0 != 0 {
            ticks = clock::ticks_since(start.0);
            if ticks > self.longest_hold.load(Ordering::Relaxed) {
                self.longest_hold.fetch_max(ticks, Ordering::Relaxed);
            }
            if !self.settings.is_exact() {
                self.timed.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(watch) = self.watch.get() {
                watch.holds.add(ticks);
            }
        }
        self.raw.release(mode, ticks);
    }

    /// Makes the error of a request that gave up, and emits the warning.
    pub(crate) fn timed_out(&self, refusal: Refusal, request: &Request) -> LockTimeoutError {
        let Request { lock_type, timeout, waited, requested_at } = *request;
        let held_by = match refusal {
            Refusal { is_written: true, .. } => HeldBy::Writer,
            Refusal { holders: 0, .. } => HeldBy::Nothing,
            Refusal { holders: readers, .. } => HeldBy::Readers(readers),
        };
        let Refusal { position: place, waiting: waiters, unpolled, holders, .. } = refusal;
        // The last one who acquired it is gone if all holders were granted and not polled since.
        let is_known = holders > unpolled;
        // SAFETY: stored by `begin_hold` from a reference that lives as long as the program, or null; `GONE` is stored when
        // no request is left.
        let holder = unsafe { self.holder.load(Ordering::Relaxed).as_ref() }.filter(|_| is_known);
        let details = TimeoutDetails { id: self.id(), waited, held_by, unpolled, holder, requested_at, place, waiters };
        let holder = holder.map(tracing::field::display);
        tracing::warn!(
            lock = %details.id, kind = ?lock_type, ?timeout, ?waited, %held_by, unpolled, holder,
            place, waiters, requested_at = %requested_at, "lock acquisition timed out"
        );
        LockTimeoutError::Timeout { lock_type, timeout, details: Box::new(details) }
    }

    /// Emits an event for a wait that `cancel_waiters` ended.
    ///
    /// Its error has no details.
    pub(crate) fn cancelled(&self, lock_type: LockType, requested_at: &Location<'_>) {
        tracing::debug!(lock = %self.id(), kind = ?lock_type, requested_at = %requested_at, "lock acquisition cancelled");
    }

    /// Returns the id of the lock, or the place where it was made.
    ///
    /// A lock that was made without an id has the one that it is registered under first.
    pub fn id(&self) -> LockId {
        self.identity.id()
    }

    /// Returns all statistics since the last reset, read in one moment.
    pub fn figures(&self) -> LockFigures {
        if let Some(watch) = self.watch.get() {
            return self.watched_figures(watch, &mut watch.period.lock());
        }
        let counts = self.raw.counts(Look::Only);
        if self.watch.get().is_some() {
            // The first reset came in between: what was read may be of two periods.
            return self.figures();
        }
        let longest_hold = self.longest_hold.load(Ordering::Relaxed);
        let recent = Longest { wait: counts.waits.longest, hold: longest_hold };
        self.describe(&self.totals(&counts), &counts, longest_hold, &recent)
    }

    /// Caller holds: the mutex of the period.
    fn watched_figures(&self, watch: &Watch, period: &mut Period) -> LockFigures {
        let now = clock::ticks();
        let is_over = period.is_over(now);
        period.forget_old(now);
        let counts = self.raw.counts(if is_over { Look::Turn } else { Look::Only });
        let hold = if is_over { watch.holds.turn() } else { watch.holds.recent() };
        let recent = Longest { wait: counts.waits.recent.max(period.last_wait), hold: hold.max(period.last_hold) };
        if is_over {
            period.turn(now, counts.waits.recent, hold);
        }
        let since = self.totals(&counts).since(&period.origin);
        self.describe(&since, &counts, self.longest_hold.load(Ordering::Relaxed), &recent)
    }

    /// Begins a new period, and returns the statistics of the one that ends.
    ///
    /// Every acquisition, wait, timeout and hold is part of exactly one period. A hold that ends during the reset may
    /// show as the longest of both. The recent maxima go on.
    pub fn reset(&self) -> LockFigures {
        let watch = self.watch();
        let mut period = watch.period.lock();
        let counts = self.raw.counts(Look::Reset);
        let longest_hold = self.longest_hold.swap(0, Ordering::Relaxed);
        let totals = self.totals(&counts);
        let since = totals.since(&std::mem::replace(&mut period.origin, totals));
        let recent = Longest {
            wait: counts.waits.recent.max(period.last_wait),
            hold: watch.holds.recent().max(period.last_hold),
        };
        drop(period);
        self.describe(&since, &counts, longest_hold, &recent)
    }

    /// Sorts holds by how long they take from now on.
    ///
    /// Names a lock that has no id yet.
    pub(crate) fn begin_watch(&self, id: &LockId) {
        self.identity.name(id);
        self.watch();
    }

    /// Notes that the lock is dropped. Its statistics stay as they are.
    pub(crate) fn end(&self) {
        // Pairs with: the load in `is_over`, so that what the lock counted last is seen.
        self.holder.store(GONE, Ordering::Release);
    }

    /// Returns whether the lock was dropped.
    pub(crate) fn is_over(&self) -> bool {
        // Pairs with: the store in `end`.
        self.holder.load(Ordering::Acquire) == GONE
    }

    fn watch(&self) -> &Watch {
        // The window of the recent maxima begins, too.
        self.watch.get_or_init(|| Watch::new(None, &self.totals(&self.raw.counts(Look::Turn))))
    }

    /// Returns what the lock has counted since it was made.
    ///
    /// Its holds are sorted since it was watched first.
    pub(crate) fn counters(&self) -> Counters {
        // First, so that most of what was sorted is among the totals: a holder sorts before it releases.
        let sorted = self.watch.get().map(|watch| watch.holds.sorted());
        let totals = self.totals(&self.raw.counts(Look::Only));
        let holds = self.watch.get().zip(sorted).map(|(watch, sorted)| watch.holds.counts(sorted, &totals));
        Counters { totals, holds: holds.unwrap_or_default() }
    }

    fn totals(&self, counts: &Counts) -> Totals {
        let over = counts.acquisitions - counts.holding.min(counts.acquisitions);
        Totals {
            acquisitions: counts.acquisitions,
            shared: counts.waits.shared,
            exclusive: counts.waits.exclusive,
            refused: counts.waits.refused,
            wait_ticks: counts.waits.ticks,
            holds: if self.settings.is_exact() { over } else { self.timed.load(Ordering::Relaxed) },
            hold_ticks: counts.held,
        }
    }

    fn describe(&self, since: &Totals, counts: &Counts, longest_hold: u64, recent: &Longest) -> LockFigures {
        let rate = clock::rate();
        let average = |ticks: u64, count: u64| rate.duration(ticks.checked_div(count).unwrap_or(0));
        let (shared, exclusive) = (since.shared, since.exclusive);
        let timeouts = shared.timed_out + exclusive.timed_out;
        let cancelled = shared.cancelled + exclusive.cancelled;
        // A holder that hangs shows here, where no wait ends.
        let longest = |ended: u64| rate.duration(ended.max(counts.oldest_wait));
        LockFigures {
            total_acquisitions: since.acquisitions,
            timeout_count: timeouts,
            avg_wait_time: average(since.wait_ticks, since.acquisitions + timeouts + cancelled),
            max_wait_time: longest(counts.waits.longest),
            avg_hold_time: average(since.hold_ticks, since.holds),
            max_hold_time: rate.duration(longest_hold),
            current_waiters: counts.waiting,
            oldest_wait_time: rate.duration(counts.oldest_wait),
            current_holders: counts.holding,
            waited_count: shared.all() + exclusive.all() - since.refused,
            cancelled_count: cancelled,
            refused_count: since.refused,
            timed_holds: since.holds,
            total_wait_time: rate.duration(since.wait_ticks),
            total_hold_time: rate.duration(since.hold_ticks),
            shared_waits: shared,
            exclusive_waits: exclusive,
            recent_max_wait_time: longest(recent.wait),
            recent_max_hold_time: rate.duration(recent.hold),
        }
    }

    /// Returns how often the lock was acquired.
    pub fn total_acquisitions(&self) -> u64 {
        self.figures().total_acquisitions
    }

    /// Returns how many requests timed out.
    pub fn timeout_count(&self) -> u64 {
        self.figures().timeout_count
    }

    /// Returns the mean wait of all requests, those that did not wait included.
    pub fn avg_wait_time(&self) -> Duration {
        self.figures().avg_wait_time
    }

    /// Returns the longest wait, however it ended.
    ///
    /// That of the first in line counts until now.
    pub fn max_wait_time(&self) -> Duration {
        self.figures().max_wait_time
    }

    /// Returns the mean of the holds that are over.
    pub fn avg_hold_time(&self) -> Duration {
        self.figures().avg_hold_time
    }

    /// Returns the longest hold that is over.
    pub fn max_hold_time(&self) -> Duration {
        self.figures().max_hold_time
    }

    /// Returns how many requests wait now.
    pub fn current_waiters(&self) -> u32 {
        self.figures().current_waiters
    }
}

/// How a wait ended that a learned timeout learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Granted,
    TimedOut,
}

/// A request that gave up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) lock_type: LockType,
    pub(crate) timeout: Duration,
    pub(crate) waited: Duration,
    pub(crate) requested_at: &'static Location<'static>,
}

impl fmt::Debug for LockStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockStats").field("id", &self.id()).field("figures", &self.figures()).finish()
    }
}
