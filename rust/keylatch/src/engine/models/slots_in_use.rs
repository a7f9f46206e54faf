//! Readers in slots: who has which slots, leases, the ways in, and two that collect.

use super::slots::{bias, biased, enter, read_fast, take_line, try_to_write, word, write_fast};
use super::*;
use crate::hold::FirstState;
use crate::sync::number_pool::NumberPool;
use crate::table::Pin;

fn with_slots(shards: u32) -> Model {
    Model::with(LockConfig { shards, fairness: NEVER, reader_slots: true, ..LockConfig::default() })
}

/// Would catch a later thread of a line that fills a full slot.
///
/// The thread that filled it has ended, and the guard is elsewhere.
#[test]
fn line_goes_to_a_later_thread() {
    check(|| {
        let model = biased(NEVER, 0);
        // There are two, by the number of the thread.
        take_line(&model);
        let numbers = Arc::new(NumberPool::<1>::new());
        let begin = |model: &Model, numbers: &NumberPool<1>| {
            let number = numbers.take().unwrap();
            model.core().local().line.store(number, Ordering::Relaxed);
            number
        };
        let of_former = Arc::clone(&numbers);
        let former = model.spawn(move |model| {
            let number = begin(model, &of_former);
            let grant = model.lock_fast(0, SHARED).expect("no writer");
            of_former.give_back(number);
            grant
        });
        begin(&model, &numbers);
        read_fast(&model, 0);
        let left_behind = former.join().unwrap();
        assert!(model.try_lock(0, EXCLUSIVE).is_err(), "it is held");
        model.release(left_behind);
        model.lock_and_work(0, EXCLUSIVE);
        model.assert_nothing_left();
    });
}

/// Would catch a renewal that ends the bias, or misses a reader that leaves.
#[test]
fn lease_is_renewed_while_a_reader_leaves() {
    check(|| {
        let model = biased(NEVER, 0);
        let leased = enter(&model, 0);
        let other = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        model.core().renew(leased, Duration::from_secs(3600)).expect("it is held");
        assert!(word(&model, 0).is_biased());
        model.work(0, SHARED);
        other.join().unwrap();
        assert!(model.try_lock(0, EXCLUSIVE).is_err(), "it is held");
        model.release(leased);
        model.lock_and_work(0, EXCLUSIVE);
        model.assert_nothing_left();
    });
}

/// Would catch a hold in a slot that both expires and is released, or neither.
#[test]
fn lease_expires_while_its_reader_leaves() {
    check(|| {
        let model = biased(NEVER, 0);
        let leased = enter(&model, 0);
        model.core().renew(leased, Duration::from_nanos(1)).expect("it is held");
        let holder = model.spawn(move |model| model.core().release_guard(leased));
        try_to_write(&model, 0);
        holder.join().unwrap();
        model.lock_and_work(0, EXCLUSIVE);
        model.assert_nothing_left();
    });
}

/// Would catch a hold in a slot that is both renewed and lost, or neither.
#[test]
fn lease_of_a_slot_is_renewed_or_lost() {
    check(|| {
        let model = biased(NEVER, 0);
        let leased = enter(&model, 0);
        model.core().renew(leased, Duration::from_nanos(1)).expect("it is held");
        let holder = model.spawn(move |model| {
            let is_renewed = model.core().renew(leased, Duration::from_secs(3600)).is_ok();
            if is_renewed {
                model.work(0, SHARED);
            }
            is_renewed
        });
        let written = model.try_lock(0, EXCLUSIVE).ok();
        if written.is_some() {
            model.work(0, EXCLUSIVE);
        }
        assert_ne!(holder.join().unwrap(), written.is_some());
        model.release(leased);
        written.into_iter().for_each(|grant| model.release(grant));
        model.assert_nothing_left();
    });
}

/// Would catch an idle entry in no warm slot, which a biased one keeps.
#[test]
fn idle_key_meets_a_biased_one() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = enter(&model, 0);
        let idle = model.spawn(|model| model.lock_and_work(1, EXCLUSIVE));
        let quick = model.spawn(|model| write_fast(model, 1));
        model.work(0, SHARED);
        model.release(grant);
        idle.join().unwrap();
        quick.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Ends the bias of a key, and does nothing else.
fn collect(model: &Model, key: usize) {
    let wanted = model.wanted(key, SHARED);
    let mut shard = model.core().lock_shard(wanted.hash);
    if let Some((index, entry)) = shard.find(wanted.hash, &wanted.key) {
        shard.unbias(index, entry);
    }
}

/// Would catch a collector that takes what another looks for.
///
/// The one slot goes from one of two keys to the other.
#[test]
fn two_collectors_share_a_line() {
    let shard_of = |model: &Model, key| model.core().table.shard_of(model.wanted(key, SHARED).hash);
    check(move || {
        let model = with_slots(2);
        let other = (1..KEYS.len()).find(|key| shard_of(&model, *key) != shard_of(&model, 0)).expect("of two shards");
        for key in [0, other] {
            model.lock_and_work(key, EXCLUSIVE);
            bias(&model, key);
        }
        take_line(&model);
        let grant = enter(&model, 0);
        // Without a writer behind them: that is in other models.
        let collects = [0, other].map(|key| model.spawn(move |model| collect(model, key)));
        model.release(grant);
        read_fast(&model, other);
        collects.into_iter().for_each(|thread| thread.join().unwrap());
        [0, other].into_iter().for_each(|key| model.lock_and_work(key, EXCLUSIVE));
        model.assert_nothing_left();
    });
}

/// Would catch a collector that counts the next hold of a slot.
///
/// That is of another key. The hold before it was counted when an earlier bias ended, and leaves through the word.
#[test]
fn counted_reader_leaves_while_collected_again() {
    for is_foreign in [false, true] {
        check(move || {
            let model = biased(NEVER, 0);
            let pin: Pin = model.core().pin(&KeyRef::new("b", KEYS[1])).expect("there is room");
            bias(&model, 1);
            let counted = enter(&model, 0);
            collect(&model, 0);
            bias(&model, 0);
            let again = model.spawn(|model| collect(model, 0));
            let foreign = is_foreign.then(|| model.spawn(move |model| model.release(counted)));
            if foreign.is_none() {
                model.release(counted);
            }
            let next = model.lock_fast(1, SHARED).expect("no writer");
            again.join().unwrap();
            foreign.into_iter().for_each(|foreign| foreign.join().unwrap());
            assert_eq!(word(&model, 0).readers(), 0, "a reader of another key is counted");
            model.release(next);
            model.core().unpin(&pin);
            model.assert_nothing_left();
        });
    }
}

/// Would catch a collector that counts a hold which has left.
///
/// The next hold of the slot is of the same key, and comes as its readers are collected.
#[test]
fn slot_is_filled_again_while_collected() {
    check(|| {
        let model = biased(NEVER, 0);
        let collects = model.spawn(|model| collect(model, 0));
        read_fast(&model, 0);
        read_fast(&model, 0);
        collects.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a reader that leaves by its slot after the word counts it.
///
/// The lock is biased anew, so that the word looks as it did when the reader entered.
#[test]
fn bias_begins_again_while_a_reader_leaves() {
    check(|| {
        let model = biased(NEVER, 0);
        let grant = enter(&model, 0);
        let again = model.spawn(|model| {
            collect(model, 0);
            bias(model, 0);
            try_to_write(model, 0);
        });
        model.work(0, SHARED);
        model.release(grant);
        again.join().unwrap();
        model.lock_and_work(0, EXCLUSIVE);
        model.assert_nothing_left();
    });
}

/// Would catch a crowd that has an entry biased which it does not share any more.
#[test]
fn crowd_biases_its_key_while_a_writer_comes() {
    check(|| {
        let model = with_slots(1);
        model.lock_and_work(0, EXCLUSIVE);
        take_line(&model);
        let crowd = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        let writer = model.spawn(|model| write_fast(model, 0));
        read_fast(&model, 0);
        crowd.join().unwrap();
        writer.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch an idle entry that stays for ever, and a reader in one that is gone.
#[test]
fn last_pin_ends_while_a_reader_enters() {
    check(|| {
        let model = with_slots(1);
        let pin: Pin = model.core().pin(&KeyRef::new("b", KEYS[0])).expect("there is room");
        // The warm slot is another key's.
        model.lock_and_work(1, EXCLUSIVE);
        bias(&model, 0);
        let reader = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        model.core().unpin(&pin);
        write_fast(&model, 0);
        reader.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a reader that enters during the close and is lost.
#[test]
fn reader_enters_while_the_manager_closes() {
    check(|| {
        let model = biased(NEVER, 0);
        let reader = model.spawn(|model| {
            take_line(model);
            read_fast(model, 0);
        });
        let grant = enter(&model, 0);
        model.core().close();
        model.release(grant);
        reader.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch a reader that is let in beside a writer.
///
/// By a pin, by a prepared key, and by key.
#[test]
fn reader_enters_each_way_as_a_writer_comes() {
    type Way = fn(&Model, &Pin) -> Option<Grant>;
    let ways: [Way; 3] = [
        |model, pin| model.core().try_pinned::<false>(pin, FirstState::new(SHARED, 0, false).with_owner(0)),
        |model, _| {
            let packed = model.core().prepare(&KeyRef::new("b", KEYS[0])).expect("a short key");
            model.core().try_prepared::<false>(&packed, FirstState::new(SHARED, 0, false).with_owner(0))
        },
        |model, _| {
            model.core().try_fast_detached(request(0, SHARED)).inspect(|grant| model.core().adopt(*grant).unwrap())
        },
    ];
    for way in ways {
        check(move || {
            let model = with_slots(1);
            let pin = Arc::new(model.core().pin(&KeyRef::new("b", KEYS[0])).expect("there is room"));
            bias(&model, 0);
            let by = Arc::clone(&pin);
            let reader = model.spawn(move |model| {
                take_line(model);
                if let Some(grant) = way(model, &by) {
                    model.work(0, SHARED);
                    model.release(grant);
                }
            });
            try_to_write(&model, 0);
            write_fast(&model, 0);
            reader.join().unwrap();
            model.core().unpin(&pin);
            model.assert_nothing_left();
        });
    }
}
