//! A timeout that is learned from how long waits take.
//!
//! Every wait that ends is counted in a histogram of eight buckets for each doubling, so that what is read off it is
//! right within an eighth. Counts are halved once there are enough of them, and once they are old, so that the latest
//! thousand waits or so have the say. A thread that counts adds to a bucket; now and then one of them reads the
//! quantile off and halves what is due, while the others go on adding: it takes away what it has read and never more,
//! so that nothing that is added meanwhile is lost.
//!
//! Only who waits comes here. A request that does not wait neither counts nor asks.

use crate::config::AdaptiveTimeout;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Bits of a wait that tell buckets of one doubling apart.
const FINE_BITS: u32 = 3;
/// Buckets of one doubling.
const FINE: u64 = 1 << FINE_BITS;
/// Waits are distinguished by units of 1,024 ns.
const UNIT_BITS: u32 = 10;
const BUCKETS: usize = if cfg!(loom) { 4 } else { ((u64::BITS - UNIT_BITS - FINE_BITS + 1) as u64 * FINE) as usize };
/// What one wait adds to its bucket: room for eight halvings.
///
/// So the few longest do not vanish by rounding.
const ONE: u64 = 256;
/// Waits after which all counts are halved.
const MANY: u64 = if cfg!(loom) { 2 } else { 1024 };
/// Waits that have to be known before anything is concluded.
const ENOUGH: u64 = if cfg!(loom) { 1 } else { 32 };
/// Waits after which the quantile is read off anew.
const A_FEW: u64 = if cfg!(loom) { 1 } else { 16 };
/// Nanoseconds after which all counts are halved, however few.
const OLD: u64 = 60_000_000_000;

/// What was learned so far; see [`adaptive_timeout`].
///
/// [`adaptive_timeout`]: crate::FastObjectLockManager::adaptive_timeout
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveState {
    /// How long a request waits now that names no timeout.
    pub timeout: Duration,
    /// The wait that the given share of the latest waits stayed below.
    ///
    /// `None` before 32 of them were observed.
    pub quantile: Option<Duration>,
    /// Waits that were learned from, since the manager was made.
    pub samples: u64,
    /// Those of them that ended because their time was over.
    ///
    /// Such a wait counts for twice as long as it took; unless even that is less than the present quantile, of which it
    /// says nothing then.
    pub timeouts: u64,
    /// The shortest that the timeout may be.
    pub floor: Duration,
    /// The longest.
    pub ceiling: Duration,
    /// How often the floor replaced a shorter learned timeout.
    pub times_at_floor: u64,
    /// How often one was learned that is longer than the ceiling.
    pub times_at_ceiling: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Adaptive {
    policy: AdaptiveTimeout,
    buckets: Box<[AtomicU64]>,
    samples: AtomicU64,
    timeouts: AtomicU64,
    /// A thread reads the quantile off. What follows is written by that one alone.
    busy: AtomicBool,
    halved_at: AtomicU64,
    /// Nanoseconds; 0 as long as nothing was learned.
    quantile: AtomicU64,
    timeout: AtomicU64,
    times_at_floor: AtomicU64,
    times_at_ceiling: AtomicU64,
}

impl Adaptive {
    /// Until something is learned `at_first` serves, within the policy's bounds.
    ///
    /// Without it the ceiling serves.
    pub(crate) fn new(policy: AdaptiveTimeout, at_first: Option<Duration>) -> Self {
        let at_first = at_first.unwrap_or(policy.ceiling).clamp(policy.floor, policy.ceiling);
        Self {
            policy,
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            samples: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            halved_at: AtomicU64::new(0),
            quantile: AtomicU64::new(0),
            timeout: AtomicU64::new(nanos(at_first)),
            times_at_floor: AtomicU64::new(0),
            times_at_ceiling: AtomicU64::new(0),
        }
    }

    /// Returns what serves as the timeout now.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_nanos(self.timeout.load(Ordering::Relaxed))
    }

    /// A request got its lock after waiting for this many nanoseconds.
    pub(crate) fn observe(&self, waited: u64, now: u64) {
        self.buckets[bucket_of(waited)].fetch_add(ONE, Ordering::Relaxed);
        let samples = self.samples.fetch_add(1, Ordering::Relaxed) + 1;
        if samples >= ENOUGH && samples.is_multiple_of(A_FEW) {
            self.refresh(now, Why::Observed);
        }
    }

    /// A request gave up after this many nanoseconds.
    ///
    /// It would have waited for longer, so it counts for more, or a timeout that is too short would never be seen to
    /// be.
    pub(crate) fn observe_timeout(&self, waited: u64, now: u64) {
        let counts_for = waited.saturating_mul(2);
        if counts_for >= self.quantile.load(Ordering::Relaxed) {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
            self.observe(counts_for, now);
        }
    }

    /// Returns what was learned so far.
    pub(crate) fn state(&self, now: u64) -> AdaptiveState {
        self.refresh(now, Why::Looked);
        let quantile = self.quantile.load(Ordering::Relaxed);
        AdaptiveState {
            timeout: self.timeout(),
            quantile: (quantile != 0).then(|| Duration::from_nanos(quantile)),
            samples: self.samples.load(Ordering::Relaxed),
            timeouts: self.timeouts.load(Ordering::Relaxed),
            floor: self.policy.floor,
            ceiling: self.policy.ceiling,
            times_at_floor: self.times_at_floor.load(Ordering::Relaxed),
            times_at_ceiling: self.times_at_ceiling.load(Ordering::Relaxed),
        }
    }

    /// Reads the quantile off and halves what is due, unless another thread does.
    fn refresh(&self, now: u64, why: Why) {
        // Acquire pairs with the Release below: what the one before wrote is seen.
        if self.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        let mut counts = [0; BUCKETS];
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        self.halve(&mut counts, now);
        let sum: u64 = counts.iter().sum();
        if sum >= ENOUGH * ONE {
            self.conclude(bound_of_share(&counts, sum, self.policy.quantile_per_mille), why);
        }
        self.busy.store(false, Ordering::Release);
    }

    fn halve(&self, counts: &mut [u64], now: u64) {
        let age = now.saturating_sub(self.halved_at.load(Ordering::Relaxed));
        let many = counts.iter().sum::<u64>() >= MANY * ONE;
        let halvings = (age / OLD).max(u64::from(many)).min(u64::from(u64::BITS - 1));
        if halvings == 0 {
            return;
        }
        for (bucket, count) in self.buckets.iter().zip(counts) {
            let stays = *count >> halvings;
            // Others add meanwhile, and no other takes: this leaves what they add.
            bucket.fetch_sub(*count - stays, Ordering::Relaxed);
            *count = stays;
        }
        self.halved_at.store(now, Ordering::Relaxed);
    }

    fn conclude(&self, quantile: u64, why: Why) {
        let (floor, ceiling) = (nanos(self.policy.floor), nanos(self.policy.ceiling));
        let learned = u128::from(quantile) * u128::from(self.policy.factor_per_mille) / 1000;
        let learned = u64::try_from(learned).unwrap_or(u64::MAX);
        for (clamped, times) in [(learned < floor, &self.times_at_floor), (learned > ceiling, &self.times_at_ceiling)] {
            let counts = clamped && why == Why::Observed;
            times.store(times.load(Ordering::Relaxed) + u64::from(counts), Ordering::Relaxed);
        }
        self.quantile.store(quantile, Ordering::Relaxed);
        self.timeout.store(learned.clamp(floor, ceiling), Ordering::Relaxed);
    }
}

/// Why the quantile is read off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Waits were observed.
    Observed,
    /// A person looks, which must not count as learning.
    Looked,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn bucket_of(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    let bucket = match units.checked_ilog2().and_then(|doubling| doubling.checked_sub(FINE_BITS)) {
        Some(coarse) => (u64::from(coarse) << FINE_BITS) + (units >> coarse),
        None => units,
    };
    (bucket as usize).min(BUCKETS - 1)
}

/// Returns the shortest wait that is longer than those of a bucket.
fn bound_of(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    let coarse = (next >> FINE_BITS).saturating_sub(1);
    let units = u128::from(next - (coarse << FINE_BITS)) << coarse;
    u64::try_from(units << UNIT_BITS).unwrap_or(u64::MAX)
}

/// Returns what the given share of waits stayed below.
fn bound_of_share(counts: &[u64], sum: u64, per_mille: u32) -> u64 {
    let wanted = (u128::from(sum) * u128::from(per_mille)).div_ceil(1000);
    let mut seen = 0;
    let reaches = |count: &u64| {
        seen += u128::from(*count);
        *count > 0 && seen >= wanted
    };
    counts.iter().position(reaches).map_or(0, bound_of)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLISECOND: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MILLISECOND;

    fn policy(quantile_per_mille: u32) -> AdaptiveTimeout {
        let (floor, ceiling) = (Duration::ZERO, Duration::MAX);
        AdaptiveTimeout { quantile_per_mille, factor_per_mille: 1000, floor, ceiling }
    }

    fn learned(policy: AdaptiveTimeout, waits: impl IntoIterator<Item = u64>) -> AdaptiveState {
        let adaptive = Adaptive::new(policy, None);
        waits.into_iter().for_each(|wait| adaptive.observe(wait, 1));
        adaptive.state(1)
    }

    #[test]
    fn wait_is_close_below_its_bound() {
        let near = |power: u32| [(1u64 << power) - 1, 1 << power, (1 << power) + 1];
        for wait in (0..64).flat_map(near).chain([u64::MAX]).chain((0..20_000).step_by(7)) {
            let bound = bound_of(bucket_of(wait));
            assert!(wait < bound || bound == u64::MAX, "{wait} {bound}");
            assert!(bound - wait <= wait / 8 + 1024 || bound == u64::MAX, "{wait} {bound}");
            assert!(bucket_of(wait) < BUCKETS);
        }
        let bounds: Vec<u64> = (0..BUCKETS).map(bound_of).collect();
        assert!(bounds.is_sorted() && bounds.windows(2).all(|pair| pair[0] < pair[1] || pair[0] == u64::MAX));
        assert!((0..BUCKETS - 1).all(|bucket| bucket_of(bounds[bucket]) == bucket + 1 || bounds[bucket] == u64::MAX));
    }

    #[test]
    fn nothing_is_concluded_from_a_few() {
        let bounds = AdaptiveTimeout { floor: Duration::from_secs(1), ceiling: Duration::from_secs(9), ..policy(500) };
        let adaptive = Adaptive::new(bounds, None);
        (1..ENOUGH).for_each(|_| adaptive.observe(5 * SECOND, 1));
        let state = adaptive.state(1);
        assert_eq!((state.timeout, state.quantile, state.samples), (bounds.ceiling, None, ENOUGH - 1));
        adaptive.observe(5 * SECOND, 1);
        assert!(adaptive.state(1).quantile.is_some());
        assert!(adaptive.timeout() < bounds.ceiling);
        for (at_first, serves) in [(0, 1), (4, 4), (10, 9)] {
            let adaptive = Adaptive::new(bounds, Some(Duration::from_secs(at_first)));
            assert_eq!(adaptive.timeout(), Duration::from_secs(serves));
        }
    }

    /// Observes waits until the timeout is within these bounds.
    ///
    /// Fails if it takes more than `most`.
    fn until_within(adaptive: &Adaptive, wait: u64, most: u64, bounds: std::ops::Range<u64>) {
        for _ in 0..most {
            if bounds.contains(&nanos(adaptive.timeout())) {
                return;
            }
            adaptive.observe(wait, 1);
        }
        panic!("{:?} after {most} more waits of {wait}", adaptive.state(1));
    }

    #[test]
    fn it_follows_the_load_up_and_down() {
        for quantile_per_mille in [500, 900, 990, 1000] {
            let adaptive = Adaptive::new(policy(quantile_per_mille), None);
            let about = |wait: u64| wait..wait + wait / 7;
            // Half of the weight moves with every 512 waits.
            for wait in [MILLISECOND, 100 * MILLISECOND, 3 * MILLISECOND, 20 * SECOND, MILLISECOND / 10] {
                until_within(&adaptive, wait, 20_000, about(wait));
            }
        }
    }

    #[test]
    fn old_waits_fade_with_few_new_ones() {
        let adaptive = Adaptive::new(policy(900), None);
        (0..1000).for_each(|_| adaptive.observe(SECOND, 1));
        assert!(adaptive.timeout() > Duration::from_secs(1));
        // Far too few to outweigh them immediately.
        (0..64).for_each(|_| adaptive.observe(MILLISECOND, 12 * OLD));
        assert!(adaptive.state(12 * OLD).timeout < Duration::from_millis(2), "{:?}", adaptive.state(12 * OLD));
        // And an hour without waits forgets nothing that was concluded.
        let before = adaptive.timeout();
        assert_eq!(adaptive.state(100 * OLD).timeout, before);
    }

    #[test]
    fn looks_count_nothing() {
        let bounds = AdaptiveTimeout { floor: Duration::from_secs(1), ..policy(900) };
        let adaptive = Adaptive::new(bounds, None);
        (0..ENOUGH).for_each(|_| adaptive.observe(MILLISECOND, 1));
        let counted = adaptive.state(1).times_at_floor;
        assert_eq!(((0..10).map(|_| adaptive.state(1).times_at_floor).max(), counted), (Some(1), 1));
    }

    #[test]
    fn timeouts_alone_make_it_longer() {
        let bounds = AdaptiveTimeout { ceiling: Duration::from_secs(60), ..policy(900) };
        let adaptive = Adaptive::new(bounds, None);
        (0..2000).for_each(|_| adaptive.observe(MILLISECOND, 1));
        let before = adaptive.timeout();
        // From now on nothing is free for a long time: every request gives up.
        let mut requests = 0;
        while adaptive.timeout() < bounds.ceiling {
            adaptive.observe_timeout(nanos(adaptive.timeout()), 1);
            requests += 1;
            assert!(requests < 20_000, "stuck at {:?}", adaptive.state(1));
        }
        assert!(before < Duration::from_millis(2));
        assert!(adaptive.state(1).times_at_ceiling > 0);
        assert_eq!(adaptive.state(1).timeouts, requests);
    }

    #[test]
    fn early_timeouts_teach_nothing() {
        let adaptive = Adaptive::new(policy(900), None);
        (0..2000).for_each(|_| adaptive.observe(SECOND, 1));
        let before = adaptive.state(1);
        (0..20_000).for_each(|_| adaptive.observe_timeout(MILLISECOND, 1));
        assert_eq!(adaptive.state(1), before);
        // Nor do they keep it from becoming shorter.
        for _ in 0..4000 {
            adaptive.observe_timeout(MILLISECOND, 1);
            adaptive.observe(MILLISECOND, 1);
        }
        assert!(adaptive.timeout() < Duration::from_millis(5), "{:?}", adaptive.state(1));
    }

    #[test]
    fn concurrent_counts_are_not_lost() {
        let adaptive = Adaptive::new(policy(500), None);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let adaptive = &adaptive;
                scope.spawn(move || (0..10_000).for_each(|wait| adaptive.observe((thread * 10_000 + wait) << 8, 1)));
            }
        });
        let state = adaptive.state(1);
        assert_eq!(state.samples, 40_000);
        // While one of them halves the others go on, for as long as it may be kept from it: there may be much to halve.
        let left = || adaptive.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum::<u64>();
        let mut halvings = 0;
        while left() >= MANY * ONE {
            let _ = adaptive.state(1);
            halvings += 1;
            assert!(halvings < 40_000_u64.ilog2(), "{} are left", left());
        }
        // Halving rounds down in each bucket.
        assert!(left() > MANY * ONE * 7 / 16, "{} after {halvings} more", left());
    }

    proptest! {
        /// As long as nothing is halved the quantile is that of all waits.
        #[test]
        fn the_quantile_is_right_within_its_bucket(
            waits in prop::collection::vec(prop_oneof![0..20_000_u64, 0..SECOND, 0..1000 * SECOND], 32..1000),
            per_mille in 1..=1000_u32,
        ) {
            let mut sorted = waits.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * per_mille as usize).div_ceil(1000);
            let exact = sorted[rank - 1];
            let estimate = nanos(learned(policy(per_mille), waits).quantile.unwrap());
            prop_assert!(exact < estimate && estimate - exact <= exact / 8 + 1024, "{exact} {estimate}");
        }

        #[test]
        fn floor_and_ceiling_always_hold(
            waits in prop::collection::vec((any::<u64>(), any::<bool>(), 0..OLD), 0..300),
            per_mille in 1..=1000_u32,
            factor_per_mille in 1000..100_000_u32,
            (floor, range) in (0..10 * SECOND, 0..10 * SECOND),
            at_first in prop::option::of(0..30 * SECOND),
        ) {
            let (floor, ceiling) = (Duration::from_nanos(floor), Duration::from_nanos(floor + range));
            let policy = AdaptiveTimeout { quantile_per_mille: per_mille, factor_per_mille, floor, ceiling };
            let adaptive = Adaptive::new(policy, at_first.map(Duration::from_nanos));
            let mut now = 1;
            for (wait, granted, later) in waits {
                now += later;
                match granted {
                    true => adaptive.observe(wait >> 20, now),
                    false => adaptive.observe_timeout(wait >> 20, now),
                }
                let timeout = adaptive.timeout();
                prop_assert!(floor <= timeout && timeout <= ceiling, "{timeout:?}");
                let state = adaptive.state(now);
                if let Some(quantile) = state.quantile {
                    let wished = quantile.as_nanos() * u128::from(factor_per_mille) / 1000;
                    let wished = Duration::from_nanos(u64::try_from(wished).unwrap_or(u64::MAX));
                    prop_assert_eq!(state.timeout, wished.clamp(floor, ceiling));
                }
            }
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use std::sync::Arc;

    /// Would catch: counts lost because they are added while others are halved.
    ///
    /// Also two who halve together.
    #[test]
    fn waits_are_counted_while_others_halve() {
        loom::model(|| {
            let (floor, ceiling) = (Duration::ZERO, Duration::MAX);
            let policy = AdaptiveTimeout { quantile_per_mille: 500, factor_per_mille: 1000, floor, ceiling };
            let adaptive = Arc::new(Adaptive::new(policy, None));
            adaptive.observe(0, 1);
            let other = Arc::clone(&adaptive);
            let other = loom::thread::spawn(move || other.observe(0, 1));
            adaptive.observe(0, 1);
            other.join().unwrap();
            // Three were added, and what there was halved once or twice: at most three quarters of it are gone, and it is
            // no sum that wrapped round.
            let left: u64 = adaptive.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum();
            assert!((ONE..=5 * ONE / 2).contains(&left), "{left}");
            assert!(!adaptive.busy.load(Ordering::Relaxed));
        });
    }
}
