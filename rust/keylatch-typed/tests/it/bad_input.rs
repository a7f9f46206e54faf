//! Input from strangers: each has a defined answer.

use crate::events;
use crate::waiting::{LONG, block_on, granted, in_line};
use futures_util::FutureExt;
use keylatch_typed::{AsyncMutex, AsyncRwLock, HeldBy, LockTimeoutError};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn zero_timeout_never_waits() {
    let lock = AsyncRwLock::new(1, Duration::ZERO);
    let writing = lock.write_with_timeout().await.unwrap();
    let request = lock.read_with_timeout();
    let error = request.now_or_never().expect("a zero timeout is ready with the first poll").unwrap_err();
    let details = error.details().unwrap();
    assert_eq!((details.place, details.waiters, details.held_by), (1, 0, HeldBy::Writer));
    assert!(error.to_string().contains("behind 0 in line"), "{error}");
    assert!(lock.blocking_read_with_timeout().is_err());
    drop(writing);
    assert!(lock.read_with_timeout().await.is_ok());
    assert_eq!(lock.stats().timeout_count(), 2);
}

#[tokio::test]
async fn longest_timeout_waits_without_end() {
    let lock = Arc::new(AsyncMutex::new(1, Duration::MAX));
    let held = lock.try_lock().unwrap();
    let waiting = in_line(lock.lock_with_timeout());
    let also = in_line(lock.lock_with_custom_timeout(Duration::from_secs(u64::MAX)));
    drop(held);
    drop(granted(waiting));
    drop(granted(also));
}

#[test]
fn runtime_dropped_with_waiters_empties_line() {
    let lock = Arc::new(AsyncMutex::new(1, LONG));
    let held = lock.try_lock().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    for _ in 0..10 {
        let lock = Arc::clone(&lock);
        runtime.spawn(async move { lock.lock_with_timeout().await.map(drop) });
    }
    crate::waiting::until_waiting(lock.stats(), 10);
    drop(runtime);
    assert_eq!(lock.stats().current_waiters(), 0);
    drop(held);
    assert!(lock.try_lock().is_some());
}

#[test]
fn future_outlives_its_runtime() {
    let lock = AsyncMutex::new(1, Duration::from_millis(30));
    let held = lock.try_lock().unwrap();
    let new_runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut first = lock.lock_with_timeout();
    let mut second = lock.lock_with_timeout();
    new_runtime().block_on(async { assert!((&mut first).now_or_never().is_none()) });
    new_runtime().block_on(async { assert!((&mut second).now_or_never().is_none()) });
    // On another runtime, and without one.
    let error = new_runtime().block_on(first).unwrap_err();
    assert!(error.details().unwrap().waited >= Duration::from_millis(30));
    assert!(block_on(second).is_err());
    drop(held);
    assert!(lock.try_lock().is_some());
}

/// Within the context of a runtime that was shut down tokio's timer panics.
#[cfg(feature = "tokio")]
#[test]
fn grant_outlives_the_runtime() {
    let lock = AsyncMutex::new(1, LONG);
    let held = lock.try_lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut waiting = lock.lock_with_timeout();
    runtime.block_on(async { assert!((&mut waiting).now_or_never().is_none()) });
    let handle = runtime.handle().clone();
    drop(runtime);
    drop(held);
    let _within = handle.enter();
    drop(granted(waiting));
}

// The crate's own timer needs no runtime.
#[cfg(feature = "tokio")]
#[test]
#[should_panic(expected = "enable_time")]
fn runtime_without_timers_says_what_to_enable() {
    let lock = AsyncMutex::new(1, LONG);
    let _held = lock.try_lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { lock.lock_with_timeout().await.map(drop) }).unwrap();
}

// The crate's own timer needs no runtime.
#[cfg(feature = "tokio")]
#[test]
fn runtime_without_timers_leaves_nothing() {
    let lock = AsyncMutex::new(1, LONG);
    let held = lock.try_lock().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let waiting = std::panic::AssertUnwindSafe(async { lock.lock_with_timeout().await.map(drop) });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(waiting))).is_err());
    assert_eq!(lock.stats().current_waiters(), 0);
    drop(held);
    assert!(lock.try_lock().is_some());
}

#[test]
fn guard_dropped_on_another_thread_releases() {
    let lock = AsyncRwLock::new(vec![0; 3], LONG);
    std::thread::scope(|scope| {
        let writing = lock.try_write().unwrap();
        scope.spawn(move || drop(writing)).join().unwrap();
        let reading = lock.try_read().unwrap();
        scope.spawn(move || assert_eq!(reading.len(), 3)).join().unwrap();
    });
    let figures = lock.stats().figures();
    assert_eq!((figures.current_holders, figures.timed_holds), (0, 2));
}

#[test]
fn panic_while_holding_does_not_poison() {
    let lock = Arc::new(AsyncRwLock::new(vec![1], LONG));
    let (inner, waiting) = (Arc::clone(&lock), lock.read_with_timeout());
    let panicked = std::thread::spawn(move || {
        let mut writing = inner.blocking_write_with_timeout().unwrap();
        writing.push(2);
        panic!("deliberate");
    });
    assert!(panicked.join().is_err());
    assert_eq!(*granted(waiting), [1, 2], "the value is as the panicking code left it");
}

#[test]
fn lock_dropped_with_owned_waiters() {
    let lock = Arc::new(AsyncMutex::new(Arc::new(1), LONG));
    let value = Arc::clone(&lock.try_lock().unwrap());
    let held = lock.try_lock_owned().unwrap();
    let waiting = in_line(lock.lock_owned_with_timeout());
    let never = in_line(lock.lock_owned_with_timeout());
    // Waiters and guards own the lock too: it lives until the last of them is gone.
    drop(lock);
    drop(held);
    drop(granted(waiting));
    assert_eq!(Arc::strong_count(&value), 2);
    drop(never);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn waker_that_panics_harms_no_other_waiter() {
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("deliberate");
        }
    }
    let lock = AsyncRwLock::new(1, LONG);
    let held = lock.try_write().unwrap();
    let mut bomb = lock.read_with_timeout();
    let waker = std::task::Waker::from(Arc::new(Bomb));
    assert!(bomb.poll_unpin(&mut std::task::Context::from_waker(&waker)).is_pending());
    let readers: Vec<_> = (0..40).map(|_| in_line(lock.read_with_timeout())).collect();
    // The panic is reported to a subscriber that panics itself.
    events::panicking(|| drop(held));
    readers.into_iter().for_each(|reader| drop(granted(reader)));
    drop(granted(bomb));
}

#[test]
fn waker_whose_drop_panics_holds_up_none() {
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            std::mem::forget(self);
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("deliberate");
        }
    }
    let lock = AsyncRwLock::new(1, LONG);
    let _reading = lock.try_read().unwrap();
    let mut writer = lock.write_with_timeout();
    let waker = std::task::Waker::from(Arc::new(Bomb));
    assert!(writer.poll_unpin(&mut std::task::Context::from_waker(&waker)).is_pending());
    let behind = in_line(lock.read_with_timeout());
    // The waker in line is the last one then.
    drop(waker);
    let left = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(writer)));
    assert!(left.is_err());
    drop(granted(behind));
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn poll_after_ready_panics() {
    let lock = AsyncMutex::new(1, LONG);
    let mut request = lock.lock_with_timeout();
    drop((&mut request).now_or_never());
    let _: Option<Result<_, LockTimeoutError>> = (&mut request).now_or_never();
}
