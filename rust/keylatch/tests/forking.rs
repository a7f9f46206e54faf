//! In a forked child every call says so at once, and a new manager works there.
#![cfg(unix)]

mod steps;

use keylatch::{BatchLockRequest, Fairness, LockError, LockRequest};
use std::time::Duration;
use steps::*;

unsafe extern "C" {
    safe fn fork() -> i32;
    safe fn waitpid(child: i32, status: Option<&mut i32>, options: i32) -> i32;
    safe fn _exit(status: i32) -> !;
}

/// Runs `checks` in a forked child; each must be true. A child that hangs in one of them is ended by its own watch.
fn in_a_child(checks: impl FnOnce() -> Vec<bool>) {
    let child = fork();
    assert!(child >= 0, "no process to be had");
    if child == 0 {
        let checks = checks();
        let failed = checks.iter().position(|good| !good);
        _exit(failed.map_or(0, |number| number as i32 + 1));
    }
    let mut status = 0;
    until("the child's end", || waitpid(child, Some(&mut status), 1) == child);
    assert_eq!(status, 0, "check number {} failed in the child", (status >> 8) - 1);
}

#[test]
fn a_forked_child_is_told_so_and_the_parent_goes_on() {
    let locks = few_shards(Fairness::default());
    let held = locks.acquire_write_lock_blocking("b", "held", "parent").unwrap();
    let grant = locks.acquire_write_lock_blocking("b", "loose", "parent").unwrap().into_grant();
    let queue = locks.completion_queue().unwrap();
    let ticket = locks.lock(LockRequest::write(("b", "held"))).with_queue(&queue, 1).unwrap().ticket().unwrap();
    let mut future = ByHand::waiting(locks.acquire_read_lock("b", "held", "future"));
    let mut held = Some(held);
    let handle = locks.clone();
    in_a_child(|| {
        let forked = |answer: Result<(), LockError>| answer == Err(LockError::Forked);
        let write = || LockRequest::write(("b", "free"));
        let mut checks = vec![
            forked(locks.lock(write()).try_now().map(drop)),
            forked(locks.lock(write()).blocking().map(drop)),
            forked(locks.lock(write().timeout(Duration::ZERO)).blocking().map(drop)),
            forked(ByHand::new(locks.lock(write())).ready().map(drop)),
            forked(locks.lock(write()).with_queue(&queue, 2).map(drop)),
            held.as_mut().is_some_and(|held| forked(held.try_downgrade())),
            forked(locks.release(grant)),
            forked(locks.fence(grant).map(drop)),
            forked(locks.key_and_mode(grant).map(drop)),
            forked(locks.adopt(grant).map(drop)),
            !locks.cancel(ticket),
            forked(
                locks
                    .acquire_locks_batch_blocking(BatchLockRequest::new("x").add_write_lock("b", "free"))
                    .map(drop)
                    .map_err(|error| match error {
                        LockError::Batch { cause, .. } => *cause,
                        error => error,
                    }),
            ),
        ];
        locks.close();
        drop(held.take());
        drop(handle);
        let fresh = few_shards(Fairness::default());
        checks.push(fresh.acquire_write_lock_blocking("b", "held", "child").is_ok());
        checks
    });
    assert!(future.poll().is_pending(), "the parent's lock is still held");
    assert!(!locks.is_closed());
    assert!(locks.cancel(ticket));
    locks.release(grant).unwrap();
    drop(held);
    drop(future.after_wakes().unwrap());
    drop((future, queue));
    assert_at_rest(&locks);
}
