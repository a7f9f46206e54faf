//! From one holder to the next: nobody who waits is forgotten, whatever the policy.

use super::*;

const POLICIES: [Fairness; 4] = [Fairness::Fifo, AT_ONCE, NEVER, SOON];

/// Would catch the lost wake-up: a release that does not see the waiter that does not see the release.
#[test]
fn release_against_enqueue() {
    for fairness in POLICIES {
        for mode in [EXCLUSIVE, SHARED] {
            check(move || {
                let model = Model::new(fairness);
                let held = model.lock(0, EXCLUSIVE);
                let other = model.spawn(move |model| model.lock_and_work(0, mode));
                model.work(0, EXCLUSIVE);
                model.release(held);
                other.join().unwrap();
                model.assert_nothing_left();
            });
        }
    }
}

/// The same with a reader in the way.
#[test]
fn the_last_reader_against_enqueue() {
    for fairness in POLICIES {
        check(move || {
            let model = Model::new(fairness);
            let (one, two) = (model.lock(0, SHARED), model.lock(0, SHARED));
            let other = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
            let reader = model.spawn(move |model| model.release(one));
            model.work(0, SHARED);
            model.release(two);
            reader.join().unwrap();
            other.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a waiter that was told to try, lost the race against a newcomer, and is not told again; one behind it
/// that nobody looks after while it is on its way.
#[test]
fn a_newcomer_overtakes_who_was_told_to_try() {
    for fairness in POLICIES {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let first = model.queue(0, EXCLUSIVE);
            let newcomer = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
            let waiting = model.spawn(move |model| model.wait_and_work(first, 0, EXCLUSIVE));
            model.release(held);
            newcomer.join().unwrap();
            waiting.join().unwrap();
            assert_eq!(model.worked(0), 2);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a line whose head is on its way and whose second waiter is left behind by it.
#[test]
fn two_in_line() {
    for fairness in POLICIES {
        for (one, two) in [(EXCLUSIVE, EXCLUSIVE), (SHARED, EXCLUSIVE), (EXCLUSIVE, SHARED)] {
            check(move || {
                let model = Model::new(fairness);
                let held = model.lock(0, EXCLUSIVE);
                let (first, second) = (model.queue(0, one), model.queue(0, two));
                let first = model.spawn(move |model| model.wait_and_work(first, 0, one));
                let second = model.spawn(move |model| model.wait_and_work(second, 0, two));
                model.release(held);
                first.join().unwrap();
                second.join().unwrap();
                model.assert_nothing_left();
            });
        }
    }
}

/// Would catch: readers that wait one behind the other although they could share, and a batch that ends with its first
/// round. There are three, and a round has two; each keeps the lock until it has seen the others.
#[test]
fn readers_are_admitted_together() {
    use loom::sync::atomic::{AtomicU32, Ordering};
    for fairness in [Fairness::Fifo, AT_ONCE] {
        check_within(1, move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let tickets = [model.queue(0, SHARED), model.queue(0, SHARED), model.queue(0, SHARED)];
            let writer = model.queue(0, EXCLUSIVE);
            let inside = Arc::new(AtomicU32::new(0));
            // Two of them on one thread: what they wait for has to happen before either lets go.
            let meet = move |model: &Model, tickets: &[Ticket], inside: &AtomicU32| {
                let grants: Vec<Grant> = tickets
                    .iter()
                    .map(|ticket| match model.wait(*ticket, 0) {
                        Ended::Granted(Some(grant)) => grant,
                        other => panic!("{other:?}"),
                    })
                    .collect();
                model.work(0, SHARED);
                inside.fetch_add(grants.len() as u32, Ordering::Relaxed);
                while inside.load(Ordering::Relaxed) < 3 {
                    loom::thread::yield_now();
                }
                grants.into_iter().for_each(|grant| model.release(grant));
            };
            let (theirs, counted) = ([tickets[0], tickets[2]], Arc::clone(&inside));
            let pair = model.spawn(move |model| meet(model, &theirs, &counted));
            let single = model.spawn(move |model| meet(model, &tickets[1..2], &inside));
            model.work(0, EXCLUSIVE);
            model.release(held);
            model.wait_and_work(writer, 0, EXCLUSIVE);
            pair.join().unwrap();
            single.join().unwrap();
            assert_eq!(model.worked(0), 2);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a reader who joins readers past a writer that waits under a policy that forbids it, or past one that
/// holds the lock; a writer that is let in before the last reader has gone.
#[test]
fn a_reader_arrives_while_a_writer_waits_for_readers() {
    for fairness in [Fairness::Fifo, NEVER, Fairness::ReaderFirst, Fairness::WriterFirst] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, SHARED);
            let writer = model.queue(0, EXCLUSIVE);
            let writer = model.spawn(move |model| model.wait_and_work(writer, 0, EXCLUSIVE));
            let reader = model.spawn(|model| model.lock_and_work(0, SHARED));
            model.work(0, SHARED);
            model.release(held);
            writer.join().unwrap();
            reader.join().unwrap();
            model.assert_nothing_left();
        });
    }
}
