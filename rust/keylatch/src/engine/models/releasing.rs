//! What a release leaves behind: an idle entry in its shard's warm slot or none, and a grant that is good for nothing.

use super::*;

/// Would catch: an idle entry without a warm slot that stays in the table.
///
/// The release misses EVICT, or the table clears it without a look.
#[test]
fn a_cold_entry_is_released_and_taken() {
    check(|| {
        let model = Model::new(NEVER);
        let (warm, cold) = (model.lock(0, EXCLUSIVE), model.lock(1, EXCLUSIVE));
        let taker = model.spawn(|model| {
            if let Some(grant) = model.lock_fast(1, EXCLUSIVE) {
                model.work(1, EXCLUSIVE);
                model.release(grant);
            }
        });
        model.work(1, EXCLUSIVE);
        model.release(cold);
        model.release(warm);
        taker.join().unwrap();
        model.assert_nothing_left();
    });
}

/// The same, while the warm entry is released.
#[test]
fn two_entries_become_idle_together() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::new(NEVER);
            let (warm, cold) = (model.lock(0, mode), model.lock(1, mode));
            let other = model.spawn(move |model| {
                model.release(warm);
                stale_take(model, 0);
            });
            model.release(cold);
            stale_take(&model, 1);
            other.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

fn stale_take(model: &Model, key: usize) {
    if let Some(grant) = model.lock_fast(key, EXCLUSIVE) {
        model.work(key, EXCLUSIVE);
        model.release(grant);
    }
}

/// Would catch: two readers that release together, neither as the last.
#[test]
fn two_readers_leave_a_cold_entry() {
    check(|| {
        let model = Model::new(NEVER);
        let warm = model.lock(0, EXCLUSIVE);
        let (one, two) = (model.lock(1, SHARED), model.lock(1, SHARED));
        let other = model.spawn(move |model| model.release(one));
        model.release(two);
        other.join().unwrap();
        model.release(warm);
        model.assert_nothing_left();
    });
}

/// Would catch: a grant that two releases accept.
#[test]
fn a_grant_is_released_once() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let grant = model.lock(0, EXCLUSIVE);
        model.work(0, EXCLUSIVE);
        model.core().detach(grant);
        let release = move |model: &Model| {
            let caught = model.core().adopt(grant).is_ok();
            if caught {
                model.release(grant);
                // The lock, and probably the record, is taken again while the other still has the old grant.
                let again = model.lock(0, EXCLUSIVE);
                model.work(0, EXCLUSIVE);
                model.core().detach(again);
                model.core().adopt(again).expect("no other caller knows it");
                model.release(again);
            }
            u32::from(caught)
        };
        let other = model.spawn(release);
        let released = release(&model) + other.join().unwrap();
        assert_eq!(released, 1);
        model.assert_nothing_left();
    });
}
