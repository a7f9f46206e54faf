//! The unit that every time is a multiple of: one uncontended compare-and-swap that acquires and one
//! read-modify-write that releases, on a cache line that stays in the first-level cache.
//!
//! No lock can be cheaper than this without giving up the atomic acquire or the atomic release, so a ratio of 1.0
//! is the floor, and a ratio means the same on a fast machine and on a slow one.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

/// One word alone on its cache line, and on the one prefetched with it.
#[repr(align(128))]
pub(crate) struct BareWord(AtomicU64);

impl BareWord {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Takes the word from 0 to 1 and back.
    ///
    /// Answers whether it was free, so that the compare cannot be dropped.
    #[inline(always)]
    pub(crate) fn pair(&self) -> bool {
        let free = self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        black_box(());
        self.0.fetch_sub(1, Ordering::Release);
        free
    }

    /// `count` pairs in a row.
    pub(crate) fn pairs(&self, count: u64) {
        for _ in 0..count {
            black_box(black_box(self).pair());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_leaves_the_word_free() {
        let word = BareWord::new();
        word.pairs(1000);
        assert!(word.pair());
        assert_eq!(word.0.load(Ordering::Relaxed), 0);
    }
}
