//! Results that an event loop fetches: a descriptor that tells when, and a queue that tells what.

use crate::steps::*;
use keylatch::{CompletionQueue, Fairness, FastObjectLockManager, LockError, LockRequest, Submitted};
use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::Duration;

fn write() -> LockRequest<'static> {
    LockRequest::write(("b", "o")).owner("by queue")
}

#[track_caller]
fn waits(locks: &FastObjectLockManager, queue: &CompletionQueue, token: u64) -> keylatch::Ticket {
    locks.lock(write()).with_queue(queue, token).unwrap().ticket().expect("it has to wait")
}

/// Returns whether the descriptor is readable.
///
/// On Linux it is an eventfd, whose count is put back after a look.
fn readable(queue: &CompletionQueue) -> bool {
    let mut file = File::from(queue.as_fd().try_clone_to_owned().unwrap());
    match file.read_exact(&mut [0; 8]) {
        Ok(()) => {
            std::io::Write::write_all(&mut file, &1_u64.to_ne_bytes()).unwrap();
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

#[test]
fn a_free_lock_does_not_go_through_the_queue() {
    let locks = few_shards(Fairness::default());
    let queue = locks.completion_queue().unwrap();
    let submitted = locks.lock(write()).with_queue(&queue, 1).unwrap();
    assert!(matches!(submitted, Submitted::Granted(_)));
    assert!(queue.try_next().is_none());
    drop(submitted);
    assert_at_rest(&locks);
}

#[test]
#[cfg(target_os = "linux")]
fn descriptor_is_readable_while_results_wait() {
    let locks = few_shards(Fairness::Fifo);
    let queue = locks.completion_queue().unwrap();
    assert!(!readable(&queue));
    for round in 0..100 {
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        waits(&locks, &queue, round);
        waits(&locks, &queue, round + 1000);
        assert!(!readable(&queue));
        drop(held);
        assert!(readable(&queue));
        let first = queue.try_next().unwrap();
        assert_eq!(first.token, round);
        drop(first.result.unwrap());
        assert!(readable(&queue));
        let second = queue.try_next().unwrap();
        assert_eq!(second.token, round + 1000);
        assert!(queue.try_next().is_none());
        assert!(!readable(&queue), "nothing is left");
        drop(second);
    }
    drop(queue);
    assert_at_rest(&locks);
}

#[test]
fn wait_for_next_result_times_out() {
    let locks = few_shards(Fairness::default());
    let queue = locks.completion_queue().unwrap();
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_millis(3)] {
        let began = std::time::Instant::now();
        assert!(queue.next(Some(timeout)).unwrap().is_none());
        assert!(began.elapsed() >= timeout);
    }
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    waits(&locks, &queue, 7);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| queue.next(Some(Duration::MAX)).unwrap().expect("a result").token);
        drop(held);
        assert_eq!(sleeper.join().unwrap(), 7);
    });
    assert_at_rest(&locks);
}

#[test]
fn each_result_goes_to_one_of_many_threads() {
    let locks = few_shards(Fairness::Fifo);
    within("several threads at one queue", move || {
        let queue = locks.completion_queue().unwrap();
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        for token in 0..2000 {
            waits(&locks, &queue, token);
        }
        drop(held);
        let story = Story::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while story.so_far().len() < 2000 {
                        if let Some(completion) = queue.next(Some(Duration::from_millis(2))).unwrap() {
                            story.tell(completion.token);
                            drop(completion.result.unwrap());
                        }
                    }
                });
            }
        });
        assert_eq!(story.so_far().into_iter().collect::<HashSet<_>>().len(), 2000);
        drop(queue);
        assert_at_rest(&locks);
    });
}

#[test]
fn timeouts_and_cancellations_arrive_too() {
    let locks = few_shards(Fairness::default());
    let queue = locks.completion_queue().unwrap();
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let asked = Duration::from_millis(2);
    let late = locks.lock(write().timeout(asked)).with_queue(&queue, 1).unwrap();
    let completion = queue.next(Some(FOREVER)).unwrap().unwrap();
    assert_eq!(Some(completion.ticket), late.ticket());
    match completion.result {
        Err(LockError::Timeout { waited, holders, .. }) => {
            assert!(waited >= asked);
            assert_eq!(&*holders.named[0].owner, "holder");
        }
        other => panic!("{other:?}"),
    }
    let ticket = waits(&locks, &queue, 2);
    assert!(locks.cancel(ticket));
    let completion = queue.try_next().expect("a cancelled request's result is there already");
    assert_eq!((completion.token, completion.ticket), (2, ticket));
    assert!(matches!(completion.result, Err(LockError::Cancelled { .. })));
    let refused = locks.lock(write().timeout(Duration::ZERO)).with_queue(&queue, 3);
    assert!(matches!(refused, Err(LockError::Timeout { .. })));
    assert!(queue.try_next().is_none());
    drop((held, queue));
    assert_at_rest(&locks);
}

#[test]
fn another_managers_queue_is_refused() {
    let (mine, theirs) = (few_shards(Fairness::Fifo), few_shards(Fairness::Fifo));
    let queue = theirs.completion_queue().unwrap();
    match mine.lock(write()).with_queue(&queue, 1) {
        Err(LockError::InvalidConfig { setting: "queue", .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_at_rest(&mine);
}

#[test]
fn dropped_queue_releases_unfetched_grants() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let queue = locks.completion_queue().unwrap();
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        for token in 0..10 {
            waits(&locks, &queue, token);
        }
        drop(held);
        drop(queue);
        drop(within("a lock granted to a queue that is gone", {
            let locks = locks.clone();
            move || {
                locks
                    .acquire_write_lock_blocking("b", "o", "next")
                    .map(keylatch::FastLockGuard::into_grant)
                    .map(|grant| locks.release(grant))
            }
        }));
        assert_at_rest(&locks);
    }
}

/// The queue goes before the grant comes: the manager has to pass the lock on.
#[test]
fn request_without_queue_gives_lock_on() {
    let locks = few_shards(Fairness::Fifo);
    let queue = locks.completion_queue().unwrap();
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    waits(&locks, &queue, 1);
    drop(queue);
    drop(held);
    let after = locks.lock(LockRequest::write(("b", "o")).timeout(FOREVER)).blocking();
    drop(after.expect("the lock was granted to a request that cannot be answered any more"));
    assert_at_rest(&locks);
}

/// A manager is dropped whole, though its requests still wait without their queue.
#[test]
#[cfg(target_os = "linux")]
fn manager_drops_after_queue_and_requests() {
    let address_space = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
    };
    let round = || {
        let locks = FastObjectLockManager::new();
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let queue = locks.completion_queue().unwrap();
        waits(&locks, &queue, 1);
        drop((queue, held));
    };
    round();
    let before = address_space();
    (0..64).for_each(|_| round());
    // A default manager reserves more than a gibibyte of addresses; other tests of this file have a few at a time.
    let grown = address_space().saturating_sub(before) >> 30;
    assert!(grown < 40, "{grown} GiB of addresses were not given back by 64 managers");
}

#[test]
fn queue_ends_after_last_result_is_fetched() {
    let locks = few_shards(Fairness::Fifo);
    let (queue, idle) = (locks.completion_queue().unwrap(), locks.completion_queue().unwrap());
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    waits(&locks, &queue, 7);
    assert!(!queue.is_over());
    std::thread::scope(|scope| {
        let sleeps = scope.spawn(|| idle.next(None).unwrap());
        locks.close();
        assert!(sleeps.join().unwrap().is_none());
    });
    assert!(idle.is_over() && !queue.is_over());
    let ended = queue.next(None).unwrap().expect("the request was ended by the close");
    assert!(matches!(ended.result, Err(LockError::Closed)));
    assert!(queue.next(None).unwrap().is_none() && queue.is_over());
    assert_eq!(locks.lock(write()).with_queue(&queue, 8).unwrap_err(), LockError::Closed);
    let late = locks.completion_queue().unwrap();
    assert!(late.next(None).unwrap().is_none() && late.is_over());
    drop(held);
}

/// A grant on its way at the close is handed out or ended; then none follows.
#[test]
fn closing_against_results_on_their_way() {
    for _ in 0..300 {
        let locks = few_shards(Fairness::Fifo);
        let queue = locks.completion_queue().unwrap();
        let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        for token in 0..3 {
            waits(&locks, &queue, token);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| drop(held));
            scope.spawn(|| locks.close());
            let mut tokens = HashSet::new();
            while let Some(completion) = queue.next(None).unwrap() {
                assert!(tokens.insert(completion.token));
            }
            assert_eq!(tokens.len(), 3);
        });
        assert!(queue.is_over());
        assert_at_rest(&locks);
    }
}
