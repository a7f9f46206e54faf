//! The fast path on a key that is in the table and idle: one compare-and-swap in, one out.

use super::*;

/// Tries the fast path once.
fn turn(model: &Model, mode: Mode) {
    if let Some(grant) = model.lock_fast(0, mode) {
        model.work(0, mode);
        model.release(grant);
    }
}

/// Would catch: a take without a compare-and-swap, or a relaxed release.
///
/// Release on the way out, Acquire on the way in.
#[test]
fn two_writers() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let other = model.spawn(|model| {
            turn(model, EXCLUSIVE);
            turn(model, EXCLUSIVE);
        });
        turn(&model, EXCLUSIVE);
        turn(&model, EXCLUSIVE);
        other.join().unwrap();
        assert!(model.worked(0) > 2, "with two threads one of them gets the lock");
        model.assert_nothing_left();
    });
}

/// Would catch: a reader beside a writer, or a reader's release that is not seen.
#[test]
fn a_writer_and_two_readers() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, SHARED);
        let reader = model.spawn(|model| turn(model, SHARED));
        let another = model.spawn(|model| turn(model, SHARED));
        turn(&model, EXCLUSIVE);
        reader.join().unwrap();
        another.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch: a key that two threads insert as two locks.
#[test]
fn two_threads_bring_in_the_same_key() {
    check(|| {
        let model = Model::new(NEVER);
        let other = model.spawn(|model| model.lock_and_work(0, EXCLUSIVE));
        model.lock_and_work(0, EXCLUSIVE);
        other.join().unwrap();
        assert_eq!(model.worked(0), 2);
        model.assert_nothing_left();
    });
}
