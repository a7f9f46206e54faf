//! The lock without a value: two words for the uncontended path, and a fair line behind a mutex for the rest.
//!
//! A request first tries one swap of the word of acquisitions. If that is refused, it joins the line under the mutex, which
//! sends every later request to the line as well. So the order is first come, first served; neighbouring readers hold
//! together; a writer waits for the readers before it and for none that come after it.
//!
//! A release that leaves a lock with a line takes the mutex and hands the lock to the first in line, without letting it go
//! in between. The waiter finds the grant in its slot. A waiter that gives up takes its slot out under the same mutex: it
//! was granted by then and passes the grant on, or it never will be. So a grant is never lost and never leaks, whatever is
//! dropped when.
//!
//! Wakers run after the mutex is released.

use super::line::{Line, Place, Status};
use super::waits::Waits;
use super::wakes::Wakes;
use super::words::{LineAfter, Mode, Sums, Then, Words};
use crate::clock;
use crate::sync::{LazyBox, Mutex};
use std::task::Waker;

#[derive(Debug)]
pub(crate) struct RawLock {
    words: Words,
    /// Made by the first request that does not get the lock on its first try.
    ///
    /// Most locks never need it.
    guarded: LazyBox<Mutex<Guarded>>,
}

/// What the mutex protects.
#[derive(Debug, Default)]
struct Guarded {
    line: Line,
    waits: Waits,
    /// Grants whose waiters left instead of collecting them.
    ///
    /// The words count them as acquisitions.
    abandoned: u64,
}

const HAS_LINE: &str = "a lock with a place in line has a line";

/// What a look at the counts begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing.
    Only,
    /// The longest wait since the last reset.
    Reset,
    /// The longest wait since the last turn of the window.
    Turn,
}

/// Everything that the lock counts, read in one consistent moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) acquisitions: u64,
    /// Holds that are not over, collected grants only.
    pub(crate) holding: u64,
    /// Ticks of the holds that are over.
    pub(crate) held: u64,
    pub(crate) waiting: u32,
    /// Ticks that the first in line has waited; 0 without a line.
    pub(crate) oldest_wait: u64,
    pub(crate) waits: Waits,
}

/// The answer to a request that joins the line.
#[derive(Debug)]
#[must_use]
pub(crate) enum Joined {
    /// The lock was free after all; the count of its acquisitions.
    Acquired(u64),
    Waiting(WaitingPlace),
}

/// A place in line that has to be checked or left.
#[derive(Debug)]
#[must_use]
pub(crate) struct WaitingPlace(Place);

/// The answer to a request that must not wait.
#[derive(Debug)]
#[must_use]
pub(crate) enum Answered {
    /// The lock was free after all; the count of its acquisitions.
    Acquired(u64),
    Refused(Refusal),
}

/// Whether the time of a waiter is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Left,
    Over,
}

/// What a waiter that looks at its place finds.
#[derive(Debug)]
#[must_use]
pub(crate) enum Checked {
    Waiting(WaitingPlace),
    /// The lock is the waiter's; the count of its acquisitions.
    Acquired(u64),
    TimedOut(Refusal),
    Cancelled,
}

/// What stood in the way of a request that timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The place in line: 1 for the first.
    pub(crate) position: u32,
    pub(crate) waiting: u32,
    /// Granted holders included that were not polled since.
    pub(crate) holders: u64,
    pub(crate) unpolled: u64,
    pub(crate) is_written: bool,
}

impl RawLock {
    pub(crate) fn new() -> Self {
        Self { words: Words::default(), guarded: LazyBox::new() }
    }

    /// Acquires the lock if it is free and has no line.
    ///
    /// Returns the count of acquisitions.
    #[inline]
    pub(crate) fn try_acquire(&self, mode: Mode) -> Option<u64> {
        self.words.try_acquire(mode)
    }

    /// Acquires the lock if it was refused by a line that begins or ends.
    ///
    /// While a request looks for the last time before it waits, the lock looks as if it had a line.
    #[cold]
    #[inline(never)]
    pub(crate) fn try_acquire_slow(&self, mode: Mode) -> Option<u64> {
        if self.words.has_line() {
            // Under the mutex the bit is set while there is a line and not otherwise.
            let _guarded = self.guarded.get()?.lock();
            return self.words.try_acquire(mode);
        }
        self.words.try_acquire(mode)
    }

    /// Joins the line, unless the lock can be acquired after all.
    ///
    /// `began` is when the request began, in ticks.
    pub(crate) fn join(&self, mode: Mode, began: u64, waker: Waker) -> Joined {
        let mut guarded = self.guarded().lock();
        if !self.words.has_line()
            && let Some(count) = self.begin_line(mode)
        {
            drop(guarded);
            drop(waker);
            return Joined::Acquired(count);
        }
        Joined::Waiting(WaitingPlace(guarded.line.push(mode, began, waker)))
    }

    /// Begins a line, unless the lock can be acquired after all.
    ///
    /// Caller holds: the mutex.
    fn begin_line(&self, mode: Mode) -> Option<u64> {
        self.words.try_acquire(mode).or_else(|| {
            self.words.begin_line();
            // The last holder may have left before it could see the line.
            self.words.has_room(mode).then(|| self.words.grant(mode, LineAfter::Ends))
        })
    }

    /// Answers a request that must not wait: a refusal counts as timed out.
    pub(crate) fn answer(&self, mode: Mode) -> Answered {
        let mut mutex = self.guarded().lock();
        let guarded = &mut *mutex;
        // Without this a line that another request begins for a moment would be in the way.
        if let Some(count) = self.words.try_acquire(mode) {
            return Answered::Acquired(count);
        }
        guarded.waits.of(mode).timed_out += 1;
        guarded.waits.refused += 1;
        let waiting = guarded.line.waiting();
        Answered::Refused(self.refusal(waiting + 1, &guarded.line))
    }

    /// Looks at a place.
    ///
    /// Collects a grant, keeps waiting with this waker, or gives up when the time is over.
    pub(crate) fn check(&self, WaitingPlace(place): WaitingPlace, waker: Waker, patience: Patience) -> Checked {
        let mut mutex = self.guarded.get().expect(HAS_LINE).lock();
        let guarded = &mut *mutex;
        let (status, mode) = (guarded.line.status(&place), guarded.line.mode(&place));
        match (status, patience) {
            (Status::Waiting, Patience::Left) => {
                let replaced = guarded.line.set_waker(&place, waker);
                drop(mutex);
                drop(replaced);
                Checked::Waiting(WaitingPlace(place))
            }
            (Status::Waiting, Patience::Over) => {
                let refusal = self.refusal(guarded.line.position(&place), &guarded.line);
                guarded.waits.of(mode).timed_out += 1;
                // Together with the count: a wait ends in one way.
                let own = self.leave_locked(guarded, place);
                drop(mutex);
                // Before the wakers: to drop them is foreign code.
                self.grant_slow();
                drop((own, waker));
                Checked::TimedOut(refusal)
            }
            (Status::Granted { count }, _) => {
                guarded.waits.of(mode).granted += 1;
                guarded.waits.add(clock::ticks_since(guarded.line.began(&place)));
                guarded.line.remove(place);
                Checked::Acquired(count)
            }
            (Status::Cancelled, _) => {
                guarded.line.remove(place);
                Checked::Cancelled
            }
        }
    }

    /// Gives a place up, which counts as cancelled.
    ///
    /// A grant that it holds goes to the next in line.
    pub(crate) fn leave(&self, WaitingPlace(place): WaitingPlace) {
        let mut mutex = self.guarded.get().expect(HAS_LINE).lock();
        let guarded = &mut *mutex;
        if guarded.line.status(&place) != Status::Cancelled {
            let mode = guarded.line.mode(&place);
            guarded.waits.of(mode).cancelled += 1;
        }
        let waker = self.leave_locked(guarded, place);
        drop(mutex);
        // The first in line may fit beside the holders now: it waited for the one that left.
        self.grant_slow();
        drop(waker);
    }

    /// Takes a place out of the line, and gives back the grant that it holds.
    ///
    /// Returns the waker to drop. Caller holds: the mutex; serves the line without it.
    fn leave_locked(&self, guarded: &mut Guarded, place: Place) -> Option<Waker> {
        let (status, mode) = (guarded.line.status(&place), guarded.line.mode(&place));
        if status != Status::Cancelled {
            guarded.waits.add(clock::ticks_since(guarded.line.began(&place)));
        }
        let waker = guarded.line.remove(place);
        match status {
            Status::Waiting if guarded.line.waiting() == 0 => self.words.end_line(),
            Status::Granted { .. } => {
                guarded.abandoned += 1;
                // The caller serves the line anyway.
                let _ = self.words.release(mode, 0);
            }
            Status::Waiting | Status::Cancelled => {}
        }
        waker
    }

    /// Ends a hold that took this many ticks, and hands the lock to the first in line.
    #[inline]
    pub(crate) fn release(&self, mode: Mode, ticks: u64) {
        match self.words.release(mode, ticks) {
            Then::Nothing => {}
            Then::ServeLine => self.grant_slow(),
        }
    }

    /// Turns an exclusive hold into a shared one.
    ///
    /// The readers at the head of the line join.
    pub(crate) fn downgrade(&self) {
        match self.words.downgrade() {
            Then::Nothing => {}
            Then::ServeLine => self.grant_slow(),
        }
    }

    /// Ends every wait in line. Returns how many there were.
    pub(crate) fn cancel_line(&self) -> u32 {
        let Some(guarded) = self.guarded.get() else { return 0 };
        let mut ended = 0;
        loop {
            let mut wakes = Wakes::new();
            let mut mutex = guarded.lock();
            let guarded = &mut *mutex;
            while !wakes.is_full() {
                let (Some(mode), Some(began)) = (guarded.line.first(), guarded.line.first_began()) else { break };
                let waker = guarded.line.cancel_first().expect("the line has a first");
                guarded.waits.of(mode).cancelled += 1;
                guarded.waits.add(clock::ticks_since(began));
                ended += 1;
                wakes.push(waker);
            }
            let is_done = !wakes.is_full();
            if guarded.line.waiting() == 0 {
                self.words.end_line();
            }
            drop(mutex);
            wakes.wake();
            if is_done {
                return ended;
            }
        }
    }

    /// Hands the lock to as many at the head of the line as fit, and wakes them.
    #[cold]
    #[inline(never)]
    fn grant_slow(&self) {
        // The bit that led here was set after the line was made.
        let guarded = self.guarded.get().expect(HAS_LINE);
        loop {
            let mut wakes = Wakes::new();
            self.grant_some(&mut guarded.lock().line, &mut wakes);
            let is_done = !wakes.is_full();
            wakes.wake();
            if is_done {
                return;
            }
        }
    }

    /// Caller holds: the mutex.
    fn grant_some(&self, line: &mut Line, wakes: &mut Wakes) {
        while let (Some(mode), false) = (line.first(), wakes.is_full()) {
            // What this thread sees of earlier holders goes on to the waiter through the mutex.
            if !self.words.has_room(mode) {
                return;
            }
            let after = if line.waiting() == 1 { LineAfter::Ends } else { LineAfter::Stays };
            let count = self.words.grant(mode, after);
            wakes.push(line.grant_first(count).expect("the line has a first"));
        }
    }

    fn refusal(&self, position: u32, line: &Line) -> Refusal {
        let sums = self.words.sums();
        let (waiting, unpolled) = (line.waiting(), u64::from(line.granted()));
        Refusal { position, waiting, holders: sums.holders, unpolled, is_written: sums.is_written }
    }

    /// Reads all counts in one moment.
    pub(crate) fn counts(&self, look: Look) -> Counts {
        let Some(guarded) = self.guarded.get() else {
            let sums = self.words.sums();
            // Without a line there were no grants, and no waits.
            if self.guarded.get().is_none() {
                let Sums { acquisitions, holders, ticks, .. } = sums;
                return Counts { acquisitions, holding: holders, held: ticks, ..Counts::default() };
            }
            return self.counts(look);
        };
        let mut guarded = guarded.lock();
        let counts = self.counts_locked(&guarded);
        match look {
            Look::Only => {}
            Look::Reset => guarded.waits.longest = 0,
            Look::Turn => guarded.waits.recent = 0,
        }
        counts
    }

    fn counts_locked(&self, guarded: &Guarded) -> Counts {
        let (sums, granted) = (self.words.sums(), u64::from(guarded.line.granted()));
        Counts {
            acquisitions: sums.acquisitions - granted - guarded.abandoned,
            holding: sums.holders - granted,
            held: sums.ticks,
            waiting: guarded.line.waiting(),
            oldest_wait: guarded.line.first_began().map_or(0, clock::ticks_since),
            waits: guarded.waits,
        }
    }

    fn guarded(&self) -> &Mutex<Guarded> {
        self.guarded.get_or_init(|| Mutex::new(Guarded::default()))
    }

    /// Returns whether nothing holds, waits or owns a grant.
    #[cfg(all(test, loom))]
    pub(crate) fn is_idle(&self) -> bool {
        let is_empty = |line: &Line| line.waiting() == 0 && line.granted() == 0;
        self.words.is_idle() && self.guarded.get().is_none_or(|guarded| is_empty(&guarded.lock().line))
    }
}
