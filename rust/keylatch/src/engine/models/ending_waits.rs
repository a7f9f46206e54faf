//! Waits that end without the lock, or with it in that very instant.

use super::*;
use crate::wait::Phase;

/// A deadline that passes whenever the model checker wants it to.
fn some_time() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(3600))
}

/// Takes a grant, if there is one, as the caller that asked for it does.
fn use_up(model: &Model, ended: Ended, mode: Mode) -> bool {
    match ended {
        Ended::Granted(Some(grant)) => {
            model.work(0, mode);
            model.release(grant);
            true
        }
        Ended::Granted(None) => panic!("no upgrade"),
        Ended::Failed { .. } => false,
    }
}

const POLICIES: [Fairness; 3] = [Fairness::Fifo, NEVER, SOON];

/// Would catch: a grant during a give-up that is leaked, or taken twice.
#[test]
fn a_time_out_against_the_grant() {
    for fairness in POLICIES {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let ticket = model.queue(0, EXCLUSIVE);
            let waiting = model.spawn(move |model| {
                let ended = model.wait_until(ticket, 0, some_time());
                use_up(model, ended, EXCLUSIVE)
            });
            model.work(0, EXCLUSIVE);
            model.release(held);
            waiting.join().unwrap();
            let free = model.try_lock(0, EXCLUSIVE).expect("it is free");
            model.release(free);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a first waiter that leaves without serving those behind it.
#[test]
fn the_head_gives_up_in_front_of_another() {
    for fairness in POLICIES {
        for second_mode in [EXCLUSIVE, SHARED] {
            check(move || {
                let model = Model::new(fairness);
                let held = model.lock(0, EXCLUSIVE);
                let (first, second) = (model.queue(0, EXCLUSIVE), model.queue(0, second_mode));
                let first = model.spawn(move |model| {
                    let ended = model.wait_until(first, 0, some_time());
                    use_up(model, ended, EXCLUSIVE)
                });
                let second = model.spawn(move |model| model.wait_and_work(second, 0, second_mode));
                model.release(held);
                first.join().unwrap();
                second.join().unwrap();
                model.assert_nothing_left();
            });
        }
    }
}

/// The reader may have the lock when the writer in front of it gives up.
#[test]
fn a_writer_gives_up_in_front_of_a_reader() {
    check(|| {
        let model = Model::new(Fairness::Fifo);
        let held = model.lock(0, SHARED);
        let (first, second) = (model.queue(0, EXCLUSIVE), model.queue(0, SHARED));
        let first = model.spawn(move |model| {
            let ended = model.wait_until(first, 0, some_time());
            use_up(model, ended, EXCLUSIVE)
        });
        let second = model.spawn(move |model| model.wait_and_work(second, 0, SHARED));
        // Without a release: the reader has to have the lock beside the one who holds it.
        assert!(!first.join().unwrap(), "it is held shared until here");
        second.join().unwrap();
        model.release(held);
        model.assert_nothing_left();
    });
}

/// Would catch: a cancel and a grant together, or a sleeper that none wakes.
#[test]
fn a_cancel_against_the_grant() {
    for fairness in POLICIES {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(0, EXCLUSIVE);
            let ticket = model.queue(0, EXCLUSIVE);
            let waiting = model.spawn(move |model| {
                let ended = model.wait(ticket, 0);
                use_up(model, ended, EXCLUSIVE)
            });
            let canceller = model.spawn(move |model| model.core().end_by_ticket(ticket, Phase::Cancelled, |_| true));
            model.release(held);
            let granted = waiting.join().unwrap();
            let cancelled = canceller.join().unwrap();
            assert_ne!(granted, cancelled);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a ticket that cancels a later request of the same waiter.
///
/// That request is in another shard, so no mutex is in the way.
#[test]
fn old_ticket_cancels_no_other_request() {
    check(|| {
        let model = Model::with_shards(Fairness::Fifo, 2);
        let shard_of = |key| model.core().table.shard_of(model.wanted(key, EXCLUSIVE).hash);
        let here = 0;
        let there =
            (1..KEYS.len()).find(|key| shard_of(*key) != shard_of(here)).expect("all keys in one of two shards");
        let (held_here, held_there) = (model.lock(here, EXCLUSIVE), model.lock(there, EXCLUSIVE));
        let ticket = model.queue(here, EXCLUSIVE);
        let canceller = model.spawn(move |model| model.core().end_by_ticket(ticket, Phase::Cancelled, |_| true));
        model.release(held_here);
        let granted = use_up(&model, model.wait(ticket, here), EXCLUSIVE);
        let other = model.queue(there, EXCLUSIVE);
        assert_eq!(other.index(), ticket.index(), "the model is about a waiter that is used again");
        let cancelled = canceller.join().unwrap();
        model.release(held_there);
        model.wait_and_work(other, there, EXCLUSIVE);
        assert_ne!(granted, cancelled);
        model.assert_nothing_left();
    });
}
