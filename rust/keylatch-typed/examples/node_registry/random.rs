//! Numbers that look random and are the same in every run.

use std::time::Duration;

/// The 0.99 quantile of the standard normal distribution.
const Z_99: f64 = 2.326_347_9;
const MEDIAN_SECONDS: f64 = 0.020;
const P99_SECONDS: f64 = 0.400;

/// A SplitMix64 generator.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns a number from above 0 up to 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// How long a remote store takes to answer: lognormal, median 20 ms, p99 400 ms.
    pub(crate) fn look_up_time(&mut self) -> Duration {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        let sigma = (P99_SECONDS / MEDIAN_SECONDS).ln() / Z_99;
        Duration::from_secs_f64((MEDIAN_SECONDS * (sigma * normal).exp()).min(10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_up_times_have_their_median_and_p99() {
        let mut random = Random::new(1);
        let mut times: Vec<_> = (0..100_000).map(|_| random.look_up_time().as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let (median, p99) = (times[50_000], times[99_000]);
        assert!((median / MEDIAN_SECONDS - 1.0).abs() < 0.05, "{median}");
        assert!((p99 / P99_SECONDS - 1.0).abs() < 0.1, "{p99}");
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::new(7);
        let mut seen = [0; 5];
        (0..10_000).for_each(|_| seen[random.below(5) as usize] += 1);
        assert!(seen.iter().all(|count| (1800..2200).contains(count)), "{seen:?}");
    }
}
