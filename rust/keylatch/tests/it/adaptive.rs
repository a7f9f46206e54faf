//! A default timeout that is learned from the waits there were.

use crate::steps::{ByHand, with, within};
use keylatch::{AdaptiveTimeout, FastObjectLockManager, LockConfig, LockError, LockRequest};
use std::time::Duration;

const AN_HOUR: Duration = Duration::from_secs(3600);
const FLOOR: Duration = Duration::from_millis(3);

/// From a moment to an hour: a wait of an hour is a hang.
fn policy() -> AdaptiveTimeout {
    AdaptiveTimeout { quantile_per_mille: 500, factor_per_mille: 1000, floor: FLOOR, ceiling: AN_HOUR }
}

fn manager(default_timeout: Option<Duration>) -> FastObjectLockManager {
    with(LockConfig { shards: 4, default_timeout, adaptive: Some(policy()), ..LockConfig::default() })
}

fn write(key: &str) -> LockRequest<'_> {
    LockRequest::write(("b", key))
}

/// `count` requests wait, and get the lock.
fn wait_for_locks(locks: &FastObjectLockManager, count: usize) {
    let held = locks.lock(write("taught")).try_now().unwrap();
    let mut line: Vec<_> = (0..count).map(|_| ByHand::waiting(locks.lock(write("taught").no_timeout()))).collect();
    drop(held);
    for request in &mut line {
        drop(request.after_wakes().unwrap());
    }
}

#[track_caller]
fn assert_timed_out<T: std::fmt::Debug>(result: Result<T, LockError>, after: Duration) {
    match result {
        Err(LockError::Timeout { waited, .. }) => assert!(waited >= after, "after {waited:?}"),
        other => panic!("no timeout: {other:?}"),
    }
}

#[test]
fn learned_timeout_applies_to_every_wait() {
    within("requests without a timeout", || {
        let locks = manager(None);
        assert_eq!(locks.default_timeout(), Some(AN_HOUR));
        wait_for_locks(&locks, 200);
        let state = locks.adaptive_timeout().unwrap();
        assert_eq!((state.samples, state.timeouts), (200, 0));
        assert!(state.timeout < AN_HOUR && state.quantile.is_some(), "{state:?}");
        assert_eq!(locks.default_timeout(), Some(state.timeout));
        let after = FLOOR;

        let _held = locks.acquire_write_lock_blocking("b", "held", "holder").unwrap();
        assert_timed_out(locks.lock(write("held")).blocking(), after);
        assert_timed_out(locks.lock(write("held")).grant_blocking(), after);
        assert_timed_out(ByHand::new(locks.lock(write("held"))).after_wakes(), after);
        let queue = locks.completion_queue().unwrap();
        assert!(locks.lock(write("held")).with_queue(&queue, 1).unwrap().ticket().is_some());
        assert_timed_out(queue.next(None).unwrap().unwrap().result, after);
        assert_eq!(locks.adaptive_timeout().unwrap().timeouts, 4);
        let batch = keylatch::BatchLockRequest::new("batch").add_write_lock("b", "held");
        let Err(LockError::Batch { cause, .. }) = locks.acquire_locks_batch_blocking(batch) else {
            panic!("it is held")
        };
        assert_timed_out::<()>(Err(*cause), Duration::ZERO);
        // A batch has a deadline, and if that is over before it comes to the lock, it counts as no wait.
        assert!((4..=5).contains(&locks.adaptive_timeout().unwrap().timeouts));
    });
}

#[test]
fn who_says_how_long_it_waits_is_not_affected() {
    within("requests with a timeout of their own", || {
        let locks = manager(None);
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let asked = Duration::from_millis(1);
        assert_timed_out(locks.lock(write("o").timeout(asked)).blocking(), asked);
        drop(held);
        wait_for_locks(&locks, 64);
        assert!(locks.adaptive_timeout().unwrap().timeout < AN_HOUR);
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let (mut patient, mut forever) = (
            ByHand::waiting(locks.lock(write("o").timeout(AN_HOUR))),
            ByHand::waiting(locks.lock(write("o").no_timeout())),
        );
        // Others who name none come and go meanwhile.
        assert_timed_out(locks.lock(write("o")).blocking(), FLOOR);
        drop(held);
        drop(patient.after_wakes().unwrap());
        drop(forever.after_wakes().unwrap());
    });
}

#[test]
fn what_is_set_serves_until_something_is_learned() {
    within("a first default", || {
        let locks = manager(Some(Duration::from_millis(5)));
        assert_eq!(locks.default_timeout(), Some(Duration::from_millis(5)));
        let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        assert_timed_out(locks.lock(write("o")).blocking(), Duration::from_millis(5));
        // Within the bounds.
        assert_eq!(manager(Some(Duration::ZERO)).default_timeout(), Some(FLOOR));
        assert_eq!(manager(Some(2 * AN_HOUR)).default_timeout(), Some(AN_HOUR));
    });
}

#[test]
fn timeouts_that_are_too_short_become_longer() {
    within("timeouts that grow", || {
        // Of the longest, so that one timeout says it, however long the machine made everybody wait before.
        let adaptive = Some(AdaptiveTimeout { quantile_per_mille: 1000, ..policy() });
        let locks = with(LockConfig { shards: 4, adaptive, ..LockConfig::default() });
        wait_for_locks(&locks, 100);
        let first = locks.adaptive_timeout().unwrap().timeout;
        let _held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        while locks.adaptive_timeout().unwrap().timeout <= first {
            assert!(locks.lock(write("o")).blocking().is_err());
        }
    });
}

#[test]
fn unfinished_waits_teach_nothing() {
    let locks = manager(None);
    for _ in 0..1000 {
        drop(locks.lock(write("o")).blocking().unwrap());
    }
    let held = locks.lock(write("o")).try_now().unwrap();
    for _ in 0..100 {
        assert!(locks.lock(write("o")).try_now().is_err());
        drop(ByHand::waiting(locks.lock(write("o"))));
    }
    drop(held);
    let state = locks.adaptive_timeout().unwrap();
    assert_eq!((state.samples, state.timeout, state.quantile), (0, AN_HOUR, None));
    assert_eq!((state.floor, state.ceiling, state.times_at_floor, state.times_at_ceiling), (FLOOR, AN_HOUR, 0, 0));
}

#[test]
fn without_the_setting_there_is_nothing_to_see() {
    let locks = with(LockConfig { default_timeout: Some(FLOOR), ..LockConfig::default() });
    assert_eq!(locks.adaptive_timeout(), None);
    assert_eq!(locks.default_timeout(), Some(FLOOR));
    assert_eq!(locks.get_metrics().adaptive, None);
    assert!(!locks.get_metrics().to_openmetrics().contains("adaptive"));
    assert_eq!(FastObjectLockManager::new().default_timeout(), None);
}

#[test]
fn figures_show_it() {
    let locks = manager(None);
    wait_for_locks(&locks, 40);
    let metrics = locks.get_metrics();
    assert_eq!(metrics.adaptive.unwrap().samples, 40);
    assert!(metrics.to_string().contains("(learned from 40 waits)"), "{metrics}");
    assert!(metrics.to_openmetrics().contains("\nkeylatch_adaptive_samples_total 40\n"));
}

#[test]
fn invalid_policy_error_names_valid_value() {
    let good = policy();
    for (wrong, says) in [
        (AdaptiveTimeout { quantile_per_mille: 0, ..good }, "1 to 1000"),
        (AdaptiveTimeout { quantile_per_mille: 1001, ..good }, "1 to 1000"),
        (AdaptiveTimeout { factor_per_mille: 999, ..good }, "1000"),
        (AdaptiveTimeout { floor: 2 * AN_HOUR, ..good }, "floor"),
        (AdaptiveTimeout { floor: Duration::ZERO, ceiling: Duration::ZERO, ..good }, "ceiling"),
    ] {
        let config = LockConfig { adaptive: Some(wrong), ..LockConfig::default() };
        let error = FastObjectLockManager::with_config(config).unwrap_err();
        assert!(matches!(error, LockError::InvalidConfig { setting: "adaptive", .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
}
