//! The lock without a value: a word for the uncontended path, and a fair line behind a mutex for the rest.
//!
//! A request first tries one swap of the word. If that is refused, it joins the line under the mutex and sets `WAITERS`,
//! which sends every later request to the line as well. So the order is first come, first served; neighbouring readers
//! hold together; a writer waits for the readers before it and for none that come after it.
//!
//! A release that leaves a lock with `WAITERS` set takes the mutex and hands the lock to the first in line, without
//! letting it go in between. The waiter finds the grant in its slot. A waiter that gives up takes its slot out under the
//! same mutex: it was granted by then and passes the grant on, or it never will be. So a grant is never lost and never
//! leaks, whatever is dropped when.
//!
//! Wakers run after the mutex is released.

use super::line::{Line, Place, Status};
use super::waits::Waits;
use super::wakes::Wakes;
use super::word::{
    Halves, Mode, ONE_ACQUISITION, ONE_READER, READERS, WAITERS, WRITER, acquisitions, holders, readers,
};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

#[derive(Debug)]
pub(crate) struct RawLock {
    word: AtomicU64,
    halves: Halves,
    /// Made by the first request that does not get the lock on its first try.
    ///
    /// Most locks never need it.
    guarded: Mutex<Option<Box<Guarded>>>,
}

/// What the mutex protects.
#[derive(Debug)]
struct Guarded {
    line: Line,
    waits: Waits,
}

impl Guarded {
    fn new() -> Box<Self> {
        Box::new(Self { line: Line::new(), waits: Waits::default() })
    }
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
    pub(crate) waiting: u32,
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
pub(crate) struct WaitingPlace {
    place: Place,
    mode: Mode,
}

/// Whether the time of a waiter is over, and after how many ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    Left,
    Over { waited: u64 },
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
    pub(crate) readers: u64,
    pub(crate) is_written: bool,
}

impl RawLock {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0), halves: Halves::default(), guarded: Mutex::new(None) }
    }

    /// Acquires the lock if it is free and has no line.
    ///
    /// Returns the count of acquisitions.
    #[inline]
    pub(crate) fn try_acquire(&self, mode: Mode) -> Option<u64> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & WAITERS != 0 || !mode.fits(word) {
                return None;
            }
            let acquired = word.wrapping_add(ONE_ACQUISITION + mode.hold());
            // Pairs with: the release in `release` and `downgrade`, so that earlier holders' work is seen.
            match self.word.compare_exchange_weak(word, acquired, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => {
                    if Halves::is_passed(word, acquired) {
                        self.halves.pass();
                    }
                    return Some(acquisitions(acquired));
                }
                Err(present) => word = present,
            }
        }
    }

    /// Joins the line, unless the lock can be acquired after all.
    pub(crate) fn join(&self, mode: Mode, waker: Waker) -> Joined {
        let mut guarded = self.guarded.lock();
        // Relaxed: `WAITERS` changes under the mutex only.
        let mut word = self.word.load(Ordering::Relaxed);
        while word & WAITERS == 0 {
            if mode.fits(word) {
                if let Some(count) = self.try_acquire(mode) {
                    drop(guarded);
                    drop(waker);
                    return Joined::Acquired(count);
                }
                word = self.word.load(Ordering::Relaxed);
                continue;
            }
            // Succeeds only while a holder is in the way, whose release then sees the bit and takes the mutex.
            match self.word.compare_exchange_weak(word, word | WAITERS, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(present) => word = present,
            }
        }
        let line = &mut guarded.get_or_insert_with(Guarded::new).line;
        Joined::Waiting(WaitingPlace { place: line.push(mode, waker), mode })
    }

    /// Refuses a request that must not wait at all, and counts it as timed out.
    pub(crate) fn refuse(&self, mode: Mode) -> Refusal {
        let mut guarded = self.guarded.lock();
        let guarded = guarded.get_or_insert_with(Guarded::new);
        guarded.waits.of(mode).timed_out += 1;
        let waiting = guarded.line.waiting();
        self.refusal(waiting + 1, waiting)
    }

    /// Looks at a place.
    ///
    /// Collects a grant, keeps waiting with this waker, or gives up when the time is over.
    ///
    /// `waited` is what a grant's wait took until now.
    pub(crate) fn check(&self, at: WaitingPlace, waker: Waker, patience: Patience, waited: u64) -> Checked {
        let mut mutex = self.guarded.lock();
        let guarded = mutex.as_deref_mut().expect(HAS_LINE);
        match (guarded.line.status(&at.place), patience) {
            (Status::Waiting, Patience::Left) => {
                let replaced = guarded.line.set_waker(&at.place, waker);
                drop(mutex);
                drop(replaced);
                Checked::Waiting(at)
            }
            (Status::Waiting, Patience::Over { waited }) => {
                let refusal = self.refusal(guarded.line.position(&at.place), guarded.line.waiting());
                guarded.waits.of(at.mode).timed_out += 1;
                guarded.waits.add(waited);
                drop(mutex);
                self.leave(at);
                Checked::TimedOut(refusal)
            }
            (Status::Granted, _) => {
                guarded.line.remove(at.place);
                guarded.waits.of(at.mode).granted += 1;
                guarded.waits.add(waited);
                // Under the mutex, so that the uncollected grants and the word are read in one moment.
                let word = self.word.fetch_add(ONE_ACQUISITION, Ordering::Relaxed);
                drop(mutex);
                let counted = word.wrapping_add(ONE_ACQUISITION);
                if Halves::is_passed(word, counted) {
                    self.halves.pass();
                }
                Checked::Acquired(acquisitions(counted))
            }
            (Status::Cancelled, _) => {
                guarded.line.remove(at.place);
                Checked::Cancelled
            }
        }
    }

    /// Gives a place up. A grant that it holds goes to the next in line.
    pub(crate) fn leave(&self, at: WaitingPlace) {
        let mut mutex = self.guarded.lock();
        let line = &mut mutex.as_deref_mut().expect(HAS_LINE).line;
        let status = line.status(&at.place);
        let waker = line.remove(at.place);
        match status {
            Status::Waiting if line.waiting() == 0 => {
                self.word.fetch_and(!WAITERS, Ordering::Relaxed);
            }
            Status::Granted => {
                // Pairs with: the acquire of the next holder. This one wrote nothing, but the ones before it did.
                self.word.fetch_sub(at.mode.hold(), Ordering::Release);
            }
            Status::Waiting | Status::Cancelled => {}
        }
        drop(mutex);
        drop(waker);
        // The first in line may fit beside the holders now: it waited for the one that left.
        self.grant_slow();
    }

    /// Ends a hold, and hands the lock to the first in line.
    #[inline]
    pub(crate) fn release(&self, mode: Mode) {
        match mode {
            Mode::Shared => {
                // Pairs with: the acquire in `try_acquire` and `grant_some`.
                let word = self.word.fetch_sub(ONE_READER, Ordering::Release);
                // A full set of readers makes room for one that waits for nothing else.
                if word & WAITERS != 0 && (readers(word) == 1 || word & READERS == READERS) {
                    self.grant_slow();
                }
            }
            Mode::Exclusive => {
                let word = self.word.load(Ordering::Relaxed);
                // Pairs with: the acquire in `try_acquire`. Fails only when a line begins meanwhile.
                let is_free = word & WAITERS == 0
                    && self.word.compare_exchange(word, word & !WRITER, Ordering::Release, Ordering::Relaxed).is_ok();
                if !is_free {
                    self.release_exclusive_slow();
                }
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn release_exclusive_slow(&self) {
        // Pairs with: the acquire in `grant_some`. `WAITERS` keeps the fast path out meanwhile; if the line is empty by
        // now, the lock is free.
        self.word.fetch_sub(WRITER, Ordering::Release);
        self.grant_slow();
    }

    /// Turns an exclusive hold into a shared one.
    ///
    /// The readers at the head of the line join.
    pub(crate) fn downgrade(&self) {
        // Pairs with: the acquire of the readers that join.
        let word = self.word.fetch_add(ONE_READER - WRITER, Ordering::Release);
        if word & WAITERS != 0 {
            self.grant_slow();
        }
    }

    /// Ends every wait in line. Returns how many there were.
    pub(crate) fn cancel_line(&self) -> u32 {
        let mut ended = 0;
        loop {
            let mut wakes = Wakes::new();
            let mut mutex = self.guarded.lock();
            let Some(guarded) = mutex.as_deref_mut() else { return 0 };
            while !wakes.is_full() {
                let Some(mode) = guarded.line.first() else { break };
                let waker = guarded.line.cancel_first().expect("the line has a first");
                guarded.waits.of(mode).cancelled += 1;
                ended += 1;
                wakes.push(waker);
            }
            let is_done = !wakes.is_full();
            if guarded.line.waiting() == 0 {
                self.word.fetch_and(!WAITERS, Ordering::Relaxed);
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
        loop {
            let mut wakes = Wakes::new();
            if let Some(guarded) = self.guarded.lock().as_deref_mut() {
                self.grant_some(&mut guarded.line, &mut wakes);
            }
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
            let mut word = self.word.load(Ordering::Relaxed);
            loop {
                if !mode.fits(word) {
                    return;
                }
                let granted = (word + mode.hold()) & if line.waiting() == 1 { !WAITERS } else { !0 };
                // Pairs with: the release of every holder before, through the chain of swaps. The mutex hands on what
                // this thread has seen to the waiter that collects the grant.
                match self.word.compare_exchange_weak(word, granted, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(present) => word = present,
                }
            }
            wakes.push(line.grant_first().expect("the line has a first"));
        }
    }

    fn refusal(&self, position: u32, waiting: u32) -> Refusal {
        let word = self.word.load(Ordering::Relaxed);
        Refusal { position, waiting, readers: readers(word), is_written: word & WRITER != 0 }
    }

    /// Reads all counts in one moment.
    pub(crate) fn counts(&self, look: Look) -> Counts {
        let mut guarded = self.guarded.lock();
        let counts = self.counts_locked(guarded.as_deref());
        if let Some(guarded) = guarded.as_deref_mut() {
            match look {
                Look::Only => {}
                Look::Reset => guarded.waits.longest = 0,
                Look::Turn => guarded.waits.recent = 0,
            }
        }
        counts
    }

    fn counts_locked(&self, guarded: Option<&Guarded>) -> Counts {
        // Pairs with: the releases, so that what holders noted before is seen along with the end of their holds.
        let word = self.word.load(Ordering::Acquire);
        let granted = guarded.map_or(0, |guarded| guarded.line.granted());
        Counts {
            acquisitions: self.halves.total(word),
            holding: holders(word).saturating_sub(u64::from(granted)),
            waiting: guarded.map_or(0, |guarded| guarded.line.waiting()),
            waits: guarded.map_or_else(Waits::default, |guarded| guarded.waits),
        }
    }

    /// Whether nothing holds, waits or owns a grant.
    #[cfg(all(test, loom))]
    pub(crate) fn is_idle(&self) -> bool {
        let guarded = self.guarded.lock();
        let word = self.word.load(Ordering::Acquire);
        let is_line_empty =
            guarded.as_deref().is_none_or(|guarded| guarded.line.waiting() == 0 && guarded.line.granted() == 0);
        word & (WRITER | WAITERS | READERS) == 0 && is_line_empty
    }
}
