//! What the figures of a manager count, one by one.

use crate::steps::*;
use keylatch::{
    BatchLockRequest, EventOptions, Fairness, FastObjectLockManager, LockConfig, LockError, LockMetrics, LockRequest,
    ShardMetrics, Submitted,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn figures(locks: &FastObjectLockManager) -> ShardMetrics {
    locks.get_metrics().shard_metrics
}

#[test]
fn idle_manager_is_empty_and_healthy() {
    let locks = with(LockConfig { shards: 8, ..LockConfig::default() });
    let metrics = locks.get_metrics();
    assert_eq!(metrics.shard_metrics, ShardMetrics::default());
    assert_eq!(metrics.shards, vec![ShardMetrics::default(); 8]);
    assert!(metrics.is_healthy() && locks.health().healthy && locks.health().problems.is_empty());
    assert_eq!(metrics.shard_metrics.fast_path_rate(), 1.0);
    assert_eq!(metrics.shard_metrics.timeout_rate(), 0.0);
    assert_eq!(metrics.shard_metrics.avg_wait_time(), Duration::ZERO);
    assert_eq!(metrics.ops_per_second(), 0.0);
    assert_eq!(metrics.shard_metrics.wait_histogram.quantile(0.5), None);
}

#[test]
fn new_key_is_inserted_warm_key_is_fast() {
    let locks = with(LockConfig { shards: 1, ..LockConfig::default() });
    drop(locks.try_acquire_write_lock("b", "o", "x").unwrap());
    let expected = ShardMetrics::default();
    let now = figures(&locks);
    assert_eq!((now.inserted, now.fast, now.slow, now.releases, now.entries), (1, 0, 0, 1, 1), "{expected:?}");
    for _ in 0..99 {
        drop(locks.acquire_read_lock_blocking("b", "o", "x").unwrap());
    }
    let now = figures(&locks);
    assert_eq!((now.inserted, now.fast, now.slow, now.releases), (1, 99, 0, 100));
    assert_eq!((now.acquisitions(), now.holders, now.waits), (100, 0, 0));
    let readers: Vec<_> = (0..5).map(|_| locks.try_acquire_read_lock("b", "o", "x").unwrap()).collect();
    assert_eq!(figures(&locks).holders, 5, "each reader counts");
    drop(readers);
    assert_eq!(figures(&locks).holders, 0);
    assert!(locks.get_metrics().ops_per_second() > 0.0);
    assert!(locks.get_metrics().uptime > Duration::ZERO);
}

#[test]
fn ended_threads_stay_counted() {
    let locks = few_shards(Fairness::default());
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for thread in 0..3_u8 {
                let locks = &locks;
                scope.spawn(move || {
                    (0..100).for_each(|_| drop(locks.try_acquire_write_lock("b", &[thread], "x").unwrap()))
                });
            }
        });
    }
    assert_eq!(figures(&locks).acquisitions(), 3000);
    assert_at_rest(&locks);
}

#[test]
fn refusals_are_counted_by_themselves() {
    let locks = few_shards(Fairness::default());
    let _held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    (0..7).for_each(|_| drop(locks.try_acquire_read_lock("b", "o", "y").unwrap_err()));
    let now = figures(&locks);
    assert_eq!((now.refused, now.waits, now.timeouts, now.acquisitions()), (7, 0, 0, 1));
}

#[test]
fn each_way_in_which_a_wait_ends_is_counted() {
    let locks = few_shards(Fairness::Fifo);
    let held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    let mut granted = ByHand::waiting(locks.acquire_write_lock("b", "o", "granted"));
    let cancelled = ByHand::waiting(locks.acquire_write_lock("b", "o", "cancelled"));
    assert_eq!((figures(&locks).waiters, figures(&locks).waits), (2, 2));
    drop(cancelled);
    let asked = Duration::from_millis(5);
    assert!(locks.lock(LockRequest::write(("b", "o")).timeout(asked)).blocking().is_err());
    let now = figures(&locks);
    assert_eq!((now.waiters, now.waits, now.cancelled, now.timeouts, now.slow), (1, 3, 1, 1, 0));
    drop(held);
    drop(granted.ready().unwrap());
    let now = figures(&locks);
    assert_eq!((now.waiters, now.waits, now.slow, now.holders), (0, 3, 1, 0));
    assert_eq!(now.wait_histogram.count(), 3, "each wait that ended, however it ended");
    // The one that was granted waited all the while.
    assert!(now.max_wait_time >= asked, "{:?}", now.max_wait_time);
    assert!(now.wait_time >= now.max_wait_time && now.wait_time <= 3 * now.max_wait_time);
    assert!(now.avg_wait_time() >= now.wait_time / 4 && now.avg_wait_time() <= now.max_wait_time);
    let longest = now.wait_histogram.quantile(1.0).expect("a bound");
    assert!(longest >= now.max_wait_time, "{longest:?}");
    let mut closed = ByHand::waiting({
        let _ = std::mem::ManuallyDrop::new(locks.acquire_write_lock_blocking("b", "p", "x").unwrap());
        locks.acquire_read_lock("b", "p", "y")
    });
    locks.close();
    assert!(closed.ready().is_err());
    assert_eq!(figures(&locks).cancelled, 2);
}

#[test]
fn the_histogram_has_a_bucket_for_every_wait() {
    let locks = few_shards(Fairness::Fifo);
    for _ in 0..50 {
        let held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
        drop(ByHand::waiting(locks.acquire_write_lock("b", "o", "y")));
        drop(held);
    }
    let histogram = figures(&locks).wait_histogram;
    assert_eq!(histogram.count(), 50);
    assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 50);
    let bounds: Vec<_> = histogram.buckets().map(|(bound, _)| bound).collect();
    let (last, others) = bounds.split_last().unwrap();
    assert_eq!(*last, None);
    assert!(others.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(histogram.quantile(0.0) <= histogram.quantile(0.5) && histogram.quantile(0.5) <= histogram.quantile(1.0));
}

#[test]
fn the_shards_add_up_to_the_whole() {
    let locks = with(LockConfig { shards: 16, ..LockConfig::default() });
    let names: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let held: Vec<_> = names.iter().map(|name| locks.try_acquire_write_lock("b", name, "x").unwrap()).collect();
    assert!(names.iter().all(|name| locks.try_acquire_read_lock("b", name, "y").is_err()));
    let metrics: LockMetrics = locks.get_metrics();
    assert_eq!(metrics.shards.len(), 16);
    let sum = |figure: fn(&ShardMetrics) -> u64| metrics.shards.iter().map(figure).sum::<u64>();
    let all = &metrics.shard_metrics;
    assert_eq!((all.holders, all.refused, all.inserted, all.entries), (500, 500, 500, 500));
    assert_eq!(sum(|shard| shard.holders), 500);
    assert_eq!(sum(|shard| shard.refused), 500);
    assert_eq!(sum(|shard| shard.inserted), 500);
    assert_eq!(sum(|shard| shard.entries), 500);
    assert!(metrics.shards.iter().all(|shard| shard.holders > 0), "keys spread over the shards");
    assert!(metrics.bytes > 500 * 64 && metrics.bytes < 1 << 22, "{}", metrics.bytes);
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn converting_neither_takes_nor_releases() {
    let locks = few_shards(Fairness::default());
    let mut guard = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    for _ in 0..10 {
        guard.downgrade();
        guard.try_upgrade().unwrap();
    }
    assert_eq!((figures(&locks).acquisitions(), figures(&locks).holders), (1, 1));
    drop(guard);
    assert_eq!(figures(&locks).releases, 1);
}

#[test]
fn too_many_timeouts_are_unhealthy_and_said_so() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    // A waiter of the whole time waits that long by any clock; a wait with a timeout begins a moment after its time
    // does.
    let waits = ByHand::waiting(locks.acquire_read_lock("b", "o", "y"));
    let late = LockRequest::read(("b", "o")).timeout(Duration::from_millis(25));
    assert!(locks.lock(late).blocking().is_err());
    drop(waits);
    drop(held);
    let health = locks.health();
    assert!(!health.healthy && !locks.get_metrics().is_healthy());
    assert!(health.problems.iter().any(|problem| problem.contains("timed out")), "{:?}", health.problems);
    assert!(health.problems.iter().any(|problem| problem.contains("on average")), "{:?}", health.problems);
    assert!(health.timeout_rate > 0.4 && health.avg_wait_time >= Duration::from_millis(10));
    // Enough good work makes it well again, as far as timeouts go.
    (0..100).for_each(|_| drop(locks.try_acquire_write_lock("b", "o", "x").unwrap()));
    assert!(!locks.health().problems.iter().any(|problem| problem.contains("timed out")));
    let report = locks.get_metrics().to_string();
    assert!(report.contains("locks taken      101") && report.contains("timeouts         1"), "{report}");
}

#[test]
fn figures_read_under_load_are_never_absurd() {
    let locks = few_shards(Fairness::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also where this fails: the scope waits for the others.
        let _stops = Stops(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(locks.acquire_read_lock_blocking("b", "o", "x").unwrap());
                }
            });
        }
        let mut before = ShardMetrics::default();
        for _ in 0..2000 {
            let now = figures(&locks);
            assert!(now.acquisitions() >= before.acquisitions() && now.releases >= before.releases);
            assert!(now.entries <= 1 && now.releases <= now.acquisitions(), "{now:?}");
            before = now;
        }
    });
    assert_at_rest(&locks);
}

/// A lock taken without standing in line counts as immediate, for any request.
#[test]
fn immediate_grants_count_so_on_every_path() {
    let locks = few_shards(Fairness::default());
    let (session, queue) = (locks.session("s"), locks.completion_queue().unwrap());
    let write = LockRequest::write(("b", "o"));
    let leased = write.ttl(Duration::from_secs(3600));
    // With a subscriber who asks for long holds, every hold is timed, and every request comes to its shard.
    for timed in [false, true] {
        let options = EventOptions { hold_above: timed.then_some(Duration::MAX), ..EventOptions::default() };
        let _heard = timed.then(|| locks.subscribe(options));
        for request in [write, leased, write.owner(&session), leased.owner(&session), write.timeout(Duration::ZERO)] {
            for _ in 0..10 {
                drop(locks.lock(request).blocking().unwrap());
                drop(locks.lock(request).try_now().unwrap());
                let awaited = futures_util::FutureExt::now_or_never(async { locks.lock(request).await });
                drop(awaited.expect("it is free").unwrap());
                let Submitted::Granted(queued) = locks.lock(request).with_queue(&queue, 1).unwrap() else {
                    panic!("it is free")
                };
                drop(queued);
                let called = locks.lock(request).with_callback(|_| panic!("it is free")).unwrap();
                assert!(matches!(called, Submitted::Granted(_)));
                drop(called);
                locks.release(locks.lock(request).grant_now().unwrap()).unwrap();
                locks.release(locks.lock(request).grant_blocking().unwrap()).unwrap();
            }
        }
        let batch = || BatchLockRequest::new("x").add_write_lock("b", "o").add_read_lock("b", "p").ttl(Duration::MAX);
        (0..10).for_each(|_| drop(locks.acquire_locks_batch_blocking(batch()).unwrap()));
    }
    let now = figures(&locks);
    assert_eq!((now.acquisitions(), now.slow, now.waits), (2 * (5 * 7 * 10 + 2 * 10), 0, 0));
    assert_eq!(now.fast_path_rate(), 1.0);
    assert!(locks.health().healthy);
}

#[test]
fn timeout_of_zero_counts_as_a_timeout() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_read_lock_blocking("b", "o", "x").unwrap();
    let queue = locks.completion_queue().unwrap();
    let late = LockRequest::write(("b", "o")).timeout(Duration::ZERO);
    let timed_out = |error| matches!(error, LockError::Timeout { .. });
    assert!(timed_out(locks.lock(late).blocking().unwrap_err()));
    assert!(timed_out(locks.lock(late.ttl(Duration::MAX)).blocking().unwrap_err()));
    assert!(timed_out(locks.lock(late).with_queue(&queue, 1).unwrap_err()));
    let awaited = futures_util::FutureExt::now_or_never(async { locks.lock(late).await });
    assert!(timed_out(awaited.expect("it does not wait").unwrap_err()));
    let now = figures(&locks);
    assert_eq!((now.timeouts, now.refused, now.waits), (4, 0, 0));
    let other = locks.acquire_read_lock_blocking("b", "o", "y").unwrap();
    let grant = held.into_grant();
    assert!(timed_out(locks.upgrade_with_queue(grant, Some(Duration::ZERO), &queue, 1).unwrap_err()));
    assert_eq!(figures(&locks).timeouts, 5);
    drop(other);
    locks.release(grant).unwrap();
    assert_at_rest(&locks);
}

/// Of two that come and go, more than they had shows only in a mixed-up sum.
///
/// Such a sum adds what happened at different times.
#[test]
fn holders_under_load_are_about_right() {
    let locks = with(LockConfig { shards: 1, ..LockConfig::default() });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stops = Stops(&stop);
        for key in ["one", "two"] {
            let (locks, stop) = (&locks, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    (0..100).for_each(|_| drop(locks.acquire_write_lock_blocking("b", key, "x").unwrap()));
                }
            });
        }
        for _ in 0..20_000 {
            let holders = figures(&locks).holders;
            assert!(holders <= 2 + 3, "{holders} of two that hold one lock each");
        }
    });
    assert_at_rest(&locks);
}

#[test]
fn bytes_count_leases_and_tallies() {
    let locks = with(LockConfig { shards: 1 << 16, ..LockConfig::default() });
    let bytes = || locks.get_metrics().bytes;
    let before = bytes();
    let names: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    let grants: Vec<_> =
        names.iter().map(|name| locks.lock(LockRequest::write(("b", name.as_str()))).grant_now().unwrap()).collect();
    let held = bytes();
    grants.iter().for_each(|grant| locks.renew(*grant, Duration::MAX).unwrap());
    assert!(bytes() >= held + 10_000 * 16, "each has a lease: {} after {held}", bytes());
    // Another thread, which comes to all shards, takes at most so much.
    let take_all = || names.iter().for_each(|name| drop(locks.try_acquire_write_lock("c", name, "x").unwrap()));
    take_all();
    let alone = bytes();
    std::thread::scope(|scope| {
        scope.spawn(take_all);
    });
    let with_another = bytes();
    assert!(with_another >= alone + 1024 * 16, "its tallies count: {with_another} after {alone}");
    assert!(with_another <= alone + 1024 * 16 + (1 << 16), "whatever the shards: {with_another} after {alone}");
    assert!(before > 0);
    grants.iter().for_each(|grant| locks.release(*grant).unwrap());
}
