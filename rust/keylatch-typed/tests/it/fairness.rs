//! The order of the line: first come, first served, neighbouring readers together.

use crate::waiting::{LONG, granted, in_line};
use futures_util::FutureExt;
use keylatch_typed::{AsyncMutex, AsyncRwLock};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn line_is_served_in_order() {
    let lock = AsyncRwLock::new((), LONG);
    let held = lock.try_read().unwrap();
    let first = in_line(lock.write_with_timeout());
    let readers = [in_line(lock.read_with_timeout()), in_line(lock.read_with_timeout())];
    let last = in_line(lock.write_with_timeout());
    assert!(lock.try_read().is_none(), "a line keeps newcomers out");
    drop(held);
    drop(granted(first));
    let readers = readers.map(granted);
    let last = in_line(last);
    drop(readers);
    drop(granted(last));
}

#[test]
fn leaving_writer_lets_readers_in() {
    let lock = AsyncRwLock::new((), LONG);
    let _held = lock.try_read().unwrap();
    let writer = in_line(lock.write_with_timeout());
    let reader = in_line(lock.read_with_timeout());
    drop(writer);
    drop(granted(reader));
    assert!(lock.try_read().is_some(), "the line is gone");
}

#[test]
fn timed_out_writer_lets_readers_in() {
    let lock = AsyncRwLock::new((), LONG);
    let _held = lock.try_read().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(lock.blocking_write_with_custom_timeout(Duration::from_millis(20)).is_err()));
        while lock.stats().current_waiters() == 0 && lock.stats().timeout_count() == 0 {
            std::thread::yield_now();
        }
        drop(lock.blocking_read_with_timeout().unwrap());
    });
}

#[test]
fn crowd_of_readers_is_granted_together() {
    let lock = AsyncRwLock::new((), LONG);
    let held = lock.try_write().unwrap();
    let readers: Vec<_> = (0..1000).map(|_| in_line(lock.read_with_timeout())).collect();
    drop(held);
    let readers: Vec<_> = readers.into_iter().map(granted).collect();
    assert_eq!(lock.stats().figures().current_holders, 1000);
    drop(readers);
    assert!(lock.try_write().is_some());
}

#[test]
fn writer_is_not_starved_by_readers() {
    let lock = AsyncRwLock::new(0, LONG);
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _reading = lock.blocking_read_with_timeout().unwrap();
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..100 {
            // Each reader may enter once more before it sees the line, and the head of the line may be three readers.
            *lock.blocking_write_with_timeout().unwrap() += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(*lock.try_read().unwrap(), 100);
}

#[test]
fn released_mutex_goes_to_the_waiter() {
    let mutex = AsyncMutex::new(0, LONG);
    let held = mutex.try_lock().unwrap();
    let mut waiter = in_line(mutex.lock_with_timeout());
    drop(held);
    // Handed over before the waiter is polled: the releasing thread cannot take it back.
    assert!(mutex.try_lock().is_none());
    assert!((&mut waiter).now_or_never().unwrap().is_ok());
    assert!(mutex.try_lock().is_some());
}
