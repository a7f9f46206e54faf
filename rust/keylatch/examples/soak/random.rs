//! Numbers that look random and are the same for the same seed.

use keylatch::Mode;
use std::hash::{BuildHasher, RandomState};

/// Returns a seed that is not known in advance.
pub(crate) fn unpredictable() -> u64 {
    RandomState::new().hash_one(0)
}

/// splitmix64.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // The product of two 32-bit numbers, of which the upper half is below the bound.
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    pub(crate) fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn mode(&mut self) -> Mode {
        if self.one_in(3) { Mode::Exclusive } else { Mode::Shared }
    }
}
