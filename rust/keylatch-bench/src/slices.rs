//! Measures several things side by side on one thread, in many short slices that take turns.
//!
//! On a shared machine every long measurement contains the work of others. A slice of a millisecond often does not, so
//! the best slice is close to the undisturbed cost; and because unit and subjects take turns, a slow minute is slow for
//! all of them.

use std::time::{Duration, Instant};

use crate::allocations;

/// How long measurements may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Length of a slice, about.
    pub(crate) slice: Duration,
    /// Time for one subject in one scenario, warm-up not counted.
    pub(crate) subject: Duration,
    /// Hand-offs for ours and its control.
    pub(crate) hand_offs: u32,
    /// Hand-offs for every other subject.
    pub(crate) peer_hand_offs: u32,
    /// Whether the second, costlier look (memory without huge pages) is left out.
    pub(crate) quick: bool,
}

impl Pace {
    pub(crate) const QUICK: Self = Self {
        slice: Duration::from_micros(500),
        subject: Duration::from_millis(250),
        hand_offs: 10_000,
        peer_hand_offs: 1_000,
        quick: true,
    };

    pub(crate) const FULL: Self = Self {
        slice: Duration::from_millis(1),
        subject: Duration::from_millis(1500),
        hand_offs: 100_000,
        peer_hand_offs: 10_000,
        quick: false,
    };
}

/// One of the things measured in turn: runs the number of operations it is given.
pub(crate) struct Lane<'a> {
    run: Box<dyn FnMut(u64) + 'a>,
    warm_up: u64,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(run: impl FnMut(u64) + 'a) -> Self {
        Self { run: Box::new(run), warm_up: 0 }
    }

    /// Operations to run before anything counts: once through all keys, for example.
    pub(crate) fn warmed_up_by(mut self, operations: u64) -> Self {
        self.warm_up = operations;
        self
    }
}

/// What the slices of one lane say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Nanoseconds an operation in the best slice.
    pub(crate) best: f64,
    /// Nanoseconds an operation in the median slice.
    pub(crate) median: f64,
    pub(crate) ops: u64,
    /// Allocations an operation, over all counted slices.
    pub(crate) allocs: f64,
}

/// Fewer slices than this say nothing about the undisturbed cost.
const FEWEST_SLICES: usize = 7;

struct Measuring<'a> {
    lane: Lane<'a>,
    per_slice: u64,
    costs: Vec<f64>,
    ops: u64,
    allocations: u64,
}

impl Measuring<'_> {
    /// Finds how many operations fill a slice.
    fn calibrate(&mut self, slice: Duration) {
        (self.lane.run)(self.lane.warm_up);
        loop {
            let began = Instant::now();
            (self.lane.run)(self.per_slice);
            let took = began.elapsed();
            if took * 2 >= slice || self.per_slice >= 1 << 40 {
                let scale = slice.as_secs_f64() / took.as_secs_f64().max(1e-9);
                self.per_slice = ((self.per_slice as f64 * scale) as u64).max(1);
                return;
            }
            self.per_slice *= 2;
        }
    }

    fn slice(&mut self) {
        let allocations = allocations::of_this_thread();
        let began = Instant::now();
        (self.lane.run)(self.per_slice);
        let took = began.elapsed();
        self.allocations += allocations::of_this_thread() - allocations;
        self.ops += self.per_slice;
        self.costs.push(took.as_nanos() as f64 / self.per_slice as f64);
    }

    fn figures(mut self) -> Figures {
        self.costs.sort_unstable_by(f64::total_cmp);
        Figures {
            best: self.costs[0],
            median: self.costs[self.costs.len() / 2],
            ops: self.ops,
            allocs: self.allocations as f64 / self.ops as f64,
        }
    }
}

/// Runs the lanes slice by slice in turn until the time is over.
///
/// Returns their figures in the same order.
pub(crate) fn in_turn<const LANES: usize>(pace: &Pace, lanes: [Lane<'_>; LANES]) -> [Figures; LANES] {
    let mut measuring =
        lanes.map(|lane| Measuring { lane, per_slice: 1, costs: Vec::with_capacity(4096), ops: 0, allocations: 0 });
    for lane in &mut measuring {
        lane.calibrate(pace.slice);
    }
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < FEWEST_SLICES || began.elapsed() < pace.subject {
        for lane in &mut measuring {
            lane.slice();
        }
        rounds += 1;
    }
    measuring.map(Measuring::figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_is_counted_for_itself() {
        let pace = Pace { slice: Duration::from_micros(50), subject: Duration::from_millis(5), ..Pace::QUICK };
        let mut warmed_up = 0;
        let [plain, allocating] = in_turn(
            &pace,
            [
                Lane::new(|count| {
                    warmed_up += count;
                    for number in 0..count {
                        std::hint::black_box(number);
                    }
                })
                .warmed_up_by(10),
                Lane::new(|count| {
                    for number in 0..count {
                        drop(std::hint::black_box(Box::new(number)));
                    }
                }),
            ],
        );
        assert_eq!(plain.allocs, 0.0);
        assert_eq!(allocating.allocs, 1.0);
        assert!(plain.best <= plain.median);
        assert!(warmed_up > plain.ops, "warm-up and calibration run too, and do not count");
    }
}
