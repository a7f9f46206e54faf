//! Numbers from 1, of which the lowest that is free is taken.
//!
//! Taken and given back without a mutex, so that a forked child, in which a thread that held one would be missing, can take
//! one too.

use super::atomic::{AtomicU64, Ordering};

/// A bit for each number that is taken.
#[derive(Debug)]
pub(crate) struct NumberPool<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> NumberPool<WORDS> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Takes the lowest number that is free; `None` if all are taken.
    pub(crate) fn take(&self) -> Option<u32> {
        for (position, word) in (0..).zip(&self.0) {
            let mut seen = word.load(Ordering::Relaxed);
            while seen != u64::MAX {
                let bit = seen.trailing_ones();
                // Acquire. Pairs with: the Release in `give_back`. What the one before did with what the number names is seen.
                match word.compare_exchange_weak(seen, seen | 1 << bit, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(position * u64::BITS + bit + 1),
                    Err(now) => seen = now,
                }
            }
        }
        None
    }

    pub(crate) fn give_back(&self, number: u32) {
        let (position, bit) = ((number - 1) / u64::BITS, (number - 1) % u64::BITS);
        self.0[position as usize].fetch_and(!(1 << bit), Ordering::Release);
    }
}
