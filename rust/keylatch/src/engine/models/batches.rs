//! Batches: all locks or none, whatever other threads do.

use super::*;
use crate::request::BatchLockRequest;

fn batch(keys: &[usize]) -> BatchLockRequest<'static> {
    let batch = BatchLockRequest::new("o");
    keys.iter().fold(batch, |batch, key| batch.add_write_lock("b", KEYS[*key]))
}

fn work_and_release(model: &Model, grants: Vec<Grant>) {
    for (key, grant) in grants.into_iter().enumerate() {
        model.work(key, EXCLUSIVE);
        model.release(grant);
    }
}

/// Would catch: a lock of a failed batch that stays held or forgets its waiters.
#[test]
fn failed_batch_against_a_new_waiter() {
    for fairness in [Fairness::Fifo, NEVER] {
        check(move || {
            let model = Model::new(fairness);
            let held = model.lock(1, EXCLUSIVE);
            let waits = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
            let got = model.core().batch_fast(model.core().local(), &batch(&[0, 1]));
            assert_eq!(got, None, "the second one is held");
            // The first one is not released any more.
            waits.join().unwrap();
            model.release(held);
            model.assert_nothing_left();
        });
    }
}

/// Would catch: two batches that both keep a part, or that both have all.
#[test]
fn two_batches_in_opposite_orders() {
    check(|| {
        let model = Model::new(NEVER);
        let take = |model: &Model, keys: &[usize]| {
            let got = model.core().batch_fast(model.core().local(), &batch(keys));
            let full = got.as_ref().is_some_and(|grants| grants.len() == keys.len());
            assert!(full || got.is_none());
            if let Some(mut grants) = got {
                if keys[0] != 0 {
                    grants.reverse();
                }
                work_and_release(model, grants);
            }
            full
        };
        let other = model.spawn(move |model| take(model, &[1, 0]));
        let mine = take(&model, &[0, 1]);
        let theirs = other.join().unwrap();
        assert_eq!(model.worked(0), u32::from(mine) + u32::from(theirs));
        model.assert_nothing_left();
    });
}
