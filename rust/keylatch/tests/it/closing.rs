//! The end of a manager: what every verb answers then, and what becomes of those who wait and those who hold.

use crate::steps::*;
use keylatch::{
    BatchLockRequest, BatchMode, Fairness, FastObjectLockManager, LockBatch, LockError, LockGuard, LockRequest,
    OwnedLockGuard,
};
use std::sync::mpsc;

fn write() -> LockRequest<'static> {
    LockRequest::write(("b", "o")).owner("me")
}

#[test]
fn a_closed_manager_answers_every_verb() {
    for was_used in [false, true] {
        let locks = few_shards(Fairness::default());
        let queue = locks.completion_queue().unwrap();
        if was_used {
            drop(locks.lock(write()).try_now().unwrap());
            let _ = locks.lock(write()).with_callback(|_| ()).unwrap();
        }
        assert!(!locks.is_closed());
        locks.close();
        locks.close();
        assert!(locks.is_closed() && locks.clone().is_closed());
        let batch = || BatchLockRequest::new("me").add_write_lock("b", "o").add_read_lock("b", "p");
        let answers = [
            locks.lock(write()).blocking().map(drop),
            locks.lock(write()).try_now().map(drop),
            locks.lock(write().timeout(std::time::Duration::ZERO)).blocking().map(drop),
            ByHand::new(locks.lock(write())).ready().map(drop),
            locks.lock(write()).with_callback(|_| panic!("not called")).map(drop),
            locks.lock(write()).with_queue(&queue, 1).map(drop),
            locks.acquire_locks_batch_blocking(batch()).map(drop),
            locks.acquire_locks_batch_blocking(batch().mode(BatchMode::BestEffort)).map(drop),
            ByHand::new(Box::pin(locks.acquire_locks_batch(batch()))).ready().map(drop),
        ];
        for (verb, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer, Err(LockError::Closed), "verb {verb}");
        }
        assert!(queue.try_next().is_none());
        assert!(locks.get_metrics().is_healthy());
        let _ = locks.owner("still fine");
    }
}

#[test]
fn close_keeps_holds_until_release() {
    let locks = few_shards(Fairness::default());
    let mut guard = locks.acquire_write_lock_blocking("b", "guard", "me").unwrap();
    let owned = locks.acquire_write_lock_blocking("b", "owned", "me").unwrap().into_owned();
    let grant = locks.acquire_write_lock_blocking("b", "grant", "me").unwrap().into_grant();
    let batch: LockBatch<'_> =
        locks.acquire_locks_batch_blocking(BatchLockRequest::new("me").add_write_lock("b", "batch")).unwrap();
    locks.close();
    assert_eq!(locks.get_metrics().shard_metrics.holders, 4);
    guard.downgrade();
    assert_eq!(guard.key().to_string(), "b/guard");
    assert_eq!(guard.try_upgrade(), Err(LockError::Closed));
    assert_eq!(guard.upgrade_blocking(None), Err(LockError::Closed));
    locks.release(grant).unwrap();
    assert!(locks.release(grant).is_err());
    let detached = guard.into_grant();
    drop(locks.adopt(detached).unwrap());
    drop((owned, batch));
    assert_at_rest(&locks);
}

#[test]
fn closing_ends_every_kind_of_wait() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        within("a close with all kinds of waiters", move || {
            let queue = locks.completion_queue().unwrap();
            let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
            let mut reader = locks.acquire_read_lock_blocking("b", "upgraded", "reader").unwrap();
            let other = locks.acquire_read_lock_blocking("b", "upgraded", "other").unwrap();
            let (send, called_back) = mpsc::channel();
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| locks.lock(write()).blocking().map(drop));
                let batch = BatchLockRequest::new("me").add_write_lock("b", "a").add_write_lock("b", "o");
                let batch_thread = scope.spawn(|| locks.acquire_locks_batch_blocking(batch).map(drop));
                let mut future = ByHand::waiting(locks.lock(write()));
                let mut upgrade = ByHand::waiting(reader.upgrade(None));
                let submitted = locks.lock(write()).with_callback(move |answer| send.send(answer.map(drop)).unwrap());
                assert!(submitted.unwrap().ticket().is_some());
                assert!(locks.lock(write()).with_queue(&queue, 5).unwrap().ticket().is_some());
                until_in_line(&locks, 6);
                locks.close();
                assert_eq!(thread.join().unwrap(), Err(LockError::Closed));
                assert_eq!(batch_thread.join().unwrap(), Err(LockError::Closed));
                assert_eq!(future.ready().map(drop), Err(LockError::Closed));
                assert_eq!(upgrade.ready(), Err(LockError::Closed));
                assert_eq!(called_back.recv_timeout(FOREVER).unwrap(), Err(LockError::Closed));
                let completion = queue.next(Some(FOREVER)).unwrap().unwrap();
                assert_eq!((completion.token, completion.result.map(drop)), (5, Err(LockError::Closed)));
            });
            assert_eq!(reader.mode(), keylatch::Mode::Shared);
            assert_eq!(waiters(&locks), 0);
            drop((held, other, reader, queue));
            assert_at_rest(&locks);
        });
    }
}

/// The first writer in line keeps readers out; the close ends all their waits.
#[test]
fn close_grants_no_lock_to_readers_behind() {
    for fairness in [Fairness::Fifo, Fairness::WriterFirst] {
        let locks = few_shards(fairness);
        let held = locks.acquire_read_lock_blocking("b", "o", "holder").unwrap();
        let mut writer = ByHand::waiting(locks.acquire_write_lock("b", "o", "writer"));
        let mut reader = ByHand::waiting(locks.acquire_read_lock("b", "o", "reader"));
        locks.close();
        assert_eq!(writer.ready().map(drop), Err(LockError::Closed));
        assert_eq!(reader.ready().map(drop), Err(LockError::Closed), "granted by a closed manager");
        drop(held);
    }
}

#[test]
fn unpolled_future_fails_after_close() {
    let locks = few_shards(Fairness::default());
    let mut future = ByHand::new(locks.lock(write()));
    locks.close();
    assert_eq!(future.ready().map(drop), Err(LockError::Closed));
}

#[test]
fn a_close_races_requests_and_all_of_them_end() {
    for fairness in POLICIES {
        for _ in 0..60 {
            let locks = few_shards(fairness);
            within("requests racing a close", move || {
                std::thread::scope(|scope| {
                    for thread in 0..3_u8 {
                        let locks = &locks;
                        scope.spawn(move || {
                            loop {
                                let ended = match thread {
                                    0 => ByHand::new(locks.lock(write())).after_wakes().map(drop),
                                    1 => locks.lock(write()).blocking().map(LockGuard::release),
                                    _ => {
                                        let batch =
                                            BatchLockRequest::new("x").add_read_lock("b", "o").add_write_lock("b", "p");
                                        locks.acquire_locks_batch_blocking(batch).map(drop)
                                    }
                                };
                                match ended {
                                    Ok(()) => {}
                                    Err(LockError::Closed) => return,
                                    Err(other) => panic!("{other:?}"),
                                }
                            }
                        });
                    }
                    until("some traffic", || locks.get_metrics().shard_metrics.acquisitions() > 20);
                    locks.close();
                });
                assert_at_rest(&locks);
            });
        }
    }
}

#[test]
fn last_handle_drop_ends_callback_waits() {
    let locks = few_shards(Fairness::Fifo);
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap().into_grant();
    let answers: Vec<_> = (0..10)
        .map(|_| {
            let (send, receive) = mpsc::channel();
            let submitted = locks.lock(write()).with_callback(move |answer| send.send(answer.map(drop)).unwrap());
            assert!(submitted.unwrap().ticket().is_some());
            receive
        })
        .collect();
    let other = locks.clone();
    drop(locks);
    assert!(answers[0].try_recv().is_err(), "one handle is left");
    drop(other);
    for answer in answers {
        assert_eq!(answer.recv_timeout(FOREVER).unwrap(), Err(LockError::Closed));
        assert!(answer.recv_timeout(FOREVER).is_err(), "the callback is let go");
    }
    let _ = held;
}

#[test]
fn an_owned_guard_is_a_handle_too() {
    let locks = few_shards(Fairness::Fifo);
    let owned: OwnedLockGuard = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap().into_owned();
    let (send, receive) = mpsc::channel();
    let submitted = locks.lock(write()).with_callback(move |answer| send.send(answer).unwrap());
    assert!(submitted.unwrap().ticket().is_some());
    drop(locks);
    drop(owned);
    // Granted to the one that waited, which is the last handle now, or failed because the last handle is gone.
    match receive.recv_timeout(FOREVER).unwrap() {
        Ok(guard) => assert_eq!(guard.key().to_string(), "b/o"),
        Err(error) => assert_eq!(error, LockError::Closed),
    }
}

#[test]
fn dropped_managers_leave_no_threads() {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let round = || {
        let locks: FastObjectLockManager = few_shards(Fairness::default());
        let held = locks.lock(write()).blocking().unwrap();
        let (send, receive) = mpsc::channel();
        let submitted = locks.lock(write()).with_callback(move |answer| send.send(answer.map(drop)).unwrap());
        assert!(submitted.unwrap().ticket().is_some());
        let soon = write().timeout(std::time::Duration::from_micros(100));
        assert!(ByHand::new(locks.lock(soon)).after_wakes().is_err());
        drop(held);
        receive.recv_timeout(FOREVER).unwrap().unwrap();
    };
    let before = threads();
    (0..200).for_each(|_| round());
    // Its two threads end by themselves soon after; other tests of this file run some dozen meanwhile.
    until("the managers' threads have ended", || threads() < before + 100);
}
