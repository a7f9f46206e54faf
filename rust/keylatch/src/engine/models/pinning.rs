//! Keys that are pinned while other keys want their places, while they are revoked, and while the manager closes.

use super::*;
use crate::hold::{FirstState, Lost};
use crate::table::Pin;

fn pin(model: &Model, key: usize) -> Arc<Pin> {
    Arc::new(model.core().pin(&KeyRef::new("b", KEYS[key])).expect("there is room"))
}

/// The lock of key 0 by its pin, on the fast path alone.
fn try_pinned(model: &Model, pin: &Pin, mode: Mode) -> Option<Grant> {
    let state = FirstState::new(mode, 0, false).with_owner(0);
    match mode {
        Mode::Exclusive => model.core().try_pinned::<true>(pin, state),
        Mode::Shared => model.core().try_pinned::<false>(pin, state),
    }
}

fn lock_pinned(model: &Model, pin: &Pin, mode: Mode) {
    let grant = try_pinned(model, pin, mode).unwrap_or_else(|| model.lock(0, mode));
    model.work(0, mode);
    model.release(grant);
}

/// Would catch an entry that gets another key while it is pinned.
#[test]
fn pinned_entry_keeps_its_key() {
    for mode in [EXCLUSIVE, SHARED] {
        check(move || {
            let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
            let pin = pin(&model, 0);
            let others = model.spawn(|model| {
                model.lock_and_work(1, EXCLUSIVE);
                model.core().table.evict_idle(&model.core().local().entries);
                model.lock_and_work(0, EXCLUSIVE);
            });
            lock_pinned(&model, &pin, mode);
            others.join().unwrap();
            model.core().unpin(&pin);
            model.assert_nothing_left();
        });
    }
}

/// Would catch a pin of an entry that leaves in that moment.
#[test]
fn key_is_pinned_while_its_entry_is_wanted() {
    check(|| {
        let model = Model::with_warm_key(NEVER, 0, EXCLUSIVE);
        let others = model.spawn(|model| {
            model.lock_and_work(1, EXCLUSIVE);
            model.lock_and_work(0, EXCLUSIVE);
        });
        let pin = pin(&model, 0);
        lock_pinned(&model, &pin, EXCLUSIVE);
        model.core().unpin(&pin);
        others.join().unwrap();
        model.assert_nothing_left();
    });
}

/// Would catch an entry that stays for ever, or leaves while it is held.
///
/// Its last pin and its last hold end together.
#[test]
fn last_pin_ends_while_a_hold_ends() {
    for other_key in [false, true] {
        check(move || {
            let model = Model::new(NEVER);
            let pin = pin(&model, 0);
            // The warm slot may be another key's by then.
            if other_key {
                model.lock_and_work(1, EXCLUSIVE);
            }
            let grant = try_pinned(&model, &pin, EXCLUSIVE).expect("free");
            let holder = model.spawn(move |model| {
                model.work(0, EXCLUSIVE);
                model.release(grant);
            });
            model.core().unpin(&pin);
            model.lock_and_work(0, EXCLUSIVE);
            holder.join().unwrap();
            model.assert_nothing_left();
        });
    }
}

/// Would catch a pin that is let in beside the holder after a revoked one.
#[test]
fn hold_is_revoked_while_a_pin_takes_the_lock() {
    check(|| {
        let model = Model::new(NEVER);
        let pin = pin(&model, 0);
        let grant = try_pinned(&model, &pin, EXCLUSIVE).expect("free");
        let takes = model.spawn({
            let pin = Arc::clone(&pin);
            move |model| lock_pinned(model, &pin, EXCLUSIVE)
        });
        let core = model.core();
        assert_eq!(core.revoke(core.local(), &[grant], Lost::Forced), [grant]);
        model.lock_and_work(0, EXCLUSIVE);
        takes.join().unwrap();
        model.release(grant);
        core.unpin(&pin);
        model.assert_nothing_left();
    });
}

/// Would catch: a lock that a pin gives after the close.
#[test]
fn manager_closes_while_a_pin_takes_the_lock() {
    check(|| {
        let model = Model::new(NEVER);
        let pin = pin(&model, 0);
        let closes = model.spawn(|model| model.core().close());
        if let Some(grant) = try_pinned(&model, &pin, EXCLUSIVE) {
            model.work(0, EXCLUSIVE);
            model.release(grant);
        }
        closes.join().unwrap();
        assert!(try_pinned(&model, &pin, EXCLUSIVE).is_none());
        assert!(matches!(model.core().pin(&KeyRef::new("b", KEYS[1])), Err(LockError::Closed)));
        model.core().unpin(&pin);
    });
}
