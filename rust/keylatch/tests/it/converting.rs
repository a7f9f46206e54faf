//! From one mode to the other without letting go.

use crate::steps::*;
use keylatch::{
    CompletionQueue, Fairness, FastLockGuard, FastObjectLockManager, Filter, Grant, LockError, LockRequest, Mode,
    OwnedLockGuard,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

#[test]
fn downgrade_lets_in_readers_only() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let mut held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
        let mut readers: Vec<_> = (0..50).map(|_| ByHand::waiting(locks.acquire_read_lock("b", "o", "r"))).collect();
        let mut writer = ByHand::waiting(locks.acquire_write_lock("b", "o", "w"));
        held.try_downgrade().unwrap();
        held.try_downgrade().unwrap();
        assert_eq!(held.mode(), Mode::Shared);
        if fairness == Fairness::WriterFirst {
            // The writer is first in line and cannot come in; those behind it wait for it.
            assert!(writer.poll().is_pending() && readers[0].poll().is_pending());
        } else {
            let inside: Vec<_> = readers.iter_mut().map(|reader| reader.ready().unwrap()).collect();
            assert!(writer.poll().is_pending());
            assert_eq!(locks.get_metrics().shard_metrics.holders, 51);
            drop(inside);
        }
        assert!(writer.poll().is_pending());
        drop(held);
        drop(writer.after_wakes().unwrap());
        readers.clear();
        assert_at_rest(&locks);
    }
}

#[test]
fn needless_conversion_changes_nothing() {
    let locks = few_shards(Fairness::default());
    let mut guard = locks.acquire_write_lock_blocking("b", "o", "me").unwrap();
    let fence = guard.fence();
    guard.try_upgrade().unwrap();
    guard.upgrade_blocking(None).unwrap();
    ByHand::new(guard.upgrade(None)).ready().unwrap();
    assert_eq!((guard.mode(), guard.fence()), (Mode::Exclusive, fence));
    guard.downgrade();
    guard.downgrade();
    assert_eq!(guard.mode(), Mode::Shared);
    let other = locks.try_acquire_read_lock("b", "o", "other").unwrap();
    drop((guard, other));
    assert_at_rest(&locks);
}

#[test]
fn failed_try_upgrade_names_other_readers() {
    let locks = few_shards(Fairness::default());
    let mut guard = locks.acquire_read_lock_blocking("b", "o", "me").unwrap();
    let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
    match guard.try_upgrade() {
        Err(LockError::WouldBlock { key, holders }) => {
            assert_eq!(key.to_string(), "b/o");
            let names: Vec<_> = holders.named.iter().map(|holder| &*holder.owner).collect();
            assert_eq!((names, holders.more), (vec!["other"], 0), "the asker knows of itself");
        }
        answer => panic!("{answer:?}"),
    }
    assert_eq!(guard.mode(), Mode::Shared);
    drop(other);
    guard.try_upgrade().unwrap();
    assert_eq!(guard.mode(), Mode::Exclusive);
    assert!(locks.try_acquire_read_lock("b", "o", "x").is_err());
    drop(guard);
    assert_at_rest(&locks);
}

#[test]
fn upgrade_goes_ahead_of_waiters() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let mut guard = locks.acquire_read_lock_blocking("b", "o", "me").unwrap();
        let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
        let urgent = LockRequest::write(("b", "o")).priority(255);
        let mut writer = ByHand::waiting(locks.lock(urgent));
        let mut upgrade = ByHand::waiting(guard.upgrade(None));
        assert!(locks.try_acquire_read_lock("b", "o", "late").is_err(), "no newcomer joins under {fairness:?}");
        drop(other);
        upgrade.after_wakes().unwrap();
        assert!(writer.poll().is_pending());
        drop(upgrade);
        assert_eq!(guard.mode(), Mode::Exclusive);
        drop(guard);
        drop(writer.after_wakes().unwrap());
        drop(writer);
        assert_at_rest(&locks);
    }
}

#[test]
fn upgrade_wakes_when_last_reader_leaves() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
        std::thread::scope(|scope| {
            let upgrader = scope.spawn(|| {
                let mut guard = locks.acquire_read_lock_blocking("b", "o", "me").unwrap();
                let before = guard.fence();
                guard.upgrade_blocking(None).unwrap();
                assert_eq!(guard.mode(), Mode::Exclusive);
                assert!(guard.fence() > before);
                assert!(locks.try_acquire_read_lock("b", "o", "x").is_err());
            });
            until_in_line(&locks, 1);
            drop(other);
            upgrader.join().unwrap();
        });
        assert_at_rest(&locks);
    }
}

#[test]
fn second_upgrade_fails_and_keeps_hold() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let mut first = locks.acquire_read_lock_blocking("b", "o", "first").unwrap();
        let mut second = locks.acquire_read_lock_blocking("b", "o", "second").unwrap();
        let mut upgrade = ByHand::waiting(first.upgrade(None));
        let conflicts = [second.upgrade_blocking(None), ByHand::new(second.upgrade(None)).ready()];
        for conflict in conflicts {
            match conflict {
                Err(error @ LockError::UpgradeConflict { .. }) => {
                    assert_eq!(error.code(), -12);
                    let text = error.to_string();
                    assert!(text.contains("held by first (shared") && !text.contains(" more"), "{text}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(second.mode(), Mode::Shared);
        assert!(upgrade.poll().is_pending());
        drop(second);
        upgrade.after_wakes().unwrap();
        drop(upgrade);
        drop(first);
        assert_at_rest(&locks);
    }
}

#[test]
fn ended_upgrade_keeps_hold_shared() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let mut guard = locks.acquire_read_lock_blocking("b", "o", "me").unwrap();
        let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
        // Dropped after no poll, after some, and after the time.
        drop(guard.upgrade(None));
        let upgrade = ByHand::waiting(guard.upgrade(None));
        let mut behind = ByHand::waiting(locks.acquire_read_lock("b", "o", "behind"));
        drop(upgrade);
        drop(behind.ready().unwrap());
        let asked = Duration::from_millis(3);
        let began = Instant::now();
        let by_thread = guard.upgrade_blocking(Some(asked));
        assert!(began.elapsed() >= asked);
        let by_task = ByHand::new(guard.upgrade(Some(asked))).after_wakes();
        let refused = guard.upgrade_blocking(Some(Duration::ZERO));
        for answer in [by_thread, by_task, refused] {
            match answer {
                Err(LockError::Timeout { holders, .. }) => assert_eq!(holders.named.len() as u32 + holders.more, 1),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(guard.mode(), Mode::Shared);
        drop(other);
        drop(locks.try_acquire_read_lock("b", "o", "joins").unwrap());
        guard.upgrade_blocking(Some(Duration::ZERO)).unwrap();
        drop(guard);
        drop(behind);
        assert_at_rest(&locks);
    }
}

#[test]
fn upgrade_dropped_after_grant_is_undone() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let mut guard = locks.acquire_read_lock_blocking("b", "o", "me").unwrap();
        let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
        let upgrade = ByHand::waiting(guard.upgrade(None));
        let mut reader = ByHand::waiting(locks.acquire_read_lock("b", "o", "reader"));
        drop(other);
        assert_eq!(upgrade.wakes(), 1, "it is granted");
        assert!(reader.poll().is_pending());
        drop(upgrade);
        assert_eq!(guard.mode(), Mode::Shared);
        drop(reader.ready().unwrap());
        drop(guard);
        drop(reader);
        assert_at_rest(&locks);
    }
}

/// Readers upgrade and downgrade, give way in conflicts, and writers come between.
#[test]
fn conversions_keep_the_lock_exact_under_load() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        within("conversions under load", move || {
            let (readers, writers) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let alone = || {
                assert_eq!(writers.fetch_add(1, Ordering::Relaxed), 0);
                assert_eq!(readers.load(Ordering::Relaxed), 0);
                writers.fetch_sub(1, Ordering::Relaxed);
            };
            let shared = || {
                readers.fetch_add(1, Ordering::Relaxed);
                assert_eq!(writers.load(Ordering::Relaxed), 0);
                readers.fetch_sub(1, Ordering::Relaxed);
            };
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (alone, shared, locks) = (&alone, &shared, &locks);
                    scope.spawn(move || {
                        for round in 0..1500 {
                            if (round + thread) % 5 == 0 {
                                let mut guard = locks.acquire_write_lock_blocking("b", "o", "w").unwrap();
                                alone();
                                guard.downgrade();
                                shared();
                                continue;
                            }
                            let mut guard = locks.acquire_read_lock_blocking("b", "o", "r").unwrap();
                            shared();
                            let answer = match round % 4 {
                                0 => guard.try_upgrade(),
                                1 => guard.upgrade_blocking(None),
                                2 => guard.upgrade_blocking(Some(Duration::from_micros(20))),
                                _ => match ByHand::new(guard.upgrade(None)).poll() {
                                    Poll::Ready(answer) => answer,
                                    Poll::Pending => {
                                        shared_after_drop(shared);
                                        continue;
                                    }
                                },
                            };
                            match answer {
                                Ok(()) => alone(),
                                Err(LockError::WouldBlock { .. } | LockError::UpgradeConflict { .. }) => shared(),
                                Err(LockError::Timeout { .. }) => shared(),
                                Err(other) => panic!("{other:?}"),
                            }
                        }
                    });
                }
            });
            assert_at_rest(&locks);
        });
    }
}

fn shared_after_drop(shared: &impl Fn()) {
    shared();
}

/// Returns a grant that reads, another reader, and a queue.
fn two_readers(locks: &FastObjectLockManager) -> (Grant, OwnedLockGuard, CompletionQueue) {
    let read = |owner| LockRequest::read(("b", "o")).owner(owner);
    let other = locks.lock(read("other")).blocking().unwrap().into_owned();
    (locks.lock(read("me")).grant_blocking().unwrap(), other, locks.completion_queue().unwrap())
}

#[test]
fn queue_upgrade_arrives_after_readers_leave() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let (grant, other, queue) = two_readers(&locks);
        let ticket = locks.upgrade_with_queue(grant, None, &queue, 42).unwrap().expect("another one reads");
        // It is the request's until the result is fetched.
        assert!(matches!(locks.release(grant), Err(LockError::NotHeld { .. })));
        assert!(matches!(locks.upgrade_with_queue(grant, None, &queue, 1), Err(LockError::NotHeld { .. })));
        assert!(queue.try_next().is_none());
        drop(other);
        let arrived = queue.next(Some(FOREVER)).unwrap().unwrap();
        assert_eq!((arrived.ticket, arrived.token), (ticket, 42));
        let guard = arrived.result.unwrap();
        assert_eq!(guard.mode(), Mode::Exclusive);
        assert!(locks.try_acquire_read_lock("b", "o", "late").is_err());
        assert_eq!(guard.into_grant(), grant);
        // Held exclusively already: no wait.
        assert!(locks.upgrade_with_queue(grant, None, &queue, 2).unwrap().is_none());
        locks.release(grant).unwrap();
        assert_at_rest(&locks);
    }
}

#[test]
fn failed_queue_upgrade_keeps_hold_shared() {
    let locks = few_shards(Fairness::Fifo);
    let (grant, other, queue) = two_readers(&locks);
    let failed = |queue: &CompletionQueue| queue.next(Some(FOREVER)).unwrap().unwrap().result.unwrap_err();
    let still_shared = || assert_eq!(locks.key_and_mode(grant).unwrap().1, Mode::Shared);

    let refused = locks.upgrade_with_queue(grant, Some(Duration::ZERO), &queue, 0);
    assert!(matches!(refused, Err(LockError::Timeout { .. })), "{refused:?}");
    still_shared();
    assert!(locks.upgrade_with_queue(grant, Some(Duration::from_millis(2)), &queue, 1).unwrap().is_some());
    assert!(
        matches!(failed(&queue), LockError::Timeout { holders, .. } if holders.named.len() as u32 + holders.more == 1)
    );
    still_shared();
    let ticket = locks.upgrade_with_queue(grant, None, &queue, 2).unwrap().unwrap();
    assert!(locks.cancel(ticket) && !locks.cancel(ticket));
    assert!(matches!(failed(&queue), LockError::Cancelled { .. }));
    still_shared();

    // Two who wait for each other: the second fails immediately, and the first gets it when the second has gone.
    let third = locks.lock(LockRequest::read(("b", "o")).owner("third")).grant_blocking().unwrap();
    assert!(locks.upgrade_with_queue(grant, None, &queue, 3).unwrap().is_some());
    let conflict = locks.upgrade_with_queue(third, None, &queue, 4);
    assert!(matches!(conflict, Err(LockError::UpgradeConflict { .. })), "{conflict:?}");
    locks.release(third).unwrap();
    drop(other);
    let upgraded = queue.next(Some(FOREVER)).unwrap().unwrap();
    assert_eq!(upgraded.token, 3);
    drop(upgraded.result.unwrap());

    // Taken away while it waits; and the end of the manager.
    let (grant, other, queue) = two_readers(&locks);
    assert!(locks.upgrade_with_queue(grant, None, &queue, 5).unwrap().is_some());
    assert_eq!(locks.force_release(&Filter::new().owner("me")).len(), 1);
    drop(other);
    assert!(matches!(failed(&queue), LockError::NotHeld { .. }));
    assert_at_rest(&locks);
    let (grant, _other, queue) = two_readers(&locks);
    assert!(locks.upgrade_with_queue(grant, None, &queue, 6).unwrap().is_some());
    locks.close();
    assert_eq!(failed(&queue), LockError::Closed);
    locks.release(grant).unwrap();
    let foreign = few_shards(Fairness::Fifo);
    let (grant, _other, _) = two_readers(&foreign);
    let refused = foreign.upgrade_with_queue(grant, None, &queue, 7);
    assert!(matches!(refused, Err(LockError::InvalidConfig { setting: "queue", .. })), "{refused:?}");
    foreign.release(grant).unwrap();
}

#[test]
fn a_queue_that_is_dropped_ends_upgrades() {
    let locks = few_shards(Fairness::Fifo);
    let (grant, other, queue) = two_readers(&locks);
    assert!(locks.upgrade_with_queue(grant, None, &queue, 1).unwrap().is_some());
    drop(queue);
    assert_eq!(locks.key_and_mode(grant).unwrap().1, Mode::Shared);
    let queue = locks.completion_queue().unwrap();
    assert!(locks.upgrade_with_queue(grant, None, &queue, 2).unwrap().is_some());
    drop(other); // upgraded, and not fetched
    drop(queue);
    assert!(matches!(locks.release(grant), Err(LockError::NotHeld { .. })));
    assert_at_rest(&locks);
}

#[test]
fn queue_upgrades_under_load_stay_exclusive() {
    const EACH: usize = 2000;
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let inside = AtomicUsize::new(0);
        let upgraded = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (locks, inside, upgraded) = (&locks, &inside, &upgraded);
                scope.spawn(move || {
                    let queue = locks.completion_queue().unwrap();
                    for turn in 0..EACH {
                        let key = if turn % 3 == 0 { "x" } else { "y" };
                        let grant = locks.lock(LockRequest::read(("b", key))).grant_blocking().unwrap();
                        let timeout = (turn % 5 == 0).then(|| Duration::from_micros(20));
                        let outcome = match locks.upgrade_with_queue(grant, timeout, &queue, turn as u64) {
                            Ok(Some(ticket)) => {
                                if (turn + number) % 4 == 0 {
                                    locks.cancel(ticket);
                                }
                                let arrived = queue.next(Some(FOREVER)).unwrap().expect("it ends");
                                assert_eq!((arrived.ticket, arrived.token), (ticket, turn as u64));
                                arrived.result.map(|guard| assert_eq!(guard.into_grant(), grant))
                            }
                            Ok(None) => Ok(()),
                            Err(error) => Err(error),
                        };
                        match outcome {
                            Ok(()) if key == "x" => {
                                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "upgraded and not alone");
                                upgraded.fetch_add(1, Ordering::Relaxed);
                                inside.fetch_sub(1, Ordering::SeqCst);
                            }
                            Ok(()) => {}
                            Err(
                                LockError::UpgradeConflict { .. }
                                | LockError::Cancelled { .. }
                                | LockError::Timeout { .. },
                            ) => assert_eq!(locks.key_and_mode(grant).unwrap().1, Mode::Shared),
                            Err(other) => panic!("{other}"),
                        }
                        locks.release(grant).unwrap();
                    }
                    assert!(queue.try_next().is_none());
                });
            }
        });
        assert!(upgraded.into_inner() > 0);
        assert_at_rest(&locks);
    }
}

/// What a guard may come to.
type Use = fn(&FastObjectLockManager, FastLockGuard<'_>);

/// Its upgrade waited and was forgotten: it is in line, or was granted meanwhile.
#[test]
fn forgotten_upgrade_ends_with_its_guard() {
    let uses: [Use; 6] = [
        |_, guard| drop(guard),
        |_, guard| guard.try_release().unwrap(),
        |locks, guard| locks.release(guard.into_grant()).unwrap(),
        |locks, guard| {
            let grant = guard.into_grant();
            assert_eq!(locks.force_release(&Filter::new().owner("forgets")).len(), 1);
            assert!(locks.release(grant).is_err());
        },
        |locks, guard| {
            assert_eq!(locks.force_release(&Filter::new().owner("forgets")).len(), 1);
            assert!(guard.try_release().is_err());
        },
        |_, guard| drop(guard.into_owned()),
    ];
    for fairness in POLICIES {
        for granted in [false, true] {
            for used in uses {
                within("others go on after its guard", move || goes_on_without(used, granted, &few_shards(fairness)));
            }
        }
    }
}

fn goes_on_without(used: Use, granted: bool, locks: &FastObjectLockManager) {
    let mut guard = locks.acquire_read_lock_blocking("b", "o", "forgets").unwrap();
    let mut other = Some(locks.acquire_read_lock_blocking("b", "o", "other").unwrap());
    ByHand::waiting(guard.upgrade(None)).forget();
    assert_eq!(waiters(locks), 1);
    if granted {
        other = None;
    }
    used(locks, guard);
    assert_eq!(waiters(locks), 0);
    // Its record belongs to another request by now.
    let elsewhere = locks.try_acquire_read_lock("b", "x", "elsewhere").unwrap();
    if let Some(other) = other {
        assert_eq!(other.mode(), Mode::Shared);
        drop(locks.try_acquire_read_lock("b", "o", "third").unwrap());
        other.try_release().unwrap();
    }
    drop(locks.try_acquire_write_lock("b", "o", "third").unwrap());
    assert_eq!(elsewhere.mode(), Mode::Shared);
    drop(locks.try_acquire_read_lock("b", "x", "third").unwrap());
    drop(elsewhere);
    assert_at_rest(locks);
}

#[test]
fn guard_converts_after_forgotten_upgrade() {
    let locks = few_shards(Fairness::Fifo);
    let mut guard = locks.acquire_read_lock_blocking("b", "o", "forgets").unwrap();
    let other = locks.acquire_read_lock_blocking("b", "o", "other").unwrap();
    for _ in 0..3 {
        ByHand::waiting(guard.upgrade(None)).forget();
        // It does not stand in its own way.
        assert!(matches!(guard.upgrade_blocking(Some(Duration::from_millis(1))), Err(LockError::Timeout { .. })));
        ByHand::waiting(guard.upgrade(None)).forget();
        assert!(matches!(guard.try_upgrade(), Err(LockError::WouldBlock { .. })));
        assert_eq!(waiters(&locks), 0);
    }
    ByHand::waiting(guard.upgrade(None)).forget();
    guard.downgrade();
    drop(other);
    assert_eq!(guard.mode(), Mode::Shared, "it was downgraded");
    ByHand::new(guard.upgrade(None)).forget();
    guard.try_upgrade().unwrap();
    guard.downgrade();
    drop(locks.try_acquire_read_lock("b", "o", "third").unwrap());
    drop(guard);
    assert_at_rest(&locks);
}
