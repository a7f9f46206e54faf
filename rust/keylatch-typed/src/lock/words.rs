//! The two words of a lock: what was acquired, and what was released.
//!
//! ```text
//!   acquired                                released
//!   63 ......... 2 |    1    |   0          63 ........ 23 | 22 ....... 1 |  0
//!  +---------------+---------+--------+    +--------------+--------------+------+
//!  | acquisitions  | WAITERS | WRITER |    |  hold ticks  |   releases   | LINE |
//!  +---------------+---------+--------+    +--------------+--------------+------+
//! ```
//!
//! Holders are acquisitions without a release. A request swaps `acquired`, and a reader leaves by one addition to
//! `released`, which notes how long it held as well. So a pair takes two read-modify-writes, statistics included.
//!
//! | bits | who changes them, under what |
//! |---|---|
//! | `WRITER` | set by the fast path while nothing holds and no line exists, or by a grant under the line's mutex; cleared by the holder's release |
//! | `WAITERS` | set and cleared under the line's mutex only; set while the line has a waiter |
//! | acquisitions | added with the swap of the fast path, or by a grant under the mutex |
//! | `LINE` | set and cleared under the mutex only, while `WAITERS` is set and `WRITER` is not |
//! | releases, ticks | added by a reader that leaves; stored by a writer before it clears `WRITER`, because nothing else writes the word then |
//!
//! | `WRITER` | holders | `WAITERS` | `LINE` | state, and what prevents a lost wake-up |
//! |---|---|---|---|---|
//! | 0 | 0 | 0 | 0 | free |
//! | 0 | n | 0 | 0 | n readers |
//! | 0 | n | 1 | 0 | n readers, and a request or a grant that is about to set `LINE`; it looks at the holders again then |
//! | 0 | n | 1 | 1 | n readers and a line: the reader that leaves last sees `LINE` and serves it |
//! | 1 | 1 | 0 | 0 | one writer |
//! | 1 | 1 | 1 | 0 | one writer and a line: its release sees `WAITERS`, takes the mutex and serves the line |
//! | 1 | 0 | any | 0 | a writer that has noted its hold and releases next |
//! | 0 | 0 | 1 | any | a release is on its way to the mutex: nothing enters by the fast path, and the release serves the line |
//! | 1 | any | any | 1 | never |
//!
//! The fields of `released` carry into each other and are read as one number, releases + ticks * 2^22: the releases are
//! known from the acquisitions and the holders, and the ticks are the rest. Its top bit passes along with every half of the
//! word's range, and these are counted, so the sum is exact until it has 2^64 ticks. A third word has what does not fit:
//!
//! ```text
//!   beyond, added to by holders: when they pass a half, and before they release
//!   63 ............................. 24 | 23 ................. 0
//!  +------------------------------------+-----------------------+
//!  | ticks of long holds, without what  | halves that `released`|
//!  | is less than 2^24 of each          | passed                |
//!  +------------------------------------+-----------------------+
//! ```

use crate::sync::atomic::{AtomicU64, Ordering};

const WRITER: u64 = 1;
const WAITERS: u64 = 1 << 1;
const ONE_ACQUISITION: u64 = 1 << 2;

const LINE: u64 = 1;
const ONE_RELEASE: u64 = 1 << 1;
/// Few in models, where a set of readers gets full.
const RELEASE_BITS: u32 = if cfg!(loom) { 3 } else { 22 };
const RELEASES: u64 = (1 << RELEASE_BITS) - 1;
const ONE_TICK: u64 = ONE_RELEASE << RELEASE_BITS;

/// More readers than this wait for one of them to leave.
const MOST_HOLDERS: u64 = RELEASES >> 1;
/// A hold of this many ticks or more, some milliseconds, is long.
///
/// The multiples of it are added to `beyond`. So the word cannot pass two halves while one that passed is not counted yet.
const LONG: u64 = 1 << 24;
/// The bits of `beyond` that count halves; the others are ticks of long holds.
const HALVES: u64 = LONG - 1;

/// Shared by readers, or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl Mode {
    /// Whether these holders leave room for this mode; none of them is a writer.
    const fn fits(self, holders: u64) -> bool {
        match self {
            Self::Shared => holders < MOST_HOLDERS,
            Self::Exclusive => holders == 0,
        }
    }
}

/// What a release leaves to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Then {
    Nothing,
    ServeLine,
}

/// What happens to the line with a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineAfter {
    Stays,
    /// The grant is for the only waiter.
    Ends,
}

#[derive(Debug, Default)]
pub(super) struct Words {
    acquired: AtomicU64,
    released: AtomicU64,
    /// What does not fit into `released`.
    beyond: AtomicU64,
}

/// Both words at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) acquisitions: u64,
    /// The acquisitions without a release.
    pub(super) holders: u64,
    pub(super) is_written: bool,
    /// Ticks of the holds that are over.
    pub(super) ticks: u64,
}

impl Words {
    /// Acquires the lock if it is free for this mode and has no line.
    ///
    /// Returns the count of acquisitions.
    #[inline]
    pub(super) fn try_acquire(&self, mode: Mode) -> Option<u64> {
        // Pairs with: the swap below by the requests before. `released` is then at least as new as what they saw, so the
        // holders are never taken for a whole turn of the releases fewer than they are.
        let mut acquired = self.acquired.load(Ordering::Acquire);
        loop {
            if acquired & (WAITERS | WRITER) != 0 {
                return None;
            }
            // Pairs with: the release of readers, so that a writer comes after their reads.
            let present = if mode.fits(holders(acquired, self.released.load(Ordering::Acquire))) {
                let after = acquired + ONE_ACQUISITION + mode.writer();
                // Succeeds only if nothing entered meanwhile, so there are at most the holders that were counted.
                // Pairs with: the release of a writer, and itself.
                match self.acquired.compare_exchange_weak(acquired, after, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some(after / ONE_ACQUISITION),
                    Err(present) => present,
                }
            } else {
                let present = self.acquired.load(Ordering::Acquire);
                if present == acquired {
                    return None;
                }
                // The words were of two moments.
                present
            };
            acquired = present;
        }
    }

    /// Ends a hold that took this many ticks.
    #[inline]
    pub(super) fn release(&self, mode: Mode, ticks: u64) -> Then {
        let ticks = if ticks < LONG { ticks } else { self.add_long(ticks) };
        let step = ONE_RELEASE + ticks * ONE_TICK;
        match mode {
            Mode::Shared => {
                // Pairs with: the loads in `try_acquire` and `has_room`. Pairs with itself, and with the setting of `LINE`:
                // the reader that leaves last sees the entries of all that left before it.
                let before = self.released.fetch_add(step, Ordering::AcqRel);
                if before & LINE | is_half_passed(before, before.wrapping_add(step)) != 0 {
                    self.released_slow(before, step)
                } else {
                    Then::Nothing
                }
            }
            Mode::Exclusive => {
                let before = self.released.load(Ordering::Relaxed);
                let after = before.wrapping_add(step);
                // Pairs with: the loads in `sums`, which then see the acquisition that ends.
                self.released.store(after, Ordering::Release);
                if is_half_passed(before, after) != 0 {
                    self.pass_half();
                }
                // Pairs with: the swap in `try_acquire` and the load in `has_room`. Pairs with: `begin_line`.
                match self.acquired.fetch_sub(WRITER, Ordering::AcqRel) & WAITERS {
                    0 => Then::Nothing,
                    _ => Then::ServeLine,
                }
            }
        }
    }

    /// Looks at what a reader met that left.
    #[cold]
    #[inline(never)]
    fn released_slow(&self, before: u64, step: u64) -> Then {
        if is_half_passed(before, before.wrapping_add(step)) != 0 {
            self.pass_half();
        }
        if before & LINE == 0 {
            return Then::Nothing;
        }
        // At least as new as the entries of all that left before. If it is newer, holders came in by a grant, and the last
        // of them serves the line.
        match holders(self.acquired.load(Ordering::Relaxed), before) {
            // A full set of readers makes room for one that waits for nothing else.
            1 | MOST_HOLDERS => Then::ServeLine,
            _ => Then::Nothing,
        }
    }

    /// Adds the greater part of a long hold to the sum, before its release is counted.
    ///
    /// A sum can so have the ticks of a long hold a moment before it has the release. The other way round it could miss
    /// them for good: `sums` takes a release that it sees for a hold whose ticks are noted.
    /// Returns what is left for the word.
    #[cold]
    fn add_long(&self, ticks: u64) -> u64 {
        self.beyond.fetch_add(ticks & !HALVES, Ordering::Relaxed);
        ticks & HALVES
    }

    #[cold]
    fn pass_half(&self) {
        // Pairs with: the load in `sums`.
        self.beyond.fetch_add(1, Ordering::Release);
    }

    /// Turns an exclusive hold into a shared one.
    pub(super) fn downgrade(&self) -> Then {
        // Pairs with: the acquire of the readers that join. Pairs with: `begin_line`.
        match self.acquired.fetch_sub(WRITER, Ordering::AcqRel) & WAITERS {
            0 => Then::Nothing,
            _ => Then::ServeLine,
        }
    }

    /// Returns whether the lock has a line.
    ///
    /// Exact for a caller that holds the mutex. For others a request that is about to wait looks like a line, too.
    pub(super) fn has_line(&self) -> bool {
        self.acquired.load(Ordering::Relaxed) & WAITERS != 0
    }

    /// Closes the fast path. A writer that releases from now on serves the line.
    ///
    /// Caller holds: the mutex.
    pub(super) fn begin_line(&self) {
        // Pairs with: the release of a writer, which then finds the line.
        self.acquired.fetch_or(WAITERS, Ordering::Release);
    }

    /// Returns whether the lock has room for the first in line.
    ///
    /// If not, one of the holders serves the line when it leaves. Caller holds: the mutex, and the line exists.
    pub(super) fn has_room(&self, mode: Mode) -> bool {
        // Pairs with: the release of a writer.
        let acquired = self.acquired.load(Ordering::Acquire);
        debug_assert!(acquired & WAITERS != 0, "the fast path is open");
        if acquired & WRITER != 0 {
            // Its release sees `WAITERS`.
            return false;
        }
        // Pairs with: the release of readers.
        let released = self.released.load(Ordering::Acquire);
        // Nothing enters meanwhile. A reader that left before the bit was set is seen here, and any other sees the bit,
        // and with it every entry until now.
        mode.fits(holders(acquired, released))
            || mode.fits(holders(acquired, self.released.fetch_or(LINE, Ordering::AcqRel)))
    }

    /// Enters for the first in line, after `has_room` said so.
    ///
    /// Returns the count of acquisitions. Caller holds: the mutex.
    pub(super) fn grant(&self, mode: Mode, after: LineAfter) -> u64 {
        if mode == Mode::Exclusive || after == LineAfter::Ends {
            self.clear_line();
        }
        let ends = if after == LineAfter::Ends { WAITERS } else { 0 };
        let entry = ONE_ACQUISITION + mode.writer() - ends;
        // Pairs with: the load in `try_acquire`, as the swap there.
        self.acquired.fetch_add(entry, Ordering::AcqRel).wrapping_add(entry) / ONE_ACQUISITION
    }

    /// Opens the fast path, because the last waiter has left.
    ///
    /// Caller holds: the mutex.
    pub(super) fn end_line(&self) {
        // First, so that no writer comes in that would store the bit again.
        self.clear_line();
        // Pairs with: the load and the swap in `try_acquire`. A writer that comes in then sees the bit cleared.
        self.acquired.fetch_and(!WAITERS, Ordering::Release);
    }

    fn clear_line(&self) {
        // Relaxed: the bit changes under the mutex only.
        if self.released.load(Ordering::Relaxed) & LINE != 0 {
            self.released.fetch_and(!LINE, Ordering::Relaxed);
        }
    }

    /// Reads all sums at one moment.
    pub(super) fn sums(&self) -> Sums {
        loop {
            // Pairs with: the swap in `try_acquire`. Only the holds of this moment pass a half before the look is over.
            let before = self.acquired.load(Ordering::Acquire);
            // Before `released`: a half that passes in between looks like one that is not counted yet.
            let halves = self.beyond.load(Ordering::Acquire) & HALVES;
            // Pairs with: the releases, whose acquisitions are seen below, and what their holders noted before.
            let released = self.released.load(Ordering::Acquire);
            let acquired = self.acquired.load(Ordering::Relaxed);
            if acquired == before {
                let (acquisitions, holders) = (acquired / ONE_ACQUISITION, holders(acquired, released));
                // After `released`: the long part of every hold that is counted there.
                let long = self.beyond.load(Ordering::Relaxed) & !HALVES;
                let ticks = ticks(halves, released, acquisitions - holders) + long;
                return Sums { acquisitions, holders, is_written: acquired & WRITER != 0, ticks };
            }
            std::hint::spin_loop();
        }
    }

    /// Returns whether nothing holds and no line exists.
    #[cfg(all(test, loom))]
    pub(super) fn is_idle(&self) -> bool {
        let (acquired, released) = (self.acquired.load(Ordering::Acquire), self.released.load(Ordering::Acquire));
        acquired & (WRITER | WAITERS) == 0 && released & LINE == 0 && holders(acquired, released) == 0
    }
}

impl Mode {
    const fn writer(self) -> u64 {
        match self {
            Self::Shared => 0,
            Self::Exclusive => WRITER,
        }
    }
}

#[inline]
const fn holders(acquired: u64, released: u64) -> u64 {
    (acquired / ONE_ACQUISITION).wrapping_sub(released / ONE_RELEASE) & RELEASES
}

/// Not 0 if `released` passed half of its range.
#[inline]
const fn is_half_passed(before: u64, after: u64) -> u64 {
    (before ^ after) >> (u64::BITS - 1)
}

/// Returns the ticks in `released`, since the lock was made.
///
/// A thread between its addition and `pass_half` is accounted for: the top bit of the word is the parity of the halves.
fn ticks(halves: u64, released: u64, releases: u64) -> u64 {
    let top = released >> (u64::BITS - 1);
    let halves = halves + ((halves % 2) ^ top);
    let whole = (u128::from(halves) << (u64::BITS - 1)) + u128::from(released & (u64::MAX >> 1));
    ((whole / u128::from(ONE_RELEASE) - u128::from(releases)) >> RELEASE_BITS) as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Words that have seen this many holds already, each of one tick.
    fn used(holds: u64) -> Words {
        let released = holds.wrapping_mul(ONE_RELEASE + ONE_TICK);
        let whole = u128::from(holds) * u128::from(ONE_RELEASE + ONE_TICK);
        Words {
            acquired: AtomicU64::new(holds * ONE_ACQUISITION),
            released: AtomicU64::new(released),
            beyond: AtomicU64::new((whole >> (u64::BITS - 1)) as u64),
        }
    }

    #[test]
    fn sums_are_exact_across_carries_and_halves() {
        // From just before a turn of the releases, a half of the word, and a turn of the word.
        for (start, halves) in [(0, 0), (RELEASES - 7, 0), ((1 << 40) - (1 << 18), 0), ((1 << 41) - (1 << 19), 1)] {
            let words = used(start);
            assert_eq!(words.beyond.load(Ordering::Relaxed), halves, "the next hold passes it");
            let (mut acquisitions, mut ticks) = (start, start);
            for turn in 0..300_000_u64 {
                let (mode, hold) = match turn % 3 {
                    0 => (Mode::Exclusive, LONG - 1),
                    1 => (Mode::Shared, LONG - 1 - turn),
                    _ => (Mode::Shared, turn * 100),
                };
                acquisitions += 1;
                assert_eq!(words.try_acquire(mode), Some(acquisitions));
                let is_written = mode == Mode::Exclusive;
                assert_eq!(words.sums(), Sums { acquisitions, holders: 1, is_written, ticks });
                assert_eq!(words.release(mode, hold), Then::Nothing);
                ticks += hold;
                assert_eq!(words.sums(), Sums { acquisitions, holders: 0, is_written: false, ticks });
            }
        }
    }

    #[test]
    fn half_not_counted_yet_is_accounted_for() {
        let words = used((1 << 40) - (1 << 18));
        let expected = words.sums().ticks + LONG - 1;
        assert!(words.try_acquire(Mode::Shared).is_some());
        assert_eq!(words.release(Mode::Shared, LONG - 1), Then::Nothing);
        let counted = words.beyond.load(Ordering::Relaxed);
        assert_eq!((counted, words.sums().ticks), (1, expected));
        words.beyond.store(counted - 1, Ordering::Relaxed);
        assert_eq!(words.sums().ticks, expected);
    }

    #[test]
    fn long_holds_are_added() {
        let words = Words::default();
        let mut ticks = 0;
        for hold in [LONG, LONG - 1, (1 << 40) + 12_345, 1 << 60] {
            for mode in [Mode::Shared, Mode::Exclusive] {
                assert!(words.try_acquire(mode).is_some());
                assert_eq!(words.release(mode, hold), Then::Nothing);
                ticks += hold;
                assert_eq!(words.sums().ticks, ticks);
            }
        }
    }

    #[test]
    fn readers_are_bounded() {
        let words = used(RELEASES - 3);
        for _ in 0..MOST_HOLDERS {
            assert!(words.try_acquire(Mode::Shared).is_some());
        }
        assert_eq!((words.try_acquire(Mode::Shared), words.try_acquire(Mode::Exclusive)), (None, None));
        assert_eq!(words.sums().holders, MOST_HOLDERS);
        words.begin_line();
        assert!(!words.has_room(Mode::Shared));
        assert_eq!(words.release(Mode::Shared, 1), Then::ServeLine, "one that waits for room comes in");
        assert!(words.has_room(Mode::Shared));
        words.grant(Mode::Shared, LineAfter::Ends);
        for left in (0..MOST_HOLDERS).rev() {
            assert_eq!(words.release(Mode::Shared, 1), Then::Nothing);
            assert_eq!(words.sums().holders, left);
        }
        assert!(words.try_acquire(Mode::Exclusive).is_some());
    }
}
