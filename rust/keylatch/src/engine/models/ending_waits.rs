//! Waits that end without the lock, or with it in that very instant.

use super::*;
use crate::wait::Phase;

/// A deadline that passes whenever the model checker wants it to.
fn some_time() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(3600))
}

/// Takes a grant, if there is one, as whoever asked for it does.
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

/// Would catch: a grant that arrives as the waiter gives up and is held by nobody from then on, or is taken twice.
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
            let free = model.try_lock(0, EXCLUSIVE).expect("nobody holds it");
            model.release(free);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: a waiter at the head that leaves without a look at who it kept from going on.
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

/// A reader could go on at once when the writer in front of it, which waits for other readers, gives up.
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

/// Would catch: a cancel and a grant that both happen, or a sleeper that neither wakes.
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

/// Would catch: a ticket that cancels another request, which its waiter has come to stand for meanwhile in another
/// shard, so that no mutex is in the way.
#[test]
fn an_old_ticket_cancels_nobody_else() {
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
