//! Figures, and what follows from them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counts what happened in a shard.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// Locks that were had without a wait.
    pub fast_path_success: AtomicU64,
    /// Locks that were waited for.
    pub slow_path_success: AtomicU64,
    /// Requests whose time was over first.
    pub timeouts: AtomicU64,
    /// Locks that were released.
    pub releases: AtomicU64,
    /// Keys that a cleanup removed; always 0 of a manager of this crate.
    pub cleanups: AtomicU64,
    /// Requests that had to wait.
    pub contention_events: AtomicU64,
    /// Nanoseconds waited altogether.
    pub total_wait_time_ns: AtomicU64,
    /// Nanoseconds of the longest wait.
    pub max_wait_time_ns: AtomicU64,
}

impl ShardMetrics {
    /// Begins with zeros.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a lock that was had without a wait.
    pub fn record_fast_path_success(&self) {
        count(&self.fast_path_success, 1);
    }

    /// Counts a lock that was waited for.
    pub fn record_slow_path_success(&self) {
        count(&self.slow_path_success, 1);
        count(&self.contention_events, 1);
    }

    /// Counts a request whose time was over first.
    pub fn record_timeout(&self) {
        count(&self.timeouts, 1);
    }

    /// Counts a release.
    pub fn record_release(&self) {
        count(&self.releases, 1);
    }

    /// Counts keys that were cleaned up.
    pub fn record_cleanup(&self, keys: usize) {
        count(&self.cleanups, keys as u64);
    }

    /// Counts a wait.
    pub fn record_wait_time(&self, wait_time: Duration) {
        let waited = nanos(wait_time);
        count(&self.total_wait_time_ns, waited);
        self.max_wait_time_ns.fetch_max(waited, Ordering::Relaxed);
    }

    /// Returns how many locks were taken.
    #[must_use]
    pub fn total_acquisitions(&self) -> u64 {
        self.snapshot().total_acquisitions()
    }

    /// Returns the share of locks that were had without a wait; 0 if none was taken.
    #[must_use]
    pub fn fast_path_rate(&self) -> f64 {
        self.snapshot().fast_path_rate()
    }

    /// Returns the mean wait of those that waited, in nanoseconds.
    #[must_use]
    pub fn avg_wait_time_ns(&self) -> f64 {
        let now = self.snapshot();
        share(now.total_wait_time_ns, now.slow_path_success)
    }

    /// Reads all figures.
    #[must_use]
    pub fn snapshot(&self) -> MetricsSnapshot {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        MetricsSnapshot {
            fast_path_success: read(&self.fast_path_success),
            slow_path_success: read(&self.slow_path_success),
            timeouts: read(&self.timeouts),
            releases: read(&self.releases),
            cleanups: read(&self.cleanups),
            contention_events: read(&self.contention_events),
            total_wait_time_ns: read(&self.total_wait_time_ns),
            max_wait_time_ns: read(&self.max_wait_time_ns),
        }
    }

    /// Overwrites all figures.
    pub(crate) fn store(&self, figures: &MetricsSnapshot) {
        self.fast_path_success.store(figures.fast_path_success, Ordering::Relaxed);
        self.slow_path_success.store(figures.slow_path_success, Ordering::Relaxed);
        self.timeouts.store(figures.timeouts, Ordering::Relaxed);
        self.releases.store(figures.releases, Ordering::Relaxed);
        self.cleanups.store(figures.cleanups, Ordering::Relaxed);
        self.contention_events.store(figures.contention_events, Ordering::Relaxed);
        self.total_wait_time_ns.store(figures.total_wait_time_ns, Ordering::Relaxed);
        self.max_wait_time_ns.store(figures.max_wait_time_ns, Ordering::Relaxed);
    }
}

/// Figures as they were at one moment.
#[derive(Debug, Clone)]
pub struct MetricsSnapshot {
    /// Locks that were had without a wait.
    pub fast_path_success: u64,
    /// Locks that were waited for.
    pub slow_path_success: u64,
    /// Requests whose time was over first.
    pub timeouts: u64,
    /// Locks that were released.
    pub releases: u64,
    /// Keys that a cleanup removed; always 0 of a manager of this crate.
    pub cleanups: u64,
    /// Requests that had to wait.
    pub contention_events: u64,
    /// Nanoseconds waited altogether.
    pub total_wait_time_ns: u64,
    /// Nanoseconds of the longest wait.
    pub max_wait_time_ns: u64,
}

impl MetricsSnapshot {
    /// Returns zeros.
    #[must_use]
    pub fn empty() -> Self {
        ShardMetrics::new().snapshot()
    }

    /// Returns how many locks were taken.
    #[must_use]
    pub fn total_acquisitions(&self) -> u64 {
        self.fast_path_success + self.slow_path_success
    }

    /// Returns the share of locks that were had without a wait; 0 if none was taken.
    #[must_use]
    pub fn fast_path_rate(&self) -> f64 {
        share(self.fast_path_success, self.total_acquisitions())
    }

    /// Returns the mean wait of those that waited.
    #[must_use]
    pub fn avg_wait_time(&self) -> Duration {
        Duration::from_nanos(self.total_wait_time_ns.checked_div(self.slow_path_success).unwrap_or(0))
    }

    /// Returns the longest wait.
    #[must_use]
    pub fn max_wait_time(&self) -> Duration {
        Duration::from_nanos(self.max_wait_time_ns)
    }

    /// Returns the share of requests whose time was over first.
    #[must_use]
    pub fn timeout_rate(&self) -> f64 {
        share(self.timeouts, self.total_acquisitions() + self.timeouts)
    }

    fn add(&mut self, other: &Self) {
        self.fast_path_success += other.fast_path_success;
        self.slow_path_success += other.slow_path_success;
        self.timeouts += other.timeouts;
        self.releases += other.releases;
        self.cleanups += other.cleanups;
        self.contention_events += other.contention_events;
        self.total_wait_time_ns += other.total_wait_time_ns;
        self.max_wait_time_ns = self.max_wait_time_ns.max(other.max_wait_time_ns);
    }
}

impl From<&keylatch::ShardMetrics> for MetricsSnapshot {
    fn from(figures: &keylatch::ShardMetrics) -> Self {
        Self {
            fast_path_success: figures.fast + figures.inserted,
            slow_path_success: figures.slow,
            timeouts: figures.timeouts,
            releases: figures.releases,
            cleanups: 0,
            contention_events: figures.waits,
            total_wait_time_ns: nanos(figures.wait_time),
            max_wait_time_ns: nanos(figures.max_wait_time),
        }
    }
}

/// Counts what happened in a manager beside its shards.
#[derive(Debug)]
pub struct GlobalMetrics {
    shard_count: usize,
    began: Instant,
    cleanup_runs: AtomicU64,
    objects_cleaned: AtomicU64,
}

impl GlobalMetrics {
    /// Begins now.
    #[must_use]
    pub fn new(shard_count: usize) -> Self {
        Self { shard_count, began: Instant::now(), cleanup_runs: AtomicU64::new(0), objects_cleaned: AtomicU64::new(0) }
    }

    /// Counts a cleanup.
    pub fn record_cleanup_run(&self, objects_cleaned: usize) {
        count(&self.cleanup_runs, 1);
        count(&self.objects_cleaned, objects_cleaned as u64);
    }

    /// Returns the time since the beginning.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Adds up the figures of all shards.
    #[must_use]
    pub fn aggregate_shard_metrics(&self, shard_metrics: &[MetricsSnapshot]) -> AggregatedMetrics {
        let mut all = MetricsSnapshot::empty();
        shard_metrics.iter().for_each(|shard| all.add(shard));
        AggregatedMetrics {
            shard_metrics: all,
            shard_count: self.shard_count,
            uptime: self.uptime(),
            cleanup_runs: self.cleanup_runs.load(Ordering::Relaxed),
            total_objects_cleaned: self.objects_cleaned.load(Ordering::Relaxed),
        }
    }
}

/// Figures of a manager.
#[derive(Debug, Clone)]
pub struct AggregatedMetrics {
    /// All shards together.
    pub shard_metrics: MetricsSnapshot,
    /// How many shards there are.
    pub shard_count: usize,
    /// How long the manager has existed.
    pub uptime: Duration,
    /// How many cleanups were asked for.
    pub cleanup_runs: u64,
    /// How many keys they removed; always 0 of a manager of this crate.
    pub total_objects_cleaned: u64,
}

impl AggregatedMetrics {
    /// Returns zeros, as a disabled manager does.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            shard_metrics: MetricsSnapshot::empty(),
            shard_count: 0,
            uptime: Duration::ZERO,
            cleanup_runs: 0,
            total_objects_cleaned: 0,
        }
    }

    /// Says whether these are the figures of a disabled manager.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shard_count == 0 && self.shard_metrics.total_acquisitions() == 0 && self.shard_metrics.releases == 0
    }

    /// Returns how many locks were taken and released a second, on average.
    #[must_use]
    pub fn ops_per_second(&self) -> f64 {
        let operations = self.shard_metrics.total_acquisitions() + self.shard_metrics.releases;
        let seconds = self.uptime.as_secs_f64();
        if seconds > 0.0 { operations as f64 / seconds } else { 0.0 }
    }

    /// Returns how many locks were taken a shard.
    #[must_use]
    pub fn avg_locks_per_shard(&self) -> f64 {
        share(self.shard_metrics.total_acquisitions(), self.shard_count as u64)
    }

    /// Judges the figures.
    ///
    /// Healthy are over 80 % without a wait, under 5 % that timed out, and under 10 ms a wait. A manager that did nothing is healthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let all = &self.shard_metrics;
        let is_quick = all.total_acquisitions() == 0 || all.fast_path_rate() > 0.8;
        is_quick && all.timeout_rate() < 0.05 && all.avg_wait_time() < Duration::from_millis(10)
    }
}

fn count(figure: &AtomicU64, more: u64) {
    figure.fetch_add(more, Ordering::Relaxed);
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
