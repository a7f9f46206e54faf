//! Latencies, in histograms that miss nothing: what never ends is recorded when it is given up.

use hdrhistogram::Histogram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Times of one kind, in nanoseconds, to three digits.
#[derive(Debug)]
pub(crate) struct Times(Mutex<Histogram<u64>>);

impl Times {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("bounds that make sense")))
    }

    pub(crate) fn record(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().expect("no panic while recording").saturating_record(nanos.max(1));
    }

    /// Records the time since a moment when it is dropped.
    ///
    /// Also if its task is given up.
    pub(crate) fn since(&self, began: Instant) -> Recording<'_> {
        Recording { times: self, began }
    }

    pub(crate) fn summary(&self) -> Summary {
        let times = self.0.lock().expect("no panic while recording");
        let at = |quantile: f64| Duration::from_nanos(times.value_at_quantile(quantile));
        Summary {
            count: times.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(if times.is_empty() { 0 } else { times.max() }),
            curve: times.iter_quantiles(8).map(|step| (step.quantile(), step.value_iterated_to())).collect(),
        }
    }
}

/// See [`Times::since`].
#[derive(Debug)]
pub(crate) struct Recording<'t> {
    times: &'t Times,
    began: Instant,
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.times.record(self.began.elapsed());
    }
}

/// What a histogram comes to.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) max: Duration,
    /// Quantiles from 0 to 1, and the nanoseconds that they stayed below.
    pub(crate) curve: Vec<(f64, u64)>,
}

/// Everything that is measured of one registry.
#[derive(Debug)]
pub(crate) struct Measures {
    /// From the moment a request was due to the moment it was made.
    ///
    /// What the machine adds to every latency.
    pub(crate) asked_late: Times,
    /// From the moment a selection was due to its answer.
    pub(crate) selection: Times,
    /// From the moment a selection was made to its answer.
    ///
    /// What is left without the machine's part.
    pub(crate) answering: Times,
    /// From the moment a heartbeat was due to its answer.
    pub(crate) heartbeat: Times,
    /// Waits for any lock.
    pub(crate) lock_wait: Times,
    /// From the update of a node to the moment that selections see it.
    pub(crate) staleness: Times,
    /// Copies of the whole registry.
    pub(crate) copies: AtomicU64,
    /// Requests that made do with the last snapshot because their time was over.
    pub(crate) fallbacks: AtomicU64,
    /// Selections that found a node.
    pub(crate) selected: AtomicU64,
}

impl Measures {
    pub(crate) fn new() -> Self {
        Self {
            asked_late: Times::new(),
            selection: Times::new(),
            answering: Times::new(),
            heartbeat: Times::new(),
            lock_wait: Times::new(),
            staleness: Times::new(),
            copies: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            selected: AtomicU64::new(0),
        }
    }

    /// Awaits a lock and records how long that took.
    pub(crate) async fn waited<G>(&self, lock: impl Future<Output = G>) -> G {
        let _recording = self.lock_wait.since(Instant::now());
        lock.await
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_up_tasks_are_recorded() {
        let times = Times::new();
        drop(times.since(Instant::now() - Duration::from_secs(2)));
        times.record(Duration::ZERO);
        let summary = times.summary();
        assert_eq!(summary.count, 2);
        assert!(summary.max >= Duration::from_secs(2) && summary.p50 < Duration::from_millis(1), "{summary:?}");
        assert!(summary.curve.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1));
    }
}
