//! Numbers that look random and are the same in every run.

/// A xorshift generator: the workload must not wait for a better one.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u32) -> Self {
        let mut random = Self((u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // The first numbers of neighbouring seeds resemble each other.
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // The product of two 32-bit numbers, of which the upper half is below the bound.
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}
