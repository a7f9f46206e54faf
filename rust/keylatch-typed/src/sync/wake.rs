//! Waking tasks, whose wakers are foreign code.

use super::caught;
use std::task::Waker;

/// Wakes each task.
///
/// Caller holds: no mutex. A waker that panics keeps no other task from being woken, and neither does a subscriber that
/// panics when the panic is reported.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        if let Err(message) = caught(|| waker.wake()) {
            let _ = caught(|| {
                tracing::error!("a waker panicked, so its task may not notice what it waits for: {message}");
            });
        }
    }
}
