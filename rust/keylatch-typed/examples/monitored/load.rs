//! Something of everything that the figures show, a little of it all the time.

use keylatch::{EventOptions, FastObjectLockManager, Filter, LockError, LockRequest};
use keylatch_typed::{AsyncRwLock, LockId, LockMonitor};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, sleep};
use std::time::Duration;

const A_MOMENT: Duration = Duration::from_millis(2);

/// Starts the threads. They end when `ended` is set and the manager is closed.
pub(crate) fn start<'s>(scope: &'s Scope<'s, '_>, locks: &'s FastObjectLockManager, ended: &'s AtomicBool) {
    let again = |step: fn(&FastObjectLockManager) -> Result<(), LockError>| {
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                // Timeouts and deadlocks are what some steps are for.
                drop(step(locks));
                sleep(A_MOMENT);
            }
        });
    };
    (0..2).for_each(|_| again(share_a_hot_key));
    (0..2).for_each(|_| again(own_a_hot_key));
    again(time_out);
    again(upgrade);
    again(lose_a_lease);
    again(be_released_by_force);
    again(deadlock);
    scope.spawn(|| miss_events(locks, ended));
}

fn own_a_hot_key(locks: &FastObjectLockManager) -> Result<(), LockError> {
    let _guard = locks.lock(LockRequest::write(("photos", "hot")).owner("writer")).blocking()?;
    sleep(A_MOMENT);
    Ok(())
}

fn share_a_hot_key(locks: &FastObjectLockManager) -> Result<(), LockError> {
    let _guard = locks.lock(LockRequest::read(("photos", "hot")).owner("reader")).blocking()?;
    sleep(A_MOMENT);
    Ok(())
}

fn time_out(locks: &FastObjectLockManager) -> Result<(), LockError> {
    let _held = locks.lock(LockRequest::write(("photos", "busy")).owner("holder")).blocking()?;
    locks.lock(LockRequest::read(("photos", "busy")).timeout(A_MOMENT)).blocking().map(drop)
}

fn upgrade(locks: &FastObjectLockManager) -> Result<(), LockError> {
    let mut guard = locks.lock(LockRequest::read(("photos", "upgraded"))).blocking()?;
    let _other = locks.lock(LockRequest::read(("photos", "upgraded"))).blocking()?;
    guard.upgrade_blocking(Some(A_MOMENT))
}

fn lose_a_lease(locks: &FastObjectLockManager) -> Result<(), LockError> {
    let _late = locks.lock(LockRequest::write(("photos", "leased")).ttl(Duration::from_micros(1))).blocking()?;
    locks.lock(LockRequest::write(("photos", "leased"))).blocking().map(drop)
}

fn be_released_by_force(locks: &FastObjectLockManager) -> Result<(), LockError> {
    let _stuck = locks.lock(LockRequest::write(("photos", "stuck")).owner("stuck")).blocking()?;
    drop(locks.force_release(&Filter::new().owner("stuck")));
    Ok(())
}

/// Two sessions that take two keys in two orders; one of them gives way.
fn deadlock(locks: &FastObjectLockManager) -> Result<(), LockError> {
    let (one, other) = (locks.session("one"), locks.session("other"));
    let request = |object: &'static str, owner| LockRequest::write(("photos", object)).owner(owner);
    let _left = locks.lock(request("left", &one)).blocking()?;
    let right = locks.lock(request("right", &other)).blocking()?;
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| locks.lock(request("right", &one)).blocking().map(drop));
        let gave_way = locks.lock(request("left", &other).timeout(Duration::from_secs(1))).blocking().map(drop);
        drop(right);
        drop(waits.join());
        gave_way
    })
}

/// Starts threads that write to, read and wait in vain for a typed lock.
///
/// They end when `ended` is set.
pub(crate) fn start_typed<'s>(scope: &'s Scope<'s, '_>, monitor: &LockMonitor, ended: &'s AtomicBool) {
    let scores = std::sync::Arc::new(AsyncRwLock::new(0_u64, A_MOMENT));
    monitor.register_lock(LockId::new("monitored", "scores"), scores.stats().clone());
    let again = |step: fn(&AsyncRwLock<u64>)| {
        let scores = std::sync::Arc::clone(&scores);
        scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                step(&scores);
                sleep(A_MOMENT);
            }
        });
    };
    again(|scores| {
        if let Ok(mut scores) = scores.blocking_write_with_timeout() {
            *scores += 1;
            sleep(A_MOMENT);
        }
    });
    (0..2).for_each(|_| again(|scores| drop(scores.blocking_read_with_timeout())));
    again(|scores| drop(scores.blocking_write_with_custom_timeout(Duration::from_nanos(1))));
}

/// A subscriber with little room that fetches nothing, and has holds timed.
fn miss_events(locks: &FastObjectLockManager, ended: &AtomicBool) {
    let nothing_less = Some(Duration::from_millis(1));
    let _events = locks.subscribe(EventOptions { wait_above: nothing_less, hold_above: nothing_less, capacity: 16 });
    while !ended.load(Ordering::Relaxed) {
        sleep(A_MOMENT);
    }
}
