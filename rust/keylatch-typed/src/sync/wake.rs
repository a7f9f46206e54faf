//! Waking tasks, whose wakers are foreign code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakes each task.
///
/// Caller holds: no mutex. A waker that panics keeps no other task from being woken.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
            tracing::error!("a waker panicked; the task that it belongs to may not notice what it waits for");
        }
    }
}
