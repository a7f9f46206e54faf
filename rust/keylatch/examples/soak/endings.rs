//! The end of a manager while it is in use, and the end of a process in a fork.

use crate::Soak;
use crate::load::FOREVER;
use crate::random::Random;
use crate::report::at_rest;
use keylatch::{FastObjectLockManager, LockConfig, LockError, LockRequest, Submitted};
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const IN_USE_FOR: Duration = Duration::from_millis(5);
const CALLBACKS: usize = 50;

/// Threads, futures, callbacks and a queue wait; the close ends all their waits.
///
/// What is held can still be released.
pub(crate) fn close_under_load(soak: &Soak, random: &mut Random) {
    let config = LockConfig { shards: 2, fairness: soak.options.fairness, ..LockConfig::default() };
    let Ok(locks) = FastObjectLockManager::with_config(config) else {
        return soak.tally.violation("no manager to close".into());
    };
    let (Ok(held), Ok(queue)) = (locks.acquire_write_lock_blocking("b", "held", "holder"), locks.completion_queue())
    else {
        return soak.tally.violation("no manager to close".into());
    };
    let (called, calls) = mpsc::channel();
    for number in 0..CALLBACKS {
        let called = called.clone();
        let request = LockRequest::new(("b", "held"), random.mode());
        let by_callback = locks.lock(request).with_callback(move |answer| called.send(answer.map(drop)).unwrap_or(()));
        let by_queue = locks.lock(request).with_queue(&queue, number as u64);
        let both_wait = matches!((by_callback, by_queue), (Ok(Submitted::Waiting(_)), Ok(Submitted::Waiting(_))));
        soak.tally.expect(both_wait, || "a request did not have to wait".into());
    }
    drop(called);
    let context = &mut Context::from_waker(Waker::noop());
    let mut futures: Vec<_> =
        (0..CALLBACKS).map(|_| locks.acquire_read_lock("b", "held", "future").into_future()).collect();
    futures.iter_mut().for_each(|future| assert!(Pin::new(future).poll(context).is_pending()));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let locks = &locks;
            // Two stay in line at the held key, two go in and out of a free one.
            let name = if number < 2 { "held" } else { "free" };
            scope.spawn(move || {
                let ended = loop {
                    if let Err(error) = locks.acquire_write_lock_blocking("b", name, "thread").map(drop) {
                        break error;
                    }
                };
                soak.tally.expect(ended == LockError::Closed, || format!("a thread got {ended}"));
            });
        }
        std::thread::sleep(IN_USE_FOR);
        locks.close();
    });
    for future in &mut futures {
        let closed = matches!(Pin::new(future).poll(context), Poll::Ready(Err(LockError::Closed)));
        soak.tally.expect(closed, || "a future did not fail when the manager closed".into());
    }
    let closed = (0..CALLBACKS).filter(|_| calls.recv_timeout(FOREVER) == Ok(Err(LockError::Closed))).count();
    soak.tally.expect(closed == CALLBACKS, || format!("{closed} of {CALLBACKS} callbacks failed when it closed"));
    let fetched = |_: &usize| {
        queue.next(Some(FOREVER)).ok().flatten().is_some_and(|one| one.result.err() == Some(LockError::Closed))
    };
    let closed = (0..CALLBACKS).filter(fetched).count();
    soak.tally.expect(closed == CALLBACKS, || format!("{closed} of {CALLBACKS} completions said that it closed"));
    soak.tally.expect(locks.release(held.into_grant()).is_ok(), || "closed, and a lock cannot be released".into());
    drop((futures, queue));
    at_rest(&locks, "after closing", &soak.tally);
}

unsafe extern "C" {
    safe fn fork() -> i32;
    safe fn waitpid(child: i32, status: Option<&mut i32>, options: i32) -> i32;
    safe fn alarm(seconds: u32) -> u32;
    safe fn _exit(status: i32) -> !;
}

/// `waitpid` looks and does not wait.
const WNOHANG: i32 = 1;

/// A forked child gets an error in every call, and builds a manager of its own.
///
/// Here everything goes on.
pub(crate) fn fork_in_the_middle(soak: &Soak, _: &mut Random) {
    let mut held = soak.locks.acquire_write_lock_blocking("fork", "held", "parent").ok();
    let detached =
        soak.locks.acquire_write_lock_blocking("fork", "detached", "parent").map(keylatch::LockGuard::into_grant);
    let (Some(_), Ok(detached)) = (&held, detached) else {
        return soak.tally.violation("no locks to fork with".into());
    };
    let child = fork();
    if child == 0 {
        // Ends a child that hangs.
        alarm(10);
        let write = || soak.locks.lock(LockRequest::write(("fork", "free")));
        let refused = write().try_now().err() == Some(LockError::Forked)
            && write().blocking().err() == Some(LockError::Forked)
            && soak.locks.release(detached) == Err(LockError::Forked);
        drop(held.take());
        let fresh = FastObjectLockManager::with_config(LockConfig { shards: 1, ..LockConfig::default() });
        let works = fresh.is_ok_and(|fresh| fresh.acquire_write_lock_blocking("fork", "held", "child").is_ok());
        _exit(if !refused { 1 } else { i32::from(!works) * 2 });
    }
    if child < 0 {
        return soak.tally.violation("no process to be had".into());
    }
    let (mut status, until) = (0, Instant::now() + FOREVER);
    while waitpid(child, Some(&mut status), WNOHANG) == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    soak.tally.expect(status == 0, || format!("a forked child ended with status {status:#x}"));
    let still_held = soak.locks.try_acquire_read_lock("fork", "held", "other").is_err();
    soak.tally.expect(still_held, || "a child released its parent's lock".into());
    soak.tally.expect(soak.locks.release(detached).is_ok(), || "a child released its parent's grant".into());
}
