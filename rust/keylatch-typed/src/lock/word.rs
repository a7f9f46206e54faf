//! The word of a lock: who holds it, whether a line exists, and how often it was acquired.
//!
//! ```text
//!   63 .......... 23 | 22 .......... 2 |    1    |   0
//!  +-----------------+-----------------+---------+--------+
//!  |  acquisitions   |     readers     | WAITERS | WRITER |
//!  +-----------------+-----------------+---------+--------+
//! ```
//!
//! | bits | who changes them, under what |
//! |---|---|
//! | `WRITER` | set by the fast path while no other bit below 23 is set, or by a grant under the line's mutex; cleared by the holder's release |
//! | `WAITERS` | set and cleared under the line's mutex only; set exactly while the line has a waiter |
//! | readers | added by the fast path while `WRITER` and `WAITERS` are clear, or by a grant under the mutex; taken away by each reader's release, without the mutex |
//! | acquisitions | added with the swap of the fast path, or when a granted waiter collects its grant |
//!
//! | `WRITER` | readers | `WAITERS` | state, and what prevents a lost wake-up |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | 0 | n | 0 | n readers; the next writer sets `WAITERS` by a swap that fails if a reader leaves meanwhile |
//! | 1 | 0 | 0 | one writer |
//! | 0 | n | 1 | n readers and a line: newcomers queue; the reader that leaves last sees the bit and grants |
//! | 1 | 0 | 1 | one writer and a line: its release sees the bit, takes the mutex and grants |
//! | 0 | 0 | 1 | a release is on its way to the mutex: nothing enters by the fast path, and the release grants |
//! | 1 | n | any | never |
//!
//! The count of acquisitions takes its top bit along with every half of its range; `Halves` counts these, so that the
//! total is exact however long the process runs.

use crate::sync::atomic::{AtomicU32, Ordering};

pub(super) const WRITER: u64 = 1;
pub(super) const WAITERS: u64 = 1 << 1;
pub(super) const ONE_READER: u64 = 1 << 2;
const READER_BITS: u32 = 21;
pub(super) const READERS: u64 = ((1 << READER_BITS) - 1) << 2;
const ACQUISITION_SHIFT: u32 = READER_BITS + 2;
pub(super) const ONE_ACQUISITION: u64 = 1 << ACQUISITION_SHIFT;
const HALF_BITS: u32 = u64::BITS - ACQUISITION_SHIFT - 1;

const _: () = assert!(WRITER & WAITERS == 0 && READERS & (WRITER | WAITERS) == 0);
const _: () = assert!(READERS + ONE_READER == ONE_ACQUISITION, "the fields touch and do not overlap");

/// Shared by readers, or exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl Mode {
    /// What a hold of this mode adds to the word.
    pub(super) const fn hold(self) -> u64 {
        match self {
            Self::Shared => ONE_READER,
            Self::Exclusive => WRITER,
        }
    }

    /// Whether the holders in `word` leave room for this mode, whatever the line.
    pub(super) const fn fits(self, word: u64) -> bool {
        match self {
            Self::Shared => word & WRITER == 0 && word & READERS != READERS,
            Self::Exclusive => word & (WRITER | READERS) == 0,
        }
    }
}

/// The number of readers.
pub(super) const fn readers(word: u64) -> u64 {
    (word & READERS) / ONE_READER
}

/// The number of holders of either mode.
pub(super) const fn holders(word: u64) -> u64 {
    readers(word) + (word & WRITER)
}

/// The acquisitions that the word itself counts.
#[inline]
pub(super) const fn acquisitions(word: u64) -> u64 {
    word >> ACQUISITION_SHIFT
}

/// How often the word's count of acquisitions passed half of its range.
#[derive(Debug, Default)]
pub(super) struct Halves(AtomicU32);

impl Halves {
    pub(super) const fn is_passed(before: u64, after: u64) -> bool {
        (before ^ after) >> (u64::BITS - 1) != 0
    }

    #[cold]
    pub(super) fn pass(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The acquisitions since the lock was made.
    ///
    /// A thread between its swap and `pass` is accounted for: the top bit of the word is the parity of the halves.
    pub(super) fn total(&self, word: u64) -> u64 {
        let passed = u64::from(self.0.load(Ordering::Relaxed));
        let top = word >> (u64::BITS - 1);
        let halves = passed + ((passed % 2) ^ top);
        (halves << HALF_BITS) + (acquisitions(word) & ((1 << HALF_BITS) - 1))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn total_passes_the_halves_exactly() {
        let half = 1_u64 << HALF_BITS;
        let halves = Halves::default();
        let mut word = READERS | WAITERS;
        let mut expected = 0;
        for _ in 0..5 {
            // From just above one half to just below the next.
            word = word.wrapping_add((half - 2) * ONE_ACQUISITION);
            expected += half - 2;
            for _ in 0..2 {
                let after = word.wrapping_add(ONE_ACQUISITION);
                expected += 1;
                assert_eq!(halves.total(after), expected, "also before the half is counted");
                if Halves::is_passed(word, after) {
                    halves.pass();
                }
                word = after;
                assert_eq!(halves.total(word), expected);
            }
            assert_eq!(word & (ONE_ACQUISITION - 1), READERS | WAITERS);
        }
    }

    #[test]
    fn mode_fits_beside_holders() {
        let table = [
            (0, true, true),
            (ONE_READER, true, false),
            (READERS - ONE_READER, true, false),
            (READERS, false, false),
            (WRITER, false, false),
            (ONE_ACQUISITION, true, true),
        ];
        for (word, shared, exclusive) in table {
            assert_eq!((Mode::Shared.fits(word), Mode::Exclusive.fits(word)), (shared, exclusive), "{word:#x}");
        }
        assert_eq!((holders(READERS | ONE_ACQUISITION), holders(WRITER | WAITERS)), (2_097_151, 1));
    }
}
