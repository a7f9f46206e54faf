//! Reads the figures off.
//!
//! The fast path counts in its thread's own memory, everything else under the shard's mutex that it holds anyway; here
//! the two are added up.

use super::core::Core;
use super::local::Local;
use crate::observe::{AdaptiveState, LockMetrics, ShardMetrics, WaitHistogram};
use crate::sync::atomic::Ordering;
use crate::table::ShardCounts;
use std::time::Duration;

/// Shards that a request which begins to wait looks at, once in a while; of more, only those look that read the figures.
const MOST_LOOKED_AT: u32 = 4096;

impl Core {
    /// What happened so far.
    pub(crate) fn metrics(&self) -> LockMetrics {
        if self.is_forked() {
            // Mutexes may have been held by threads that are not here, and the figures are the parent's.
            return LockMetrics::from_shards(Vec::new(), self.uptime(), 0);
        }
        self.open_those_due(self.local());
        let shards: Vec<_> = (0..self.table.shard_count()).map(|index| self.shard_metrics(index)).collect();
        let bytes = self.table.bytes() + self.records.resident_bytes() + self.waiters.bytes();
        let read = LockMetrics::from_shards(shards, self.uptime(), bytes);
        let (now, grants) = (self.now(), read.shard_metrics.acquisitions());
        self.tally.waits.look(grants, now);
        LockMetrics {
            adaptive: self.adaptive_state(),
            recent: self.tally.waits.recent(grants, now),
            wait_outcomes: self.tally.waits.outcomes(),
            shared_holds: self.tally.shared_holds(),
            exclusive_holds: self.tally.exclusive_holds(),
            expired_leases: self.tally.expired(),
            forced_releases: self.tally.forced(),
            events_dropped: self.events.dropped(),
            max_locks: u64::from(self.config.max_locks),
            max_waiters: u64::from(self.config.max_waiters),
            ..read
        }
    }

    /// Remembers how many grants there were so far, if that is due: a request begins to wait. Takes shard mutexes.
    #[inline]
    pub(crate) fn look_at_grants(&self, now: u64) {
        // Under the model checker mutexes of all shards would be executions without end.
        if !cfg!(loom) && self.tally.waits.is_look_due(now) {
            self.look_at_grants_slow(now);
        }
    }

    #[cold]
    #[inline(never)]
    fn look_at_grants_slow(&self, now: u64) {
        if self.table.shard_count() > MOST_LOOKED_AT {
            return;
        }
        let grants = |index| {
            let counts = self.table.lock(index).counts().clone();
            let fast: u64 = self.locals().map(|local| local.tally(index).grants.load(Ordering::Relaxed)).sum();
            fast + counts.inserted + counts.slow
        };
        self.tally.waits.look((0..self.table.shard_count()).map(grants).sum(), now);
    }

    /// What was learned of waits, if anything is to be.
    pub(crate) fn adaptive_state(&self) -> Option<AdaptiveState> {
        self.adaptive.as_ref().map(|adaptive| adaptive.state(self.now()))
    }

    fn shard_metrics(&self, shard_index: u32) -> ShardMetrics {
        // Releases are read before grants, so that a lock that comes and goes meanwhile is not counted as -1 holders.
        let sum = |figure: fn(&Local, u32) -> u64| self.locals().map(|local| figure(local, shard_index)).sum::<u64>();
        let fast_releases = sum(|local, shard| local.tally(shard).releases.load(Ordering::Relaxed));
        let mut shard = self.table.lock(shard_index);
        let entries = u64::from(shard.entries());
        let counts: ShardCounts = shard.counts().clone();
        drop(shard);
        let fast = sum(|local, shard| local.tally(shard).grants.load(Ordering::Relaxed));
        let releases = fast_releases + counts.releases;
        ShardMetrics {
            fast,
            inserted: counts.inserted,
            slow: counts.slow,
            releases,
            waits: counts.waits,
            timeouts: counts.timeouts,
            cancelled: counts.cancelled,
            deadlocks: counts.deadlocks,
            refused: counts.refused,
            wait_time: Duration::from_nanos(counts.wait_nanos),
            max_wait_time: Duration::from_nanos(counts.max_wait_nanos),
            wait_histogram: WaitHistogram { buckets: counts.wait_histogram },
            holders: (fast + counts.inserted + counts.slow).saturating_sub(releases),
            waiters: u64::from(counts.waiting),
            entries,
        }
    }
}
