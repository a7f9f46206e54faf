//! The load: heartbeats and selections when they are due, whether earlier ones have been answered or not.

use crate::measures::Measures;
use crate::node::{Heartbeat, LANGUAGES};
use crate::options::Options;
use crate::random::Random;
use crate::registry::{Registry, Selector};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

/// How long those may take to be answered that were due by the end.
///
/// Then they are given up, and count for as long as they have waited.
const GRACE: Duration = Duration::from_secs(5);

/// How long the thread that asks stays awake before it asks.
///
/// A thread that sleeps is woken late.
const AWAKE: Duration = Duration::from_micros(150);

/// What was asked for in one run, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) selections: u64,
    pub(crate) heartbeats: u64,
    /// Selections and heartbeats that were given up.
    pub(crate) given_up: u64,
    pub(crate) took: Duration,
}

/// Runs the load against a registry, which `make` makes inside the runtime.
pub(crate) fn run<R: Registry>(options: &Options, measures: &Arc<Measures>, make: impl FnOnce() -> R) -> Asked {
    // One core is for the thread that asks: a request that it makes late counts as slow.
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().max(2) - 1);
    let runtime =
        Builder::new_multi_thread().worker_threads(workers).enable_all().build().expect("threads for a runtime");
    let registry = {
        let _inside = runtime.enter();
        Arc::new(make())
    };
    let unanswered = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let generator = Generator { options, measures, runtime: &runtime, unanswered: &unanswered };
    let (selections, heartbeats) = generator.run(&registry, began);
    let until = Instant::now() + GRACE;
    while unanswered.load(Ordering::Acquire) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let given_up = unanswered.load(Ordering::Acquire);
    // Drops every task that is left, and with it its recordings.
    runtime.shutdown_timeout(GRACE);
    let took = began.elapsed();
    Asked { selections, heartbeats, given_up, took }
}

struct Generator<'g> {
    options: &'g Options,
    measures: &'g Arc<Measures>,
    runtime: &'g Runtime,
    unanswered: &'g Arc<AtomicU64>,
}

impl Generator<'_> {
    /// Asks until the time is over.
    ///
    /// On this thread, because a task of the runtime would wait with those it asks for.
    fn run<R: Registry>(&self, registry: &Arc<R>, began: Instant) -> (u64, u64) {
        let mut random = Random::new(self.options.seed);
        let mut selector = registry.selector();
        let (mut selections, mut heartbeats) = (0u64, 0u64);
        let end = began + self.options.duration;
        loop {
            let selection_due = began + mul(self.options.selection_gap(), selections);
            let heartbeat_due = began + mul(self.options.heartbeat_gap(), heartbeats);
            let due = selection_due.min(heartbeat_due);
            if due >= end {
                return (selections, heartbeats);
            }
            wait_until(due);
            self.measures.asked_late.record(due.elapsed());
            if selection_due <= heartbeat_due {
                selections += 1;
                self.select(selector.another(), random.below(LANGUAGES) as u8, due);
            } else {
                let node = (heartbeats % self.options.nodes as u64) as usize;
                heartbeats += 1;
                self.report(registry, Heartbeat::new(node, due, &mut random));
            }
        }
    }

    fn select(&self, selector: impl Selector, language: u8, due: Instant) {
        let (measures, unanswered) = (Arc::clone(self.measures), Unanswered::new(self.unanswered));
        let asked = Instant::now();
        self.runtime.spawn(async move {
            let recordings = (measures.selection.since(due), measures.answering.since(asked));
            std::hint::black_box(selector.select(language).await);
            drop(recordings);
            drop(unanswered);
        });
    }

    fn report<R: Registry>(&self, registry: &Arc<R>, beat: Heartbeat) {
        let (measures, unanswered) = (Arc::clone(self.measures), Unanswered::new(self.unanswered));
        let registry = Arc::clone(registry);
        self.runtime.spawn(async move {
            let recording = measures.heartbeat.since(beat.due);
            registry.heartbeat(beat).await;
            drop(recording);
            drop(unanswered);
        });
    }
}

/// Waits for a moment: asleep until shortly before, then awake.
fn wait_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(AWAKE));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

/// Nanoseconds of many gaps: `Duration` multiplies by 32 bits only.
fn mul(gap: Duration, times: u64) -> Duration {
    Duration::from_nanos(u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX).saturating_mul(times))
}

/// Counts a request that has no answer yet.
struct Unanswered(Arc<AtomicU64>);

impl Unanswered {
    fn new(counter: &Arc<AtomicU64>) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counter))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // Pairs with: the acquire loads in `run`, so that what was recorded is read after it.
        self.0.fetch_sub(1, Ordering::Release);
    }
}
