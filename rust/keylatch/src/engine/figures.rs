//! Reads the figures off.
//!
//! The fast path counts in its thread's own memory, everything else under the mutex of its shard; here the two are added
//! up, one row of shards after the other.
//!
//! **Holders.** A lock may be granted by one thread and released by another, so the number of holders is a sum over all
//! threads, and they go on while it is formed. Of each thread the releases are read before the grants, so that none of its
//! releases is counted without its grant. A reader that is kept from running between the two adds all grants that happened
//! meanwhile. So a sum counts only once a second one comes to about the same: see [`settled`]. A lock that one thread took
//! after its grants were read, and another released before its releases were, is not counted as released yet.

use super::core::Core;
use super::local::{Local, ROWS};
use crate::observe::{AdaptiveState, LockMetrics, ShardMetrics, WaitHistogram};
use crate::sync::atomic::Ordering;
use crate::table::ShardCounts;
use std::time::Duration;

/// With more shards than this, only callers that read the figures visit them all.
const MOST_LOOKED_AT: u32 = 4096;

/// Sums that are formed at most before the last one counts whatever it is.
const MOST_SUMS: u32 = 64;

/// One sum over all threads and the shards of a row.
#[derive(Debug, Clone, Default)]
struct Sums {
    fast: u64,
    fast_releases: u64,
    counts: ShardCounts,
    entries: u64,
}

impl Sums {
    fn holders(&self) -> u64 {
        let granted = self.fast + self.counts.immediate + self.counts.waited;
        granted.saturating_sub(self.fast_releases + self.counts.releases)
    }
}

impl Core {
    /// What happened so far.
    pub(crate) fn metrics(&self) -> LockMetrics {
        if self.is_forked() {
            // Mutexes may have been held by threads that are not here, and the figures are the parent's.
            return LockMetrics::from_shards(Vec::new(), self.uptime(), 0);
        }
        self.open_those_due(self.local());
        let shards: Vec<_> = (0..self.rows()).map(|row| self.row_metrics(row)).collect();
        let read = LockMetrics::from_shards(shards, self.uptime(), self.bytes());
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
            pinned_keys: u64::from(self.table.pinned()),
            max_waiters: u64::from(self.config.max_waiters),
            ..read
        }
    }

    /// Remembers the number of grants, if that is due, as a request begins to wait.
    ///
    /// Takes shard mutexes.
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
        let under_mutex = |index| {
            let mut shard = self.table.lock(index);
            shard.counts().immediate + shard.counts().waited
        };
        let fast = |row| self.locals().map(|local| local.tally(row).grants.load(Ordering::Relaxed)).sum::<u64>();
        let grants =
            (0..self.table.shard_count()).map(under_mutex).sum::<u64>() + (0..self.rows()).map(fast).sum::<u64>();
        self.tally.waits.look(grants, now);
    }

    fn rows(&self) -> u32 {
        self.table.shard_count().min(ROWS)
    }

    /// Bytes of memory that the manager uses.
    fn bytes(&self) -> u64 {
        let tallies: u64 = self.locals().map(Local::bytes).sum();
        self.table.bytes() + self.records.resident_bytes() + self.waiters.bytes() + self.leases.bytes() + tallies
    }

    /// What was learned of waits, if anything is to be.
    pub(crate) fn adaptive_state(&self) -> Option<AdaptiveState> {
        self.adaptive.as_ref().map(|adaptive| adaptive.state(self.now()))
    }

    fn row_metrics(&self, row: u32) -> ShardMetrics {
        let threads = self.locals().count() as u64;
        let Sums { fast, fast_releases, counts, entries } = settled(threads, || self.sums(row, || {}));
        let sums = Sums { fast, fast_releases, counts: counts.clone(), entries };
        let granted = fast + counts.immediate + counts.waited;
        ShardMetrics {
            fast,
            inserted: counts.immediate,
            slow: counts.waited,
            releases: (fast_releases + counts.releases).min(granted),
            waits: counts.waits,
            timeouts: counts.timeouts,
            cancelled: counts.cancelled,
            deadlocks: counts.deadlocks,
            refused: counts.refused,
            wait_time: Duration::from_nanos(counts.wait_nanos),
            max_wait_time: Duration::from_nanos(counts.max_wait_nanos),
            wait_histogram: WaitHistogram { buckets: counts.wait_histogram },
            holders: sums.holders(),
            waiters: u64::from(counts.waiting),
            entries,
        }
    }

    /// One sum. `between` is called where others may go on.
    fn sums(&self, row: u32, mut between: impl FnMut()) -> Sums {
        let mut sums = Sums::default();
        for index in (row..self.table.shard_count()).step_by(ROWS as usize) {
            let mut shard = self.table.lock(index);
            sums.entries += u64::from(shard.entries());
            sums.counts.add(shard.counts());
        }
        for local in self.locals() {
            let tally = local.tally(row);
            // Acquire. Pairs with: the Release of `count_release`. What a thread took before it let go is read, too. One
            // after the other, so that of a running thread the two are of about one moment.
            sums.fast_releases += tally.releases.load(Ordering::Acquire);
            between();
            sums.fast += tally.grants.load(Ordering::Relaxed);
        }
        sums
    }
}

/// Forms sums until two in a row differ by at most one holder for each thread.
fn settled(threads: u64, mut sum: impl FnMut() -> Sums) -> Sums {
    let mut last = sum();
    for _ in 1..MOST_SUMS {
        let next = sum();
        let agree = next.holders().abs_diff(last.holders()) <= threads;
        last = next;
        if agree {
            break;
        }
    }
    last
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{FastObjectLockManager, LockConfig, LockRequest};

    #[test]
    fn one_sum_that_was_interrupted_does_not_count() {
        let of = |fast, fast_releases| Sums { fast, fast_releases, ..Sums::default() };
        let settled_of = |sums: &[Sums]| {
            let mut sums = sums.iter().cloned();
            settled(2, || sums.next().expect("no more than are needed")).holders()
        };
        assert_eq!(settled_of(&[of(665_532, 0), of(700_002, 700_000), of(700_103, 700_100)]), 3);
        assert_eq!(settled_of(&[of(12, 10), of(665_532, 10), of(700_002, 700_000), of(700_102, 700_100)]), 2);
        // Never less than nothing.
        assert_eq!(settled_of(&[of(10, 12), of(10, 11)]), 0);
        assert_eq!(settled_of(&[of(10, 700_000), of(700_001, 700_000), of(700_001, 700_000)]), 1);
    }

    #[test]
    fn release_is_never_counted_without_its_grant() {
        let locks = FastObjectLockManager::with_config(LockConfig { shards: 1, ..LockConfig::default() }).unwrap();
        let core = locks.core();
        // On the fast path, and, because it is leased, through the shard.
        for request in [LockRequest::read(("b", "o")), LockRequest::write(("b", "o")).ttl(Duration::from_secs(3600))] {
            let sums = core.sums(0, || (0..10).for_each(|_| drop(locks.lock(request).try_now().unwrap())));
            let granted = sums.fast + sums.counts.immediate + sums.counts.waited;
            assert!(sums.fast_releases + sums.counts.releases <= granted, "{sums:?}");
        }
    }

    #[test]
    fn sums_that_never_agree_end() {
        let mut sums = 0;
        let apart = || {
            sums += 1;
            Sums { fast: 1000 * (sums % 2), ..Sums::default() }
        };
        let _ = settled(2, apart);
        assert_eq!(sums, u64::from(MOST_SUMS));
    }
}
