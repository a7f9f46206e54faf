//! Look-ups without a lock against entries that change their key or leave the table under them.
//!
//! What a look-up read of a key proves nothing before its swap: the swap validates it by the generation.

use super::*;
use crate::hold::FirstState;

/// Takes a key on the fast path alone, with whatever its look-up sees.
fn stale(model: &Model, key: usize, mode: Mode) {
    if let Some(grant) = model.lock_fast(key, mode) {
        model.work(key, mode);
        model.release(grant);
    }
}

/// Would catch: a hold of the wrong key.
///
/// The entry has got another key since it was compared.
#[test]
fn no_key_is_held_twice() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let stale = model.spawn(|model| stale(model, 0, EXCLUSIVE));
        model.lock_and_work(1, EXCLUSIVE);
        // Back again, in the same entry or in another one.
        model.lock_and_work(0, EXCLUSIVE);
        stale.join().unwrap();
        assert_eq!(model.worked(1), 1);
        model.assert_nothing_left();
    });
}

/// Would catch a prepared key that takes another key's lock.
#[test]
fn prepared_key_holds_no_other() {
    for (mode, at_hand) in [(EXCLUSIVE, true), (SHARED, true), (EXCLUSIVE, false)] {
        let granted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&granted);
        check(move || {
            let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
            let granted = Arc::clone(&counted);
            let takes = model.spawn(move |model| {
                if at_hand {
                    let (records, local) = (&model.core().records, model.core().local());
                    records.put(&local.records, records.take(&local.records));
                }
                let packed = model.core().prepare(&KeyRef::new("b", KEYS[0])).expect("a short key");
                let state = FirstState::new(mode, 0, false).with_owner(0);
                let taken = match mode {
                    Mode::Exclusive => model.core().try_prepared::<true>(&packed, state),
                    Mode::Shared => model.core().try_prepared::<false>(&packed, state),
                };
                if let Some(grant) = taken {
                    granted.fetch_add(1, Ordering::Relaxed);
                    model.work(0, mode);
                    model.release(grant);
                }
            });
            model.lock_and_work(1, EXCLUSIVE);
            model.lock_and_work(0, EXCLUSIVE);
            takes.join().unwrap();
            assert_eq!(model.worked(1), 1);
            model.assert_nothing_left();
        });
        assert!(granted.load(Ordering::Relaxed) > 0, "no execution takes the lock");
    }
}

/// A thread looks up key 0, whose entry becomes key 1's; another tries key 1.
fn an_honest_try(stale_mode: Mode, first_mode: Mode, try_mode: Mode) {
    check(move || {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let stale = model.spawn(move |model| stale(model, 0, stale_mode));
        model.lock_and_work(1, first_mode);
        match model.try_lock(1, try_mode) {
            Ok(grant) => {
                model.work(1, try_mode);
                model.release(grant);
            }
            Err(error) => panic!("the key is free, and: {error}"),
        }
        stale.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a try that fails because of a look-up of the old key.
#[test]
fn try_is_not_refused_after_a_writer() {
    an_honest_try(EXCLUSIVE, EXCLUSIVE, EXCLUSIVE);
    an_honest_try(EXCLUSIVE, EXCLUSIVE, SHARED);
    an_honest_try(SHARED, EXCLUSIVE, EXCLUSIVE);
}

/// The same where the last holder was a reader.
#[test]
fn an_honest_try_is_not_refused_after_a_reader() {
    an_honest_try(SHARED, SHARED, EXCLUSIVE);
    an_honest_try(EXCLUSIVE, SHARED, EXCLUSIVE);
    an_honest_try(EXCLUSIVE, SHARED, SHARED);
}

/// Would catch: a look-up that mistakes a later word for its own.
///
/// The entry gets the key back and loses it again meanwhile.
#[test]
fn there_and_back_again() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let stale = model.spawn(|model| stale(model, 1, SHARED));
        model.lock_and_work(1, EXCLUSIVE);
        model.lock_and_work(0, EXCLUSIVE);
        stale.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: an entry that is reused while a look-up still has it.
#[test]
fn an_entry_leaves_the_table_under_a_look_up() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let stale = model.spawn(|model| stale(model, 0, EXCLUSIVE));
        model.core().table.evict_idle(&model.core().local().entries);
        model.lock_and_work(1, EXCLUSIVE);
        stale.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a take from an old word, or a try that is refused for it.
#[test]
fn try_is_not_refused_because_of_several() {
    for wrong in [[SHARED, SHARED], [EXCLUSIVE, SHARED]] {
        check(move || {
            let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
            let stale = model.core().table.look_up(model.wanted(0, SHARED).hash).expect("warm");
            let (index, seen) = (stale.0, stale.2);
            model.lock_and_work(1, EXCLUSIVE);
            let take = move |model: &Model, mode: Mode| {
                let stale = (index, model.core().table.entry(index), seen);
                let taken = model.core().take_as_seen(model.core().local(), &model.wanted(0, mode), stale);
                assert!(taken.is_err(), "the entry is another key's");
            };
            let tries = model.spawn(|model| {
                let grant = model.try_lock(1, EXCLUSIVE).expect("the key is free");
                model.release(grant);
            });
            let other = model.spawn(move |model| take(model, wrong[1]));
            take(&model, wrong[0]);
            tries.join().unwrap();
            other.join().unwrap();
            model.assert_nothing_left();
        });
    }
}
