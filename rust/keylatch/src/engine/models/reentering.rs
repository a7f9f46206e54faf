//! A counting session asks for what it holds, while its first hold ends or another request comes.

use super::*;
use crate::config::Reentrancy;
use crate::hold::{Lost, OwnerRef, SessionState};
use crate::request::Limit;

fn counting() -> (Model, Arc<SessionState>) {
    let config = LockConfig {
        shards: 1,
        fairness: Fairness::Fifo,
        max_locks: 3,
        max_waiters: MAX_WAITERS,
        reentrancy: Reentrancy::Count,
        // Time passes by being looked at, and there is nothing to look for.
        deadlock_delay: None,
        ..LockConfig::default()
    };
    let core = Arc::new(Core::new(config).expect("a valid setting"));
    let model = Model(Arc::new(Parts { core, protected: Arc::new(std::array::from_fn(|_| UnsafeCell::new(0))) }));
    let session = model.core().begin_session("s", "").expect("no fork");
    (model, session)
}

fn lock(model: &Model, session: &SessionState) -> Grant {
    let owner = OwnerRef::Session(session.as_owner(model.core().identity()));
    model.core().blocking(request(0, EXCLUSIVE).owner(owner), false).expect("granted in the end")
}

fn mode(model: &Model, grant: Grant) -> Mode {
    model.core().records.get(grant.index()).seen_by_guard(grant).expect("its guard is still here").1
}

/// Would catch: a wrong count of holds.
///
/// The first hold ends on the fast path while it is being counted.
#[test]
fn asks_again_while_first_hold_ends() {
    check(|| {
        let (model, session) = counting();
        let first = lock(&model, &session);
        let ends = model.spawn(move |model| model.release(first));
        let second = lock(&model, &session);
        model.work(0, EXCLUSIVE);
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once at least");
        ends.join().unwrap();
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once");
        model.release(second);
        model.assert_nothing_left();
    });
}

/// Would catch: a waiter that is admitted too early, or forgotten.
///
/// One of two holds of the session ends.
#[test]
fn waiter_while_a_session_asks_again() {
    check(|| {
        let (model, session) = counting();
        let first = lock(&model, &session);
        let waits = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
        let second = lock(&model, &session);
        model.work(0, EXCLUSIVE);
        model.release(first);
        model.work(0, EXCLUSIVE);
        model.release(second);
        waits.join().unwrap();
        assert_eq!(model.worked(0), 3);
        model.assert_nothing_left();
    });
}

/// Would catch: a lock that is shared or free beside a second exclusive hold.
///
/// The first hold downgrades while the second begins or ends.
#[test]
fn asks_again_while_first_hold_downgrades() {
    check(|| {
        let (model, session) = counting();
        let first = lock(&model, &session);
        let downgrades = model.spawn(move |model| {
            model.core().downgrade(first);
            let shared = mode(model, first) == SHARED;
            model.work(0, SHARED);
            model.release(first);
            shared
        });
        let owner = OwnerRef::Session(session.as_owner(model.core().identity()));
        if let Ok(second) = model.core().try_now(request(0, EXCLUSIVE).owner(owner), false) {
            let beside = model.try_lock(0, SHARED);
            assert!(beside.is_err(), "it is held once at least, and alone");
            model.release(second);
        }
        downgrades.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a wrong count after a downgrade beside a release.
#[test]
fn one_of_two_downgrades_while_the_other_ends() {
    for which in [0, 1] {
        check(move || {
            let (model, session) = counting();
            let holds = [lock(&model, &session), lock(&model, &session)];
            let (stays, goes) = (holds[which], holds[1 - which]);
            let ends = model.spawn(move |model| {
                model.work(0, SHARED);
                model.release(goes);
            });
            model.core().downgrade(stays);
            let beside = model.try_lock(0, SHARED);
            let shared = mode(&model, stays) == SHARED;
            assert_eq!(beside.is_ok(), shared);
            beside.into_iter().for_each(|reader| model.release(reader));
            ends.join().unwrap();
            assert!(model.try_lock(0, EXCLUSIVE).is_err(), "it is held once");
            model.release(stays);
            model.assert_nothing_left();
        });
    }
}

fn read(model: &Model, session: &SessionState) -> Grant {
    let owner = OwnerRef::Session(session.as_owner(model.core().identity()));
    model.core().blocking(request(0, SHARED).owner(owner), false).expect("granted in the end")
}

/// Would catch a lock that is free while one of two holds is there.
///
/// What the session shared ends on the fast path, or is not counted, in the moment in which it rises.
#[test]
fn shared_hold_ends_while_session_rises() {
    for risen_ends_first in [false, true] {
        check(move || {
            let (model, session) = counting();
            let shared = read(&model, &session);
            let ends = model.spawn(move |model| model.release(shared));
            let risen = lock(&model, &session);
            model.work(0, EXCLUSIVE);
            assert!(model.try_lock(0, SHARED).is_err(), "it is held once at least");
            if risen_ends_first {
                model.release(risen);
                ends.join().unwrap();
            } else {
                ends.join().unwrap();
                assert!(model.try_lock(0, SHARED).is_err(), "it is held once");
                model.release(risen);
            }
            model.assert_nothing_left();
        });
    }
}

/// Would catch a session that rises beside another reader, or never.
#[test]
fn other_reader_leaves_while_session_rises() {
    check(|| {
        let (model, session) = counting();
        let shared = read(&model, &session);
        let other = model.try_lock(0, SHARED).expect("it is shared");
        let leaves = model.spawn(move |model| {
            model.work(0, SHARED);
            model.release(other);
        });
        let risen = lock(&model, &session);
        model.work(0, EXCLUSIVE);
        model.release(shared);
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once");
        model.release(risen);
        leaves.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a hold that is revoked as a reader's while its session rises.
#[test]
fn shared_hold_is_revoked_while_session_rises() {
    check(|| {
        let (model, session) = counting();
        let shared = read(&model, &session);
        let forces = model.spawn(move |model| {
            let core = model.core();
            core.revoke(core.local(), &[shared], Lost::Forced);
        });
        let risen = lock(&model, &session);
        model.work(0, EXCLUSIVE);
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once at least");
        forces.join().unwrap();
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once");
        model.release(shared);
        model.release(risen);
        model.assert_nothing_left();
    });
}

/// Would catch a late release that takes the word of another hold for its own.
///
/// A reader looks at the word, and its session rises, loses it by force, and shares again with the risen hold.
#[test]
fn late_release_finds_its_session_risen() {
    check(|| {
        let (model, session) = counting();
        let shared = read(&model, &session);
        let late = model.spawn(move |model| model.release(shared));
        let risen = lock(&model, &session);
        let core = model.core();
        core.revoke(core.local(), &[shared], Lost::Forced);
        core.downgrade(risen);
        if mode(&model, risen) == SHARED {
            assert!(model.try_lock(0, EXCLUSIVE).is_err(), "it is shared still");
        }
        late.join().unwrap();
        assert!(model.try_lock(0, EXCLUSIVE).is_err(), "it is held once");
        model.release(risen);
        model.assert_nothing_left();
    });
}

/// Would catch a session that waits for its own read.
///
/// Or a lock that is free beside it. It upgrades one of two reads, and the other ends meanwhile.
#[test]
fn second_read_ends_while_the_first_upgrades() {
    check(|| {
        let (model, session) = counting();
        let (first, second) = (read(&model, &session), read(&model, &session));
        let ends = model.spawn(move |model| model.release(second));
        model.core().upgrade_blocking(first, Limit::Never).expect("no other reads it");
        model.work(0, EXCLUSIVE);
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once at least");
        ends.join().unwrap();
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once");
        model.release(first);
        model.assert_nothing_left();
    });
}

/// Would catch an upgrade beside another reader, or one that waits for ever.
#[test]
fn other_reader_leaves_while_one_of_two_upgrades() {
    check(|| {
        let (model, session) = counting();
        let (first, second) = (read(&model, &session), read(&model, &session));
        let other = model.try_lock(0, SHARED).expect("it is shared");
        let leaves = model.spawn(move |model| {
            model.work(0, SHARED);
            model.release(other);
        });
        model.core().upgrade_blocking(first, Limit::Never).expect("the other leaves");
        model.work(0, EXCLUSIVE);
        model.release(first);
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once");
        model.release(second);
        leaves.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch an upgrade that waits for its own exclusive hold.
///
/// Its session rises while the guard sets out to upgrade.
#[test]
fn session_rises_while_its_guard_upgrades() {
    check(|| {
        let (model, session) = counting();
        let shared = read(&model, &session);
        let upgrades = model.spawn(move |model| {
            model.core().upgrade_blocking(shared, Limit::Never).expect("no other reads it");
            assert_eq!(mode(model, shared), EXCLUSIVE);
        });
        let second = lock(&model, &session);
        upgrades.join().unwrap();
        model.release(second);
        assert!(model.try_lock(0, SHARED).is_err(), "it is held once");
        model.release(shared);
        model.assert_nothing_left();
    });
}

/// Would catch a session that rises never, because its second read is noted late.
#[test]
fn second_read_begins_while_session_rises() {
    check(|| {
        let (model, session) = counting();
        let first = read(&model, &session);
        let reads = {
            let session = Arc::clone(&session);
            model.spawn(move |model| read(model, &session))
        };
        let risen = lock(&model, &session);
        let second = reads.join().unwrap();
        for grant in [first, second, risen] {
            assert!(model.try_lock(0, SHARED).is_err(), "it is held once at least");
            model.release(grant);
        }
        model.assert_nothing_left();
    });
}
