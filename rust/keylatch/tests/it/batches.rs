//! Many locks together: all or none, or as many as can be had.

use crate::steps::*;
use keylatch::{
    BatchLockRequest, BatchMode, Fairness, FastObjectLockManager, LockConfig, LockError, LockRequest, Mode, ObjectKey,
    Reentrancy,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The batch, had by a thread and by a future in turn.
fn both_ways(
    locks: &FastObjectLockManager,
    batch: &BatchLockRequest<'_>,
    look: impl Fn(Result<keylatch::LockBatch<'_>, LockError>),
) {
    look(locks.acquire_locks_batch_blocking(batch.clone()));
    look(ByHand::new(Box::pin(locks.acquire_locks_batch(batch.clone()))).after_wakes());
}

#[test]
fn a_batch_holds_each_key_in_its_mode() {
    let locks = few_shards(Fairness::default());
    let z = ObjectKey::new("a", "z");
    let batch = BatchLockRequest::new("me")
        .add_write_lock("b", "x")
        .add_read_lock("b", "y")
        .add(("b", "y", "v1"), Mode::Exclusive)
        .add(&z, Mode::Shared);
    both_ways(&locks, &batch, |answer| {
        let all = answer.unwrap();
        assert_eq!((all.len(), all.is_empty(), all.missing().len()), (4, false, 0));
        assert!(locks.try_acquire_read_lock("b", "x", "o").is_err());
        assert!(locks.try_acquire_read_lock("b", "y", "o").is_ok());
        assert!(locks.try_acquire_write_lock("b", "y", "o").is_err());
        assert!(locks.try_acquire_read_lock_versioned("b", "y", "v1", "o").is_err());
        let modes: BTreeMap<_, _> =
            all.into_guards().iter().map(|guard| (guard.key().to_string(), guard.mode())).collect();
        let (shared, exclusive) = (Mode::Shared, Mode::Exclusive);
        let expected = [("a/z", shared), ("b/x", exclusive), ("b/y", shared), ("b/y@v1", exclusive)];
        assert_eq!(modes, expected.map(|(key, mode)| (key.to_string(), mode)).into());
        assert_at_rest(&locks);
    });
}

#[test]
fn empty_batch_does_not_wait() {
    let locks = few_shards(Fairness::default());
    both_ways(&locks, &BatchLockRequest::new("me"), |answer| {
        let none = answer.unwrap();
        assert!(none.is_empty());
        assert!(none.into_grants().is_empty());
    });
    assert_at_rest(&locks);
}

#[test]
fn key_named_twice_is_held_once_exclusively() {
    let (shared, exclusive) = (Mode::Shared, Mode::Exclusive);
    for modes in [[shared, shared], [shared, exclusive], [exclusive, shared], [exclusive, exclusive]] {
        for padding in [0, 40] {
            let locks = few_shards(Fairness::default());
            let others: Vec<String> = (0..padding).map(|n| format!("other-{n}")).collect();
            let mut batch = BatchLockRequest::new("me").add(("b", "o"), modes[0]);
            for other in &others {
                batch = batch.add_write_lock("b", other);
            }
            batch = batch.add(("b", "o"), modes[1]).add(("b", "o"), modes[0]);
            both_ways(&locks, &batch, |answer| {
                let all = answer.unwrap();
                assert_eq!(all.len(), padding + 1);
                let strongest = modes[0].max(modes[1]);
                assert_eq!(locks.try_acquire_read_lock("b", "o", "x").is_ok(), strongest == shared, "{modes:?}");
                let guards = all.into_guards();
                let (held, rest): (Vec<_>, Vec<_>) =
                    guards.into_iter().partition(|guard| *guard.key().object() == *b"o");
                assert_eq!((held.len(), held[0].mode()), (1, strongest));
                // One release is enough.
                drop(held);
                drop(locks.try_acquire_write_lock("b", "o", "x").unwrap());
                drop(rest);
                assert_at_rest(&locks);
            });
        }
    }
}

#[test]
fn a_hundred_thousand_keys_are_had_and_released() {
    let locks = FastObjectLockManager::new();
    let names: Vec<String> = (0..100_000).map(|n| format!("object-{n}")).collect();
    let mut batch = BatchLockRequest::new("me");
    for (n, name) in names.iter().enumerate() {
        batch = batch.add(("b", name), if n % 2 == 0 { Mode::Shared } else { Mode::Exclusive });
    }
    let all = locks.acquire_locks_batch_blocking(batch).unwrap();
    assert_eq!(all.len(), 100_000);
    assert_eq!(locks.get_metrics().shard_metrics.holders, 100_000);
    let grants = all.into_grants();
    grants.iter().for_each(|grant| locks.release(*grant).unwrap());
    assert!(grants.iter().all(|grant| locks.release(*grant).is_err()));
    assert_at_rest(&locks);
}

#[test]
fn batch_conflict_is_named_and_leaves_nothing() {
    for count in [5, 200] {
        let locks = few_shards(Fairness::default());
        let names: Vec<String> = (0..count).map(|n| format!("{n:04}")).collect();
        let middle = &names[count / 2];
        let held = locks.acquire_read_lock_blocking("b", middle, "in the way").unwrap();
        let asked = Duration::from_millis(5);
        let mut batch = BatchLockRequest::new("me").timeout(asked);
        for name in names.iter().rev() {
            batch = batch.add_write_lock("b", name);
        }
        both_ways(&locks, &batch, |answer| {
            let began = Instant::now();
            match answer {
                Err(error @ LockError::Batch { .. }) => {
                    assert_eq!(error.code(), -1);
                    assert!(error.is_transient());
                    let LockError::Batch { key, cause } = error else { unreachable!() };
                    assert_eq!(key, ObjectKey::new("b", middle));
                    let LockError::Timeout { key, holders, .. } = *cause else { panic!("{cause:?}") };
                    assert_eq!(key, ObjectKey::new("b", middle));
                    assert_eq!(&*holders.named[0].owner, "in the way");
                }
                other => panic!("{other:?}"),
            }
            assert!(began.elapsed() < FOREVER);
            assert_eq!(locks.get_metrics().shard_metrics.holders, 1, "only what was in the way");
            for name in &names {
                assert_eq!(locks.try_acquire_write_lock("b", name, "x").is_ok(), name != middle);
            }
        });
        drop(held);
        assert_at_rest(&locks);
    }
}

#[test]
fn one_deadline_is_for_the_whole_batch() {
    let locks = few_shards(Fairness::Fifo);
    let _held: Vec<_> =
        ["a", "c", "e", "g"].map(|name| locks.acquire_write_lock_blocking("b", name, "x").unwrap()).into();
    let asked = Duration::from_millis(40);
    let batch = BatchLockRequest::new("me").mode(BatchMode::BestEffort).timeout(asked);
    let batch = ["a", "b", "c", "d", "e", "f", "g"].iter().fold(batch, |batch, name| batch.add_write_lock("b", *name));
    let began = Cell::new(Instant::now());
    both_ways(&locks, &batch, |answer| {
        let got = answer.unwrap();
        assert!(began.replace(Instant::now()).elapsed() >= asked);
        assert_eq!(got.len(), 3);
        let missing: Vec<_> = got.missing().iter().map(|(key, why)| (key.to_string(), why.code())).collect();
        assert_eq!(missing, [("b/a".into(), -1), ("b/c".into(), -1), ("b/e".into(), -1), ("b/g".into(), -1)]);
        // The first of them took the whole time, unless it was over before that could begin to wait; the others none.
        let waited = |why: &LockError| matches!(why, LockError::Timeout { waited, .. } if !waited.is_zero());
        assert!(!got.missing()[1..].iter().any(|(_, why)| waited(why)), "{:?}", got.missing());
    });
}

#[test]
fn a_best_effort_batch_reports_every_reason() {
    let locks = with(LockConfig { shards: 4, max_key_bytes: 16, ..LockConfig::default() });
    let held = locks.acquire_write_lock_blocking("b", "held", "x").unwrap();
    let batch = BatchLockRequest::new("me").mode(BatchMode::BestEffort).timeout(Duration::ZERO);
    let batch = batch.add_write_lock("b", "free").add_read_lock("b", "held").add_read_lock("b", "much too long a name");
    both_ways(&locks, &batch, |answer| {
        let got = answer.unwrap();
        let codes: BTreeMap<_, _> = got.missing().iter().map(|(key, why)| (key.to_string(), why.code())).collect();
        assert_eq!(codes, [("b/held".to_string(), -1), ("b/much too long a name".to_string(), -9)].into());
        assert_eq!(got.len(), 1);
    });
    drop(held);
    assert_at_rest(&locks);
}

#[test]
fn batch_dropped_at_any_wait_leaves_nothing() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let names = ["a", "b", "c", "d", "e", "f"];
        for stop in 0..=names.len() {
            let mut held: Vec<_> = names.map(|name| locks.acquire_write_lock_blocking("b", name, "x").unwrap()).into();
            let batch =
                names.iter().rev().fold(BatchLockRequest::new("me"), |batch, name| batch.add_write_lock("b", *name));
            let mut future = ByHand::waiting(Box::pin(locks.acquire_locks_batch(batch)));
            for _ in 0..stop {
                drop(held.remove(0));
                if !held.is_empty() {
                    assert!(future.poll().is_pending(), "it waits for the next");
                }
            }
            if stop == names.len() {
                // Granted the last and dropped before it saw that.
                assert!(future.wakes() > 0);
            } else {
                assert_eq!(waiters(&locks), 1);
            }
            drop(future);
            assert_eq!(waiters(&locks), 0);
            assert_eq!(locks.get_metrics().shard_metrics.holders, held.len() as u64);
            drop(held);
            assert_at_rest(&locks);
        }
    }
}

#[test]
fn a_batch_that_waits_gets_all_in_the_end() {
    for fairness in POLICIES {
        let locks = few_shards(fairness);
        let x = locks.acquire_read_lock_blocking("b", "x", "other").unwrap();
        std::thread::scope(|scope| {
            let batch =
                BatchLockRequest::new("me").add_write_lock("b", "y").add_write_lock("b", "x").add_read_lock("b", "y");
            let waiting = scope.spawn(|| {
                let all = locks.acquire_locks_batch_blocking(batch).unwrap();
                assert_eq!(all.len(), 2);
                assert!(locks.try_acquire_read_lock("b", "y", "o").is_err());
                drop(all);
            });
            until_in_line(&locks, 1);
            drop(x);
            waiting.join().unwrap();
        });
        assert_at_rest(&locks);
    }
}

#[test]
fn opposite_batches_never_deadlock() {
    for (fairness, rounds) in [(Fairness::default(), 10_000), (Fairness::Fifo, 2_000)] {
        let locks = few_shards(fairness);
        within("batches in opposite orders", move || {
            let names = ["a", "b", "c", "d"];
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    let locks = &locks;
                    scope.spawn(move || {
                        for round in 0..rounds {
                            let mode = if round % 7 == 0 { Mode::Shared } else { Mode::Exclusive };
                            let add =
                                |batch: BatchLockRequest<'static>, name: &&'static str| batch.add(("b", *name), mode);
                            let batch = BatchLockRequest::new("me");
                            let batch = if thread == 0 {
                                names.iter().fold(batch, add)
                            } else {
                                names.iter().rev().fold(batch, add)
                            };
                            let all = if round % 3 == 0 {
                                ByHand::new(Box::pin(locks.acquire_locks_batch(batch))).after_wakes().unwrap()
                            } else {
                                locks.acquire_locks_batch_blocking(batch).unwrap()
                            };
                            assert_eq!(all.len(), 4);
                        }
                    });
                }
            });
            assert_at_rest(&locks);
        });
    }
}

#[test]
fn a_batch_waits_with_its_priority() {
    let locks = few_shards(Fairness::Fifo);
    let held = locks.acquire_write_lock_blocking("b", "o", "holder").unwrap();
    let mut single = ByHand::waiting(locks.lock(LockRequest::write(("b", "o"))));
    let mut batch = ByHand::waiting(Box::pin(
        locks.acquire_locks_batch(BatchLockRequest::new("me").priority(1).add_write_lock("b", "o")),
    ));
    drop(held);
    assert!(single.poll().is_pending());
    drop(batch.ready().unwrap());
    drop(single.ready().unwrap());
}

#[test]
fn counting_session_holds_batch_key_once() {
    let locks = with(LockConfig { shards: 4, reentrancy: Reentrancy::Count, ..LockConfig::default() });
    let session = locks.session("txn");
    let empty = || BatchLockRequest::new(&session);
    let batches = [
        empty().add_write_lock("b", "o").add_write_lock("b", "o"),
        empty().add_write_lock("b", "o").add_read_lock("b", "o"),
        empty().add_read_lock("b", "o").add_write_lock("b", "o"),
        empty().add_read_lock("b", "o").add_read_lock("b", "o"),
    ];
    let once_and_free_after = |batch: &BatchLockRequest<'_>| {
        both_ways(&locks, batch, |answer| {
            let mut guards = answer.unwrap().into_guards();
            assert_eq!(guards.len(), 1, "{batch:?}");
            guards.clear();
        });
    };
    batches.iter().for_each(once_and_free_after);
    assert_at_rest(&locks);
    // What it holds already it counts once more for each batch, and for no more than that.
    for mode in [Mode::Exclusive, Mode::Shared] {
        let held = locks.lock(LockRequest::new(("b", "o"), mode).owner(&session)).blocking().unwrap();
        let allowed = batches.iter().filter(|_| mode == Mode::Exclusive).chain(&batches[3..]);
        allowed.for_each(once_and_free_after);
        assert_eq!(held.mode(), mode);
        assert_eq!(locks.try_acquire_read_lock("b", "o", "stranger").is_ok(), mode == Mode::Shared);
        drop(held);
        assert_at_rest(&locks);
    }
}
