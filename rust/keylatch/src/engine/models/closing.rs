//! The end of a manager.

use super::*;
use crate::hold::Lost;
use crate::request::Limit;
use crate::wait::Phase;

/// Would catch: a request that queues during the close and waits for ever.
#[test]
fn close_against_enqueue() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let waiting = model.spawn(|model| {
                assert_eq!(model.core().blocking(request(0, EXCLUSIVE), false), Err(LockError::Closed));
            });
            let closer = model.spawn(|model| model.core().close());
            closer.join().unwrap();
            // Without a release, which would wake the waiter, too.
            waiting.join().unwrap();
            model.release(held);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a forgotten waiter: behind another, notified, or an upgrade.
#[test]
fn close_against_release_ends_all_waits() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let (first, second) = (model.queue(0, EXCLUSIVE), model.queue(0, SHARED));
            let wait = move |model: &Model, ticket: Ticket, mode: Mode| match model.wait(ticket, 0) {
                Ended::Granted(Some(grant)) => {
                    model.work(0, mode);
                    model.release(grant);
                }
                Ended::Failed { why: Phase::Closed, .. } => {}
                other => panic!("{other:?}"),
            };
            let first = model.spawn(move |model| wait(model, first, EXCLUSIVE));
            let closer = model.spawn(|model| model.core().close());
            model.release(held);
            wait(&model, second, SHARED);
            first.join().unwrap();
            closer.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a wait that the close and its deadline both end, or neither.
#[test]
fn close_against_a_time_out() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let ticket = model.queue(0, EXCLUSIVE);
            let waits = model.spawn(move |model| {
                let some_time = Some(Instant::now() + Duration::from_secs(3600));
                let ended = model.wait_until(ticket, 0, some_time);
                assert!(matches!(ended, Ended::Failed { why: Phase::Closed | Phase::TimedOut, .. }), "{ended:?}");
            });
            model.core().close();
            waits.join().unwrap();
            model.release(held);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: an upgrade that waits on or lost its hold after the close.
#[test]
fn close_against_an_upgrade() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let (mine, theirs) = (model.lock(0, SHARED), model.lock(0, SHARED));
        let closes = model.spawn(|model| model.core().close());
        let leaves = model.spawn(move |model| model.release(theirs));
        let upgraded = model.core().upgrade_blocking(mine, Limit::Never);
        assert!(matches!(upgraded, Ok(()) | Err(LockError::Closed)), "{upgraded:?}");
        model.work(0, if upgraded.is_ok() { EXCLUSIVE } else { SHARED });
        model.release(mine);
        closes.join().unwrap();
        leaves.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a waiter whose queue moves while the close looks for it.
#[test]
fn close_against_a_revocation() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let held = model.lock(0, EXCLUSIVE);
        let ticket = model.queue(0, EXCLUSIVE);
        let waits = model.spawn(move |model| match model.wait(ticket, 0) {
            Ended::Granted(Some(grant)) => {
                model.work(0, EXCLUSIVE);
                model.release(grant);
            }
            ended => assert!(matches!(ended, Ended::Failed { why: Phase::Closed, .. }), "{ended:?}"),
        });
        let closes = model.spawn(|model| model.core().close());
        model.core().revoke(model.core().local(), &[held], Lost::Forced);
        waits.join().unwrap();
        closes.join().unwrap();
        model.release(held);
        model.assert_nothing_left();
    });
}

/// Would catch: a lock delay that begins at the close and never ends.
#[test]
fn close_against_a_lock_delay() {
    check(|| {
        let lock_delay = Duration::from_secs(3600);
        let model = Model::with(LockConfig { fairness: NEVER, shards: 1, lock_delay, ..LockConfig::default() });
        let grant = model.lock(0, EXCLUSIVE);
        model.core().start_lease(grant, Some(Duration::from_nanos(1)));
        let taker = model.spawn(move |model| {
            let taken = model.core().revoke(model.core().local(), &[grant], Lost::Expired);
            assert_eq!(taken, [grant]);
        });
        model.core().close();
        taker.join().unwrap();
        model.release(grant);
        model.assert_nothing_left();
    });
}
