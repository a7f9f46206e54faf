//! From one holder to the next: no waiter is forgotten, whatever the policy.

use super::*;

const POLICIES: [Fairness; 4] = [Fairness::Fifo, HANDED, NEVER, SOON];

/// Would catch: a lost wake-up.
///
/// The release does not see the waiter, and the waiter does not see the release.
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

/// Would catch: a notified waiter that loses to a newcomer and is not woken again.
///
/// Or one behind it that is forgotten meanwhile.
#[test]
fn newcomer_overtakes_a_notified_waiter() {
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

/// Would catch: a second waiter that is forgotten while the first is notified.
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

/// Would catch: readers that do not share, or a second round that is left out.
///
/// There are three readers, and a round has two. Each keeps the lock until it has seen the others.
#[test]
fn readers_are_admitted_together() {
    use loom::sync::atomic::{AtomicU32, Ordering};
    for fairness in [Fairness::Fifo, HANDED] {
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

/// Would catch: a reader that passes a writer, or a writer beside a reader.
///
/// The policy forbids readers to overtake a waiting writer.
#[test]
fn reader_arrives_while_a_writer_waits() {
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
