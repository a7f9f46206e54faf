//! Results that arrive on the manager's own thread: once each, never under a lock, whatever the callback does.

use crate::steps::*;
use keylatch::{Fairness, FastObjectLockManager, LockConfig, LockError, LockRequest, OwnedLockGuard, Submitted};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

type Answer = Result<OwnedLockGuard, LockError>;

fn write() -> LockRequest<'static> {
    LockRequest::write(("b", "o")).owner("by callback")
}

/// Returns a request whose result comes through a channel.
#[track_caller]
fn by_channel(locks: &FastObjectLockManager, request: LockRequest<'_>) -> (keylatch::Ticket, mpsc::Receiver<Answer>) {
    let (send, receive) = mpsc::channel();
    let submitted = locks.lock(request).with_callback(move |answer| send.send(answer).unwrap()).unwrap();
    (submitted.ticket().expect("it has to wait"), receive)
}

#[test]
fn free_lock_returns_and_drops_callback() {
    let locks = few_shards(Fairness::default());
    let witness = Arc::new(());
    let inside = Arc::clone(&witness);
    let submitted = locks.lock(write()).with_callback(move |_| drop(inside)).unwrap();
    assert_eq!(Arc::strong_count(&witness), 1);
    let Submitted::Granted(guard) = submitted else { panic!("it was free") };
    assert!(locks.try_acquire_read_lock("b", "o", "x").is_err());
    drop(guard);
    assert_at_rest(&locks);
}

#[test]
fn every_callback_is_called_exactly_once() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let calls: Arc<Vec<AtomicUsize>> = Arc::new((0..1000).map(|_| AtomicUsize::new(0)).collect());
        let inside = Arc::new(AtomicUsize::new(0));
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let mut cancelled = 0;
        for number in 0..1000 {
            let (calls, inside) = (Arc::clone(&calls), Arc::clone(&inside));
            let submitted = locks.lock(write()).with_callback(move |answer| {
                calls[number].fetch_add(1, Ordering::SeqCst);
                if let Ok(guard) = answer {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(guard);
                }
            });
            let ticket = submitted.unwrap().ticket().unwrap();
            if number % 10 == 3 {
                assert!(locks.cancel(ticket));
                cancelled += 1;
            }
        }
        drop(held);
        until("all calls", || calls.iter().all(|calls| calls.load(Ordering::SeqCst) > 0));
        let figures = locks.get_metrics().shard_metrics;
        assert_eq!((figures.waits, figures.cancelled), (1000, cancelled));
        drop(locks.acquire_write_lock_blocking("b", "o", "after").unwrap());
        assert!(calls.iter().all(|calls| calls.load(Ordering::SeqCst) == 1));
        assert_at_rest(&locks);
    }
}

#[test]
fn callback_gets_timeout_and_cancellation() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let asked = Duration::from_millis(3);
    let (_, timed) = by_channel(&locks, write().timeout(asked));
    match timed.recv_timeout(FOREVER).unwrap() {
        Err(LockError::Timeout { waited, holders, .. }) => {
            assert!(waited >= asked);
            assert_eq!(&*holders.named[0].owner, "holder");
        }
        other => panic!("{other:?}"),
    }
    let (ticket, cancelled) = by_channel(&locks, write());
    assert!(locks.cancel(ticket));
    assert!(!locks.cancel(ticket));
    assert!(matches!(cancelled.recv_timeout(FOREVER).unwrap(), Err(LockError::Cancelled { .. })));
    for request in [write().timeout(Duration::ZERO), write().deadline(std::time::Instant::now())] {
        let refused = locks.lock(request).with_callback(|_| panic!("the answer came without a wait"));
        assert!(matches!(refused, Err(LockError::Timeout { .. })));
    }
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn panicking_callback_only_loses_its_own_lock() {
    let locks = few_shards(Fairness::Fifo);
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    for _ in 0..3 {
        let submitted = locks.lock(write()).with_callback(|answer| {
            let _guard = answer.unwrap();
            std::panic::panic_any("meant to");
        });
        assert!(submitted.unwrap().ticket().is_some());
    }
    let (_, next) = by_channel(&locks, write());
    drop(held);
    drop(next.recv_timeout(FOREVER).unwrap().unwrap());
    assert_at_rest(&locks);
}

#[test]
fn a_callback_may_use_the_manager() {
    for fairness in POLICIES {
        let locks = with(LockConfig { shards: 1, fairness, ..LockConfig::default() });
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let other_held = locks.acquire_write_lock_blocking("b", "other", "holder").unwrap().into_owned();
        let (victim, cancelled) = by_channel(&locks, LockRequest::read(("b", "other")));
        let (done, finished) = mpsc::channel();
        let manager = locks.clone();
        let submitted = locks.lock(write()).with_callback(move |answer| {
            let mut guard = answer.unwrap();
            assert!(manager.try_acquire_read_lock("b", "o", "x").is_err());
            drop(manager.try_acquire_write_lock("b", "free", "x").unwrap());
            assert!(manager.cancel(victim));
            guard.downgrade();
            guard.try_upgrade().unwrap();
            assert_eq!(manager.get_metrics().shard_metrics.holders, 2);
            // Another callback for the lock that this one holds.
            let again = manager.lock(write()).with_callback(move |answer| done.send(answer.map(drop)).unwrap());
            assert!(again.unwrap().ticket().is_some());
            drop(other_held);
            drop(guard);
        });
        assert!(submitted.unwrap().ticket().is_some());
        drop(held);
        finished.recv_timeout(FOREVER).unwrap().unwrap();
        assert!(matches!(cancelled.recv_timeout(FOREVER).unwrap(), Err(LockError::Cancelled { .. })));
        assert_at_rest(&locks);
    }
}

#[test]
fn callback_may_keep_its_lock() {
    let locks = few_shards(Fairness::Fifo);
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let kept = Arc::new(Mutex::new(None));
    let shelf = Arc::clone(&kept);
    let submitted = locks.lock(write()).with_callback(move |answer| *shelf.lock().unwrap() = answer.ok());
    assert!(submitted.unwrap().ticket().is_some());
    drop(held);
    until("the guard", || kept.lock().unwrap().is_some());
    assert!(locks.try_acquire_read_lock("b", "o", "x").is_err());
    kept.lock().unwrap().take();
    drop(locks.try_acquire_write_lock("b", "o", "x").unwrap());
    assert_at_rest(&locks);
}

#[test]
fn blocking_callback_delays_only_callbacks() {
    let locks = few_shards(Fairness::Fifo);
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let (open, gate) = mpsc::channel::<()>();
    let submitted = locks.lock(write()).with_callback(move |answer| {
        drop(answer);
        let _ = gate.recv();
    });
    assert!(submitted.unwrap().ticket().is_some());
    let (_, second) = by_channel(&locks, write());
    drop(held);
    let mut other = locks.acquire_write_lock_blocking("b", "elsewhere", "x").unwrap();
    other.downgrade();
    drop(other);
    drop(open);
    drop(second.recv_timeout(FOREVER).unwrap().unwrap());
    assert_at_rest(&locks);
}

#[test]
fn a_callback_may_drop_the_last_handle() {
    within("the last handle dropped in a callback", || {
        let locks = few_shards(Fairness::Fifo);
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap().into_owned();
        let (send, receive) = mpsc::channel();
        let (manager, first) = (locks.clone(), send.clone());
        let submitted = locks.lock(write()).with_callback(move |answer| {
            drop((answer, manager));
            first.send("first").unwrap();
        });
        assert!(submitted.unwrap().ticket().is_some());
        drop((locks, held));
        assert_eq!(receive.recv_timeout(FOREVER).unwrap(), "first");
        drop(send);
        assert!(receive.recv_timeout(FOREVER).is_err(), "the callback is let go");
    });
}

/// What a callback captures is dropped outside the locks, and may use the manager.
#[test]
fn refused_callback_drops_outside_locks() {
    within("a refused callback that holds a lock", || {
        let locks = with(LockConfig { shards: 1, max_waiters: 1, fairness: Fairness::Fifo, ..LockConfig::default() });
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let captured = locks.acquire_write_lock_blocking("b", "captured", "callback").unwrap().into_owned();
        // A thread waits for the captured lock, so that its release has to look in at the shard.
        let mut waiter = ByHand::waiting(locks.acquire_write_lock("b", "captured", "waiter"));
        let refused = locks.lock(write()).with_callback(move |_| drop(captured));
        assert!(matches!(refused, Err(LockError::TooManyWaiters { limit: 1 })), "{refused:?}");
        drop(waiter.after_wakes().unwrap());
        drop((waiter, held));
        assert_at_rest(&locks);
    });
}
