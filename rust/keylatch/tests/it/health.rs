//! Whether a manager is doing well: what counts for and against it, and for how long.

use crate::steps::*;
use keylatch::{
    BatchLockRequest, EventOptions, Fairness, FastObjectLockManager, LockConfig, LockRequest, Mode, Reentrancy,
};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3600);

fn manager() -> FastObjectLockManager {
    few_shards(Fairness::Fifo)
}

#[track_caller]
fn assert_healthy(locks: &FastObjectLockManager) {
    let health = locks.health();
    assert!(health.healthy && health.problems.is_empty(), "{health:?}\n{}", locks.get_metrics());
    assert_eq!(health.fast_path_rate, 1.0, "no request waited");
}

#[test]
fn leased_holds_are_healthy() {
    let locks = manager();
    for _ in 0..10 {
        drop(locks.lock(LockRequest::write(("b", "o")).owner("me").ttl(LONG)).blocking().unwrap());
    }
    assert_healthy(&locks);
}

#[test]
fn timed_holds_are_healthy() {
    let locks = manager();
    let _events = locks.subscribe(EventOptions { hold_above: Some(LONG), ..EventOptions::default() });
    for _ in 0..10 {
        drop(locks.acquire_write_lock_blocking("b", "o", "me").unwrap());
    }
    assert_healthy(&locks);
}

#[test]
fn awaited_requests_are_healthy() {
    let locks = manager();
    for _ in 0..10 {
        drop(ByHand::new(locks.acquire_write_lock("b", "o", "me")).ready().unwrap());
        let leased = LockRequest::read(("b", "o")).owner("me").ttl(LONG);
        drop(ByHand::new(locks.lock(leased)).ready().unwrap());
    }
    assert_healthy(&locks);
}

#[test]
fn linted_requests_are_healthy() {
    let locks = with(LockConfig { shards: 4, lock_order_lint: true, ..LockConfig::default() });
    let session = locks.session("me");
    for _ in 0..10 {
        drop(locks.lock(LockRequest::write(("b", "o")).owner(&session)).blocking().unwrap());
    }
    assert_healthy(&locks);
}

#[test]
fn reentered_holds_are_healthy() {
    let locks = with(LockConfig { shards: 4, reentrancy: Reentrancy::Count, ..LockConfig::default() });
    let session = locks.session("me");
    let request = || LockRequest::write(("b", "o")).owner(&session);
    let _outer = locks.lock(request()).blocking().unwrap();
    for _ in 0..10 {
        drop(locks.lock(request()).blocking().unwrap());
    }
    assert_healthy(&locks);
}

#[test]
fn readers_beside_readers_are_healthy() {
    let locks = manager();
    let _first = locks.lock(LockRequest::read(("b", "o")).ttl(LONG)).blocking().unwrap();
    for _ in 0..10 {
        drop(locks.lock(LockRequest::read(("b", "o")).ttl(LONG)).blocking().unwrap());
    }
    assert_healthy(&locks);
}

#[test]
fn batches_are_healthy() {
    let locks = manager();
    for _ in 0..10 {
        let batch =
            BatchLockRequest::new("me").add(("b", "x"), Mode::Exclusive).add(("b", "y"), Mode::Shared).ttl(LONG);
        drop(locks.acquire_locks_batch_blocking(batch).unwrap());
    }
    assert_healthy(&locks);
}

/// A window that outlives a step of a test on a busy machine, but not the test.
const WINDOW: Duration = Duration::from_millis(600);

fn short_window() -> FastObjectLockManager {
    with(LockConfig { shards: 4, health_window: WINDOW, ..LockConfig::default() })
}

fn time_out(locks: &FastObjectLockManager, requests: u64) {
    let _held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    for _ in 0..requests {
        let late = LockRequest::read(("b", "o")).timeout(Duration::from_millis(2));
        assert!(locks.lock(late).blocking().is_err());
    }
}

#[test]
fn trouble_of_long_ago_is_forgotten() {
    let locks = short_window();
    time_out(&locks, 20);
    until("the window has passed", || locks.health().healthy);
    assert!(locks.get_metrics().uptime > WINDOW / 2);
    let metrics = locks.get_metrics();
    assert_eq!((metrics.shard_metrics.timeouts, metrics.wait_outcomes.shared.timed_out), (20, 20), "in total it stays");
    assert_eq!(metrics.recent.waits.all().timed_out, 0);
    assert_eq!(metrics.recent.max_wait_time, Duration::ZERO);
    assert!(metrics.shard_metrics.max_wait_time >= Duration::from_millis(2));
}

#[test]
fn good_times_of_long_ago_hide_no_trouble() {
    let locks = short_window();
    for _ in 0..100_000 {
        drop(locks.acquire_write_lock_blocking("b", "o", "x").unwrap());
    }
    assert!(locks.health().healthy);
    // Trouble for longer than a window, without a look. Once more if the machine stood still before the look.
    until("a window full of trouble is unhealthy", || {
        let began = std::time::Instant::now();
        while began.elapsed() < 2 * WINDOW {
            time_out(&locks, 1);
        }
        let health = locks.health();
        !health.healthy && health.timeout_rate > 0.4
    });
}

#[test]
fn timeouts_of_zero_are_timeouts() {
    let locks = manager();
    let held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    for _ in 0..5 {
        assert!(locks.lock(LockRequest::read(("b", "o")).timeout(Duration::ZERO)).blocking().is_err());
    }
    drop(held);
    let health = locks.health();
    assert!(health.timeout_rate > 0.8 && !health.healthy, "{health:?}");
    assert_eq!(locks.get_metrics().recent.timeouts, 5);
}

#[test]
fn window_below_a_millisecond_is_refused() {
    let config = LockConfig { health_window: Duration::ZERO, ..LockConfig::default() };
    let error = FastObjectLockManager::with_config(config).unwrap_err().to_string();
    assert!(error.contains("health_window") && error.contains("1ms"), "{error}");
    drop(with(LockConfig { health_window: Duration::MAX, ..LockConfig::default() }));
}

#[test]
fn waits_are_counted_by_mode_and_outcome() {
    let locks = manager();
    let held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    drop(ByHand::waiting(locks.acquire_read_lock("b", "o", "y")));
    let mut granted = ByHand::waiting(locks.acquire_read_lock("b", "o", "y"));
    let late = LockRequest::write(("b", "o")).timeout(Duration::from_millis(2));
    assert!(locks.lock(late).blocking().is_err());
    drop(held);
    let mut reader = granted.ready().unwrap();
    let other = locks.acquire_read_lock_blocking("b", "o", "z").unwrap();
    assert!(reader.upgrade_blocking(Some(Duration::from_millis(2))).is_err());
    drop((reader, other));
    let waits = locks.get_metrics().wait_outcomes;
    assert_eq!((waits.shared.cancelled, waits.shared.granted, waits.exclusive.timed_out), (1, 1, 1));
    assert_eq!((waits.upgrade.timed_out, waits.all().all()), (1, 4));
}

#[test]
fn revoked_holds_are_counted_by_cause() {
    let locks = manager();
    let leased = locks.lock(LockRequest::write(("b", "o")).ttl(Duration::from_nanos(1))).blocking().unwrap();
    drop(locks.acquire_write_lock_blocking("b", "o", "y").unwrap());
    assert_eq!((locks.get_metrics().expired_leases, locks.get_metrics().forced_releases), (1, 0));
    drop(leased);
    let held: Vec<_> = (0..3).map(|_| locks.acquire_read_lock_blocking("b", "p", "z").unwrap()).collect();
    assert_eq!(locks.force_release(&keylatch::Filter::new().owner("z")).len(), 3);
    assert_eq!((locks.get_metrics().expired_leases, locks.get_metrics().forced_releases), (1, 3));
    drop(held);
}

#[test]
fn hold_times_are_kept_while_holds_are_timed() {
    let locks = manager();
    drop(locks.acquire_write_lock_blocking("b", "o", "x").unwrap());
    assert_eq!(locks.get_metrics().exclusive_holds.histogram.count(), 0);
    let events = locks.subscribe(EventOptions { hold_above: Some(LONG), ..EventOptions::default() });
    drop(locks.acquire_write_lock_blocking("b", "o", "x").unwrap());
    let reader = locks.acquire_read_lock_blocking("b", "o", "x").unwrap();
    std::thread::sleep(Duration::from_millis(3));
    drop(reader);
    let metrics = locks.get_metrics();
    assert_eq!((metrics.exclusive_holds.histogram.count(), metrics.shared_holds.histogram.count()), (1, 1));
    assert!(metrics.shared_holds.time >= Duration::from_millis(3));
    assert!(metrics.shared_holds.histogram.quantile(1.0).unwrap() >= Duration::from_millis(3));
    drop(events);
    drop(locks.acquire_write_lock_blocking("b", "o", "x").unwrap());
    assert_eq!(locks.get_metrics().exclusive_holds.histogram.count(), 1);
}

#[test]
fn dropped_events_outlive_their_subscriber() {
    let locks = manager();
    let events =
        locks.subscribe(EventOptions { wait_above: Some(Duration::ZERO), capacity: 1, ..EventOptions::default() });
    let held = locks.acquire_write_lock_blocking("b", "o", "x").unwrap();
    (0..4).for_each(|_| drop(ByHand::waiting(locks.acquire_read_lock("b", "o", "y"))));
    drop(held);
    assert_eq!((events.dropped(), locks.get_metrics().events_dropped), (3, 3));
    drop(events);
    assert_eq!(locks.get_metrics().events_dropped, 3);
}

#[test]
fn table_fill_is_a_share_of_max_locks() {
    let locks = with(LockConfig { shards: 4, max_locks: 100, ..LockConfig::default() });
    let names: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    let held: Vec<_> = names.iter().map(|name| locks.try_acquire_write_lock("b", name, "x").unwrap()).collect();
    let metrics = locks.get_metrics();
    assert_eq!((metrics.max_locks, metrics.table_fill()), (100, 0.5));
    drop(held);
}

#[test]
fn ten_hottest_keys_are_named_where_asked_for() {
    let locks = manager();
    let names: Vec<String> = (0..15).map(|number| format!("key-{number}")).collect();
    let held: Vec<_> = names.iter().map(|name| locks.acquire_write_lock_blocking("b", name, "x").unwrap()).collect();
    let waiting: Vec<_> =
        names.iter().map(|name| ByHand::waiting(locks.lock(LockRequest::write(("b", &**name))))).collect();
    let text = locks.get_metrics_with_hottest_keys().to_openmetrics();
    assert_eq!(text.matches("keylatch_hot_key_waiters{").count(), 10, "{text}");
    assert!(text.contains("{bucket=\"b\",object=\"key-"), "{text}");
    assert!(!locks.get_metrics().to_openmetrics().contains("key-"), "and nowhere else");
    drop((waiting, held));
}
