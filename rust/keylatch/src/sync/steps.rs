//! How far a thread has walked, for tests that say how long a walk may be: a figure that no load on the machine changes.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// One step of a walk through everything there is.
pub(crate) fn step() {
    STEPS.set(STEPS.get() + 1);
}

/// Returns the steps that something takes on this thread.
pub(crate) fn steps_of(walk: impl FnOnce()) -> u64 {
    let before = STEPS.get();
    walk();
    STEPS.get() - before
}
