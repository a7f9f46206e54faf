//! From shared to exclusive and back, while others wait for either.

use super::*;
use crate::request::Limit;

/// Would catch: a downgrade that forgets readers, or admits the writer with them.
#[test]
fn downgrade_with_reader_and_writer_queued() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let (reader, writer) = (model.queue(0, SHARED), model.queue(0, EXCLUSIVE));
            let reader = model.spawn(move |model| model.wait_and_work(reader, 0, SHARED));
            let writer = model.spawn(move |model| model.wait_and_work(writer, 0, EXCLUSIVE));
            model.work(0, EXCLUSIVE);
            model.core().downgrade(held);
            model.work(0, SHARED);
            // The reader needs no release.
            reader.join().unwrap();
            model.work(0, SHARED);
            model.release(held);
            writer.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a downgrade that misses a reader that queues meanwhile.
#[test]
fn a_downgrade_against_enqueue() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let reader = model.spawn(|model| model.lock_and_work(0, SHARED));
            model.work(0, EXCLUSIVE);
            model.core().downgrade(held);
            model.work(0, SHARED);
            reader.join().unwrap();
            model.release(held);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: an upgrade beside another reader, or before its work is seen.
#[test]
fn an_upgrade_now_against_a_readers_release() {
    check(|| {
        let model = Model::new(NEVER);
        let (mine, theirs) = (model.lock(0, SHARED), model.lock(0, SHARED));
        let reader = model.spawn(move |model| {
            model.work(0, SHARED);
            model.release(theirs);
        });
        model.work(0, SHARED);
        let mode = if model.core().try_upgrade(mine).is_ok() { EXCLUSIVE } else { SHARED };
        model.work(0, mode);
        model.release(mine);
        reader.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: an upgrade that is not woken, or only after a waiting writer.
#[test]
fn a_queued_upgrade_against_a_readers_release() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let (mine, theirs) = (model.lock(0, SHARED), model.lock(0, SHARED));
            let writer = model.queue(0, EXCLUSIVE);
            let writer = model.spawn(move |model| model.wait_and_work(writer, 0, EXCLUSIVE));
            let reader = model.spawn(move |model| {
                model.work(0, SHARED);
                model.release(theirs);
            });
            model.work(0, SHARED);
            assert_eq!(model.worked(0), 0);
            model.core().upgrade_blocking(mine, Limit::Never).expect("the reader goes in the end");
            assert_eq!(model.worked(0), 0, "no writer came in between");
            model.work(0, EXCLUSIVE);
            model.release(mine);
            reader.join().unwrap();
            writer.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: two upgrades that wait for each other, or both succeed.
#[test]
fn two_upgrades() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let (mine, theirs) = (model.lock(0, SHARED), model.lock(0, SHARED));
        let upgrade = |model: &Model, grant: Grant| {
            model.work(0, SHARED);
            let upgraded = match model.core().upgrade_blocking(grant, Limit::Never) {
                Ok(()) => true,
                Err(LockError::UpgradeConflict { .. }) => false,
                Err(other) => panic!("{other}"),
            };
            if upgraded {
                model.work(0, EXCLUSIVE);
            }
            model.release(grant);
        };
        let other = model.spawn(move |model| upgrade(model, theirs));
        upgrade(&model, mine);
        other.join().unwrap();
        assert!(model.worked(0) >= 1);
        model.assert_nothing_left();
    });
}

/// Would catch: an upgrade that leaves readers asleep, or loses its hold.
#[test]
fn an_upgrade_gives_up_in_front_of_a_reader() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let (mine, theirs) = (model.lock(0, SHARED), model.lock(0, SHARED));
        let upgrading = model.spawn(move |model| {
            let some_time = Limit::after(Duration::from_secs(3600));
            let mode = if model.core().upgrade_blocking(mine, some_time).is_ok() { EXCLUSIVE } else { SHARED };
            model.work(0, mode);
            model.release(mine);
        });
        let reader = model.spawn(|model| model.lock_and_work(0, SHARED));
        model.work(0, SHARED);
        model.release(theirs);
        reader.join().unwrap();
        upgrading.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a leaked upgrade whose turn comes after its hold has ended.
#[test]
fn a_guard_goes_whose_upgrade_was_forgotten() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let (mine, theirs) = (model.lock(0, SHARED), model.lock(0, SHARED));
            let waits = model.core().begin_upgrade(mine, Delivery::Task(None)).expect("no other upgrade waits");
            assert!(waits.is_some(), "another reader is in its way");
            let reader = model.spawn(move |model| {
                model.work(0, SHARED);
                model.release(theirs);
            });
            model.release(mine);
            reader.join().unwrap();
            model.assert_nothing_left();
        });
    }
}
