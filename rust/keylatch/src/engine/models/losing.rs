//! A hold is revoked while its holder, or another thread, does something with the lock.

use super::*;
use crate::engine::loss::Listener;
use crate::hold::{Lost, OwnerRef};
use crate::request::Limit;

fn force(model: &Model, grants: &[Grant]) -> Vec<Grant> {
    model.core().revoke(model.core().local(), grants, Lost::Forced)
}

/// Would catch: a late release that ends the next holder's hold.
#[test]
fn guard_releases_during_revocation() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(NEVER);
            let grant = model.lock(0, mode);
            let holder = model.spawn(move |model| model.release(grant));
            force(&model, &[grant]);
            model.lock_and_work(0, EXCLUSIVE);
            holder.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a late release that finds its word, though another thread holds.
#[test]
fn the_next_holder_is_safe_from_a_late_release() {
    check(|| {
        let model = Model::new(NEVER);
        let grant = model.lock(0, EXCLUSIVE);
        let taken = force(&model, &[grant]);
        assert_eq!(taken, [grant]);
        let late = model.spawn(move |model| model.release(grant));
        let other = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
        model.lock_and_work(0, EXCLUSIVE);
        late.join().unwrap();
        other.join().unwrap();
        assert_eq!(model.worked(0), 2);
        model.assert_nothing_left();
    });
}

/// Would catch: a revocation that hits a later hold of the same record.
///
/// The record was compared before the word was raised.
#[test]
fn same_record_holds_again_during_revocation() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(NEVER);
            let first = model.lock(0, mode);
            let holder = model.spawn(move |model| {
                model.release(first);
                if let Some(second) = model.lock_fast(0, mode) {
                    model.work(0, mode);
                    assert!(model.core().standing(second).is_ok(), "its grant was not meant");
                    model.release(second);
                }
            });
            force(&model, &[first]);
            holder.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a late release that changes an entry that has another key now.
#[test]
fn late_release_after_the_key_changed() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(NEVER);
            let grant = model.lock(0, mode);
            let late = model.spawn(move |model| model.release(grant));
            force(&model, &[grant]);
            // The one warm slot: this takes over the entry.
            model.lock_and_work(1, mode);
            late.join().unwrap();
            model.lock_and_work(1, EXCLUSIVE);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: an idle entry that stays in the table without a warm slot.
#[test]
fn cold_entry_is_revoked_during_release() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(Fairness::Fifo);
            let (first, second) = (model.lock(0, mode), model.lock(1, mode));
            let holder = model.spawn(move |model| model.release(second));
            force(&model, &[second]);
            holder.join().unwrap();
            model.release(first);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a remaining reader that the raised word counts wrong.
#[test]
fn one_reader_revoked_while_other_leaves() {
    check(|| {
        let model = Model::new(NEVER);
        let (lost, stays) = (model.lock(0, SHARED), model.lock(0, SHARED));
        let reader = model.spawn(move |model| {
            model.work(0, SHARED);
            model.release(stays);
        });
        assert_eq!(force(&model, &[lost]), [lost]);
        if let Ok(writer) = model.try_lock(0, EXCLUSIVE) {
            model.work(0, EXCLUSIVE);
            model.release(writer);
        }
        model.release(lost);
        reader.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a waiter that guard and revoker both serve, or neither.
#[test]
fn revoked_lock_goes_to_the_waiter() {
    for fairness in [HANDED, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let grant = model.lock(0, EXCLUSIVE);
            let ticket = model.queue(0, EXCLUSIVE);
            let waiter = model.spawn(move |model| model.wait_and_work(ticket, 0, EXCLUSIVE));
            let taker = model.spawn(move |model| force(model, &[grant]));
            model.release(grant);
            taker.join().unwrap();
            waiter.join().unwrap();
            assert_eq!(model.worked(0), 1);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a grant that its caller and the revoker both end, or neither.
#[test]
fn a_number_is_released_by_one_of_two() {
    check(|| {
        let model = Model::new(NEVER);
        let grant = model.core().try_now(request(0, EXCLUSIVE), true).unwrap();
        let holder = model.spawn(move |model| model.core().release_number(grant).is_ok());
        let taken = force(&model, &[grant]).len();
        if taken == 1 {
            model.lock_and_work(0, EXCLUSIVE);
        }
        let released = holder.join().unwrap();
        assert_ne!(released, taken == 1);
        model.assert_nothing_left();
    });
}

/// Would catch: a conversion after the revocation that changes the next hold.
#[test]
fn guard_converts_during_revocation() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(NEVER);
            let grant = model.lock(0, mode);
            let holder = model.spawn(move |model| {
                match mode {
                    EXCLUSIVE => model.core().downgrade(grant),
                    SHARED => {
                        let _ = model.core().try_upgrade(grant);
                    }
                }
                model.release(grant);
            });
            let taken = force(&model, &[grant]).len();
            let next = model.lock(0, EXCLUSIVE);
            // A reader that loses its hold had no number.
            assert!(model.core().fence(next).unwrap() > u64::from(taken > 0 && mode == EXCLUSIVE));
            model.work(0, EXCLUSIVE);
            model.release(next);
            holder.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a take on the fast path, from a word that is being raised.
#[test]
fn newcomer_arrives_during_revocation() {
    check(|| {
        let model = Model::new(NEVER);
        let lost = model.lock(0, SHARED);
        let newcomer = model.spawn(|model| {
            if let Some(grant) = model.lock_fast(0, SHARED) {
                model.work(0, SHARED);
                model.release(grant);
            }
        });
        force(&model, &[lost]);
        if let Ok(writer) = model.try_lock(0, EXCLUSIVE) {
            model.work(0, EXCLUSIVE);
            model.release(writer);
        }
        newcomer.join().unwrap();
        model.release(lost);
        model.assert_nothing_left();
    });
}

/// Would catch: a lease that is both renewed and lost, or neither.
#[test]
fn a_lease_is_renewed_or_lost_never_both() {
    check(|| {
        let model = Model::new(NEVER);
        let ttl = Some(Duration::from_nanos(1));
        let grant = model.lock(0, EXCLUSIVE);
        model.core().start_lease(grant, ttl);
        let holder = model.spawn(move |model| {
            let renewed = model.core().renew(grant, Duration::from_secs(3600)).is_ok();
            if renewed {
                model.work(0, EXCLUSIVE);
            }
            model.release(grant);
            renewed
        });
        let next = model.try_lock(0, EXCLUSIVE);
        if let Ok(next) = next {
            model.work(0, EXCLUSIVE);
            model.release(next);
        }
        holder.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a waiter that does not learn of a lease that began meanwhile.
///
/// No thread releases here.
#[test]
fn lease_begins_while_a_wait_begins() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(Fairness::Fifo);
            let grant = model.lock(0, mode);
            let waiter = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
            model.core().start_lease(grant, Some(Duration::from_nanos(1)));
            waiter.join().unwrap();
            assert!(matches!(model.core().standing(grant), Err(LockError::LeaseLost { .. })));
            model.release(grant);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a lease that a waiter overlooks, and so waits for ever.
///
/// Its holder downgrades, and its record says so before the word does.
#[test]
fn lease_ends_during_a_downgrade() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let grant = model.lock(0, EXCLUSIVE);
        model.core().start_lease(grant, Some(A_MOMENT));
        let holder = model.spawn(move |model| model.core().downgrade(grant));
        model.lock_and_work(0, EXCLUSIVE);
        holder.join().unwrap();
        assert!(matches!(model.core().standing(grant), Err(LockError::LeaseLost { .. })));
        model.release(grant);
        model.assert_nothing_left();
    });
}

/// Would catch: a lease that begins beside a downgrade and is in no list.
#[test]
fn lease_begins_during_a_downgrade() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let grant = model.lock(0, EXCLUSIVE);
        let holder = model.spawn(move |model| model.core().downgrade(grant));
        model.core().start_lease(grant, Some(A_MOMENT));
        holder.join().unwrap();
        model.lock_and_work(0, EXCLUSIVE);
        assert!(matches!(model.core().standing(grant), Err(LockError::LeaseLost { .. })));
        model.release(grant);
        model.assert_nothing_left();
    });
}

/// Would catch: a tombstone that two callers give back, so that two holds use it.
#[test]
fn tombstone_shown_by_two_callers() {
    check(|| {
        let model = Model::new(NEVER);
        let grant = model.core().try_now(request(0, EXCLUSIVE), true).unwrap();
        model.core().start_lease(grant, Some(Duration::from_nanos(1)));
        model.lock_and_work(0, EXCLUSIVE);
        let show = move |model: &Model| match model.core().adopt(grant) {
            Err(LockError::LeaseLost { .. }) => 1,
            Err(LockError::NotHeld { .. }) => 0,
            other => panic!("{other:?} though its lock was lost"),
        };
        let other = model.spawn(show);
        let mine = show(&model);
        assert!(mine + other.join().unwrap() >= 1, "one at least learns of it");
        model.assert_nothing_left();
    });
}

/// Would catch: a hold that is shown as lost before its tombstone is there.
///
/// A caller would hear of the loss twice.
#[test]
fn expired_hold_is_reported_once() {
    check(|| {
        let model = Model::new(NEVER);
        let grant = model.core().try_now(request(0, EXCLUSIVE), true).unwrap();
        model.core().start_lease(grant, Some(Duration::from_nanos(1)));
        let next = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
        let answers = [0; 2].map(|_| model.core().release_number(grant));
        let reported = answers.iter().filter(|answer| matches!(answer, Err(LockError::LeaseLost { .. }))).count();
        assert!(reported <= 1, "{answers:?}");
        next.join().unwrap();
        // If it asked too early, its tombstone is still there.
        let _ = model.core().release_number(grant);
        model.assert_nothing_left();
    });
}

/// Would catch: a listener added meanwhile that is never called, or twice.
#[test]
fn listener_added_during_revocation() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(NEVER);
            let grant = model.lock(0, mode);
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let holder = model.spawn(move |model| {
                let listener = Listener::new(move |why| {
                    assert_eq!(why, Lost::Forced);
                    counted.fetch_add(1, Ordering::Relaxed);
                });
                model.core().on_lost(grant, listener).expect("its guard is still here");
            });
            assert_eq!(force(&model, &[grant]), [grant]);
            holder.join().unwrap();
            assert_eq!(calls.load(Ordering::Relaxed), 1);
            model.release(grant);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a listener that is accepted and never called, or called twice.
///
/// The hold is detached, and is forced or has run out.
#[test]
fn listener_added_while_a_grant_is_revoked() {
    for why in [Lost::Forced, Lost::Expired] {
        check(move || {
            let model = Model::new(NEVER);
            let grant = model.core().try_now(request(0, EXCLUSIVE), true).unwrap();
            model.core().start_lease(grant, Some(A_MOMENT));
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            let holder = model.spawn(move |model| {
                let listener = Listener::new(move |reason| {
                    assert_eq!(reason, why);
                    counted.fetch_add(1, Ordering::Relaxed);
                });
                model.core().on_lost(grant, listener)
            });
            assert_eq!(model.core().revoke(model.core().local(), &[grant], why), [grant]);
            let added = holder.join().unwrap();
            assert_eq!(calls.load(Ordering::Relaxed), usize::from(added.is_ok()), "{added:?}");
            assert!(added.is_ok() || why == Lost::Forced, "it is shown until it is given back");
            assert!(model.core().adopt(grant).is_err());
            model.assert_nothing_left();
        });
    }
}

/// Would catch: an upgrade of a revoked hold that waits on, or a shared writer.
#[test]
fn two_upgrades_while_one_is_revoked() {
    for lost in [0, 1] {
        check(move || {
            let config = LockConfig {
                shards: 1,
                fairness: Fairness::Fifo,
                max_locks: 3,
                max_waiters: MAX_WAITERS,
                deadlock_delay: Some(Duration::ZERO),
                ..LockConfig::default()
            };
            let model = Model::with(config);
            let sessions = ["a", "b"].map(|name| model.core().begin_session(name, "").expect("no fork"));
            let holds = sessions.each_ref().map(|session| {
                let owner = OwnerRef::Session(session.as_owner(model.core().identity()));
                model.core().try_now(request(0, SHARED).owner(owner), false).expect("shared")
            });
            let in_the_way = model.lock(0, SHARED);
            let waits = holds.map(|grant| match model.core().begin_upgrade(grant, Delivery::Thread) {
                Ok(Some((ticket, _))) => ticket,
                other => panic!("{other:?} beside other readers"),
            });
            let upgraders = [0, 1].map(|who| {
                model.spawn(move |model| {
                    let ended = model.wait(waits[who], 0);
                    let upgraded = model.core().upgrade_ended(holds[who], ended, Limit::Never);
                    match &upgraded {
                        Ok(()) => model.work(0, EXCLUSIVE),
                        Err(LockError::Deadlock { .. }) => {}
                        Err(LockError::NotHeld { .. }) if who == lost => {}
                        Err(other) => panic!("{other}"),
                    }
                    model.release(holds[who]);
                    upgraded.is_ok()
                })
            });
            force(&model, &[holds[lost]]);
            model.work(0, SHARED);
            model.release(in_the_way);
            let upgraded = upgraders.map(|upgrader| upgrader.join().unwrap());
            assert!(!upgraded[lost], "it was in the way until it had lost its lock");
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a hold that cannot be revoked because the table is full.
#[test]
fn a_lock_is_taken_away_in_a_full_table() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let others = [1, 2].map(|key| model.lock(key, EXCLUSIVE));
        let grant = model.lock(0, EXCLUSIVE);
        assert!(matches!(model.try_lock(3, EXCLUSIVE), Err(LockError::TableFull { .. })));
        let ticket = model.queue(0, EXCLUSIVE);
        let waiter = model.spawn(move |model| model.wait_and_work(ticket, 0, EXCLUSIVE));
        let holder = model.spawn(move |model| model.release(grant));
        force(&model, &[grant]);
        holder.join().unwrap();
        waiter.join().unwrap();
        others.into_iter().for_each(|other| model.release(other));
        model.assert_nothing_left();
    });
}

const A_MOMENT: Duration = Duration::from_nanos(1);

/// Would catch: a lease that begins during a search and is never found.
#[test]
fn a_lease_begins_while_a_full_table_is_searched() {
    check(|| {
        let model = Model::new(NEVER);
        let first = model.core().try_now(request(0, EXCLUSIVE), true).unwrap();
        let second = model.core().try_now(request(1, EXCLUSIVE), true).unwrap();
        model.core().start_lease(first, Some(A_MOMENT));
        let searcher = model.spawn(|model| model.core().reclaim(model.core().local()));
        model.core().start_lease(second, Some(A_MOMENT));
        searcher.join().unwrap();
        model.core().reclaim(model.core().local());
        for grant in [first, second] {
            assert!(matches!(model.core().adopt(grant), Err(LockError::LeaseLost { .. })), "it has run out");
        }
        model.assert_nothing_left();
    });
}

/// Would catch: a full table although another thread is reclaiming places.
#[test]
fn two_threads_reclaim() {
    check(|| {
        let model = Model::new(NEVER);
        let grant = model.core().try_now(request(0, EXCLUSIVE), true).unwrap();
        model.core().start_lease(grant, Some(A_MOMENT));
        let reclaim = |model: &Model| {
            model.core().reclaim(model.core().local());
            assert!(
                model.core().table.lock(0).find(model.wanted(0, EXCLUSIVE).hash, &request(0, EXCLUSIVE).key).is_none()
            );
        };
        let other = model.spawn(reclaim);
        reclaim(&model);
        other.join().unwrap();
        assert!(matches!(model.core().adopt(grant), Err(LockError::LeaseLost { .. })));
        model.assert_nothing_left();
    });
}
