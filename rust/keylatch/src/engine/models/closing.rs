//! The end of a manager.

use super::*;
use crate::wait::Phase;

/// Would catch: a request that queues while the manager is closed and is never told.
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
            // Without a release: nobody is told by that.
            waiting.join().unwrap();
            model.release(held);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a waiter behind the one that is being told, an upgrade, or one that was told to try, that is forgotten.
#[test]
fn close_against_release_tells_everybody() {
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
