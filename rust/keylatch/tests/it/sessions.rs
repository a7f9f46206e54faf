//! Sessions: asking again, being answered again, and labels, which are nothing of the kind.

use crate::steps::{until, until_in_line, waiters, within};
use keylatch::{
    BatchLockRequest, BatchMode, Fairness, FastObjectLockManager, Filter, LockConfig, LockError, LockRequest, Mode,
    NumberedRequest, Reentrancy, Session,
};
use std::sync::Barrier;
use std::time::{Duration, Instant};

fn counting() -> FastObjectLockManager {
    FastObjectLockManager::with_config(LockConfig { reentrancy: Reentrancy::Count, ..LockConfig::default() }).unwrap()
}

fn write() -> LockRequest<'static> {
    LockRequest::write(("b", "o"))
}

fn read() -> LockRequest<'static> {
    LockRequest::read(("b", "o"))
}

#[test]
fn session_cannot_wait_for_itself() {
    let locks = FastObjectLockManager::new();
    let session = locks.session_with_source("txn-1", "test");
    for (n, (held, asked)) in [(write(), write()), (write(), read()), (read(), write())].into_iter().enumerate() {
        let guard = locks.lock(held.owner(&session)).blocking().unwrap();
        let error = locks.lock(asked.owner(&session)).blocking().unwrap_err();
        let LockError::Deadlock { cycle, .. } = &error else { panic!("{error}") };
        assert_eq!((&*cycle[0].session, cycle[0].source, cycle.len()), ("txn-1", "test", 1));
        assert!(!error.is_transient(), "trying again does not help");
        assert_eq!(error.to_string().contains("upgrade"), n == 2);
        assert!(matches!(locks.lock(asked.owner(&session)).try_now(), Err(LockError::WouldBlock { .. })));
        drop(guard);
    }
    let first = locks.lock(read().owner(&session)).blocking().unwrap();
    drop(locks.lock(read().owner(&session)).blocking().expect("sharing with oneself is sharing"));
    drop(first);
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
}

/// The search for deadlocks is off, and not needed: it is seen when it asks.
#[test]
fn self_wait_is_found_without_deadlock_search() {
    let locks =
        FastObjectLockManager::with_config(LockConfig { deadlock_delay: None, ..LockConfig::default() }).unwrap();
    let session = locks.session("txn-1");
    let queue = locks.completion_queue().unwrap();
    for (held, asked) in [(write(), write()), (write(), read()), (read(), write())] {
        let _guard = locks.lock(held.owner(&session)).blocking().unwrap();
        let is_deadlock = |error: &LockError| matches!(error, LockError::Deadlock { cycle, .. } if cycle.len() == 1);
        let asked = asked.owner(&session);
        assert!(is_deadlock(&locks.lock(asked).blocking().unwrap_err()));
        assert!(is_deadlock(&locks.lock(asked).grant_blocking().unwrap_err()));
        assert!(is_deadlock(&locks.lock(asked).with_queue(&queue, 1).unwrap_err()));
        let now = futures_util::FutureExt::now_or_never(async { locks.lock(asked).await });
        assert!(is_deadlock(&now.expect("no wait").unwrap_err()));
        let batch = BatchLockRequest::new(&session).add_write_lock("b", "a").add_write_lock("b", "o");
        let Err(LockError::Batch { cause, .. }) = locks.acquire_locks_batch_blocking(batch) else {
            panic!("it has b/o")
        };
        assert!(is_deadlock(&cause));
        assert_eq!(locks.get_metrics().shard_metrics.holders, 1, "nothing of the batch stays");
        assert_eq!(locks.get_metrics().shard_metrics.waits, 0);
    }
}

#[test]
fn session_that_reads_again_passes_a_writer() {
    let config = LockConfig { fairness: Fairness::Fifo, deadlock_delay: Some(Duration::ZERO), ..LockConfig::default() };
    let locks = FastObjectLockManager::with_config(config).unwrap();
    let (session, queue) = (locks.session("txn-1"), locks.completion_queue().unwrap());
    let held = locks.lock(read().owner(&session)).blocking().unwrap();
    assert!(locks.lock(write().owner("writer")).with_queue(&queue, 1).unwrap().ticket().is_some());
    // The writer waits for the session, which would wait behind it.
    drop(locks.lock(read().owner(&session)).blocking().expect("sharing with oneself is sharing"));
    assert_eq!(locks.get_metrics().shard_metrics.deadlocks, 0);
    drop(held);
    drop(queue.next(None).unwrap().unwrap().result.expect("the writer goes on"));
}

#[test]
fn labels_contend_like_strangers() {
    let locks = counting();
    let node = locks.owner("node-7");
    let _held = locks.lock(write().owner(node)).blocking().unwrap();
    let again = locks.lock(write().owner(node).timeout(Duration::from_millis(1))).blocking();
    assert!(matches!(again, Err(LockError::Timeout { .. })));
}

#[test]
fn last_counted_hold_frees_the_lock() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0], [0, 2, 1], [2, 0, 1]] {
        let locks = counting();
        let session = locks.session("txn");
        let mut guards: Vec<_> = [write(), read(), write()]
            .map(|request| Some(locks.lock(request.owner(&session)).blocking().unwrap()))
            .into();
        assert!(guards.iter().flatten().all(|guard| guard.mode() == Mode::Exclusive && guard.fence() == 1));
        assert!(locks.is_current(("b", "o"), 1).unwrap());
        for (position, index) in order.into_iter().enumerate() {
            assert!(locks.lock(read()).try_now().is_err());
            drop(guards[index].take());
            assert_eq!(locks.lock(read()).try_now().is_ok(), position == 2, "{order:?}");
        }
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        assert_eq!(locks.lock(write()).try_now().unwrap().fence(), 2);
    }
}

#[test]
fn session_that_shares_rises_with_all_it_has() {
    for reads in 1..=3 {
        for last in 0..=reads {
            let locks = counting();
            let session = locks.session("txn");
            let mut holds: Vec<_> =
                (0..reads).map(|_| Some(locks.lock(read().owner(&session)).blocking().unwrap())).collect();
            holds.push(Some(locks.lock(write().owner(&session)).blocking().expect("no other shares it")));
            assert!(holds.iter().flatten().all(|hold| hold.mode() == Mode::Exclusive && hold.fence() == 1));
            assert_eq!(locks.holders(&Filter::new().key(("b", "o"))).len(), reads + 1);
            for which in (0..=reads).filter(|which| *which != last).chain([last]) {
                assert!(locks.lock(read()).try_now().is_err(), "it is held alone until the last is gone");
                drop(holds[which].take());
            }
            assert_eq!(locks.lock(write()).try_now().expect("free").fence(), 2);
            assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        }
    }
}

#[test]
fn rising_session_waits_in_front() {
    let locks = FastObjectLockManager::with_config(LockConfig {
        reentrancy: Reentrancy::Count,
        fairness: Fairness::Fifo,
        ..LockConfig::default()
    })
    .unwrap();
    let (session, queue) = (locks.session("txn"), locks.completion_queue().unwrap());
    let own = locks.lock(read().owner(&session)).blocking().unwrap();
    let other = locks.lock(read().owner("other")).blocking().unwrap();
    assert!(locks.lock(write().owner("writer").priority(255)).with_queue(&queue, 1).unwrap().ticket().is_some());
    assert!(matches!(locks.lock(write().owner(&session)).try_now(), Err(LockError::WouldBlock { .. })));
    let late = locks.lock(write().owner(&session).timeout(Duration::from_millis(1))).blocking().unwrap_err();
    let LockError::Timeout { holders, .. } = &late else { panic!("{late}") };
    assert_eq!(holders.named.iter().map(|holder| &*holder.owner).collect::<Vec<_>>(), ["other"]);
    assert_eq!(own.mode(), Mode::Shared, "it has what it had");

    assert!(locks.lock(write().owner(&session)).with_queue(&queue, 2).unwrap().ticket().is_some());
    assert!(locks.lock(write().owner("later").priority(255)).with_queue(&queue, 3).unwrap().ticket().is_some());
    let line = locks.waiters(&Filter::all());
    assert_eq!(line.iter().map(|wait| &*wait.owner).collect::<Vec<_>>(), ["txn", "writer", "later"]);
    assert!(line[0].upgrade && !line[1].upgrade);
    drop(other);
    let risen = queue.next(None).unwrap().unwrap();
    assert_eq!(risen.token, 2);
    let risen = risen.result.expect("only its own session reads");
    assert_eq!((own.mode(), risen.mode()), (Mode::Exclusive, Mode::Exclusive));
    drop(own);
    assert!(queue.try_next().is_none(), "it is held still");
    drop(risen);
    for token in [1, 3] {
        let next = queue.next(None).unwrap().unwrap();
        assert_eq!(next.token, token);
        drop(next.result.unwrap());
    }
    assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
}

/// Finds that one of two sessions gives way, and that a label is a conflict.
#[test]
fn of_two_that_rise_one_gives_way() {
    let locks = FastObjectLockManager::with_config(LockConfig {
        reentrancy: Reentrancy::Count,
        deadlock_delay: Some(Duration::ZERO),
        ..LockConfig::default()
    })
    .unwrap();
    let sessions = ["one", "two"].map(|name| locks.session(name));
    let results = within("two that rise", {
        let locks = locks.clone();
        move || {
            let shared = Barrier::new(2);
            let rise = |session: &Session| {
                let own = locks.lock(read().owner(session)).blocking().unwrap();
                shared.wait();
                let risen = locks.lock(write().owner(session)).blocking();
                drop(own);
                risen.map(drop)
            };
            std::thread::scope(|threads| {
                let both = sessions.each_ref().map(|session| threads.spawn(|| rise(session)));
                both.map(|one| one.join().unwrap())
            })
        }
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(&refused, LockError::Deadlock { cycle, .. } if cycle.len() == 2), "{refused}");

    let (session, queue) = (locks.session("txn"), locks.completion_queue().unwrap());
    let own = locks.lock(read().owner(&session)).blocking().unwrap();
    let label = locks.lock(read().owner("label")).grant_blocking().unwrap();
    assert!(locks.upgrade_with_queue(label, None, &queue, 1).unwrap().is_some());
    let refused = locks.lock(write().owner(&session)).blocking().unwrap_err();
    assert!(matches!(refused, LockError::UpgradeConflict { .. }), "{refused}");
    drop(own);
    drop(queue.next(None).unwrap().unwrap().result.expect("alone now"));
}

/// Refuses the second of two requests of one session that would rise.
#[test]
fn session_rises_once_at_a_time() {
    for deadlock_delay in [None, Some(Duration::ZERO)] {
        let config = LockConfig { reentrancy: Reentrancy::Count, deadlock_delay, ..LockConfig::default() };
        let locks = FastObjectLockManager::with_config(config).unwrap();
        let (session, queue) = (locks.session("txn"), locks.completion_queue().unwrap());
        let mut own = locks.lock(read().owner(&session)).blocking().unwrap();
        let other = locks.lock(read().owner("other")).blocking().unwrap();
        assert!(locks.lock(write().owner(&session)).with_queue(&queue, 1).unwrap().ticket().is_some());
        for refused in [
            locks.lock(write().owner(&session)).blocking().map(drop),
            own.upgrade_blocking(Some(Duration::from_secs(60))),
        ] {
            assert!(matches!(&refused, Err(error @ LockError::UpgradeConflict { .. }) if error.is_transient()));
        }
        drop(other);
        let risen = queue.next(None).unwrap().unwrap().result.expect("only its own session reads");
        assert_eq!(own.mode(), Mode::Exclusive);
        drop(locks.lock(write().owner(&session)).blocking().expect("it is counted"));
        drop((risen, own));
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    }
}

#[test]
fn counted_holds_share_one_fence() {
    let config = LockConfig { shards: 1, reentrancy: Reentrancy::Count, ..LockConfig::default() };
    let locks = FastObjectLockManager::with_config(config).unwrap();
    let session = locks.session("txn");
    let outer = locks.lock(write().owner(&session)).blocking().unwrap();
    for turn in 0..100_u32 {
        drop(locks.try_acquire_write_lock("b", "often", "x").unwrap());
        // Until it has left the table.
        drop(locks.try_acquire_write_lock("b", &turn.to_le_bytes(), "x").unwrap());
    }
    let held: Vec<_> =
        (100..110_u32).map(|n| locks.try_acquire_write_lock("b", &n.to_le_bytes(), "x").unwrap()).collect();
    drop(held);
    let inner = locks.lock(write().owner(&session)).blocking().unwrap();
    assert_eq!((outer.fence(), inner.fence()), (1, 1));
    assert!(locks.is_current(("b", "o"), 1).unwrap());
    drop(outer);
    assert!(locks.is_current(("b", "o"), 1).unwrap());
    drop(inner);
    assert!(locks.lock(write()).try_now().unwrap().fence() > 1);
}

#[test]
fn counted_hold_downgrades_only_alone() {
    let locks = counting();
    let session = locks.session("txn");
    let mut outer = locks.lock(write().owner(&session)).blocking().unwrap();
    let inner = locks.lock(write().owner(&session)).blocking().unwrap();
    outer.downgrade();
    assert_eq!(outer.mode(), Mode::Exclusive);
    drop(inner);
    outer.downgrade();
    assert_eq!(outer.mode(), Mode::Shared);
    drop(locks.lock(read()).try_now().unwrap());
    drop(outer);
    drop(locks.lock(write()).try_now().unwrap());
}

#[test]
fn refused_downgrade_keeps_counted_holds() {
    // Whichever hold downgrades first, and whichever once more: no other session may come in before both are gone.
    for asked in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        for order in [[0, 1], [1, 0]] {
            let locks = counting();
            let session = locks.session("txn");
            let mut holds = [0, 1].map(|_| Some(locks.lock(write().owner(&session)).blocking().unwrap()));
            for which in asked {
                let hold = holds[which].as_mut().unwrap();
                hold.downgrade();
                assert_eq!(hold.mode(), Mode::Exclusive, "{which} of {asked:?}");
                assert!(locks.lock(read()).try_now().is_err(), "{asked:?}");
            }
            drop(holds[order[0]].take());
            assert!(locks.lock(read()).try_now().is_err(), "{asked:?} {order:?}");
            let last = holds[order[1]].as_mut().unwrap();
            assert!(last.is_valid());
            // Alone by now.
            last.downgrade();
            assert_eq!(last.mode(), Mode::Shared);
            drop(locks.lock(read()).try_now().unwrap());
            assert!(locks.lock(write()).try_now().is_err(), "{asked:?} {order:?}");
            drop(holds);
            assert_eq!(locks.lock(write()).try_now().unwrap().fence(), 2);
            assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
        }
    }
}

#[test]
fn next_session_counts_anew() {
    for inner_goes_first in [true, false] {
        let locks = counting();
        let (one, two) = (locks.session("one"), locks.session("two"));
        let outer = locks.lock(write().owner(&one)).blocking().unwrap();
        let inner = locks.lock(write().owner(&one)).blocking().unwrap();
        let (goes, mut stays) = if inner_goes_first { (inner, outer) } else { (outer, inner) };
        drop(goes);
        stays.downgrade();
        let mut first = locks.lock(read().owner(&two)).blocking().unwrap();
        drop(stays);
        first.try_upgrade().unwrap();
        let again = locks.lock(write().owner(&two)).blocking().unwrap();
        drop(first);
        assert!(again.is_valid() && locks.lock(read()).try_now().is_err());
        drop(again);
        drop(locks.lock(write()).try_now().unwrap());
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    }
}

#[test]
fn last_counted_hold_serves_waiter() {
    let locks = counting();
    let session = locks.session("txn");
    let outer = locks.lock(write().owner(&session)).blocking().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(locks.lock(write()).blocking().unwrap()));
        while locks.get_metrics().shard_metrics.waiters == 0 {
            std::thread::yield_now();
        }
        let inner = locks.lock(write().owner(&session)).blocking().expect("ahead of its waiter");
        drop(outer);
        assert_eq!(locks.get_metrics().shard_metrics.waiters, 1);
        drop(inner);
        waiter.join().unwrap();
    });
}

#[test]
fn reading_session_rereads_past_waiting_writer() {
    let locks = counting();
    let session = locks.session("txn");
    let first = locks.lock(read().owner(&session)).blocking().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| drop(locks.lock(write()).blocking().unwrap()));
        while locks.get_metrics().shard_metrics.waiters == 0 {
            std::thread::yield_now();
        }
        drop(locks.lock(read().owner(&session)).blocking().unwrap());
        drop(first);
        writer.join().unwrap();
    });
}

#[test]
fn same_request_gets_same_grant_while_held() {
    let locks = FastObjectLockManager::new();
    let session = locks.session("upload");
    let request = write().owner(&session).request_id(7);
    let grant = locks.lock(request).grant_blocking().unwrap();
    assert_eq!(locks.lock(request).grant_blocking().unwrap(), grant);
    assert_eq!(locks.lock(request).grant_now().unwrap(), grant);
    let other = locks.lock(LockRequest::write(("b", "other")).owner(&session).request_id(7)).grant_now();
    assert!(matches!(other, Err(LockError::InvalidConfig { setting: "request_id", .. })));
    let stranger = locks.session("upload");
    assert!(locks.lock(write().owner(&stranger).request_id(7)).grant_now().is_err());
    locks.release(grant).unwrap();
    let next = locks.lock(request).grant_now().unwrap();
    assert_ne!(next, grant);
    locks.release(next).unwrap();
    assert!(locks.release(grant).is_err());
}

#[test]
fn same_request_shares_the_waiting_answer() {
    let locks = FastObjectLockManager::new();
    let session = locks.session("upload");
    let request = write().owner(&session).request_id(7);
    let held = locks.lock(write().owner("before")).blocking().unwrap();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| locks.lock(request).grant_blocking().unwrap());
        until_in_line(&locks, 1);
        let again: Vec<_> = (0..3).map(|_| scope.spawn(|| locks.lock(request).grant_blocking().unwrap())).collect();
        let short = Duration::from_millis(2);
        let LockError::Timeout { waited, holders, .. } =
            locks.lock(request.timeout(short)).grant_blocking().unwrap_err()
        else {
            panic!("no holder lets go")
        };
        assert!(waited >= short && &*holders.named[0].owner == "before");
        let LockError::WouldBlock { holders, .. } = locks.lock(request).grant_now().unwrap_err() else {
            panic!("it is asked for already")
        };
        assert_eq!(&*holders.named[0].owner, "before");
        assert_eq!(locks.get_metrics().shard_metrics.waiters, 1, "one of them stands in line");
        drop(held);
        let grant = first.join().unwrap();
        assert!(again.into_iter().all(|again| again.join().unwrap() == grant));
        assert_eq!(locks.get_metrics().shard_metrics.holders, 1);
        locks.release(grant).unwrap();
    });
}

#[test]
fn next_same_request_asks_when_first_gives_up() {
    within("requests that are repeated", || {
        let locks = FastObjectLockManager::new();
        let session = locks.session("upload");
        let request = write().owner(&session).request_id(7);
        let held = locks.lock(write()).blocking().unwrap();
        let short = Duration::from_millis(5);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| locks.lock(request.timeout(short)).grant_blocking());
            // On a slow machine the time of the first may be over before the other comes, which asks by itself then.
            until("the first in line", || waiters(&locks) == 1 || first.is_finished());
            let again = scope.spawn(|| locks.lock(request).grant_blocking());
            assert!(matches!(first.join().unwrap(), Err(LockError::Timeout { .. })));
            until_in_line(&locks, 1);
            drop(held);
            locks.release(again.join().unwrap().unwrap()).unwrap();
        });
        // And when the manager is closed all of them fail.
        let _held = locks.lock(write()).blocking().unwrap();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..3).map(|_| scope.spawn(|| locks.lock(request).grant_blocking())).collect();
            until_in_line(&locks, 1);
            locks.close();
            assert!(all.into_iter().all(|one| matches!(one.join().unwrap(), Err(LockError::Closed))));
        });
    });
}

#[test]
fn repeated_request_is_one_hold() {
    let locks = FastObjectLockManager::new();
    for _ in 0..300 {
        let session = locks.session("upload");
        let request = write().owner(&session).request_id(7);
        let barrier = Barrier::new(4);
        let ask = || {
            barrier.wait();
            locks.lock(request).grant_blocking().unwrap()
        };
        let grants: Vec<_> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert!(grants.iter().all(|grant| *grant == grants[0]));
        locks.release(grants[0]).unwrap();
        assert_eq!(locks.get_metrics().shard_metrics.holders, 0);
    }
}

/// For bindings that wait in their own way: they answer the turn, or give it up.
#[test]
fn a_turn_that_a_front_takes_is_the_only_one() {
    let locks = FastObjectLockManager::new();
    let session = locks.session("upload");
    let request = write().owner(&session).request_id(7);
    let NumberedRequest::First(turn) = locks.begin_numbered(&request).unwrap() else { panic!("there was none before") };
    let NumberedRequest::Repeated(repeat) = locks.begin_numbered(&request).unwrap() else {
        panic!("one turn a number")
    };
    assert!(matches!(locks.lock(request).grant_now(), Err(LockError::WouldBlock { .. })));
    assert!(!repeat.is_over_by(Some(Instant::now() + Duration::from_millis(1))));
    drop(turn);
    assert!(repeat.is_over_by(None));
    let NumberedRequest::First(turn) = locks.begin_numbered(&request).unwrap() else { panic!("it was given up") };
    let grant = locks.lock(write().owner(&session)).grant_now().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| locks.lock(request).grant_blocking().unwrap());
        turn.answer(grant);
        assert_eq!(waits.join().unwrap(), grant);
    });
    let NumberedRequest::Answered(known) = locks.begin_numbered(&request).unwrap() else { panic!("it was answered") };
    assert_eq!(known, grant);
    locks.release(grant).unwrap();
    for wrong in [write().owner(&session), write().owner("label").request_id(7)] {
        assert!(matches!(locks.begin_numbered(&wrong), Err(LockError::InvalidConfig { setting: "request_id", .. })));
    }
}

#[test]
fn invalid_numbered_requests_are_refused() {
    let locks = FastObjectLockManager::new();
    let session = locks.session("s");
    let refused = |error: LockError| matches!(error, LockError::InvalidConfig { setting: "request_id", .. });
    assert!(refused(locks.lock(write().owner(&session).request_id(1)).blocking().unwrap_err()));
    assert!(refused(locks.lock(write().owner("label").request_id(1)).grant_now().unwrap_err()));
}

/// Its number would be that of every foreign session: they would pass for one.
#[test]
fn session_of_another_manager_is_refused() {
    let elsewhere = [FastObjectLockManager::new(), FastObjectLockManager::new()];
    let foreign = [elsewhere[0].session("one"), elsewhere[1].session("two")];
    for reentrancy in [Reentrancy::Deny, Reentrancy::Count] {
        let locks = FastObjectLockManager::with_config(LockConfig { reentrancy, ..LockConfig::default() }).unwrap();
        let queue = locks.completion_queue().unwrap();
        let refused = |error: LockError| {
            let says_what_to_do = error.to_string().contains("session()");
            says_what_to_do && matches!(error, LockError::InvalidConfig { setting: "owner", .. })
        };
        let by = |session| {
            for asked in [write().owner(session), read().owner(session), write().owner(session).ttl(Duration::MAX)] {
                assert!(refused(locks.lock(asked).blocking().unwrap_err()));
                assert!(refused(locks.lock(asked).try_now().unwrap_err()));
                assert!(refused(locks.lock(asked.timeout(Duration::ZERO)).blocking().unwrap_err()));
                assert!(refused(locks.lock(asked).grant_blocking().unwrap_err()));
                assert!(refused(locks.lock(asked).grant_now().unwrap_err()));
                assert!(refused(locks.lock(asked.request_id(1)).grant_now().unwrap_err()));
                assert!(refused(locks.begin_numbered(&asked.request_id(1)).unwrap_err()));
                assert!(refused(locks.lock(asked).with_queue(&queue, 1).unwrap_err()));
                assert!(refused(locks.lock(asked).with_callback(|_| panic!("it was refused")).unwrap_err()));
                let now = futures_util::FutureExt::now_or_never(async { locks.lock(asked).await });
                assert!(refused(now.expect("it does not wait").unwrap_err()));
                assert!(locks.lock(asked).grant_fast().is_none());
            }
            let (many, few): (Vec<_>, usize) = ((0..100).map(|n: u32| n.to_string()).collect(), 2);
            for names in [&many[..], &many[..few], &many[..0]] {
                let batch =
                    || names.iter().fold(BatchLockRequest::new(session), |batch, name| batch.add_write_lock("b", name));
                assert!(refused(locks.acquire_locks_batch_blocking(batch()).unwrap_err()));
                assert!(refused(locks.acquire_locks_batch_blocking(batch().mode(BatchMode::BestEffort)).unwrap_err()));
                let now = futures_util::FutureExt::now_or_never(locks.acquire_locks_batch(batch()));
                assert!(refused(now.expect("it does not wait").unwrap_err()));
            }
        };
        by(&foreign[0]);
        // As before, where the key is held and where other sessions are there.
        let own = locks.session("own");
        let held = locks.lock(write().owner(&own)).blocking().unwrap();
        foreign.iter().for_each(by);
        drop(held);
        let figures = locks.get_metrics().shard_metrics;
        assert_eq!((figures.holders, figures.waits), (0, 0));
    }
}

#[test]
fn answer_of_a_binding_is_given_again() {
    let locks = FastObjectLockManager::new();
    let session = locks.session("upload");
    let request = LockRequest::write(("b", "o")).owner(&session);
    let grant = locks.lock(request).blocking().unwrap().into_grant();
    session.answered(7, grant);
    assert_eq!(locks.lock(request.request_id(7)).grant_now().unwrap(), grant);
    locks.release(grant).unwrap();
    let next = locks.lock(request.request_id(7)).grant_now().unwrap();
    assert_ne!(next, grant);
    locks.release(next).unwrap();
}
