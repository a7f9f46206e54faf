//! Default timeouts that are learned from how long waits take.

use crate::waiting::{granted, in_line};
use keylatch::LockError;
use keylatch_typed::{AdaptiveTimeout, AsyncMutex, LockOptions};
use std::time::Duration;

const FLOOR: Duration = Duration::from_millis(1);
const CEILING: Duration = Duration::from_secs(60);

fn mutex() -> AsyncMutex<()> {
    let policy = AdaptiveTimeout { floor: FLOOR, ceiling: CEILING, ..AdaptiveTimeout::default() };
    AsyncMutex::with_options((), LockOptions::new(Duration::from_secs(3600)).adaptive(policy).unwrap())
}

fn wait_once(mutex: &AsyncMutex<()>) {
    let held = mutex.try_lock().unwrap();
    // With a timeout of its own: what was learned may be over before this thread comes on.
    let waiting = in_line(mutex.lock_with_custom_timeout(CEILING));
    drop(held);
    drop(granted(waiting));
}

#[test]
fn timeout_follows_short_waits_down() {
    let mutex = mutex();
    let state = mutex.stats().adaptive_timeout().unwrap();
    assert_eq!((state.timeout, state.quantile, state.floor, state.ceiling), (CEILING, None, FLOOR, CEILING));
    (0..31).for_each(|_| wait_once(&mutex));
    assert_eq!(mutex.stats().adaptive_timeout().unwrap().timeout, CEILING);
    (0..33).for_each(|_| wait_once(&mutex));
    let state = mutex.stats().adaptive_timeout().unwrap();
    assert_eq!((state.samples, state.timeouts), (64, 0));
    assert!(state.timeout < CEILING && state.quantile.is_some(), "{state:?}");
}

#[test]
fn learned_timeout_ends_a_wait() {
    let mutex = mutex();
    (0..64).for_each(|_| wait_once(&mutex));
    let learned = mutex.stats().adaptive_timeout().unwrap().timeout;
    let _held = mutex.try_lock().unwrap();
    let error = mutex.blocking_lock_with_timeout().unwrap_err();
    assert!(error.to_string().contains(&format!("timeout after {learned:?}")), "{error}");
    // Such a wait is learned from, one that was not to be is not.
    assert_eq!(mutex.stats().adaptive_timeout().unwrap().timeouts, 1);
    assert!(mutex.blocking_lock_with_custom_timeout(Duration::ZERO).is_err());
    assert_eq!(mutex.stats().adaptive_timeout().unwrap().samples, 65);
}

#[test]
fn policy_without_a_timeout_is_refused() {
    let policy = AdaptiveTimeout { quantile_per_mille: 1001, ..AdaptiveTimeout::default() };
    let error = LockOptions::new(FLOOR).adaptive(policy).unwrap_err();
    assert!(matches!(error, LockError::InvalidConfig { .. }), "{error}");
    assert!(error.to_string().contains("1001"), "{error}");
    assert!(AsyncMutex::new((), FLOOR).stats().adaptive_timeout().is_none());
}
