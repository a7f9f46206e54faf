//! Measures on two threads, each kept on a core of its own, in short slices that take turns with single-thread ones.
//!
//! A slice counts only if both threads really ran side by side: they start within the same microsecond, neither is
//! taken off its processor by other work, and both get something done. A thread that sleeps because
//! the lock made it wait has run; a thread that was preempted has not.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::allocations;
use crate::machine::{ThreadUse, cores, pin_this_thread};
use crate::slices::Pace;

/// Says when a slice is over, for one read of a mostly unshared word an operation.
pub(crate) struct Slice {
    over: AtomicBool,
    length: Duration,
}

impl Slice {
    /// Repeats an operation until the slice is over on either thread.
    ///
    /// Returns how often.
    ///
    /// The thread that sees the time run out first ends the slice for both. The clock is read about every ten
    /// microseconds.
    #[inline(always)]
    pub(crate) fn repeat(&self, mut operation: impl FnMut()) -> u64 {
        let began = Instant::now();
        let mut looked = Duration::ZERO;
        let mut between_looks = 1_u64;
        let mut done = 0;
        loop {
            for _ in 0..between_looks {
                operation();
                done += 1;
                if self.over.load(Ordering::Relaxed) {
                    return done;
                }
            }
            let now = began.elapsed();
            if now >= self.length {
                self.over.store(true, Ordering::Relaxed);
                return done;
            }
            if now - looked < Duration::from_micros(10) {
                between_looks = (between_looks * 2).min(1024);
            } else {
                between_looks = (between_looks / 2).max(1);
            }
            looked = now;
        }
    }
}

/// What runs in a slice: gets its thread's number and returns its operations.
pub(crate) enum Lane<'a> {
    /// On the first thread, while the second sleeps.
    Alone(&'a (dyn Fn(&Slice) -> u64 + Sync)),
    /// On both threads together.
    Together(&'a (dyn Fn(usize, &Slice) -> u64 + Sync)),
}

/// What one thread did in one slice.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    ops: u64,
    took: Duration,
    used: ThreadUse,
    allocations: u64,
}

impl Part {
    fn measure(run: impl FnOnce() -> u64) -> Self {
        let used = ThreadUse::so_far();
        let allocations = allocations::of_this_thread();
        let began = Instant::now();
        let ops = run();
        Self {
            ops,
            took: began.elapsed(),
            allocations: allocations::of_this_thread() - allocations,
            used: ThreadUse::so_far().since(used),
        }
    }

    fn undisturbed(&self) -> bool {
        let ran = self.used.processor.as_secs_f64() >= 0.9 * self.took.as_secs_f64();
        self.used.preempted == 0 && (ran || self.used.slept > 0)
    }
}

/// What the slices of one lane say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// Nanoseconds between operations of the whole lane, in its best slice.
    pub(crate) best: f64,
    /// The same in the median slice.
    pub(crate) median: f64,
    pub(crate) ops: u64,
    pub(crate) allocs: f64,
    /// Slices that counted, and slices in all.
    pub(crate) counted: usize,
    pub(crate) slices: usize,
    /// Operations of the thread that got fewer, over those of the other.
    pub(crate) evenness: f64,
    /// Share of the slices' time that each thread spent on a processor.
    pub(crate) processor: [f64; 2],
    /// Whether some slices counted; otherwise the figures are those of all slices.
    pub(crate) sound: bool,
}

/// Below this share of the other's operations a thread did not run the slice.
const EVEN_ENOUGH: f64 = 0.1;

impl Figures {
    fn of(pairs: &[[Part; 2]], together: bool) -> Self {
        let even = |pair: &[Part; 2]| {
            let [fewer, more] = [pair[0].ops.min(pair[1].ops), pair[0].ops.max(pair[1].ops)];
            fewer as f64 / more.max(1) as f64
        };
        let counts = |pair: &&[Part; 2]| {
            pair[0].undisturbed() && (!together || pair[1].undisturbed() && even(pair) >= EVEN_ENOUGH)
        };
        let mut counted: Vec<_> = pairs.iter().filter(counts).collect();
        let slices = pairs.len();
        let sound = !counted.is_empty();
        let count = counted.len();
        if !sound {
            counted = pairs.iter().collect();
        }
        let mut costs: Vec<f64> = counted
            .iter()
            .map(|pair| pair[0].took.max(pair[1].took).as_nanos() as f64 / (pair[0].ops + pair[1].ops).max(1) as f64)
            .collect();
        costs.sort_unstable_by(f64::total_cmp);
        let sum = |of: &dyn Fn(&Part) -> u64, thread: usize| counted.iter().map(|pair| of(&pair[thread])).sum::<u64>();
        let ops = [0, 1].map(|thread| sum(&|part| part.ops, thread));
        let took = [0, 1].map(|thread| sum(&|part| part.took.as_nanos() as u64, thread));
        let processor = [0, 1].map(|thread| sum(&|part| part.used.processor.as_nanos() as u64, thread));
        let allocations = sum(&|part| part.allocations, 0) + sum(&|part| part.allocations, 1);
        Self {
            best: costs[0],
            median: costs[costs.len() / 2],
            ops: ops[0] + ops[1],
            allocs: allocations as f64 / (ops[0] + ops[1]).max(1) as f64,
            counted: count,
            slices,
            evenness: ops[0].min(ops[1]) as f64 / ops[0].max(ops[1]).max(1) as f64,
            processor: [0, 1].map(|thread| processor[thread] as f64 / took[thread].max(1) as f64),
            sound,
        }
    }
}

/// A slice of two threads is longer: starting together costs some microseconds.
const LENGTHENED: u32 = 3;

/// Slices of the first moments fill caches and queues.
const WARM_UP_ROUNDS: usize = 2;

/// The two threads of one measurement and what they agree on.
struct Stage<'a, 'l> {
    lanes: &'a [Lane<'l>],
    slices: Vec<Slice>,
    gate: Barrier,
    arrived: AtomicU64,
    finished: AtomicBool,
    deadline: Instant,
}

impl Stage<'_, '_> {
    /// Waits until the other thread is on its processor too, at this very moment.
    fn start_together(&self, meeting: u64) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::Acquire) < meeting * 2 {
            spins += 1;
            if spins < 100_000 { spin_loop() } else { std::thread::yield_now() }
        }
    }

    fn play(&self, thread: usize) -> Vec<Vec<Part>> {
        pin_this_thread(thread);
        let mut parts: Vec<Vec<Part>> = self.lanes.iter().map(|_| Vec::with_capacity(1024)).collect();
        let mut meeting = 0;
        for round in 0.. {
            for ((lane, slice), parts) in self.lanes.iter().zip(&self.slices).zip(&mut parts) {
                if self.gate.wait().is_leader() {
                    slice.over.store(false, Ordering::Relaxed);
                }
                self.gate.wait();
                let part = match lane {
                    Lane::Alone(run) if thread == 0 => Part::measure(|| run(slice)),
                    Lane::Alone(_) => Part::default(),
                    Lane::Together(run) => {
                        meeting += 1;
                        self.start_together(meeting);
                        Part::measure(|| run(thread, slice))
                    }
                };
                if round >= WARM_UP_ROUNDS {
                    parts.push(part);
                }
            }
            if thread == 0 && round >= WARM_UP_ROUNDS + 4 && Instant::now() >= self.deadline {
                self.finished.store(true, Ordering::Relaxed);
            }
            self.gate.wait();
            if self.finished.load(Ordering::Relaxed) {
                break;
            }
        }
        parts
    }
}

/// Runs the lanes in turn on two threads until the time is over.
///
/// Returns their figures in the same order. `enter` is called on each thread first, and what it answers is kept until
/// the end.
pub(crate) fn in_turn<const LANES: usize, K>(
    pace: &Pace,
    enter: impl Fn() -> K + Sync,
    lanes: [Lane<'_>; LANES],
) -> [Figures; LANES] {
    let slice = pace.slice * LENGTHENED;
    let stage = Stage {
        lanes: &lanes,
        slices: lanes.iter().map(|_| Slice { over: AtomicBool::new(false), length: slice }).collect(),
        gate: Barrier::new(2),
        arrived: AtomicU64::new(0),
        finished: AtomicBool::new(false),
        deadline: Instant::now() + pace.subject,
    };
    let play = |thread| {
        let _entered = enter();
        stage.play(thread)
    };
    let [first, second] = std::thread::scope(|scope| {
        let threads = [scope.spawn(|| play(0)), scope.spawn(|| play(1))];
        threads.map(|thread| thread.join().expect("a measuring thread panics only if its subject fails"))
    });
    std::array::from_fn(|lane| {
        let pairs: Vec<_> = first[lane].iter().zip(&second[lane]).map(|(&one, &two)| [one, two]).collect();
        Figures::of(&pairs, matches!(lanes[lane], Lane::Together(_)))
    })
}

/// Returns what every two-thread row says about how it was run.
pub(crate) fn circumstances(figures: &Figures) -> String {
    let mut text = format!(
        "{} cores, {}/{} slices counted, ops {:.2}:1, cpu {:.0}%/{:.0}%",
        cores(),
        figures.counted,
        figures.slices,
        figures.evenness,
        figures.processor[0] * 100.0,
        figures.processor[1] * 100.0,
    );
    if !figures.sound {
        text.push_str(", NOT SOUND: the threads never ran evenly side by side");
    }
    if cores() < 2 {
        text.push_str(", NOT SOUND: two threads shared one core");
    }
    text
}
